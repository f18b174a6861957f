"""A tiny checkpoint and its loss on the answers in float64, with autograd's dense Hessian."""

from pathlib import Path

import numpy as np
import torch

from ntpctp.data.example import Example, Segment
from ntpctp.data.tokenize import closed_tokenizer, encode
from ntpctp.measures import EncodedSplit
from ntpctp.measures.context import EvaluationContext
from ntpctp.models.build import build_model
from ntpctp.models.options import ModelOptions
from ntpctp.objectives import CTP, Objective
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.objectives.loss import token_loss

TOKENIZER = closed_tokenizer(["0123456789+="], "characters")


def items(first: int, number: int) -> list[Example]:
    """Sums with answers of one and two digits: batches differ in their supervised tokens."""
    pairs = [(i % 10, (7 * i) % 13) for i in range(first, first + number)]
    return [
        Example((Segment("prompt", f"{a}+{b}="), Segment("answer", str(a + b)))) for a, b in pairs
    ]


def make_context(path: Path, family: str = "gpt2", steps: int = 12, **fields) -> EvaluationContext:
    """Train a tiny model for a few steps, store it, and return it with two splits."""
    options = ModelOptions(family=family, layers=1, width=4, heads=2, context=8)
    model = build_model(options, TOKENIZER, 8, seed=0)
    rows = encode(items(0, 6), TOKENIZER)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-2)
    for _ in range(steps):
        loss, weight = token_loss(model, SupervisedExamples(rows, CTP()).batch(range(6), 0))
        (loss / weight).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(path)
    splits = {
        name: EncodedSplit(examples, encode(examples, TOKENIZER))
        for name, examples in {"train": items(0, 7), "test": items(20, 5)}.items()
    }
    settings = {"objective": CTP(), "batch_tokens": 64} | fields
    return EvaluationContext(
        source=path, tokenizer=TOKENIZER, splits=splits, evaluation_splits=("test",), **settings
    )


class Reference:
    """The mean loss over some rows of a split as a function of one float64 vector (P,)."""

    def __init__(
        self,
        context: EvaluationContext,
        split: str,
        number: int,
        objective: Objective | None = None,
    ):
        self.model = context.load("eager").double().requires_grad_(False)
        rows = context.splits[split].encoded[:number]
        batch = SupervisedExamples(rows, objective or CTP()).batch(range(len(rows)), 0)
        self.batch = batch
        self.parameters = dict(self.model.named_parameters())
        self.flat = torch.cat([p.flatten() for p in self.parameters.values()])

    def __call__(self, flat: torch.Tensor) -> torch.Tensor:
        """The loss, by transformers' own logits and torch's cross entropy, nothing of ours."""
        inputs = {key: self.batch[key] for key in ("input_ids", "attention_mask")}
        pieces = self.pieces(flat)
        logits = torch.func.functional_call(self.model, pieces, (), inputs).logits[:, :-1]
        labels = self.batch["labels"][:, 1:].flatten()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels, ignore_index=-100)

    def pieces(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """The vector as parameters by name."""
        split = flat.split([p.numel() for p in self.parameters.values()])
        return {
            name: piece.view_as(parameter)
            for piece, (name, parameter) in zip(split, self.parameters.items(), strict=True)
        }

    def gradient(self) -> torch.Tensor:
        return torch.func.grad(self)(self.flat)

    def hessian(self) -> np.ndarray:
        found = torch.autograd.functional.hessian(self, self.flat, vectorize=True)
        return found.detach().numpy()

    def filter_normalised(self, direction: torch.Tensor) -> torch.Tensor:
        """Each output unit's weights scaled to their norm; a loop over the filters."""
        done = []
        for name, piece in self.pieces(direction).items():
            weights = self.parameters[name]
            scaled = torch.zeros_like(piece)
            # GPT-2's own linear layers are stored as (input, output).
            transposed = ".c_" in name
            if piece.ndim == 2:
                views = [t.T if transposed else t for t in (scaled, piece, weights)]
                for row in range(len(views[0])):
                    norm = views[1][row].norm()
                    views[0][row] = views[1][row] / norm * views[2][row].norm()
            done.append(scaled.flatten())
        return torch.cat(done)
