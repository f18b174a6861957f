"""Types of options that several measures share, each with its bounds and its help text."""

from itertools import pairwise
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

Splits: TypeAlias = str | Annotated[list[str], Field(min_length=1)]
"""The name of a split, or several names."""


def split_names(splits: Splits) -> list[str]:
    """Return the names, each once."""
    return [splits] if isinstance(splits, str) else list(dict.fromkeys(splits))


def _rising(strengths: list[float]) -> list[float]:
    if strengths[0] != 0 or not all(a < b for a, b in pairwise(strengths)):
        raise ValueError(f"expected rising strengths that start with 0, found {strengths}")
    return strengths


Strengths = Annotated[list[float], Field(min_length=2), AfterValidator(_rising)]
"""The strengths of a perturbation at which a curve is measured; 0 is the unperturbed model."""

LossSplits = Annotated[
    Splits, Field(description="the split whose examples make up the loss, or a list of splits")
]
FirstItems = Annotated[
    int | None, Field(ge=1, description="how many items of a split, from the first; null: all")
]
RelativeTolerance = Annotated[
    float, Field(gt=0, lt=1, description="largest residual / eigenvalue that counts as converged")
]
MaxProducts = Annotated[
    int, Field(ge=2, description="most Hessian-vector products for an eigenvalue")
]
GraphMemory = Annotated[
    int,
    Field(
        ge=0,
        description="most memory for gradient graphs kept between products, in bytes; 0 keeps none",
    ),
]
CurvatureBackend = Literal["ntpctp", "pyhessian"]
