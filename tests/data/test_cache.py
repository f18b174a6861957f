"""Encoded tasks: rows against a plain loop, the cache against what is made anew."""

import hashlib
import json
import pickle
import tracemalloc
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntpctp import data
from ntpctp._core.errors import InputError
from ntpctp.data import cache
from ntpctp.data.cache import encode_task
from ntpctp.data.encoded import Chain, EncodedExamples, Selection, lengths, role_patterns
from ntpctp.data.example import Example, Segment
from ntpctp.data.tasks import Addition, Anchor, JsonLines, ProsQA
from ntpctp.data.tokenize import ROLE_CODES, Vocabulary, closed_tokenizer, encode, encode_examples
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.runner.prepare import encoded_beside, prepare
from tests.data.published_tokenizer import gpt2_tokenizer


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return gpt2_tokenizer(tmp_path_factory.mktemp("gpt2"), "{{ messages }}")


def slowly(example, tokenizer):
    """Reference: segment by segment through the tokenizer's own call; ids, roles, offsets."""
    ids, roles, offsets, text = [], [], [], ""
    for segment in example.segments:
        found = tokenizer(segment.text, add_special_tokens=False, return_offsets_mapping=True)
        ids += found.input_ids
        roles += [ROLE_CODES[segment.role]] * len(found.input_ids)
        offsets += [(a + len(text), b + len(text)) for a, b in found.offset_mapping]
        text += segment.text
    last = ROLE_CODES[example.segments[-1].role]
    return [*ids, tokenizer.eos_token_id], [*roles, last], [*offsets, (len(text),) * 2], text


def assert_same(row, expected):
    ids, roles, offsets, text = expected
    assert (row.input_ids.tolist(), row.roles.tolist(), row.text) == (ids, roles, text)
    assert list(map(tuple, row.offsets.tolist())) == offsets
    given = [code in (ROLE_CODES["prompt"], ROLE_CODES["text"]) for code in roles[:-1]]
    assert row.answer_start == sum(given)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=4), st.booleans())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_batches_are_encoded_as_a_loop_would(gpt2, texts, published):
    examples = [
        Example(
            (
                Segment("prompt", prompt),
                *([Segment("reasoning", reasoning + "#")] if k % 2 else []),
                Segment("answer", answer + "."),
            ),
            answer_marker="#" if k % 2 else "",
        )
        for k, (prompt, reasoning, answer) in enumerate(texts)
        if (answer + ".").strip()
    ] + [Example((Segment("text", texts[0][0] + "!"),))]
    if published:
        tokenizer = gpt2
    else:
        tokenizer = closed_tokenizer((s.text for e in examples for s in e.segments), "characters")
    for example, row in zip(examples, encode_examples(examples, tokenizer), strict=True):
        assert_same(row, slowly(example, tokenizer))


@given(st.lists(TEXT, max_size=5), st.sampled_from(["characters", "words"]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_vocabulary_is_what_its_tokenizer_cuts(texts, pieces):
    tokenizer = closed_tokenizer(texts, pieces)
    cut = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str
    found = {piece for text in texts for piece, _ in cut(text)}
    assert found == set(tokenizer.get_vocab()) - {"<pad>", "<eos>", "<unk>"}
    gathered = Vocabulary(pieces)
    for text in texts:
        gathered.add(text)
    assert gathered.tokenizer().get_vocab() == tokenizer.get_vocab()


def some_rows():
    examples = [Example((Segment("prompt", "a" * k), Segment("answer", "b"))) for k in (1, 3, 1, 2)]
    return encode(examples, closed_tokenizer(["ab"], "characters"))


def test_flat_rows_views_and_chains_are_the_rows_themselves():
    rows = some_rows()
    flat = EncodedExamples.of(rows)
    chained = Chain([EncodedExamples.of(rows[:1]), EncodedExamples.of(rows[1:])])
    for lazy in (flat, chained, Selection(chained, np.arange(4)), chained[:], flat[:]):
        assert len(lazy) == 4
        assert [r.input_ids.tolist() for r in lazy] == [r.input_ids.tolist() for r in rows]
        assert lengths(lazy).tolist() == [3, 5, 3, 4] == lengths(rows).tolist()
        assert lazy[-1].text == "aab" and lazy[1].input_ids.dtype == np.int64
        assert [len(row) for row in lazy[1:3]] == [5, 3]
        # The first row of every pattern, in order; rows 0 and 2 are alike.
        assert list(role_patterns(lazy).values()) == [0, 1, 3]
        with pytest.raises(IndexError):
            lazy[4]
    assert role_patterns(rows) == role_patterns(flat) == role_patterns(chained)
    assert len(EncodedExamples.of([])) == 0 and len(lengths(Chain([]))) == 0


@pytest.fixture
def own_file(tmp_path):
    """A task that has every field an example can have."""
    path = tmp_path / "own.jsonl"
    rows = [
        {
            "prompt": f"{k}?",
            "answer": str(k),
            "reasoning": "so",
            "choices": [str(k), "x"],
            "spans": [[0, 1], [2, 3]],
        }
        for k in range(9)
    ] + [{"prompt": f"{k}\N{GRINNING FACE}", "answer": "\u00e9"} for k in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return JsonLines(path=str(path))


def assert_alike(first, second):
    assert first.splits.keys() == second.splits.keys()
    assert first.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    for name, split in first.splits.items():
        other = second.splits[name]
        assert split.fingerprint == other.fingerprint
        assert list(split.examples) == list(other.examples) and len(split.examples) > 0
        for row, its in zip(split.encoded, other.encoded, strict=True):
            assert_same(
                its, (*(a.tolist() for a in (row.input_ids, row.roles)), offs(row), row.text)
            )
            assert (row.marked, row.num_merged) == (its.marked, its.num_merged)


def offs(row):
    return list(map(tuple, row.offsets.tolist()))


@pytest.mark.parametrize("chunk", [4, 5000])
def test_stored_is_what_was_made(chunk, gpt2, own_file, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_CHUNK", chunk)
    tasks = [
        (Addition(digits=1, train_size=20, test_size=9), "characters"),
        (Anchor(train_size=30, test_size=20), "words"),  # with references
        (ProsQA(train_size=4, test_size=3, reasoning=True), "words"),
        (own_file, "characters"),
        (own_file, gpt2),
    ]
    for task, tokenizer in tasks:
        made = encode_task(task, tokenizer)
        assert_alike(made, encode_task(task, tokenizer, tmp_path / "cache"))
        monkeypatch.setattr(cache, "_made", None)  # the second start makes nothing
        assert_alike(made, encode_task(task, tokenizer, tmp_path / "cache"))
        monkeypatch.undo()
        monkeypatch.setattr(cache, "_CHUNK", chunk)
    assert len(list((tmp_path / "cache").iterdir())) == len(tasks)


def test_the_files_are_ordinary(tmp_path):
    task = Addition(digits=1, train_size=20, test_size=9)
    made = encode_task(task, "characters", tmp_path)
    (directory,) = tmp_path.iterdir()
    loaded = datasets.Dataset.from_file(str(directory / "train.arrow"))
    assert loaded["input_ids"][:] == [
        row.input_ids.tolist() for row in made.splits["train"].encoded
    ]
    assert loaded[3]["text"] == "".join(task.split("train")[3].key)


@pytest.mark.parametrize("name", ["record.json", "train.arrow", "tokenizer/tokenizer.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_what_is_damaged_is_made_anew(name, damage, tmp_path):
    task = Addition(digits=1, train_size=20, test_size=9)
    made = encode_task(task, "characters")
    encode_task(task, "characters", tmp_path)
    (directory,) = tmp_path.iterdir()
    path = directory / name
    before = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(before[: len(before) // 2])
    else:
        middle = len(before) // 2
        path.write_bytes(before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :])
    assert_alike(made, encode_task(task, "characters", tmp_path))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [directory]


def test_a_bad_example_leaves_nothing_behind(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "a", "answer": "b"}\n{"prompt": "", "answer": "b"}\n')
    with pytest.raises(InputError, match="line 2: no token precedes the answer"):
        encode_task(JsonLines(path=str(path)), "characters", tmp_path / "cache")
    assert list(tmp_path.iterdir()) == [path]


def test_everything_that_decides_is_in_the_key(own_file, tmp_path, monkeypatch):
    base = Addition(digits=1, train_size=20, test_size=9)

    def directories():
        return {path.name for path in (tmp_path / "cache").iterdir()}

    def is_new(task, tokenizer):
        before = directories()
        encode_task(task, tokenizer, tmp_path / "cache")
        return bool(directories() - before)

    encode_task(base, "characters", tmp_path / "cache")
    assert not is_new(base, "characters")
    assert is_new(base, "words")
    assert is_new(base.model_copy(update={"seed": 1}), "characters")
    fixed = closed_tokenizer(["0123456789+="], "characters")
    assert is_new(base, fixed) and not is_new(base, pickle.loads(pickle.dumps(fixed)))
    assert is_new(base, closed_tokenizer(["0123456789+=a"], "characters"))
    monkeypatch.setattr(cache, "FORMAT", -1)
    assert is_new(base, "characters")
    assert is_new(own_file, "characters") and not is_new(own_file, "characters")
    with open(own_file.path, "a") as file:
        file.write('{"prompt": "new", "answer": "line"}\n')
    assert is_new(JsonLines(path=own_file.path), "characters")


def test_every_file_that_makes_or_encodes_examples_is_in_the_key(monkeypatch):
    task = Addition(digits=1, train_size=20, test_size=9)
    folder = Path(data.__file__).parent
    files = sorted(folder.rglob("*.py"))
    assert len(files) > 60 and {len(file.relative_to(folder).parts) for file in files} == {1, 2, 3}
    key = cache._key(task, "characters")

    def with_a_changed_byte(path):
        content = path.read_bytes() + (b" " if path == changed else b"")
        return hashlib.sha256(content).hexdigest()

    monkeypatch.setattr(cache, "sha256_of", with_a_changed_byte)
    changed = None
    assert cache._key(task, "characters") == key
    for changed in files:
        assert cache._key(task, "characters") != key, changed


def test_what_may_have_changed_is_not_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(Addition, "source_fingerprint", lambda self: None)
    task = Addition(digits=1, train_size=20, test_size=9)
    assert_alike(encode_task(task, "characters"), encode_task(task, "characters", tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_is_encoded_once(tiny, tmp_path, monkeypatch):
    changes = {"model": {"family": "gpt2", "layers": 1, "width": 8, "heads": 2, "context": 8}}
    first = prepare(tiny(**changes), tmp_path)
    monkeypatch.setattr(cache, "_made", None)
    again = prepare(tiny(**changes), tmp_path)
    assert first.fingerprint == again.fingerprint and first.longest == again.longest == 7
    assert encoded_beside(Path("runs") / "a") == Path("runs/.encoded")


def test_training_data_is_not_copied_into_memory(tiny, tmp_path):
    task = {"name": "addition", "digits": 4, "train_size": 9_900, "test_size": 100}
    experiment = tiny(task=task)
    prepare(experiment, tmp_path)
    tracemalloc.start()
    split = prepare(experiment, tmp_path).splits["train"]
    rows = SupervisedExamples(split.encoded, experiment.arms["ctp"].objective)
    for start in range(0, 9_900, 100):
        rows.batch(range(start, start + 32), 0)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # As objects 10,000 rows with labels and weights are more than 10 MB.
    assert held < 4e6 and peak < 8e6
