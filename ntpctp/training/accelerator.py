"""accelerate with its settings looked at: they come from variables that no record mentions."""

import os
import re
from typing import Any

from accelerate import Accelerator

from ntpctp._core.errors import InputError, lacks_memory
from ntpctp._core.signals import Stopped

_VARIABLES = re.compile(r"ACCELERATE_.+|(LOCAL_)?RANK|(LOCAL_)?WORLD_SIZE|MASTER_(ADDR|PORT)")


def accelerator_here(*, trains: bool = False, **options: Any) -> Accelerator:
    """Return the accelerator of this process, on whatever it was launched with.

    Args:
        trains: whether gradients are computed.
        options: of ``Accelerator``.

    Raises:
        InputError: if accelerate does not come up with its settings, or these would change what is
            trained: batches are those of the experiment, so none is accumulated.
    """
    names = sorted(name for name in os.environ if _VARIABLES.fullmatch(name))  # it sets some itself
    if trains:
        # What is compiled is training.compile's to say; accelerate would ask its variables.
        options = {"dynamo_backend": "no", **options}
    try:
        found = Accelerator(**options)
    except (Stopped, OSError):
        raise
    except Exception as error:
        if lacks_memory(error):
            raise
        raise InputError(
            f"accelerate does not start here: {error}; of its variables "
            f"{', '.join(names) or 'none'} are set, by hand, `accelerate launch` or its "
            "configuration: mend or unset them"
        ) from error
    batches = found.gradient_accumulation_steps
    if trains and batches != 1:
        raise InputError(
            f"accelerate is set to accumulate {batches} batches, which would divide every gradient "
            f"by {batches}: a step is one batch of training.batch_size here, cut up by "
            "training.micro_batch_size; unset ACCELERATE_GRADIENT_ACCUMULATION_STEPS, or "
            "gradient_accumulation_steps in the configuration of accelerate"
        )
    return found


def leave_process_group(accelerator: Accelerator) -> None:
    """Leave the process group: threads of one that is still open may abort the interpreter."""
    accelerator.state.destroy_process_group()
