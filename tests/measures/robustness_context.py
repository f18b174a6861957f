"""A tiny model that knows some sums, and what the robustness measures are tried on."""

import functools
from pathlib import Path

import torch
from transformers import PreTrainedModel

from ntpctp.data.example import Example, Segment
from ntpctp.data.tokenize import closed_tokenizer, encode
from ntpctp.measures import EncodedSplit
from ntpctp.measures.context import EvaluationContext
from ntpctp.models.build import build_model
from ntpctp.models.options import ModelOptions
from ntpctp.objectives import CTP
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.objectives.loss import token_loss

TOKENIZER = closed_tokenizer(["0123456789+="], "characters")
WIDTH = 16


def sums(number: int = 12, choices: bool = False) -> list[Example]:
    """Answers of one and two digits, so that lengths differ; three candidates, or none."""
    found = []
    for a, b in [(i % 10, (7 * i) % 13) for i in range(number)]:
        answer = str(a + b)
        others = (str(a + b + 1), str(10 + (a * b) % 7))
        candidates = tuple(dict.fromkeys((others[0], answer, others[1]))) if choices else ()
        segments = Segment("prompt", f"{a}+{b}="), Segment("answer", answer)
        found.append(Example(segments, choices=candidates))
    return found


@functools.cache
def _state(family: str, layers: int, steps: int) -> PreTrainedModel:
    options = ModelOptions(family=family, layers=layers, width=WIDTH, heads=2, context=24)
    model = build_model(options, TOKENIZER, 8, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batch = SupervisedExamples(encode(sums(), TOKENIZER)[:8], CTP()).batch(range(8), 0)
    with torch.enable_grad():
        for _ in range(steps):
            loss, weight = token_loss(model, batch)
            (loss / weight).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()


def make_context(
    path: Path,
    family: str = "gpt2",
    *,
    layers: int = 2,
    steps: int = 60,
    choices: bool = False,
    **fields,
) -> EvaluationContext:
    """Store a trained model and return it with one held-out split, which it partly knows."""
    model = _state(family, layers, steps)
    model.save_pretrained(path)
    items = sums(choices=choices)
    split = EncodedSplit(items, encode(items, TOKENIZER))
    settings = {"objective": CTP(), "batch_tokens": 64} | fields
    return EvaluationContext(
        source=path,
        tokenizer=TOKENIZER,
        splits={"train": split, "test": split},
        evaluation_splits=("test",),
        **settings,
    )


def reference_right(logits_of, context: EvaluationContext, choices: bool) -> list[bool]:
    """Judge every item with passes over one unpadded row.

    Args:
        logits_of: (item, token ids (1, T)) -> logits (T, vocabulary).
        context: of ``make_context``.
        choices: whether by the likeliest candidate, else by teacher forcing.
    """
    split, right = context.splits["test"], []
    for item, (example, row) in enumerate(zip(split.examples, split.encoded, strict=True)):
        if not choices:
            logits = logits_of(item, torch.from_numpy(row.input_ids)[None])
            wanted = torch.from_numpy(row.input_ids[1:].astype(int))
            answer = torch.from_numpy(row.has_role("answer")[1:])
            right.append(bool((logits[:-1].argmax(-1) == wanted)[answer].all()))
            continue
        sums_of = {}
        for choice in example.choices:
            other = Example((example.segments[0], Segment("answer", choice)))
            (encoded,) = encode([other], TOKENIZER)
            ids = torch.from_numpy(encoded.input_ids.astype(int))
            logs = logits_of(item, ids[None])[:-1].log_softmax(-1)
            picked = logs[torch.arange(len(ids) - 1), ids[1:]]
            sums_of[choice] = float(picked[torch.from_numpy(encoded.has_role("answer")[1:])].sum())
        right.append(max(sums_of, key=sums_of.__getitem__) == example.answer)
    return right


def by_name(scores, name: str) -> dict:
    """Return the scores of one name by strength."""
    return {score.strength: score for score in scores if score.score == name}
