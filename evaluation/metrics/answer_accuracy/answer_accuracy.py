"""Exact match of answers, for ``evaluate.load("evaluation/metrics/answer_accuracy")``."""

import datasets
import evaluate

from ntpctp.measures.metrics import exact_match

_DESCRIPTION = """\
Share of answers equal to the reference, without leading and trailing white space. Rules (case,
full_stop, number, space; see ntpctp.data.normalisation) are applied to both, in a fixed order.
"""


class AnswerAccuracy(evaluate.Metric):
    """Mean of ``ntpctp.measures.metrics.exact_match`` over items."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions, references: texts; rules: names of rules",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions, references, rules=()):
        pairs = zip(predictions, references, strict=True)
        right = [exact_match(prediction, reference, rules) for prediction, reference in pairs]
        return {"answer_accuracy": sum(right) / len(right), "count": len(right)}
