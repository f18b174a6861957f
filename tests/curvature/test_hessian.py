"""HessianOperator against autograd's dense Hessian of one mean over all batches."""

import gc

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from ntpctp.curvature import HessianOperator, select_parameters
from tests.curvature.curvature_models import (
    build_model,
    dense_hessian_of,
    masked_batches,
    model_loss,
    transformer,
)
from tests.curvature.curvature_references import (
    bigram,
    columns,
    dense_hessian,
    quadratic,
    symmetric,
)


@pytest.mark.parametrize("graph_memory_bytes", [0, 3000, 2**30])
def test_matches_dense_hessian(graph_memory_bytes):
    problem = bigram()
    operator = HessianOperator(*problem.arguments, graph_memory_bytes=graph_memory_bytes)
    for _ in range(2):  # a kept graph can be used again
        torch.testing.assert_close(
            columns(operator), dense_hessian(problem), rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("family", ["gpt2", "llama", "openai-gpt"])
@pytest.mark.slow
def test_matches_dense_hessian_of_transformers(family):
    problem = transformer(family)
    operator = HessianOperator(*problem.arguments)
    dense = dense_hessian_of(family)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn((operator.shape[0], 5), generator=generator, dtype=torch.float64)
    products = torch.stack([operator @ vector for vector in vectors.T], dim=1)
    scale = float(dense.abs().max())
    torch.testing.assert_close(products, dense @ vectors, rtol=1e-10, atol=1e-10 * scale)
    assert torch.linalg.eigvalsh(dense)[0] < -0.01 * scale  # indefinite: a hard case


def test_mean_of_batch_means_is_another_matrix():
    """The fixture tells a lost weighting apart."""
    problem = bigram()
    means = [
        dense_hessian(type(problem)(problem.loss, problem.parameters, [batch]))
        for batch in problem.batches
    ]
    difference = sum(means) / 2 - columns(HessianOperator(*problem.arguments))
    assert float(difference.norm()) > 0.1 * float(means[0].norm())


def test_tied_weights_are_counted_once():
    model = build_model("gpt2")
    everything = dict(model.named_parameters(remove_duplicate=False))
    once = HessianOperator(model_loss(model), dict(model.named_parameters()), masked_batches())
    listed_twice = HessianOperator(model_loss(model), everything, masked_batches())
    assert len(everything) == len(once.parameters.names) + 1
    assert listed_twice.shape == once.shape
    vector = torch.ones(once.shape[0], dtype=torch.float64)
    assert torch.equal(listed_twice @ vector, once @ vector)


def test_a_subset_of_parameters_is_a_diagonal_block():
    problem = transformer("gpt2")
    chosen = select_parameters(problem.parameters, "*.h.1.attn.*")
    inside = torch.cat(
        [torch.full((p.numel(),), name in chosen) for name, p in problem.parameters.items()]
    )
    block = HessianOperator(problem.loss, chosen, problem.batches)
    torch.testing.assert_close(
        columns(block), dense_hessian_of("gpt2")[inside][:, inside], rtol=1e-9, atol=1e-10
    )


def test_parameters_that_do_not_reach_the_loss_have_zero_rows():
    problem = bigram()
    parameters = {"first": torch.ones(2, dtype=torch.float64, requires_grad=True)}
    parameters |= problem.parameters
    parameters["last"] = torch.ones(1, dtype=torch.float64, requires_grad=True)
    operator = HessianOperator(problem.loss, parameters, problem.batches)
    assert operator.unreached == ("first", "last")
    matrix = columns(operator)
    torch.testing.assert_close(matrix[2:-1, 2:-1], dense_hessian(problem), rtol=1e-10, atol=1e-12)
    assert not matrix[:2].any()
    assert not matrix[-1].any()


def test_a_linear_loss_has_a_zero_hessian():
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    operator = HessianOperator(
        lambda batch: (weight @ batch, torch.tensor(1)),
        {"weight": weight},
        [torch.ones(3, dtype=torch.float64)],
    )
    assert operator.gradient.tolist() == [1, 1, 1]
    assert not (operator @ weight.detach()).any()


def test_reports_loss_gradient_and_weight():
    matrix = symmetric([1.0, 2.0, 5.0])
    problem = quadratic(matrix)
    operator = HessianOperator(*problem.arguments)
    theta = problem.parameters["theta"].detach()
    assert operator.mean_loss.value == pytest.approx(float(theta @ matrix @ theta / 2))
    torch.testing.assert_close(operator.gradient, matrix @ theta)
    assert operator.mean_loss.total_weight == 1


def test_graphs_are_kept_up_to_the_bound():
    problem = bigram()
    everything = HessianOperator(*problem.arguments)
    assert everything.num_kept_graphs == 2
    one_less = everything.kept_graph_bytes - 1
    bounded = HessianOperator(*problem.arguments, graph_memory_bytes=one_less)
    assert bounded.num_kept_graphs == 1
    assert 0 < bounded.kept_graph_bytes <= one_less
    nothing = HessianOperator(*problem.arguments, graph_memory_bytes=0)
    assert (nothing.num_kept_graphs, nothing.kept_graph_bytes) == (0, 0)


def test_the_memory_of_the_graphs_is_what_was_saved():
    """exp saves its result (800 bytes); its derivative saves that and the incoming gradient."""
    weight = torch.ones(100, dtype=torch.float64, requires_grad=True)
    operator = HessianOperator(
        lambda _: (weight.exp().sum(), torch.tensor(1)), {"weight": weight}, [None]
    )
    assert 800 <= operator.kept_graph_bytes <= 2 * 800


def test_kept_graphs_are_freed_with_the_operator():
    weight = torch.ones(100, dtype=torch.float64, requires_grad=True)
    made = []

    def loss(_):
        result = weight.exp()  # saves its own result: a cycle, if the counting is careless
        made.append(StorageWeakRef(result.untyped_storage()))
        return result.sum(), torch.tensor(1)

    operator = HessianOperator(loss, {"weight": weight}, [None])
    operator @ weight.detach()
    assert not made[-1].expired()
    del operator
    gc.collect()
    assert all(reference.expired() for reference in made)


def test_the_gradients_of_the_model_are_left_alone():
    problem = bigram()
    operator = HessianOperator(*problem.arguments)
    operator @ operator.gradient
    assert all(tensor.grad is None for tensor in problem.parameters.values())


def test_float32_is_as_close_as_float32_can_be():
    exact = dense_hessian(bigram())
    operator = HessianOperator(*bigram(torch.float32).arguments)
    torch.testing.assert_close(columns(operator).double(), exact, rtol=1e-4, atol=1e-6)
