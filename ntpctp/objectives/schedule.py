"""An objective that changes with the step: curricula within one stage."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny, model_validator

from ntpctp._core.options import Choice, Options
from ntpctp.data.encoded import EncodedExample
from ntpctp.objectives.marked import Critical
from ntpctp.objectives.objective import LossesOf, Objective, Supervision
from ntpctp.objectives.relabelled import Noisy, Shuffled
from ntpctp.objectives.roles import CTP, NTP, Weighted
from ntpctp.objectives.sampled import Partial, Random

PHASES: dict[str, type[Objective]] = {
    "ntp": NTP,
    "ctp": CTP,
    "weighted": Weighted,
    "partial": Partial,
    "random": Random,
    "critical": Critical,
    "shuffled": Shuffled,
    "noisy": Noisy,
}
"""The objectives that a phase may have: those that need no reference model."""


class Phase(Options):
    """A part of training under one objective."""

    objective: SerializeAsAny[Annotated[Objective, Choice(PHASES)]] = Field(
        description="which tokens are supervised"
    )
    until: int | None = Field(None, ge=1, description="its last step; null: to the end")


class Schedule(Objective):
    """One objective after another: ``phases: [{objective: ntp, until: 500}, {objective: ctp}]``.

    With ``fade: f`` the change takes f steps: s steps after ``until`` the weights are
    ``(1 - s/f) w_before + (s/f) w_after``. A prompt weight that decays from 1 to 0 is
    ``phases: [{objective: ntp, until: 1}, {objective: ctp}]`` with ``fade: 1000``.

    All phases have the schedule's ``normalisation``.
    """

    name: Literal["schedule"] = "schedule"
    phases: list[Phase] = Field(min_length=2, description="in order; the last has no until")
    fade: int = Field(0, ge=0, description="steps from one phase to the next")

    @model_validator(mode="after")
    def _in_order(self) -> "Schedule":
        ends = [phase.until for phase in self.phases]
        if ends[-1] is not None or any(end is None for end in ends[:-1]):
            raise ValueError("every phase but the last needs until; the last must not have it")
        known = [end for end in ends if end is not None]
        gaps = [later - earlier for earlier, later in pairwise(known)]
        if any(gap <= self.fade for gap in gaps):
            raise ValueError(
                f"until must rise by more than fade ({self.fade}) in each phase, found {known}"
            )
        relabelled = any(isinstance(phase.objective, Shuffled | Noisy) for phase in self.phases)
        if self.fade and relabelled:
            raise ValueError(
                "fade mixes weights, which needs phases with the same labels; leave out fade, or "
                "the phases shuffled and noisy"
            )
        if any(p.objective.normalisation != self.normalisation for p in self.phases):
            raise ValueError(
                f"phases must have the schedule's own normalisation ({self.normalisation})"
            )
        return self

    @property
    def settled_from(self) -> int:  # noqa: D102
        return (self.phases[-2].until or 0) + self.fade

    def mixture(self, step: int) -> list[tuple[float, Objective]]:  # noqa: D102
        current = next(
            index
            for index, phase in enumerate(self.phases)
            if phase.until is None or step < phase.until
        )
        now = self.phases[current].objective
        if current and self.fade:
            since = step - (self.phases[current - 1].until or 0)
            share = since / self.fade
            if share < 1:
                return [(1 - share, self.phases[current - 1].objective), (share, now)]
        return [(1.0, now)]

    def supervise(
        self, examples: Sequence[EncodedExample], losses_of: LossesOf
    ) -> list[Supervision]:
        """Return the supervision of the last phase, that of a finished run."""
        return self.phases[-1].objective.supervise(examples, losses_of)
