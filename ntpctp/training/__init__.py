"""One stage of training: its options, its order of data, its optimizer, its loop and its log."""

from ntpctp.training.budget import Budget
from ntpctp.training.log import LogLine, digests
from ntpctp.training.loop import train
from ntpctp.training.optimizer import build_optimizer, learning_rates, parameter_groups
from ntpctp.training.options import TrainingOptions
from ntpctp.training.order import batch_indices
from ntpctp.training.stop import Stop

__all__ = [
    "Budget",
    "LogLine",
    "Stop",
    "TrainingOptions",
    "batch_indices",
    "build_optimizer",
    "digests",
    "learning_rates",
    "parameter_groups",
    "train",
]
