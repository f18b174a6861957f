"""The score that an experiment is about: the one that the verdict at the top speaks of."""

from collections.abc import Sequence

from ntpctp.analysis.comparison import ScoreComparison
from ntpctp.config import Experiment

PRIMARY = ("choice", "exact_match")
"""The scores that an experiment may be about: the first that ``Accuracy`` gives for its task."""


def primary_score(
    experiment: Experiment, comparisons: Sequence[ScoreComparison]
) -> ScoreComparison | None:
    """Return the score that the verdict at the top is about, or None if nothing is measured.

    It follows from the task alone, never from the results: of the main held-out split the score of
    the task's own mode, which ``Accuracy`` gives first.
    """
    main = experiment.task.evaluation_splits[0]
    for comparison in comparisons:
        if (comparison.split, comparison.stratum) == (main, None) and comparison.score in PRIMARY:
            return comparison
    judged = [c for c in comparisons if c.higher_is_better is not None]
    return next(iter([*judged, *comparisons]), None)
