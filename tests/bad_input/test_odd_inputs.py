"""What is odd and legal works, and comes out as it went in; what cannot work is refused."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

from ntpctp._core.errors import InputError
from ntpctp._core.files import read_jsonl
from ntpctp._core.layout import RunId, rows_path, stage_directory
from ntpctp.config import load_experiment
from ntpctp.data.cache import encode_task
from ntpctp.data.tasks import TASKS
from ntpctp.models.checkpoints import list_checkpoints
from tests.conftest import tiny_content

# name: text that data may contain
TEXTS = {
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪",
    "right to left": "\u05e9\u05dc\u05d5\u05dd \u202e\u05e2\u05d5\u05dc\u05dd\u202c \u0645",
    "accents that stand alone": "e\u0301 e\u0308\u0323 \u0301",
    "invisible signs": "a\u200bb\u2060c\ufeffd\u00ade",
    "NUL": "a\0b",
    "control signs": "a\x01\x1b[31mb\x7f",
    "line ends": "a\r\nb\rc\n\u2028d\u2029e\x85f\x0bg\x0ch",
    "quotes and tabs": "\"a\"\t'b'\\ \\n",
    "HTML": "<script>alert(1)</script>&amp;<!-- </body>",
    "beyond the first plane": "\U0001d518\U0001d52b\U0001d526 \U00010348 \U0010ffff",
    "not a character": "\ufdd0\uffff",
    "white space": "\u00a0 \u3000 x\u2003",
    "name of a special token": "<pad>",
    "format": "{0} %s ${x} {{ y }} [bold]z[/bold]",
}


def rows_with(text):
    return [
        {"prompt": f"{number} {text}?", "answer": f"{text}{number}", "more": text}
        for number in range(5)
    ]


def as_lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_escaped_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_table(rows):
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def as_parquet(rows):
    file = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


WRITERS = {
    "jsonl": ("jsonl", as_lines),
    "jsonl, escaped": ("jsonl", as_escaped_lines),
    "csv": ("csv", as_table),
    "parquet": ("parquet", as_parquet),
}


def task_of(kind, path, **options):
    return TASKS[kind].model_validate({"name": kind, "path": str(path), **options})


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", TEXTS)
def test_text_comes_out_of_tokens_as_it_went_in(name, writer, tmp_path):
    kind, write = WRITERS[writer]
    rows = rows_with(TEXTS[name])
    (tmp_path / "data").write_bytes(write(rows))
    task = task_of(kind, tmp_path / "data", strata=["more"])
    for _ in range(2):  # made, then read from the cache
        encoded = encode_task(task, "characters", tmp_path / "cache")
        found = {}
        for split in encoded.splits.values():
            for example, row in zip(split.examples, split.encoded, strict=True):
                assert row.text == "".join(segment.text for segment in example.segments)
                assert encoded.tokenizer.decode(row.input_ids[:-1]) == row.text
                assert example.strata == (("more", TEXTS[name]),)
                found[example.segments[0].text] = example.answer
        assert found == {row["prompt"]: row["answer"] for row in rows}


@pytest.mark.parametrize(
    "text, message", [("<unk>", "has no token for a part of"), ("<eos>", "the end of sequence")]
)
def test_text_that_would_mean_something_else_is_refused(text, message, tmp_path):
    (tmp_path / "data").write_bytes(as_lines(rows_with(text)))
    with pytest.raises(InputError, match=message):
        encode_task(task_of("jsonl", tmp_path / "data"), "characters")


def changed(content, *pairs):
    for old, new in pairs:
        content = content.replace(old, new)
    return content


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: changed(content, (b"\n", b"\r\n")),
        lambda content: changed(content, (b"\n", b"\n\n  \n")),
        lambda content: content.rstrip(b"\n"),
        lambda content: b"\xef\xbb\xbf" + changed(content, (b"\n", b"\r\n")),
    ],
    ids=["byte-order mark", "CRLF", "blank lines", "no line end", "byte-order mark and CRLF"],
)
@pytest.mark.parametrize("writer", ["jsonl", "csv"])
def test_how_a_file_is_saved_is_of_no_matter(writer, change, tmp_path):
    kind, write = WRITERS[writer]
    if writer == "csv" and b"  \n" in change(b"\n"):
        pytest.skip("white space is a cell of a table")
    rows = rows_with("x")
    keys = []
    for content in (write(rows), change(changed(write(rows), (b"\r\n", b"\n")))):
        (tmp_path / "data").write_bytes(content)
        task = task_of(kind, tmp_path / "data")
        keys.append({name: [e.key for e in task.split(name)] for name in ("train", "test")})
    assert keys[0] == keys[1]


def test_numbers_that_are_none_are_fine_where_nobody_reads_them(tmp_path):
    line = '{"prompt": "a%d", "answer": "b", "score": NaN, "id": 1e999, "n": -Infinity, "k": %s}\n'
    (tmp_path / "data").write_text("".join(line % (k, "9" * 4000) for k in range(5)))
    assert len(task_of("jsonl", tmp_path / "data").split("train")) == 4


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '{"b": {"a": 1, "a": 2}}'])
def test_a_field_that_stands_twice_is_refused(tmp_path, text):
    (tmp_path / "data").write_text(f'{{"prompt": "a", "answer": "b"}}\n{text}\n')
    with pytest.raises(InputError, match=r"line 2.*duplicate field 'a'. Keep one"):
        task_of("jsonl", tmp_path / "data").split("train")


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: f"%YAML 1.1\n---\n{text}...\n".encode(),
        lambda text: json.dumps(yaml.safe_load(text)).encode(),
    ],
    ids=["byte-order mark", "CRLF", "one document", "JSON"],
)
def test_how_an_experiment_file_is_saved_is_of_no_matter(encode, tmp_path):
    content = tiny_content(question=TEXTS["right to left"] + TEXTS["emoji"])
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    (tmp_path / "a.yaml").write_text(text, "utf-8")
    (tmp_path / "b.yaml").write_bytes(encode(text))
    found = load_experiment(tmp_path / "b.yaml")
    assert found == load_experiment(tmp_path / "a.yaml")
    assert found.question == content["question"]


RUN = {
    "tokenizer": "characters",
    "training": {"steps": 2, "batch_size": 4, "log_every": 1},
    "seeds": 1,
    "evaluation": {"measures": [{"name": "accuracy", "train_items": 5}]},
}


def rows_of_run(output, arm="ntp"):
    last = list_checkpoints(stage_directory(output, RunId(arm, 0)))[-1]
    return read_jsonl(rows_path(last, "accuracy"))


@pytest.mark.slow
def test_a_run_of_all_of_it_through_links_with_odd_names(ntpctp, tmp_path, monkeypatch):
    """Experiment, data and output are links, and every name has spaces and signs in it."""
    home = tmp_path / "my data - größer 😀"
    home.mkdir()
    rows = [row for text in TEXTS.values() for row in rows_with(text)[:2]]
    (home / "real rows.jsonl").write_bytes(as_lines(rows))
    (home / "rows.jsonl").symlink_to("real rows.jsonl")
    (home / "real out").mkdir()
    (home / "out's").symlink_to(home / "real out", target_is_directory=True)
    question = f"{TEXTS['HTML']} {TEXTS['right to left']} {TEXTS['emoji']}"
    task = {"name": "jsonl", "path": str(home / "rows.jsonl"), "test_size": 4, "strata": ["more"]}
    content = tiny_content(**RUN, task=task, question=question)
    (home / "real.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
    (home / "link to it.yaml").symlink_to("real.yaml")
    monkeypatch.chdir(home)
    outcome = ntpctp("run", "link to it.yaml", "--output", home / "out's", "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert (home / "out's").is_symlink() and (home / "rows.jsonl").is_symlink()
    assert load_experiment(home / "real out" / "experiment.yaml").question == question
    answers = {row["answer"] for row in rows}
    found = rows_of_run(home / "out's")
    assert len(found) == 4 + 5
    for row in found:
        assert row["reference"] in answers
    page = (home / "real out" / "report.html").read_text("utf-8")
    assert "<script>alert(1)</script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    again = ntpctp("run", home / "real.yaml", "--output", home / "real out", "--workers", 1)
    assert again.code == 0, again.err
    assert ntpctp("status", home / "out's").code == 0


@pytest.mark.slow
def test_one_item_to_train_on_and_one_to_test_on(ntpctp, tmp_path):
    (tmp_path / "train.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n')
    (tmp_path / "test.jsonl").write_text('{"prompt": "1+2=", "answer": "3"}\n')
    paths = {"path": f"{tmp_path}/train.jsonl", "test_path": f"{tmp_path}/test.jsonl"}
    content = tiny_content(**RUN, task={"name": "jsonl", **paths})
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(content))
    outcome = ntpctp("run", tmp_path / "one.yaml", "--output", tmp_path / "out", "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert [(row["split"], row["item"]) for row in rows_of_run(tmp_path / "out")] == [
        ("test", 0),
        ("train", 0),
    ]


def test_a_line_of_a_megabyte_is_dropped_and_counted_where_that_is_asked_for(ntpctp, tmp_path):
    rows = [*rows_with("x"), {"prompt": "1" * 2**20, "answer": "x0"}]
    (tmp_path / "rows.jsonl").write_bytes(as_lines(rows))
    content = tiny_content(
        **RUN,
        task={"name": "jsonl", "path": str(tmp_path / "rows.jsonl"), "test_size": 1},
        data={"too_long": "drop"},
    )
    content["model"] = {**content["model"], "context": 16}
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(content))
    outcome = ntpctp("audit", tmp_path / "long.yaml", "--json")
    assert outcome.code == 0, outcome.err
    splits = json.loads(outcome.out)["splits"]
    assert sum(split.get("dropped_too_long", 0) for split in splits.values()) == 1
    assert sum(split["examples"] for split in splits.values()) == 5
