r"""Rules about people in the manner of RuleTaker: is a statement true, in a closed world?

After "Transformers as Soft Reasoners over Language" (Clark et al. 2020, arXiv 2002.05867), with
our own sampler and sentences. The published JSONL files are read by the task ``published``.

    prompt  "Bob is red. Red people are kind. If someone is kind and not old then they are nice.
            Ann is old. True or false: Bob is not nice.\n"
    answer  "False"
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from ntpctp.data.example import Example, Segment
from ntpctp.data.tasks.edits.base import Edit
from ntpctp.data.tasks.edits.ruletaker import ruletaker_edits
from ntpctp.data.tasks.synthetic.drawing import Draw
from ntpctp.data.tasks.synthetic.drawn_task import DrawnTask
from ntpctp.data.tasks.synthetic.names import PEOPLE
from ntpctp.data.tasks.synthetic.prontoqa_words import PROPERTIES
from ntpctp.data.tasks.synthetic.ruletaker_theory import (
    TheoryRule,
    adjectives_first,
    condition_first,
    judge,
)

_REACH = 4  # attributes in the body of a rule are at most 4 below its head


class RuleTaker(DrawnTask):
    """Facts about people, rules about everyone, and a statement to judge.

    An attribute that cannot be proved is false (closed world, negation as failure). The body of a
    rule has only attributes with lower numbers than its head, so every theory has exactly one
    model. The depth of a true attribute is the smallest number of nested rules that prove it, the
    depth of a false one the number of nested rules that must be found to fail. Depths 0 to
    ``max_depth`` are equally frequent, ``ood_depth`` has greater ones. The depth is a stratum.

    A theory is used only if it has a true attribute at the drawn depth and a false one at the
    nearest existing depth (0 only with 0). Two coins decide which of the two the statement is
    about, and whether it is negated, so that neither the theory nor the statement alone tells the
    answer.
    """

    name: Literal["ruletaker"] = "ruletaker"
    max_depth: int = Field(2, ge=0, le=6, description="largest depth in train and test")
    longer_by: int = Field(1, ge=1, description="number of further depths, in the split ood_depth")
    num_people: int = Field(3, ge=1, le=len(PEOPLE), description="people in a theory")
    num_attributes: int = Field(8, ge=3, le=20, description="attributes in a theory")
    num_rules: int = Field(8, ge=1, le=40, description="rules in a theory")
    negation: bool = Field(True, description="allow negated attributes in the bodies of rules")
    train_size: int = Field(5000, ge=1, description="training examples")
    test_size: int = Field(500, ge=1, description="examples of each held-out split")
    seed: int = Field(0, ge=0, description="seed of the examples; the same for all arms and runs")

    @model_validator(mode="after")
    def _deep_enough(self) -> "RuleTaker":
        deepest = self.max_depth + self.longer_by
        if deepest >= min(self.num_attributes, self.num_rules + 1):
            raise ValueError(
                f"max_depth + longer_by = {deepest} needs at least {deepest + 1} attributes and "
                f"{deepest} rules, found {self.num_attributes} and {self.num_rules}"
            )
        signs = 2 if self.negation else 1
        below = [min(_REACH, head) for head in range(self.num_attributes)]
        different = sum(signs * n + signs**2 * n * (n - 1) // 2 for n in below)
        # Drawing until all differ takes long near the limit.
        if 2 * self.num_rules > different:
            raise ValueError(
                f"num_rules = {self.num_rules}, but {self.num_attributes} attributes give only "
                f"{different} different rules, of which at most half can be drawn. Lower num_rules "
                "or raise num_attributes"
            )
        return self

    @property
    def _draws(self) -> Mapping[str, tuple[int, Draw]]:
        usual = partial(self._draw, smallest=0, largest=self.max_depth)
        deeper = partial(
            self._draw, smallest=self.max_depth + 1, largest=self.max_depth + self.longer_by
        )
        return {
            "train": (self.train_size, usual),
            "test": (self.test_size, usual),
            "ood_depth": (self.test_size, deeper),
        }

    def _edits(self, split: str) -> Mapping[str, Edit]:
        return ruletaker_edits()

    def _draw(self, rng: np.random.Generator, smallest: int, largest: int) -> Example:
        depth = int(rng.integers(smallest, largest + 1))
        while True:
            rules = self._rules(rng)
            facts = [self._facts(rng) for _ in range(self.num_people)]
            judged = [judge(rules, known, self.num_attributes) for known in facts]
            true, false = (
                [
                    (abs(d - depth), person, attribute)
                    for person, attributes in enumerate(judged)
                    for attribute, (holds, d) in enumerate(attributes)
                    if holds == wanted and bool(d) == bool(depth)
                ]
                for wanted in (True, False)
            )
            true = [place for place in true if place[0] == 0]
            if not true or not false:
                continue
            false = [place for place in false if place[0] == min(false)[0]]
            askable = true if rng.random() < 0.5 else false
            _, person, attribute = askable[rng.integers(len(askable))]
            depth = judged[person][attribute][1]
            return self._worded(rng, rules, facts, person, attribute, askable is true, depth)

    def _rules(self, rng: np.random.Generator) -> list[TheoryRule]:
        """Draw distinct rules, each from one or two attributes shortly below its head."""
        rules: dict[TheoryRule, None] = {}
        while len(rules) < self.num_rules:
            head = int(rng.integers(1, self.num_attributes))
            near = rng.permutation(np.arange(max(0, head - _REACH), head))[: rng.integers(1, 3)]
            denied = rng.random(len(near)) < (0.25 if self.negation else 0)
            body = sorted(zip(near.tolist(), denied.tolist(), strict=True))
            rules[TheoryRule(tuple(body), head)] = None
        return list(rules)

    def _facts(self, rng: np.random.Generator) -> set[int]:
        """Draw one or two attributes of a person, from the lower half; rules conclude the upper."""
        half = (self.num_attributes + 1) // 2
        return set(rng.permutation(half)[: rng.integers(1, 3)].tolist())

    def _worded(
        self,
        rng: np.random.Generator,
        rules: Sequence[TheoryRule],
        facts: Sequence[set[int]],
        person: int,
        attribute: int,
        holds: bool,
        depth: int,
    ) -> Example:
        people: list[str] = rng.permutation(PEOPLE)[: self.num_people].tolist()
        names: list[str] = rng.permutation(PROPERTIES)[: self.num_attributes].tolist()
        sentences = [_rule_sentence(rng, rule, names) for rule in rules] + [
            f"{people[k]} is {names[known]}."
            for k, all_known in enumerate(facts)
            for known in all_known
        ]
        denied = bool(rng.random() < 0.5)
        statement = f"{people[person]} is {'not ' if denied else ''}{names[attribute]}."
        text = " ".join(sentences[k] for k in rng.permutation(len(sentences)))
        return Example(
            (
                Segment("prompt", f"{text} True or false: {statement}\n"),
                Segment("answer", str(holds != denied)),
            ),
            choices=("True", "False"),
            strata=(("depth", str(depth)),),
        )


def _rule_sentence(rng: np.random.Generator, rule: TheoryRule, names: Sequence[str]) -> str:
    parts = [(names[a], denied) for a, denied in rule.body]
    parts = [parts[k] for k in rng.permutation(len(parts))]
    adjectives = rng.random() < 0.5 and not any(denied for _, denied in parts)
    return (adjectives_first if adjectives else condition_first)(parts, names[rule.head])
