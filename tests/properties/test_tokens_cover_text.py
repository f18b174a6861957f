"""Whatever the text: tokens give it back, cover it without a gap, and know whose part it is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntpctp.data.arrow import record_batch
from ntpctp.data.encoded import ROLE_CODES, trim_prompt
from ntpctp.data.example import Example, Segment
from ntpctp.data.tokenize import closed_tokenizer, encode, encode_examples
from ntpctp.objectives import Critical
from tests.data.published_tokenizer import gpt2_tokenizer

BOUNDED = settings(max_examples=80, derandomize=True, deadline=None, database=None)
# All of Unicode but halves of surrogate pairs, with what is written in odd ways more often.
SIGNS = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from(list("a1 =\n\t\0\u202e\u0301\u200d\ufeff\u05d0\u0627\U0001f468\U0001f3fd")),
)
TEXTS = st.text(SIGNS, max_size=12)
ANSWERS = TEXTS.filter(lambda text: text.strip())


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    return gpt2_tokenizer(tmp_path_factory.mktemp("gpt2"), "")


@st.composite
def examples(draw):
    prompt, reasoning, answer = draw(TEXTS), draw(TEXTS), draw(ANSWERS)
    segments = [Segment("prompt", f"?{prompt}")]
    if reasoning:
        segments.append(Segment("reasoning", f"{reasoning}#"))
    segments.append(Segment("answer", answer))
    text = "".join(segment.text for segment in segments)
    spans = []
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(text) - 1))
        spans.append((start, draw(st.integers(start + 1, len(text)))))
    marker = "#" if reasoning else ""
    return Example(tuple(segments), answer_marker=marker, spans=tuple(spans))


def roles_of_characters(example):
    return [segment.role for segment in example.segments for _ in segment.text]


def check_row(row, example, tokenizer):
    text = "".join(segment.text for segment in example.segments)
    roles = roles_of_characters(example)
    assert row.text == text and row.offsets is not None
    assert row.input_ids[-1] == tokenizer.eos_token_id
    covered = np.zeros(len(text), bool)
    for token, (start, end) in enumerate(row.offsets[:-1].tolist()):
        assert 0 <= start < end <= len(text)
        covered[start:end] = True
        # All characters of a token have one role, and it is the token's.
        assert {roles[place] for place in range(start, end)} == {
            next(role for role, code in ROLE_CODES.items() if code == row.roles[token])
        }
    assert covered.all()
    assert row.offsets[-1].tolist() == [len(text), len(text)]
    starts = row.offsets[:, 0].tolist()
    assert starts == sorted(starts)
    given_part = "".join(s.text for s in example.segments if s.role == "prompt")
    assert row.offsets[row.answer_start, 0] == len(given_part)


@BOUNDED
@given(st.lists(examples(), min_size=1, max_size=4))
def test_characters(found):
    texts = [segment.text for example in found for segment in example.segments]
    tokenizer = closed_tokenizer(texts, "characters")
    for row, example in zip(encode(found, tokenizer), found, strict=True):
        check_row(row, example, tokenizer)
        assert tokenizer.decode(row.input_ids[:-1]) == row.text
        assert len(row) == len(row.text) + 1


@BOUNDED
@given(st.lists(examples(), min_size=1, max_size=4))
def test_bytes(byte_level, found):
    for row, example in zip(encode(found, byte_level), found, strict=True):
        check_row(row, example, byte_level)
        decoded = byte_level.decode(row.input_ids[:-1], clean_up_tokenization_spaces=False)
        assert decoded == row.text


@BOUNDED
@given(st.lists(examples(), min_size=1, max_size=4))
def test_many_at_once_are_as_one_by_one(found):
    texts = [segment.text for example in found for segment in example.segments]
    tokenizer = closed_tokenizer(texts, "characters")
    together = encode_examples(found, tokenizer)
    for row, example in zip(together, found, strict=True):
        (alone,) = encode([example], tokenizer)
        assert row.input_ids.tolist() == alone.input_ids.tolist()
        assert row.roles.tolist() == alone.roles.tolist()
        assert row.offsets.tolist() == alone.offsets.tolist()
        assert (row.answer_start, row.marked) == (alone.answer_start, alone.marked)
    stored = record_batch(found, together)
    assert stored.column("text").to_pylist() == [row.text for row in together]


@BOUNDED
@given(examples())
def test_marked_characters_are_critical(example):
    tokenizer = closed_tokenizer([s.text for s in example.segments], "characters")
    (row,) = encode([example], tokenizer)
    (supervision,) = Critical(spans=True).supervise([row], None)
    marked = {place for start, end in example.spans for place in range(start, end)}
    weights = supervision.weights[1:-1].tolist()
    assert weights == [float(place in marked) for place in range(1, len(row.text))]


@BOUNDED
@given(examples(), st.integers(1, 40))
def test_trimming_cuts_the_prompt_alone(example, length):
    tokenizer = closed_tokenizer([s.text for s in example.segments], "characters")
    (row,) = encode([example], tokenizer)
    behind = len(row) - row.answer_start
    length = min(max(length, behind + 1), len(row))
    cut = trim_prompt(row, length, "here")
    assert len(cut) == length
    assert cut.input_ids.tolist() == row.input_ids[-length:].tolist()
    assert cut.input_ids[cut.answer_start :].tolist() == row.input_ids[row.answer_start :].tolist()
