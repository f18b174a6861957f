"""The Hessian as Adam sees it, whose top eigenvalue decides whether training is stable.

Shape letter: P = number of entries of all parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ntpctp._core.errors import InputError
from ntpctp.curvature.hessian import HessianOperator
from ntpctp.curvature.inner import inner
from ntpctp.curvature.krylov import SymmetricOperator


@dataclass(frozen=True)
class AdamState:
    """The part of Adam's state at one step that scales the Hessian."""

    second_moments: Mapping[str, Tensor]
    """Parameter name -> v, Adam's ``exp_avg_sq``, in the shape of the parameter."""
    step: int  # t, the number of updates in v; at least 1
    beta1: float
    beta2: float
    epsilon: float
    learning_rate: float
    """The optimizer's: of the last update, unless a scheduler has changed it since."""


def adam_state(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> AdamState:
    """Return the state of an Adam or AdamW optimizer for the named parameters.

    To read a checkpoint, load its optimizer state into an optimizer of the loaded model first. The
    ``optimizer`` updates all ``parameters``, has made at least one step, the same number for each,
    and has the same settings for all of their groups, without amsgrad.
    """
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    moments: dict[str, Tensor] = {}
    steps: set[int] = set()
    settings: set[tuple[float, float, float, float]] = set()
    for name, parameter in parameters.items():
        state = optimizer.state.get(parameter, {})
        if id(parameter) not in group_of or "exp_avg_sq" not in state:
            raise InputError(
                f"the optimizer has no Adam state for parameter {name!r}; give an Adam or AdamW "
                "after at least one step, and only parameters that it updates"
            )
        group = group_of[id(parameter)]
        if group.get("amsgrad"):
            raise InputError(
                "amsgrad divides by another moment and is not supported; use plain Adam"
            )
        moments[name] = state["exp_avg_sq"]
        steps.add(int(state["step"]))
        beta1, beta2 = group["betas"]
        settings.add((float(beta1), float(beta2), float(group["eps"]), float(group["lr"])))
    if len(settings) != 1 or len(steps) != 1:
        raise InputError(
            "expected one number of steps and one (beta1, beta2, epsilon, learning rate) for all "
            f"parameters, found {sorted(steps)} and {sorted(settings)}; measure one group at a time"
        )
    beta1, beta2, epsilon, learning_rate = settings.pop()
    return AdamState(moments, steps.pop(), beta1, beta2, epsilon, learning_rate)


class PreconditionedHessian:
    r"""The Hessian preconditioned by Adam, in symmetric form.

    Represents the symmetric (P, P) matrix

    .. math:: \hat H = c \, D^{1/2} H D^{1/2}, \qquad
              D = \mathrm{diag}\Bigl(\frac{1}{\sqrt{\hat v_t} + \epsilon}\Bigr), \qquad
              c = \frac{1 - \beta_1}{(1 + \beta_1)(1 - \beta_1^t)}, \qquad
              \hat v_t = \frac{v_t}{1 - \beta_2^t}

    which has the eigenvalues of the matrix c D H of "Adaptive Preconditioners Trigger Loss Spikes
    in Adam" (2025, arXiv 2506.04805). Near a quadratic minimum Adam is stable as long as the
    largest is below 2 / learning rate. Decoupled weight decay is not included. ``state`` is Adam's
    after at least one step, for exactly the parameters of ``hessian``. A product costs one of
    ``hessian``. ``stability_threshold`` is 2 / learning rate.
    """

    def __init__(self, hessian: HessianOperator, state: AdamState):
        parameters = hessian.parameters
        if missing := [name for name in parameters.names if name not in state.second_moments]:
            raise InputError(f"the Adam state lacks {len(missing)} parameters: {missing[:3]}")
        if state.step < 1:
            raise InputError("the Adam state is from before the first step and has no moments yet")
        moments = [state.second_moments[name] for name in parameters.names]
        for name, moment, tensor in zip(parameters.names, moments, parameters.tensors, strict=True):
            if moment.shape != tensor.shape:
                raise InputError(
                    f"the second moment of {name!r} has shape {tuple(moment.shape)}, expected "
                    f"{tuple(tensor.shape)}"
                )
        v_hat = parameters.flatten(moments).to(hessian.gradient) / (1 - state.beta2**state.step)
        beta1 = state.beta1
        self._diagonal = 1 / (v_hat.sqrt() + state.epsilon)
        self._factor = (1 - beta1) / ((1 + beta1) * (1 - beta1**state.step))
        self._root = (self._factor * self._diagonal).sqrt()
        self._hessian = hessian
        self.shape, self.dtype, self.device = hessian.shape, hessian.dtype, hessian.device
        self.stability_threshold = 2 / state.learning_rate

    def __matmul__(self, vector: Tensor) -> Tensor:
        """Return the product with ``vector``: (P,) -> (P,)."""
        return self._root * (self._hessian @ (self._root * vector))

    def gradient_curvature(self) -> float:
        r"""Return :math:`g^\top (c D H) g / \lVert g \rVert^2` for the gradient g of the mean loss.

        The directional curvature of the paper above; its rise beyond 2 / learning rate precedes a
        loss spike. The matrix is the *unsymmetric* one, the direction the plain gradient. Costs one
        product. A gradient of zero raises ``InputError``.
        """
        gradient = self._hessian.gradient
        squared = _squared_norm(gradient)
        product = self._hessian @ gradient
        return self._factor * float(inner(self._diagonal * gradient, product)) / squared


def directional_curvature(operator: SymmetricOperator, direction: Tensor) -> float:
    """Return ``d' A d / |d|^2``, the curvature of A along ``direction`` (P,). Costs one product.

    A direction of zero raises ``InputError``.
    """
    squared = _squared_norm(direction)
    return float(inner(direction, operator @ direction)) / squared


def _squared_norm(direction: Tensor) -> float:
    squared = float(inner(direction, direction))
    if not squared:
        raise InputError("the direction is zero: it has no curvature along it")
    return squared
