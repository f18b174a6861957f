"""What the loss sees of a chat, beside TRL's own preparation (optional: pip install trl).

All differences, each stated by an assertion below:

- TRL keeps the line break that the template puts behind the last turn, and in the form
  prompt/completion it supervises it. We cut it off: no decoding ever gets there.
- Where the template ends a turn with a sign that is not the tokenizer's end of sequence, we append
  the end of sequence and supervise it; TRL leaves a chat as the template renders it.
"""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from ntpctp.data.example import Example, Message
from ntpctp.data.tokenize import encode
from ntpctp.objectives import CTP, no_reference_losses
from tests.data.published_tokenizer import gpt2_tokenizer

pytest.importorskip("trl", reason="TRL is not installed (pip install trl, extra bench)")

NUM_CHATS = 200
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m.content }}<|im_end|>{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module", params=["<|im_end|>", "<|endoftext|>"])
def tokenizer(request, tmp_path_factory):
    """With the template's end of turn as end of sequence, and with another one."""
    directory = tmp_path_factory.mktemp("gpt2")
    return gpt2_tokenizer(directory, TEMPLATE, request.param, ("<|im_start|>", "<|im_end|>"))


def chats() -> Iterator[list[dict[str, str]]]:
    generator = np.random.default_rng(0)
    words = [
        "one",
        "Zürich",
        "漢字",
        "🙂",
        "x = 3;",
        "\n\n",
        "it's",
        "  spaced",
        "42",
        "<b>",
        "no.",
    ]

    def text() -> str:
        # A template's reader strips the ends, so that white space there has no meaning.
        drawn = generator.choice(words, generator.integers(1, 12))
        return " ".join(drawn).strip() or "yes"

    for _ in range(NUM_CHATS):
        chat = [{"role": "system", "content": text()}] if generator.random() < 0.5 else []
        for _ in range(generator.integers(1, 5)):
            chat += [
                {"role": "user", "content": text()},
                {"role": "assistant", "content": text()},
            ]
        yield chat


def prepared_by_trl(tokenizer, rows, directory, **options) -> list[dict[str, Any]]:
    os.environ.setdefault("WANDB_DISABLED", "true")
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(
        output_dir=str(directory),
        use_cpu=True,
        bf16=False,
        max_length=None,
        report_to=[],
        **options,
    )
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=4, n_layer=1, n_head=1))
    data = Dataset.from_list(rows)
    trainer = SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer)
    return list(trainer.train_dataset)


def assert_alike(tokenizer, theirs: list[dict[str, Any]], roles) -> None:
    examples = [
        Example(messages=tuple(Message(turn["role"], turn["content"]) for turn in chat))
        for chat in chats()
    ]
    rows = encode(examples, tokenizer)
    supervised = CTP(roles=roles).supervise(rows, no_reference_losses)
    line_break = tokenizer("\n").input_ids
    for row, ours, their in zip(rows, supervised, theirs, strict=True):
        ids, labels = list(row.input_ids), np.where(ours.weights != 0, ours.labels, -100).tolist()
        if tokenizer.eos_token != "<|im_end|>":
            assert ids[-1] == labels[-1] == tokenizer.eos_token_id
            ids, labels = ids[:-1], labels[:-1]
        assert their["input_ids"] == ids + line_break
        assert their["labels"][: len(ids)] == labels
        assert len(set(labels)) > 1


@pytest.mark.filterwarnings("ignore")  # of TRL and datasets
def test_all_turns_of_the_assistant(tokenizer, tmp_path):
    rows = [{"messages": chat} for chat in chats()]
    theirs = prepared_by_trl(tokenizer, rows, tmp_path, assistant_only_loss=True)
    assert_alike(tokenizer, theirs, ["answer", "assistant"])
    assert all(row["labels"][-1] == -100 for row in theirs)


@pytest.mark.filterwarnings("ignore")  # of TRL and datasets
def test_completion_alone(tokenizer, tmp_path):
    rows = [{"prompt": chat[:-1], "completion": chat[-1:]} for chat in chats()]
    theirs = prepared_by_trl(tokenizer, rows, tmp_path, completion_only_loss=True)
    # Here TRL does supervise the line break behind the turn, which no decoding ever makes.
    assert all(row["labels"][-1] == row["input_ids"][-1] for row in theirs)
    assert_alike(tokenizer, theirs, ["answer"])
