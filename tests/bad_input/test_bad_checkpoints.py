"""Checkpoints and tokenizers that are not whole, or not what they say."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.bad_input.refusal import Case, check, experiment
from tests.conftest import TINY
from tests.models.external_checkpoints import save_foreign

TASK = TINY["task"]
SUITE = yaml.safe_dump({"name": "small", "tasks": {"sums": TASK}, "measures": ["accuracy"]})


def foreign(make, messages, **more):
    """Return a case of a checkpoint, ``model``, that is damaged before it is measured."""
    return Case(
        ["evaluate", "DIR/model", "--suite", "DIR/suite.yaml", "--output", "DIR/results"],
        messages,
        {"suite.yaml": SUITE},
        make=make,
        **more,
    )


def started(make, messages, **changes):
    """Return a case of a damaged checkpoint that an experiment is to start from."""
    content = {"model": {"checkpoint": "DIR/model"}, "seeds": 1, **changes}
    return experiment(content, messages, make=make)


def without(*names):
    def make(directory):
        for name in names:
            (directory / "model" / name).unlink()

    return make


def written(name, content):
    def make(directory):
        path = directory / "model" / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def cut(name, kept):
    def make(directory):
        path = directory / "model" / name
        path.write_bytes(path.read_bytes()[:kept])

    return make


def flipped(name, place):
    def make(directory):
        path = directory / "model" / name
        content = bytearray(path.read_bytes())
        content[place] ^= 0xFF
        path.write_bytes(content)

    return make


def edited(name, **changes):
    """Change fields of a JSON file; None takes one out."""

    def make(directory):
        path = directory / "model" / name
        content = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))

    return make


def weights(change):
    def make(directory):
        path = directory / "model" / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, {"format": "pt"})

    return make


def as_pickle(directory):
    path = directory / "model" / "model.safetensors"
    torch.save(load_file(path), directory / "model" / "pytorch_model.bin")
    path.unlink()


def poison(tensors):
    tensors["transformer.wte.weight"][3] = float("nan")


def widen(tensors):
    tensors["transformer.wte.weight"] = torch.zeros(3, 5)


def lose(tensors):
    del tensors["transformer.h.0.attn.c_attn.weight"]


def rename(tensors):
    for name in list(tensors):
        tensors[f"other.{name}"] = tensors.pop(name)


INDEX = json.dumps(
    {"metadata": {}, "weight_map": {"transformer.wte.weight": "model-00001-of-00002.safetensors"}}
)


def sharded(directory):
    (directory / "model" / "model.safetensors.index.json").write_text(INDEX)
    (directory / "model" / "model.safetensors").rename(directory / "model" / "rest.safetensors")


CASES: dict[str, Case] = {
    # config
    "no config": foreign(without("config.json"), ["DIR/model: neither an experiment's directory"]),
    "config that is empty": foreign(written("config.json", ""), ["DIR/model", "not a valid JSON"]),
    "config that is no JSON": foreign(
        written("config.json", "{"), ["DIR/model", "not a valid JSON"]
    ),
    "config that is a list": foreign(written("config.json", "[1]"), ["DIR/model"]),
    "config that is binary": foreign(written("config.json", b"\xff\xfe\x00"), ["DIR/model"]),
    "config without end": foreign(written("config.json", '{"a":' * 100_000), ["DIR/model"]),
    "config of no family": foreign(edited("config.json", model_type=None), ["DIR/model"]),
    "config of an unknown family": foreign(
        edited("config.json", model_type="gpt9"), ["DIR/model", "gpt9"]
    ),
    "config of a family that reads both ways": foreign(
        edited("config.json", model_type="bert"), ["DIR/model", "are missing"]
    ),
    "config of another width": foreign(
        edited("config.json", n_embd=32), ["DIR/model", "have another shape than in the config"]
    ),
    "config of more layers": foreign(
        edited("config.json", n_layer=2), ["DIR/model", "12 weights are missing"]
    ),
    "config of a negative width": foreign(edited("config.json", n_embd=-16), ["DIR/model"]),
    "config of text for a number": foreign(edited("config.json", n_layer="two"), ["DIR/model"]),
    "config of another vocabulary": foreign(edited("config.json", vocab_size=3), ["DIR/model"]),
    "config of a short context": foreign(
        edited("config.json", n_positions=4),
        ["has 7 tokens", "context is 4", "nothing is truncated"],
    ),
    # weights
    "no weights": foreign(
        without("model.safetensors"), ["DIR/model: no weights found as *.safetensors"]
    ),
    "weights in a pickle": foreign(
        as_pickle, ["DIR/model: no weights found as *.safetensors", "a pickle can run code"]
    ),
    "weights that are empty": foreign(written("model.safetensors", b""), ["DIR/model"]),
    "weights that are text": foreign(written("model.safetensors", "weights"), ["DIR/model"]),
    "weights that are cut off": foreign(cut("model.safetensors", -100), ["DIR/model"]),
    "weights whose head is cut off": foreign(cut("model.safetensors", 20), ["DIR/model"]),
    "weights with a flipped head": foreign(flipped("model.safetensors", 5), ["DIR/model"]),
    "weights with a flipped name": foreign(flipped("model.safetensors", 40), ["DIR/model"]),
    "weights that are not numbers": foreign(weights(poison), ["DIR/model", "not finite"]),
    "weights of another shape": foreign(weights(widen), ["DIR/model", "another shape", "wte"]),
    "weights of which one is missing": foreign(weights(lose), ["DIR/model", "c_attn"]),
    "weights of other names": foreign(weights(rename), ["DIR/model", "are missing"]),
    "weights of which a part is missing": foreign(sharded, ["DIR/model"]),
    # tokenizers
    "no tokenizer": foreign(
        without("tokenizer.json", "tokenizer_config.json"),
        ["tokenizer: no tokenizer files in DIR/model"],
    ),
    "tokenizer that is no JSON": foreign(
        written("tokenizer.json", "{"), ["tokenizer", "DIR/model"]
    ),
    "tokenizer that is empty": foreign(written("tokenizer.json", ""), ["tokenizer", "DIR/model"]),
    "tokenizer that is a list": foreign(
        written("tokenizer.json", "[]"), ["tokenizer", "DIR/model"]
    ),
    "tokenizer without a model": foreign(
        edited("tokenizer.json", model=None), ["tokenizer", "DIR/model"]
    ),
    "tokenizer of an unknown kind": foreign(
        edited("tokenizer.json", model={"type": "Magic"}), ["tokenizer", "DIR/model"]
    ),
    "tokenizer that is cut off": foreign(cut("tokenizer.json", 200), ["tokenizer", "DIR/model"]),
    "tokenizer that is binary": foreign(
        written("tokenizer.json", b"\xff\xfe"), ["tokenizer", "DIR/model"]
    ),
    "tokenizer without an end": foreign(
        edited("tokenizer_config.json", eos_token=None),
        ["tokenizer DIR/model has no end-of-sequence token"],
    ),
    "settings of a tokenizer that are no JSON": foreign(
        written("tokenizer_config.json", "{"), ["tokenizer", "DIR/model"]
    ),
    "settings of a tokenizer that are a list": foreign(
        written("tokenizer_config.json", "[]"), ["tokenizer", "DIR/model"]
    ),
    "tokenizer of more words than the model": foreign(
        edited("config.json", vocab_size=3), ["DIR/model"]
    ),
    # to start from
    "start from nothing": started(
        lambda directory: shutil.rmtree(directory / "model"), ["DIR/model"]
    ),
    "start from a file": started(
        lambda directory: (
            shutil.rmtree(directory / "model"),
            (directory / "model").write_text("weights"),
        ),
        ["DIR/model"],
    ),
    "start from weights that are cut off": started(cut("model.safetensors", -100), ["DIR/model"]),
    "start from weights of which one is missing": started(weights(lose), ["DIR/model", "c_attn"]),
    "start from weights that are not numbers": started(
        weights(poison), ["DIR/model", "not finite"]
    ),
    "start from a config that is no JSON": started(
        written("config.json", "{"), ["DIR/model", "not a valid JSON"]
    ),
    "start with no tokenizer": started(
        without("tokenizer.json", "tokenizer_config.json"),
        ["tokenizer: no tokenizer files in DIR/model"],
    ),
    "start with another tokenizer": started(edited("config.json", vocab_size=3), ["DIR/model"]),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_foreign(tmp_path_factory.mktemp("foreign") / "model", TASK)


@pytest.mark.parametrize("name", CASES)
def test_checkpoint(name, model, ntpctp, tmp_path, monkeypatch):
    shutil.copytree(model, tmp_path / "model")
    check(CASES[name], ntpctp, tmp_path, monkeypatch)
