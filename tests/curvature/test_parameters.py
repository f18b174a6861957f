"""ParameterVector and the choice of parameters by name."""

import pytest
import torch

from ntpctp._core.errors import InputError
from ntpctp.curvature import ParameterVector, parameter_blocks, select_parameters
from tests.curvature.curvature_models import build_model, transformer


def leaf(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def test_flatten_and_unflatten_are_inverse():
    vector = ParameterVector({"a": leaf(2, 3), "b": leaf(()), "c": leaf(4)})
    entries = torch.arange(11, dtype=torch.float64)
    pieces = vector.unflatten(entries)
    assert [tuple(piece.shape) for piece in pieces] == [(2, 3), (), (4,)]
    assert torch.equal(vector.flatten(pieces), entries)
    assert torch.equal(vector.flatten([None, None, pieces[2]])[:7], torch.zeros(7))


def test_assign_writes_in_place_and_is_noticed():
    vector = ParameterVector({"a": leaf(2, 3)})
    before = vector.versions()
    vector.assign(torch.arange(6, dtype=torch.float64))
    assert vector.tensors[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert vector.versions() != before


def test_tied_weights_are_counted_once():
    model = build_model("gpt2")
    listed = dict(model.named_parameters(remove_duplicate=False))
    vector = ParameterVector(listed)
    assert vector.tied == {"lm_head.weight": "transformer.wte.weight"}
    assert vector.size == sum(p.numel() for p in model.parameters())


def test_blocks_are_a_partition():
    parameters = transformer("gpt2").parameters
    blocks = parameter_blocks(parameters)
    assert list(blocks) == [
        "transformer.wte",
        "transformer.wpe",
        "transformer.h.0",
        "transformer.h.1",
        "transformer.ln_f",
    ]
    assert [name for block in blocks.values() for name in block] == list(parameters)


def test_blocks_of_names_without_dots():
    assert list(parameter_blocks({"a": leaf(1), "b": leaf(1)})) == ["a", "b"]


def test_select_keeps_the_order_of_the_parameters():
    parameters = transformer("gpt2").parameters
    chosen = select_parameters(parameters, "*.h.1.*", "*.h.0.mlp.*")
    assert list(chosen) == [n for n in parameters if ".h.1." in n or ".h.0.mlp." in n]
    assert chosen


def test_select_refuses_a_pattern_that_matches_nothing():
    with pytest.raises(InputError, match=r"no parameter matches 'wte'; did you mean 'w'\? \(1 par"):
        select_parameters({"w": leaf(1)}, "w", "wte")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([leaf(1)], r"found list; use dict\(model.named_parameters\(\)\)"),
        ({}, "mapping of parameters is empty"),
        ({"a": leaf(2), "b": leaf(2, dtype=torch.bfloat16)}, r"'b' is torch.bfloat16.*float\(\)"),
        ({"a": leaf(2), "b": torch.ones(2, dtype=torch.float64)}, r"'b' is frozen.*requires_grad_"),
        ({"a": leaf(2) * 2}, "'a' is frozen or not a leaf"),
        ({"a": leaf(2), "b": leaf(2, dtype=torch.float32)}, "'b' is torch.float32 on cpu, but 'a'"),
    ],
)
def test_refuses(parameters, message):
    with pytest.raises(InputError, match=message):
        ParameterVector(parameters)


def test_refuses_two_tensors_in_one_memory():
    first = leaf(3)
    second = first.detach().requires_grad_()
    with pytest.raises(InputError, match="'a' and 'b' are different tensors in the same memory"):
        ParameterVector({"a": first, "b": second})


def test_vector_of_another_state_dict():
    vector = ParameterVector({"a": leaf(2), "b": leaf(3)})
    other = {"b": torch.full((3,), 2.0), "more": torch.zeros(9), "a": torch.ones(2)}
    assert vector.vector_of(other).tolist() == [1, 1, 2, 2, 2]
    with pytest.raises(InputError, match="parameter 'b' has no value; did you mean 'bb'"):
        vector.vector_of({"a": torch.ones(2), "bb": torch.ones(3)})
    with pytest.raises(InputError, match=r"'a' has shape \(2,\), its other value \(4,\)"):
        vector.vector_of({"a": torch.ones(4), "b": torch.ones(3)})


def test_norms():
    parameters = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([[2.0]])}
    vector = ParameterVector({name: t.requires_grad_() for name, t in parameters.items()})
    assert vector.norms() == {"a": 5.0, "b": 2.0}


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (torch.zeros(2, 3), r"expected a vector of shape \(6,\), found \(2, 3\)"),
        (torch.zeros(6), r"expected a vector of torch.float64 on cpu, found torch.float32 on cpu"),
    ],
)
def test_refuses_a_vector_that_does_not_fit(vector, message):
    with pytest.raises(InputError, match=message):
        ParameterVector({"a": leaf(2, 3)}).check_vector(vector)
