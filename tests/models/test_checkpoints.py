"""Checkpoints and files: whole or absent, verified, ordinary outside."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ntpctp._core import files
from ntpctp._core.errors import InputError
from ntpctp.data.tokenize import closed_tokenizer
from ntpctp.models import checkpoint_state, checkpoints
from ntpctp.models.build import build_model
from ntpctp.models.checkpoints import Progress
from ntpctp.models.options import ModelOptions

TOKENIZER = closed_tokenizer(["0123456789"], "characters")


def trained_model():
    options = ModelOptions(family="gpt2", layers=1, width=8, heads=2)
    model = build_model(options, TOKENIZER, 8, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(2):
        model(torch.tensor([[3, 4, 5]]), labels=torch.tensor([[3, 4, 5]])).loss.backward()
        optimizer.step()
    return model, optimizer


@pytest.fixture
def saved(tmp_path):
    model, optimizer = trained_model()
    state = checkpoint_state.snapshot(model, optimizer)
    path = tmp_path / "step-000002"
    checkpoint_state.save(path, state, TOKENIZER, Progress(2, 6, 4, 0.5))
    return path, model, optimizer


def test_plain_transformers_loads_and_generates(saved):
    path, model, _ = saved
    loaded = AutoModelForCausalLM.from_pretrained(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    ids = torch.tensor([tokenizer("12").input_ids])
    torch.testing.assert_close(loaded(ids).logits, model.eval()(ids).logits)
    assert loaded.generate(ids, max_new_tokens=3, do_sample=False).shape[1] <= 5
    assert not [file for file in path.iterdir() if file.suffix in (".bin", ".pt", ".pkl")]


def test_progress_and_optimizer_come_back_bit_for_bit(saved):
    path, model, optimizer = saved
    assert checkpoints.read_progress(path) == Progress(2, 6, 4, 0.5)
    other, _ = trained_model()
    fresh = torch.optim.AdamW(other.parameters(), lr=1e-2)
    checkpoint_state.load_optimizer(path, fresh, other)
    before = checkpoint_state.optimizer_tensors(optimizer, model)
    after = checkpoint_state.optimizer_tensors(fresh, other)
    assert before.keys() == after.keys() and len(before) > 30
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_digest_changes_with_any_file(saved):
    path, model, optimizer = saved
    digest = checkpoints.verify(path)
    state = checkpoint_state.snapshot(model, optimizer)
    again = path.with_name("step-000003")
    checkpoint_state.save(again, state, TOKENIZER, Progress(2, 6, 4, 0.5))
    assert checkpoints.verify(again) == digest
    checkpoint_state.save(again, state, TOKENIZER, Progress(3, 6, 4, 0.5))
    assert checkpoints.verify(again) != digest


def test_damage_is_found_and_named(saved):
    path, _, _ = saved
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors: damaged"):
        checkpoints.verify(path)
    (path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: missing"):
        checkpoints.verify(path)
    with pytest.raises(InputError, match=r"it has no manifest\.json"):
        checkpoints.verify(path.parent)


def test_weights_of_another_model_are_refused(saved):
    path, _, _ = saved
    deeper = ModelOptions(family="gpt2", layers=2, width=8, heads=2)
    with pytest.raises(InputError, match="do not belong to this model: missing"):
        checkpoint_state.load_weights(path, build_model(deeper, TOKENIZER, 8, 0))


def test_listing_ignores_what_is_no_checkpoint(tmp_path):
    for name in ("step-000010", "step-000002", ".tmp-1-step-000004", "step-x", "evaluation"):
        (tmp_path / name).mkdir()
    names = [path.name for path in checkpoints.list_checkpoints(tmp_path)]
    assert names == ["step-000002", "step-000010"]
    assert checkpoints.list_checkpoints(tmp_path / "absent") == []
    with pytest.raises(InputError, match="expected a directory named step-NNNNNN"):
        checkpoints.step_of(tmp_path / "step-x")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.models.test_checkpoints import TOKENIZER, trained_model
from ntpctp.models import checkpoint_state, checkpoints
model, optimizer = trained_model()
# A file may grow to 6 kB: enough for the config, not for the weights.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000))
try:
    state = checkpoint_state.snapshot(model, optimizer)
    checkpoint_state.save(Path(sys.argv[1]), state, TOKENIZER, checkpoints.Progress(2))
except OSError as error:
    print(error)
    raise SystemExit(3)
"""


@pytest.mark.slow
def test_full_disk_leaves_nothing_behind(saved, tmp_path):
    path, _, _ = saved
    digest = checkpoints.verify(path)
    script = FULL_DISK.format(tests=os.path.dirname(__file__))
    target = tmp_path / "step-000004"
    done = subprocess.run(
        [sys.executable, "-c", script, str(target)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 3, done.stderr
    assert "cannot save the checkpoint" in done.stdout and "earlier checkpoints" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000002"]
    assert checkpoints.verify(path) == digest


def test_atomic_file_keeps_the_old_content_on_failure(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"a": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_jsonl(path, [{"a": 1}, {"a": float("inf")}])
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_directory_replaces_or_leaves(tmp_path):
    path = tmp_path / "d"
    with files.atomic_directory(path) as temporary:
        (temporary / "x").write_text("1")
    with pytest.raises(RuntimeError), files.atomic_directory(path) as temporary:
        (temporary / "x").write_text("2")
        raise RuntimeError
    assert (path / "x").read_text() == "1"
    assert list(tmp_path.iterdir()) == [path]


def test_killed_while_a_directory_is_replaced(tmp_path, monkeypatch):
    path = tmp_path / "d"
    with files.atomic_directory(path) as temporary:
        (temporary / "x").write_text("1")

    def killed(directory, **options):
        if (directory / "x").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(files.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt), files.atomic_directory(path) as temporary:
        (temporary / "x").write_text("2")
    monkeypatch.undo()
    assert not path.exists()  # half of one must not be taken for it
    assert all(p.name.startswith(files.TEMPORARY) for p in tmp_path.iterdir())
    files.clear_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["{", "[]", '{"eleted": []}', '{"deleted": 1}'])
def test_list_of_what_was_deleted_that_is_damaged(saved, content):
    path, _, _ = saved
    checkpoints.thin(path)
    (path / checkpoints.THIN).write_text(content)
    with pytest.raises(InputError, match=r"thin\.json: (damaged|expected JSON)"):
        checkpoints.verify(path)


def test_json_errors_name_file_and_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(InputError, match=r"a\.jsonl, line 3: .* invalid JSON"):
        files.read_jsonl(path)
    path.write_text('{"a": 1}\n[2]\n')
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: expected one JSON object, found list"):
        files.read_jsonl(path)
    path.write_text("{")
    with pytest.raises(InputError, match=r"a\.jsonl: expected JSON"):
        files.read_json(path)
