"""Low-rank updates: what is trained, what checkpoints hold, what it costs."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from peft import PeftModel
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from ntpctp._core.errors import InputError
from ntpctp._core.layout import RunId, stage_directory
from ntpctp.data.encoded import EncodedExample
from ntpctp.models import checkpoints
from ntpctp.models.build import build_model, load_model
from ntpctp.models.flops import training_flops
from ntpctp.models.lora import add_lora, merged_weights
from ntpctp.models.options import LoraOptions, ModelOptions
from ntpctp.objectives import NTP, no_reference_losses
from ntpctp.objectives.collator import collate
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.objectives.loss import token_loss
from ntpctp.runner.prepare import initial_model, prepare
from ntpctp.runner.run import execute
from ntpctp.training import TrainingOptions
from ntpctp.training.loop import TrainingLoop
from tests.training.test_training import (
    OPTIONS,
    TOKENIZER,
    assert_same,
    losses_of,
    model_of,
    resumed_at,
    run,
    uneven_rows,
    weights_of,
)

LORA = LoraOptions(rank=2, alpha=6.0)
IDS = torch.tensor([[3, 5, 4, 9, 8, 7]])


def adapted(seed=0, options=LORA):
    model = model_of()
    add_lora(model, options, seed)
    return model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained run: its model, as training left it, and its directory."""
    directory, model = tmp_path_factory.mktemp("lora"), adapted()
    TrainingLoop(
        model=model,
        tokenizer=TOKENIZER,
        data=SupervisedExamples(uneven_rows(), NTP(), losses_of),
        options=TrainingOptions(**OPTIONS, lora=LORA),
        seed=0,
        directory=directory,
        checkpoint_steps=[4],
        accelerator=Accelerator(),
    ).run()
    return model.eval(), directory


def test_checkpoints_hold_the_start_plus_the_scaled_product(trained):
    model, directory = trained
    start, parts = weights_of(directory / "step-000000"), dict(model.named_parameters())
    assert_same(start, {k: v for k, v in model_of().state_dict().items() if k in start})
    changed = 0
    for name, weight in weights_of(directory / "step-000010").items():
        owner = f"transformer.{name.removeprefix('transformer.')}".removesuffix(".weight")
        if f"{owner}.lora_A.default.weight" in parts:
            a, b = (parts[f"{owner}.lora_{x}.default.weight"].detach() for x in "AB")
            product = 6.0 / 2 * (b @ a).T  # Conv1D stores its matrix transposed
            torch.testing.assert_close(weight, start[name] + product, rtol=0, atol=1e-14)
            assert product.abs().max() > 1e-4
            changed += 1
        else:
            assert torch.equal(weight, start[name]), name
    assert changed == 4  # of one block, and neither embeddings nor head


def test_merged_and_adapted_model_are_one_function(trained):
    model, directory = trained
    merged = load_model(directory / "step-000010", dtype=torch.float64)
    expected = model(input_ids=IDS).logits
    torch.testing.assert_close(merged(input_ids=IDS).logits, expected, rtol=0, atol=1e-12)
    start = load_model(directory / "step-000000", dtype=torch.float64)
    assert (start(input_ids=IDS).logits - expected).abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_peft_reads_the_update(trained):
    model, directory = trained
    other = PeftModel.from_pretrained(model_of(), str(directory / "step-000010" / "adapter")).eval()
    torch.testing.assert_close(
        other(input_ids=IDS).logits, model(input_ids=IDS).logits, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("options", [LORA, LoraOptions(rank=2, dropout=0.3)], ids=["", "dropout"])
def test_resumed_run_ends_bit_for_bit_alike(tmp_path, options):
    whole = run(tmp_path, model=adapted(0, options), lora=options, steps_saved=[4])
    log = (tmp_path / "log.jsonl").read_text().count("\n")
    # Another update to begin with: that of the checkpoint has to replace it.
    model = adapted(1, options)
    assert_same(whole, resumed_at(4, tmp_path, model=model, lora=options, steps_saved=[4]))
    assert (tmp_path / "log.jsonl").read_text().count("\n") == log
    checkpoints.verify(tmp_path / "step-000010")


def test_damage_of_the_update_is_found(tmp_path):
    run(tmp_path, model=adapted(), lora=LORA)
    file = tmp_path / "step-000010" / "adapter" / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"adapter_model\.safetensors: damaged"):
        checkpoints.verify(tmp_path / "step-000010")


def test_the_update_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = adapted(3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert_same(first.state_dict(), adapted(3).state_dict())
    assert torch.equal(torch.get_rng_state(), state)
    other = dict(adapted(4).named_parameters())
    name = next(name for name in other if "lora_A" in name)
    assert not torch.equal(other[name], dict(first.named_parameters())[name])
    assert_same(model_of().state_dict(), merged_weights(first))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_operations_are_those_that_pytorch_counts(family):
    sizes = ModelOptions(family=family, layers=3, width=16, heads=2, context=16)
    model = build_model(sizes, TOKENIZER, 16, 0)
    model.set_attn_implementation("eager")
    add_lora(model, LoraOptions(rank=4), 0)
    row = EncodedExample(np.arange(7), np.array([0, 0, 0, 0, 0, 2, 2], np.uint8), 5)
    batch = collate([row], NTP().supervise([row], no_reference_losses))
    with FlopCounterMode(display=False) as counter:
        loss, _ = token_loss(model, batch)
        loss.backward()
    # No gradient goes below the first block's matrices that read the embeddings: one product less
    # of each (W and A).
    readers = ["c_attn"] if family == "gpt2" else ["q_proj", "k_proj", "v_proj"]
    spared = sum(
        p.numel()
        for name, p in model.named_parameters()
        if ".0." in name
        and any(reader in name for reader in readers)
        and name.endswith(("base_layer.weight", "lora_A.default.weight"))
    )
    found = training_flops(model, [7], [6])[0]
    assert found - 2 * spared * 7 == pytest.approx(counter.get_total_flops(), rel=1e-12)


@pytest.mark.parametrize(
    "targets, message",
    [
        (["nope"], "the modules of this model are c_attn, c_fc, c_proj, lm_head, wpe, wte"),
        (["c_attn", "lm_head"], "lm_head is the embedding or the head"),
        (["wte"], "wte is the embedding or the head"),
    ],
)
def test_targets_that_are_refused(targets, message):
    with pytest.raises(InputError, match=message):
        adapted(0, LoraOptions(targets=targets))


def test_peft_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("ntpctp.models.lora.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install ntpctp\[lora\]"):
        adapted()


def test_an_arm_with_lora_beside_a_full_one(tiny, tmp_path):
    arms = {
        "full": {"objective": "ctp"},
        "lora": {"objective": "ctp", "training": {"lora": {"rank": 2}}},
    }
    experiment = tiny(arms=arms, evaluation={"measures": ["accuracy", "flatness"]})
    data = prepare(experiment)
    for arm in arms:
        execute(experiment, data, RunId(arm, 0), tmp_path)
    full, lora = (stage_directory(tmp_path, RunId(arm, 0)) for arm in arms)
    assert_same(weights_of(full / "step-000000"), weights_of(lora / "step-000000"))
    trained = sum(
        p.numel()
        for p in initial_model(experiment.arms["lora"], data, 0).parameters()
        if p.requires_grad
    )
    state = load_file(lora / "step-000008" / "optimizer.safetensors")
    moments = [v for k, v in state.items() if k.startswith("exp_avg/")]
    assert sum(v.numel() for v in moments) == trained
    assert (lora / "step-000008" / "evaluation" / "flatness.json").is_file()
