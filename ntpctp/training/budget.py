"""How long to train, where that is not said in optimizer steps."""

from typing import Literal, Self

from pydantic import Field, model_validator

from ntpctp._core.options import Options

Unit = Literal["epochs", "tokens", "supervised_tokens", "flops"]
UNITS: tuple[Unit, ...] = ("epochs", "tokens", "supervised_tokens", "flops")


class Budget(Options):
    """One of four amounts; training takes as many steps as it takes to reach it.

    Steps are counted by what an average example of the training split has, so all seeds of an arm
    take equally many, and two arms with the same budget may take different numbers of them.
    """

    epochs: float | None = Field(None, gt=0, description="passes over the training split")
    tokens: int | None = Field(None, ge=1, description="tokens read, padding excluded")
    supervised_tokens: int | None = Field(None, ge=1, description="tokens that the loss sees")
    flops: float | None = Field(
        None,
        gt=0,
        description="floating point operations, see ntpctp.models.flops; padding excluded",
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError(
                f"expected one of {', '.join(type(self).model_fields)}, found "
                f"{', '.join(self.model_dump(exclude_none=True)) or 'none'}"
            )
        return self

    @property
    def unit(self) -> Unit:
        """Which of the four it is."""
        return next(unit for unit in UNITS if getattr(self, unit) is not None)

    @property
    def amount(self) -> float:
        """How much of it."""
        return float(getattr(self, self.unit))
