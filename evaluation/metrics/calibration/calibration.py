"""Calibration of confidences, for ``evaluate.load("evaluation/metrics/calibration")``."""

import datasets
import evaluate

from ntpctp.measures.metrics import NUM_BINS, brier_score, expected_calibration_error

_DESCRIPTION = """\
Expected calibration error of the highest confidence (bins of equal width; Guo et al. 2017) and the
multi-class Brier score (Brier 1950, from 0 to 2), mean over items. In a tie the first candidate
counts.
"""


class Calibration(evaluate.Metric):
    """Expected calibration error and Brier score of ``ntpctp.measures.metrics``."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions: probabilities of each item's candidates; "
            "references: index of the right one",
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions, references, num_bins=NUM_BINS):
        items = list(zip(predictions, references, strict=True))
        top = [max(range(len(values)), key=values.__getitem__) for values, _ in items]
        confidences = [values[best] for best, (values, _) in zip(top, items, strict=True)]
        correct = [best == right for best, (_, right) in zip(top, items, strict=True)]
        return {
            "expected_calibration_error": expected_calibration_error(
                confidences, correct, num_bins
            ),
            "brier_score": sum(brier_score(*item) for item in items) / len(items),
            "count": len(items),
        }
