"""Checkpoint, items and lm-eval tasks of the benchmark of evaluation."""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from ntpctp._core.files import read_numbered_jsonl, write_jsonl
from ntpctp.data.example import Example, Segment
from ntpctp.data.tasks.files.rows import RowReader
from ntpctp.data.tokenize import closed_tokenizer, encode, load_tokenizer
from ntpctp.measures import EncodedSplit
from ntpctp.measures.context import EvaluationContext
from ntpctp.objectives import CTP
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.objectives.loss import token_loss

WORDS = [f"w{k}" for k in range(2000)]
CONTEXT = (20, 100)  # words of a prompt
MOST_ANSWER = 8  # words of a generated answer
KINDS = ("choices", "greedy")


def examples(kind: str, number: int) -> list[Example]:
    """Return prompts of random words; two candidates of one word, or an answer of 1 to 8 words."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(number):
        prompt = " ".join(rng.choice(WORDS, rng.integers(CONTEXT[0], CONTEXT[1] + 1)))
        if kind == "choices":
            pair = rng.choice(WORDS, 2, replace=False).tolist()
            answer, choices = pair[rng.integers(2)], tuple(pair)
        else:
            answer = " ".join(rng.choice(WORDS, rng.integers(1, MOST_ANSWER + 1)))
            choices = ()
        found.append(
            Example((Segment("prompt", prompt + " "), Segment("answer", answer)), choices=choices)
        )
    return found


def make(directory: Path, number: int, steps: int) -> None:
    """Write a GPT-2 (0.8M parameters without embeddings) trained on half of the answers."""
    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    tokenizer: PreTrainedTokenizerFast = closed_tokenizer([" ".join(WORDS)], "words")
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_embd=128,
            n_layer=4,
            n_head=4,
            n_positions=256,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    seen = [e for kind in KINDS for e in examples(kind, number)[: number // 2]]
    rows = SupervisedExamples(encode(seen, tokenizer), CTP())
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    order = np.random.default_rng(1)
    for _ in range(steps):
        loss, weight = token_loss(model, rows.batch(order.integers(len(rows), size=32).tolist(), 0))
        (loss / weight).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(directory / "model")
    tokenizer.save_pretrained(directory / "model")
    for kind in KINDS:
        _write_task(directory, kind, number, tokenizer.eos_token)


def context_of(directory: Path, kind: str) -> EvaluationContext:
    """Read and encode the items for our measures."""
    tokenizer = load_tokenizer(str(directory / "model"))
    reader = RowReader(answer_marker="#### ")
    rows = read_numbered_jsonl(directory / f"own_{kind}.jsonl")
    items = [reader.example(row, f"line {line}") for line, row in rows]
    split = EncodedSplit(items, encode(items, tokenizer))
    return EvaluationContext(
        source=directory / "model",
        tokenizer=tokenizer,
        splits={"test": split},
        evaluation_splits=("test",),
        objective=CTP(),
    )


def _write_task(directory: Path, kind: str, number: int, eos: str) -> None:
    """Write the items as an lm-eval task; candidates include the end of sequence, as ours do."""
    own = [
        {"prompt": e.text("prompt"), "answer": e.answer, "choices": list(e.choices)}
        for e in examples(kind, number)
    ]
    write_jsonl(directory / f"own_{kind}.jsonl", own)
    with (directory / f"{kind}.jsonl").open("w") as file:
        for example in examples(kind, number):
            row = {
                "q": example.text("prompt").strip(),
                "choices": [f" {choice}{eos}" for choice in example.choices],
                "a": example.choices.index(example.answer) if example.choices else example.answer,
            }
            file.write(json.dumps(row) + "\n")
    head = f"""task: bench_{kind}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {directory.resolve()}/{kind}.jsonl
test_split: test
doc_to_text: "{{{{q}}}}"
doc_to_target: "{{{{a}}}}"
target_delimiter: ""
"""
    of_kind = {
        "choices": """output_type: multiple_choice
doc_to_choice: "{{choices}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
""",
        "greedy": f"""output_type: generate_until
generation_kwargs: {{until: ["{eos}"], do_sample: false, max_gen_toks: {2 * (MOST_ANSWER + 1)}}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
""",
    }
    (directory / f"bench_{kind}.yaml").write_text(head + of_kind[kind])
