"""Data files of every format, damaged in many ways."""

import io
import json
import os

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.bad_input.refusal import Case, check, experiment


def items(number=20):
    return [{"prompt": f"{i}+1=", "answer": str(i + 1)} for i in range(number)]


def lines(*rows):
    return "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)


def own(
    kind, content, messages, *overrides, tokenizer="characters", make=None, more=None, **options
):
    """Return a case about a file of the user's own of some kind."""
    task = {"name": kind, "path": f"DIR/train.{kind}", **options}
    files = {} if content is None else {f"train.{kind}": content}
    made = {} if make is None else {"make": make}
    changes = {"task": task, "tokenizer": tokenizer}
    return experiment(changes, messages, *overrides, files={**files, **(more or {})}, **made)


def jsonl(row, messages, *overrides, **options):
    """Return a case about a bad line behind three good ones."""
    return own("jsonl", lines(*items(3), row), messages, *overrides, **options)


def csv(text, messages, **options):
    return own("csv", text, messages, **options)


def parquet(columns, messages, **options):
    return own("parquet", parquet_bytes(columns), messages, **options)


def parquet_bytes(columns):
    file = io.BytesIO()
    pa.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def published(kind, content, messages, **options):
    task = {"name": "published", "format": kind, "path": "DIR/published", **options}
    files = {} if content is None else {"published": content}
    return experiment({"task": task}, messages, files=files)


def prosqa(content, messages):
    task = {"name": "prosqa", "train_path": "DIR/prosqa.json", "test_size": 5}
    files = {} if content is None else {"prosqa.json": content}
    return experiment({"task": task}, messages, files=files)


GOOD_TABLE = {"prompt": ["a=", "b=", "c="], "answer": ["1", "2", "3"]}
INVALID_TEXT = pa.StringArray.from_buffers(
    3, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"\xff\xfe\xfd")
)
TURNS = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
SPECIAL = {"prompt": "x<eos>", "answer": "a<eos>b"}

CASES: dict[str, Case] = {
    # one JSON object per line: the file
    "missing": own("jsonl", None, ["train.jsonl: expected a file", "found no such file"]),
    "empty": own("jsonl", "", ["train.jsonl: expected at least one example, found none"]),
    "blank lines alone": own("jsonl", "\n \n\n", ["expected at least one example, found none"]),
    "directory": own(
        "jsonl",
        None,
        ["train.jsonl: expected a file with one JSON object per line, found a directory"],
        make=lambda directory: (directory / "train.jsonl").mkdir(),
    ),
    "link to nothing": own(
        "jsonl",
        None,
        ["found no such file"],
        make=lambda directory: os.symlink("gone.jsonl", directory / "train.jsonl"),
    ),
    "binary": own("jsonl", b"\x80\x02}q\x00.", ["line 1", "bytes that are not UTF-8 at column 1"]),
    "UTF-16": own("jsonl", lines(*items()).encode("utf-16"), ["line 1", "Save the file as UTF-8"]),
    "Latin-1 in one line": own(
        "jsonl",
        lines(*items(3)).encode() + '{"prompt": "ü", "answer": "1"}\n'.encode("latin-1"),
        ["line 4", "bytes that are not UTF-8 at column 13"],
    ),
    "one JSON list": own("jsonl", json.dumps(items()), ["line 1", "JSON object, found list"]),
    "indented JSON": own("jsonl", json.dumps(items()[0], indent=1), ["line 1", "invalid JSON"]),
    "too few prompts": own(
        "jsonl",
        lines(items()[0]),
        ["expected more than test_size = 1 distinct prompts", "separate test split"],
    ),
    "more held out than there is": own(
        "jsonl",
        lines(*items()),
        ["expected more than test_size = 20 distinct prompts"],
        test_size=20,
    ),
    "test file that is missing": own(
        "jsonl", lines(*items()), ["DIR/test.jsonl", "no such file"], test_path="DIR/test.jsonl"
    ),
    "test file and size": own(
        "jsonl",
        lines(*items()),
        ["test_size says how much to hold out, but test_path"],
        test_path="x",
        test_size=2,
    ),
    "test file that is the same": own(
        "jsonl",
        lines(*items()),
        ["line 1", "must not be trained on"],
        test_path="DIR/train.jsonl",
    ),
    "no tokenizer": own(
        "jsonl",
        lines(*items()),
        ["tokenizer: the task 'jsonl' reads open text"],
        tokenizer=None,
    ),
    "item in both files": own(
        "jsonl",
        lines(*items()),
        ["train.jsonl, line 7", "test.jsonl, line 2", "must not be trained on"],
        test_path="DIR/test.jsonl",
        more={"test.jsonl": lines({"prompt": "x=", "answer": "1"}, items()[6])},
    ),
    # its lines
    "invalid JSON": jsonl("{oops\n", ["train.jsonl, line 4", "invalid JSON"]),
    "half a line": jsonl('{"prompt": "1", "answ', ["line 4", "invalid JSON"]),
    "two objects on a line": jsonl("{} {}\n", ["line 4", "invalid JSON: Extra data"]),
    "single quotes": jsonl("{'prompt': '1'}\n", ["line 4", "invalid JSON"]),
    "comma at the end": jsonl('{"prompt": "1", "answer": "2",}\n', ["line 4", "invalid JSON"]),
    "control character": jsonl('{"prompt": "1\0", "answer": "2"}\n', ["line 4", "invalid JSON"]),
    "list": jsonl("[1]\n", ["line 4: expected one JSON object, found list"]),
    "null": jsonl("null\n", ["line 4: expected one JSON object, found NoneType"]),
    "nesting without end": jsonl(
        '{"prompt": ' + "[" * 100_000 + "\n", ["line 4: expected one JSON object", "nested"]
    ),
    "number of too many digits": jsonl(
        '{"prompt": ' + "9" * 5000 + ', "answer": "2"}\n', ["line 4", "invalid JSON"]
    ),
    "not a number": jsonl(
        '{"prompt": "1", "answer": NaN}\n', ["line 4", "expected a string, found float NaN"]
    ),
    "infinite number": jsonl(
        '{"prompt": "1", "answer": 1e999}\n',
        ["line 4", "expected a string, found float Infinity"],
    ),
    "half a character": jsonl(
        '{"prompt": "1\\ud800", "answer": "2"}\n',
        ["line 4: field 'prompt': character 2 is half of a surrogate pair"],
    ),
    "field twice": jsonl(
        '{"prompt": "1", "prompt": "7", "answer": "2"}\n',
        ["line 4", "duplicate field 'prompt'"],
    ),
    "field missing": jsonl({"prompt": "1"}, ["line 4: field 'answer' is missing (found: prompt)"]),
    "no field": jsonl({}, ["line 4: field 'prompt' is missing (found: nothing)"]),
    "misspelt field": jsonl(
        {"prompt": "1", "answer": "2", "choises": ["2", "3"]},
        ["line 4: unknown field 'choises'; did you mean 'choices'?"],
    ),
    "number as an answer": jsonl(
        {"prompt": "1", "answer": 2.5}, ["line 4: field 'answer': expected a string, found float"]
    ),
    "null as an answer": jsonl(
        {"prompt": "1", "answer": None}, ["line 4: field 'answer': expected a string"]
    ),
    "empty answer": jsonl({"prompt": "1", "answer": " "}, ["line 4", "empty answer"]),
    "empty prompt": jsonl(
        {"prompt": "", "answer": "2"}, ["line 4: no token precedes the answer", "Give a prompt"]
    ),
    "answer not among the choices": jsonl(
        {"prompt": "1", "answer": "2", "choices": ["3", "4"]}, ["line 4", "not among the choices"]
    ),
    "one choice": jsonl(
        {"prompt": "1", "answer": "2", "choices": ["2"]}, ["line 4", "at least two different"]
    ),
    "choices as text": jsonl(
        {"prompt": "1", "answer": "2", "choices": "2,3"}, ["line 4", "expected a list of strings"]
    ),
    "choices as an object": jsonl(
        {"prompt": "1", "answer": "2", "choices": {"2": 1}}, ["line 4: field 'choices'"]
    ),
    "span behind the end": jsonl(
        {"prompt": "1", "answer": "2", "spans": [[0, 9]]},
        ["line 4: field 'spans'", "0 <= start < end <= 2", "found [[0, 9]]"],
    ),
    "span of truth": jsonl(
        {"prompt": "1", "answer": "2", "spans": [[False, True]]}, ["line 4: field 'spans'"]
    ),
    "span beyond all numbers": jsonl(
        {"prompt": "1", "answer": "2", "spans": [[0, 10**30]]}, ["line 4: field 'spans'"]
    ),
    "marker within the answer": jsonl(
        {"prompt": "1", "answer": "#### 2", "reasoning": "so"}, ["line 4", "answer marker"]
    ),
    "tools without a chat": jsonl(
        {"prompt": "1", "answer": "2", "tools": [{}]}, ["line 4: has 'tools' without 'messages'"]
    ),
    "chat and prompt": jsonl(
        {"messages": TURNS, "prompt": "1"}, ["line 4: has 'messages' and ['prompt']"]
    ),
    "chat that is text": jsonl(
        {"messages": "hello"}, ["line 4: field 'messages': expected a list of at least one"]
    ),
    "turn without content": jsonl(
        {"messages": [{"role": "user"}]}, ["line 4, message 1: expected an object with role"]
    ),
    "turn of nobody": jsonl(
        {"messages": [{"role": "asistant", "content": "4"}]},
        ["line 4, message 1: unknown role 'asistant'; did you mean 'assistant'?"],
    ),
    "role that is a list": jsonl(
        {"messages": [{"role": ["user"], "content": "4"}]}, ["line 4, message 1: unknown role"]
    ),
    "content in parts": jsonl(
        {"messages": [{"role": "user", "content": [{"text": "4"}]}]},
        ["line 4, message 1: expected content to be a string, found list"],
    ),
    "half a character in a chat": jsonl(
        {"messages": [{"role": "user", "content": "\ud800"}, TURNS[1]]},
        ["line 4, message 1", "half of a surrogate pair"],
    ),
    "chat that the user ends": jsonl(
        {"messages": TURNS[:1]}, ["line 4: expected the last message to be the assistant's"]
    ),
    "chat without a template": jsonl(
        {"messages": TURNS}, ["line 4: has chat messages, but the tokenizer has no chat template"]
    ),
    "infinite argument of a tool": jsonl(
        '{"messages": [{"role": "user", "content": "", "n": NaN}, '
        '{"role": "assistant", "content": "4"}]}\n',
        ["line 4, message 1: cannot be written as JSON"],
    ),
    "plain text among questions": jsonl(
        {"text": "Two and two."}, ["line 4 is plain text", "line 1 has an answer"]
    ),
    "stratum that is missing": jsonl(
        {"prompt": "1", "answer": "2"},
        ["line 1: field 'hops' is missing", "listed in strata"],
        strata=["hops"],
    ),
    "end of sequence within the answer": own(
        "jsonl",
        lines(*items(3), SPECIAL),
        ["line 4", "contains the end of sequence '<eos>' as text"],
    ),
    "answer that is too long": own(
        "jsonl",
        lines(*items(), {"prompt": "1=", "answer": "7" * 40}),
        ["line 21", "nothing is truncated"],
        "model.context=16",
    ),
    "prompt that is too long": own(
        "jsonl",
        lines(*items(), {"prompt": "1" * 40, "answer": "7"}),
        ["line 21", "nothing is truncated"],
        "model.context=16",
    ),
    "line of a megabyte in a small context": own(
        "jsonl",
        lines(*items(), {"prompt": "1" * 2**20, "answer": "7"}),
        ["line 21", "1048578 tokens", "nothing is truncated"],
        "model.context=16",
    ),
    # tables as text
    "table that is missing": csv(None, ["train.csv: expected a CSV file, found no such file"]),
    "table that is empty": csv("", ["train.csv: expected at least one example, found none"]),
    "header alone": csv("prompt,answer\n", ["expected at least one example, found none"]),
    "column that is missing": csv(
        "prompt,anwser\na,1\n", ["line 2: field 'answer' is missing; did you mean 'anwser'?"]
    ),
    "column twice": csv(
        "prompt,answer,answer\na,1,2\n", ["line 1: duplicate column 'answer' in the header"]
    ),
    "too many cells": csv("prompt,answer\na,1,2\n", ["line 2: has more cells than the header"]),
    "too few cells": csv("prompt,answer\na\n", ["line 2: field 'answer': the cell is missing"]),
    "quotes that do not end": csv('prompt,answer\n"a,1\n', ["line 2: expected CSV"]),
    "quotes within a cell": csv('prompt,answer\n"a"b,1\n', ["line 2: expected CSV"]),
    "choices that are no JSON": csv(
        "prompt,answer,choices\na,1,1|2\n", ["line 2: field 'choices': expected a JSON list"]
    ),
    "choices of too many digits": csv(
        "prompt,answer,choices\na,1," + "9" * 5000 + "\n",
        ["line 2: field 'choices': expected a JSON list"],
    ),
    "choices without end": csv(
        "prompt,answer,choices\na,1," + "[" * 100_000 + "\n",
        ["line 2: field 'choices': expected a JSON list"],
    ),
    "table in Latin-1": csv("prompt,answer\nü,1\n".encode("latin-1"), ["expected UTF-8 text"]),
    "table between semicolons": csv(
        "prompt;answer\na;1\n", ["line 2: field 'prompt' is missing; did you mean 'prompt;answer'?"]
    ),
    "delimiter of two signs": csv(
        "prompt||answer\n",
        ["task.delimiter: expected String should have at most 1"],
        delimiter="||",
    ),
    "delimiter that ends lines": csv(
        "prompt,answer\na,1\n",
        ["task.delimiter: expected a character other than a quote or a line break"],
        delimiter="\n",
    ),
    "delimiter that quotes": csv(
        "prompt,answer\na,1\n",
        ["task.delimiter: expected a character other than a quote"],
        delimiter='"',
    ),
    # Parquet
    "Parquet that is missing": own(
        "parquet", None, ["train.parquet: expected a Parquet file, found no such file"]
    ),
    "Parquet that is empty": own("parquet", b"", ["train.parquet: expected a Parquet file: "]),
    "Parquet that is text": own("parquet", lines(*items()), ["expected a Parquet file: "]),
    "Parquet that is cut off": own(
        "parquet", parquet_bytes(GOOD_TABLE)[:-20], ["expected a Parquet file: "]
    ),
    "Parquet with a damaged page": own(
        "parquet",
        parquet_bytes(GOOD_TABLE)[:4] + b"\xff" * 40 + parquet_bytes(GOOD_TABLE)[44:],
        ["train.parquet", "expected a Parquet file"],
    ),
    "Parquet without rows": parquet(
        {"prompt": pa.array([], pa.string()), "answer": pa.array([], pa.string())},
        ["expected at least one example, found none"],
    ),
    "Parquet without a column": parquet(
        {"prompt": ["a"]}, ["row 1: field 'answer' is missing (found: prompt)"]
    ),
    "Parquet of numbers": parquet(
        {"prompt": ["a"], "answer": [7]}, ["row 1: field 'answer': expected a string, found int"]
    ),
    "Parquet of bytes": parquet(
        {"prompt": ["a"], "answer": [b"7"]},
        ["row 1: field 'answer': expected a string, found bytes"],
    ),
    "Parquet with null": parquet(
        {"prompt": ["a", None], "answer": ["1", "2"]},
        ["row 2: field 'prompt': expected a string, found NoneType"],
    ),
    "Parquet of text that is no text": parquet(
        {"prompt": INVALID_TEXT, "answer": ["1", "2", "3"]},
        ["train.parquet: a value in rows 1 to 3 does not fit the type of its column", "utf-8"],
    ),
    "Parquet of times without end": parquet(
        {**GOOD_TABLE, "when": pa.array([2**62] * 3, pa.timestamp("us"))},
        ["train.parquet: a value in rows 1 to 3 does not fit the type of its column"],
    ),
    # published layouts
    "published file that is missing": published(
        "gsm8k", None, ["DIR/published: expected a gsm8k file, found no such file"]
    ),
    "published layout of nobody": published(
        "gsm9k", "x", ["task.format: expected 'clutrr'", "found 'gsm9k'"]
    ),
    "clutrr without a story": published(
        "clutrr", "query,target\n\"('A', 'B')\",aunt\n", ["line 2: field 'story' is missing"]
    ),
    "clutrr with one name": published(
        "clutrr", "story,query,target\nx,\"('A',)\",aunt\n", ["line 2: field 'query': expected two"]
    ),
    "clutrr with a number for names": published(
        "clutrr", "story,query,target\nx,7,aunt\n", ["line 2: field 'query': expected two names"]
    ),
    "clutrr with brackets without end": published(
        "clutrr",
        "story,query,target\nx," + "(" * 5000 + ",aunt\n",
        ["line 2: field 'query': expected two names"],
    ),
    "cogs with two columns": published(
        "cogs", "A cat\tcat(x)\n", ["line 1: expected sentence, logical form and type", "found 2"]
    ),
    "cogs that is binary": published("cogs", b"\xff\xfe\t\t", ["expected UTF-8 text"]),
    "scan without an output": published(
        "scan", "IN: jump\n", ["line 1: expected 'IN: command OUT"]
    ),
    "gsm8k without a final answer": published(
        "gsm8k",
        lines({"question": "a", "answer": "b"}),
        ["line 1", "expected it to end with '####"],
    ),
    "gsm8k with a number": published(
        "gsm8k", lines({"question": 1, "answer": "b\n#### 1"}), ["line 1: field 'question'"]
    ),
    "logicasker with another answer": published(
        "logicasker", "query,answer\nx,maybe\n", ["line 2: field 'answer': expected one of yes, no"]
    ),
    "prontoqa that is a list": published(
        "prontoqa", "[]", ["expected a JSON object of examples, found list"]
    ),
    "prontoqa that is cut off": published("prontoqa", '{"example1": {', ["expected JSON"]),
    "prontoqa without end": published("prontoqa", '{"a":' * 100_000, ["expected JSON"]),
    "prontoqa with too many digits": published(
        "prontoqa", '{"a": ' + "9" * 5000 + "}", ["expected JSON"]
    ),
    "prontoqa with a list for an item": published(
        "prontoqa", '{"example1": []}', ["example1: expected a JSON object, found list"]
    ),
    "prontoqa without items": published(
        "prontoqa", "{}", ["expected at least one prontoqa item, found none"]
    ),
    "ruletaker with text for truth": published(
        "ruletaker",
        lines({"context": "a", "questions": [{"text": "b", "label": "yes"}]}),
        ["line 1, question 1: field 'label': expected bool, found str 'yes'"],
    ),
    "reasoning where there is none": published(
        "scan", "IN: jump OUT: I_JUMP\n", ["format scan has no reasoning"], reasoning=True
    ),
    "prosqa that is missing": prosqa(None, ["prosqa.json", "found no such file"]),
    "prosqa that is an object": prosqa("{}", ["expected a JSON list of at least one ProsQA item"]),
    "prosqa with a number for an item": prosqa(
        "[1]", ["item 1: expected a JSON object, found int"]
    ),
    "prosqa without a field": prosqa('[{"question": "x"}]', ["item 1: field", "is missing"]),
    "prosqa that leads nowhere": prosqa(
        json.dumps(
            [
                {
                    "question": "Is A a b or c?",
                    "answer": "A is a b.",
                    "steps": ["x"],
                    "idx_to_symbol": ["A"],
                    "edges": [],
                    "root": 9,
                    "target": 0,
                    "neg_target": 0,
                }
            ]
        ),
        ["item 1", "root is 9, but idx_to_symbol has 1 entries"],
    ),
    # data sets of the library datasets
    "data set that is missing": experiment(
        {"task": {"name": "dataset", "path": "DIR/nowhere"}, "tokenizer": "characters"},
        ["DIR/nowhere: datasets cannot load split 'train'", "Check path"],
    ),
    "data set that says it was saved": experiment(
        {"task": {"name": "dataset", "path": "DIR/saved"}, "tokenizer": "characters"},
        ["DIR/saved: datasets cannot load split 'train'"],
        files={"saved/state.json": "{}", "saved/dataset_info.json": "[]"},
    ),
    # functions
    "function that fails": experiment(
        {"task": {"name": "python", "function": "rows_that_fail:rows"}, "tokenizer": "characters"},
        ["rows_that_fail:rows: failed after 1 rows: ZeroDivisionError"],
        files={
            "rows_that_fail.py": "def rows():\n    yield dict(prompt='a', answer='b')\n    1 / 0\n"
        },
    ),
    "function that yields text": experiment(
        {"task": {"name": "python", "function": "rows_of_text:rows"}, "tokenizer": "characters"},
        ["rows_of_text:rows, row 1: expected a dict of fields, found str"],
        files={"rows_of_text.py": "def rows():\n    yield 'a'\n"},
    ),
    "module that is no Python": experiment(
        {"task": {"name": "python", "function": "no_python:rows"}, "tokenizer": "characters"},
        ["no_python:rows: failed after 0 rows: SyntaxError"],
        files={"no_python.py": "def rows(:\n"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_data(name, ntpctp, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # beside the user's functions
    check(CASES[name], ntpctp, tmp_path, monkeypatch)
