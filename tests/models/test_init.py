"""The initialisation rate: the scale of every matrix, and what it leaves alone."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from transformers.pytorch_utils import Conv1D

from ntpctp._core.errors import InputError
from ntpctp.data.tokenize import closed_tokenizer
from ntpctp.models.build import build_model
from ntpctp.models.options import ModelOptions

TOKENIZER = closed_tokenizer(["0123456789+="], "characters")
# What one reads in the families' own code: name -> (fan-in, writes into the residual stream).
WIDTH, LAYERS = 64, 3
MATRICES = {
    "gpt2": {
        "attn.c_attn": (WIDTH, False),
        "attn.c_proj": (WIDTH, True),
        "mlp.c_fc": (WIDTH, False),
        "mlp.c_proj": (4 * WIDTH, True),
    },
    "openai-gpt": {
        "attn.c_attn": (WIDTH, False),
        "attn.c_proj": (WIDTH, True),
        "mlp.c_fc": (WIDTH, False),
        "mlp.c_proj": (4 * WIDTH, True),
    },
    "llama": {
        "self_attn.q_proj": (WIDTH, False),
        "self_attn.k_proj": (WIDTH, False),
        "self_attn.v_proj": (WIDTH, False),
        "self_attn.o_proj": (WIDTH, True),
        "mlp.gate_proj": (WIDTH, False),
        "mlp.up_proj": (WIDTH, False),
        "mlp.down_proj": (4 * WIDTH, True),
    },
}


def model(family="gpt2", seed=0, **changes):
    options = ModelOptions(family=family, layers=LAYERS, width=WIDTH, heads=2, **changes)
    return build_model(options, TOKENIZER, 10, seed)


def matrices(built):
    return {
        n: m.weight.detach() for n, m in built.named_modules() if isinstance(m, nn.Linear | Conv1D)
    }


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("family", MATRICES)
def test_standard_deviations(family, scaled):
    rate = 0.7
    found = matrices(model(family, init_rate=rate, init_scale_residuals=scaled))
    found.pop("lm_head")
    assert len(found) == LAYERS * len(MATRICES[family])
    for name, weight in found.items():
        fan_in, residual = MATRICES[family][".".join(name.split(".")[-2:])]
        expected = fan_in**-rate / ((2 * LAYERS) ** 0.5 if scaled and residual else 1)
        # The standard error of a standard deviation over n draws is sigma / sqrt(2 n).
        tolerance = 5 * expected / (2 * weight.numel()) ** 0.5
        assert float(weight.std()) == pytest.approx(expected, abs=tolerance), name
        assert abs(float(weight.mean())) < 5 * expected / weight.numel() ** 0.5


def test_two_rates_are_the_same_draws_on_different_scales():
    small, large = (matrices(model(init_rate=rate, dtype="float64")) for rate in (0.9, 0.4))
    for name in small.keys() - {"lm_head"}:
        fan_in = small[name].shape[0]
        torch.testing.assert_close(
            small[name], large[name] * fan_in**-0.5, rtol=1e-12, atol=0, msg=name
        )


@pytest.mark.parametrize("family", MATRICES)
def test_embeddings_head_biases_and_norms_keep_the_familys_own(family):
    own, drawn = model(family), model(family, init_rate=0.8)
    changed = {f"{name}.weight" for name in matrices(own)} - {"lm_head.weight"}
    after = drawn.state_dict()
    for name, tensor in own.state_dict().items():
        assert torch.equal(tensor, after[name]) == (name not in changed), name


def test_it_depends_on_the_seed_alone():
    first, again, other = (model(seed=seed, init_rate=0.6) for seed in (3, 3, 4))
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        if a.ndim > 1:
            assert not torch.equal(a, c)


def test_what_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(ValidationError, match="needs an init_rate"):
        ModelOptions(family="gpt2", init_scale_residuals=True)
    with pytest.raises(ValidationError, match="init_rate: fixed by the checkpoint"):
        ModelOptions(checkpoint=str(tmp_path), init_rate=0.5)


def test_family_with_matrices_of_another_kind_is_refused():
    with pytest.raises(InputError, match=r"model.init_rate: family 'mixtral' has matrices"):
        model("mixtral", init_rate=0.5, config={"num_local_experts": 2})
