"""What a measure is: a function of one checkpoint that gives rows (one an item), then scores."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ntpctp._core.errors import InputError
from ntpctp._core.options import Options
from ntpctp._core.rng import generator
from ntpctp.data.example import Example
from ntpctp.data.tasks.base import Task
from ntpctp.data.tokenize import EncodedExample
from ntpctp.models.build import load_model
from ntpctp.models.inference import TokenBudget, fuse_activations
from ntpctp.models.options import Attention
from ntpctp.objectives import Objective


@dataclass(frozen=True)
class Score:
    """One number, with everything needed to read it.

    ``value`` is None where it could not be computed, and then ``reason`` says why.
    """

    measure: str
    split: str
    score: str
    value: float | None
    unit: str
    count: int  # items that it rests on
    higher_is_better: bool | None  # None: neither
    standard_error: float | None = None  # over items
    error_bound: float | None = None  # of a numerical method, for instance a residual
    strength: float | None = None  # of a perturbation, for curves
    rows_key: str | None = None  # the field of the measure's rows that this score is the mean of
    reason: str | None = None
    censored: bool = False  # a null that stands for more than was measured: larger, not missing
    stratum: str | None = None  # "hops = 3": of the items whose row has that; None: of all

    def as_dict(self) -> dict[str, Any]:
        """Return the score as a row of ``scores.parquet``."""
        return dict(vars(self))


Splits: TypeAlias = str | Annotated[list[str], Field(min_length=1)]
"""One name of a split, or several."""


def names_of(splits: Splits) -> list[str]:
    """Return the names, each once."""
    return [splits] if isinstance(splits, str) else list(dict.fromkeys(splits))


@dataclass(frozen=True)
class EncodedSplit:
    """A split as text and as tokens, item by item."""

    examples: Sequence[Example]
    encoded: Sequence[EncodedExample]

    def head(self, size: int | None) -> "EncodedSplit":
        """Return the first ``size`` items, or all."""
        return EncodedSplit(self.examples[:size], self.encoded[:size])

    @cached_property
    def keys(self) -> frozenset[bytes]:
        """The ``short_key`` of every example; made when first asked for, as it reads them all."""
        return frozenset(map(short_key, self.examples))


def short_key(example: Example) -> bytes:
    """Return 8 bytes that are alike for the same examples, and in all processes."""
    return hashlib.blake2b(repr(example.key).encode(), digest_size=8).digest()


@dataclass
class EvaluationContext:
    """A checkpoint and the data to measure it on.

    Attributes:
        source: directory or hub id of the checkpoint.
        tokenizer: its own.
        splits: encoded, by name; ``train`` among them.
        evaluation_splits: names of the held-out splits.
        objective: the one that the checkpoint was trained under; None: it is not known, as of a
            checkpoint that another program trained. What depends on it is then null.
        batch_tokens: tokens of one forward pass, padding included; None: as many as fit, see
            ``reading.TokenBudget``.
        device: where the model runs.
        dtype: of the weights in memory.
        task: where the examples come from: it knows how they may be edited. None: unknown text.
        context: the smallest of all models that are compared, so that the same edited items fit all
            of them; None: the model's own.
    """

    source: str | Path
    tokenizer: PreTrainedTokenizerBase
    splits: Mapping[str, EncodedSplit]
    evaluation_splits: tuple[str, ...]
    objective: Objective | None
    batch_tokens: int | None = None
    device: str | torch.device = "cpu"
    dtype: torch.dtype = torch.float32
    task: Task | None = None
    context: int | None = None

    @cached_property
    def budget(self) -> TokenBudget:
        """What bounds a forward pass, shared by all measures."""
        return TokenBudget(self.batch_tokens)

    @cached_property
    def model(self) -> PreTrainedModel:
        """The model in evaluation mode, loaded once."""
        return fuse_activations(self.load(None))

    def load(
        self, attention: Attention | None, dtype: torch.dtype | None = None
    ) -> PreTrainedModel:
        """Load the model anew, with the attention and, if given, the type that a measure needs."""
        model = load_model(self.source, attention=attention, dtype=dtype or self.dtype)
        torch.nn.Module.to(model, self.device)
        return model


class Measure(Options, ABC):
    """The options of a measure and the measurement itself.

    A subclass has a ``name: Literal["..."]`` field; adding it to ``MEASURES`` is all that a new
    measure needs. ``version`` goes up with every change that moves a number: stored results of
    another version are computed again.
    """

    name: str
    at: Literal["all", "last"] = Field("all", description="which checkpoints are measured")

    version: ClassVar[int] = 1
    by_default: ClassVar[bool] = True
    """Whether an experiment that names no measures takes it."""
    by_context: ClassVar[bool] = False
    """Whether its numbers depend on ``EvaluationContext.context``."""

    def axis(self, score: str) -> str:
        """Return what the strengths of a score are, with their unit: the title of a figure's axis.

        Args:
            score: the name of one of this measure's scores that has strengths.
        """
        return "strength"

    def check(self, task: Task) -> None:
        """Find, before anything is trained, what of the options does not fit ``task``.

        Raises:
            InputError: says what the task has instead.
        """

    def check_model(self, model: PreTrainedModel) -> None:
        """Find, before anything is trained, what of the options does not fit ``model``.

        Raises:
            InputError: says what the model has instead.
        """

    @abstractmethod
    def measure(self, subject: EvaluationContext) -> tuple[list[dict[str, Any]], list[Score]]:
        """Return rows, one an item (and condition), and the scores made from them."""


def mean_score(
    values: Sequence[float], *, measure: str, split: str, score: str, unit: str, **fields: Any
) -> Score:
    """Return the mean of item values with its standard error (sample deviation / sqrt(n)).

    Raises:
        InputError: if there is no item.
    """
    count = len(values)
    if not count:
        raise InputError(f"{measure}: split {split!r} has no item")
    tensor = torch.tensor(values, dtype=torch.float64)
    error = float(tensor.std() / count**0.5) if count > 1 else None
    return Score(
        measure, split, score, float(tensor.mean()), unit, count, standard_error=error, **fields
    )


def bootstrap_error(
    score: Callable[..., float], *items: NDArray[np.float64], num_resamples: int = 200
) -> float | None:
    """Return the standard deviation of ``score`` over resampled items; None for one item.

    Args:
        score: of arrays with one entry an item.
        items: the arrays; an item is resampled in all of them at once.
        num_resamples: drawn from one fixed stream, so that the same items give the same error.
    """
    count = len(items[0])
    if count < 2:
        return None
    draws = generator(0, "bootstrap error").integers(count, size=(num_resamples, count))
    return float(np.std([score(*(array[draw] for array in items)) for draw in draws], ddof=1))
