"""``log.jsonl``: loss, learning rate and counters of training, one line per interval."""

import bisect
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ntpctp._core.errors import InputError
from ntpctp._core.files import atomic_file
from ntpctp.models.checkpoints import Progress


@dataclass(frozen=True)
class LogLine:
    """A line of ``log.jsonl``; means and rates are over the steps since the line before."""

    step: int
    loss: float  # nats per unit of weight: the arm's own objective
    learning_rate: float
    gradient_norm: float  # of the last step, before clipping
    tokens: int  # since the start, padding excluded
    supervised_tokens: int  # since the start
    seconds: float  # of training since the start
    tokens_per_second: float


@dataclass
class Interval:
    """Sums since the last log line, kept as tensors to avoid waiting for the device each step.

    Attributes:
        started: seconds of training at the last log line.
        loss_sum: float64, of this process.
        counts: float64, shape (3,): normaliser, tokens and supervised tokens of all processes.
    """

    started: float
    loss_sum: torch.Tensor | float = 0.0
    counts: torch.Tensor | float = 0.0

    @classmethod
    def resumed(cls, stored: Mapping[str, Any], accelerator: Accelerator) -> "Interval":
        """Return the interval that ``unfinished`` stored, bit for bit on as many processes."""
        own = stored["loss_sums"][accelerator.process_index :: accelerator.num_processes]
        loss_sum, counts = (
            torch.tensor(numbers, dtype=torch.float64, device=accelerator.device)
            for numbers in (sum(own), stored["counts"])
        )
        return cls(stored["started"], loss_sum, counts)

    def unfinished(self, step: int, accelerator: Accelerator) -> dict[str, Any]:
        """Return the sums so far as JSON values, the losses by process; collective.

        Raises:
            InputError: if the loss is not finite.
        """
        zero = torch.zeros(1, dtype=torch.float64, device=accelerator.device)
        loss_sums = accelerator.gather(zero + self.loss_sum).tolist()
        _check_finite(sum(loss_sums), step)
        counts = (zero.expand(3) + self.counts).tolist()
        return {"started": self.started, "loss_sums": loss_sums, "counts": counts}

    def add(self, loss_sum: torch.Tensor, counts: torch.Tensor) -> None:
        """Add a step: the sum of its losses, and its normaliser, tokens and supervised tokens."""
        self.loss_sum = self.loss_sum + loss_sum
        self.counts = self.counts + counts

    def close(
        self, progress: Progress, learning_rate: float, norm: Any, accelerator: Accelerator
    ) -> tuple[Progress, LogLine]:
        """Return the counters with this interval added, and its log line; start a new interval.

        Raises:
            InputError: if the loss is not finite.
        """
        assert isinstance(self.loss_sum, torch.Tensor)
        assert isinstance(self.counts, torch.Tensor)
        loss_sum = float(accelerator.reduce(self.loss_sum, "sum"))
        weight, tokens, supervised = self.counts.tolist()
        _check_finite(loss_sum, progress.step)
        progress = Progress(
            progress.step,
            progress.tokens + int(tokens),
            progress.supervised_tokens + int(supervised),
            progress.seconds,
        )
        line = LogLine(
            step=progress.step,
            loss=loss_sum / weight,
            learning_rate=learning_rate,
            gradient_norm=float(norm),
            tokens=progress.tokens,
            supervised_tokens=progress.supervised_tokens,
            seconds=round(progress.seconds, 3),
            tokens_per_second=round(tokens / max(progress.seconds - self.started, 1e-9), 1),
        )
        self.loss_sum, self.counts, self.started = 0.0, 0.0, progress.seconds
        return progress, line


class Log:
    """``log.jsonl``: truncated to the checkpoint that training resumes from, then appended to."""

    def __init__(self, path: Path, progress: Progress, active: bool):
        self.path, self.active = path, active
        self._hash = hashlib.sha256()
        if not active:
            return
        kept = [(text, line) for text, line in _lines(path) if line["step"] <= progress.step]
        with atomic_file(path) as temporary:
            temporary.write_text("".join(text for text, _ in kept), "utf-8")
        for _, line in kept:
            self._hash.update(_reproducible(line))

    def write(self, line: LogLine) -> None:
        """Append a line, on the main process."""
        if self.active:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(vars(line)) + "\n")
            self._hash.update(_reproducible(vars(line)))

    def digest(self) -> str:
        """Return the digest of all lines, once they are on the disk; stored in checkpoints."""
        with self.path.open("ab") as file:
            os.fsync(file.fileno())
        return self._hash.hexdigest()


def digests(path: Path) -> Callable[[int], str]:
    """Return a function step -> ``Log.digest`` at that step, from a log on disk.

    Reads the log once, up to the first invalid line.
    """
    hashed, steps, after = hashlib.sha256(), [], [hashlib.sha256().hexdigest()]
    for _, line in _lines(path):
        hashed.update(_reproducible(line))
        steps.append(line["step"])
        after.append(hashed.hexdigest())
    return lambda step: after[bisect.bisect_right(steps, step)]


def _reproducible(line: Mapping[str, Any]) -> bytes:
    """Return the fields of a line without the measured times, as bytes to be hashed."""
    timed = ("seconds", "tokens_per_second")
    return json.dumps({k: v for k, v in line.items() if k not in timed}).encode()


def _check_finite(loss_sum: float, step: int) -> None:
    if not math.isfinite(loss_sum):
        raise InputError(
            f"the loss is {loss_sum} at step {step}: training has diverged. Lower "
            "training.learning_rate, lengthen the warm-up or clip to a smaller norm. Earlier "
            "checkpoints are kept"
        )


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the lines of a log, as bytes and parsed, up to the first invalid one.

    A kill may have cut off the last one.
    """
    found = []
    for text in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        try:
            line = json.loads(text)
            step = line["step"]
        except (ValueError, TypeError, KeyError):
            break
        if not text.endswith(b"\n") or not isinstance(step, int):
            break
        found.append((text.decode("utf-8"), line))
    return found
