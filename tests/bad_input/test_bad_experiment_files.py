"""Experiment files that are no experiment: no file, no text, no YAML, or too much of it."""

import os

import pytest
import yaml

from tests.bad_input.refusal import Case, check, experiment_text
from tests.conftest import TINY

GOOD = yaml.safe_dump(TINY, sort_keys=False)
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20)
)


def good_with(line):
    """Return a good file with one line more; it is the first, so that its number is known."""
    return f"{line}\n{GOOD}"


CASES: dict[str, Case] = {
    "missing": Case(
        ["run", "DIR/experiment.yaml", "--output", "DIR/out"],
        ["DIR/experiment.yaml: expected a YAML file, found no such file"],
    ),
    "directory": Case(
        ["run", "DIR/folder", "--output", "DIR/out"],
        ["DIR/folder: expected a YAML file, found a directory"],
        {"folder": None},
    ),
    "link to itself": Case(
        ["run", "DIR/link.yaml", "--output", "DIR/out"],
        ["DIR/link.yaml: expected a YAML file, found no such file"],
        make=lambda directory: os.symlink("link.yaml", directory / "link.yaml"),
    ),
    "pipe": Case(
        ["run", "DIR/pipe", "--output", "DIR/out"],
        ["DIR/pipe: expected a YAML file, found no such file"],
        make=lambda directory: os.mkfifo(directory / "pipe"),
    ),
    "file below a file": Case(
        ["run", "DIR/file/experiment.yaml", "--output", "DIR/out"],
        ["DIR/file/experiment.yaml: expected a YAML file, found no such file"],
        {"file": "text"},
    ),
    "name that is too long for any disk": Case(
        ["run", "DIR/" + "a" * 300 + ".yaml", "--output", "DIR/out"],
        [".yaml: expected a YAML file, found no such file"],
    ),
    "empty": experiment_text("", ["expected a mapping of fields, found an empty file"]),
    "comments alone": experiment_text(
        "# later\n", ["expected a mapping of fields, found an empty file"]
    ),
    "list": experiment_text("- 1\n", ["expected a mapping of fields, found a list"]),
    "text": experiment_text("train it\n", ["expected a mapping of fields, found a str"]),
    "number": experiment_text("7\n", ["expected a mapping of fields, found a int"]),
    "unclosed list": experiment_text("a: [1\n", ["experiment.yaml, line 2: invalid YAML"]),
    "unclosed quotes": experiment_text('a: "1\n', ["experiment.yaml, line 2: invalid YAML"]),
    "tab as indentation": experiment_text(
        "model:\n\tlayers: 2\n", ["line 2: invalid YAML", "cannot start any token"]
    ),
    "two values on a line": experiment_text(
        "name: a: b\n", ["line 1: invalid YAML: mapping values are not allowed here"]
    ),
    "several documents": experiment_text(
        f"---\n{GOOD}---\n{GOOD}", ["invalid YAML: but found another document"]
    ),
    "field twice": experiment_text(
        "name: a\nname: b\n", ["line 2: duplicate field 'name'. Keep one"]
    ),
    "field twice in a block": experiment_text(
        "model: {layers: 1,\n  layers: 2}\n", ["line 2: duplicate field 'layers'. Keep one"]
    ),
    "Latin-1": experiment_text("question: größer?\n".encode("latin-1"), ["expected UTF-8 text"]),
    "UTF-16": experiment_text(GOOD.encode("utf-16"), ["expected UTF-8 text"]),
    "UTF-32": experiment_text(GOOD.encode("utf-32"), ["expected UTF-8 text"]),
    "picture": experiment_text(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", ["expected UTF-8 text"]),
    "NUL": experiment_text(good_with("question: a\0b"), ["special characters are not allowed"]),
    "escape character": experiment_text(
        good_with("question: \x1b[31m"), ["special characters are not allowed"]
    ),
    "half a character": experiment_text(
        good_with('question: "\\ud800"'), ["line 1: invalid YAML: half of a surrogate pair"]
    ),
    "half a character as a name": experiment_text(
        good_with('"\\udfff": 1'), ["line 1: invalid YAML: half of a surrogate pair"]
    ),
    "object of Python": experiment_text(
        good_with("question: !!python/object/apply:os.system [touch hacked]"),
        ["line 1: invalid YAML: could not determine a constructor"],
    ),
    "name of Python": experiment_text(
        good_with("question: !!python/name:os.system"), ["could not determine a constructor"]
    ),
    "tag of nobody": experiment_text(
        good_with("question: !secret x"), ["could not determine a constructor"]
    ),
    "alias of nothing": experiment_text(
        good_with("question: *there"), ["line 1: invalid YAML: found undefined alias"]
    ),
    "block within itself": experiment_text(
        good_with("data: &a {too_long: *a}"),
        ["line 1: invalid YAML: a block contains itself"],
    ),
    "list within itself": experiment_text(
        good_with("trackers: &a [*a]"), ["line 1: invalid YAML: a block contains itself"]
    ),
    "aliases without end": experiment_text(
        BOMB, ["invalid YAML: aliases (*) expand to more than 200000 fields"]
    ),
    "blocks without end": experiment_text(
        "a: " + "[" * 5000 + "]" * 5000, ["invalid YAML: nested too deeply"]
    ),
    "indentation without end": experiment_text(
        "".join(" " * depth + "a:\n" for depth in range(2000)),
        ["invalid YAML: nested too deeply"],
    ),
    "block as a name": experiment_text(
        good_with("? {a: 1}\n: 2"),
        ["line 1: expected the name of a field, found a block or a list"],
    ),
    "list as a name": experiment_text(
        good_with("[1, 2]: 3"), ["line 1: expected the name of a field, found a block or a list"]
    ),
    "date that is none": experiment_text(
        good_with("question: 2024-99-99"), ["invalid YAML: invalid value"]
    ),
    "date": experiment_text(
        good_with("question: 2024-09-09"), ["line 1: question: expected text, found datetime.date"]
    ),
    "number of too many digits": experiment_text(
        good_with("question: " + "9" * 5000), ["invalid value"]
    ),
    "number without digits": experiment_text(good_with("question: 0x_"), ["invalid value"]),
    "truth that is none": experiment_text(good_with("question: !!bool maybe"), ["invalid value"]),
    "number that is none": experiment_text(good_with("question: !!int many"), ["invalid value"]),
    "time that is none": experiment_text(
        good_with("question: !!timestamp soon"), ["invalid value"]
    ),
    "bytes": experiment_text(
        good_with("question: !!binary aGVsbG8="),
        ["line 1: question: expected text, found b'hello'"],
    ),
    "bytes that are none": experiment_text(good_with("question: !!binary ü"), ["invalid YAML: "]),
    "merged with a number": experiment_text(
        good_with("<<: 3"), ["line 1: invalid YAML: expected a mapping"]
    ),
    "stages that are too deep": experiment_text(
        "stages: " + "{a: " * 3000 + "1" + "}" * 3000, ["nested too deeply to be read"]
    ),
    "JSON with a comma too many": experiment_text(
        '{"name": "tiny",, "seeds": 1}', ["line 1: invalid YAML"]
    ),
    "another program's file": experiment_text(
        "services:\n  web:\n    image: nginx\n",
        ["services: unknown field", "task: required field is missing"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_experiment_file(name, ntpctp, tmp_path, monkeypatch):
    check(CASES[name], ntpctp, tmp_path, monkeypatch)
