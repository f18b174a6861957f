"""An objective on tokens marked by a regular expression or by the data, whatever their role."""

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from ntpctp._core.errors import InputError
from ntpctp._core.options import RegularExpression
from ntpctp.data.encoded import EncodedExample
from ntpctp.objectives.objective import LossesOf, Objective, Supervision


class Critical(Objective):
    """``w_t = 1`` for tokens that overlap a marked piece of text, ``else_weight`` for all others.

    Marked is the text that the regular expression ``pattern`` matches in the example (prompt,
    reasoning and answer as the model reads them), or the ``spans`` that the data give, or both.
    The end-of-sequence token is marked if the last character of the text is.

    Source: critical tokens elsewhere than at the end, as in ReCOGS (arXiv 2303.13716), requested in
    the reviews of the follow-up of arXiv 2502.02007.
    """

    name: Literal["critical"] = "critical"
    pattern: RegularExpression | None = Field(None, description="regular expression (Python's re)")
    spans: bool = Field(False, description="use the character spans that the data give")
    else_weight: float = Field(0.0, ge=0, description="weight of all other tokens")

    @model_validator(mode="after")
    def _some_rule(self) -> "Critical":
        if self.pattern is None and not self.spans:
            raise ValueError("give a pattern, or spans: true")
        return self

    def supervise(  # noqa: D102
        self, examples: Sequence[EncodedExample], losses_of: LossesOf
    ) -> list[Supervision]:
        return [
            Supervision(
                example.input_ids,
                np.where(self._marked(example), 1, self.else_weight).astype(np.float32),
            )
            for example in examples
        ]

    def _marked(self, example: EncodedExample) -> np.ndarray:
        if example.offsets is None:
            raise InputError(
                "objective 'critical' needs the character offsets of tokens, which this tokenizer "
                "does not give; use a fast tokenizer"
            )
        spans = list(example.marked) if self.spans else []
        if self.pattern is not None:
            spans += [match.span() for match in re.finditer(self.pattern, example.text)]
        first, last = example.offsets.T
        marked = np.zeros(len(example), bool)
        for start, end in spans:
            marked |= (first < end) & (last > start)
            # The end of sequence has no characters of its own.
            marked |= (
                (first == last) & (first == len(example.text)) & (end == len(example.text) > start)
            )
        return marked
