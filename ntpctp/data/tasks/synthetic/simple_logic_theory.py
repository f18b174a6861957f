"""What follows from facts and rules of SimpleLogic, and at which depth."""

from typing import NamedTuple


class Theory(NamedTuple):
    """Predicates are numbered; a rule is (body, head)."""

    num_predicates: int
    facts: list[int]
    rules: list[tuple[tuple[int, ...], int]]


def proof_depths(theory: Theory) -> dict[int, int]:
    """Return every predicate that holds, with the round of forward chaining that proves it."""
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
    """Return every other predicate, with the rounds of backward chaining until it has failed.

    A predicate without a rule fails at once; a rule fails one round after the first of its body's
    predicates; a predicate fails with the last of its rules. Not counted beyond ``max_depth``.
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
