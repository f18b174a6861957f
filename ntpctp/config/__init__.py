"""The experiment file: its types, and reading it with all errors reported together."""

from ntpctp.experiment.file import check_effects, experiment_of, load_experiment
from ntpctp.experiment.grid import Cell, cells, set_field
from ntpctp.experiment.overrides import apply_override, block_of
from ntpctp.experiment.types import (
    Arm,
    Comparison,
    DataOptions,
    Evaluation,
    Experiment,
    Keep,
    LossPathOptions,
)

__all__ = [
    "Arm",
    "Cell",
    "Comparison",
    "DataOptions",
    "Evaluation",
    "Experiment",
    "Keep",
    "LossPathOptions",
    "apply_override",
    "block_of",
    "cells",
    "check_effects",
    "experiment_of",
    "load_experiment",
    "set_field",
]
