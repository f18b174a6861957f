"""Ways through the facts of ProsQA."""

from collections import deque
from collections.abc import Hashable, Sequence
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)


def shortest_path(
    facts: Sequence[tuple[Node, Node]], start: Node, end: Node
) -> list[tuple[Node, Node]] | None:
    """Return the facts of a shortest way from ``start`` to ``end``, or None if there is none.

    Args:
        facts: (subject, kind that it is); of equally short ways the one of earlier facts is taken.
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
