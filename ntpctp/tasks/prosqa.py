"""ProsQA: which of two made-up kinds is this person? A search in a graph.

Source: "Training Large Language Models to Reason in a Continuous Latent Space" (Coconut, Hao et
al. 2024, arXiv 2412.06769) and the files in github.com/facebookresearch/coconut.

    prompt     "Every yumpus is a fompus. Sally is a zhorpus. Stella is a yumpus. Every zhorpus is
                a worpus. [about 36 such facts] Is Sally a fompus or worpus?"
    reasoning  "Sally is a zhorpus. Every zhorpus is a worpus. Answer: "      (on request)
    answer     "Sally is a worpus."

The right kind can be reached from the person asked about, the wrong one only from another person.
Both the generator and the published JSON give an ``Item``, which has the published fields.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from heapq import nsmallest
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ntpctp.errors import InputError, lookup, nearest
from ntpctp.randomness import generator
from ntpctp.storage import read_json
from ntpctp.tasks.example import Example, Segment, Task
from ntpctp.tasks.files import fingerprint_of

# Every name and kind of the published validation file (facebookresearch/coconut), so that a closed
# vocabulary built over generated items covers the published ones.
# fmt: off
PEOPLE = (
    "Alex", "Bob", "Carol", "Davis", "Eva", "Fae", "Gabriel", "Jack", "Max", "Oliver", "Polly",
    "Rex", "Sally", "Sam", "Stella", "Tom", "Wren",
)
KINDS = (
    "bompus", "boompus", "brimpus", "chorpus", "dumpus", "felpus", "fompus", "gerpus", "gorpus",
    "grimpus", "gwompus", "hilpus", "impus", "jelpus", "jompus", "kerpus", "lempus", "lorpus",
    "numpus", "quimpus", "rempus", "rompus", "rorpus", "scrompus", "shumpus", "sterpus", "storpus",
    "terpus", "timpus", "tumpus", "vumpus", "worpus", "wumpus", "yerpus", "yimpus", "yumpus",
    "zhorpus", "zumpus",
)
# fmt: on

# Fitted by hand to the 800 published validation and test items; the tests hold the generator to
# tests/fixtures/prosqa_statistics.json. 28 nodes less those that a Poisson draw leaves without a
# fact give the published 22.8 +- 2.0 nodes.
_NODES = 28
_MEAN_PARENTS = 1.45
_SIDE_SHARES = (0.345, 0.495)  # parents only from the side of person 0, of person 1; else from both
_DEPTH_WEIGHT = 1.3  # a parent d steps below a person is 1 + 1.3 d times as likely as that person
_BYSTANDER_WEIGHT = 0.05  # of people who are neither 0 nor 1, and of what descends from them alone
_MIN_HOPS = 3  # no published question is shorter; the longest has 6
_MARKER = "Answer: "


class Item(BaseModel):
    """One question with its graph, in the fields of the published files.

    Nodes are numbered; ``edges`` holds [node, kind it is]. Further fields are ignored.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    question: str
    answer: str
    steps: list[str] = Field(min_length=1)
    idx_to_symbol: list[str]
    # JSON has lists for pairs.
    edges: list[Annotated[tuple[int, int], Field(strict=False)]]
    root: int
    target: int
    neg_target: int

    @model_validator(mode="after")
    def _text_agrees_with_graph(self) -> "Item":
        names = self.idx_to_symbol
        for field in ("root", "target", "neg_target"):
            if not 0 <= getattr(self, field) < len(names):
                raise ValueError(
                    f"{field} is {getattr(self, field)}, but idx_to_symbol has {len(names)} entries"
                )
        right, wrong = names[self.target], names[self.neg_target]
        asked = [_ask(names[self.root], *pair) for pair in ((right, wrong), (wrong, right))]
        if not self.question.endswith(tuple(asked)):
            raise ValueError(
                f"expected question to end with {asked[0]!r} or {asked[1]!r}, as root, target and "
                f"neg_target say, found {self.question[-60:]!r}"
            )
        if self.answer != _fact(names[self.root], right):
            raise ValueError(
                f"expected answer {_fact(names[self.root], right)!r}, as root and target say, "
                f"found {self.answer!r}"
            )
        return self

    def example(self, reasoning: bool, source: str = "") -> Example:
        """Return the item as an example; its choices stand in the order of the question."""
        root, right, wrong = (
            self.idx_to_symbol[node] for node in (self.root, self.target, self.neg_target)
        )
        pair = (
            (right, wrong) if self.question.endswith(_ask(root, right, wrong)) else (wrong, right)
        )
        steps = Segment("reasoning", "\n".join([*self.steps, _MARKER]))
        return Example(
            (
                Segment("prompt", self.question + "\n"),
                *([steps] if reasoning else []),
                Segment("answer", self.answer),
            ),
            choices=(_fact(root, pair[0]), _fact(root, pair[1])),
            answer_marker=_MARKER if reasoning else "",
            source=source,
        )


class ProsQA(Task):
    """Which of two kinds is this person? Generated items, published files, or one of each.

    Generated items follow the statistics of the published ones, including their one shortcut: the
    right kind tends to stand in fewer facts (guessing so is right for 66 % of the published
    items and 68 % of the generated ones). ``equal_mentions`` removes it.
    """

    name: Literal["prosqa"] = "prosqa"
    train_size: int = Field(5000, ge=1, description="generated training examples")
    test_size: int = Field(500, ge=1, description="generated held-out examples")
    train_path: str | None = Field(None, description="published JSON file to train on instead")
    test_path: str | None = Field(None, description="published JSON file to test on instead")
    reasoning: bool = Field(False, description="the steps of the proof come before the answer")
    equal_mentions: bool = Field(
        False, description="generate only items whose two kinds stand in equally many facts"
    )
    seed: int = Field(0, ge=0, description="draws the items; the same for all arms and runs")

    pieces: ClassVar[Literal["words"]] = "words"

    @model_validator(mode="after")
    def _size_or_path(self) -> "ProsQA":
        for split in ("train", "test"):
            if getattr(self, f"{split}_path") and self.changed(f"{split}_size"):
                raise ValueError(
                    f"{split}_size is the number of generated items, but {split}_path takes them "
                    "from a file: leave one of them out"
                )
        return self

    @property
    def evaluation_splits(self) -> tuple[str, ...]:  # noqa: D102
        return ("test",)

    @cached_property
    def _splits(self) -> dict[str, list[Example]]:
        return {}

    def source_fingerprint(self) -> str | None:  # noqa: D102
        return fingerprint_of([self.train_path, self.test_path])

    def split(self, name: str) -> Sequence[Example]:  # noqa: D102
        path, size = lookup(
            {
                "train": (self.train_path, self.train_size),
                "test": (self.test_path, self.test_size),
            },
            name,
            "split of prosqa",
        )
        if name not in self._splits:
            self._splits[name] = (
                [item.example(self.reasoning, where) for item, where in read(Path(path))]
                if path
                else [
                    draw(generator(self.seed, "prosqa", name, index), self.equal_mentions).example(
                        self.reasoning
                    )
                    for index in range(size)
                ]
            )
        return self._splits[name]


def read(path: Path) -> list[tuple[Item, str]]:
    """Read a published file: its items, each with the words that say where it stands.

    Raises:
        InputError: names the file, the item (counted from 1) and the field.
    """
    if not path.is_file():
        raise InputError(f"{path}: expected a ProsQA file (JSON), found no such file")
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise InputError(
            f"{path}: expected a JSON list of at least one ProsQA item, found "
            f"{'an empty list' if rows == [] else type(rows).__name__}"
        )
    return [
        (_item(row, where), where)
        for row, where in ((row, f"{path}, item {k}") for k, row in enumerate(rows, start=1))
    ]


def _item(row: Any, where: str) -> Item:
    if not isinstance(row, Mapping):
        raise InputError(f"{where}: expected a JSON object, found {type(row).__name__}")
    try:
        return Item.model_validate(row)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        if problem["type"] == "missing":
            message = f"field {field!r} is missing{nearest(field, row)} (found: {', '.join(row)})"
        elif field:
            message = f"field {field!r}: {problem['msg']}, found {str(problem['input'])[:80]!r}"
        else:
            message = problem["msg"].removeprefix("Value error, ")
        raise InputError(f"{where}: {message}") from error


def draw(rng: np.random.Generator, equal_mentions: bool = False) -> Item:
    """Draw one item.

    The person asked about is the one of nodes 0 and 1 whose own kinds reach deeper; the right
    kind is one of the deepest of them, the wrong kind any of the other person's own, and neither
    is the subject of a fact. All this holds for every published item.
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

    Node by node: a Poisson number of parents among the earlier nodes of one side (descendants of
    person 0, or of person 1) or of both. A node without parents is a person; one that is in no
    edge is dropped, except persons 0 and 1.
    """
    num_parents = np.minimum(rng.poisson(_MEAN_PARENTS, _NODES), np.arange(_NODES)).tolist()
    sides_open = rng.choice([1, 2, 3], _NODES, p=[*_SIDE_SHARES, 1 - sum(_SIDE_SHARES)]).tolist()
    # The k smallest of exponential / weight are k draws without replacement by weight.
    race = rng.exponential(size=(_NODES, _NODES)).tolist()
    side, depth, weight = [1, 2], [0, 0], [1.0, 1.0]  # side: bit 0 and bit 1 for persons 0 and 1
    edges: list[tuple[int, int]] = []
    for child in range(2, _NODES):
        # A bystander (side 0) may join anywhere but among the kinds of person 0 alone.
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
    """Smallest number of steps from ``start`` to every kind that it is."""
    steps = {start: 0}
    # A child stands behind all its parents, so one pass in the order of the children is enough.
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
) -> Item:
    """Give every node a name and write the facts in random order."""
    kinds = {kind for _, kind in edges}
    num_nodes = 1 + max(0, 1, *kinds, *(node for node, _ in edges))
    people, words = iter(rng.permutation(PEOPLE).tolist()), iter(rng.permutation(KINDS).tolist())
    names = [next(words) if node in kinds else next(people) for node in range(num_nodes)]
    facts = [_fact(names[node], names[kind]) for node, kind in edges]
    pair = [target, neg_target] if rng.random() < 0.5 else [neg_target, target]
    question = _ask(names[root], *(names[node] for node in pair))
    # Backwards from the target, always to a parent that is one step nearer to the root.
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
    return Item(
        question=" ".join([*(facts[k] for k in rng.permutation(len(facts))), question]),
        answer=_fact(names[root], names[target]),
        steps=[_fact(names[a], names[b]) for a, b in pairwise(path)],
        idx_to_symbol=names,
        edges=list(edges),
        root=root,
        target=target,
        neg_target=neg_target,
    )


def _fact(subject: str, kind: str) -> str:
    """A fact in the published wording, which says "a" before every word ("a impus")."""
    return f"{'' if subject[0].isupper() else 'Every '}{subject} is a {kind}."


def _ask(person: str, first: str, second: str) -> str:
    return f"Is {person} a {first} or {second}?"
