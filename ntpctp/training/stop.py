"""Ending a run before its last step: when a score reaches a target."""

from typing import Self

from pydantic import Field, model_validator

from ntpctp._core.options import Options


class Stop(Options):
    """A target, looked at with every checkpoint that is measured.

    The run then ends there, and its later checkpoints are this one: curves go on as a flat line,
    and arms are still compared at one number of steps.
    """

    score: str = Field("exact_match", description="name of the score")
    split: str = Field(
        "train", description="on which examples; one that decides is no longer held out"
    )
    at_least: float | None = Field(None, description="ends the run; or at_most")
    at_most: float | None = Field(None, description="ends the run, for losses")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("expected either at_least or at_most, found both or neither")
        return self

    def reached(self, value: float | None) -> bool:
        """Whether a value, if there is one, is at the target or beyond."""
        if value is None:
            return False
        if self.at_least is not None:
            return value >= self.at_least
        assert self.at_most is not None
        return value <= self.at_most
