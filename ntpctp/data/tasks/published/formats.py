r"""Readers of published data sets, one for each file format.

    prontoqa    {"example1": {"test_example": {"question": ..., "query": "True or false: ...",
                "chain_of_thought": [...], "answer": "True"}}}
    logicasker  CSV with the columns query and answer (yes or no)
    ruletaker   {"id": ..., "context": ..., "questions": [{"text": ..., "label": true}]} a line
    clutrr      CSV with the columns story, query ("('Jason', 'Lewis')") and target_text or target
    cogs        sentence <tab> logical form <tab> type, a line; ReCOGS likewise
    scan        IN: jump twice OUT: I_JUMP I_JUMP
    gsm8k       {"question": ..., "answer": "... <<16-3-4=9>>9 eggs.\n#### 18"} a line

A reader yields a ``PublishedItem`` for every item of a file.
"""

import ast
import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ntpctp._core.errors import InputError, nearest
from ntpctp._core.files import read_json, read_numbered_jsonl

csv.field_size_limit(2**31 - 1)  # the default of 128 KiB is less than a long document


# Two strings as Python writes them, in brackets.
_TWO_NAMES = r"""\(\s*('[^'\\]*'|"[^"\\]*")\s*,\s*('[^'\\]*'|"[^"\\]*")\s*\)"""


class PublishedItem(NamedTuple):
    """One item of a published file.

    ``where`` names file and item. Items with the same ``group`` stay on one side of a split; empty:
    the question. ``strata`` are properties given in the file, such as depth or type.
    """

    where: str
    question: str
    answer: str
    reasoning: str = ""
    choices: tuple[str, ...] = ()
    group: str = ""
    strata: tuple[tuple[str, str], ...] = ()


def _field(row: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    """Return ``row[name]``, which must be a ``kind``.

    Raises:
        InputError: names file, item, field and the value found.
    """
    if row.get(name) is None:  # None: the line of a CSV file is too short
        raise InputError(
            f"{where}: field {name!r} is missing{nearest(name, [k for k in row if k])} "
            f"(found: {', '.join(str(k) for k in row if k)})"
        )
    if not isinstance(row[name], kind):
        raise InputError(
            f"{where}: field {name!r}: expected {kind.__name__}, found "
            f"{type(row[name]).__name__} {str(row[name])[:80]!r}"
        )
    return row[name]


def _one_of(answer: str, choices: tuple[str, ...], name: str, where: str) -> str:
    if answer not in choices:
        raise InputError(
            f"{where}: field {name!r}: expected one of {', '.join(choices)}, found {answer[:80]!r}"
        )
    return answer


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text: {error}") from error


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the non-empty lines, each after its source."""
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}, line {number}", line.rstrip("\r")


def _strata(**levels: object) -> tuple[tuple[str, str], ...]:
    """Return the levels by name, except for missing ones."""
    return tuple((name, str(level)) for name, level in levels.items() if level not in (None, ""))


def _meta(question: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = question.get("meta")
    return meta if isinstance(meta, dict) else {}


def csv_rows(path: Path, delimiter: str = ",") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a CSV file by the names in its header, each after its source.

    Raises:
        InputError: if the file is not CSV, or the header repeats a name; names file and line.
    """
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
    try:
        names = reader.fieldnames or []
        twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
        if twice is not None:
            raise InputError(
                f"{path}, line 1: duplicate column {twice!r} in the header. Rename one of them"
            )
        for row in reader:
            yield f"{path}, line {reader.line_num}", row
    except csv.Error as error:
        line = reader.reader.line_num  # DictReader.line_num is that of the row before
        raise InputError(f"{path}, line {line}: expected CSV: {error}") from error


def prontoqa(path: Path) -> Iterator[PublishedItem]:
    """PrOntoQA: the output of asaparov/prontoqa with ``--model-name json``."""
    data = read_json(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a JSON object of examples, found {type(data).__name__}")
    for name, example in data.items():
        where = f"{path}, {name}"
        if not isinstance(example, dict):
            raise InputError(f"{where}: expected a JSON object, found {type(example).__name__}")
        row = _field(example, "test_example", dict, where)
        question, query, answer = (
            _field(row, key, str, f"{where}, test_example")
            for key in ("question", "query", "answer")
        )
        steps = _field(row, "chain_of_thought", list, f"{where}, test_example")
        choices = ("True", "False")
        _one_of(answer, choices, "answer", where)
        yield PublishedItem(
            where, f"{question} {query}", answer, " ".join(map(str, steps)), choices
        )


def logicasker(path: Path) -> Iterator[PublishedItem]:
    """LogicAsker: data/test.csv and train.csv of yxwan123/LogicAsker."""
    choices = ("yes", "no")
    for where, row in csv_rows(path):
        answer = _one_of(_field(row, "answer", str, where), choices, "answer", where)
        yield PublishedItem(where, _field(row, "query", str, where), answer, choices=choices)


def ruletaker(path: Path) -> Iterator[PublishedItem]:
    """RuleTaker: ``train.jsonl`` etc. of rule-reasoning-dataset-V2020.2.5.

    Stratum: the depth of the proof (``QDep``), if the file has it.
    """
    for number, row in read_numbered_jsonl(path):
        line = f"{path}, line {number}"
        context = _field(row, "context", str, line)
        for k, question in enumerate(_field(row, "questions", list, line), start=1):
            where = f"{line}, question {k}"
            if not isinstance(question, dict):
                raise InputError(f"{where}: expected a JSON object, found {question!r}")
            text = _field(question, "text", str, where)
            label = str(_field(question, "label", bool, where))
            yield PublishedItem(
                where,
                f"{context} True or false: {text}",
                label,
                choices=("True", "False"),
                group=context,
                strata=_strata(depth=_meta(question).get("QDep")),
            )


def clutrr(path: Path) -> Iterator[PublishedItem]:
    """CLUTRR: the CSV of facebookresearch/clutrr, or of the data set CLUTRR/v1 on the Hub.

    The relation is in ``target`` in the former and in ``target_text`` in the latter, where
    ``target`` is a number. Stratum: the number of relations in the chain, at the end of the task's
    name ("task_1.2").
    """
    for where, row in csv_rows(path):
        query = _field(row, "query", str, where)
        match = re.fullmatch(_TWO_NAMES, query.strip())
        if match is None:
            raise InputError(
                f"{where}: field 'query': expected two names like ('Ann', 'Bob'), found "
                f"{query[:80]!r}"
            )
        first, second = map(ast.literal_eval, match.groups())
        target = _field(row, "target_text" if "target_text" in row else "target", str, where)
        if target.isdigit():
            raise InputError(
                f"{where}: field 'target': expected a relation, found the number {target}, and "
                "the field 'target_text' is missing"
            )
        story = _field(row, "story", str, where)
        length = re.fullmatch(r"task_\d+\.(\d+)", str(row.get("task_name")))
        strata = _strata(hops=length and length[1])
        yield PublishedItem(
            where, f"{story} How is {second} related to {first}?", target, strata=strata
        )


def cogs(path: Path) -> Iterator[PublishedItem]:
    """COGS and ReCOGS: tab-separated sentence, logical form and type, without a header.

    Stratum: the type.
    """
    for where, line in _lines(path):
        columns = line.split("\t")
        if len(columns) != 3:
            raise InputError(
                f"{where}: expected sentence, logical form and type between tabs, found "
                f"{len(columns)} columns"
            )
        yield PublishedItem(where, columns[0], columns[1], strata=_strata(type=columns[2].strip()))


def scan(path: Path) -> Iterator[PublishedItem]:
    """SCAN: command and actions, as in brendenlake/SCAN."""
    for where, line in _lines(path):
        match = re.fullmatch(r"IN: (.+) OUT: (.+)", line.strip())
        if match is None:
            raise InputError(f"{where}: expected 'IN: command OUT: actions', found {line[:80]!r}")
        yield PublishedItem(where, match[1], match[2])


def gsm8k(path: Path) -> Iterator[PublishedItem]:
    """GSM8K: the final number is the answer, the solution before it the reasoning.

    Calculator annotations (``<<...>>``), thousands separators in the answer, and a full stop after
    it are removed.
    """
    for number, row in read_numbered_jsonl(path):
        where = f"{path}, line {number}"
        solution, marker, final = _field(row, "answer", str, where).rpartition("#### ")
        answer = final.strip().removesuffix(".").replace(",", "")
        if not marker or not re.fullmatch(r"-?\d+(\.\d+)?", answer):
            raise InputError(
                f"{where}: field 'answer': expected it to end with '#### ' and a number, found "
                f"{(marker + final)[-80:]!r}"
            )
        reasoning = re.sub(r"<<[^>]*>>", "", solution).strip()
        yield PublishedItem(where, _field(row, "question", str, where), answer, reasoning)


FORMATS: dict[str, Callable[[Path], Iterator[PublishedItem]]] = {
    "clutrr": clutrr,
    "cogs": cogs,
    "gsm8k": gsm8k,
    "logicasker": logicasker,
    "prontoqa": prontoqa,
    "ruletaker": ruletaker,
    "scan": scan,
}
