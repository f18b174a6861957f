"""Random faults: does a repeatedly disturbed experiment end like an undisturbed one?

    python scripts/bench/faults.py --faults 200

`ntpctp run` of two arms with two seeds is killed, stopped, denied disk space, memory or a steady
clock, left hanging, or its files are damaged while no command runs; see ``fault_kinds`` for each
kind. Every fault and its moment are random. After each fault

- no finished checkpoint and no finished score is missing or changed (except damaged ones);
- every listed checkpoint verifies, and checkpoints and scores equal those of the undisturbed run;
- the exit code is the one expected for this fault, and problems that users can fix are reported
  without a traceback.

After some faults the experiment runs to its end and is compared, file by file, with the undisturbed
one. A fault without effect, because the command had ended before, is drawn again.

Needs Linux. As root the experiment lies on a separate file system, which can be full or read-only,
and in a memory cgroup if one is delegated; otherwise these kinds are skipped and named.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from fault_files import Contents, contents, corrupt, differences, finished, lost
from fault_kinds import KINDS, new_cgroup
from fault_processes import Command, FailingDisk, Setup, start
from fault_scene import Outcome, Scene, Start
from transformers import AutoModelForCausalLM

from ntpctp._core.runtime import quiet_libraries
from ntpctp.config import load_experiment
from ntpctp.runner.prepare import initial_model, prepare

EXPERIMENT = """
name: faults
task: {name: addition, digits: 1, train_size: 40, test_size: 10}
model: {family: gpt2, layers: 1, width: 64, heads: 2}
training: {steps: STEPS, batch_size: 4, learning_rate: 3e-3, log_every: 3}
arms: {ntp: {objective: ntp}, ctp: {objective: ctp}}
seeds: SEEDS
evaluation: {every: EVERY, measures: [accuracy]}
"""
WEIGHTS = {"damaged": 6, "killed": 2, "terminated": 2}  # the others: 1
TYPED = ("killed", "worker-killed", "driver-killed", "terminated")
"""Kinds that are also tried on a command in a new interpreter, which takes ten times longer."""


@dataclass
class Record:
    """A fault that had an effect."""

    kind: str
    what: str
    codes: list[int]
    seconds: float
    lost: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def is_good(self) -> bool:
        """Return whether no problem was found."""
        return not (self.lost or self.corrupt or self.different or self.wrong)


class Trial:
    """A sequence of disturbed experiments.

    Attributes:
        home: directory of the current experiment and of its encoded data.
        records: of all faults that had an effect, in order.
        compared: how often an experiment ran to its end and was compared.
    """

    def __init__(self, directory: Path, seed: int, typed_every: int):
        self.directory, self.home = directory, directory / "home"
        self.output = self.home / "out"
        self.moments, self.records = random.Random(seed), list[Record]()
        self.unstruck, self.compared = Counter[str](), 0
        self.failed = ""  # output of the last commands, printed after a problem
        self._typed_every, self._commands = typed_every, 0
        self._file = directory / "experiment.yaml"
        self.faults = 0  # of the current experiment
        marks = directory / "marks"
        marks.mkdir()
        started = time.monotonic()
        counting = FailingDisk(self.home, "", 0, None, False, marks)
        if code := self._start(False)(counting).wait():
            raise RuntimeError(f"the undisturbed run ended with {code}:\n{self.printed()}")
        self.seconds = 0.8 * (time.monotonic() - started)  # the first one is slower
        self.calls = {path.name: int(path.read_text()) for path in sorted(marks.iterdir())}
        self.expected: Contents = contents(self.output)

    def renew(self) -> None:
        """Start a new experiment."""
        self.faults = 0
        self.home.mkdir(exist_ok=True)
        for path in self.home.iterdir():
            shutil.rmtree(path)

    def printed(self) -> str:
        """Return the output of the last command."""
        log = self.directory / f"log-{self._commands}"
        return log.read_text("utf-8", errors="replace")

    def _start(self, typed: bool) -> Start:
        def begin(setup: Setup | None) -> Command:
            self._commands += 1
            log = self.directory / f"log-{self._commands}"
            arguments = ["run", str(self._file), "--output", str(self.output), "--workers", "2"]
            return start(arguments, log, setup, typed=typed)

        return begin

    def strike(self, kind: str) -> Record | None:
        """Inject a fault and check the files; return None if it had no effect."""
        typed = kind in TYPED and self.moments.random() * self._typed_every < 1
        before = finished(self.output)
        scene = Scene(
            self.home,
            self.output,
            self._start(typed),
            self.moments,
            self.seconds,
            self.calls,
            typed,
        )
        started = time.monotonic()
        outcome: Outcome = KINDS[kind](scene)
        if not outcome.struck:
            self.unstruck[kind] += 1
        record = Record(
            f"{kind}",
            outcome.what + ", typed" * typed,
            [code for code, _ in outcome.commands],
            time.monotonic() - started,
            wrong=outcome.wrong,
        )
        self.failed = "\n".join(output for _, output in outcome.commands)
        # Damaged files and files derived from them may have been rebuilt; they are compared below.
        record.lost = [] if outcome.damaged else lost(before, finished(self.output))
        record.corrupt = corrupt(self.output, self.expected)
        self.faults += 1
        if record.is_good() and (outcome.damaged or not outcome.struck or self._enough()):
            self._finish(record)
        if outcome.struck or not record.is_good():
            self.records.append(record)
            return record
        return None

    def _enough(self) -> bool:
        return self.moments.random() < 0.2 * self.faults

    def _finish(self, record: Record) -> None:
        """Run the experiment to its end with the same command, and compare it."""
        if code := self._start(False)(None).wait():
            record.wrong.append(f"the same command does not resume: exit code {code}")
            self.failed += self.printed()
            return
        record.what += "; finished"
        self.compared += 1
        record.different = differences(contents(self.output), self.expected)
        if not self.moments.random() < 0.4:
            self.renew()
        elif record.is_good():
            self._step_back()

    def _step_back(self) -> None:
        """Delete a random part of the finished checkpoints, so that work remains."""
        for stage in sorted(self.output.rglob("seed-*/train")):
            steps = sorted(stage.glob("step-*"))
            for path in steps[self.moments.randint(1, len(steps)) :]:
                shutil.rmtree(path)


def kinds_here(mounted: bool) -> tuple[list[str], list[str]]:
    """Return the kinds of faults that are possible on this machine, and the others."""
    missing = [] if mounted else ["full", "read-only"]
    group = new_cgroup()
    if group is None:
        missing.append("cgroup")
    else:
        group.rmdir()
    return [kind for kind in KINDS if kind not in missing], missing


@contextmanager
def file_system(directory: Path) -> Iterator[bool]:
    """Mount a file system at ``directory``/home; yield whether that is allowed."""
    home = directory / "home"
    home.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(home)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(home)], check=True)


def experiment(quick: bool) -> str:
    """Return the experiment's file."""
    sizes = (
        {"STEPS": 8, "EVERY": 4, "SEEDS": 1} if quick else {"STEPS": 40, "EVERY": 10, "SEEDS": 2}
    )
    text = EXPERIMENT
    for name, size in sizes.items():
        text = text.replace(name, str(size))
    return text


def warm_up(directory: Path) -> None:
    """Do the work that every process would repeat, before processes are forked from here.

    Imports the modules that commands import late, and lets transformers build its tables.
    """
    for name in (
        "analysis.pipeline",
        "config.stages",
        "config.sweep",
        "report.html",
        "report.terminal.comparisons",
        "report.terminal.plans",
        "report.terminal.progress",
        "runner.budget",
        "runner.experiment",
        "runner.worker",
    ):
        importlib.import_module(f"ntpctp.{name}")
    quiet_libraries()
    settings = load_experiment(directory / "experiment.yaml")
    model = initial_model(settings.arms["ntp"], prepare(settings), seed=0)
    model.save_pretrained(directory / "model")
    AutoModelForCausalLM.from_pretrained(directory / "model")


def table(records: Sequence[Record], unstruck: Counter[str]) -> str:
    """Return a Markdown table with one row per kind."""
    lines = [
        "| kind | struck | no effect, drawn again | exit codes | lost | corrupt accepted | "
        "different at the end | other problems |",
        "|---|---:|---:|---|---:|---:|---:|---:|",
    ]
    for kind in [kind for kind in KINDS if any(r.kind == kind for r in records)]:
        of_kind = [record for record in records if record.kind == kind]
        codes = Counter(" then ".join(map(str, record.codes)) for record in of_kind)
        shown = ", ".join(f"{code}: {n}" for code, n in codes.most_common())
        counts = (
            sum(bool(getattr(record, what)) for record in of_kind)
            for what in ("lost", "corrupt", "different", "wrong")
        )
        cells = [kind, len(of_kind), unstruck[kind], shown, *counts]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Inject faults, check, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--faults", type=int, default=200, help="number of faults with an effect")
    parser.add_argument("--quick", action="store_true", help="a shorter experiment, of one seed")
    parser.add_argument("--seed", type=int, default=0, help="of all random draws")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="by default all")
    parser.add_argument(
        "--typed-every",
        type=int,
        default=10,
        help="one in this many faults strikes a new interpreter",
    )
    parser.add_argument("--json", type=Path, help="also write all faults into this file")
    parser.add_argument(
        "--keep", type=Path, help="copy experiments with problems into this directory"
    )
    parser.add_argument("--go-on", action="store_true", help="continue after a problem")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the file system is unmounted
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="faults-") as temporary,
        file_system(Path(temporary)) as mounted,
    ):
        here, missing = kinds_here(mounted)
        kinds = arguments.kinds or here
        if missing:
            print(f"not possible on this machine: {', '.join(missing)}", flush=True)
        if unable := sorted({*kinds} & {*missing}):
            sys.exit(f"requested, but not possible: {', '.join(unable)}")
        (Path(temporary) / "experiment.yaml").write_text(experiment(arguments.quick), "utf-8")
        warm_up(Path(temporary))
        trial = Trial(Path(temporary), arguments.seed, arguments.typed_every)
        calls = ", ".join(f"{number} of {process}" for process, number in trial.calls.items())
        print(f"undisturbed: {trial.seconds:.1f} s; changes of files: {calls}", flush=True)
        weights = [WEIGHTS.get(kind, 1) for kind in kinds]
        while len(trial.records) < arguments.faults:
            (kind,) = trial.moments.choices(kinds, weights)
            record = trial.strike(kind)
            if record is None:
                continue
            print(f"{len(trial.records):4d} {_line(record)}", flush=True)
            if not record.is_good():
                print(trial.failed, flush=True)
                if arguments.keep:
                    place = arguments.keep / f"fault-{len(trial.records)}"
                    shutil.copytree(trial.home, place, dirs_exist_ok=True)
                if not arguments.go_on:
                    break
                trial.renew()
        print(table(trial.records, trial.unstruck))
        bad = [record for record in trial.records if not record.is_good()]
        print(
            f"{len(trial.records)} faults in {(time.monotonic() - started) / 60:.0f} minutes, "
            f"{trial.compared} times run to the end and compared; "
            + (f"{len(bad)} WITH PROBLEMS" if bad else "all ended in the undisturbed result")
        )
        if arguments.json:
            content = [asdict(record) for record in trial.records]
            arguments.json.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    sys.exit(bool(bad))


def _line(record: Record) -> str:
    codes = ", ".join(map(str, record.codes))
    words = [f"{record.kind:13s} {record.seconds:5.1f} s  exit {codes}: {record.what}"]
    for what in ("lost", "corrupt", "different", "wrong"):
        if found := getattr(record, what):
            words.append(f"{what.upper()}: {'; '.join(found[:6])}")
    return "  ".join(words)


if __name__ == "__main__":
    main()
