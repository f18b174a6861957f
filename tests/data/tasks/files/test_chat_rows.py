"""Tools and their calls, from a row of a file to the tokens that the loss sees."""

import json

import pytest

from ntpctp._core.errors import InputError
from ntpctp.data.arrow import record_batch, stored_split
from ntpctp.data.example import Message
from ntpctp.data.tasks import JsonLines
from ntpctp.data.tasks.files.chat_rows import read_message, read_tools
from ntpctp.data.tasks.files.rows import RowReader
from ntpctp.data.tokenize import encode_examples
from ntpctp.objectives import CTP
from tests.data.published_tokenizer import gpt2_tokenizer

# In the manner of Hermes: tools in a system turn, calls as JSON, results as turns of their own.
TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    "<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<call>{{ call.function | tojson }}</call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOOLS = [{"type": "function", "function": {"name": "sum", "parameters": {"a": "integer"}}}]
CALL = {"id": "c1", "type": "function", "function": {"name": "sum", "arguments": {"a": 2, "b": 2}}}
ROW = {
    "tools": TOOLS,
    "messages": [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "name": None},
        {"role": "tool", "content": "4", "tool_call_id": "c1"},
        {"role": "assistant", "content": "It is 4."},
    ],
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    special = ("<|im_start|>", "<|im_end|>")
    return gpt2_tokenizer(tmp_path_factory.mktemp("gpt2"), TEMPLATE, "<|im_end|>", special)


def example_of(row):
    return RowReader("#### ").example(row, "here")


def seen(row, tokenizer, *roles):
    weights = CTP(roles=list(roles)).of_example(row).weights
    return tokenizer.decode(row.input_ids[weights > 0])


def test_the_template_renders_tools_and_calls(tokenizer):
    example = example_of(ROW)
    (row,) = encode_examples([example], tokenizer)
    whole = tokenizer.apply_chat_template(ROW["messages"], tools=TOOLS, tokenize=False)
    # The template would print None for the content that a call does not have.
    assert row.text == whole.replace("None<call>", "<call>")
    assert json.dumps(TOOLS[0]["function"]["parameters"]) in row.text
    assert seen(row, tokenizer, "answer") == "It is 4.<|im_end|>"
    call = '<call>{"name": "sum", "arguments": {"a": 2, "b": 2}}</call><|im_end|>'
    assert seen(row, tokenizer, "assistant") == call


def test_a_call_may_be_the_answer(tokenizer):
    example = example_of({**ROW, "messages": ROW["messages"][:2]})
    (row,) = encode_examples([example], tokenizer)
    assert seen(row, tokenizer, "answer").startswith('<call>{"name": "sum"')


def test_tools_and_calls_are_kept_and_make_another_example(tokenizer, tmp_path):
    import pyarrow as pa

    example, other = example_of(ROW), example_of({**ROW, "tools": None})
    assert example.key != other.key
    renamed = json.loads(json.dumps(ROW).replace('"b"', '"c"'))
    assert example_of(renamed).key != example.key
    batch = record_batch([example], encode_examples([example], tokenizer))
    with pa.ipc.new_stream(str(tmp_path / "x.arrow"), batch.schema) as stream:
        stream.write_batch(batch)
    stored, _ = stored_split(tmp_path / "x.arrow")
    assert stored[0] == example


def test_other_fields_go_to_the_template_without_nulls():
    message = {"role": "assistant", "content": "4", "reasoning_content": "é", "name": None}
    assert read_message(message, "here") == Message("assistant", "4", '{"reasoning_content": "é"}')
    assert read_message({"role": "user", "content": "4"}, "here").more == ""


@pytest.mark.parametrize(
    "row, match",
    [
        ({**ROW, "tools": {"name": "sum"}}, "here: field 'tools': expected a list of tools"),
        ({**ROW, "tools": ["sum"]}, "here: field 'tools': expected a list of tools"),
        (
            {"prompt": "2+2", "answer": "4", "tools": TOOLS},
            "here: has 'tools' without 'messages'; only a chat template renders tools",
        ),
        ({**ROW, "answer": "4"}, r"has 'messages' and \['answer'\]"),
    ],
)
def test_what_is_refused(row, match):
    with pytest.raises(InputError, match=match):
        example_of(row)


def test_what_json_cannot_hold():
    with pytest.raises(InputError, match="there: cannot be written as JSON"):
        read_tools([{"a": float("nan")}], "there")


def test_from_a_file(tmp_path):
    path = tmp_path / "chats.jsonl"
    other = {"messages": [{"role": r, "content": r} for r in ("user", "assistant")]}
    path.write_text(json.dumps(ROW) + "\n" + json.dumps(other) + "\n")
    task = JsonLines(path=str(path), test_size=1)
    tools = [e.tools for split in task.all_splits().values() for e in split]
    assert sorted(tools) == ["", json.dumps(TOOLS)]
