"""GaussNewtonOperator against the dense J' H J of autograd."""

import pytest
import torch
import torch.nn.functional as F

from ntpctp._core.errors import InputError
from ntpctp.curvature import GaussNewtonOperator, Prediction
from tests.curvature.curvature_models import masked_batches, transformer
from tests.curvature.curvature_references import Problem, bigram, columns, dense_hessian


def bigram_prediction(problem):
    table, head = problem.parameters["table"], problem.parameters["head"]

    def predict(batch):
        inputs, targets = batch
        return Prediction(
            table[inputs].tanh() @ head,
            lambda logits: F.cross_entropy(logits, targets, reduction="sum"),
            torch.tensor(batch.shape[1]),
        )

    return predict


def dense_gauss_newton(problem, predict):
    """Reference: sum over batches of J' (Hessian of the loss in the outputs) J, over W."""
    tensors = list(problem.parameters.values())
    total, weight = 0, 0
    for batch in problem.batches:
        outputs, loss_sum, batch_weight = predict(batch)
        jacobian = torch.stack(
            [
                torch.cat(
                    [
                        piece.flatten()
                        for piece in torch.autograd.grad(
                            entry, tensors, retain_graph=True, materialize_grads=True
                        )
                    ]
                )
                for entry in outputs.flatten()
            ]
        )
        middle = torch.autograd.functional.hessian(loss_sum, outputs.detach())
        size = outputs.numel()
        total = total + jacobian.T @ middle.reshape(size, size) @ jacobian
        weight += int(batch_weight)
    return total / weight


def test_matches_the_dense_matrix():
    problem = bigram()
    predict = bigram_prediction(problem)
    operator = GaussNewtonOperator(predict, problem.parameters, problem.batches)
    dense = dense_gauss_newton(problem, predict)
    torch.testing.assert_close(columns(operator), dense, rtol=1e-10, atol=1e-12)
    assert torch.linalg.eigvalsh(dense)[0] > -1e-12
    assert float((dense - dense_hessian(problem)).norm()) > 0.01  # not simply the Hessian


def test_matches_the_dense_matrix_of_a_transformer():
    problem = transformer("gpt2")
    problem.batches = masked_batches()[:2]
    model_logits = problem.logits

    def predict(batch):
        logits, targets = model_logits(batch)
        return Prediction(
            logits,
            lambda z: F.cross_entropy(z, targets, reduction="sum"),
            torch.tensor(len(targets)),
        )

    operator = GaussNewtonOperator(predict, problem.parameters, problem.batches)
    dense = dense_gauss_newton(problem, predict)
    vectors = torch.randn(3, len(dense), dtype=torch.float64, generator=torch.manual_seed(0))
    for vector in vectors:
        scale = float((dense @ vector).abs().max())
        torch.testing.assert_close(
            operator @ vector, dense @ vector, rtol=1e-10, atol=1e-11 * scale
        )


def test_is_the_hessian_where_the_model_is_linear():
    weights = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    batches = [torch.randn(n, 4, dtype=torch.float64) for n in (5, 2)]

    def predict(batch):
        return Prediction(
            batch @ weights, lambda z: (z**2).sum() + (z**4).sum(), torch.tensor(len(batch))
        )

    operator = GaussNewtonOperator(predict, {"weights": weights}, batches)

    def loss(batch):
        return predict(batch).loss_sum(batch @ weights), torch.tensor(7)

    whole = Problem(loss, {"weights": weights}, [torch.cat(batches)])
    torch.testing.assert_close(columns(operator), dense_hessian(whole), rtol=1e-10, atol=1e-10)


def test_parameters_that_do_not_reach_the_outputs_have_zero_rows():
    problem = bigram()
    predict = bigram_prediction(problem)
    extra = {"extra": torch.ones(2, dtype=torch.float64, requires_grad=True)}
    matrix = columns(GaussNewtonOperator(predict, extra | problem.parameters, problem.batches))
    torch.testing.assert_close(matrix[2:, 2:], dense_gauss_newton(problem, predict))
    assert not matrix[:2].any()


def test_a_loss_that_is_linear_in_the_outputs_has_no_curvature():
    weights = torch.ones(3, dtype=torch.float64, requires_grad=True)
    operator = GaussNewtonOperator(
        lambda _: Prediction(weights**2, lambda z: z.sum(), torch.tensor(1)), {"w": weights}, [None]
    )
    assert not (operator @ weights.detach()).any()


def test_a_batch_without_positions_adds_nothing():
    problem = bigram()
    predict = bigram_prediction(problem)
    vector = torch.ones(30, dtype=torch.float64)
    expected = GaussNewtonOperator(predict, problem.parameters, problem.batches) @ vector
    batches = [*problem.batches, torch.zeros(2, 0, dtype=torch.int64)]
    product = GaussNewtonOperator(predict, problem.parameters, batches) @ vector
    torch.testing.assert_close(product, expected, rtol=1e-14, atol=1e-16)


def test_fused_attention_is_refused():
    problem = transformer("gpt2", attention="sdpa")

    def predict(batch):
        logits, targets = problem.logits(batch)
        return Prediction(
            logits, lambda z: F.cross_entropy(z, targets, reduction="sum"), torch.tensor(1)
        )

    operator = GaussNewtonOperator(predict, problem.parameters, problem.batches)
    with pytest.raises(InputError, match='attn_implementation="eager"'):
        operator @ torch.ones(operator.shape[0], dtype=torch.float64)
