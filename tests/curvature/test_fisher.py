"""FisherOperator against sums of outer products of gradients, class by class."""

import pytest
import torch
import torch.nn.functional as F

from ntpctp._core.errors import InputError
from ntpctp.curvature import FisherOperator, GaussNewtonOperator, Prediction
from tests.curvature.curvature_models import transformer
from tests.curvature.curvature_references import bigram, columns


def classify_bigram(problem):
    """Two batches with fractional, uneven weights."""
    table, head = problem.parameters["table"], problem.parameters["head"]

    def classify(batch):
        inputs, targets = batch
        weights = torch.linspace(0.1, 2, len(targets), dtype=torch.float64)
        return table[inputs].tanh() @ head, targets, weights

    return classify


def dense_fisher(problem, classify, kind):
    """Reference: one gradient at a time."""
    tensors = list(problem.parameters.values())
    total, weight_sum = 0, 0.0
    for batch in problem.batches:
        logits, targets, weights = classify(batch)
        for row, target, weight in zip(logits.log_softmax(-1), targets, weights, strict=True):
            classes = range(len(row)) if kind == "true" else [int(target)]
            for c in classes:
                pieces = torch.autograd.grad(
                    row[c], tensors, retain_graph=True, materialize_grads=True
                )
                score = torch.cat([piece.flatten() for piece in pieces])
                share = row[c].exp().detach() if kind == "true" else 1
                total = total + weight * share * torch.outer(score, score)
        weight_sum += float(weights.sum())
    return total / weight_sum


@pytest.mark.parametrize("kind", ["true", "empirical"])
def test_matches_the_sum_of_outer_products(kind):
    problem = bigram()
    classify = classify_bigram(problem)
    operator = FisherOperator(classify, problem.parameters, problem.batches, kind=kind)
    dense = dense_fisher(problem, classify, kind)
    torch.testing.assert_close(columns(operator), dense, rtol=1e-10, atol=1e-12)


def test_the_two_kinds_differ():
    problem = bigram()
    classify = classify_bigram(problem)
    true, empirical = (dense_fisher(problem, classify, kind) for kind in ("true", "empirical"))
    assert float((true - empirical).norm()) > 0.1 * float(true.norm())


@pytest.mark.parametrize("kind", ["true", "empirical"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_matches_on_a_transformer(family, kind):
    problem = transformer(family)
    problem.batches = problem.batches[:2]

    def classify(batch):
        logits, targets = problem.logits(batch)
        return logits, targets, torch.ones(len(targets), dtype=torch.float64)

    operator = FisherOperator(classify, problem.parameters, problem.batches, kind=kind)
    dense = dense_fisher(problem, classify, kind)
    vector = torch.randn(len(dense), dtype=torch.float64, generator=torch.manual_seed(0))
    expected = dense @ vector
    scale = float(expected.abs().max())
    torch.testing.assert_close(operator @ vector, expected, rtol=1e-10, atol=1e-11 * scale)


def test_true_fisher_is_the_gauss_newton_matrix_of_the_cross_entropy():
    problem = bigram()
    classify = classify_bigram(problem)

    def predict(batch):
        logits, targets, weights = classify(batch)
        return Prediction(
            logits,
            lambda z: (weights * F.cross_entropy(z, targets, reduction="none")).sum(),
            weights.sum(),
        )

    fisher = FisherOperator(classify, problem.parameters, problem.batches)
    gauss_newton = GaussNewtonOperator(predict, problem.parameters, problem.batches)
    torch.testing.assert_close(columns(fisher), columns(gauss_newton), rtol=1e-10, atol=1e-12)
    assert fisher.mean_loss.value == gauss_newton.mean_loss.value


def test_refuses_another_kind():
    problem = bigram()
    with pytest.raises(InputError, match="kind to be true or empirical, found 'sampled'"):
        FisherOperator(
            classify_bigram(problem), problem.parameters, problem.batches, kind="sampled"
        )
