"""Making, encoding and storing examples: every generated task against `datasets.map`.

    python scripts/bench/data.py [--quick] [--json FILE]

Both sides make the same examples, encode them with the same closed vocabulary, join the ids of
prompt and answer with their roles, and write them to an Arrow file. Ours encodes 10,000 examples at
a time; the peer is `datasets.Dataset.from_generator(...).map(batched=True)`. Making the examples is
also timed alone. The vocabulary is built before the clock starts. Seconds are CPU seconds of one
thread, medians over the repetitions, each in a process of its own, whose peak memory is taken (it
includes about 0.3 GiB of imported libraries).

The goal is a million examples of `addition` and of `anchor` in 60 seconds and within 1 GiB;
`--quick` measures a tenth of them and extrapolates the seconds.
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
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from ntpctp.tasks import TASKS, Task
from ntpctp.tokens import closed_tokenizer, encode

CHUNK = 10_000
MILLION = 1_000_000
# task -> (options, examples in a full run)
CASES: dict[str, tuple[dict[str, Any], int]] = {
    "addition": ({"digits": 4}, MILLION),
    "anchor": ({}, MILLION),
    "chain": ({}, 200_000),
    "kinship": ({}, 20_000),
    "prontoqa": ({}, 20_000),
    "prosqa": ({}, 10_000),
    "ruletaker": ({}, 20_000),
    "simple_logic": ({}, 5_000),
}


def build(name: str, size: int) -> Task:
    """The task with ``size`` training examples."""
    return TASKS[name](name=name, train_size=size, **CASES[name][0])


def tokenizer_of(name: str) -> Any:
    """A closed vocabulary over some thousand examples, which have every word."""
    task = build(name, 3000)
    texts = (segment.text for example in task.split("train") for segment in example.segments)
    return closed_tokenizer(texts, task.pieces)


def make(name: str, size: int, tokenizer: Any) -> None:
    """Make the examples and let go of them."""
    for _ in build(name, size).split("train"):
        pass


def ours(name: str, size: int, tokenizer: Any) -> None:
    """Make, encode and store."""
    schema = pa.schema([("input_ids", pa.list_(pa.int64())), ("roles", pa.list_(pa.uint8()))])
    examples = iter(build(name, size).split("train"))
    with (
        tempfile.TemporaryDirectory() as directory,
        pa.OSFile(str(Path(directory, "rows.arrow")), "wb") as file,
        pa.ipc.new_stream(file, schema) as stream,
    ):
        while chunk := list(islice(examples, CHUNK)):
            rows = encode(chunk, tokenizer)
            columns = [[row.input_ids for row in rows], [row.roles for row in rows]]
            stream.write_batch(pa.record_batch(columns, schema=schema))


def peer(name: str, size: int, tokenizer: Any) -> None:
    """The same with `datasets`."""
    datasets.disable_progress_bars()
    eos = tokenizer.eos_token_id

    def rows() -> Iterator[dict[str, str]]:
        for example in build(name, size).split("train"):
            yield {"prompt": example.text("prompt"), "answer": example.answer}

    def joined(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        prompts = tokenizer(batch["prompt"], add_special_tokens=False).input_ids
        answers = tokenizer(batch["answer"], add_special_tokens=False).input_ids
        pairs = [(p, [*a, eos]) for p, a in zip(prompts, answers, strict=True)]
        return {
            "input_ids": [p + a for p, a in pairs],
            "roles": [[0] * len(p) + [2] * len(a) for p, a in pairs],
        }

    with tempfile.TemporaryDirectory() as directory:
        data = datasets.Dataset.from_generator(rows, cache_dir=directory)
        data.map(joined, batched=True, batch_size=CHUNK, remove_columns=["prompt", "answer"])


METHODS = {"make": make, "ours": ours, "peer": peer}


def _measure(method: str, name: str, size: int, results: Any) -> None:
    tokenizer = tokenizer_of(name)
    begin = time.process_time()
    METHODS[method](name, size, tokenizer)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB to GiB
    results.put((time.process_time() - begin, peak))


def measured(method: str, name: str, size: int) -> tuple[float, float]:
    """CPU seconds and peak GiB of one method, in a process of its own."""
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
    """Rows of one task: seconds a million examples, and peak memory."""
    size = CASES[name][1] // (10 if quick else 1)
    # Alternating, so that a change of the machine's load meets all alike.
    runs = [{m: measured(m, name, size) for m in METHODS} for _ in range(repetitions)]
    seconds = {m: statistics.median(r[m][0] for r in runs) * MILLION / size for m in METHODS}
    memory = {m: max(r[m][1] for r in runs) for m in METHODS}
    goal = CASES[name][1] == MILLION
    print(
        f"{name:14}{size:>10}{seconds['make']:>12.1f}{seconds['ours']:>12.1f}"
        f"{seconds['peer']:>12.1f}{memory['ours']:>10.2f}{memory['peer']:>10.2f}"
    )
    common = {"peer_name": "datasets.map", "examples": size}
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
        f"{'ours GiB':>10}{'peer GiB':>10}"
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
