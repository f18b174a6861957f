"""A checkpoint that wants to run code, or to send for more than was named, is refused."""

import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from ntpctp._core.errors import InputError
from ntpctp._core.files import read_json, write_json
from ntpctp.data.tokenize import load_tokenizer
from ntpctp.models import checkpoint_state, checkpoints
from ntpctp.models.build import context_of, load_model, stated_context
from ntpctp.models.options import ModelOptions
from tests.models.external_checkpoints import save_foreign

TASK = {"name": "addition", "digits": 1, "train_size": 40, "test_size": 10}
TRAINING = {
    "model": {"family": "gpt2", "layers": 1, "width": 16, "heads": 2},
    "training": {"steps": 1, "batch_size": 2, "learning_rate": 0.01},
    "arms": {"ntp": {"objective": "ntp"}},
    "seeds": 1,
}
CODE = "import pathlib\npathlib.Path({ran!r}).touch()\n"


class Payload:
    """What touches a file as soon as it is unpickled."""

    def __init__(self, ran: Path):
        self.ran = ran

    def __reduce__(self):
        return Path.touch, (self.ran,)


@pytest.fixture
def ran(tmp_path) -> Path:
    return tmp_path / "ran"


@pytest.fixture(scope="module")
def _honest(tmp_path_factory) -> Path:
    return save_foreign(tmp_path_factory.mktemp("honest") / "stranger", TASK)


@pytest.fixture
def stranger(_honest, tmp_path) -> Path:
    return Path(shutil.copytree(_honest, tmp_path / "stranger"))


def torch_archive(payload: object) -> bytes:
    """A file as torch.save writes it: a zip with a pickle in it."""
    content = io.BytesIO()
    torch.save({"weight": torch.zeros(1)}, content)
    poisoned = io.BytesIO()
    with zipfile.ZipFile(content) as good, zipfile.ZipFile(poisoned, "w") as bad:
        for name in good.namelist():
            data = pickle.dumps(payload) if name.endswith("data.pkl") else good.read(name)
            bad.writestr(name, data)
    return poisoned.getvalue()


def write_pickles(directory: Path, ran: Path, *names: str) -> None:
    for name in names:
        data = torch_archive(Payload(ran)) if name.endswith("bin") else pickle.dumps(Payload(ran))
        (directory / name).write_bytes(data)


def change(file: Path, **fields: object) -> None:
    write_json(file, {**(read_json(file) if file.is_file() else {}), **fields})


def refused(path: Path, match: str) -> None:
    with pytest.raises(InputError, match=match):
        load_model(path)


def test_the_payload_would_run_if_anything_opened_it(stranger, ran):
    write_pickles(stranger, ran, "pytorch_model.bin", "optimizer.pt")
    torch.load(stranger / "pytorch_model.bin", weights_only=False)
    assert ran.exists()
    ran.unlink()
    pickle.loads((stranger / "optimizer.pt").read_bytes())
    assert ran.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00001.bin"])
def test_weights_as_a_pickle_are_refused_and_never_opened(ntpctp, stranger, ran, tmp_path, name):
    (stranger / "model.safetensors").unlink()
    write_pickles(stranger, ran, name)
    if "-of-" in name:
        write_json(stranger / "pytorch_model.bin.index.json", {"weight_map": {"weight": name}})
    refused(stranger, "safetensors")
    suite = tmp_path / "suite.yaml"
    suite.write_text(yaml.safe_dump({"name": "s", "tasks": {"a": TASK}, "measures": ["accuracy"]}))
    outcome = ntpctp("evaluate", stranger, "--suite", suite)
    assert outcome.code == 2 and "pickle can run code" in outcome.err
    assert not ran.exists()


def test_pickles_beside_good_weights_are_left_alone(ntpctp, stranger, ran, tmp_path):
    names = ["pytorch_model.bin", "adapter_model.bin", "optimizer.pt", "optimizer.bin",
             "scheduler.pt", "rng_state.pth", "training_args.bin", "vocab.pkl"]  # fmt: skip
    write_pickles(stranger, ran, *names)
    np.save(stranger / "weights.npy", np.array([Payload(ran)], object), allow_pickle=True)
    for code in ("modeling_gpt2.py", "configuration.py", "conftest.py", "custom_generate.py"):
        (stranger / code).write_text(CODE.format(ran=str(ran)))
    (stranger / "custom_generate").mkdir()
    (stranger / "custom_generate" / "generate.py").write_text(CODE.format(ran=str(ran)))
    suite = tmp_path / "suite.yaml"
    suite.write_text(yaml.safe_dump({"name": "s", "tasks": {"a": TASK}, "measures": ["accuracy"]}))
    outcome = ntpctp("evaluate", stranger, "--suite", suite)
    assert outcome.code == 0, outcome.err
    assert not ran.exists()


def test_a_shard_that_is_a_pickle_or_lies_elsewhere_is_refused(stranger, ran, tmp_path):
    weights = load_file(stranger / "model.safetensors")
    (stranger / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    write_pickles(stranger, ran, "shard.bin")
    for shard in ("shard.bin", "../elsewhere.safetensors", str(tmp_path / "elsewhere.safetensors")):
        index = {"metadata": {"total_size": 0}, "weight_map": dict.fromkeys(weights, shard)}
        write_json(stranger / "model.safetensors.index.json", index)
        refused(stranger, "names the weights .* only safetensors in the same directory")
    assert not ran.exists()


def test_an_index_without_a_map_is_refused(stranger):
    (stranger / "model.safetensors").unlink()
    for index in ([], {}, {"weight_map": 3}):
        write_json(stranger / "model.safetensors.index.json", index)
        refused(stranger, "weight_map")


def test_weights_that_the_config_names_are_refused_unless_they_are_safetensors(stranger, ran):
    write_pickles(stranger, ran, "adapter_model.bin")
    change(stranger / "config.json", transformers_weights="adapter_model.bin")
    refused(stranger, "names the weights 'adapter_model.bin'")
    change(stranger / "config.json", transformers_weights="model.safetensors")
    load_model(stranger)
    assert not ran.exists()


@pytest.mark.parametrize("whole", [True, False])
def test_an_adapter_cannot_send_for_a_base_model(stranger, ran, whole):
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "someone/else"}
    write_json(stranger / "adapter_config.json", adapter)
    write_pickles(stranger, ran, "adapter_model.bin")
    if whole:
        refused(stranger, "is or contains an adapter .*Merge")
    else:
        (stranger / "config.json").unlink()
        refused(stranger, "cannot load a model from .* config.json")
    assert not ran.exists()


def own_code(stranger: Path, ran: Path, upstream: str = "") -> None:
    """Let a checkpoint be of a kind of its own, as those are that need trust_remote_code."""
    (stranger / "modeling_own.py").write_text(CODE.format(ran=str(ran)))
    names = {
        name: f"{upstream}modeling_own.{name}"
        for name in ("AutoConfig", "AutoModelForCausalLM", "AutoModel")
    }
    change(stranger / "config.json", model_type="own", auto_map=names)


@pytest.mark.parametrize("upstream", ["", "someone/else--"])
@pytest.mark.parametrize("answer", ["y\n", ""])
def test_code_of_a_checkpoint_is_never_run_whatever_is_typed(
    stranger, ran, upstream, answer, monkeypatch
):
    # transformers would ask on the terminal, and take a y that was meant for something else.
    monkeypatch.setattr("sys.stdin", io.StringIO(answer * 9))
    own_code(stranger, ran, upstream)
    refused(stranger, "custom code .*never executed")
    with pytest.raises(InputError, match=r"custom code .*never executed"):
        stated_context(ModelOptions(checkpoint=str(stranger)), 0)
    assert context_of(str(stranger)) is None
    assert not ran.exists()


def test_code_for_a_family_that_is_known_is_ignored(stranger, ran):
    own_code(stranger, ran)
    change(stranger / "config.json", model_type="gpt2")
    change(stranger / "generation_config.json", custom_generate="someone/else")
    load_model(stranger)
    assert not ran.exists()


@pytest.mark.parametrize("kind", ["OwnTokenizer", "PreTrainedTokenizerFast"])
def test_code_of_a_tokenizer_is_never_run(stranger, ran, kind, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    (stranger / "tokenization_own.py").write_text(CODE.format(ran=str(ran)))
    names = ["tokenization_own.OwnTokenizer", None]
    file = stranger / "tokenizer_config.json"
    change(file, tokenizer_class=kind, auto_map={"AutoTokenizer": names})
    if kind == "OwnTokenizer":
        change(stranger / "config.json", model_type="own")
        with pytest.raises(
            InputError, match=r"cannot load a tokenizer from .*custom code .*never executed"
        ):
            load_tokenizer(str(stranger))
    else:
        load_tokenizer(str(stranger))
    assert not ran.exists()


def test_a_chat_template_is_run_in_a_sandbox(stranger, ran):
    tokenizer = load_tokenizer(str(stranger))
    tokenizer.chat_template = (
        "{{ messages.__class__.__mro__[1].__subclasses__() }}"
        f"{{{{ cycler.__init__.__globals__.os.system('touch {ran}') }}}}"
    )
    with pytest.raises(Exception, match=r"access to attribute '__class__' .* is unsafe"):
        tokenizer.apply_chat_template([{"role": "user", "content": "1+1"}])
    assert not ran.exists()


@pytest.mark.parametrize("field", ["attn_implementation", "experts_implementation"])
def test_a_kernel_of_the_hub_is_not_fetched(stranger, field):
    change(stranger / "config.json", **{field: "someone/kernel"})
    refused(stranger, f"{field} 'someone/kernel': code from the Hub is never executed")


@pytest.mark.parametrize("name", ["../victim.safetensors", "{tmp}/victim.safetensors", "", "."])
def test_a_manifest_cannot_name_files_outside_of_its_checkpoint(tmp_path, name):
    victim = tmp_path / "victim.safetensors"
    victim.write_bytes(b"precious")
    checkpoint = tmp_path / "step-000001"
    checkpoint.mkdir()
    entry = {"bytes": 8, "sha256": "0" * 64}
    write_json(checkpoint / "manifest.json", {"files": {name.format(tmp=tmp_path): entry}})
    for action in (checkpoints.thin, checkpoints.verify):
        with pytest.raises(InputError, match="is not in the checkpoint"):
            action(checkpoint)
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("content", [[], {}, {"files": 3}, {"files": {"config.json": "8 bytes"}}])
def test_a_manifest_that_is_none_is_said_to_be_none(tmp_path, content):
    write_json(tmp_path / "manifest.json", content)
    for action in (checkpoints.thin, checkpoints.verify):
        with pytest.raises(InputError, match=r"invalid manifest\.json: no files listed"):
            action(tmp_path)


def test_optimizer_state_is_safetensors_and_json(stranger, ran):
    write_pickles(stranger, ran, "optimizer.safetensors")
    write_json(stranger / "optimizer.json", {"name": "AdamW"})
    model = load_model(stranger)
    with pytest.raises(Exception, match=r"[Hh]eader"):
        checkpoint_state.load_optimizer(stranger, torch.optim.AdamW(model.parameters()), model)
    assert not ran.exists()


def test_a_file_of_arrow_is_data_alone(ntpctp, tmp_path, ran):
    data = tmp_path / "data.parquet"
    data.write_bytes(pickle.dumps(Payload(ran)))
    file = tmp_path / "experiment.yaml"
    content = {
        "name": "e", "task": {"name": "parquet", "path": str(data)},
        "tokenizer": "characters", **TRAINING,
    }  # fmt: skip
    file.write_text(yaml.safe_dump(content))
    outcome = ntpctp("audit", file)
    assert outcome.code == 2 and "expected a Parquet file" in outcome.err
    assert not ran.exists()


def test_a_directory_of_a_data_set_runs_no_script_and_opens_no_pickle(ntpctp, tmp_path, ran):
    data = tmp_path / "data"
    data.mkdir()
    (data / "data.py").write_text(CODE.format(ran=str(ran)))
    (data / "train.pkl").write_bytes(pickle.dumps(Payload(ran)))
    rows = [{"prompt": f"{n}+{n}=", "answer": str(2 * n)} for n in range(30)]
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "experiment.yaml"
    content = {
        "name": "e", "task": {"name": "dataset", "path": str(data)},
        "tokenizer": "characters", **TRAINING,
    }  # fmt: skip
    file.write_text(yaml.safe_dump(content))
    outcome = ntpctp("audit", file)
    (data / "train.jsonl").unlink()
    without = ntpctp("audit", file)
    assert not ran.exists()
    assert without.code == 2
    assert outcome.code in (0, 2)
