"""Statistics of compared arms: functions of arrays whose results carry their uncertainty.

Scores are arrays of shape (S,), one per seed, or (S, N), one per seed and item. ``a`` and ``b`` are
two arms; every difference is A minus B. ``level`` is the nominal coverage of an interval, in
(0, 1); ``rng`` the source of all randomness. A number that cannot be computed is ``None``, and the
result says why in ``reason``. Arrays that are empty, not finite or of another shape than stated
raise ``InputError``.
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
from ntpctp.statistics.permutation import sign_flip_test
from ntpctp.statistics.probability import win_probability
from ntpctp.statistics.proportions import Share, mcnemar, share, share_reaching
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

# Types, then functions.
__all__ = ["Aggregate", "Calibration", "Effect", "PairedDifference", "Profile", "Share", "Spread"]
__all__ += ["SpreadComparison", "StandardisedEffect", "TimeComparison", "TimesToTarget", "Verdict"]
__all__ += ["area_between", "censored_times", "compare_times_to_target", "coverage"]
__all__ += ["describe_spread", "difference_at", "factor_effects", "false_positive_rate", "holm"]
__all__ += ["holm_of_known", "interquartile_mean", "mcnemar", "num_seeds_needed", "on_common_grid"]
__all__ += ["paired_difference", "performance_profile", "probability_of_improvement", "share"]
__all__ += ["share_reaching", "sign_flip_test", "smallest_detectable_difference", "spread"]
__all__ += ["standardised_effect", "times_to_target", "verdict", "win_probability"]
