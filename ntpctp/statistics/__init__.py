"""Statistics of compared arms: functions of arrays whose results carry their uncertainty.

Scores are arrays of shape (S,), one per seed, or (S, N), one per seed and item. ``a`` and ``b`` are
two arms; every difference is A minus B. A number that cannot be computed is ``None``, and the
result says why in ``reason``.
"""

from ntpctp.statistics.calibration import Calibration, coverage, false_positive_rate
from ntpctp.statistics.curves import (
    TimeComparison,
    TimesToTarget,
    area_between,
    censored_times,
    compare_times_to_target,
    difference_at,
    on_common_grid,
    times_to_target,
)
from ntpctp.statistics.difference import PairedDifference, paired_difference
from ntpctp.statistics.effect import StandardisedEffect, standardised_effect
from ntpctp.statistics.factorial import Effect, factor_effects
from ntpctp.statistics.multiplicity import holm, holm_of_known
from ntpctp.statistics.permutation import PermutationTest, sign_flip_test
from ntpctp.statistics.probability import WinProbability, win_probability
from ntpctp.statistics.proportions import McNemar, Share, mcnemar, share, share_reaching
from ntpctp.statistics.spread import Spread, SpreadComparison, describe_spread, spread
from ntpctp.statistics.tasks_aggregate import (
    Aggregate,
    Profile,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
)
from ntpctp.statistics.verdict import (
    Verdict,
    num_seeds_needed,
    smallest_detectable_difference,
    verdict,
)

# Results, then functions, in the order in which a comparison meets them.
__all__ = [  # noqa: RUF022
    # two arms: level
    "PairedDifference",
    "paired_difference",
    "PermutationTest",
    "sign_flip_test",
    "WinProbability",
    "win_probability",
    "StandardisedEffect",
    "standardised_effect",
    # two arms: spread and counts
    "Spread",
    "SpreadComparison",
    "describe_spread",
    "spread",
    "Share",
    "share",
    "share_reaching",
    "McNemar",
    "mcnemar",
    # two arms: the answer
    "Verdict",
    "verdict",
    "num_seeds_needed",
    "smallest_detectable_difference",
    # many arms, grids, tasks
    "holm",
    "holm_of_known",
    "Effect",
    "factor_effects",
    "Aggregate",
    "Profile",
    "interquartile_mean",
    "performance_profile",
    "probability_of_improvement",
    # curves
    "area_between",
    "censored_times",
    "difference_at",
    "on_common_grid",
    "TimesToTarget",
    "TimeComparison",
    "times_to_target",
    "compare_times_to_target",
    # measured error rates of the intervals above
    "Calibration",
    "false_positive_rate",
    "coverage",
]
