"""Early stopping: a run ends when a score reaches a target."""

from typing import Self

from pydantic import Field, model_validator

from ntpctp._core.options import Options


class Stop(Options):
    """A target, compared with the score of every measured checkpoint.

    At the target the run ends, and its later checkpoints become copies of this one: curves
    continue as a flat line, and arms are still compared at one number of steps.
    """

    score: str = Field("exact_match", description="name of the score")
    split: str = Field(
        "train", description="split of the score; a split that decides is no longer held out"
    )
    at_least: float | None = Field(
        None, description="target; the run ends at or above it (or use at_most)"
    )
    at_most: float | None = Field(
        None, description="target for losses; the run ends at or below it"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("expected either at_least or at_most, found both or neither")
        return self

    def reached(self, value: float | None) -> bool:
        """Whether ``value`` has reached the target; False for None."""
        if value is None:
            return False
        if self.at_least is not None:
            return value >= self.at_least
        assert self.at_most is not None
        return value <= self.at_most
