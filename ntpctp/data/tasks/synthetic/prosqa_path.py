"""Shortest paths through the facts of ProsQA."""

from collections import deque
from collections.abc import Hashable, Sequence
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)


def shortest_path(
    facts: Sequence[tuple[Node, Node]], start: Node, end: Node
) -> list[tuple[Node, Node]] | None:
    """Return the facts of a shortest path from ``start`` to ``end``, or None without a path.

    Args:
        facts: (subject, kind); of equally short paths the one with earlier facts is returned.
        start: a subject.
        end: a kind.
    """
    came_by: dict[Node, tuple[Node, Node] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        at = waiting.popleft()
        for subject, kind in facts:
            if subject == at and kind not in came_by:
                came_by[kind] = (subject, kind)
                waiting.append(kind)
    if end not in came_by:
        return None
    steps: list[tuple[Node, Node]] = []
    while (step := came_by[end]) is not None:
        steps.insert(0, step)
        end = step[0]
    return steps
