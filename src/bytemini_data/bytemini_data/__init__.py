"""Datasets of the ByteMini robot: format, recorder, collection scheduler, quality checks."""
