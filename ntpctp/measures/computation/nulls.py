"""What a measure would have given, had all been finite: each score a null with a reason."""

from dataclasses import fields, replace

import torch
from transformers import PreTrainedModel

from ntpctp.measures.measure import EvaluationContext, Measure, Score
from ntpctp.models.options import Attention


class _Blank(EvaluationContext):
    """A subject whose weights are zero: all tokens are alike to it, and no number overflows."""

    def load(
        self, attention: Attention | None, dtype: torch.dtype | None = None
    ) -> PreTrainedModel:
        """Load the model, and forget what it has learned."""
        model = super().load(attention, dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        return model


def nulls(measure: Measure, subject: EvaluationContext, reason: str) -> list[Score]:
    """Return the scores that ``measure`` has for such data and such a model, all without a value.

    A comparison then finds a null with a reason where other checkpoints have numbers; it cannot
    take the score for one that was never asked for. Costs measuring a model of zeros.
    """
    given = {field.name: getattr(subject, field.name) for field in fields(subject)}
    _, scores = measure.measure(_Blank(**given))
    return [
        replace(
            score,
            value=None,
            reason=reason,
            standard_error=None,
            error_bound=None,
            rows_key=None,
            censored=False,
        )
        for score in scores
    ]
