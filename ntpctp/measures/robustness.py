"""Robustness: is the answer still right when the model's input is disturbed?

Shape letters: B = rows of a batch, T = its longest row, D = width of the model.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from ntpctp.measures.measure import EncodedSplit, Measure, Score, Subject, mean_score
from ntpctp.models import embedding_of
from ntpctp.randomness import generator
from ntpctp.reading import EMBEDDINGS, Disturbance, read_rows
from ntpctp.tokens import Row


class Robustness(Measure):
    """Accuracy under Gaussian noise on the token embeddings.

    The model reads ``e_t + strength * s * z_t`` in place of the embedding ``e_t`` of token t, where
    ``s`` is the standard deviation of all entries of the embedding matrix and ``z_t`` is standard
    normal. The draw ``z`` depends on (seed, draw, item, position) alone: all arms, seeds, steps and
    strengths meet the same noise, so that their differences are not made by luck.

    Scores of each held-out split:

    * ``accuracy_under_noise`` at each strength: share of items answered exactly (the greedy choice
      is right at every position of the answer, given the reference before it; without noise and
      reasoning this is the exact match of greedy decoding), mean over the draws.
    * ``area``: the area under that curve by the trapezoidal rule, divided by the largest strength:
      the mean accuracy over strengths from 0 to the largest.

    Source: the follow-up of arXiv 2502.02007 reports robustness to noise on embeddings; its scale
    and number of draws are not published, these are ours.
    """

    name: Literal["robustness"] = "robustness"
    strengths: list[float] = Field(
        [0.0, 0.25, 0.5, 1.0, 2.0], min_length=2, description="rising, the first is 0"
    )
    draws: int = Field(4, ge=1, description="of the noise, an item and strength")
    max_items: int | None = Field(200, ge=1, description="the first items of a split; null: all")
    seed: int = Field(0, ge=0, description="of the noise")

    @field_validator("strengths")
    @classmethod
    def _rising(cls, strengths: list[float]) -> list[float]:
        if strengths[0] != 0 or any(a >= b for a, b in pairwise(strengths)):
            raise ValueError(f"expected rising strengths that start with 0, found {strengths}")
        return strengths

    def measure(self, subject: Subject) -> tuple[list[dict[str, Any]], list[Score]]:  # noqa: D102
        rows: list[dict[str, Any]] = []
        scores: list[Score] = []
        for name in subject.evaluation_splits:
            curves = self._curves(subject, subject.splits[name].head(self.max_items))
            areas = np.trapezoid(curves, self.strengths, axis=1) / self.strengths[-1]
            rows += [
                {
                    "split": name,
                    "item": item,
                    "area": float(area),
                    **dict(zip(map(_key, self.strengths), map(float, curve), strict=True)),
                }
                for item, (curve, area) in enumerate(zip(curves, areas, strict=True))
            ]
            common: dict[str, Any] = {"split": name, "higher_is_better": True}
            scores += [
                mean_score(
                    list(curves[:, place]),
                    measure="robustness",
                    score="accuracy_under_noise",
                    unit="share of items",
                    strength=strength,
                    rows_key=_key(strength),
                    **common,
                )
                for place, strength in enumerate(self.strengths)
            ]
            scores.append(
                mean_score(
                    list(areas),
                    measure="robustness",
                    score="area",
                    unit="mean share of items",
                    rows_key="area",
                    **common,
                )
            )
        return rows, scores

    def _curves(self, subject: Subject, split: EncodedSplit) -> np.ndarray:
        """Share of draws in which an item is right: float64, shape (items, strengths)."""
        scale = float(embedding_of(subject.model).weight.detach().std())
        right = np.zeros((len(split.rows), len(self.strengths)))
        for place, strength in enumerate(self.strengths):
            draws = self.draws if strength else 1
            for draw in range(draws):

                def noisy(
                    items: Sequence[int],
                    positions: Tensor,
                    states: Tensor,
                    draw: int = draw,
                    s: float = strength,
                ) -> Tensor:
                    return states + s * scale * self._noise(items, states, draw)

                read = read_rows(
                    subject.model,
                    split.rows,
                    subject.budget,
                    disturbance=Disturbance(EMBEDDINGS, noisy) if strength else None,
                )
                right[:, place] += [
                    seen.matches[_answer(row)].all()
                    for row, seen in zip(split.rows, read, strict=True)
                ]
            right[:, place] /= draws
        return right

    def _noise(self, items: Sequence[int], like: Tensor, draw: int) -> Tensor:
        """Return standard normal noise of the shape (B, T, D), dtype and device of ``like``."""
        shape = like.shape[1:]
        draws = [
            generator(self.seed, "embedding noise", draw, item).standard_normal(
                shape, dtype=np.float32
            )
            for item in items
        ]
        return torch.from_numpy(np.stack(draws)).to(like)


def _answer(row: Row) -> np.ndarray:
    return row.has_role("answer")


def _key(strength: float) -> str:
    """The field of a row that holds the accuracy at ``strength``."""
    return f"strength_{strength:g}"
