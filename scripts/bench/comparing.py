"""A comparison of many runs: seconds, memory, and reading the same item rows by other libraries.

    python scripts/bench/comparing.py [--quick] [--json FILE] [--keep DIR]

Ten arms, ten seeds, 20 checkpoints, 10,000 held-out items (--quick: four arms, four seeds, five
checkpoints, 2,000 items), with simulated results in a temporary directory (compared_problem.py).
Each measurement runs in a separate process; times are wall clock after imports, medians over
repetitions:

* the comparison: from all stored scores and the last checkpoints' item rows to scores.parquet and
  comparison.json, all 45 pairs of arms on all scores; peak memory of the whole process, libraries
  included. CPU seconds are printed too: on a busy machine they are more reliable; on an idle one
  they can exceed the wall time, because several threads read rows;
* reading item rows: ours (four columns of every run, strata, sorted by item) against pandas, DuckDB
  and Python's json, which read the same columns of the same files. The sums must agree;
* the report of the same directory: seconds to write it, its size.

Goals: the comparison in 5 s and 1 GiB; a report below 8 MB.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import compared_problem
import numpy as np
from measuring import Record, in_own_process, write_records

GOAL_SECONDS, GOAL_MEBIBYTES, GOAL_MEGABYTES = 5.0, 1024.0, 8.0
COLUMNS = ["exact_match", "teacher_forced", "stopped", "brier"]


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compared(directory: Path) -> dict[str, float]:
    """Compare; return seconds, CPU seconds, peak memory in MiB, numbers of scores and pairs."""
    from ntpctp.analysis.pipeline import compare_experiment
    from ntpctp.config import load_output

    experiment = load_output(directory)
    begin, cpu = time.perf_counter(), time.process_time()
    frame, comparisons = compare_experiment(experiment, directory)
    return {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mebibytes": _peak(),
        "scores": len(frame),
        "pairs": sum(len(comparison.pairs) for comparison in comparisons),
    }


def reported(directory: Path) -> dict[str, float]:
    """Write the report; return seconds, peak memory in MiB, and its size in MB."""
    from ntpctp.analysis.comparison import read_comparisons
    from ntpctp.analysis.scores import read_scores
    from ntpctp.config import load_output
    from ntpctp.report.html import write_report

    experiment, frame = load_output(directory), read_scores(directory)
    comparisons = read_comparisons(directory)
    begin, cpu = time.perf_counter(), time.process_time()
    path = directory / "report.html"
    write_report(experiment, frame, comparisons, directory, path)
    return {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mebibytes": _peak(),
        "megabytes": path.stat().st_size / 1e6,
    }


def _files(directory: Path) -> list[Path]:
    runs = sorted(directory.glob("*/seed-*"))
    return [max(run.glob("train/step-*")) / "evaluation" / "accuracy.jsonl" for run in runs]


def _ours(paths: list[Path]) -> list[np.ndarray]:
    from ntpctp._core.layout import RunId
    from ntpctp.analysis.item_scores import ItemRows

    output = paths[0].parents[5]
    rows = ItemRows(output, {"accuracy": COLUMNS})
    found = []
    for column in COLUMNS:
        of_runs = []
        for path in paths:
            step, run = path.parents[1], path.parents[3]
            name = RunId(run.parent.name, int(run.name.removeprefix("seed-")))
            number = int(step.name.removeprefix("step-"))
            of_runs.append(rows.values(name, number, "accuracy", "test", column)[1])
        found.append(np.stack(of_runs))
    return found


def _pandas(paths: list[Path]) -> list[np.ndarray]:
    import pandas as pd

    frames = [pd.read_json(path, lines=True).sort_values("item") for path in paths]
    return [np.stack([frame[column].to_numpy() for frame in frames]) for column in COLUMNS]


def _duckdb(paths: list[Path]) -> list[np.ndarray]:
    import duckdb

    names = [str(path) for path in paths]
    columns = ", ".join(COLUMNS)
    table = duckdb.sql(
        f"SELECT {columns} FROM read_json({names}, format='newline_delimited', filename=true) "
        "WHERE split = 'test' ORDER BY filename, item"
    ).fetchnumpy()
    return [np.asarray(table[column]).reshape(len(paths), -1) for column in COLUMNS]


def _python(paths: list[Path]) -> list[np.ndarray]:
    found = []
    for path in paths:
        with path.open(encoding="utf-8") as file:
            rows = sorted(map(json.loads, file), key=lambda row: int(row["item"]))
        found.append([[row[column] for row in rows] for column in COLUMNS])
    return [np.array([run[place] for run in found]) for place in range(len(COLUMNS))]


READERS: dict[str, Callable[[list[Path]], list[np.ndarray]]] = {
    "ours": _ours,
    "pandas": _pandas,
    "duckdb": _duckdb,
    "python json": _python,
}


def read(directory: Path, reader: str) -> dict[str, Any]:
    """Read the four columns of all runs; return seconds, peak memory in MiB, and sums."""
    paths = _files(directory)
    READERS[reader](paths[:1])  # imports the libraries
    begin, cpu = time.perf_counter(), time.process_time()
    arrays = READERS[reader](paths)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
    sums = [float(np.asarray(array, np.float64).sum()) for array in arrays]
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mebibytes": _peak(),
        "sums": sums,
    }


def medians(repetitions: int, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Return the median of every number over repetitions, each in a separate process."""
    found = [in_own_process(function, *arguments) for _ in range(repetitions)]
    return {
        key: found[0][key] if key == "sums" else statistics.median(one[key] for one in found)
        for key in found[0]
    }


def measure(directory: Path, repetitions: int) -> list[Record]:
    """Measure, print and return the rows of the table."""
    whole = medians(repetitions, compared, directory)
    records = [
        _goal("comparison", whole["seconds"], "s", GOAL_SECONDS) | whole,
        _goal("comparison, peak memory", whole["peak_mebibytes"], "MiB", GOAL_MEBIBYTES),
    ]
    print(f"  {whole['pairs']:.0f} pairs of arms on scores, {whole['scores']:.0f} stored scores; ")
    print(f"  {whole['cpu_seconds']:.1f} CPU seconds")
    ours = medians(repetitions, read, directory, "ours")
    for reader in [name for name in READERS if name != "ours"]:
        theirs = medians(repetitions, read, directory, reader)
        if not np.allclose(ours["sums"], theirs["sums"], rtol=1e-12, atol=0):
            raise SystemExit(f"{reader}: sums {theirs['sums']}, ours {ours['sums']}")
        ratio = theirs["cpu_seconds"] / ours["cpu_seconds"]
        records.append(
            {
                "name": "reading item rows",
                "ours": ours["cpu_seconds"],
                "peer": theirs["cpu_seconds"],
                "peer_name": reader,
                "unit": "CPU s",
                "ratio": ratio,
                "goal": None,
                "met": None,
                "peak_mebibytes": [ours["peak_mebibytes"], theirs["peak_mebibytes"]],
            }
        )
        print(
            f"reading item rows: ours {ours['cpu_seconds']:.2f} CPU s ({ours['seconds']:.2f} s, "
            f"{ours['peak_mebibytes']:.0f} MiB), {reader} {theirs['cpu_seconds']:.2f} "
            f"({theirs['seconds']:.2f} s, {theirs['peak_mebibytes']:.0f} MiB): {ratio:.1f} times"
        )
    page = medians(1, reported, directory)
    records.append(_goal("report, size", page["megabytes"], "MB", GOAL_MEGABYTES) | page)
    print(f"  written in {page['seconds']:.1f} s, {page['peak_mebibytes']:.0f} MiB")
    return records


def _goal(name: str, value: float, unit: str, goal: float) -> Record:
    met = value <= goal
    print(f"{name}: {value:.1f} {unit} (goal {goal:g}: {'met' if met else 'not met'})")
    return {
        "name": name,
        "ours": value,
        "peer": None,
        "peer_name": None,
        "unit": unit,
        "ratio": None,
        "goal": goal,
        "met": met,
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small experiment, one repetition")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument(
        "--keep", type=Path, help="create the experiment here, or reuse an existing one"
    )
    arguments = parser.parse_args()
    size = (4, 4, 2_000, 5) if arguments.quick else (10, 10, 10_000, 20)
    with tempfile.TemporaryDirectory() as place:
        directory = arguments.keep or Path(place) / "simulated"
        if not directory.exists():
            compared_problem.make(directory, compared_problem.simulated(*size))
        records = measure(directory, 1 if arguments.quick else 3)
    if arguments.json:
        packages = ("numpy", "pandas", "pyarrow", "scipy", "duckdb")
        write_records(arguments.json, records, packages)


if __name__ == "__main__":
    main()
