"""One stage of training: options, data order, optimizer, loop and log.

This package exports the options alone, which load no torch; import the rest from its module
(``ntpctp.training.loop`` has ``train``).
"""

from ntpctp.training.budget import Budget
from ntpctp.training.options import Tracker, TrainingOptions
from ntpctp.training.stop import Stop

__all__ = ["Budget", "Stop", "Tracker", "TrainingOptions"]
