"""The rules of RuleTaker: their consequences, and their two wordings."""

from collections.abc import Sequence
from typing import NamedTuple


class TheoryRule(NamedTuple):
    """Every person with all attributes of ``body`` (without the negated ones) has ``head``."""

    body: tuple[tuple[int, bool], ...]  # (attribute, negated)
    head: int


def judge(
    rules: Sequence[TheoryRule], facts: set[int], num_attributes: int
) -> list[tuple[bool, int]]:
    """Return for every attribute whether a person with these facts has it, and the depth.

    One pass in the order of the attributes, since bodies have lower attributes than heads.
    """
    judged: list[tuple[bool, int]] = []
    for attribute in range(num_attributes):
        if attribute in facts:
            judged.append((True, 0))
            continue
        proofs, failures = [], [0]
        for body, head in rules:
            if head != attribute:
                continue
            failing = [judged[a][1] for a, denied in body if judged[a][0] == denied]
            if failing:
                failures.append(1 + min(failing))
            else:
                proofs.append(1 + max(judged[a][1] for a, _ in body))
        judged.append((True, min(proofs)) if proofs else (False, max(failures)))
    return judged


def adjectives_first(parts: Sequence[tuple[str, bool]], head: str) -> str:
    """Return a rule without negation as "Red, big people are kind."."""
    return f"{', '.join(name for name, _ in parts).capitalize()} people are {head}."


def condition_first(parts: Sequence[tuple[str, bool]], head: str) -> str:
    """Return a rule as "If someone is red and not big then they are kind."."""
    condition = " and ".join(f"not {name}" if denied else name for name, denied in parts)
    return f"If someone is {condition} then they are {head}."
