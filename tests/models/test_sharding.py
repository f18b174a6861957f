"""FSDP 2 over two processes: the same weights as one process, in ordinary checkpoints."""

import json
import os

import pytest
import torch
from accelerate import Accelerator, PartialState
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file

from ntpctp._core.errors import InputError
from ntpctp.models.build import load_model
from tests.training.test_training import ROOT, assert_same, run, two_processes, weights_of


def launch_environment(config):
    """What `accelerate launch` hands to its processes for one of our configurations."""
    command = ["--config_file", str(ROOT / "recipes/accelerate" / config), "train.py"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    return prepare_multi_gpu_env(arguments)


def sharded_accelerator(config):
    """An accelerator for one of our configurations that shards, on CPUs.

    accelerate offers FSDP where it finds GPUs; all that follows runs on CPUs as well, by gloo.
    """
    os.environ.update({k: v for k, v in launch_environment(config).items() if k[:4] == "FSDP"})
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    plugin = FullyShardedDataParallelPlugin()
    accelerator = Accelerator(fsdp_plugin=plugin)
    assert accelerator.is_fsdp2 and accelerator.device.type == "cpu"
    return accelerator


BODY = """
    import shutil
    from torch.distributed.tensor import DTensor
    from tests.models.test_sharding import sharded_accelerator

    accelerator = sharded_accelerator({config!r})
    assert accelerator.state.fsdp_plugin.reshard_after_forward is ({config!r} == "fsdp.yaml")
    model = t.model_of()
    options = dict(steps_saved=[4], micro_batch_size=2, accelerator=accelerator, **{options})
    t.run(out, model=model, **options)
    matrix = model.transformer.h[0].mlp.c_fc.weight
    assert isinstance(matrix, DTensor) and 2 * matrix.to_local().numel() == matrix.numel()
    # Its blocks are sharded one by one, so that only one of them is whole at a time.
    assert type(model.transformer.h[0]).__name__.startswith("FSDP")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.copytree(out, out.parent / "resumed")
        shutil.rmtree(out.parent / "resumed" / "step-000010")
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    t.run(out.parent / "resumed", **options)
"""


@pytest.mark.parametrize(
    "config, options",
    [
        ("fsdp.yaml", {"gradient_checkpointing": True}),
        ("zero2.yaml", {"embedding_noise": 0.3}),
    ],
)
@pytest.mark.slow
def test_sharded_training_ends_in_the_same_weights_and_resumes(tmp_path, config, options):
    two = two_processes(BODY.format(config=config, options=options), tmp_path)
    one = run(tmp_path / "one", steps_saved=[4], **options)
    for step in ("step-000000", "step-000004", "step-000010"):
        sharded = weights_of(two / step)
        assert_same(weights_of(tmp_path / "one" / step), sharded, 1e-10)
    moments = [weights_of_optimizer(d / "step-000010") for d in (two, tmp_path / "one")]
    assert_same(*moments, 1e-10)
    assert_same(one, weights_of(tmp_path / "resumed" / "step-000010"), 1e-10)
    again = weights_of_optimizer(tmp_path / "resumed" / "step-000010")
    assert_same(moments[0], again, 1e-12)
    texts = [(d / "log.jsonl").read_text() for d in (two, tmp_path / "one")]
    logs = [[json.loads(line) for line in text.splitlines()] for text in texts]
    assert [x["loss"] for x in logs[0]] == pytest.approx([x["loss"] for x in logs[1]], abs=1e-10)
    norms = [[x["gradient_norm"] for x in log] for log in logs]
    assert norms[0] == pytest.approx(norms[1], abs=1e-10)
    model = load_model(two / "step-000010", dtype=torch.float64)
    assert model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr()


def weights_of_optimizer(checkpoint):
    return {k: v.clone() for k, v in load_file(checkpoint / "optimizer.safetensors").items()}


@pytest.mark.parametrize("field", ["lora", "compile"])
def test_what_cannot_be_sharded(tmp_path, field):
    class Sharded:
        num_processes = 1
        distributed_type = DistributedType.FSDP
        is_fsdp2 = True

    value = {"rank": 2} if field == "lora" else True
    with pytest.raises(InputError, match=rf"training\.{field} under FSDP is not supported"):
        run(tmp_path, accelerator=Sharded(), **{field: value})
    assert not list(tmp_path.iterdir())
