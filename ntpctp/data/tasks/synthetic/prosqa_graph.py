"""Generation of ProsQA items: a graph with the statistics of the published files, then words."""

from collections.abc import Sequence
from heapq import nsmallest
from itertools import pairwise

import numpy as np

from ntpctp.data.tasks.synthetic.names import KINDS, PEOPLE
from ntpctp.data.tasks.synthetic.prosqa_item import ProsQAItem, ask, fact

# Fitted by hand to the 800 published validation and test items; the tests compare the generator
# with tests/fixtures/prosqa_statistics.json. 28 nodes, less those without a fact, give the
# published 22.8 +- 2.0 nodes.
_NODES = 28
_MEAN_PARENTS = 1.45
_SIDE_SHARES = (
    0.345,
    0.495,
)  # parents from the side of person 0 only, of 1 only; else both
_DEPTH_WEIGHT = 1.3  # a parent d steps below a person has weight 1 + 1.3 d, the person weight 1
_BYSTANDER_WEIGHT = 0.05  # of other people than 0 and 1, and of their descendants
_MIN_HOPS = 3  # no published question is shorter; the longest has 6


def draw(rng: np.random.Generator, equal_mentions: bool = False) -> ProsQAItem:
    """Draw one item.

    The queried person is the one of nodes 0 and 1 whose own kinds reach deeper. The correct kind is
    one of the deepest of them, the wrong kind any of the other person's own kinds, and neither is
    the subject of a fact. All this holds for every published item.
    """
    while True:
        edges = _draw_graph(rng)
        steps_below = [_steps_below(node, edges) for node in (0, 1)]
        subjects = {node for node, _ in edges}
        own = [
            {
                node: hops
                for node, hops in steps_below[k].items()
                if node not in steps_below[1 - k] and node not in subjects
            }
            for k in (0, 1)
        ]
        hops = [max(kinds.values(), default=0) for kinds in own]
        root = int(hops[1] > hops[0] or (hops[1] == hops[0] and rng.random() < 0.5))
        if hops[root] < _MIN_HOPS or hops[1 - root] == 0:
            continue
        deepest = [node for node, h in own[root].items() if h == hops[root]]
        target = deepest[rng.integers(len(deepest))]
        neg_target = list(own[1 - root])[rng.integers(len(own[1 - root]))]
        facts_about = [sum(kind == node for _, kind in edges) for node in (target, neg_target)]
        if not equal_mentions or facts_about[0] == facts_about[1]:
            return _worded(rng, edges, root, target, neg_target)


def _draw_graph(rng: np.random.Generator) -> list[tuple[int, int]]:
    """Draw edges (parent, child) with parent < child, numbered without gaps.

    Each node has a Poisson number of parents among the earlier nodes of one side (descendants of
    person 0, or of person 1) or of both. A node without parents is a person; a node without an
    edge is dropped, except persons 0 and 1.
    """
    num_parents = np.minimum(rng.poisson(_MEAN_PARENTS, _NODES), np.arange(_NODES)).tolist()
    sides_open = rng.choice([1, 2, 3], _NODES, p=[*_SIDE_SHARES, 1 - sum(_SIDE_SHARES)]).tolist()
    # The k smallest of exponential / weight are k draws without replacement by weight.
    race = rng.exponential(size=(_NODES, _NODES)).tolist()
    side, depth, weight = [1, 2], [0, 0], [1.0, 1.0]  # side: bit 0 and bit 1 for persons 0 and 1
    edges: list[tuple[int, int]] = []
    for child in range(2, _NODES):
        # A bystander (side 0) may be a parent except of kinds on the side of person 0 alone.
        candidates = [
            node
            for node in range(child)
            if (side[node] | sides_open[child]) == sides_open[child]
            and (side[node] or sides_open[child] != 1)
        ]
        time = race[child]
        parents = nsmallest(
            num_parents[child], candidates, key=lambda node: time[node] / weight[node]
        )
        side.append(0)
        for parent in parents:
            side[child] |= side[parent]
        depth.append(1 + min((depth[parent] for parent in parents), default=-1))
        weight.append(
            (1 + _DEPTH_WEIGHT * depth[child]) * (1.0 if side[child] else _BYSTANDER_WEIGHT)
        )
        edges += [(parent, child) for parent in parents]
    used = sorted({0, 1, *(node for edge in edges for node in edge)})
    number = {node: k for k, node in enumerate(used)}
    return [(number[parent], number[child]) for parent, child in edges]


def _steps_below(start: int, edges: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Return the smallest number of steps from ``start`` to each kind that it is."""
    steps = {start: 0}
    # Children have higher numbers than their parents, so one pass in this order suffices.
    for parent, child in edges:
        if parent in steps:
            steps[child] = min(steps.get(child, _NODES), steps[parent] + 1)
    return {node: count for node, count in steps.items() if count}


def _worded(
    rng: np.random.Generator,
    edges: Sequence[tuple[int, int]],
    root: int,
    target: int,
    neg_target: int,
) -> ProsQAItem:
    """Name the nodes, and write the facts in random order."""
    kinds = {kind for _, kind in edges}
    num_nodes = 1 + max(0, 1, *kinds, *(node for node, _ in edges))
    people, words = iter(rng.permutation(PEOPLE).tolist()), iter(rng.permutation(KINDS).tolist())
    names = [next(words) if node in kinds else next(people) for node in range(num_nodes)]
    facts = [fact(names[node], names[kind]) for node, kind in edges]
    pair = [target, neg_target] if rng.random() < 0.5 else [neg_target, target]
    question = ask(names[root], *(names[node] for node in pair))
    # Backwards from the target, each time to a parent one step closer to the root.
    steps_below = {root: 0} | _steps_below(root, edges)
    path = [target]
    while path[0] != root:
        path.insert(
            0,
            next(
                node
                for node, kind in edges
                if kind == path[0] and steps_below.get(node, _NODES) == steps_below[kind] - 1
            ),
        )
    return ProsQAItem(
        question=" ".join([*(facts[k] for k in rng.permutation(len(facts))), question]),
        answer=fact(names[root], names[target]),
        steps=[fact(names[a], names[b]) for a, b in pairwise(path)],
        idx_to_symbol=names,
        edges=list(edges),
        root=root,
        target=target,
        neg_target=neg_target,
    )
