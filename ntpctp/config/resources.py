"""What one run may use, wherever it is executed: the block ``resources`` of an experiment file."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from ntpctp._core.options import Options


def _minutes(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(f"expected minutes as a number, found {value!r} (24 hours are 1440)")
    return value


class SlurmOptions(Options):
    """What a site asks for beside cores, GPUs and memory; read with ``--on slurm`` alone."""

    partition: str | None = Field(None, description="sbatch --partition")
    account: str | None = Field(None, description="sbatch --account")
    qos: str | None = Field(None, description="sbatch --qos")
    constraint: str | None = Field(None, description="sbatch --constraint")
    minutes: Annotated[int, BeforeValidator(_minutes)] = Field(
        240, ge=1, description="time limit of a job; a run that needs longer is requeued"
    )
    at_once: int = Field(256, ge=1, description="jobs of an array that run at the same time")
    timeouts: int = Field(
        20, ge=0, description="how often a job that reached its time limit is queued again"
    )
    signal_seconds: int = Field(
        90, ge=10, description="how long before the limit a job is told to save"
    )
    setup: list[str] = Field(
        default_factory=list, description="shell lines before the job (module load cuda)"
    )
    more: dict[str, str | int] = Field(
        default_factory=dict, description="any further sbatch options by name: {exclude: node07}"
    )


class Resources(Options):
    """Of one run; each checkpoint that is measured as a job of its own gets the same."""

    cpus: int | None = Field(
        None, ge=1, description="cores, and threads of torch; by default one, or all for one run"
    )
    gpus: int = Field(0, ge=0, description="that Ray or Slurm is asked for")
    memory_gib: float | None = Field(
        None, gt=0, description="memory that Ray or Slurm is asked for, in GiB; null: not stated"
    )
    processes: int | None = Field(
        None,
        ge=1,
        description="that share every batch of a run, started by accelerate launch; by default one "
        "a GPU, or one",
    )
    accelerate: str | None = Field(
        None,
        description="configuration file of accelerate for them (recipes/accelerate/fsdp.yaml); by "
        "default each has the whole model",
    )
    slurm: SlurmOptions = Field(default_factory=SlurmOptions, description="see SlurmOptions")

    @field_validator("accelerate")
    @classmethod
    def _there(cls, value: str | None) -> str | None:
        if value is not None and not Path(value).is_file():
            raise ValueError(f"expected a configuration file of accelerate, found no file {value}")
        return value

    @property
    def num_processes(self) -> int:
        """Processes of one run."""
        return self.processes or max(1, self.gpus)
