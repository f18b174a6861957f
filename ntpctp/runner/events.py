"""Progress of a run, sent from its worker to the driver."""

from dataclasses import dataclass

from ntpctp._core.layout import RunId


@dataclass(frozen=True)
class Event:
    """One message.

    Attributes:
        run: the sender.
        kind: ``training``, ``checkpoint``, ``measuring``, ``warning``, ``done``, ``failed`` or
            ``path``.
        done: steps trained, checkpoints measured, or paths between arms measured.
        total: that ``done`` will reach.
        loss: of the last step.
        text: of a warning or failure.
    """

    run: RunId
    kind: str
    done: int = 0
    total: int = 0
    loss: float | None = None
    text: str = ""
