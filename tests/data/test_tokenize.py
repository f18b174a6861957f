"""Encoding against ids and roles written out by hand."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ntpctp._core.errors import InputError
from ntpctp.data.example import Example, Message, Segment
from ntpctp.data.tokenize import ROLE_CODES, closed_tokenizer, encode, load_tokenizer

P, R, A, T = (ROLE_CODES[role] for role in ("prompt", "reasoning", "answer", "assistant"))


def example(prompt, answer, reasoning="", marker=""):
    segments = [Segment("prompt", prompt)]
    if reasoning:
        segments.append(Segment("reasoning", reasoning + marker))
    return Example((*segments, Segment("answer", answer)), answer_marker=marker)


def test_characters_roles_and_end_of_sequence():
    tokenizer = closed_tokenizer(["1+2=3"], "characters")
    (row,) = encode([example("1+2=", "3")], tokenizer)
    assert tokenizer.convert_ids_to_tokens(row.input_ids) == ["1", "+", "2", "=", "3", "<eos>"]
    assert row.roles.tolist() == [P, P, P, P, A, A]  # stopping belongs to the answer
    assert row.answer_start == 4
    assert row.input_ids.dtype == np.int64 and row.roles.dtype == np.uint8


def test_reasoning_stands_between_prompt_and_answer():
    tokenizer = closed_tokenizer(["ab c#d"], "characters")
    (row,) = encode([example("a", "d", "bc", "#")], tokenizer)
    assert row.roles.tolist() == [P, R, R, R, A, A]
    assert row.answer_start == 1  # decoding takes over where the reasoning begins


def test_characters_round_trip_exactly_and_words_read_well():
    text = "a b\n c"
    characters = closed_tokenizer([text], "characters")
    assert characters.decode(characters(text).input_ids) == text
    words = closed_tokenizer(["Tom is a lempus. Is he?"], "words")
    assert words.decode(words("Tom is a lempus.").input_ids) == "Tom is a lempus."
    marked = closed_tokenizer(["7 ### 8"], "words")
    assert marked.decode(marked("7 ### 8").input_ids) == "7 ### 8"


def test_saved_tokenizer_encodes_alike(tmp_path):
    for pieces in ("characters", "words"):
        tokenizer = closed_tokenizer(["Tom is 12."], pieces)
        tokenizer.save_pretrained(tmp_path / pieces)
        again = load_tokenizer(str(tmp_path / pieces))
        assert again("12 Tom.").input_ids == tokenizer("12 Tom.").input_ids
        assert again.eos_token_id == tokenizer.eos_token_id


def test_unknown_piece_names_the_example():
    tokenizer = closed_tokenizer(["1+2="], "characters")
    with pytest.raises(InputError, match=r"test example 0: the tokenizer has no token .*'1\+x= 2'"):
        encode([example("1+x=", "2")], tokenizer, "test")


def test_nothing_before_the_answer_is_refused():
    tokenizer = closed_tokenizer(["12"], "characters")
    with pytest.raises(InputError, match="no token precedes the answer"):
        encode([example("", "2")], tokenizer)


def test_answer_without_a_token_is_refused():
    # This tokenizer drops everything but digits.
    raw = Tokenizer(models.WordLevel({"<eos>": 0, "1": 1}, "<eos>"))
    raw.pre_tokenizer = pre_tokenizers.Split("!", "removed")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>")
    with pytest.raises(InputError, match="the answer '!' has no token"):
        encode([example("1", "!")], tokenizer)


def test_beginning_of_sequence_is_put_before_the_prompt():
    from tokenizers.processors import TemplateProcessing

    raw = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "a": 2, "b": 3}, "<s>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token=None
    )
    (row,) = encode([example("a", "b")], tokenizer)
    assert row.input_ids.tolist() == [0, 2, 3, 1]
    assert row.roles.tolist() == [P, P, A, A]
    (bare,) = encode([example("", "b")], tokenizer)  # the start token is context enough
    assert bare.input_ids.tolist() == [0, 3, 1]


CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def chat_tokenizer(template=CHAT):
    tokenizer = closed_tokenizer(["<user>assistant system</> abc hi yo"], "characters")
    tokenizer.chat_template = template
    return tokenizer


def test_chat_roles_follow_the_template():
    messages = (
        Message("user", "a"),
        Message("assistant", "b"),
        Message("user", "c"),
        Message("assistant", "hi"),
    )
    tokenizer = chat_tokenizer()
    (row,) = encode([Example(messages=messages)], tokenizer)
    text = "<user>a</><assistant>b</><user>c</><assistant>hi</>"
    assert tokenizer.decode(row.input_ids) == text + "<eos>"
    by_role = {
        role: "".join(c for c, code in zip(text, row.roles, strict=False) if code == role)
        for role in (P, T, A)
    }
    assert by_role[T] == "b</>"
    assert by_role[A] == "hi</>"
    assert row.roles[-1] == A  # end of sequence
    assert tokenizer.decode(row.input_ids[: row.answer_start]).endswith("c</><assistant>")


def test_chat_without_template_is_refused():
    messages = (Message("user", "a"), Message("assistant", "b"))
    with pytest.raises(InputError, match="no chat template"):
        encode([Example(messages=messages)], closed_tokenizer(["ab"], "characters"))


def test_template_that_rewrites_earlier_turns_is_refused():
    shrinking = "{% for m in messages %}{% if loop.last or m.role == 'user' %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}"  # noqa: E501
    messages = tuple(Message(r, "a") for r in ("user", "assistant", "user", "assistant"))
    with pytest.raises(InputError, match=r"renders turn 2 differently once later turns follow"):
        encode([Example(messages=messages)], chat_tokenizer(shrinking))


def test_missing_tokenizer_and_missing_end_token(tmp_path):
    with pytest.raises(InputError, match="no tokenizer files in"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(InputError, match="no directory /no/such/place"):
        load_tokenizer("/no/such/place")
    raw = Tokenizer(models.WordLevel({"a": 0}, "a"))
    PreTrainedTokenizerFast(tokenizer_object=raw).save_pretrained(tmp_path / "endless")
    with pytest.raises(InputError, match="no end-of-sequence token"):
        load_tokenizer(str(tmp_path / "endless"))


@pytest.mark.parametrize("role", ["answer", "reasoning"])
def test_an_end_of_sequence_inside_what_is_to_be_written_is_an_error(role):
    tokenizer = closed_tokenizer(["ab# <eos>"], "characters")
    reasoning = Segment("reasoning", "a<eos>b# " if role == "reasoning" else "a# ")
    answer = Segment("answer", "a<eos>b" if role == "answer" else "b")
    example = Example((Segment("prompt", "a<eos>b"), reasoning, answer), answer_marker="# ")
    with pytest.raises(
        InputError, match="s example 0: reasoning or answer contains the end of seq"
    ):
        encode([example], tokenizer, "s")
    good = Example((Segment("prompt", "a<eos>b"), Segment("answer", "b")))
    assert len(encode([good], tokenizer)[0]) == 5


def test_the_end_of_sequence_that_a_chat_lacks_stands_for_no_character():
    tokenizer = closed_tokenizer(["ab|\n"], "characters")
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}|\n{% endfor %}"
    messages = (Message("user", "a"), Message("assistant", "b"))
    (row,) = encode([Example(messages=messages)], tokenizer)
    assert row.input_ids[-1] == tokenizer.eos_token_id
    assert row.offsets[-1].tolist() == [len(row.text)] * 2


def test_a_directory_without_a_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=f"no tokenizer files in {tmp_path}"):
        load_tokenizer(str(tmp_path))


def test_tokenizer_files_that_cannot_be_read(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot load a tokenizer from"):
        load_tokenizer(str(tmp_path))
