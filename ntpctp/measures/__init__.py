"""Measures: from a checkpoint to result rows and scores. ``MEASURES`` lists them.

Importing this package imports no torch: each measure is a module of options, and a module in
``computation`` that is imported when a measurement starts. ``EvaluationContext`` is in ``context``.
"""

from ntpctp.measures.accuracy import Accuracy
from ntpctp.measures.adversarial import Adversarial
from ntpctp.measures.contrast import Contrast
from ntpctp.measures.flatness import Flatness
from ntpctp.measures.input_edits import InputEdits
from ntpctp.measures.landscape import Landscape
from ntpctp.measures.measure import Measure, Score
from ntpctp.measures.preconditioned import Preconditioned
from ntpctp.measures.robustness import Robustness
from ntpctp.measures.sharpness import Sharpness
from ntpctp.measures.split import EncodedSplit
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

__all__ = ["MEASURES", "Accuracy", "Adversarial", "Contrast", "EncodedSplit", "Flatness"]
__all__ += ["InputEdits", "Landscape", "Measure", "Preconditioned", "Robustness", "Score"]
__all__ += ["Sharpness", "WeightNoise"]
