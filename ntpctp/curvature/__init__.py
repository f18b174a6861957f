"""Curvature of a loss: symmetric linear operators, and estimates with their errors.

Independent of language models: a loss is a function of a batch that returns a sum and a weight,
parameters are tensors with names. Operators are multiplied with ``@``; that one is symmetric is not
checked. The same ``seed`` gives the same result on one machine. Arguments outside their range, and
operations of the loss without a second derivative, raise ``InputError``.
"""

from ntpctp.curvature.blocks import block_eigenvalues
from ntpctp.curvature.density import Density, density
from ntpctp.curvature.directions import filter_normalised, random_directions
from ntpctp.curvature.hessian import HessianOperator
from ntpctp.curvature.lanczos import Eigenvalues, top_eigenvalues
from ntpctp.curvature.landscape import LossSlice, loss_path, loss_slice
from ntpctp.curvature.mean_loss import Batch, LossFunction, MeanLoss
from ntpctp.curvature.parameters import ParameterVector, parameter_blocks, select_parameters
from ntpctp.curvature.preconditioned import (
    AdamState,
    PreconditionedHessian,
    adam_state,
    directional_curvature,
)
from ntpctp.curvature.pyhessian_backend import PyHessianBackend
from ntpctp.curvature.sharpness import WorstSharpness, average_sharpness, worst_sharpness
from ntpctp.curvature.trace import trace

# The loss and its parameters; operators; estimates.
__all__ = ["Batch", "LossFunction", "MeanLoss", "ParameterVector", "parameter_blocks"]
__all__ += ["filter_normalised", "random_directions", "select_parameters"]
__all__ += ["AdamState", "HessianOperator", "PreconditionedHessian", "adam_state"]
__all__ += ["Density", "Eigenvalues", "LossSlice", "PyHessianBackend", "WorstSharpness"]
__all__ += ["average_sharpness", "block_eigenvalues", "density", "directional_curvature"]
__all__ += ["loss_path", "loss_slice", "top_eigenvalues", "trace", "worst_sharpness"]
