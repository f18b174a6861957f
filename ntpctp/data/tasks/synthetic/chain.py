"""Chains of token pairs: which token follows k steps after the queried one?

Source: "Towards Understanding How Transformer Perform Multi-step Reasoning with Matching
Operation" (Wang et al. 2024, arXiv 2405.15302).

    prompt  "10 29 51 21 16 86 29 34 21 16 86 10 10 "     (pairs of 51 21 16 86 10 29 34, then 10)
    answer  "34"
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ntpctp._core.errors import lookup
from ntpctp._core.rng import generator
from ntpctp.data.example import Example, Segment
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.edits.base import Edit
from ntpctp.data.tasks.edits.chain import chain_edits
from ntpctp.data.tasks.synthetic.drawing import Computed

# (second - first) modulo 5 of the pairs in a split, so that no pair of train occurs in test.
_DIFFERENCES = {"train": (0, 1, 4), "test": (2, 3), "ood_tokens": (0, 1, 2, 3, 4)}


class Chain(Task):
    """Shuffled pairs of neighbours in a chain of distinct tokens, then a token of the chain.

    Tokens are 1 to ``tokens`` in ``train`` and ``test``, ``tokens`` + 1 to 2 ``tokens`` in
    ``ood_tokens``, except for the answer and the token before it (unless it is the queried one),
    which are lowered by ``tokens``: a model can only answer with a token that it was trained on.
    Differences within ``ood_tokens`` are not restricted, as in the published example.
    """

    name: Literal["chain"] = "chain"
    steps: int = Field(2, ge=1, description="steps from the queried token to the answer")
    num_pairs: int = Field(
        6, ge=1, description="pairs in a prompt, one less than tokens in a chain"
    )
    tokens: int = Field(100, ge=20, multiple_of=5, description="different tokens")
    train_size: int = Field(20000, ge=1, description="training examples")
    test_size: int = Field(1000, ge=1, description="examples of each held-out split")
    seed: int = Field(0, ge=0, description="seed of the examples; the same for all arms and runs")

    pieces: ClassVar[Literal["words"]] = "words"

    @model_validator(mode="after")
    def _possible(self) -> "Chain":
        if self.steps > self.num_pairs:
            raise ValueError(
                f"steps = {self.steps}, but a chain of {self.num_pairs} pairs has only "
                f"{self.num_pairs} steps. Lower steps or raise num_pairs"
            )
        # Drawing chains until all tokens differ takes too long if there are fewer tokens.
        if (self.num_pairs + 1) ** 2 > self.tokens:
            raise ValueError(
                f"{self.num_pairs} pairs need at least {(self.num_pairs + 1) ** 2} tokens, found "
                f"{self.tokens}"
            )
        return self

    @property
    def evaluation_splits(self) -> tuple[str, ...]:  # noqa: D102
        return ("test", "ood_tokens")

    def split(self, name: str) -> Sequence[Example]:  # noqa: D102
        differences = lookup(_DIFFERENCES, name, "split of chain")
        size = self.train_size if name == "train" else self.test_size
        rng = generator(self.seed, "chain", name)
        chains = self._chains(rng, size, differences)
        starts = rng.integers(self.num_pairs + 1 - self.steps, size=size)
        orders = rng.permuted(np.tile(np.arange(self.num_pairs), (size, 1)), axis=1)
        if name == "ood_tokens":
            chains += self.tokens
            row = np.arange(size)
            chains[row, starts + self.steps] -= self.tokens
            if self.steps > 1:
                chains[row, starts + self.steps - 1] -= self.tokens
        return Computed(
            size,
            lambda k: self._example(chains[k].tolist(), orders[k].tolist(), int(starts[k])),
        )

    def _edits(self, split: str) -> Mapping[str, Edit]:
        first = self.tokens + 1 if split == "ood_tokens" else 1
        return chain_edits(self.tokens, first, _DIFFERENCES[split])

    def _chains(
        self, rng: np.random.Generator, size: int, differences: Sequence[int]
    ) -> NDArray[np.int64]:
        """Draw chains of distinct tokens, each uniform over those with an allowed difference.

        Returns:
            int64, shape (size, num_pairs + 1), values 1 to ``tokens``.
        """
        chains = np.empty((size, self.num_pairs + 1), np.int64)
        todo = np.arange(size)
        while len(todo):
            drawn = np.empty((len(todo), self.num_pairs + 1), np.int64)
            drawn[:, 0] = rng.integers(self.tokens, size=len(todo))
            for step in range(self.num_pairs):
                # tokens / 5 numbers have each remainder, so this is uniform over all allowed ones.
                remainder = (drawn[:, step] + rng.choice(differences, len(todo))) % 5
                drawn[:, step + 1] = 5 * rng.integers(self.tokens // 5, size=len(todo)) + remainder
            chains[todo] = drawn + 1
            ordered = np.sort(drawn, axis=1)
            todo = todo[(ordered[:, 1:] == ordered[:, :-1]).any(axis=1)]
        return chains

    def _example(self, chain: Sequence[int], order: Sequence[int], start: int) -> Example:
        pairs = [token for k in order for token in (chain[k], chain[k + 1])]
        return Example(
            (
                Segment("prompt", " ".join(map(str, [*pairs, chain[start]])) + " "),
                Segment("answer", str(chain[start + self.steps])),
            )
        )
