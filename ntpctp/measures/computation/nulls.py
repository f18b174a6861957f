"""The scores of a measure that met NaN or infinity: each null, with the reason."""

from dataclasses import fields, replace
from typing import Any

import torch
from transformers import PreTrainedModel

from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.measure import Measure, Score
from ntpctp.models.options import Attention


class _ZeroWeights(EvaluationContext):
    """A context whose model has all weights zero: no number overflows."""

    def load(
        self, attention: Attention | None, dtype: torch.dtype | None = None
    ) -> PreTrainedModel:
        """Load the model and set all weights to zero."""
        model = super().load(attention, dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        return model


def nulls(measure: Measure, context: EvaluationContext, reason: str) -> list[Score]:
    """Return the scores that ``measure`` gives for such data and such a model, without values.

    A comparison then finds a null with a reason where other checkpoints have numbers, and does not
    mistake the score for one that was not requested. Costs measuring a model of zeros.
    """
    arguments = {field.name: getattr(context, field.name) for field in fields(context)}
    _, scores = measure.measure(_ZeroWeights(**arguments))
    absent: dict[str, Any] = dict.fromkeys(("value", "standard_error", "error_bound", "rows_key"))
    return [replace(score, **absent, reason=reason, censored=False) for score in scores]
