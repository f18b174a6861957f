"""Edits of the tasks of numbers against plain arithmetic on the edited text."""

import re
from itertools import product

import numpy as np
import pytest

from ntpctp.data.tasks.synthetic.addition import Addition
from ntpctp.data.tasks.synthetic.anchor import Anchor
from ntpctp.data.tasks.synthetic.chain import Chain
from ntpctp.data.tasks.synthetic.modular import Modular
from ntpctp.data.tasks.synthetic.parity import Parity
from tests.data.tasks.edits.edit_checks import check_contrast, check_kept, check_nested, stream
from tests.data.tasks.synthetic.test_anchor import MEMORY, SHIFTS
from tests.data.tasks.synthetic.test_chain import ALLOWED


def edited(task, split, name, strength, index):
    example = task.split(split)[index]
    return task.edits(split)[name].apply(example, strength, stream(name, index))


def add(example):
    a, b = re.fullmatch(r"(\d+)\+(\d+)=", example.text("prompt")).groups()
    assert len(a) == len(b)
    return f"{int(a) + int(b):0{len(a) + 1}d}"


@pytest.mark.parametrize("reverse", [False, True])
def test_addition(reverse):
    task = Addition(digits=3, reverse=reverse, train_size=300, test_size=200, square=[400, 600])

    def solve(example):
        return add(example)[:: -1 if reverse else 1]

    counts = check_kept(task, solve)
    assert set(counts) == {"premise_order"} and counts["premise_order"] > 590
    check_contrast(task, solve)
    for split in ("train", "test", "ood_square"):
        for index, example in enumerate(task.split(split)[:200]):
            new = edited(task, split, "contrast", 1, index).example.text("prompt")
            old = example.text("prompt")
            assert sum(a != b for a, b in zip(old, new, strict=True)) == 1
            inside = all(400 <= int(number) <= 600 for number in new[:-1].split("+"))
            assert inside == (split == "ood_square")


def test_strata_of_addition():
    task = Addition(digits=3, train_size=100, test_size=400)
    assert all(example.strata == () for example in task.split("train"))
    seen = set()
    for index, example in enumerate(task.split("test")):
        new = edited(task, "test", "contrast", 1, index).example
        for one in (example, new):
            a, b = one.text("prompt")[:-1].split("+")
            carry, carries = 0, 0
            for x, y in zip(a[::-1], b[::-1], strict=True):
                carry = int(int(x) + int(y) + carry > 9)
                carries += carry
            digits = max(len(a.lstrip("0")), len(b.lstrip("0")), 1)
            assert one.strata == (("carries", str(carries)), ("digits", str(digits)))
            seen.add(carries)
    assert seen == {0, 1, 2, 3}


def test_addition_of_a_square_of_one_pair_has_no_contrast():
    task = Addition(digits=1, square=[7, 7], train_size=50, test_size=1)
    assert edited(task, "ood_square", "contrast", 1, 0) is None
    assert edited(task, "ood_square", "premise_order", 1, 0) is None


OPERATIONS = {
    "+": lambda x, y, m: (x + y) % m,
    "-": lambda x, y, m: (x - y) % m,
    "*": lambda x, y, m: x * y % m,
    "/": lambda x, y, m: next(z for z in range(m) if z * y % m == x),
    "x^2+y^2": lambda x, y, m: (x**2 + y**2) % m,
    "x^2+xy+y^2": lambda x, y, m: (x**2 + x * y + y**2) % m,
    "x^3+xy": lambda x, y, m: (x**3 + x * y) % m,
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_modular(operation):
    task = Modular(operation=operation, modulus=31)

    def solve(example):
        x, _, y, _ = example.text("prompt").split()
        return str(OPERATIONS[operation](int(x), int(y), 31))

    commutes = all(
        OPERATIONS[operation](x, y, 31) == OPERATIONS[operation](y, x, 31)
        for x, y in product(range(1, 31), repeat=2)
    )
    counts = check_kept(task, solve)
    assert set(counts) == ({"premise_order"} if commutes else set())
    check_contrast(task, solve)


def test_modular_without_another_answer_has_no_contrast():
    task = Modular(operation="x^2+xy+y^2+x", modulus=2)
    without = [
        example.text("prompt")
        for split in ("train", "test")
        for index, example in enumerate(task.split(split))
        if edited(task, split, "contrast", 1, index) is None
    ]
    # 1 o 0 = 0, and so are 0 o 0 and 1 o 1.
    assert without == ["1 o 0 = "]


@pytest.mark.parametrize("relevant", [10, 4])
def test_parity(relevant):
    task = Parity(relevant=relevant)

    def solve(example):
        bits = example.text("prompt").removesuffix("=")
        assert len(bits) == 10
        return str(sum(bits[k] == "1" for k in task.relevant_bits) % 2)

    counts = check_kept(task, solve, without=("premise_order",))
    assert set(counts) == {"premise_order", *(["irrelevant_bits"] if relevant < 10 else [])}
    assert counts["premise_order"] > 1000
    check_contrast(task, solve)
    if relevant < 10:
        for index, example in enumerate(task.split("test")[:50]):
            flipped = edited(task, "test", "irrelevant_bits", 1, index).example.text("prompt")
            differing = [a != b for a, b in zip(example.text("prompt"), flipped, strict=True)]
            assert differing[:-1] == [k not in task.relevant_bits for k in range(10)]
            moved = edited(task, "test", "premise_order", 1, index)
            if moved:
                new = moved.example.text("prompt")
                assert sorted(new) == sorted(example.text("prompt"))


def follow(example, steps):
    *tokens, at = example.text("prompt").split()
    graph = dict(zip(tokens[::2], tokens[1::2], strict=True))
    assert len(graph) == len(tokens) // 2
    for _ in range(steps):
        at = graph[at]
    return at


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.slow
def test_chain(steps):
    task = Chain(steps=steps, train_size=3000, test_size=1500)
    counts = check_kept(task, lambda example: follow(example, steps))
    assert set(counts) == {"premise_order", "renaming", "irrelevant_facts"}
    assert all(count > 1790 for count in counts.values())
    check_contrast(task, lambda example: follow(example, steps))
    check_nested(task, "train", ("renaming",))


@pytest.mark.parametrize("split", ["train", "test", "ood_tokens"])
@pytest.mark.parametrize(
    "name, strength", [("renaming", 1), ("irrelevant_facts", 8), ("contrast", 1)]
)
def test_pairs_of_edited_chains_are_such_as_the_split_has(split, name, strength):
    task = Chain(train_size=200, test_size=200)
    for index, example in enumerate(task.split(split)):
        result = edited(task, split, name, strength, index)
        *tokens, _ = map(int, result.example.text("prompt").split())
        *before, _ = map(int, example.text("prompt").split())
        pairs = list(zip(tokens[::2], tokens[1::2], strict=True))
        if split != "ood_tokens":
            assert {(b - a) % 5 for a, b in pairs} <= ALLOWED[split] and max(tokens) <= 100
        else:
            assert sum(t <= 100 for t in {*tokens}) == 2 and max(tokens) <= 200
        changed = {*tokens} - {*before}
        assert len({*tokens}) == 7 + 16 * (name == "irrelevant_facts")
        # With others of its remainder left, every token is renamed.
        assert len(changed) == {"renaming": 7, "irrelevant_facts": 16, "contrast": 1}[name]


def test_without_tokens_left_nothing_is_added_and_nothing_else_is_the_answer():
    task = Chain(steps=1, num_pairs=3, tokens=20, train_size=60, test_size=5)
    added = [edited(task, "train", "irrelevant_facts", 9, k) for k in range(60)]
    assert added == [None] * 60
    assert any(edited(task, "train", "irrelevant_facts", 7, k) for k in range(60))


def shift(example, first_key=20, memory=0):
    tokens = [int(token) for token in example.text("prompt").split()]
    anchors = [k for k, token in enumerate(tokens) if token < first_key]
    numbers = [tokens[k] for k in anchors]
    assert anchors == list(range(anchors[0], anchors[0] + 2))
    if memory:
        assert numbers[0] > memory
        return str(tokens[anchors[0] - 1] + sum(numbers))
    added = -6 if numbers == [3, 4] else sum(SHIFTS[a] for a in numbers)
    return str(tokens[anchors[0] - 1] + added)


@pytest.mark.parametrize("hold_out", ["paper", "code", "prompts"])
@pytest.mark.slow
def test_anchor(hold_out):
    task = Anchor(hold_out=hold_out, train_size=2000, test_size=300)
    counts = check_kept(task, shift)
    assert set(counts) == {"noise_tokens"} and counts["noise_tokens"] == 1800
    check_contrast(task, shift)
    check_nested(task, "train", ("noise_tokens",))
    modulus = {"paper": 7, "code": 9, "prompts": 0}[hold_out]
    kinds = set()
    for split in ("train", "test", "held_out"):
        for index, example in enumerate(task.split(split)[:200]):
            new = edited(task, split, "contrast", 1, index).example
            old, tokens = (e.text("prompt").split() for e in (example, new))
            (place,) = [k for k in range(9) if old[k] != tokens[k]]
            position = next(k for k, token in enumerate(tokens) if int(token) < 20) - 1
            anchors = " ".join(tokens[position + 1 : position + 3])
            assert (anchors == "4 3") == (split == "held_out")
            assert position <= place <= position + 2
            kinds.add(place - position)
            if modulus and split != "held_out":
                assert (int(tokens[position]) % modulus == position) == (split == "test")
            noise = edited(task, split, "noise_tokens", 1, index).example.text("prompt").split()
            assert [a == b for a, b in zip(old, noise, strict=True)] == [
                position <= k <= position + 2 for k in range(9)
            ]
    assert kinds == {0, 1, 2}


def test_memory_anchors():
    task = Anchor(**MEMORY, train_size=4000, test_size=200)
    taught = {}
    for example in task.split("train"):
        tokens = example.text("prompt").split()
        start = next(k for k, token in enumerate(tokens) if int(token) <= 20)
        taught[tuple(tokens[start - 1 : start + 2])] = example.answer
    known = 0
    for split in ("train", "test", "memory", "held_out"):
        for index, example in enumerate(task.split(split)[:200]):
            for name in ("noise_tokens", "contrast"):
                result = edited(task, split, name, 1, index)
                if result is None:  # of the held-out combinations none differs by one anchor
                    continue
                tokens = result.example.text("prompt").split()
                start = next(k for k, token in enumerate(tokens) if int(token) <= 20)
                triple = tuple(tokens[start - 1 : start + 2])
                assert (result.example.answer == example.answer) == (name != "contrast")
                if triple in taught:
                    known += 1
                    assert result.example.answer == taught[triple]
                elif int(triple[1]) > 10:
                    assert result.example.answer == shift(result.example, 21, 10)
                assert (int(triple[1]) <= 10) == (split == "memory") or split == "train"
    assert known > 200


def test_strata_of_anchor():
    task = Anchor(train_size=50, test_size=200)
    assert all(example.strata == () for example in task.split("train"))
    levels = []
    for split in ("test", "held_out"):
        for index, example in enumerate(task.split(split)):
            for one in (example, edited(task, split, "contrast", 1, index).example):
                anchors = [t for t in one.text("prompt").split() if int(t) < 20]
                assert one.strata == (("anchors", " ".join(anchors)),)
                levels.append(one.strata[0][1])
    assert len(np.unique(levels)) == 16


def test_a_prompt_without_noise_has_none_to_edit():
    task = Anchor(length=3, hold_out="prompts", train_size=5, test_size=5)
    assert edited(task, "train", "noise_tokens", 1, 0) is None
