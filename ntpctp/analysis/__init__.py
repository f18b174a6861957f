"""Scores of all runs, and the comparisons, curves and joins computed from them."""
