"""The user's own JSONL: what is read, what is held out, and what every mistake is told."""

import json

import pytest
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp.data.example import Message, Segment
from ntpctp.data.leakage import check_disjoint
from ntpctp.data.tasks.files.jsonl import JsonLines


@pytest.fixture
def file(tmp_path):
    """Write text, or rows as JSON, to a file; return its path as the user would give it."""

    def write(*rows, name="data.jsonl", newline="\n"):
        lines = [
            row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows
        ]
        path = tmp_path / name
        path.write_bytes(newline.join(lines).encode("utf-8"))
        return str(path)

    return write


def sums(number, start=0):
    return [{"prompt": f"{k}+1=", "answer": str(k + 1)} for k in range(start, start + number)]


def everything(task):
    return [*task.split("train"), *task.split("test")]


def row(**change):
    return {"prompt": "2+2=", "answer": "4"} | change


def test_prompt_and_answer_work_as_they_are(file):
    task = JsonLines(path=file(*sums(3)))
    by_source = {example.source.rpartition(", ")[2]: example for example in everything(task)}
    assert sorted(by_source) == ["line 1", "line 2", "line 3"]
    assert by_source["line 2"].segments == (Segment("prompt", "1+1="), Segment("answer", "2"))
    assert by_source["line 2"].answer_marker == ""


def test_all_fields(file):
    full = row(reasoning="Two and two.", choices=["3", "4"], id=7)
    task = JsonLines(path=file(full, row(prompt="x")), separator="\n", seed=0)
    example = next(e for e in everything(task) if e.source.endswith("line 1"))
    assert example.segments == (
        Segment("prompt", "2+2=\n"),
        Segment("reasoning", "Two and two.\n#### "),
        Segment("answer", "4"),
    )
    assert example.choices == ("3", "4")
    assert example.answer_marker == "#### "


@pytest.mark.parametrize("reasoning", ["So.\n", "So.\nTherefore: "])
def test_the_marker_stands_once_at_the_end_of_the_reasoning(file, reasoning):
    rows = [row(reasoning=reasoning), row(prompt="x")]
    task = JsonLines(path=file(*rows), answer_marker="Therefore: ")
    example = next(e for e in everything(task) if e.source.endswith("line 1"))
    assert example.text("reasoning") == "So.\nTherefore: "


def test_chat_beside_prompt_and_answer(file):
    chat = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "2+2?"},
            {"role": "assistant", "content": "4"},
        ]
    }
    task = JsonLines(path=file(chat, *sums(4)))
    (example,) = [e for e in everything(task) if e.messages]
    assert example.messages[1:] == (Message("user", "2+2?"), Message("assistant", "4"))
    assert example.answer == "4" and example.source.endswith("line 1")


def test_empty_optional_fields_are_absent(file):
    rows = [row(reasoning="", choices=[], messages=None), row(prompt="x", reasoning=None)]
    assert all(
        not e.choices and len(e.segments) == 2 for e in everything(JsonLines(path=file(*rows)))
    )


def test_other_field_names(file):
    rows = [{"question": f"q{k}", "final": "a", "prompt": 3} for k in range(3)]
    task = JsonLines(path=file(*rows), fields={"prompt": "question", "answer": "final"})
    assert sorted(e.text("prompt") for e in everything(task)) == ["q0", "q1", "q2"]


def test_byte_order_mark_windows_lines_blank_lines_and_emoji(file):
    first, second = row(prompt="\N{GRINNING FACE}\u2028?"), row(prompt="é")
    path = file("\ufeff" + json.dumps(first, ensure_ascii=False), "", "  ", second, newline="\r\n")
    examples = {e.source.rpartition(" ")[2]: e for e in everything(JsonLines(path=path))}
    assert examples["1"].text("prompt") == "\N{GRINNING FACE}\u2028?"
    assert examples["4"].text("prompt") == "é"


@pytest.mark.parametrize("number, held_out", [(2, 1), (4, 1), (20, 4), (27, 5)])
def test_a_fifth_is_held_out_by_default(file, number, held_out):
    task = JsonLines(path=file(*sums(number)))
    assert (len(task.split("train")), len(task.split("test"))) == (number - held_out, held_out)
    check_disjoint(task.all_splits())


def test_copies_and_other_answers_to_one_prompt_stay_together(file):
    rows = sums(10) * 3 + [{"prompt": f"{k}+1=", "answer": "many"} for k in range(10)]
    task = JsonLines(path=file(*rows), test_size=5)
    train, test = ({e.text("prompt") for e in task.split(name)} for name in ("train", "test"))
    assert len(test) == 5 and len(train) == 5 and not train & test
    assert len(everything(task)) == 40


def test_what_is_held_out_depends_on_content_and_seed_alone(file):
    def held_out(rows, name, **options):
        task = JsonLines(path=file(*rows, name=name), test_size=10, **options)
        return {e.text("prompt") for e in task.split("test")}

    forward = held_out(sums(50), "a")
    assert held_out(sums(50)[::-1], "b") == forward
    assert len(held_out(sums(51), "c") & forward) >= 9
    assert held_out(sums(50), "d", seed=1) != forward


def test_order_is_that_of_the_file(file):
    task = JsonLines(path=file(*sums(50)))
    for name in ("train", "test"):
        numbers = [int(e.source.rpartition(" ")[2]) for e in task.split(name)]
        assert numbers == sorted(numbers)


def test_a_test_file(file):
    task = JsonLines(path=file(*sums(3), name="a"), test_path=file(*sums(2, start=9), name="b"))
    assert [e.answer for e in task.split("test")] == ["10", "11"]
    assert len(task.split("train")) == 3


def test_overlap_of_the_files_names_both_lines(file):
    task = JsonLines(path=file(*sums(3), name="a"), test_path=file(*sums(2, start=2), name="b"))
    with pytest.raises(
        InputError, match=r"a, line 3\) and 'test' \(.*b, line 1\) share an example"
    ):
        check_disjoint(task.all_splits())


@pytest.mark.parametrize(
    "line, match",
    [
        ("{", "line 2: expected one JSON object, found invalid JSON: .* at column 2"),
        ("[1]", "line 2: expected one JSON object, found list"),
        ({"prompt": "?"}, r"line 2: field 'answer' is missing \(found: prompt\)"),
        ({}, r"line 2: field 'prompt' is missing \(found: nothing\)"),
        (
            {"promt": "?", "answer": "4"},
            r"line 2: field 'prompt' is missing; did you mean 'promt'\? \(found: promt, answer\)",
        ),
        (row(answer=4), "line 2: field 'answer': expected a string, found int 4"),
        (row(prompt=None), "line 2: field 'prompt': expected a string, found NoneType null"),
        (
            row(reasoning=["a"]),
            r"line 2: field 'reasoning': expected a string, found list \[\"a\"\]",
        ),
        ('{"prompt": "\\ud83d", "answer": "4"}', "line 2: field 'prompt': character 1 is half of"),
        (row(answer=" "), "line 2: empty answer"),
        (row(choices="34"), "line 2: field 'choices': expected a list of strings, found \"34\""),
        (
            row(choices=[3, 4]),
            r"line 2: field 'choices': expected a list of strings, found \[3, 4\]",
        ),
        (row(choices=["4"]), "line 2: field 'choices': expected at least two different choices"),
        (row(choices=["4", "4"]), "line 2: field 'choices': expected at least two different"),
        (row(choices=["3", "5"]), "line 2: the answer '4' is not among the choices"),
        (row(resoning="."), "line 2: unknown field 'resoning'; did you mean 'reasoning'"),
        (
            row(reasoning="a", answer="#### 4"),
            "line 2: the answer '#### 4' contains the answer mark",
        ),
        (
            row(messages=[]),
            r"line 2: has 'messages' and \['answer', 'prompt'\]\. A chat has only messages",
        ),
        (
            r'{"prompt": "2+2=", "answer": "4", "choices": ["4", "\ud800"]}',
            "line 2: field 'choices': character 1 is half of a surrogate",
        ),
        ({"messages": []}, r"line 2: field 'messages': expected a list of at least one message"),
        ({"messages": ["hi"]}, "line 2, message 1: expected an object with role and content, fou"),
        (
            {"messages": [{"role": "asistant", "content": "4"}]},
            "line 2, message 1: unknown role 'asistant'; did you mean 'assistant'",
        ),
        (
            {"messages": [{"role": "assistant", "content": None}]},
            "line 2, message 1: expected content to be a string, found NoneType",
        ),
        (
            {"messages": [{"role": "user", "content": "4"}]},
            "line 2: expected the last message to be the assistant's",
        ),
    ],
)
def test_a_bad_line_is_named(file, line, match):
    path = file(row(), line)
    with pytest.raises(InputError, match=rf"data\.jsonl, {match}"):
        JsonLines(path=path).split("train")


def test_not_utf8(tmp_path):
    path = tmp_path / "latin1.jsonl"
    path.write_bytes(b'{"prompt": "a", "answer": "b"}\n{"prompt": "\xe9", "answer": "b"}')
    with pytest.raises(InputError, match=r"line 2: .* found bytes that are not UTF-8 at column 13"):
        JsonLines(path=str(path)).split("train")


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_empty_file(file, content):
    with pytest.raises(InputError, match="expected at least one example, found none"):
        JsonLines(path=file(content)).split("train")


def test_no_file_and_a_directory(tmp_path):
    with pytest.raises(InputError, match="found no such file"):
        JsonLines(path=str(tmp_path / "none")).split("train")
    with pytest.raises(InputError, match="found a directory"):
        JsonLines(path=str(tmp_path)).split("train")


@pytest.mark.parametrize(
    "rows, size, found", [(sums(1), None, 1), (sums(1) * 9, 1, 1), (sums(4), 4, 4)]
)
def test_too_few_to_hold_out(file, rows, size, found):
    with pytest.raises(
        InputError, match=rf"expected more than test_size = \d distinct prompts, found {found}\."
    ):
        JsonLines(path=file(*rows), test_size=size).split("test")


def test_unknown_split(file):
    with pytest.raises(InputError, match="unknown split of jsonl 'dev'"):
        JsonLines(path=file(*sums(3))).split("dev")


@pytest.mark.parametrize(
    "options, match",
    [
        ({"test_path": "b", "test_size": 3}, "Remove one of them"),
        ({"answer_marker": " "}, "answer_marker: expected at least one visible character"),
        ({"test_size": 0}, "greater than or equal to 1"),
        ({"fields": {"promt": "q"}}, "Input should be 'prompt'"),
    ],
)
def test_options_are_checked(options, match):
    with pytest.raises(ValidationError, match=match):
        JsonLines(path="a", **options)
