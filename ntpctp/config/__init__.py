"""The experiment file: its types, and a reader that reports all errors together."""

from ntpctp.config.grid import GridCell, cells, set_field
from ntpctp.config.load import experiment_of, load_experiment, load_output
from ntpctp.config.overrides import apply_override, block_of
from ntpctp.config.schema import (
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
    "Comparison",
    "DataOptions",
    "Evaluation",
    "Experiment",
    "GridCell",
    "Keep",
    "LossPathOptions",
    "apply_override",
    "block_of",
    "cells",
    "experiment_of",
    "load_experiment",
    "load_output",
    "set_field",
]
