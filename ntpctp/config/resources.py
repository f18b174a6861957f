"""The block ``resources`` of an experiment file: what one run may use on any engine."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from ntpctp._core.options import Options


def _minutes(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(f"expected a number of minutes, found {value!r} (24 hours are 1440)")
    return value


class SlurmOptions(Options):
    """Options of Slurm beside cores, GPUs and memory; only read with ``--on slurm``."""

    partition: str | None = Field(None, description="sbatch --partition")
    account: str | None = Field(None, description="sbatch --account")
    qos: str | None = Field(None, description="sbatch --qos")
    constraint: str | None = Field(None, description="sbatch --constraint")
    minutes: Annotated[int, BeforeValidator(_minutes)] = Field(
        240, ge=1, description="time limit of a job; a run that needs longer is requeued"
    )
    at_once: int = Field(
        256, ge=1, description="jobs of an array that run at the same time, at most"
    )
    timeouts: int = Field(
        20, ge=0, description="how often a job that reached its time limit is requeued"
    )
    signal_seconds: int = Field(
        90,
        ge=10,
        description="seconds before the time limit when a job is told to save",
    )
    setup: list[str] = Field(
        default_factory=list, description="shell lines before the job (module load cuda)"
    )
    more: dict[str, str | int] = Field(
        default_factory=dict, description="further sbatch options by name: {exclude: node07}"
    )


class Resources(Options):
    """Resources of one run; a job that measures one checkpoint of it gets the same."""

    cpus: int | None = Field(
        None,
        ge=1,
        description="cores, and torch threads, of a run; by default one, or all for a single run",
    )
    gpus: int = Field(0, ge=0, description="GPUs of a run, requested from Ray or Slurm")
    memory_gib: float | None = Field(
        None,
        gt=0,
        description="GiB of memory of a run, requested from Ray or Slurm; null: none",
    )
    processes: int | None = Field(
        None,
        ge=1,
        description="processes that share every batch of a run, started by accelerate launch; by "
        "default one for each GPU, or one",
    )
    accelerate: str | None = Field(
        None,
        description="configuration file of accelerate for these processes "
        "(recipes/accelerate/fsdp.yaml); by default each process holds the whole model",
    )
    slurm: SlurmOptions = Field(default_factory=SlurmOptions, description="see SlurmOptions")

    @field_validator("accelerate")
    @classmethod
    def _exists(cls, value: str | None) -> str | None:
        if value is not None and not Path(value).is_file():
            raise ValueError(f"configuration file of accelerate not found: {value}")
        return value

    @property
    def num_processes(self) -> int:
        """Number of processes of one run."""
        return self.processes or max(1, self.gpus)
