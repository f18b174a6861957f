"""GPT-2's own vocabulary: merges, offsets, chats and padding as people really have them."""

import numpy as np
import pytest
import torch

from ntpctp._core.errors import InputError
from ntpctp.data.example import Example, Message, Segment
from ntpctp.data.tokenize import encode
from ntpctp.measures import Accuracy, EncodedSplit
from ntpctp.measures.context import EvaluationContext
from ntpctp.models.build import build_model
from ntpctp.models.options import ModelOptions
from ntpctp.objectives import CTP, NTP, Critical, no_reference_losses
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.objectives.loss import token_loss
from tests.data.published_tokenizer import gpt2_tokenizer

CHAT = (
    "{% if tools %}Tools: {{ tools|length }}\n{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """The tokenizer with pad == EOS, as people set it; saved and loaded as a user would."""
    return gpt2_tokenizer(tmp_path_factory.mktemp("gpt2"), CHAT)


def example(prompt, answer, **fields):
    return Example((Segment("prompt", prompt), Segment("answer", answer)), **fields)


def text_of(tokenizer, row, weights):
    return tokenizer.decode(row.input_ids[weights.astype(bool)])


def test_it_is_the_real_one(gpt2):
    assert len(gpt2) == 50257
    assert gpt2("Hello world").input_ids == [15496, 995]  # as published
    assert gpt2.eos_token_id == gpt2.pad_token_id == 50256


def test_segments_are_never_merged_across_the_boundary(gpt2):
    (row,) = encode([example("I want so", "me tea")], gpt2)
    whole = gpt2("I want some tea").input_ids  # "some" is one token
    assert row.input_ids.tolist()[:-1] != whole
    assert gpt2.decode(row.input_ids[: row.answer_start]) == "I want so"
    assert row.input_ids.tolist()[: row.answer_start] == gpt2("I want so").input_ids
    assert row.num_merged == 0


def test_offsets_point_into_the_text_even_inside_a_letter(gpt2):
    (row,) = encode([example("Grüße 🙂 an", " Zoë")], gpt2)
    assert row.text == "Grüße 🙂 an Zoë"
    pieces = [row.text[start:end] for start, end in row.offsets]
    assert pieces[0] == "Gr" and pieces[-1] == ""
    made = Critical(pattern="Zoë").supervise([row], no_reference_losses)[0].weights
    assert text_of(gpt2, row, made) == " Zoë<|endoftext|>"


def test_padding_is_masked_by_position_although_pad_is_eos(gpt2):
    rows = encode([example("a b c d", " e"), example("a", " b")], gpt2)
    batch = SupervisedExamples(rows, CTP()).batch([0, 1], 0, pad_token_id=gpt2.pad_token_id)
    assert batch["input_ids"][1, -2:].tolist() == [50256] * 2
    assert batch["attention_mask"][1].tolist() == [1, 1, 1, 0, 0, 0]
    # The real end of sequence is learned, the padding is not.
    assert batch["labels"][1].tolist() == [-100, rows[1].input_ids[1], 50256, -100, -100, -100]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_side_of_the_tokenizer_does_not_matter(gpt2, side, tmp_path):
    gpt2.padding_side = side
    items = [example(p, a) for p, a in [("one two three", " four"), ("one", " two"), ("a b", " c")]]
    rows = encode(items, gpt2)
    options = ModelOptions(family="gpt2", layers=1, width=8, heads=2)
    build_model(options, gpt2, 8, seed=0).save_pretrained(tmp_path)
    split = EncodedSplit(items, rows)
    context = EvaluationContext(
        source=tmp_path,
        tokenizer=gpt2,
        splits={"train": split, "test": split},
        evaluation_splits=("test",),
        objective=NTP(),
    )
    found, _ = Accuracy(train_items=0).measure(context)
    for row, item in zip(rows, found, strict=True):
        alone = SupervisedExamples([row], NTP()).batch([0], 0)
        with torch.no_grad():
            loss, _ = token_loss(context.model, alone)
        assert item["all_loss_sum"] == pytest.approx(float(loss), rel=1e-5)


def chat(*turns):
    return Example(messages=tuple(Message(role, content) for role, content in turns))


def test_chat_with_system_and_tool_turns(gpt2):
    talk = chat(
        ("system", "Be brief."),
        ("user", "2+2?"),
        ("assistant", "4."),
        ("tool", "clock: noon"),
        ("user", "And 3+3?"),
        ("assistant", "6."),
    )
    (row,) = encode([talk], gpt2)
    rendered = gpt2.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in talk.messages], tokenize=False
    )
    assert row.text == rendered
    assert row.input_ids.tolist() == gpt2(rendered.removesuffix("\n")).input_ids
    seen = {
        roles: text_of(
            gpt2, row, CTP(roles=list(roles)).supervise([row], no_reference_losses)[0].weights
        )
        for roles in (("answer",), ("answer", "assistant"))
    }
    assert seen[("answer",)] == "6.<|endoftext|>"
    assert seen[("answer", "assistant")] == "4.<|endoftext|>6.<|endoftext|>"
    prompt = gpt2.decode(row.input_ids[: row.answer_start])
    assert prompt.endswith("<|user|>\nAnd 3+3?<|endoftext|>\n<|assistant|>\n")


def test_token_that_straddles_a_boundary_belongs_to_the_later_part_and_is_counted(gpt2):
    # No sign between header and content: "so" + "me" become one token "some".
    gpt2_merging = gpt2.__class__.from_pretrained(gpt2.name_or_path)
    gpt2_merging.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }} so{% else %}"
        "{{ m.content }}{% endif %}{% endfor %}"
    )
    (row,) = encode([chat(("user", "I want"), ("assistant", "me tea"))], gpt2_merging)
    pieces = gpt2_merging.convert_ids_to_tokens(row.input_ids.tolist())
    assert pieces == ["I", "Ġwant", "Ġsome", "Ġtea", "<|endoftext|>"]
    assert row.num_merged == 1
    assert row.has_role("answer").tolist() == [False, False, True, True, True]


def test_unknown_role_order_is_refused(gpt2):
    with pytest.raises(InputError, match="last message to be the assistant's"):
        chat(("assistant", "a"), ("user", "b"))


def test_random_texts_survive(gpt2):
    generator = np.random.default_rng(0)
    signs = list("ab äß 🙂\n\t'\"<>{}0.,é漢字\u200f\u0301")
    for _ in range(200):
        prompt, answer = ("".join(generator.choice(signs, generator.integers(1, 15))) for _ in "12")
        if not answer.strip():
            continue
        (row,) = encode([example(prompt, answer)], gpt2)
        assert gpt2.decode(row.input_ids[: row.answer_start]) == prompt
        assert gpt2.decode(row.input_ids[row.answer_start : -1]) == answer
