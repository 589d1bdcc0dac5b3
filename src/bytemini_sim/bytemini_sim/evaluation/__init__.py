"""Evaluation: many episodes, honest statistics, reports for people and a gate for machines."""
