r"""PrOntoQA: does a property follow from a chain of rules about made-up kinds?

Source: "Language Models Are Greedy Reasoners" (Saparov and He 2023, arXiv 2210.01240).

    prompt     "Lorpuses are wumpuses. Every wumpus is not sour. Each yumpus is an impus. Impuses
                are sour. Max is a yumpus. Rex is a lorpus. True or false: Rex is sour.\n"
    reasoning  "Rex is a lorpus. Lorpuses are wumpuses. Rex is a wumpus. Every wumpus is not sour.
                Rex is not sour.\nAnswer: "                                        (on request)
    answer     "False"

In the form ``cloze`` the prompt ends "Fill in the blank: Rex is ___.\n" and the answer is "sour".
This is our own construction, since the one of arXiv 2502.02007 is not published.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, TypedDict

import numpy as np
from pydantic import Field, model_validator

from ntpctp.data.example import Example, Segment
from ntpctp.data.tasks.edits.base import Edit
from ntpctp.data.tasks.edits.prontoqa import prontoqa_edits
from ntpctp.data.tasks.synthetic.drawing import Draw
from ntpctp.data.tasks.synthetic.drawn_task import DrawnTask
from ntpctp.data.tasks.synthetic.names import KINDS, PEOPLE
from ntpctp.data.tasks.synthetic.prontoqa_words import (
    OTHER_KINDS,
    OTHER_REAL_KINDS,
    PROPERTIES,
    REAL_KINDS,
    OntologyRule,
    predicate,
    with_article,
    wordings,
)

_MARKER = "Answer: "


class _End(TypedDict, total=False):
    adjective: str
    negated: bool


class PrOntoQA(DrawnTask):
    """True or false, or fill in the blank, over one chain of rules for each of two people.

    The two chains have the same length and end in opposite properties, and side rules are divided
    between them, so that only the rules from the queried person onwards tell which end is theirs.
    (The original has one person, and states the opposite about a kind that occurs nowhere else,
    which counting reveals.)
    """

    name: Literal["prontoqa"] = "prontoqa"
    form: Literal["original", "cloze"] = Field(
        "original", description="original: true or false; cloze: fill in the blank"
    )
    hops: int = Field(3, ge=1, description="rules in the proof, in train and test")
    longer_by: int = Field(2, ge=1, description="further hops in the split ood_hops")
    distractors: Literal["none", "relevant", "irrelevant"] = Field(
        "relevant",
        description="none: only the rules of the proof; relevant: the chain of a second person "
        "and side rules about kinds of both chains; irrelevant: side rules about other kinds",
    )
    side_rules: int = Field(4, ge=0, le=12, description="rules that are irrelevant to the question")
    negation: bool = Field(True, description="allow negated properties and kinds")
    ordering: Literal["random", "postorder", "preorder"] = Field(
        "random",
        description="order of the rules: postorder follows the proof, preorder reverses it",
    )
    ontology: Literal["fictional", "false"] = Field(
        "fictional", description="fictional: made-up kinds; false: real nouns in false relations"
    )
    reasoning: bool = Field(False, description="whether the proof precedes the answer")
    train_size: int = Field(5000, ge=1, description="training examples")
    test_size: int = Field(500, ge=1, description="examples of each held-out split")
    seed: int = Field(0, ge=0, description="seed of the examples; the same for all arms and runs")

    @model_validator(mode="after")
    def _possible(self) -> "PrOntoQA":
        if self.distractors == "none" and self.side_rules and self.changed("side_rules"):
            raise ValueError(
                f"side_rules = {self.side_rules}, but distractors: none excludes them. Choose "
                "relevant or irrelevant, or remove side_rules"
            )
        if self.distractors == "none" and not self.negation and self.form == "original":
            raise ValueError(
                "without negation and distractors every statement is true. Allow one of them, or "
                "choose form: cloze"
            )
        longest = self.hops + self.longer_by
        wanted = 2 * longest + self.side_rules * (2 if self.distractors == "irrelevant" else 1)
        if wanted > len(KINDS):
            raise ValueError(
                f"hops + longer_by = {longest} and side_rules = {self.side_rules} need {wanted} "
                f"kinds, but there are {len(KINDS)} words for them. Lower one of the three"
            )
        return self

    @property
    def _draws(self) -> Mapping[str, tuple[int, Draw]]:
        sizes_and_hops = {
            "train": (self.train_size, self.hops),
            "test": (self.test_size, self.hops),
            "ood_hops": (self.test_size, self.hops + self.longer_by),
            "ood_words": (self.test_size, self.hops),
        }
        return {
            name: (size, partial(self._draw, hops=hops, kinds=self._kinds(name)))
            for name, (size, hops) in sizes_and_hops.items()
        }

    def _kinds(self, split: str) -> tuple[str, ...]:
        """Return the words for kinds in a split."""
        fictional = self.ontology == "fictional"
        usual, other = (KINDS, OTHER_KINDS) if fictional else (REAL_KINDS, OTHER_REAL_KINDS)
        return other if split == "ood_words" else usual

    def _edits(self, split: str) -> Mapping[str, Edit]:
        # The form cloze has no negation without side rules: "not" would be a new word.
        side_rules = self.side_rules if self.distractors != "none" else 0
        negation = self.negation and bool(self.form == "original" or side_rules)
        return prontoqa_edits(self._kinds(split), negation)

    def _draw(self, rng: np.random.Generator, hops: int, kinds: Sequence[str]) -> Example:
        num_chains = 1 if self.distractors == "none" else 2
        names: list[str] = rng.permutation(kinds).tolist()
        people: list[str] = rng.permutation(PEOPLE).tolist()[:num_chains]
        properties: list[str] = rng.permutation(PROPERTIES).tolist()
        chains = [names[k * hops : (k + 1) * hops] for k in range(num_chains)]
        ends = self._ends(rng, properties)
        proofs = [
            [*(OntologyRule(a, kind=b) for a, b in pairwise(chain)), OntologyRule(chain[-1], **end)]
            for chain, end in zip(chains, ends, strict=False)
        ]
        # Each rule with its position in the proofs: the chain, then the step within it.
        placed = [
            (c, step, rule) for c, proof in enumerate(proofs) for step, rule in enumerate(proof)
        ]
        if num_chains == 2:
            placed += self._side_rules(rng, chains, names[2 * hops :], properties[2:])
        sentences = {rule: _sentence(rng, rule) for _, _, rule in placed}
        facts = [
            f"{person} is {with_article(chain[0])}."
            for person, chain in zip(people, chains, strict=True)
        ]
        prompt = " ".join(
            [
                *(sentences[rule] for rule in self._ordered(rng, placed)),
                *(facts[k] for k in rng.permutation(num_chains)),
            ]
        )
        proof_steps = [facts[0]]
        for rule in proofs[0]:
            proof_steps += [sentences[rule], f"{people[0]} {predicate(rule)}."]
        question, answer, choices = self._question(rng, people[0], ends)
        steps = Segment("reasoning", f"{' '.join(proof_steps)}\n{_MARKER}")
        return Example(
            (
                Segment("prompt", f"{prompt} {question}\n"),
                *([steps] if self.reasoning else []),
                Segment("answer", answer),
            ),
            choices=choices,
            answer_marker=_MARKER if self.reasoning else "",
            strata=(("hops", str(hops)),),
        )

    def _ends(self, rng: np.random.Generator, properties: Sequence[str]) -> list[_End]:
        """Draw the ends of the two chains: a property and its negation, or two properties."""
        if self.negation and self.form == "original":
            first = bool(rng.random() < 0.5)
            return [
                {"adjective": properties[0], "negated": first},
                {"adjective": properties[0], "negated": not first},
            ]
        return [{"adjective": properties[0]}, {"adjective": properties[1]}]

    def _side_rules(
        self,
        rng: np.random.Generator,
        chains: Sequence[Sequence[str]],
        names: Sequence[str],
        properties: Sequence[str],
    ) -> list[tuple[int, int, OntologyRule]]:
        """Draw the side rules, each with its position (chain, step) among the proofs.

        Their kinds and properties occur nowhere else. In the form ``cloze`` they give no person a
        second property, since the blank must have one answer.
        """
        fresh, adjectives = iter(names), iter(properties)
        rules = []
        for _ in range(self.side_rules):
            chain, step = int(rng.integers(2)), int(rng.integers(len(chains[0])))
            negated = bool(self.negation and rng.random() < 0.5)
            to_kind = bool(rng.random() < 0.5 or (self.form == "cloze" and not negated))
            subject = chains[chain][step] if self.distractors == "relevant" else next(fresh)
            rule = (
                OntologyRule(subject, kind=next(fresh), negated=negated)
                if to_kind
                else OntologyRule(subject, adjective=next(adjectives), negated=negated)
            )
            rules.append((chain, step, rule))
        return rules

    def _ordered(
        self, rng: np.random.Generator, placed: Sequence[tuple[int, int, OntologyRule]]
    ) -> list[OntologyRule]:
        shuffled = [placed[k] for k in rng.permutation(len(placed))]
        if self.ordering != "random":
            first = int(rng.integers(2))  # the chain of the queried person is not always first
            sign = 1 if self.ordering == "postorder" else -1
            shuffled.sort(key=lambda place: (place[0] != first, sign * place[1]))
        return [rule for _, _, rule in shuffled]

    def _question(
        self, rng: np.random.Generator, person: str, ends: Sequence[_End]
    ) -> tuple[str, str, tuple[str, str]]:
        """Return the question, its answer and the choices."""
        true, other = (str(end["adjective"]) for end in ends)
        if self.form == "cloze":
            choices = (true, other) if rng.random() < 0.5 else (other, true)
            return f"Fill in the blank: {person} is ___.", true, choices
        # Without negation the false statement is the end of the other person.
        asked, is_negated = ends[int(rng.integers(2))], bool(ends[0].get("negated", False))
        rule = OntologyRule(person, **asked)
        holds = rule.adjective == true and rule.negated == is_negated
        return f"True or false: {person} {predicate(rule)}.", str(holds), ("True", "False")


def _sentence(rng: np.random.Generator, rule: OntologyRule) -> str:
    """Return the rule in one of the three wordings of the original."""
    return wordings(rule)[int(rng.integers(3))]
