r"""Kinship: how are the two ends of a chain of relatives related?

In the manner of CLUTRR (Sinha et al. 2019, arXiv 1908.06177), with our own names, sentences and
rules. The published CSV files are read by the task ``published``.

    prompt  "Kim has a son called Lee. Max is the brother of Lee. How is Max related to Kim?\n"
    answer  "son"

As in CLUTRR, the world is ideal: siblings have the same two parents, parents are married, nobody
marries twice, different names are different people.
"""

from collections.abc import Mapping
from functools import partial
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from ntpctp.data.example import Example, Segment
from ntpctp.data.tasks.edits.base import Edit
from ntpctp.data.tasks.edits.kinship import kinship_edits
from ntpctp.data.tasks.synthetic.drawing import Draw
from ntpctp.data.tasks.synthetic.drawn_task import DrawnTask
from ntpctp.data.tasks.synthetic.kinship_words import (
    COMPOSED,
    MANIFOLD,
    MEN,
    WOMEN,
    WORDS,
    wordings,
)


class Kinship(DrawnTask):
    """A chain of ``hops`` relations in shuffled sentences; the answer is their composition.

    All relations that are compositions of ``hops`` relations are equally frequent. Side facts are
    about further relatives of people on the chain. ``ood_hops`` has ``longer_by`` more hops. The
    relation in the answer and the number of hops are strata.
    """

    name: Literal["kinship"] = "kinship"
    hops: int = Field(2, ge=2, description="relations on the chain in train and test")
    longer_by: int = Field(1, ge=1, description="further relations in the split ood_hops")
    side_facts: int = Field(0, ge=0, description="facts that are irrelevant to the question")
    train_size: int = Field(5000, ge=1, description="training examples")
    test_size: int = Field(500, ge=1, description="examples of each held-out split")
    seed: int = Field(0, ge=0, description="seed of the examples; the same for all arms and runs")

    @model_validator(mode="after")
    def _enough_names(self) -> "Kinship":
        wanted = self.hops + self.longer_by + 1 + self.side_facts
        if wanted > len(MEN):
            raise ValueError(
                f"hops + longer_by + side_facts + 1 = {wanted} people, who may all be of one "
                f"gender, but there are {len(MEN)} names for each. Lower one of the three"
            )
        return self

    @property
    def _draws(self) -> Mapping[str, tuple[int, Draw]]:
        usual = partial(self._draw, hops=self.hops)
        longer = partial(self._draw, hops=self.hops + self.longer_by)
        return {
            "train": (self.train_size, usual),
            "test": (self.test_size, usual),
            "ood_hops": (self.test_size, longer),
        }

    def _edits(self, split: str) -> Mapping[str, Edit]:
        return kinship_edits()

    def _draw(self, rng: np.random.Generator, hops: int) -> Example:
        chain, answer = _chain(rng, hops)
        men, women = iter(rng.permutation(MEN).tolist()), iter(rng.permutation(WOMEN).tolist())
        is_woman = [bool(rng.random() < 0.5)]
        for relation in chain:
            is_woman.append(not is_woman[-1] if relation == "spouse" else bool(rng.random() < 0.5))
        names: list[str] = [next(women) if woman else next(men) for woman in is_woman]
        facts = [
            (names[k], relation, names[k + 1], is_woman[k + 1]) for k, relation in enumerate(chain)
        ]
        for _ in range(self.side_facts):
            woman = bool(rng.random() < 0.5)
            of = names[rng.integers(len(names))]
            relation = MANIFOLD[rng.integers(len(MANIFOLD))]
            facts.append((of, relation, next(women) if woman else next(men), woman))
        # The first wording if the draw is below one half.
        sentences = [wordings(*facts[k])[rng.random() >= 0.5] for k in rng.permutation(len(facts))]
        question = f"How is {names[-1]} related to {names[0]}?\n"
        return Example(
            (
                Segment("prompt", " ".join([*sentences, question])),
                Segment("answer", WORDS[answer][is_woman[-1]]),
            ),
            strata=(("relation", answer), ("hops", str(hops))),
        )


def _chain(rng: np.random.Generator, hops: int) -> tuple[list[str], str]:
    """Draw the relations of a chain; their composition is uniform over all possible ones."""
    # composable[k]: the (relation, whether the last hop was to a spouse) after k + 1 hops.
    composable = [{(relation, relation == "spouse") for relation in WORDS}]
    for _ in range(hops - 1):
        composable.append({(c, e == "spouse") for (_, _, e, c) in _steps(composable[-1])})
    answers = sorted({relation for relation, _ in composable[-1]})
    answer = answers[rng.integers(len(answers))]
    ends = sorted(end for end in composable[-1] if end[0] == answer)
    relation, by_marriage = ends[rng.integers(len(ends))]
    chain: list[str] = []
    for reached in reversed(composable[:-1]):
        steps = sorted(
            step
            for step in _steps(reached)
            if step[3] == relation and (step[2] == "spouse") == by_marriage
        )
        relation, by_marriage, edge, _ = steps[rng.integers(len(steps))]
        chain.insert(0, edge)
    return [relation, *chain], answer


def _steps(reached: set[tuple[str, bool]]) -> list[tuple[str, bool, str, str]]:
    """Return all possible next steps: (relation so far, by marriage, next relation, composition).

    No step from spouse to spouse, which would lead back to the same person.
    """
    return [
        (relation, by_marriage, edge, composed)
        for relation, by_marriage in reached
        for (first, edge), composed in COMPOSED.items()
        if first == relation and not (by_marriage and edge == "spouse")
    ]
