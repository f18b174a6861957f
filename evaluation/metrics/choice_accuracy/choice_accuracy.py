"""Accuracy of the likeliest choice, for ``evaluate.load("evaluation/metrics/choice_accuracy")``."""

import datasets
import evaluate

from ntpctp.measures.metrics import choice_correct, normalised_choice_correct

_DESCRIPTION = """\
Share of items whose right candidate has the highest log-likelihood, summed over its tokens; given
the candidates' texts, also by log-likelihood per character. Ties count as wrong.
"""


class ChoiceAccuracy(evaluate.Metric):
    """Mean of ``ntpctp.measures.metrics.choice_correct`` over items."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions: log-likelihoods of each item's candidates; "
            "references: index of the right one; candidates: their texts, by item",
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions, references, candidates=None):
        items = list(zip(predictions, references, strict=True))
        right = [choice_correct(values, index) for values, index in items]
        result = {"choice_accuracy": sum(right) / len(right), "count": len(right)}
        if candidates is not None:
            by_length = [
                normalised_choice_correct(values, texts, index)
                for (values, index), texts in zip(items, candidates, strict=True)
            ]
            result["choice_accuracy_normalised"] = sum(by_length) / len(by_length)
        return result
