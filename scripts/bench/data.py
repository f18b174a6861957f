"""Generating, encoding and storing examples: every generated task against `datasets.map`.

    python scripts/bench/data.py [--quick] [--json FILE]

Both sides generate the same examples of all splits, encode them, join the ids of prompt and answer
with their roles, and write them to an Arrow file. Ours is `ntpctp.data.cache.encode_task`, which
also rejects examples that occur in two splits, builds the closed vocabulary, keeps character
offsets, and computes checksums. Peer: `datasets.Dataset.from_generator(...).map(batched=True)`
with the vocabulary built before the clock starts. Generating alone is timed too, and so is a second
start that reads the cache. Seconds are CPU seconds of one thread, medians over the repetitions,
each in a separate process; its peak memory includes about 0.3 GiB of imported libraries.

The goal is a million examples of `addition` and of `anchor` within 60 seconds and 1 GiB, and a
second start within 2 seconds; `--quick` measures a tenth of them and extrapolates the seconds.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import chain
from math import log2
from pathlib import Path
from typing import Any

import datasets

from ntpctp.data.cache import encode_task
from ntpctp.data.example import Example
from ntpctp.data.tasks import TASKS, Task
from ntpctp.data.tokenize import closed_tokenizer

CHUNK = 10_000
MILLION = 1_000_000
# task -> (options, examples in a full run)
CASES: dict[str, tuple[dict[str, Any], int]] = {
    "addition": ({"digits": 4}, MILLION),
    "anchor": ({}, MILLION),
    "chain": ({}, 200_000),
    "kinship": ({}, 20_000),
    "modular": ({}, 99_856),
    "parity": ({}, 131_072),
    "prontoqa": ({}, 20_000),
    "prosqa": ({}, 10_000),
    "ruletaker": ({}, 20_000),
    "simple_logic": ({}, 5_000),
}


def build(name: str, size: int) -> Task:
    """Return the task with about ``size`` examples, nearly all for training if the task allows."""
    if name == "modular":  # the whole table
        return TASKS[name](name=name, modulus=int(size**0.5))
    if name == "parity":
        return TASKS[name](name=name, bits=int(log2(size)))
    return TASKS[name](name=name, train_size=size, test_size=10, **CASES[name][0])


def examples_of(name: str, size: int) -> Iterator[Example]:
    """Yield the examples of all splits of a task."""
    return chain.from_iterable(build(name, size).all_splits().values())


def tokenizer_of(name: str) -> Any:
    """Return a closed vocabulary from some thousand examples, which contain every word."""
    task = build(name, 3000)
    examples = chain.from_iterable(task.all_splits().values())
    texts = (segment.text for example in examples for segment in example.segments)
    return closed_tokenizer(texts, task.pieces)


def make(name: str, size: int) -> None:
    """Generate the examples and discard them."""
    for _ in examples_of(name, size):
        pass


def ours(name: str, size: int, directory: Path) -> None:
    """Generate, encode and store, or read the cache."""
    task = build(name, size)
    assert task.pieces is not None
    encode_task(task, task.pieces, directory)


def peer(name: str, size: int, tokenizer: Any, directory: Path) -> None:
    """Generate, encode and store with `datasets`."""
    datasets.disable_progress_bars()
    eos = tokenizer.eos_token_id

    def rows() -> Iterator[dict[str, str]]:
        for example in examples_of(name, size):
            yield {"prompt": example.text("prompt"), "answer": example.answer}

    def joined(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        prompts = tokenizer(batch["prompt"], add_special_tokens=False).input_ids
        answers = tokenizer(batch["answer"], add_special_tokens=False).input_ids
        pairs = [(p, [*a, eos]) for p, a in zip(prompts, answers, strict=True)]
        return {
            "input_ids": [p + a for p, a in pairs],
            "roles": [[0] * len(p) + [2] * len(a) for p, a in pairs],
        }

    data = datasets.Dataset.from_generator(rows, cache_dir=str(directory))
    data.map(joined, batched=True, batch_size=CHUNK, remove_columns=["prompt", "answer"])


METHODS = ("make", "ours", "again", "peer")


def _measure(method: str, name: str, size: int, results: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        tokenizer = tokenizer_of(name) if method == "peer" else None
        if method == "again":
            ours(name, size, directory)
        begin = time.process_time()
        if method == "make":
            make(name, size)
        elif method == "peer":
            peer(name, size, tokenizer, directory)
        else:
            ours(name, size, directory)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB to GiB
        results.put((time.process_time() - begin, peak))


def measured(method: str, name: str, size: int) -> tuple[float, float]:
    """Return CPU seconds and peak GiB of one method, in a separate process."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_measure, args=(method, name, size, results))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{method} of {name} ended with exit code {process.exitcode}")
    seconds, peak = results.get()
    return seconds, peak


def compare(name: str, quick: bool, repetitions: int) -> list[dict[str, Any]]:
    """Return the rows of one task: seconds per million examples, and peak memory."""
    size = CASES[name][1] // (10 if quick else 1)
    total = sum(map(len, build(name, size).all_splits().values()))
    # Alternating, so that changes of the machine's load affect all methods alike.
    runs = [{m: measured(m, name, size) for m in METHODS} for _ in range(repetitions)]
    seconds = {m: statistics.median(r[m][0] for r in runs) * MILLION / total for m in METHODS}
    memory = {m: max(r[m][1] for r in runs) for m in METHODS}
    again = statistics.median(r["again"][0] for r in runs)
    goal = CASES[name][1] == MILLION
    print(
        f"{name:14}{total:>10}{seconds['make']:>12.1f}{seconds['ours']:>12.1f}"
        f"{seconds['peer']:>12.1f}{again:>10.2f}{memory['ours']:>10.2f}{memory['peer']:>10.2f}"
    )
    common = {"peer_name": "datasets.map", "examples": total}
    return [
        {
            "name": f"{name}: make, encode, store",
            "ours": seconds["ours"],
            "peer": seconds["peer"],
            "unit": "seconds a million examples",
            "ratio": seconds["peer"] / seconds["ours"],
            "goal": 60.0 if goal else None,
            "met": seconds["ours"] <= 60 if goal else None,
            "making_alone": seconds["make"],
            **common,
        },
        {
            "name": f"{name}: second start",
            "ours": again,
            "peer": None,
            "unit": "seconds",
            "ratio": None,
            "goal": 2.0 if goal and not quick else None,
            "met": again <= 2 if goal and not quick else None,
            **common,
        },
        {
            "name": f"{name}: peak memory",
            "ours": memory["ours"],
            "peer": memory["peer"],
            "unit": "GiB",
            "ratio": memory["peer"] / memory["ours"],
            # A tenth of the examples says nothing about the memory for all of them.
            "goal": 1.0 if goal and not quick else None,
            "met": memory["ours"] <= 1 if goal and not quick else None,
            **common,
        },
    ]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the examples, once")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--tasks", nargs="+", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    print(
        f"{'task':14}{'examples':>10}{'make s/1M':>12}{'ours s/1M':>12}{'peer s/1M':>12}"
        f"{'again s':>10}{'ours GiB':>10}{'peer GiB':>10}"
    )
    rows = [
        row
        for name in arguments.tasks
        for row in compare(name, arguments.quick, 1 if arguments.quick else 3)
    ]
    for row in rows:
        if row["met"] is not None:
            verdict = "met" if row["met"] else "NOT met"
            print(
                f"{row['name']}: goal {row['goal']:g} {row['unit']}: {row['ours']:.2f}, {verdict}"
            )
    if arguments.json:
        machine = {
            "cores": os.cpu_count(),
            "threads": 1,
            "machine": platform.machine(),
            "versions": {name: version(name) for name in ("datasets", "tokenizers", "pyarrow")},
        }
        arguments.json.write_text(
            json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n", "utf-8"
        )


if __name__ == "__main__":
    main()
