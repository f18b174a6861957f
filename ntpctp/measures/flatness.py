"""Flatness: how sharply the loss curves at a checkpoint.

The eigenvalues of two arms can be compared only on a loss that both share; the answer tokens of
the same examples are that loss. Each arm's own loss is reported beside it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field
from transformers import PreTrainedModel

from ntpctp.curvature import HessianOperator, top_eigenvalues
from ntpctp.loss import token_loss
from ntpctp.measures.measure import Measure, Score, Subject
from ntpctp.objectives import CTP, Objective, Selective
from ntpctp.reading import batches_by_length
from ntpctp.supervision import SupervisedRows
from ntpctp.tokens import Row


class Flatness(Measure):
    r"""Largest algebraic eigenvalue of the Hessian of the token-mean loss.

    :math:`H = \nabla^2_\theta \sum_t w_t \ell_t / \sum_t w_t` over all tokens t of a fixed set of
    examples, in evaluation mode, float32, over all parameters (tied ones once): one division over
    the whole set. Found by Lanczos iteration; ``error_bound`` is the norm of the residual, within
    which an eigenvalue of H lies. An estimate that has not converged is reported as null.

    Scores: ``top_eigenvalue_answer_loss`` (common to all arms: the CTP loss),
    ``top_eigenvalue_own_loss`` (the arm's objective), in nats per token and squared unit of weight.
    The raw eigenvalue changes when weights are rescaled; compare arms of one architecture only.
    """

    name: Literal["flatness"] = "flatness"
    split: str = Field("train", description="whose examples the loss is made of")
    max_items: int = Field(256, ge=1, description="the first items of the split")
    relative_tolerance: float = Field(1e-3, gt=0, lt=1, description="residual / eigenvalue")
    max_products: int = Field(100, ge=2, description="Hessian-vector products an eigenvalue")
    seed: int = Field(0, ge=0, description="of the start vector")

    def measure(self, subject: Subject) -> tuple[list[dict[str, Any]], list[Score]]:  # noqa: D102
        # Fused attention has no second derivative.
        model = subject.load("eager")
        rows = subject.splits[self.split].head(self.max_items).rows
        own = subject.objective
        answer_row, answer = self._eigenvalue(model, rows, CTP(), "answer", subject)
        if own == CTP():
            own_row, own_score = {**answer_row, "loss": "own"}, answer
        elif isinstance(own, Selective):
            own_row, own_score = (
                {"split": self.split, "loss": "own"},
                replace(
                    answer,
                    value=None,
                    error_bound=None,
                    reason="which tokens a selective loss sees depends on the weights: it has no "
                    "single Hessian",
                ),
            )
        else:
            own_row, own_score = self._eigenvalue(model, rows, own, "own", subject)
        named = replace(own_score, score="top_eigenvalue_own_loss", higher_is_better=None)
        return [answer_row, own_row], [answer, named]

    def _eigenvalue(
        self,
        model: PreTrainedModel,
        rows: Sequence[Row],
        objective: Objective,
        loss: str,
        subject: Subject,
    ) -> tuple[dict[str, Any], Score]:
        pad = int(subject.tokenizer.pad_token_id or 0)
        supervised = SupervisedRows(rows, objective)
        # A schedule's own loss is the one it has ended with.
        last_step = 2**62
        batches = [
            {
                name: tensor.to(subject.device)
                for name, tensor in supervised.batch(indices, last_step, pad_token_id=pad).items()
            }
            for indices in batches_by_length([len(row) for row in rows], subject.batch_tokens // 4)
        ]
        operator = HessianOperator(
            lambda batch: token_loss(model, batch), dict(model.named_parameters()), batches
        )
        result = top_eigenvalues(
            operator,
            1,
            seed=self.seed,
            relative_tolerance=self.relative_tolerance,
            max_products=self.max_products,
        )
        value, residual = float(result.values[0]), float(result.residuals[0])
        row = {
            "split": self.split,
            "loss": loss,
            "value": value,
            "residual": residual,
            "products": result.num_products,
            "converged": bool(result.converged),
            "items": len(rows),
        }
        reason = None
        if not result.converged:
            reason = (
                f"not converged: after {result.num_products} products the residual {residual:.3g} "
                f"exceeds {self.relative_tolerance:g} of the estimate {value:.4g}; raise "
                "max_products"
            )
        return row, Score(
            "flatness",
            self.split,
            f"top_eigenvalue_{loss}_loss",
            None if reason else value,
            "nats per token and squared unit of weight",
            len(rows),
            higher_is_better=False,
            error_bound=residual,
            reason=reason,
        )
