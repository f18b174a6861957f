r"""SimpleLogic: does a predicate follow from facts and rules?

Source: "On the Paradox of Learning to Reason from Data" (Zhang et al. 2022, arXiv 2205.11502) and
the samplers of github.com/joshuacnf/paradox-learning2reason.

    prompt  "Facts: wet, cold. Rules: wet shy > kind, cold > red, kind red > old. Query: red\n"
    answer  "True"

A rule ``a b > c`` says that c holds if a and b do. A predicate that does not follow is false.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from ntpctp.data.example import Example, Segment
from ntpctp.data.tasks.edits.base import Edit
from ntpctp.data.tasks.edits.simple_logic import simple_logic_edits
from ntpctp.data.tasks.synthetic.drawing import Draw
from ntpctp.data.tasks.synthetic.drawn_task import DrawnTask
from ntpctp.data.tasks.synthetic.prontoqa_words import PROPERTIES
from ntpctp.data.tasks.synthetic.simple_logic_theory import Theory, failure_depths, proof_depths


class SimpleLogic(DrawnTask):
    """Propositional Horn theories from one of the two published samplers.

    ``RP`` first draws facts and rules, and computes the labels; ``LP`` first draws the labels, and
    then rules that agree with them. A model that has learned to reason solves both; the split
    ``ood_sampler`` comes from the other sampler.

    The depth of a true predicate is the number of rounds of forward chaining that prove it, the
    depth of a false one the number of rounds of backward chaining that refute it (both counted up
    to ``max_depth``). All depths are equally frequent; the depth is a stratum.

    With ``balanced``, a theory is used only if it has both a true predicate at the drawn depth and
    a false one at the nearest existing depth (0 only with 0), and a coin decides which is queried:
    no property of the theory, not even its number of rules, tells the answer. Otherwise the theory
    needs only the queried predicate; the number of rules then correlates with the answer, which is
    the subject of the paper.
    """

    name: Literal["simple_logic"] = "simple_logic"
    sampler: Literal["RP", "LP"] = Field("RP", description="sampler of train and test")
    min_predicates: int = Field(5, ge=5, description="smallest number of predicates")
    max_predicates: int = Field(12, le=len(PROPERTIES), description="largest number of predicates")
    max_depth: int = Field(3, ge=0, le=6, description="largest depth (6 in the paper)")
    balanced: bool = Field(
        True, description="balance the theories, so that only reasoning tells the answer"
    )
    train_size: int = Field(5000, ge=1, description="training examples")
    test_size: int = Field(500, ge=1, description="examples of each held-out split")
    seed: int = Field(0, ge=0, description="seed of the examples; the same for all arms and runs")

    @model_validator(mode="after")
    def _possible(self) -> "SimpleLogic":
        if self.min_predicates > self.max_predicates:
            raise ValueError(
                f"min_predicates = {self.min_predicates} is greater than max_predicates = "
                f"{self.max_predicates}"
            )
        # A chain of d rules has d + 1 predicates; LP puts at least two of them on every level.
        if self.max_predicates < 2 * (self.max_depth + 1):
            raise ValueError(
                f"depth {self.max_depth} needs max_predicates of at least "
                f"{2 * (self.max_depth + 1)}, found {self.max_predicates}"
            )
        return self

    @property
    def _draws(self) -> Mapping[str, tuple[int, Draw]]:
        other = "LP" if self.sampler == "RP" else "RP"
        usual, unusual = (
            partial(self._draw, sample=_SAMPLERS[name]) for name in (self.sampler, other)
        )
        return {
            "train": (self.train_size, usual),
            "test": (self.test_size, usual),
            "ood_sampler": (self.test_size, unusual),
        }

    def _edits(self, split: str) -> Mapping[str, Edit]:
        return simple_logic_edits(self.max_depth)

    def _draw(
        self, rng: np.random.Generator, sample: Callable[[np.random.Generator, int], Theory]
    ) -> Example:
        depth, holds = int(rng.integers(self.max_depth + 1)), bool(rng.random() < 0.5)
        while True:
            theory = sample(rng, int(rng.integers(self.min_predicates, self.max_predicates + 1)))
            proofs = proof_depths(theory)
            true = [p for p, d in proofs.items() if d == depth]
            if not true and (holds or self.balanced):
                continue
            failures = failure_depths(theory, proofs, self.max_depth)
            if self.balanced:
                alike = [abs(d - depth) for d in failures.values() if bool(d) == bool(depth)]
                off = min(alike, default=0)
            else:
                off = 0
            false = [
                p for p, d in failures.items() if abs(d - depth) == off and bool(d) == bool(depth)
            ]
            if not false and (not holds or self.balanced):
                continue
            askable = true if holds else false
            query = askable[rng.integers(len(askable))]
            return _worded(rng, theory, query, holds, (proofs if holds else failures)[query])


def _sample_rules_first(rng: np.random.Generator, num_predicates: int) -> Theory:
    """RP: per predicate up to 4 rules and 1 fact; their numbers and parts are uniform."""
    num_rules, num_facts = rng.integers(4 * num_predicates + 1), rng.integers(num_predicates + 1)
    rules: dict[tuple[tuple[int, ...], int], None] = {}
    while len(rules) < num_rules:
        orders = rng.random((num_rules, num_predicates)).argsort(axis=1)[:, :4].tolist()
        for (head, *body), size in zip(orders, rng.integers(1, 4, num_rules), strict=True):
            if len(rules) < num_rules:
                rules[tuple(sorted(body[:size])), head] = None
    facts = rng.permutation(num_predicates)[:num_facts].tolist()
    return Theory(num_predicates, facts, list(rules))


def _sample_labels_first(rng: np.random.Generator, num_predicates: int) -> Theory:
    """LP: labels on levels; for each predicate a rule from the level below; then further rules.

    All rules agree with the labels. Every level has a true and a false predicate; the facts are the
    true ones of the lowest level. As published, a rule between true predicates is followed by one
    between false ones, so that both are equally frequent in the rules.
    """
    num_levels = int(rng.integers(1, num_predicates // 2 + 1))
    level_of = np.sort(np.arange(num_predicates) % num_levels)
    label = rng.random(num_predicates) < 0.5
    for level in range(num_levels):
        first = int(np.argmax(level_of == level))
        label[first : first + 2] = (False, True)
    predicates = np.arange(num_predicates)

    def some(candidates: np.ndarray) -> tuple[int, ...]:
        most = min(3, len(candidates))
        return tuple(sorted(rng.permutation(candidates)[: rng.integers(1, most + 1)].tolist()))

    rules = [
        (some(predicates[(level_of == level_of[p] - 1) & (label == label[p])]), int(p))
        for p in predicates[level_of > 0]
    ]
    num_more = len(rules) + rng.integers(3 * num_predicates + 1)
    while len(rules) < num_more:
        head = int(rng.integers(num_predicates))
        body = some(predicates[predicates != head])
        if label[list(body)].all():
            if not label[head]:
                continue
            false = rng.permutation(predicates[~label])
            if len(false) > 1:
                rules.append((some(false[1:]), int(false[0])))
        rules.append((body, head))
    names = rng.permutation(num_predicates)  # so that the numbers carry no information
    return Theory(
        num_predicates,
        [int(names[p]) for p in predicates[(level_of == 0) & label]],
        [(tuple(int(names[p]) for p in body), int(names[head])) for body, head in rules],
    )


_SAMPLERS = {"RP": _sample_rules_first, "LP": _sample_labels_first}


def _worded(
    rng: np.random.Generator, theory: Theory, query: int, holds: bool, depth: int
) -> Example:
    names = rng.permutation(PROPERTIES)[: theory.num_predicates].tolist()
    rules = [
        f"{' '.join(names[p] for p in rng.permutation(body))} > {names[head]}"
        for body, head in theory.rules
    ]
    facts = [names[p] for p in theory.facts]
    text = ", ".join(facts[k] for k in rng.permutation(len(facts))) or "none"
    ruled = ", ".join(rules[k] for k in rng.permutation(len(rules))) or "none"
    return Example(
        (
            Segment("prompt", f"Facts: {text}. Rules: {ruled}. Query: {names[query]}\n"),
            Segment("answer", str(holds)),
        ),
        choices=("True", "False"),
        strata=(("depth", str(depth)),),
    )
