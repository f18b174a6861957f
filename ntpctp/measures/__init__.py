"""Measures: functions of a checkpoint that give rows, then scores. ``MEASURES`` lists them."""

from ntpctp.measures.accuracy import Accuracy
from ntpctp.measures.flatness import Flatness
from ntpctp.measures.measure import EncodedSplit, Measure, Score, Subject
from ntpctp.measures.robustness import Robustness

MEASURES: dict[str, type[Measure]] = {
    "accuracy": Accuracy,
    "robustness": Robustness,
    "flatness": Flatness,
}

__all__ = [
    "MEASURES",
    "Accuracy",
    "EncodedSplit",
    "Flatness",
    "Measure",
    "Robustness",
    "Score",
    "Subject",
]
