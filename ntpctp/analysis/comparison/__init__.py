"""Comparison of arms at the end of training, computed from files: ``comparison.json``."""

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
from ntpctp.analysis.comparison.spec import ComparisonSpec, comparison_spec

__all__ = [
    "COMPARISON",
    "SCHEMA_VERSION",
    "ComparisonSpec",
    "FactorEffect",
    "Pair",
    "ScoreComparison",
    "SeedItems",
    "compare",
    "compare_scores",
    "comparison_record",
    "comparison_spec",
    "read_comparison",
    "read_comparisons",
    "write_comparison",
]
