"""What a run tells while it works."""

from dataclasses import dataclass

from ntpctp._core.layout import RunId


@dataclass(frozen=True)
class Event:
    """What a run tells while it works."""

    run: RunId
    kind: str  # "training", "checkpoint", "measuring", "warning", "done", "failed", "path"
    done: int = 0  # steps trained, checkpoints measured, or paths to other arms
    total: int = 0
    loss: float | None = None
    text: str = ""
