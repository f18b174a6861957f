"""Edits of any text, of own data, published files and mixtures, and what an edit is."""

import json
import re
from itertools import pairwise

import pytest
from pydantic import TypeAdapter

from ntpctp._core.errors import InputError
from ntpctp._core.options import one_of
from ntpctp._core.rng import generator
from ntpctp.data.cache import encode_task
from ntpctp.data.example import Example, Message, Segment
from ntpctp.data.tasks import TASKS, Gym, JsonLines, PrOntoQA, Published
from ntpctp.data.tasks.edits.base import Edited, prompt_of, with_prompt
from ntpctp.data.tasks.edits.generic import generic_edits
from ntpctp.data.tasks.edits.premises import new_names, swapped
from tests.data.tasks.edits.edit_checks import stream, words
from tests.data.tasks.published.test_published import FILES, FIXTURES

TEXT = (
    "Yesterday Dr. Alice Brown bought 12 apples and seven pears at the market near Oxford. "
    'She gave her brother three of them, but not the "golden" ones from example.com! '
    "How many pears were left over for the others?\n"
)


def asked(prompt=TEXT, answer="Four pears", **options):
    return Example((Segment("prompt", prompt), Segment("answer", answer)), **options)


def edit(example, name, strength, index=0, **options):
    return generic_edits(**options)[name].apply(example, strength, stream(name, index))


def distance(one, other):
    """Edits of one letter, swaps of neighbours among them, by brute force: 0, 1 or more."""
    if one == other:
        return 0
    near = {one[:k] + one[k + 1 :] for k in range(len(one))}
    near |= {one[:k] + one[k] + one[k:] for k in range(len(one))}
    near |= {one[:k] + one[k + 1] + one[k] + one[k + 2 :] for k in range(len(one) - 1)}
    return 1 if other in near else 2


def changed_words(name, strength, example=None, index=0, **options):
    example = example or asked()
    edited = edit(example, name, strength, index, **options)
    assert edited.example.answer == example.answer and edited.renamed == ()
    old, new = re.findall(r"\w+|\W+", TEXT), re.findall(r"\w+|\W+", prompt_of(edited.example))
    return [(a, b) for a, b in zip(old, new, strict=True) if a != b]


def test_typing_errors_are_one_letter_off_and_leave_names_numbers_and_answers():
    seen = {}
    for index in range(200):
        for old, new in changed_words("typos", 0.4, index=index):
            assert distance(old, new) == 1 and old[0] == new[0] and len(old) >= 3
            seen.setdefault(old, set()).add(new)
    assert set(seen) == {
        *("bought", "apples", "the", "market", "near", "gave", "her", "brother", "them", "but"),
        *("ones", "from", "were", "left", "over", "for", "others"),
    }
    assert all(len(wrong) > 1 for old, wrong in seen.items())


def test_a_typing_error_is_no_word_that_matters():
    for index in range(100):
        for old, new in changed_words("typos", 1, index=index, protected={"ones", "gve"}):
            assert old != "ones" and new != "gve"
    note = asked("A note for them is known.")
    wrong = {prompt_of(edit(note, "typos", 1, index).example) for index in range(300)}
    assert len(wrong) > 50 and not any(re.search(r"\bnot\b", text) for text in wrong)


def test_case_changes_nothing_but_case():
    pairs = changed_words("case", 1)
    assert all(new in (old.upper(), old.lower()) for old, new in pairs)
    changed = {old for old, _ in pairs}
    assert {"bought", "at", "of", "not", "seven"} <= changed
    assert not changed & {"Alice", "Brown", "Oxford", "pears", "golden", "example", "12"}
    shouted = edit(asked("READ this please."), "case", 1, names=False)
    assert prompt_of(shouted.example) == "read THIS PLEASE."


def test_white_space_changes_nothing_else_and_not_the_end():
    seen = set()
    for index in range(30):
        new = prompt_of(edit(asked(), "white_space", 1, index).example)
        assert words(new) == words(TEXT) and new.endswith("others?\n")
        gaps = re.findall(r"\s+", new)
        assert len(gaps) == len(re.findall(r"\s+", TEXT)) and " " not in gaps
        seen |= set(gaps[:-1])
        assert re.search(r"for\s+the", new)[0] == "for  the"
    assert seen == {"  ", "\n", " \n"}


@pytest.mark.parametrize("name", ["typos", "case", "white_space"])
def test_strengths_are_shares_and_nested(name):
    tokens = re.compile(r"\S+\s*")
    before = None
    numbers = []
    for strength in (0.01, 0.25, 0.5, 1):
        new = tokens.findall(prompt_of(edit(asked(), name, strength).example))
        changed = {
            k: a for k, (a, b) in enumerate(zip(new, tokens.findall(TEXT), strict=True)) if a != b
        }
        assert before is None or before.items() <= changed.items()
        before = changed
        numbers.append(len(changed))
    most = numbers[-1]
    assert numbers == [1, round(most / 4), round(most / 2), most] and most > 14


def test_the_seed_decides():
    for name in ("typos", "case", "white_space"):
        strength = generic_edits()[name].strengths[1]
        texts = [prompt_of(edit(asked(), name, strength, index).example) for index in (0, 0, 1, 2)]
        assert texts[0] == texts[1] and len({*texts}) == 3


def test_nothing_to_edit():
    plain = Example((Segment("text", "Nothing is asked here."),))
    only_answer = Example((Segment("answer", "4"),))
    for example in (plain, only_answer, asked("2+2=", "4")):
        for name, one in generic_edits().items():
            assert one.apply(example, 1, stream(name, 0)) is None
            assert one.apply(example, 0, stream(name, 0)) == Edited(example)


def test_of_a_chat_the_last_message_of_the_user_is_edited():
    turns = [
        Message("system", "You are very helpful."),
        Message("user", "Tell me something about rivers."),
        Message("assistant", "They are long."),
        Message("user", "And what about mountains then?"),
        Message("assistant", "They are high.", '{"tool_calls": []}'),
    ]
    chat = Example(messages=tuple(turns))
    edited = edit(chat, "case", 1).example.messages
    assert [a == b for a, b in zip(turns, edited, strict=True)] == [True, True, True, False, True]
    assert edited[3].content == "And WHAT ABOUT MOUNTAINS THEN?"
    alone = Example(messages=(Message("system", "Say something nice."), turns[-1]))
    assert edit(alone, "case", 1) is None


def test_marks_behind_the_prompt_move_with_the_text():
    example = asked("Say it now: ", "It is 4.", spans=((0, 3), (18, 19)))
    (span,) = with_prompt(example, "Say it  now: ").spans
    assert (
        "".join(s.text for s in with_prompt(example, "Say it  now: ").segments)[slice(*span)] == "4"
    )


def test_names_come_back_all_at_once():
    edited = Edited(asked(), renamed=(("Rex", "Tom"), ("Tom", "Max"), ("impus", "wumpus")))
    assert edited.restored("Rex is a Tom, an impus, Rexy.") == "Tom is a Max, an wumpus, Rexy."


def test_new_names_when_few_are_left():
    names = dict.fromkeys("abcd", "abcde")
    chosen = [new_names(names, share, generator(0)) for share in (0.25, 0.5, 1)]
    assert [len(new) for new in chosen] == [1, 2, 4]
    assert all(weak.items() <= strong.items() for weak, strong in pairwise(chosen))
    for new in chosen:
        # Whoever keeps the old name, no name is given twice.
        assert len({new.get(name, name) for name in names}) == 4
        assert all(old != name for old, name in new.items())
    assert new_names(dict.fromkeys("abc", "abc"), 1, generator(0)) == {}


def test_swaps_are_nested():
    items = list("abcdefgh")
    moved = [swapped(items, share, generator(1)) for share in (0.25, 0.5, 1)]
    changed = [
        {(k, a) for k, (a, b) in enumerate(zip(new, items, strict=True)) if a != b} for new in moved
    ]
    assert [len(c) for c in changed] == [2, 4, 8] and changed[0] < changed[1] < changed[2]
    assert all(sorted(new) == items for new in moved)
    assert swapped(["a", "a"], 1, generator(1)) == ["a", "a"]


@pytest.mark.parametrize(
    "name, strength, match",
    [
        ("renaming", 1.5, r"share of the names\): expected a number from 0 to 1, found 1.5"),
        ("renaming", -0.1, "found -0.1"),
        ("irrelevant_facts", 1.5, r"premises added\): expected a whole number from 0, found 1.5"),
        ("contrast", 2, "a whole number from 0 to 1, found 2"),
    ],
)
def test_strengths_are_checked(name, strength, match):
    task = PrOntoQA(train_size=1, test_size=1)
    with pytest.raises(InputError, match=match):
        task.edits("train")[name].apply(task.split("train")[0], strength, generator(0))


def test_unknown_split():
    with pytest.raises(InputError, match="unknown split of prontoqa 'tset'; did you mean 'test'"):
        PrOntoQA().edits("tset")


def test_every_generated_task_has_edits_of_both_kinds_and_says_what_they_are():
    names = [
        name
        for name, kind in TASKS.items()
        if not any(f.is_required() for f in kind.model_fields.values())
    ]
    assert len(names) == 10
    for name in names:
        task = TASKS[name]()
        for split in ("train", *task.evaluation_splits):
            edits = task.edits(split)
            # Of numbers, subtraction has nothing that keeps the answer.
            assert "contrast" in edits and any(e.keeps_answer for e in edits.values())
            for one in edits.values():
                assert one.description and one.unit and len(one.strengths) >= 2
                assert one.strengths[0] == 0 and one.strengths[-1] <= one.largest


@pytest.fixture
def own(tmp_path):
    def write(*rows, **options):
        path = tmp_path / "own.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
        return JsonLines(path=str(path), **options)

    return write


def test_own_data_have_the_edits_of_any_text(own):
    task = own(
        *({"prompt": f"How many legs have {k} cats?", "answer": str(4 * k)} for k in range(9))
    )
    assert set(task.edits("test")) == {"typos", "white_space", "case"}
    for example in task.split("test"):
        for name, one in task.edits("test").items():
            edited = one.apply(example, one.strengths[-1], stream(name, 0)).example
            assert edited.answer == example.answer and edited != example
            assert re.findall(r"\d+", prompt_of(edited)) == re.findall(r"\d+", prompt_of(example))


@pytest.mark.parametrize("value, level", [("hard", "hard"), (3, "3"), (0, "0"), (True, "True")])
def test_strata_of_own_data(own, value, level):
    row = {"prompt": "a", "answer": "b", "level": value, "topic": "x"}
    task = own(row, row | {"prompt": "c"}, strata=["topic", "level"])
    assert [e.strata for e in task.split("train")] == [(("topic", "x"), ("level", level))]
    chat = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    task = own(chat | {"level": value}, row, strata=["level"])
    assert {e.strata for s in ("train", "test") for e in task.split(s)} == {(("level", level),)}
    task = own({"text": "a", "level": value}, {"text": "b", "level": value}, strata=["level"])
    assert [e.strata for e in task.split("train")] == [(("level", level),)]


@pytest.mark.parametrize(
    "row, match",
    [
        ({"lvl": "x"}, r"own.jsonl, line 2: field 'level' is missing; did you mean 'lvl'.*strata"),
        ({"level": None}, "line 2: field 'level' is missing"),
        ({"level": ""}, "line 2: field 'level' is missing"),
        ({"level": [1]}, r"line 2: field 'level': expected a string, a number .* found \[1\]"),
    ],
)
def test_a_missing_stratum_names_the_line(own, row, match):
    task = own(
        {"prompt": "a", "answer": "b", "level": "x"},
        {"prompt": "c", "answer": "d"} | row,
        strata=["level"],
    )
    with pytest.raises(InputError, match=match):
        task.split("train")


def published(name, file=None):
    path = str(FIXTURES / (file or FILES[name]))
    task = Published(format=name, path=path)
    return task, [*task.split("train"), *task.split("test")]


@pytest.mark.parametrize(
    "name, file, strata",
    [
        ("ruletaker", None, {("depth", "0"), ("depth", "1")}),
        ("clutrr", None, {("hops", "2")}),
        ("clutrr", "clutrr_hub.csv", {("hops", "2")}),
        ("gsm8k", None, set()),
        ("scan", None, set()),
        ("prontoqa", None, set()),
        ("logicasker", None, set()),
    ],
)
def test_strata_are_what_a_published_file_says(name, file, strata):
    _, examples = published(name, file)
    assert {stratum for e in examples for stratum in e.strata} == strata
    assert all(len(e.strata) == (1 if strata else 0) for e in examples)


def test_the_type_is_a_stratum_of_cogs():
    _, examples = published("cogs")
    lines = (FIXTURES / FILES["cogs"]).read_text("utf-8").splitlines()
    types = {line.split("\t")[0] + "\n": line.split("\t")[2].strip() for line in lines}
    assert [dict(e.strata)["type"] for e in examples] == [types[prompt_of(e)] for e in examples]


def test_a_rule_base_without_depths_has_no_stratum(tmp_path):
    file = tmp_path / "a.jsonl"
    row = {"context": "Bob is red.", "questions": [{"text": "Bob is red.", "label": True}]}
    file.write_text(json.dumps(row) + "\n" + json.dumps(row | {"context": "Al is red."}), "utf-8")
    task = Published(format="ruletaker", path=str(file))
    assert [e.strata for e in task.split("train")] == [()]


@pytest.mark.parametrize("name", FILES)
def test_published_items_have_the_edits_of_any_text(name):
    task, examples = published(name)
    assert set(task.edits("test")) == {"typos", "white_space", "case"}
    changed = 0
    for index, example in enumerate(examples):
        for kind, one in task.edits("test").items():
            edited = one.apply(example, one.strengths[-1], stream(kind, index))
            if edited is None:
                continue
            changed += 1
            assert edited.example.segments[1:] == example.segments[1:]
            old, new = words(prompt_of(example)), words(prompt_of(edited.example))
            touched = {a.strip(".,:?").lower() for a, b in zip(old, new, strict=True) if a != b}
            if name in ("prontoqa", "ruletaker"):
                assert touched <= {
                    "each",
                    "every",
                    "are",
                    "people",
                    "someone",
                    "then",
                    "they",
                    "the",
                }
            assert not touched & {"son", "mother", "sister", "brother", "true", "false", "yes"}
    assert changed >= len(examples)


ADAPTER = TypeAdapter(one_of(TASKS))


def mixture(weight):
    sizes = {"train_size": 30, "test_size": 20}
    parts = {
        "sum": {"task": {"name": "addition", **sizes}},
        "logic.small": {"task": {"name": "prontoqa", **sizes}, "weight": weight},
        "trees": {"task": {"name": "ruletaker", **sizes}, "weight": 0, "measured": False},
    }
    return ADAPTER.validate_python({"name": "mixture", "parts": parts})


def test_a_mixture_has_the_edits_of_the_part():
    task = mixture(1)
    for part, split in (("sum", "test"), ("logic.small", "test"), ("logic.small", "ood_words")):
        own = task.parts[part].task.edits(split)
        edits = task.edits(f"{part}.{split}")
        assert list(edits) == list(own)
        example = task.split(f"{part}.{split}")[0]
        for name, one in edits.items():
            found = one.apply(example, 1, stream(name, 0))
            assert found == own[name].apply(example, 1, stream(name, 0))
    assert task.edits("train") == {}  # of two parts in turn
    assert set(mixture(0).edits("train")) == {"premise_order", "contrast"}
    with pytest.raises(InputError, match=r"unknown split of mixture 'trees\.test'"):
        task.edits("trees.test")


def test_questions_of_reasoning_gym_have_the_edits_of_any_text():
    task = Gym(dataset="leg_counting", train_size=20, test_size=5)
    for index, example in enumerate(task.split("train")):
        for name, one in task.edits("train").items():
            edited = one.apply(example, one.strengths[1], stream(name, index)).example
            assert edited.judge == example.judge and edited.answer == example.answer
            assert prompt_of(edited) != prompt_of(example)
            assert re.findall(r"\d+", prompt_of(edited)) == re.findall(r"\d+", prompt_of(example))


def test_examples_read_back_from_a_file_are_edited_alike(tmp_path):
    task = PrOntoQA(form="cloze", reasoning=True, train_size=20, test_size=5)
    stored = encode_task(task, "words", tmp_path).splits["test"].examples
    for index, example in enumerate(task.split("test")):
        assert stored[index] == example and stored[index].strata == (("hops", "3"),)
        for name, one in task.edits("test").items():
            strength = one.strengths[-1]
            assert one.apply(stored[index], strength, stream(name, index)) == one.apply(
                example, strength, stream(name, index)
            )
