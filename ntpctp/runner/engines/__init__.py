"""Where runs are executed: this machine, a Ray cluster, or Slurm."""

from pathlib import Path

from ntpctp._core.cpu import cores
from ntpctp._core.errors import InputError
from ntpctp.runner.engines.base import Engine, Failed, Failure, Job, Note, Watcher
from ntpctp.runner.engines.local import Local
from ntpctp.runner.engines.ray_cluster import RayCluster
from ntpctp.runner.engines.slurm import Slurm

__all__ = [
    "Engine",
    "Failed",
    "Failure",
    "Job",
    "Local",
    "Note",
    "RayCluster",
    "Slurm",
    "Watcher",
    "cores",
    "engine_named",
]

_EXPECTED = (
    "Expected local; ray (started on this machine), ray://HOST:PORT (Ray's client), or "
    "ray:HOST:PORT (from a machine of the cluster; ray:auto finds it); slurm, or slurm:local to "
    "try it without Slurm"
)


def engine_named(text: str, output: Path, local: Local) -> Engine:
    """Return the engine that ``--on`` names.

    Args:
        text: see ``_EXPECTED``.
        output: directory of the experiment; will hold Slurm's submissions.
        local: the engine for ``local``.

    Raises:
        InputError: if no engine has that name.
    """
    kind, _, rest = text.partition(":")
    match kind, rest:
        case "local", "":
            return local
        case "ray", "":
            return RayCluster()
        case "ray", _:
            return RayCluster(text if rest.startswith("//") else rest)
        case "slurm", "" if text == "slurm":
            return Slurm(output / ".slurm")
        case "slurm", "local":
            return Slurm(output / ".slurm", "local", poll_seconds=0.5)
    raise InputError(f"--on {text}: unknown engine. {_EXPECTED}")
