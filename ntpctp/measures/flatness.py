"""Flatness: how sharply the loss curves at a checkpoint.

The eigenvalues of two arms can be compared only on a loss that both share; the answer tokens of
the same examples are that loss. Each arm's own loss is reported beside it.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel

from ntpctp.curvature import Eigenvalues, top_eigenvalues
from ntpctp.curvature.parameters import ParameterVector
from ntpctp.measures.measure import EvaluationContext, Measure, Score, Splits, names_of
from ntpctp.measures.computation.subset import CURVATURE_UNIT, Subset, SubsetLoss, differentiable_model
from ntpctp.objectives import CTP, Objective, Selective

UNKNOWN = "it is not known under which objective the checkpoint was trained"
SELECTIVE = "which tokens a selective loss sees depends on the weights: it has no single Hessian"


@dataclass(frozen=True)
class _Found:
    """One eigenvalue computation: its row, its scores, and where it points."""

    row: dict[str, Any]
    scores: list[Score]
    vector: Tensor | None = None


class Flatness(Measure):
    r"""Extreme eigenvalues of the Hessian of the token-mean loss.

    :math:`H = \nabla^2_\theta \sum_t w_t \ell_t / \sum_t w_t` over all tokens t of a fixed set of
    examples, in evaluation mode, float32, over all parameters (tied ones once): one division over
    the whole set. Found by Lanczos iteration; ``error_bound`` is the norm of the residual, within
    which an eigenvalue of H lies. An estimate that has not converged is reported as null.

    Scores of each split, eigenvalues in nats per token and squared unit of weight:

    * ``top_eigenvalue_answer_loss``: the largest algebraic one, of the loss that is common to all
      arms (the CTP loss).
    * ``top_eigenvalue_own_loss``: the same of the arm's own objective.
    * ``top_eigenvalue_half_answer_loss``: as the first, over the first half of the examples: how
      far the number depends on how many there are. The iteration starts from the eigenvector of
      the whole set and stops at ``half_tolerance``.
    * ``smallest_eigenvalue_answer_loss``, ``smallest_eigenvalue_own_loss``: the other end, only
      with ``ends: both``, which takes three to ten times the products. What the run for the
      largest knows of it stands in the rows: ``smallest_value`` is then no more than an upper
      bound.
    * ``parameter_norm``: Euclidean norm of all parameters; where it differs, so does the scale that
      the eigenvalues are measured on.

    The raw eigenvalue changes when weights are rescaled; compare arms of one architecture only, and
    see ``sharpness`` for numbers on the scale of the weights.
    """

    name: Literal["flatness"] = "flatness"
    split: Splits = Field("train", description="whose examples the loss is made of; or a list")
    max_items: int = Field(256, ge=1, description="the first items of the split")
    ends: Literal["largest", "both"] = Field("largest", description="ends of the spectrum to find")
    half: bool = Field(True, description="also the eigenvalue over the first half of the items")
    relative_tolerance: float = Field(1e-3, gt=0, lt=1, description="residual / eigenvalue")
    half_tolerance: float = Field(1e-2, gt=0, lt=1, description="likewise, over the first half")
    max_products: int = Field(100, ge=2, description="Hessian-vector products an eigenvalue")
    graph_memory_bytes: int = Field(
        2**30, ge=0, description="for graphs that are kept between products; 0 keeps none"
    )
    seed: int = Field(0, ge=0, description="of the start vector")

    version = 2

    def measure(self, subject: EvaluationContext) -> tuple[list[dict[str, Any]], list[Score]]:  # noqa: D102
        model = differentiable_model(subject)
        found = [
            part
            for split in names_of(self.split)
            for part in self._of_split(subject, model, Subset.of(subject, split, self.max_items))
        ]
        return [part.row for part in found], [score for part in found for score in part.scores]

    def _of_split(
        self, subject: EvaluationContext, model: PreTrainedModel, subset: Subset
    ) -> list[_Found]:
        answer = self._eigenvalues(subject, model, subset, CTP(), "answer")
        own = self._own(subject, model, subset, answer)
        found = [answer, own]
        if self.half:
            found.append(self._half(subject, model, subset, answer.vector))
        return [*found, _norms(model, subset)]

    def _own(
        self, subject: EvaluationContext, model: PreTrainedModel, subset: Subset, answer: _Found
    ) -> _Found:
        objective = subject.objective
        if objective == CTP():
            own = answer
        elif objective is None or isinstance(objective, Selective):
            reason = UNKNOWN if objective is None else SELECTIVE
            own = _Found(
                {"split": subset.split, "loss": "own"},
                [
                    replace(score, value=None, error_bound=None, reason=reason)
                    for score in answer.scores
                ],
            )
        else:
            own = self._eigenvalues(subject, model, subset, objective, "own")
        # Losses over different tokens: neither arm's number is the better one.
        scores = [
            replace(score, score=score.score.replace("answer", "own"), higher_is_better=None)
            for score in own.scores
        ]
        return _Found({**own.row, "loss": "own"}, scores)

    def _half(
        self,
        subject: EvaluationContext,
        model: PreTrainedModel,
        subset: Subset,
        start: Tensor | None,
    ) -> _Found:
        name, half = "top_eigenvalue_half_answer_loss", subset.half()
        if not len(half):
            row = {"split": subset.split, "loss": "answer, first half", "items": 0}
            reason = "there is one item, and half of it is none"
            return _Found(row, [_score(subset.split, name, 0, reason=reason)])
        operator = SubsetLoss(subject, model, half).hessian(self.graph_memory_bytes)
        result = top_eigenvalues(
            operator,
            seed=self.seed,
            relative_tolerance=self.half_tolerance,
            max_products=self.max_products,
            start=start,
        )
        row = self._row(half, "answer, first half", operator, result)
        return _Found(row, [replace(self._top(half, result, "half_answer"), higher_is_better=None)])

    def _eigenvalues(
        self,
        subject: EvaluationContext,
        model: PreTrainedModel,
        subset: Subset,
        objective: Objective,
        loss: str,
    ) -> _Found:
        operator = SubsetLoss(subject, model, subset, objective).hessian(self.graph_memory_bytes)
        result = top_eigenvalues(
            operator,
            1,
            self.ends,
            seed=self.seed,
            relative_tolerance=self.relative_tolerance,
            max_products=self.max_products,
            vectors=True,
        )
        scores = [self._top(subset, result, loss)]
        if self.ends == "both":
            scores.append(self._smallest(subset, result, loss))
        vector = None if result.vectors is None else result.vectors[0]
        return _Found(self._row(subset, loss, operator, result), scores, vector)

    def _top(self, subset: Subset, result: Eigenvalues, loss: str) -> Score:
        score = eigenvalue_score(
            "flatness",
            subset,
            f"top_eigenvalue_{loss}_loss",
            result.value,
            result.residual,
            result,
        )
        return replace(score, higher_is_better=False)

    def _smallest(self, subset: Subset, result: Eigenvalues, loss: str) -> Score:
        name = f"smallest_eigenvalue_{loss}_loss"
        values = result.opposite_value, result.opposite_residual
        return eigenvalue_score("flatness", subset, name, *values, result)

    def _row(self, subset: Subset, loss: str, operator: Any, result: Eigenvalues) -> dict[str, Any]:
        return {
            "split": subset.split,
            "loss": loss,
            "value": result.value,
            "residual": result.residual,
            "products": result.num_products,
            "converged": result.residual <= result.relative_tolerance * abs(result.value),
            "smallest_value": result.opposite_value,
            "smallest_residual": result.opposite_residual,
            "items": len(subset),
            "fingerprint": subset.fingerprint,
            "weight": operator.mean_loss.total_weight,
            "mean_loss": operator.mean_loss.value,
            "gradient_norm": float(operator.gradient.double().norm()),
            "batches": len(operator.mean_loss.batches),
            "kept_graphs": operator.num_kept_graphs,
            "kept_graph_bytes": operator.kept_graph_bytes,
        }


def eigenvalue_score(
    measure: str, subset: Subset, name: str, value: float, residual: float, result: Eigenvalues
) -> Score:
    """Return an eigenvalue as a score, null where its own residual exceeds the tolerance."""
    reason = None
    if not residual <= result.relative_tolerance * abs(value):
        reason = (
            f"not converged: after {result.num_products} products the residual {residual:.3g} "
            f"exceeds {result.relative_tolerance:g} of the estimate {value:.4g}; raise "
            "max_products"
        )
    return Score(
        measure,
        subset.split,
        name,
        None if reason else value,
        CURVATURE_UNIT,
        len(subset),
        None,
        error_bound=residual,
        reason=reason,
    )


def _norms(model: PreTrainedModel, subset: Subset) -> _Found:
    norms = ParameterVector(dict(model.named_parameters())).norms()
    total = sum(norm**2 for norm in norms.values()) ** 0.5
    # Each norm is a float32 sum of positive terms, summed pairwise: good to some units of 1e-7.
    score = Score(
        "flatness",
        subset.split,
        "parameter_norm",
        total,
        "unit of weight",
        len(norms),
        None,
        error_bound=1e-6 * total,
    )
    return _Found({"split": subset.split, "loss": "none", "parameter_norms": norms}, [score])


def _score(split: str, name: str, count: int, *, reason: str) -> Score:
    return Score("flatness", split, name, None, CURVATURE_UNIT, count, None, reason=reason)
