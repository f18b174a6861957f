"""One's own data from every kind of source: the same rows give the same examples."""

import csv
import json

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp.data.example import Example
from ntpctp.data.leakage import check_disjoint
from ntpctp.data.tasks import CsvFile, Dataset, JsonLines, ParquetFile, PythonFunction

ROWS = [
    {
        "question": f"{k}+{k}=",
        "answer": str(2 * k),
        "reasoning": "Twice." if k % 2 else None,
        "choices": [str(2 * k), "no"],
        "spans": [[0, 1], [2, 3]] if k % 3 == 0 else None,
    }
    for k in range(12)
]
CHATS = [
    {
        "messages": [
            {"role": "user", "content": f"{k}?"},
            {"role": "assistant", "content": str(k)},
        ]
    }
    for k in range(5)
]
TEXTS = [{"text": f"a story of {k} mice"} for k in range(5)]
FIELDS = {"prompt": "question"}


def task_of(kind, rows, folder, monkeypatch, **options):
    """The rows as a file, folder or function of that kind, and the task that reads it."""
    path = folder / f"data.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return JsonLines(path=str(path), **options)
    if kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            for row in rows:
                cells = row.items()
                writer.writerow({k: json.dumps(v) if isinstance(v, list) else v for k, v in cells})
        return CsvFile(path=str(path), **options)
    if kind == "parquet":
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
        return ParquetFile(path=str(path), **options)
    if kind == "python":
        module = f"rows_{folder.name.replace('-', '_')}"
        (folder / f"{module}.py").write_text(
            f"def rows(first=0):\n    yield from {rows!r}[first:]\n"
        )
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(str(folder))
        return PythonFunction(function=f"{module}:rows", **options)
    if kind == "saved":
        datasets.Dataset.from_list(rows).save_to_disk(path)
        return Dataset(path=str(path), **options)
    folder_of_files = folder / "files"
    folder_of_files.mkdir()
    (folder_of_files / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    return Dataset(path=str(folder_of_files), streaming=kind == "stream", **options)


KINDS = ["csv", "parquet", "python", "saved", "files", "stream"]


def content(task):
    """The examples of both splits without where they came from."""
    fields = [f for f in Example.__dataclass_fields__ if f != "source"]
    return {
        name: [tuple(getattr(e, field) for field in fields) for e in examples]
        for name, examples in task.all_splits().items()
    }


@pytest.mark.parametrize("rows, options", [(ROWS, {"fields": FIELDS}), (CHATS, {}), (TEXTS, {})])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_what_jsonl_gives(kind, rows, options, tmp_path, monkeypatch):
    options = options | {"seed": 3, "separator": " ", "answer_marker": "So: "}
    expected = content(task_of("jsonl", rows, tmp_path, monkeypatch, **options))
    task = task_of(kind, rows, tmp_path, monkeypatch, **options)
    found = content(task)
    assert found == expected
    assert sum(map(len, found.values())) == len(rows) and all(found.values())
    check_disjoint(task.all_splits())
    places = sorted(int(e.source.split()[-1]) for s in task.all_splits().values() for e in s)
    # The header of a table is its first line.
    assert places == list(range(1 + (kind == "csv"), len(rows) + 1 + (kind == "csv")))


@pytest.mark.parametrize("kind", ["jsonl", *KINDS])
@pytest.mark.parametrize(
    "row, match",
    [
        ({"question": "x", "answer": ""}, "empty answer"),
        ({"question": "x", "answer": "a", "choices": ["a", "a"]}, "field 'choices': expected at"),
        ({"question": "x", "answer": "a", "spans": [[0, 9]]}, "field 'spans': expected a list of"),
    ],
)
def test_a_bad_row_is_named(kind, row, match, tmp_path, monkeypatch):
    row = {name: row.get(name) for name in ROWS[0]}
    task = task_of(kind, [ROWS[1], row], tmp_path, monkeypatch, fields=FIELDS)
    place = {"jsonl": "line 2", "csv": "line 3"}.get(kind, "row 2")
    with pytest.raises(InputError, match=f"{place}: {match}"):
        task.split("train")


@pytest.mark.parametrize("kind", ["jsonl", *KINDS])
def test_a_missing_field_is_named(kind, tmp_path, monkeypatch):
    rows = [{"question": "x", "anwser": "a"}] * 2
    task = task_of(kind, rows, tmp_path, monkeypatch, fields=FIELDS)
    with pytest.raises(InputError, match=r"field 'answer' is missing; did you mean 'anwser'\?"):
        task.split("train")


def test_a_pattern_marks_what_it_matches_beside_spans(tmp_path, monkeypatch):
    rows = [
        {"prompt": "1+12=", "answer": "13", "spans": [[1, 2]]},
        {"prompt": "a", "answer": "b"},
        {"prompt": "c", "answer": "d"},
    ]
    task = task_of("jsonl", rows, tmp_path, monkeypatch, pattern=r"\d\d|$", test_size=1)
    spans = {e.text("prompt"): e.spans for s in task.all_splits().values() for e in s}
    # "1+12=13": the sign, then 12 and 13; the empty match at the end marks nothing.
    assert spans == {"1+12=": ((1, 2), (2, 4), (5, 7)), "a": (), "c": ()}
    chat = task_of("jsonl", CHATS, tmp_path, monkeypatch, pattern="x")
    with pytest.raises(InputError, match="line 1: pattern marks characters of prompt and answer"):
        chat.split("train")
    with pytest.raises(ValidationError, match="not a regular expression"):
        JsonLines(path="x", pattern="(")


def test_plain_text_is_read_only_where_nothing_else_is(tmp_path, monkeypatch):
    rows = [{"text": "both", "prompt": f"{k}", "answer": "a"} for k in range(3)]
    task = task_of("jsonl", rows, tmp_path, monkeypatch)
    assert {e.answer for e in task.split("train")} == {"a"}
    rows = [{"body": f"story {k}"} for k in range(3)]
    task = task_of("jsonl", rows, tmp_path, monkeypatch, fields={"text": "body"})
    first = task.split("train")[0]
    assert first.is_plain_text and first.answer == "" and first.text("text").startswith("story")
    rendered = [{**chat, "text": "rendered"} for chat in CHATS]
    assert content(task_of("jsonl", rendered, tmp_path, monkeypatch)) == content(
        task_of("jsonl", CHATS, tmp_path, monkeypatch)
    )


@pytest.mark.parametrize(
    "rows, match",
    [
        (
            [*TEXTS, ROWS[0]],
            "line 1 is plain text and .* line 6 has an answer. Expected one of the two",
        ),
        (
            [ROWS[0], *TEXTS],
            "line 2 is plain text and .* line 1 has an answer. Expected one of the two",
        ),
        ([{"text": "a"}, {"text": " "}], "line 2: empty text"),
        ([{"text": "a", "promt": "b"}], "unknown field 'promt'; did you mean 'prompt'"),
    ],
)
def test_plain_text_errors(rows, match, tmp_path, monkeypatch):
    rows = [{"prompt" if k == "question" else k: v for k, v in row.items()} for row in rows]
    with pytest.raises(InputError, match=match):
        task_of("jsonl", rows, tmp_path, monkeypatch).split("train")


@pytest.mark.parametrize(
    "text, match",
    [
        (
            "prompt,answer\na,b,c\n",
            "line 2: has more cells than the header .*first extra cell: 'c'",
        ),
        ("prompt,answer\na\n", "line 2: field 'answer': the cell is missing"),
        ('prompt,answer\n"a,b\n', "line 2: expected CSV: unexpected end of data"),
        ("prompt,answer,choices\na,b,c\n", r"line 2: field 'choices': expected a JSON list, .*'c'"),
        ("prompt,answer\n", "expected at least one example, found none"),
        ("prompt,answer,answer\na,b,c\n", "line 1: duplicate column 'answer' in the header"),
    ],
)
def test_a_bad_table(text, match, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"t\.csv.*{match}"):
        CsvFile(path=str(path)).split("train")


def test_another_delimiter_and_line_breaks_in_cells(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text('prompt\tanswer\n"a\nb"\tc, d\nx\ty\nz\t7\n')
    examples = [e for s in CsvFile(path=str(path), delimiter="\t").all_splits().values() for e in s]
    assert {e.key for e in examples} == {("a\nb", "c, d"), ("x", "y"), ("z", "7")}


def test_a_test_file_and_its_errors(tmp_path):
    paths = [tmp_path / name for name in ("a.csv", "b.csv")]
    for path, rows in zip(paths, ("a,b\nc,d\n", "e,f\n"), strict=True):
        path.write_text(f"prompt,answer\n{rows}")
    task = CsvFile(path=str(paths[0]), test_path=str(paths[1]))
    assert [e.answer for e in task.split("train")] == ["b", "d"]
    assert [e.source for e in task.split("test")] == [f"{paths[1]}, line 2"]
    for kind, word in ((CsvFile, "CSV"), (ParquetFile, "Parquet")):
        with pytest.raises(InputError, match=f"expected a {word} file, found no such file"):
            kind(path=str(tmp_path / "none")).split("train")
        with pytest.raises(InputError, match=f"expected a {word} file, found a directory"):
            kind(path=str(tmp_path)).split("train")
    with pytest.raises(InputError, match=r"a\.csv: expected a Parquet file: "):
        ParquetFile(path=str(paths[0])).split("train")


def test_splits_and_first_rows_of_a_data_set(tmp_path):
    splits = {"learn": ROWS[:8], "exam": ROWS[8:]}
    datasets.DatasetDict(
        {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}
    ).save_to_disk(tmp_path / "d")
    options = {"path": str(tmp_path / "d"), "fields": FIELDS, "train_split": "learn"}
    task = Dataset(**options, test_split="exam", max_rows=3)
    assert [e.answer for e in task.split("train")] == ["0", "2", "4"]
    assert [e.answer for e in task.split("test")] == ["16", "18", "20"]
    assert task.split("test")[0].source == f"{tmp_path / 'd'}, split exam, row 1"
    with pytest.raises(InputError, match=r"no split 'exams'; did you mean 'exam'\? \(found: learn"):
        Dataset(**options, test_split="exams").split("test")
    with pytest.raises(ValidationError, match="but test_split gives the test split"):
        Dataset(**options, test_split="exam", test_size=2)


def test_a_data_set_that_cannot_be_loaded(tmp_path):
    with pytest.raises(InputError, match="datasets cannot load split 'train'"):
        Dataset(path=str(tmp_path / "none")).split("train")
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
    with pytest.raises(InputError, match="has a single split, so test_split cannot be 'x'"):
        Dataset(path=str(tmp_path / "one"), fields=FIELDS, test_split="x").split("test")


def test_the_arguments_of_a_function(tmp_path, monkeypatch):
    task = task_of(
        "python",
        ROWS,
        tmp_path,
        monkeypatch,
        fields=FIELDS,
        arguments={"first": 0},
        test_arguments={"first": 10},
    )
    assert [len(task.split(name)) for name in ("train", "test")] == [12, 2]


@pytest.mark.parametrize(
    "function, match",
    [
        ("nowhere_at_all:f", "cannot import nowhere_at_all"),
        ("bad_rows:rwos", "bad_rows has no function 'rwos'; did you mean 'rows'"),
        (
            "bad_rows:rows",
            r"bad_rows:rows, row 1: expected a dict of fields, found tuple \('a', 'b",
        ),
        ("bad_rows:fails", "bad_rows:fails: failed after 1 rows: ZeroDivisionError: division"),
    ],
)
def test_a_bad_function(function, match, tmp_path, monkeypatch):
    (tmp_path / "bad_rows.py").write_text(
        "def rows():\n    yield 'a', 'b'\n"
        "def fails():\n    yield {'prompt': 'a', 'answer': 'b'}\n    1 / 0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=match):
        PythonFunction(function=function).split("train")
    with pytest.raises(ValidationError, match="should match pattern"):
        PythonFunction(function="no colon")
