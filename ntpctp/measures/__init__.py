"""Measures: functions of a checkpoint that give rows, then scores. ``MEASURES`` lists them."""

from ntpctp.measures.accuracy import Accuracy
from ntpctp.measures.adversarial import Adversarial
from ntpctp.measures.contrast import Contrast
from ntpctp.measures.flatness import Flatness
from ntpctp.measures.input_edits import InputEdits
from ntpctp.measures.landscape import Landscape
from ntpctp.measures.measure import EncodedSplit, EvaluationContext, Measure, Score
from ntpctp.measures.preconditioned import Preconditioned
from ntpctp.measures.robustness import Robustness
from ntpctp.measures.sharpness import Sharpness
from ntpctp.measures.weight_noise import WeightNoise

MEASURES: dict[str, type[Measure]] = {
    "accuracy": Accuracy,
    "robustness": Robustness,
    "weight_noise": WeightNoise,
    "adversarial": Adversarial,
    "edits": InputEdits,
    "contrast": Contrast,
    "flatness": Flatness,
    "sharpness": Sharpness,
    "landscape": Landscape,
    "preconditioned": Preconditioned,
}

__all__ = [
    "MEASURES",
    "Accuracy",
    "Adversarial",
    "Contrast",
    "EncodedSplit",
    "EvaluationContext",
    "Flatness",
    "InputEdits",
    "Landscape",
    "Measure",
    "Preconditioned",
    "Robustness",
    "Score",
    "Sharpness",
    "WeightNoise",
]
