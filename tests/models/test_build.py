"""Models from configs and directories, and what is refused."""

import pytest
import torch
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp.data.tokenize import closed_tokenizer
from ntpctp.models.build import build_model, load_model
from ntpctp.models.options import ModelOptions

TOKENIZER = closed_tokenizer(["0123456789+="], "characters")
FAMILIES = ["gpt2", "llama", "qwen2", "openai-gpt"]


def options(family="gpt2", **changes):
    return ModelOptions(family=family, layers=2, width=16, heads=2, **changes)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_reach_the_config(family):
    config = build_model(options(family), TOKENIZER, 10, seed=0).config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (2, 16, 2)
    assert config.vocab_size == len(TOKENIZER) == 15
    assert config.max_position_embeddings == 16  # the longest example, rounded up to 8
    assert config.eos_token_id == TOKENIZER.eos_token_id
    feed_forward = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    assert feed_forward == 64
    assert all(
        value == 0
        for name, value in config.to_dict().items()
        if name.endswith(("pdrop", "dropout"))
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_initial_weights_depend_on_the_seed_alone(family):
    first = weights(build_model(options(family), TOKENIZER, 10, seed=3))
    torch.manual_seed(99)  # the state of the global generator must not matter
    again = weights(build_model(options(family), TOKENIZER, 10, seed=3))
    other = weights(build_model(options(family), TOKENIZER, 10, seed=4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_dropout_and_config_fields():
    config = build_model(options(dropout=0.2, config={"n_inner": 24}), TOKENIZER, 10, 0).config
    assert config.resid_pdrop == config.embd_pdrop == config.attn_pdrop == 0.2
    assert config.n_inner == 24


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_model_loads_alike(tmp_path, family):
    model = build_model(options(family), TOKENIZER, 10, seed=0)
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path, attention="eager")
    assert again.config._attn_implementation == "eager"
    assert not again.training
    before, after = weights(model), weights(again)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_starts_from_a_checkpoint(tmp_path):
    model = build_model(options(), TOKENIZER, 10, seed=0)
    model.save_pretrained(tmp_path)
    again = build_model(ModelOptions(checkpoint=str(tmp_path)), TOKENIZER, 10, seed=5)
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)
    assert again.training


@pytest.mark.parametrize(
    "fields, message",
    [
        ({}, "give either family or checkpoint"),
        ({"family": "gpt2", "checkpoint": "x"}, "give either family or checkpoint"),
        ({"family": "gtp2"}, "unknown family 'gtp2'; did you mean 'gpt2'"),
        ({"checkpoint": "x", "layers": 3}, "layers: fixed by the checkpoint"),
        ({"family": "gpt2", "width": 30, "heads": 4}, "width 30 is not a multiple of heads 4"),
    ],
)
def test_options_that_contradict_each_other(fields, message):
    with pytest.raises(ValidationError, match=message):
        ModelOptions(**fields)


def test_too_long_example_names_both_lengths():
    with pytest.raises(InputError, match=r"longest example has 10 tokens .* context is 8"):
        build_model(options(context=8), TOKENIZER, 10, seed=0)


def test_unknown_config_field_offers_the_nearest():
    with pytest.raises(InputError, match=r"model.config.n_iner: not a field .* mean 'n_inner'"):
        build_model(options(config={"n_iner": 3}), TOKENIZER, 10, seed=0)


def test_family_that_is_no_language_model():
    with pytest.raises(InputError, match="family 'vit'"):
        build_model(options("vit"), TOKENIZER, 10, seed=0)


def test_unreadable_checkpoint(tmp_path):
    with pytest.raises(InputError, match="cannot load a model"):
        load_model(tmp_path)
    build_model(options(), TOKENIZER, 10, seed=0).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="cannot load a model"):
        load_model(tmp_path)


def test_vocabulary_of_the_checkpoint_is_too_small(tmp_path):
    build_model(options(), TOKENIZER, 10, seed=0).save_pretrained(tmp_path)
    larger = closed_tokenizer(["abcdefghijklmnopqrstuvwxyz"], "characters")
    with pytest.raises(InputError, match="its vocabulary has 15 tokens, the tokenizer 29"):
        build_model(ModelOptions(checkpoint=str(tmp_path)), larger, 10, seed=0)
