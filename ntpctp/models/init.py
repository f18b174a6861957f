"""The initialisation rate: the size of a new model's matrices, as a power of their fan-in.

Source: "Initialization is Critical to Whether Transformers Fit Composite Functions by Reasoning or
Memorizing"; there a large rate (small weights) favours reasoning.
"""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ntpctp._core.errors import InputError

RESIDUAL_OUTPUTS = ("c_proj", "o_proj", "down_proj", "out_proj", "dense_4h_to_h", "fc2", "fc_out")
"""Names of matrices that write into the residual stream, in all supported families."""


def initialise(model: PreTrainedModel, rate: float, *, scale_residuals: bool) -> None:
    """Redraw every matrix of ``model`` from N(0, (d_in^-rate)^2), in place.

    ``d_in`` is the true fan-in, also of transformers' ``Conv1D``, which stores the transpose.
    Embeddings and language-model head (tied or not), biases and norms keep the family's own
    initialisation. Uses torch's global generator; two rates from one state give the same draws on
    different scales.

    Args:
        model: newly built.
        rate: gamma; 0.5 is LeCun's variance of 1/d_in, a larger rate gives smaller weights.
        scale_residuals: divide matrices that write into the residual stream by sqrt(2 * layers).

    Raises:
        InputError: if the family has a matrix of unknown fan-in, or ``scale_residuals`` finds no
            matrix known to write into the residual stream.
    """
    excluded = {id(m.weight) for m in (model.get_input_embeddings(), model.get_output_embeddings())}
    divisor = (2 * model.config.num_hidden_layers) ** 0.5
    known, num_scaled = set(excluded), 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            known.add(id(module.weight))
        if not isinstance(module, nn.Linear | Conv1D) or id(module.weight) in excluded:
            continue
        fan_in = module.weight.shape[0 if isinstance(module, Conv1D) else 1]
        std = fan_in**-rate
        if scale_residuals and name.rsplit(".", 1)[-1] in RESIDUAL_OUTPUTS:
            std, num_scaled = std / divisor, num_scaled + 1
        with torch.no_grad():
            module.weight.normal_(0, std)
        known.add(id(module.weight))
    others = [n for n, p in model.named_parameters() if p.ndim >= 2 and id(p) not in known]
    if others:
        raise InputError(
            f"model.init_rate: family {model.config.model_type!r} has matrices of unknown "
            f"fan-in ({', '.join(others[:3])}); choose another family, or leave init_rate out"
        )
    if scale_residuals and not num_scaled:
        raise InputError(
            f"model.init_scale_residuals: no matrix of family {model.config.model_type!r} is known "
            "to write into the residual stream; choose another family, or leave it out"
        )
