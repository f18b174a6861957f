"""Objectives: which tokens are supervised, the only difference between arms.

``OBJECTIVES`` lists all, and loads no torch; ``collator``, ``loss`` and ``dataset`` do.
"""

from ntpctp.objectives.marked import Critical
from ntpctp.objectives.objective import (
    LossesOf,
    Normalisation,
    Objective,
    Supervision,
    no_reference_losses,
)
from ntpctp.objectives.relabelled import Noisy, Shuffled
from ntpctp.objectives.roles import CTP, NTP, ExampleObjective, Weighted
from ntpctp.objectives.sampled import Partial, Random
from ntpctp.objectives.schedule import Schedule
from ntpctp.objectives.selective import Selective

OBJECTIVES: dict[str, type[Objective]] = {
    "ntp": NTP,
    "ctp": CTP,
    "weighted": Weighted,
    "partial": Partial,
    "random": Random,
    "critical": Critical,
    "shuffled": Shuffled,
    "noisy": Noisy,
    "selective": Selective,
    "schedule": Schedule,
}

__all__ = [
    "CTP",
    "NTP",
    "OBJECTIVES",
    "Critical",
    "ExampleObjective",
    "LossesOf",
    "Noisy",
    "Normalisation",
    "Objective",
    "Partial",
    "Random",
    "Schedule",
    "Selective",
    "Shuffled",
    "Supervision",
    "Weighted",
    "no_reference_losses",
]
