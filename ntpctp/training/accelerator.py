"""The accelerator of a process, with accelerate's environment variables checked.

These variables are in no record of a run, so they must not change what is trained.
"""

import os
import re
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType

from ntpctp._core.errors import InputError, lacks_memory
from ntpctp._core.signals import Stopped
from ntpctp.training.options import TrainingOptions

_VARIABLES = re.compile(r"ACCELERATE_.+|(LOCAL_)?RANK|(LOCAL_)?WORLD_SIZE|MASTER_(ADDR|PORT)")


def accelerator_here(*, trains: bool = False, **options: Any) -> Accelerator:
    """Return the accelerator of this process, for any launch.

    Args:
        trains: whether gradients are computed.
        options: of ``Accelerator``.

    Raises:
        InputError: if accelerate cannot be initialised with its settings, or if these ask for
            gradient accumulation, which would change the batches of the experiment.
    """
    names = sorted(
        name for name in os.environ if _VARIABLES.fullmatch(name)
    )  # before accelerate sets some
    if trains:
        # training.compile decides what is compiled, not ACCELERATE_DYNAMO_BACKEND.
        options = {"dynamo_backend": "no", **options}
    try:
        accelerator = Accelerator(**options)
    except (Stopped, OSError):
        raise
    except Exception as error:
        if lacks_memory(error):
            raise
        raise InputError(
            f"could not initialise accelerate: {error}. Environment variables of accelerate that "
            f"are set: {', '.join(names) or 'none'}. Fix or unset them (`accelerate launch` and "
            "its configuration file set them, too)"
        ) from error
    batches = accelerator.gradient_accumulation_steps
    if trains and batches != 1:
        raise InputError(
            f"accelerate is set to accumulate {batches} batches, which would divide every gradient "
            f"by {batches}. An optimizer step is one batch of training.batch_size examples, "
            "divided by training.micro_batch_size. Unset ACCELERATE_GRADIENT_ACCUMULATION_STEPS "
            "or gradient_accumulation_steps in the configuration of accelerate"
        )
    return accelerator


def check_launch(accelerator: Accelerator, options: TrainingOptions) -> None:
    """Check that a stage can be trained on the processes that were launched.

    Raises:
        InputError: if the launch shards the model in a way that checkpoints cannot gather (anything
            but FSDP 2), or the batch does not divide over the processes.
    """
    kind = accelerator.distributed_type
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        _check_sharding(accelerator, options)
    if options.batch_size % accelerator.num_processes:
        raise InputError(
            f"training.batch_size {options.batch_size} does not divide over "
            f"{accelerator.num_processes} processes; choose a multiple"
        )


def _check_sharding(accelerator: Accelerator, options: TrainingOptions) -> None:
    kind = accelerator.distributed_type
    if kind != DistributedType.FSDP or not accelerator.is_fsdp2:
        raise InputError(
            f"launched with {kind.value}{' 1' if kind == DistributedType.FSDP else ''}, but FSDP 2 "
            "is the only supported way to shard a model (fsdp_version: 2). Use "
            "recipes/accelerate/zero2.yaml or fsdp.yaml, which shard as DeepSpeed's ZeRO 2 and 3"
        )
    if options.lora is not None or options.compile:
        raise InputError(
            f"training.{'compile' if options.compile else 'lora'} under FSDP is not supported; "
            "launch without sharding (recipes/accelerate/ddp.yaml), or leave it out"
        )


def leave_process_group(accelerator: Accelerator) -> None:
    """Leave the process group; threads of an open one may abort the interpreter at exit."""
    accelerator.state.destroy_process_group()
