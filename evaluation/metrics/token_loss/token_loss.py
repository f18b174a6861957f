"""Mean loss of a token, for ``evaluate.load("evaluation/metrics/token_loss")``."""

import datasets
import evaluate

from ntpctp.measures.metrics import loss_per_token

_DESCRIPTION = """\
Loss of all tokens divided by their number (not a mean of means), in nats and in bits.
"""


class TokenLoss(evaluate.Metric):
    """``ntpctp.measures.metrics.loss_per_token`` as a metric of ``evaluate``."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions: nats, summed over the tokens of each item; "
            "references: the item's number of tokens",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("float64"),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions, references):
        loss = loss_per_token(predictions, references)
        return {
            "nats_per_token": loss.nats,
            "bits_per_token": loss.bits,
            "tokens": loss.tokens,
            "count": len(predictions),
        }
