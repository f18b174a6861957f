"""Curvature of a loss: symmetric linear operators, and estimates with their errors.

Independent of language models: a loss is a function of a batch that returns a sum and a weight,
parameters are tensors with names.

The loss and its parameters: ``MeanLoss``, ``ParameterVector``, ``select_parameters``,
``parameter_blocks``. Operators, multiplied with ``@``: ``HessianOperator``,
``PreconditionedHessian``. Estimates: ``top_eigenvalues``, ``block_eigenvalues``, ``trace``,
``density``, ``directional_curvature``, ``average_sharpness``, ``worst_sharpness``, ``loss_slice``,
``loss_path``, ``PyHessianBackend``.
"""

from ntpctp.curvature.blocks import block_eigenvalues
from ntpctp.curvature.density import Density, density
from ntpctp.curvature.directions import filter_normalised, random_directions
from ntpctp.curvature.hessian import HessianOperator
from ntpctp.curvature.krylov import SymmetricOperator
from ntpctp.curvature.lanczos import Eigenvalues, top_eigenvalues
from ntpctp.curvature.landscape import LossPath, LossSlice, loss_path, loss_slice
from ntpctp.curvature.mean_loss import Batch, LossFunction, MeanLoss
from ntpctp.curvature.parameters import ParameterVector, parameter_blocks, select_parameters
from ntpctp.curvature.preconditioned import (
    AdamState,
    PreconditionedHessian,
    adam_state,
    directional_curvature,
)
from ntpctp.curvature.pyhessian_backend import PyHessianBackend
from ntpctp.curvature.sharpness import (
    AverageSharpness,
    WorstSharpness,
    average_sharpness,
    worst_sharpness,
)
from ntpctp.curvature.trace import Trace, trace

__all__ = [
    "AdamState",
    "AverageSharpness",
    "Batch",
    "Density",
    "Eigenvalues",
    "HessianOperator",
    "LossFunction",
    "LossPath",
    "LossSlice",
    "MeanLoss",
    "ParameterVector",
    "PreconditionedHessian",
    "PyHessianBackend",
    "SymmetricOperator",
    "Trace",
    "WorstSharpness",
    "adam_state",
    "average_sharpness",
    "block_eigenvalues",
    "density",
    "directional_curvature",
    "filter_normalised",
    "loss_path",
    "loss_slice",
    "parameter_blocks",
    "random_directions",
    "select_parameters",
    "top_eigenvalues",
    "trace",
    "worst_sharpness",
]
