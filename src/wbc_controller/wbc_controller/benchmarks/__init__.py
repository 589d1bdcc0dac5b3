"""Benchmarks and the fuzz of the whole-body controller."""
