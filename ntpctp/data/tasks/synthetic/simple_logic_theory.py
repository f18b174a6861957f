"""The consequences of facts and rules of SimpleLogic, and their depths."""

from typing import NamedTuple


class Theory(NamedTuple):
    """A theory over numbered predicates; a rule is (body, head)."""

    num_predicates: int
    facts: list[int]
    rules: list[tuple[tuple[int, ...], int]]


def proof_depths(theory: Theory) -> dict[int, int]:
    """Return each true predicate with the round of forward chaining that proves it."""
    depths = dict.fromkeys(theory.facts, 0)
    waiting = [(set(body) - depths.keys(), head) for body, head in theory.rules]
    rounds, new = 0, set(depths)
    while new:
        rounds += 1
        waiting = [(body - new, head) for body, head in waiting if head not in depths]
        new = {head for body, head in waiting if not body}
        depths |= dict.fromkeys(new, rounds)
    return depths


def failure_depths(theory: Theory, proved: dict[int, int], max_depth: int) -> dict[int, int]:
    """Return each false predicate with the number of rounds of backward chaining until it fails.

    A predicate without a rule fails in round 0; a rule fails one round after the first predicate of
    its body; a predicate fails with the last of its rules. Counted up to ``max_depth``.
    """
    failures = {p: 0 for p in range(theory.num_predicates) if p not in proved}
    rules = [
        ([p for p in body if p in failures], head)
        for body, head in theory.rules
        if head in failures
    ]
    for _ in range(max_depth):
        later = dict.fromkeys(failures, 0)
        for body, head in rules:
            later[head] = max(later[head], 1 + min(failures[p] for p in body))
        failures = later
    return failures
