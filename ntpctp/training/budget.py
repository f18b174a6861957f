"""The length of training in another unit than optimizer steps."""

from typing import Literal, Self

from pydantic import Field, model_validator

from ntpctp._core.options import Options

Unit = Literal["epochs", "tokens", "supervised_tokens", "flops"]
UNITS: tuple[Unit, ...] = ("epochs", "tokens", "supervised_tokens", "flops")


class Budget(Options):
    """One of four amounts; training takes the smallest number of steps that reaches it.

    The number of steps follows from the average example of the training split, so all seeds of an
    arm take equally many steps, and two arms with the same budget may take different numbers.
    """

    epochs: float | None = Field(None, gt=0, description="passes over the training split")
    tokens: int | None = Field(None, ge=1, description="tokens read, padding excluded")
    supervised_tokens: int | None = Field(None, ge=1, description="tokens with a loss weight")
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
        """The unit of the amount."""
        return next(unit for unit in UNITS if getattr(self, unit) is not None)

    @property
    def amount(self) -> float:
        """The amount, in ``unit``."""
        return float(getattr(self, self.unit))
