"""Training: what arms share, normalisation over micro-batches and processes, and resumption."""

import json
import runpy
import shutil
import socket
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP

from ntpctp._core.errors import InputError
from ntpctp.data.tokenize import EncodedExample, closed_tokenizer
from ntpctp.models import checkpoints
from ntpctp.models.build import build_model
from ntpctp.models.options import ModelOptions
from ntpctp.objectives import CTP, NTP, Objective
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.training import TrainingOptions
from ntpctp.training.loop import TrainingLoop
from ntpctp.training.order import batch_indices
from tests.drivers import Program
from tests.objectives.objective_cases import OBJECTIVES, losses_of

ROOT = Path(__file__).parents[2]

TOKENIZER = closed_tokenizer(["0123456789"], "characters")
OPTIONS = {"steps": 10, "batch_size": 8, "learning_rate": 1e-2, "warmup_steps": 3, "log_every": 3}


def uneven_rows(number=24):
    """Answers of one to six tokens in rows of seven to twelve."""
    generator = np.random.default_rng(0)
    rows = []
    for index in range(number):
        answer = 1 + index % 6
        ids = generator.integers(3, len(TOKENIZER), 6 + answer)
        roles = np.zeros(len(ids), np.uint8)
        roles[-answer:] = 2
        rows.append(EncodedExample(ids, roles, 6))
    return rows


def model_of(seed=0, **changes):
    options = ModelOptions(family="gpt2", layers=1, width=8, heads=2, dtype="float64", **changes)
    return build_model(options, TOKENIZER, 12, seed)


def run(
    directory,
    objective=None,
    *,
    model=None,
    steps_saved=(),
    seed=0,
    lines=None,
    accelerator=None,
    **changes,
):
    """Train and return the final weights."""
    TrainingLoop(
        model=model or model_of(),
        tokenizer=TOKENIZER,
        data=SupervisedExamples(uneven_rows(), objective or CTP(), losses_of),
        options=TrainingOptions(**{**OPTIONS, **changes}),
        seed=seed,
        directory=directory,
        checkpoint_steps=steps_saved,
        accelerator=accelerator or Accelerator(),
        on_progress=lines.append if lines is not None else None,
    ).run()
    last = checkpoints.list_checkpoints(directory)[-1]
    return weights_of(last)


def weights_of(checkpoint):
    # Copied: load_file maps the file, which tests replace later.
    return {k: v.clone() for k, v in load_file(checkpoint / "model.safetensors").items()}


def assert_same(a, b, tolerance=0.0):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=tolerance)


def resumed_at(step, directory, **changes):
    """Delete all later checkpoints, as if killed, and train on."""
    for path in checkpoints.list_checkpoints(directory):
        if checkpoints.step_of(path) > step:
            shutil.rmtree(path)
    return run(directory, **changes)


def test_arms_of_one_seed_share_weights_batches_and_order_bit_for_bit(tmp_path, monkeypatch):
    seen = {}

    made = SupervisedExamples.batch

    def recording(self, indices, step, **options):
        batch = made(self, indices, step, **options)
        seen.setdefault(self.objective.name, []).append(batch)
        return batch

    monkeypatch.setattr(SupervisedExamples, "batch", recording)
    for objective in (NTP(), CTP()):
        run(tmp_path / objective.name, objective)
    first, second = (weights_of(tmp_path / name / "step-000000") for name in seen)
    assert_same(first, second)
    assert len(seen["ntp"]) == len(seen["ctp"]) == 10
    differ = 0
    for a, b in zip(seen["ntp"], seen["ctp"], strict=True):
        assert torch.equal(a["input_ids"], b["input_ids"])
        assert torch.equal(a["attention_mask"], b["attention_mask"])
        differ += not torch.equal(a["labels"], b["labels"])
    assert differ == 10


def test_accumulation_gives_the_same_weights(tmp_path):
    whole = run(tmp_path / "8x1")
    assert_same(whole, run(tmp_path / "2x4", micro_batch_size=2), 1e-10)
    assert_same(whole, run(tmp_path / "3+3+2", micro_batch_size=3), 1e-10)
    start = weights_of(tmp_path / "8x1/step-000000")
    assert any((whole[name] - start[name]).abs().max() > 1e-3 for name in whole)


def run_file(path):
    runpy.run_path(path, run_name="__main__")


def two_processes(body, tmp_path):
    """Run ``body`` in two processes, with this module as ``t`` and the output directory ``out``."""
    script = tmp_path / "two.py"
    script.write_text(
        "from pathlib import Path\n"
        "from accelerate import PartialState\n"
        "from tests.training import test_training as t\n"
        "assert PartialState(cpu=True).num_processes == 2, PartialState().num_processes\n"
        f"out = Path({str(tmp_path)!r}) / 'two'\n"
        + textwrap.dedent(body)
        # Its threads may abort the interpreter when it ends.
        + "\nPartialState().destroy_process_group()\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    # What torchrun sets. (`accelerate launch --cpu --num_processes 2` starts one process.)
    shared = {"ACCELERATE_USE_CPU": "true", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        Program(run_file, script, environment={**shared, "RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    while any(process.poll() is None for process in processes):
        if any(process.poll() for process in processes):  # the other would wait for it
            for process in processes:
                process.kill()
        time.sleep(0.02)
    outcomes = [process.outcome() for process in processes]
    assert [outcome.code for outcome in outcomes] == [0, 0], [outcome.err for outcome in outcomes]
    return tmp_path / "two"


@pytest.mark.slow
def test_two_processes_give_the_same_weights_and_log(tmp_path):
    two = two_processes("t.run(out)", tmp_path)
    assert_same(run(tmp_path / "one"), weights_of(two / "step-000010"), 1e-10)
    one_log, two_log = (
        [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
        for directory in (tmp_path / "one", two)
    )
    for a, b in zip(one_log, two_log, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-10)
        assert a["supervised_tokens"] == b["supervised_tokens"]


def test_equals_a_bare_loop(tmp_path):
    """Reference: AdamW as torch has it, one batch a step, no accelerate, no resumption."""
    model = model_of().train()
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-2
    )
    rows = uneven_rows()
    for step in range(10):
        warm = min(1.0, step / 3)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * warm
        batch = SupervisedExamples(rows, CTP()).batch(batch_indices(0, step, 8, len(rows)), step)
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100
        )
        losses.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    found = run(tmp_path, weight_decay=0.1)
    reference = {name: tensor for name, tensor in model.state_dict().items() if name in found}
    assert_same(found, reference, 1e-12)


def test_gradient_checkpointing_computes_more_and_gives_the_same_weights(tmp_path, monkeypatch):
    calls = []
    forward = GPT2MLP.forward
    monkeypatch.setattr(
        GPT2MLP, "forward", lambda self, *a, **k: calls.append(1) or forward(self, *a, **k)
    )
    plain = run(tmp_path / "plain", model=model_of(dropout=0.2))
    once = len(calls)
    assert_same(
        plain, run(tmp_path / "again", model=model_of(dropout=0.2), gradient_checkpointing=True)
    )
    assert len(calls) - once == 2 * once


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_training_ends_in_the_same_weights(tmp_path):
    whole = run(tmp_path / "eager", steps=4)
    model = model_of()
    assert_same(whole, run(tmp_path / "compiled", model=model, steps=4, compile=True), 1e-10)
    assert model.base_model._compiled_call_impl is not None


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_resumed_run_ends_in_the_same_weights_and_log_bit_for_bit(tmp_path, schedule):
    changes = {"schedule": schedule, "steps_saved": [4, 7]}
    changes["model"] = model_of(dropout=0.3)
    whole = run(tmp_path / "whole", **changes)
    for stop in (4, 7):  # as if killed right after this checkpoint, with the log further on
        cut = tmp_path / f"cut-{stop}"
        shutil.copytree(tmp_path / "whole", cut)
        for path in checkpoints.list_checkpoints(cut):
            if checkpoints.step_of(path) > stop:
                shutil.rmtree(path)
        with (cut / "log.jsonl").open("a") as file:
            file.write('{"step": 99, "loss"')
        changes["model"] = model_of(seed=77, dropout=0.3)  # must be overwritten
        assert_same(whole, run(cut, **changes))
        ours, theirs = (
            [
                {k: v for k, v in json.loads(line).items() if "second" not in k}
                for line in (d / "log.jsonl").read_text().splitlines()
            ]
            for d in (cut, tmp_path / "whole")
        )
        assert ours == theirs and len(ours) == 6  # steps 3, 4, 6, 7, 9, 10
        assert_same(
            load_file(cut / "step-000010/optimizer.safetensors"),
            load_file(tmp_path / "whole/step-000010/optimizer.safetensors"),
        )


def test_damaged_checkpoint_is_made_again(tmp_path):
    whole = run(tmp_path, steps_saved=[5])
    (tmp_path / "step-000010/model.safetensors").write_bytes(b"damaged")
    assert_same(whole, run(tmp_path, steps_saved=[5]))
    checkpoints.verify(tmp_path / "step-000010")


def test_missing_checkpoint_in_the_middle_is_made_again(tmp_path):
    whole = run(tmp_path, steps_saved=[5])
    shutil.rmtree(tmp_path / "step-000005")
    assert_same(whole, run(tmp_path, steps_saved=[5]))
    checkpoints.verify(tmp_path / "step-000005")


def test_finished_run_is_not_touched(tmp_path):
    run(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    run(tmp_path)
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}


def test_every_epoch_sees_every_row_once_and_seeds_differ():
    stream = np.concatenate([batch_indices(0, step, 4, 10) for step in range(5)])
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert stream[:10].tolist() != stream[10:].tolist()
    other = np.concatenate([batch_indices(1, step, 4, 10) for step in range(5)])
    assert stream.tolist() != other.tolist()
    # A batch larger than the data set holds several epochs.
    assert sorted(batch_indices(0, 0, 20, 10)) == sorted([*range(10), *range(10)])


def test_log_counts_tokens_and_supervised_tokens(tmp_path):
    lines = []
    run(tmp_path, CTP(), lines=lines)
    rows = uneven_rows()
    seen = [rows[i] for step in range(10) for i in batch_indices(0, step, 8, len(rows))]
    assert lines[-1].step == 10
    assert lines[-1].tokens == sum(map(len, seen))
    assert lines[-1].supervised_tokens == sum(int(row.has_role("answer").sum()) for row in seen)
    progress = checkpoints.read_progress(tmp_path / "step-000010")
    assert (progress.tokens, progress.supervised_tokens) == (
        lines[-1].tokens,
        lines[-1].supervised_tokens,
    )


def test_diverged_training_says_so(tmp_path):
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step \d+: training has div"):
        run(tmp_path, learning_rate=1e300, max_grad_norm=None, warmup_steps=0)


@pytest.mark.parametrize(
    "kind, message",
    [
        (DistributedType.MULTI_CPU, "batch_size 8 does not divide over 3 processes"),
        (DistributedType.FSDP, r"launched with FSDP 1, but FSDP 2 is the only supported way"),
        (DistributedType.DEEPSPEED, r"launched with DEEPSPEED, .*zero2\.yaml"),
    ],
)
def test_launches_that_are_refused(tmp_path, kind, message):
    class Three:
        num_processes = 3
        distributed_type = kind
        is_fsdp2 = False

    with pytest.raises(InputError, match=message):
        TrainingLoop(
            model=model_of(),
            tokenizer=TOKENIZER,
            data=SupervisedExamples(uneven_rows(), CTP()),
            options=TrainingOptions(**OPTIONS),
            seed=0,
            directory=tmp_path,
            checkpoint_steps=[],
            accelerator=Three(),
        ).run()
    assert not list(tmp_path.iterdir())


def test_warm_up_longer_than_training():
    with pytest.raises(ValueError, match="warmup_steps 11 exceeds steps 10"):
        TrainingOptions(**{**OPTIONS, "warmup_steps": 11})


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.slow
def test_every_objective_accumulates_exactly(tmp_path, name, packing):
    settings = {"steps": 20, "packing": packing, "group_by_length": packing}
    whole = run(tmp_path / "8x1", OBJECTIVES[name], **settings)
    assert_same(
        whole, run(tmp_path / "2x4", OBJECTIVES[name], micro_batch_size=2, **settings), 1e-10
    )
    start = weights_of(tmp_path / "8x1/step-000000")
    assert any((whole[key] - start[key]).abs().max() > 1e-3 for key in whole)


def test_packed_and_padded_training_end_alike(tmp_path):
    padded, packed = (run(tmp_path / str(p), CTP(), packing=p) for p in (False, True))
    assert_same(padded, packed, 1e-10)


class EveryFourthRow(Objective):
    """The other rows supervise nothing: with two processes, one may have nothing to learn."""

    name: str = "every_fourth_row"

    def supervise(self, rows, losses_of):
        made = CTP().supervise(rows, losses_of)
        return [s._replace(weights=s.weights * (i % 4 == 0)) for i, s in enumerate(made)]


EVERY_OBJECTIVE = """
t.run(out / "noise", embedding_noise=0.5, micro_batch_size=2)
for name, objective in t.OBJECTIVES.items():
    for packing in (False, True):
        for micro in (4, 1):  # 4 x 1 and 1 x 4 on each of the two processes
            t.run(out / f"{name}-{packing}-{micro}", objective, steps=20, packing=packing,
                  group_by_length=packing, micro_batch_size=micro)
t.run(out / "uneven", t.EveryFourthRow())
"""


@pytest.mark.slow
def test_every_objective_is_exact_over_two_processes(tmp_path):
    two = two_processes(EVERY_OBJECTIVE, tmp_path)
    compared = 0
    for name, objective in OBJECTIVES.items():
        for packing in (False, True):
            settings = {"steps": 20, "packing": packing, "group_by_length": packing}
            one = run(tmp_path / f"one-{name}-{packing}", objective, **settings)
            for micro in (4, 1):
                found = weights_of(two / f"{name}-{packing}-{micro}/step-000020")
                assert_same(one, found, 1e-10)
                compared += 1
    assert compared == 4 * len(OBJECTIVES)
    disturbed = run(tmp_path / "noise", embedding_noise=0.5)
    assert_same(disturbed, weights_of(two / "noise/step-000010"), 1e-10)
    # In some step one of the processes has no supervised token at all.
    steps = [batch_indices(0, step, 8, 24) % 4 == 0 for step in range(10)]
    assert any(not wanted[0::2].any() or not wanted[1::2].any() for wanted in steps)
    assert_same(
        run(tmp_path / "one", EveryFourthRow()), weights_of(two / "uneven/step-000010"), 1e-10
    )


def test_step_that_supervises_nothing_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"step \d+ supervises no token at all"):
        run(tmp_path, EveryFourthRow(), batch_size=1)
