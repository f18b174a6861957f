"""The primary score of an experiment: the one that the headline verdict is about."""

from collections.abc import Sequence

from ntpctp.analysis.comparison import ScoreComparison
from ntpctp.config import Experiment

PRIMARY = ("choice", "exact_match")
"""Possible primary scores; ``Accuracy`` gives the one that fits the task first."""


def primary_score(
    experiment: Experiment, comparisons: Sequence[ScoreComparison]
) -> ScoreComparison | None:
    """Return the comparison of the primary score, or None if nothing is measured.

    The primary score depends on the task alone, never on results: the accuracy in the task's own
    mode, which ``Accuracy`` gives first, on the main held-out split.
    """
    main = experiment.task.evaluation_splits[0]
    for comparison in comparisons:
        if (comparison.split, comparison.stratum) == (main, None) and comparison.score in PRIMARY:
            return comparison
    judged = [c for c in comparisons if c.higher_is_better is not None]
    return next(iter([*judged, *comparisons]), None)
