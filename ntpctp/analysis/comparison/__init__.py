"""Arms against each other at the end of training, from files alone: ``comparison.json``."""

from ntpctp.analysis.comparison.arms import compare, compare_scores
from ntpctp.analysis.comparison.files import (
    COMPARISON,
    SCHEMA_VERSION,
    comparison_record,
    read_comparison,
    read_comparisons,
    write_comparison,
)
from ntpctp.analysis.comparison.records import FactorEffect, Pair, ScoreComparison, SeedItems
from ntpctp.analysis.comparison.spec import Asked, asked_by

__all__ = [
    "COMPARISON",
    "SCHEMA_VERSION",
    "Asked",
    "FactorEffect",
    "Pair",
    "ScoreComparison",
    "SeedItems",
    "asked_by",
    "compare",
    "compare_scores",
    "comparison_record",
    "read_comparison",
    "read_comparisons",
    "write_comparison",
]
