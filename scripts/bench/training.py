"""The whole training loop: ours against TRL, transformers' Trainer and a bare PyTorch loop.

    python scripts/bench/training.py [--quick] [--json FILE] [--cases NAME ...]

The same GPT-2, rows, batch size, AdamW, clipping and precision (float32) for all, in one thread:
320 examples of 60 prompt tokens, two answer tokens and the end of sequence, 16 examples a step,
under NTP (62 labels each) and CTP (3). `bare` is a lower bound: batches collated before the clock
starts, the head at supervised tokens only, no log, no checkpoint, no accelerate. `Trainer` computes
the usual dense loss; `TRL` is SFTTrainer with completion_only_loss off and on, with its defaults
except gradient checkpointing, which is off because it would slow TRL down.

Milliseconds per step are medians over intervals of five steps, without the first; MiB is the growth
of peak memory over the memory before training. Each method runs in a separate process; repetitions
alternate between the methods. The share of the machine's peak is the FLOPs that a step needs, at
our speed, relative to a 1024 x 1024 float32 matmul in the same process.

Goals: in the two models of width 128, which the head dominates, CTP at least 7 times TRL's step
rate and NTP twice; at 50,257 a third of TRL's memory for CTP; nowhere more than 10 % slower than
the bare loop. In models which the layers dominate, supervising fewer tokens saves less: the bare
loop shows the limit.

Needs: pip install -e '.[bench]'.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from measuring import PeakGrowth, Record, in_own_process, matmul_peak, write_records
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from ntpctp._core.runtime import quiet_libraries

# name -> vocabulary, width, layers, steps timed
CASES = {
    "0.1M": (256, 48, 3, 200),
    "1.4M, vocabulary 8,000": (8_000, 128, 2, 40),
    "6.8M, vocabulary 50,257": (50_257, 128, 2, 15),
    "10M, vocabulary 8,000": (8_000, 256, 10, 15),
}
ROWS, BATCH, PROMPT, ANSWER, LOG_EVERY = 320, 16, 60, 2, 5
LENGTH = PROMPT + ANSWER + 1  # and the end of sequence
OBJECTIVES = ("NTP", "CTP")
EOS, UNKNOWN = "<eos>", "<unk>"


class Measured(NamedTuple):
    """Cost of a method's training, and its number of labels."""

    milliseconds: float
    mebibytes: float
    supervised: float  # tokens per example
    matmul_peak: float  # FLOP/s


class Problem:
    """Model, tokenizer and text, the same for all methods."""

    def __init__(self, case: str, objective: str, quick: bool):
        vocabulary, self.width, self.layers, steps = CASES[case]
        self.vocabulary, self.ctp = vocabulary, objective == "CTP"
        self.steps = LOG_EVERY + (max(LOG_EVERY, steps // 5) if quick else steps)
        self.words = [f"w{index}" for index in range(vocabulary - 2)]
        table = {word: index for index, word in enumerate([EOS, UNKNOWN, *self.words])}
        raw = Tokenizer(models.WordLevel(table, unk_token=UNKNOWN))
        raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=raw, eos_token=EOS, unk_token=UNKNOWN, pad_token=EOS
        )
        generator = np.random.default_rng(0)
        self.texts = [
            (" ".join(drawn[:PROMPT]) + " ", " ".join(drawn[PROMPT:]))
            for drawn in generator.choice(self.words, (ROWS, PROMPT + ANSWER))
        ]

    def model(self) -> GPT2LMHeadModel:
        """Return a new model without dropout."""
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=self.vocabulary,
            n_embd=self.width,
            n_layer=self.layers,
            n_head=4,
            n_positions=128,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
            bos_token_id=0,
            eos_token_id=0,
        )
        return GPT2LMHeadModel(config).train()

    def ids(self) -> torch.Tensor:
        """Return the token ids of all examples."""
        return torch.tensor(
            [[*self.tokenizer(p + a).input_ids, 0] for p, a in self.texts], dtype=torch.int64
        )

    def labels(self) -> torch.Tensor:
        """Return their labels under the objective, not shifted."""
        labels = self.ids()
        if self.ctp:
            labels[:, :PROMPT] = -100
        return labels

    def operations(self) -> float:
        """Return the FLOPs of a step: one forward pass, twice as much for the backward pass."""
        body = 12 * self.width**2 + 2 * LENGTH * self.width
        seen = ANSWER + 1 if self.ctp else LENGTH - 1
        head = seen * self.width * self.vocabulary
        return 6.0 * BATCH * (LENGTH * self.layers * body + head)


class Clock:
    """Records the end of every fifth step, the interval of our log."""

    def __init__(self) -> None:
        self.steps = 0
        self.ends: list[float] = []

    def tick(self, steps: int = 1) -> None:
        """Count ended steps."""
        self.steps += steps
        if self.steps % LOG_EVERY == 0:
            self.ends.append(time.perf_counter())

    def milliseconds(self) -> float:
        """Return the median milliseconds per step, without the first interval."""
        return 1e3 * statistics.median(b - a for a, b in pairwise(self.ends)) / LOG_EVERY


class Ticking(TrainerCallback):
    """Callback that ticks the clock after each step of a transformers trainer."""

    def __init__(self, clock: Clock):
        self.clock = clock

    def on_step_end(self, *arguments: Any, **named: Any) -> None:
        """Called by the trainer."""
        self.clock.tick()


def ours(problem: Problem, clock: Clock, directory: Path) -> Callable[[], float]:
    """Prepare the loop of ntpctp, with its log and its two checkpoints."""
    from accelerate import Accelerator

    from ntpctp.data.example import Example, Segment
    from ntpctp.data.tokenize import encode
    from ntpctp.objectives import CTP, NTP
    from ntpctp.objectives.dataset import SupervisedExamples
    from ntpctp.training import TrainingOptions
    from ntpctp.training.loop import TrainingLoop

    examples = [Example((Segment("prompt", p), Segment("answer", a))) for p, a in problem.texts]
    data = SupervisedExamples(encode(examples, problem.tokenizer), CTP() if problem.ctp else NTP())
    options = TrainingOptions(
        steps=problem.steps, batch_size=BATCH, learning_rate=2e-5, log_every=LOG_EVERY
    )
    model, accelerator = problem.model(), Accelerator(cpu=True)

    def run() -> float:
        TrainingLoop(
            model=model,
            tokenizer=problem.tokenizer,
            data=data,
            options=options,
            seed=0,
            directory=directory,
            checkpoint_steps=[],
            accelerator=accelerator,
            on_progress=lambda line: clock.tick(LOG_EVERY),
        ).run()
        return float(data.batch(range(ROWS), 0)["num_supervised"]) / ROWS

    return run


def bare(problem: Problem, clock: Clock, directory: Path) -> Callable[[], float]:
    """Prepare the bare loop: collated batches, the head at labels only."""
    model, ids, labels = problem.model(), problem.ids(), problem.labels()
    order = torch.arange(problem.steps * BATCH) % ROWS
    batches = []
    for indices in order.split(BATCH):
        targets = labels[indices][:, 1:].reshape(-1)
        at = (targets != -100).nonzero().squeeze(1)
        batches.append((ids[indices], targets[at], at))
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-5, fused=True)

    def run() -> float:
        for inputs, targets, at in batches:
            states = model.transformer(input_ids=inputs, use_cache=False).last_hidden_state
            logits = model.lm_head(states[:, :-1].reshape(-1, problem.width)[at])
            torch.nn.functional.cross_entropy(logits, targets).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            clock.tick()
        return len(batches[0][1]) / BATCH

    return run


COMMON = {
    "use_cpu": True,
    "bf16": False,
    "per_device_train_batch_size": BATCH,
    "learning_rate": 2e-5,
    "report_to": [],
    "logging_steps": 10_000,
    "save_strategy": "no",
    "gradient_checkpointing": False,
    "disable_tqdm": True,
}


def trainer(problem: Problem, clock: Clock, directory: Path) -> Callable[[], float]:
    """Prepare the Trainer of transformers on examples with labels."""
    rows = [
        {"input_ids": ids, "labels": labels}
        for ids, labels in zip(problem.ids(), problem.labels(), strict=True)
    ]
    arguments = TrainingArguments(str(directory), max_steps=problem.steps, **COMMON)
    made = Trainer(problem.model(), arguments, train_dataset=rows, callbacks=[Ticking(clock)])
    made.remove_callback(PrinterCallback)

    def run() -> float:
        made.train()
        return float((rows[0]["labels"][1:] != -100).sum())

    return run


def trl(problem: Problem, clock: Clock, directory: Path) -> Callable[[], float]:
    """Prepare TRL's SFTTrainer on prompts and completions."""
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    rows = [{"prompt": prompt, "completion": answer + " "} for prompt, answer in problem.texts]
    config = SFTConfig(
        output_dir=str(directory),
        max_steps=problem.steps,
        completion_only_loss=problem.ctp,
        **COMMON,
    )
    made = SFTTrainer(
        model=problem.model(),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=problem.tokenizer,
        callbacks=[Ticking(clock)],
    )
    made.remove_callback(PrinterCallback)

    def run() -> float:
        made.train()
        return float(sum(label != -100 for label in made.train_dataset[0]["labels"][1:]))

    return run


METHODS = {"ours": ours, "bare": bare, "Trainer": trainer, "TRL": trl}


def measure(method: str, case: str, objective: str, quick: bool) -> Measured:
    """Train with one method alone."""
    quiet_libraries()
    warnings.filterwarnings("ignore", category=FutureWarning)  # of the peers' arguments
    problem, clock = Problem(case, objective, quick), Clock()
    with tempfile.TemporaryDirectory() as directory:
        run = METHODS[method](problem, clock, Path(directory))
        with PeakGrowth() as growth:
            supervised = run()
    return Measured(clock.milliseconds(), growth.mebibytes, supervised, matmul_peak())


def compare(case: str, objective: str, quick: bool) -> Record:
    """Measure, print and return one row of the table."""
    runs = [
        {m: in_own_process(measure, m, case, objective, quick) for m in METHODS}
        for _ in range(1 if quick else 3)
    ]
    median = {
        m: Measured(*(statistics.median(c) for c in zip(*(run[m] for run in runs), strict=True)))
        for m in METHODS
    }
    if len({measured.supervised for measured in median.values()}) != 1:
        raise RuntimeError(f"the methods saw different tokens: {median}")
    mine, peer = median["ours"], median["TRL"]
    needed = Problem(case, objective, quick).operations()
    record: Record = {
        "name": f"{case}: {objective}",
        "supervised": mine.supervised,
        **{f"{m}_milliseconds": median[m].milliseconds for m in METHODS},
        **{f"{m}_mebibytes": median[m].mebibytes for m in METHODS},
        "speed_ratio": peer.milliseconds / mine.milliseconds,
        "memory_ratio": peer.mebibytes / mine.mebibytes,
        "overhead": mine.milliseconds / median["bare"].milliseconds - 1,
        "share_of_matmul_peak": needed / (mine.milliseconds / 1e3) / mine.matmul_peak,
    }
    record["goals"] = goals(record, case, objective)
    print(
        f"{record['name']:30}"
        + "".join(f"{median[m].milliseconds:>9.1f}" for m in METHODS)
        + f"{record['speed_ratio']:>9.1f}x{record['overhead']:>+9.0%}"
        + f"{mine.mebibytes:>9.0f}{peer.mebibytes:>9.0f}{record['memory_ratio']:>9.1f}x"
        + f"{record['share_of_matmul_peak']:>8.0%}",
        flush=True,
    )
    return record


def goals(record: Record, case: str, objective: str) -> dict[str, bool]:
    """Return goal -> whether it is met."""
    vocabulary, width, *_ = CASES[case]
    found = {"at most 10 % slower than the bare loop": record["overhead"] <= 0.1}
    if width == 128:
        wanted = 7 if objective == "CTP" else 2
        found[f"{wanted} times TRL's step rate"] = record["speed_ratio"] >= wanted
    if vocabulary > 50_000 and objective == "CTP":
        found["a third of TRL's memory"] = record["memory_ratio"] >= 3
    return found


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="once, with few steps")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    print(
        f"{'':30}{'ms a step':>36}{'TRL/':>10}{'over':>9}{'peak MiB':>18}{'TRL/':>10}{'share':>8}"
    )
    print(
        f"{'':30}"
        + "".join(f"{m:>9}" for m in METHODS)
        + f"{'ours':>10}{'bare':>9}{'ours':>9}{'TRL':>9}{'ours':>10}{'of peak':>8}"
    )
    records = [compare(c, o, arguments.quick) for c in arguments.cases for o in OBJECTIVES]
    for record in records:
        for goal, met in record["goals"].items():
            print(f"{record['name']}: {goal}: {'met' if met else 'NOT met'}")
    if arguments.json:
        packages = ("torch", "transformers", "trl", "accelerate")
        write_records(arguments.json, records, packages)


if __name__ == "__main__":
    main()
