"""One loss step, forward and backward: ours against TRL's fused head and the plain dense head.

    python scripts/bench/loss.py [--quick] [--json FILE]

The same GPT-2 (width 128, 2 layers), batch (8 rows of 128 tokens) and labels for all; vocabularies
of 8,000 and 50,257; 1, 8, 32 and all tokens of a row supervised. `dense` is `model(labels=...)` of
transformers, `TRL` its fused head as the SFTTrainer patches it in. Milliseconds are medians over
the steps after the first three; MiB is the growth of peak memory over the memory before the first
step. Each method runs in a separate process, in one thread; repetitions alternate between the
methods. All three must give the same loss and gradient to 1e-4.

The goal: at vocabulary 50,257, with at most 32 tokens supervised, a third of TRL's memory.

Needs: pip install -e '.[bench]'.
"""

import argparse
import statistics
import time
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from measuring import PeakGrowth, Record, in_own_process, matmul_peak, write_records
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from ntpctp._core.runtime import quiet_libraries
from ntpctp.objectives.loss import token_loss

VOCABULARIES = (8_000, 50_257)
ROWS, TOKENS, WIDTH, LAYERS = 8, 128, 128, 2
ALL = TOKENS - 1
SUPERVISED = (1, 8, 32, ALL)
METHODS = ("dense", "TRL", "ours")
WARM_UP = 3


class Step(NamedTuple):
    """Cost and result of a method's step."""

    milliseconds: float
    mebibytes: float
    loss: float
    gradient_norm: float
    matmul_peak: float  # FLOP/s, in the same process


def model_of(vocabulary: int) -> GPT2LMHeadModel:
    """Return a new model without dropout, the same for all methods."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=4,
        n_positions=TOKENS,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config).train()


def batch_of(vocabulary: int, supervised: int) -> dict[str, Tensor]:
    """Return random sequences whose last ``supervised`` tokens are supervised."""
    ids = torch.randint(vocabulary, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, :-supervised] = -100
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": labels,
        "normaliser": torch.tensor(float(ROWS * supervised), dtype=torch.float64),
    }


def measure(method: str, vocabulary: int, supervised: int, steps: int) -> Step:
    """Run one method alone."""
    quiet_libraries()
    model, batch = model_of(vocabulary), batch_of(vocabulary, supervised)
    if method == "TRL":
        from trl.trainer.utils import add_fused_lm_head

        add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))

    def loss() -> Tensor:
        if method == "ours":
            total, normaliser = token_loss(model, batch)
            return total / normaliser.to(total.dtype)
        extra = {"fused_lm_head": True} if method == "TRL" else {}
        names = ("input_ids", "attention_mask", "labels")
        return model(**{name: batch[name] for name in names}, **extra).loss

    seconds = []
    with PeakGrowth() as growth:
        for _ in range(WARM_UP + steps):
            model.zero_grad(set_to_none=True)
            begin = time.perf_counter()
            value = loss()
            value.backward()
            seconds.append(time.perf_counter() - begin)
    gradient = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    milliseconds = 1e3 * statistics.median(seconds[WARM_UP:])
    return Step(milliseconds, growth.mebibytes, value.item(), gradient.item(), matmul_peak())


def operations(vocabulary: int, supervised: int) -> float:
    """Return the FLOPs of a step: one forward pass, and twice as much for the backward pass."""
    body = 12 * WIDTH**2 + 2 * TOKENS * WIDTH  # a layer's weights, and attention over the row
    head = WIDTH * vocabulary
    return 6.0 * ROWS * (TOKENS * LAYERS * body + supervised * head)


def compare(vocabulary: int, supervised: int, repetitions: int, steps: int) -> Record:
    """Measure, print and return one row of the table."""
    runs = [
        {m: in_own_process(measure, m, vocabulary, supervised, steps) for m in METHODS}
        for _ in range(repetitions)
    ]
    median = {
        m: Step(*(statistics.median(column) for column in zip(*(r[m] for r in runs), strict=True)))
        for m in METHODS
    }
    for method in ("TRL", "ours"):
        for name in ("loss", "gradient_norm"):
            expected, found = getattr(median["dense"], name), getattr(median[method], name)
            if abs(found - expected) > 1e-4 * abs(expected):
                raise RuntimeError(f"{method}: {name} {found}, dense {expected}: another problem")
    ours, trl = median["ours"], median["TRL"]
    needed = operations(vocabulary, supervised)
    share = needed / (ours.milliseconds / 1e3) / ours.matmul_peak
    goal = vocabulary == 50_257 and supervised <= 32
    print(
        f"{vocabulary:>7,}{'all' if supervised == ALL else supervised:>6}"
        + "".join(f"{median[m].milliseconds:>9.1f}" for m in METHODS)
        + f"{trl.milliseconds / ours.milliseconds:>9.1f}x"
        + "".join(f"{median[m].mebibytes:>9.0f}" for m in METHODS)
        + f"{trl.mebibytes / ours.mebibytes:>9.1f}x{share:>9.0%}",
        flush=True,
    )
    return {
        "name": f"vocabulary {vocabulary}, {supervised} of {ALL} supervised",
        **{f"{m}_milliseconds": median[m].milliseconds for m in METHODS},
        **{f"{m}_mebibytes": median[m].mebibytes for m in METHODS},
        "speed_ratio": trl.milliseconds / ours.milliseconds,
        "memory_ratio": trl.mebibytes / ours.mebibytes,
        "share_of_matmul_peak": share,
        "goal": "memory ratio 3" if goal else None,
        "met": trl.mebibytes / ours.mebibytes >= 3 if goal else None,
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="once, with few steps")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    print(f"{'':13}{'ms a step':>27}{'':10}{'peak MiB':>27}{'':10}{'share of':>9}")
    print(
        f"{'vocab':>7}{'seen':>6}"
        + "".join(f"{m:>9}" for m in METHODS)
        + f"{'TRL/ours':>10}"
        + "".join(f"{m:>9}" for m in METHODS)
        + f"{'TRL/ours':>10}{'peak':>9}"
    )
    repetitions, steps = (1, 3) if arguments.quick else (3, 9)
    records = [compare(v, s, repetitions, steps) for v, s in product(VOCABULARIES, SUPERVISED)]
    for record in records:
        if record["goal"]:
            print(f"{record['name']}: {record['goal']}: {'met' if record['met'] else 'NOT met'}")
    if arguments.json:
        write_records(arguments.json, records, ("torch", "transformers", "trl"))


if __name__ == "__main__":
    main()
