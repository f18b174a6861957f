"""Evaluation of one checkpoint: ours against lm-eval, and the cost of each measure.

    python scripts/bench/evaluation.py [--quick] [--json FILE]

A partly trained GPT-2 of four layers and width 128 (it chooses the right candidate more often than
not, and generates hardly any right answer); 500 items with contexts of 20 to 100 words: two
candidates of one word and the end of sequence, or a generated answer of 1 to 8 words. Both start
from the text and the checkpoint on disk and end with the accuracy; lm-eval with the best of several
batch sizes. CPU seconds of one thread, each call in a separate process after imports, medians over
alternating repetitions. Accuracies and log-likelihoods must agree. Then each of our measures alone:
items per second, and the model's FLOPs as a share of the matmul peak.

Goals: 4 times lm-eval's rate on both; a noise curve of 6 strengths and 8 draws (41 passes: strength
0 needs only one) in at most 48 times the seconds of one evaluation.

Needs: pip install -e '.[lm-eval]'.
"""

import argparse
import contextlib
import io
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from answered_problem import KINDS, context_of, make
from measuring import Record, in_own_process, matmul_peak, write_records

from ntpctp._core.runtime import quiet_libraries
from ntpctp.measures import Accuracy, Robustness
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.models.flops import training_flops

BATCH_SIZES = (1, 16, 64)
GOAL = 4.0
STRENGTHS, DRAWS = [0.0, 0.1, 0.2, 0.5, 1.0, 2.0], 8
SCORE = {"choices": "choice", "greedy": "exact_match"}


def ours(directory: Path, kind: str, number: int) -> dict[str, Any]:
    """Encode, load, measure."""
    quiet_libraries()
    begin = time.process_time()
    context = context_of(directory, kind)
    rows, scores = Accuracy(modes=[kind], train_items=0, prompt_loss=False).measure(context)
    seconds = time.process_time() - begin
    found = {score.score: score.value for score in scores}
    logs = [row["choice_log_likelihoods"] for row in rows] if kind == "choices" else []
    return {"seconds": seconds, "accuracy": found[SCORE[kind]], "logs": logs}


def theirs(directory: Path, kind: str, number: int, batch_size: int) -> dict[str, Any]:
    """Run lm-eval on the same items."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    quiet_libraries()
    warnings.simplefilter("ignore")
    import lm_eval
    from lm_eval.tasks import TaskManager

    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        manager = TaskManager(include_path=str(directory.resolve()), include_defaults=False)
        begin = time.process_time()
        found = lm_eval.simple_evaluate(
            model="hf",
            model_args=f"pretrained={directory}/model,device=cpu,dtype=float32",
            tasks=[f"bench_{kind}"],
            batch_size=batch_size,
            task_manager=manager,
            bootstrap_iters=0,
            log_samples=True,
        )
        seconds = time.process_time() - begin
    results = found["results"][f"bench_{kind}"]
    samples = sorted(found["samples"][f"bench_{kind}"], key=lambda sample: sample["doc_id"])
    logs = [[float(r[0][0]) for r in s["resps"]] for s in samples] if kind == "choices" else []
    accuracy = results["acc,none" if kind == "choices" else "exact_match,none"]
    return {"seconds": seconds, "accuracy": accuracy, "logs": logs}


def compare(directory: Path, kind: str, number: int, repetitions: int) -> Record:
    """Measure, print and return one row of the table."""
    by_size: dict[int, list[float]] = {size: [] for size in BATCH_SIZES}
    own: list[float] = []
    for _ in range(repetitions):
        mine = in_own_process(ours, directory, kind, number)
        own.append(mine["seconds"])
        for size in BATCH_SIZES:
            other = in_own_process(theirs, directory, kind, number, size)
            by_size[size].append(other["seconds"])
            if abs(other["accuracy"] - mine["accuracy"]) > 1e-9:
                raise SystemExit(f"{kind}: {mine['accuracy']} and {other['accuracy']} differ")
            if kind == "choices":
                np.testing.assert_allclose(mine["logs"], other["logs"], atol=1e-5)
    best = min(BATCH_SIZES, key=lambda size: statistics.median(by_size[size]))
    peer, seconds = statistics.median(by_size[best]), statistics.median(own)
    record = {
        "name": kind,
        "ours": number / seconds,
        "peer": number / peer,
        "peer_name": f"lm-eval, batch {best}",
        "unit": "items/s",
        "ratio": peer / seconds,
        "goal": GOAL,
        "met": peer / seconds >= GOAL,
    }
    others = ", ".join(
        f"batch {size} {statistics.median(times):.2f} s" for size, times in by_size.items()
    )
    print(
        f"{kind:8} ours {seconds:.2f} s, lm-eval {others}: {record['ratio']:.1f} times "
        f"(goal {GOAL:g}: {'met' if record['met'] else 'not met'}), accuracy {mine['accuracy']}"
    )
    return record


def costs(directory: Path, number: int) -> list[Record]:
    """Return the seconds of each way to measure, over all items, in this process."""
    quiet_libraries()
    found = []
    peak = matmul_peak()
    for kind in KINDS:
        context = context_of(directory, kind)
        split, model = context.splits["test"], context.model
        judged = JudgedItems(split, context.tokenizer)
        read = [len(row) for row in split.encoded]
        at_head = {
            "accuracy": [length - 1 for length in read],
            "judging": [int(row.has_role("answer").sum()) for row in split.encoded],
        }
        robustness = Robustness(strengths=STRENGTHS, draws=DRAWS, max_items=None)
        ways: dict[str, tuple[Callable[[], Any], str, int]] = {
            f"accuracy, {kind}": (
                lambda context=context: Accuracy(train_items=0).measure(context),
                "accuracy",
                1,
            ),
            f"one pass, {kind}": (
                lambda judged=judged, model=model, context=context: judged.right(
                    model, context.budget
                ),
                "judging",
                1,
            ),
            f"noise curve, {kind}": (
                lambda context=context, robustness=robustness: robustness.measure(context),
                "judging",
                1 + (len(STRENGTHS) - 1) * DRAWS,
            ),
        }
        seconds = {}
        for name, (work, head, passes) in ways.items():
            if passes == 1:
                work()  # warm up; a curve warms itself up
            times = []
            for _ in range(3 if passes == 1 else 1):
                begin = time.process_time()
                work()
                times.append(time.process_time() - begin)
            seconds[name] = statistics.median(times)
            # A forward pass is a third of a training step.
            flops = float(training_flops(model, read, at_head[head]).sum()) / 3 * passes
            found.append(
                {
                    "name": name,
                    "ours": number / seconds[name],
                    "unit": "items/s",
                    "seconds": seconds[name],
                    "of_matmul_peak": flops / seconds[name] / peak,
                }
            )
        curve, one = seconds[f"noise curve, {kind}"], seconds[f"one pass, {kind}"]
        evaluations = len(STRENGTHS) * DRAWS
        ratio = curve / one / evaluations
        found.append(
            {
                "name": f"noise curve over {evaluations} passes, {kind}",
                "ours": curve,
                "peer": evaluations * one,
                "peer_name": f"{evaluations} times one pass",
                "unit": "s",
                "ratio": ratio,
                "goal": 1.0,
                "met": ratio <= 1.0,
            }
        )
    return found


def show(record: Record) -> None:
    """Print a row of the costs."""
    if "goal" in record:
        met = "met" if record["met"] else "not met"
        print(
            f"{record['name']}: {record['ours']:.2f} s against {record['peer']:.2f} s, ratio "
            f"{record['ratio']:.2f} (goal at most 1: {met})"
        )
    else:
        print(
            f"{record['name']:24} {record['ours']:8.0f} items/s, {record['seconds']:.3f} s, "
            f"{record['of_matmul_peak']:.0%} of the matmul peak"
        )


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer items, one repetition")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    number, steps, repetitions = (100, 60, 1) if arguments.quick else (500, 400, 3)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        make(directory, number, steps)
        records = [compare(directory, kind, number, repetitions) for kind in KINDS]
        of_measures = in_own_process(costs, directory, number)
    for record in of_measures:
        show(record)
    if arguments.json:
        packages = ("torch", "transformers", "lm_eval")
        write_records(arguments.json, [*records, *of_measures], packages)


if __name__ == "__main__":
    main()
