"""Scores of all runs, and what follows from them: comparisons, curves, joins."""
