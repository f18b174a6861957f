"""Sharpness beyond the top eigenvalue: on the scale of the weights, and layer by layer."""

from dataclasses import asdict, replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ntpctp._core.errors import InputError
from ntpctp.curvature import (
    MeanLoss,
    PyHessianBackend,
    average_sharpness,
    block_eigenvalues,
    trace,
    worst_sharpness,
)
from ntpctp.measures.flatness import eigenvalue_score
from ntpctp.measures.measure import EvaluationContext, Measure, Score, Splits, names_of
from ntpctp.measures.computation.subset import (
    CURVATURE_UNIT,
    Subset,
    SubsetLoss,
    differentiable_model,
    filter_dimensions,
)

RISE_UNIT = "nats per token"
PYHESSIAN_CAUTION = (
    "PyHessian stops when two successive estimates agree, which bounds no error; its eigenvalue is "
    "the one of largest magnitude, be it negative, without a residual; its trace may stop early, "
    "which the standard error of its samples does not know"
)


class Sharpness(Measure):
    r"""How far the loss on the answers rises near the weights.

    L is the token-mean loss over the answers of a fixed set of examples, common to all arms, in
    evaluation mode and float32. Scores of each split, in nats per token where nothing is said:

    * ``average_adaptive_sharpness``: mean of L(θ + ρ|θ|z) − L(θ) over standard normal z, element
      by element, ρ = ``average_radius`` (Andriushchenko et al. 2023, ICML, equation 1).
    * ``average_filter_sharpness``: the same where z is scaled so that each filter (the weights into
      one output unit; the row of an embedding) has the norm of that filter's weights, ρ =
      ``filter_radius`` (Li et al. 2018, NeurIPS, section 4).
    * ``worst_adaptive_sharpness_l2``, ``worst_adaptive_sharpness_linf``: the largest rise found by
      projected gradient ascent within ‖δ/|θ|‖ ≤ ``l2_radius`` and ``linf_radius`` (equation 2
      there). A lower bound; ``error_bound`` is what the second half of the steps still gained.
    * ``trace_answer_loss``: sum of all eigenvalues of the Hessian of L, by Hutch++, in nats per
      token and squared unit of weight.
    * ``top_eigenvalue_block_...``: largest algebraic eigenvalue of the Hessian's diagonal block of
      a layer, in the same unit; at most that of the whole.
    * ``pyhessian_eigenvalue_answer_loss``: only with ``backend: pyhessian``, which also gives the
      trace. It is right for the masked, token-weighted loss, but PyHessian stops when two
      successive estimates agree, which bounds no error; its eigenvalue is the one of largest
      *magnitude*, be it negative, and has no residual.

    Average and worst rises do not change when weights are rescaled without changing the function
    (element by element for two of them, filter by filter for the other); the rest does. Draws
    depend on ``seed`` alone: all arms of one architecture meet the same ones.
    """

    name: Literal["sharpness"] = "sharpness"
    at: Literal["all", "last"] = Field("last", description="which checkpoints are measured")
    split: Splits = Field("train", description="whose examples the loss is made of; or a list")
    max_items: int = Field(256, ge=1, description="the first items of the split")
    average_radius: float = Field(0.05, gt=0, description="of the element-wise perturbations")
    filter_radius: float = Field(0.05, gt=0, description="of the filter-normalised perturbations")
    draws: int = Field(20, ge=2, description="of a perturbation, each taken with both signs")
    l2_radius: float = Field(0.25, gt=0, description="of the worst case, Euclidean")
    linf_radius: float = Field(0.002, gt=0, description="of the worst case, largest entry")
    ascent_steps: int = Field(20, ge=2, description="of the search for the worst case")
    trace_products: int = Field(60, ge=6, description="Hessian-vector products for the trace")
    blocks: bool = Field(True, description="also an eigenvalue for each layer")
    relative_tolerance: float = Field(1e-3, gt=0, lt=1, description="residual / eigenvalue")
    max_products: int = Field(100, ge=2, description="Hessian-vector products an eigenvalue")
    graph_memory_bytes: int = Field(
        2**30, ge=0, description="for graphs that are kept between products; 0 keeps none"
    )
    backend: Literal["ntpctp", "pyhessian"] = Field("ntpctp", description="of trace and eigenvalue")
    seed: int = Field(0, ge=0, description="of draws, probes and start vectors")

    by_default: ClassVar[bool] = False

    def measure(self, subject: EvaluationContext) -> tuple[list[dict[str, Any]], list[Score]]:  # noqa: D102
        model = differentiable_model(subject)
        rows, scores = [], []
        for split in names_of(self.split):
            subset = Subset.of(subject, split, self.max_items)
            loss = SubsetLoss(subject, model, subset)
            of_split = [*self._average(loss), *self._worst(loss), *self._trace(loss)]
            if self.blocks:
                of_split += self._blocks(loss)
            common = {
                "split": split,
                "items": len(subset),
                "fingerprint": subset.fingerprint,
            }
            rows += [{**common, "score": score.score, **row} for row, score in of_split]
            scores += [score for _, score in of_split]
        return rows, scores

    def _average(self, loss: SubsetLoss) -> list[tuple[dict[str, Any], Score]]:
        mean, stored = loss.mean(), filter_dimensions(loss.model)
        found: list[tuple[dict[str, Any], Score]] = []
        for scaling, radius in (("element", self.average_radius), ("filter", self.filter_radius)):
            name = "adaptive" if scaling == "element" else "filter"
            blank = self._blank(loss, f"average_{name}_sharpness", RISE_UNIT)
            try:
                result = average_sharpness(
                    mean,
                    radius=radius,
                    seed=self.seed,
                    scaling="element" if scaling == "element" else "filter",
                    num_draws=self.draws,
                    filter_dimension=lambda name: stored.get(name, 0),
                )
            except InputError as error:  # the loss overflows within the radius
                found.append(({"radius": radius}, replace(blank, reason=str(error))))
                continue
            row = {"radius": radius, "mean_loss": mean.value, "rises": list(result.rises)}
            found.append(
                (row, replace(blank, value=result.value, standard_error=result.standard_error))
            )
        return found

    def _worst(self, loss: SubsetLoss) -> list[tuple[dict[str, Any], Score]]:
        mean = loss.mean()
        return [
            self._worst_in(loss, mean, "l2", self.l2_radius),
            self._worst_in(loss, mean, "linf", self.linf_radius),
        ]

    def _worst_in(
        self, loss: SubsetLoss, mean: MeanLoss, norm: Literal["l2", "linf"], radius: float
    ) -> tuple[dict[str, Any], Score]:
        def search(steps: int) -> Any:
            return worst_sharpness(mean, radius=radius, seed=self.seed, norm=norm, num_steps=steps)

        blank = self._blank(loss, f"worst_adaptive_sharpness_{norm}", RISE_UNIT)
        reason = f"the loss is not finite within radius {radius:g}; use a smaller one"
        try:
            # The same search from the start: its first half is the shorter one.
            half, result = search(self.ascent_steps // 2), search(self.ascent_steps)
        except InputError:  # the loss at the weights themselves is finite: ``mean`` has seen it
            return {"radius": radius}, replace(blank, reason=reason)
        if not np.isfinite(result.value):
            return {"radius": radius}, replace(blank, reason=reason)
        row = {"radius": radius, "mean_loss": mean.value, **asdict(result)}
        gained = result.value - half.value
        return row, replace(blank, value=result.value, error_bound=gained)

    def _trace(self, loss: SubsetLoss) -> list[tuple[dict[str, Any], Score]]:
        blank = self._blank(loss, "trace_answer_loss", CURVATURE_UNIT)
        if self.backend == "pyhessian":
            return self._pyhessian(loss, blank)
        operator = loss.hessian(self.graph_memory_bytes)
        result = trace(operator, num_products=self.trace_products, seed=self.seed)
        row = {**asdict(result), "kept_graphs": operator.num_kept_graphs}
        return [(row, replace(blank, value=result.value, standard_error=result.standard_error))]

    def _pyhessian(self, loss: SubsetLoss, blank: Score) -> list[tuple[dict[str, Any], Score]]:
        backend = PyHessianBackend(loss, loss.parameters, loss.batches)
        samples = np.array(backend.trace(seed=self.seed, max_iterations=self.trace_products))
        error = float(samples.std(ddof=1) / len(samples) ** 0.5) if len(samples) > 1 else None
        (value,) = backend.top_eigenvalues(
            1,
            seed=self.seed,
            relative_tolerance=self.relative_tolerance,
            max_iterations=self.max_products,
        )
        said: dict[str, Any] = {"backend": "pyhessian", "caution": PYHESSIAN_CAUTION}
        eigenvalue = replace(
            self._blank(loss, "pyhessian_eigenvalue_answer_loss", CURVATURE_UNIT),
            value=value,
            higher_is_better=None,
        )
        return [
            (
                {**said, "samples": samples.tolist()},
                replace(blank, value=float(samples.mean()), standard_error=error),
            ),
            (said, eigenvalue),
        ]

    def _blocks(self, loss: SubsetLoss) -> list[tuple[dict[str, Any], Score]]:
        results = block_eigenvalues(
            loss,
            loss.parameters,
            loss.batches,
            seed=self.seed,
            relative_tolerance=self.relative_tolerance,
            max_products=self.max_products,
            graph_memory_bytes=self.graph_memory_bytes,
        )
        found = []
        for block, result in results.items():
            score = eigenvalue_score(
                self.name,
                loss.subset,
                f"top_eigenvalue_block_{block}",
                result.value,
                result.residual,
                result,
            )
            row = {
                "block": block,
                "value": result.value,
                "residual": result.residual,
                "products": result.num_products,
            }
            found.append((row, replace(score, higher_is_better=False)))
        return found

    def _blank(self, loss: SubsetLoss, name: str, unit: str) -> Score:
        """Return a score that is to be filled in."""
        subset = loss.subset
        return Score(self.name, subset.split, name, None, unit, len(subset), higher_is_better=False)
