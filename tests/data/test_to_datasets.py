"""Tasks as data sets: tokens as the library encodes them, and the same examples read back."""

import subprocess
import sys
from dataclasses import replace

import datasets
import pytest

from ntpctp._core.errors import InputError
from ntpctp.data.cache import encode_task
from ntpctp.data.example import ROLES
from ntpctp.data.tasks import TASKS, Dataset, Example, Message, PythonFunction, Segment
from ntpctp.data.tokenize import closed_tokenizer, encode

SMALL = {"train_size": 12, "test_size": 6}
GENERATED = [
    ("addition", {**SMALL, "digits": 2}),
    ("anchor", SMALL),
    ("chain", SMALL),
    ("kinship", SMALL),
    ("modular", {"modulus": 5}),
    ("parity", {"bits": 4, "relevant": 2}),
    ("prontoqa", {**SMALL, "reasoning": True}),
    ("prosqa", {**SMALL, "reasoning": True}),
    ("ruletaker", SMALL),
    ("simple_logic", SMALL),
    ("gym", {**SMALL, "dataset": "leg_counting"}),
    (
        "mixture",
        {
            "parts": {
                "sum": {"task": {"name": "addition", **SMALL}},
                "bits": {"task": {"name": "parity", "bits": 4, "relevant": 2}},
            }
        },
    ),
]


def test_every_task_without_files_is_tried():
    files = {"csv", "dataset", "jsonl", "parquet", "published", "python"}
    assert {name for name, _ in GENERATED} == TASKS.keys() - files


@pytest.mark.parametrize("name, options", GENERATED)
def test_round_trip(name, options):
    task = TASKS[name](**options)
    encoded = encode_task(task, task.pieces or "words")
    made = task.to_datasets(encoded.tokenizer)
    assert isinstance(made, datasets.DatasetDict)
    assert list(made) == ["train", *task.evaluation_splits]
    for split, examples in task.all_splits().items():
        rows, first = made[split], examples[0]
        assert len(rows) == len(examples) == len(encoded.splits[split].encoded)
        for row, example in zip(rows, encoded.splits[split].encoded, strict=True):
            assert row["text"] == example.text
            assert row["input_ids"] == example.input_ids.tolist()
            assert row["roles"] == [ROLES[code] for code in example.roles]
        read = Dataset.of(
            made,
            train_split=split,
            test_split=split,
            answer_marker=first.answer_marker or "#### ",
            strata=[stratum for stratum, _ in first.strata],
        ).split("train")
        assert list(read) == [
            replace(
                example,
                source=f"data set in memory, split {split}, row {number}",
                references=(),  # not in the columns, as judge
                judge="",
            )
            for number, example in enumerate(examples, start=1)
        ]


def test_without_a_tokenizer_there_is_text_alone():
    made = TASKS["parity"](bits=4, relevant=2).to_datasets()
    assert made["train"].column_names == ["text", "prompt", "answer", "choices"]


CHATS = [
    Example(messages=(Message("user", f"{k}?"), Message("assistant", "4", more)), tools=tools)
    for k, (more, tools) in enumerate(
        [
            ("", ""),
            ('{"tool_calls": [{"type": "function", "function": {"name": "f"}}]}', ""),
            ("", '[{"type": "function", "function": {"name": "f"}}]'),
        ]
    )
]
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


class Own(PythonFunction):
    """Two splits of given examples."""

    def split(self, name):
        return self.arguments[name]


@pytest.mark.parametrize("chunk", [1, 2, 5000])
def test_chats_marked_spans_and_plain_text(chunk, monkeypatch):
    monkeypatch.setattr("ntpctp.data.to_datasets._CHUNK", chunk)
    marked = Example((Segment("prompt", "2+2="), Segment("answer", "4")), spans=((1, 2), (4, 5)))
    plain = Example((Segment("text", "two and two"),))
    tokenizer = closed_tokenizer(["user: assistant\n0123?+=4"], "characters")
    tokenizer.chat_template = TEMPLATE
    task = Own(function="a:b", arguments={"train": [*CHATS, marked], "test": [plain]})
    made = task.to_datasets()
    assert made["test"].column_names == ["text"] and made["train"][0]["text"] is None
    read = Dataset.of(made, test_split="train").split("test")
    assert [replace(example, source="") for example in read] == [*CHATS, marked]
    read = Dataset.of(made["test"], train_split="train", test_split="train").split("train")
    assert [replace(example, source="") for example in read] == [plain]
    task = Own(function="a:b", arguments={"train": [*CHATS, marked], "test": [marked]})
    for row, example in zip(
        task.to_datasets(tokenizer)["train"], encode([*CHATS, marked], tokenizer), strict=True
    ):
        assert row["text"] == example.text and row["input_ids"] == example.input_ids.tolist()


def test_data_sets_in_memory():
    rows = [{"question": f"{k}?", "answer": str(k)} for k in range(10)]
    data = datasets.Dataset.from_list(rows)
    task = Dataset.of(data, fields={"prompt": "question"}, max_rows=5)
    assert len(task.split("train")) == 4 and len(task.split("test")) == 1
    assert task == Dataset.of(data, fields={"prompt": "question"}, max_rows=5)
    formatted = Dataset.of(data.with_format("numpy"), fields={"prompt": "question"}, max_rows=5)
    assert formatted.all_splits() == task.all_splits()
    with pytest.raises(InputError, match=r"was given in memory, by Dataset\.of, and is not part"):
        Dataset(**task.model_dump()).split("train")
    with pytest.raises(InputError, match=r"expected a datasets\.Dataset or .* found list"):
        Dataset.of(rows)
    with pytest.raises(InputError, match=r"data set in memory: has no split 'train' \(found: a\)"):
        Dataset.of(datasets.DatasetDict({"a": data})).split("train")
    with pytest.raises(InputError, match="data set in memory, split train, row 1: field 'prompt'"):
        Dataset.of(data).split("train")


def test_tasks_and_encoded_examples_are_imported_without_heavy_libraries():
    look = (
        "import sys, ntpctp.data.encoded, ntpctp.data.tasks\n"
        "print({'torch', 'transformers', 'tokenizers', 'datasets', 'pandas', 'pyarrow', 'scipy'}"
        " & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
