"""The options of a model and of LoRA, as an experiment file gives them; loads no torch."""

from typing import Any, Literal

from pydantic import Field, model_validator

from ntpctp._core.errors import nearest
from ntpctp._core.options import Options
from ntpctp.models.families import known_families

Attention = Literal["sdpa", "eager"]


class ModelOptions(Options):
    """Either a family with its sizes (trained from scratch) or an initial checkpoint."""

    family: str | None = Field(
        None,
        description="a causal family of transformers: gpt2, llama, qwen2, openai-gpt, ...",
    )
    layers: int = Field(2, ge=1, le=10_000, description="transformer blocks")
    width: int = Field(64, ge=1, le=10**6, description="hidden size")
    heads: int = Field(4, ge=1, description="attention heads; must divide width")
    context: int | None = Field(
        None,
        ge=2,
        le=2**31,
        description="positions; null: the longest example, rounded up to a multiple of 8",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="sets every dropout rate of the family")
    config: dict[str, Any] = Field(
        default_factory=dict, description="further fields of the family's config"
    )
    init_rate: float | None = Field(
        None,
        gt=0,
        description="gamma: every matrix but the embeddings is drawn from "
        "N(0, (d_in^-gamma)^2); null: the family's own initialisation",
    )
    init_scale_residuals: bool = Field(
        False,
        description="with init_rate: divide matrices that write into the residual stream by "
        "sqrt(2 * layers)",
    )
    checkpoint: str | None = Field(
        None,
        description="initial checkpoint: directory or Hub id; {seed} stands for the run's seed",
    )
    dtype: Literal["float32", "float64", "bfloat16"] = Field(
        "float32", description="of the weights"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "ModelOptions":
        if (self.family is None) == (self.checkpoint is None):
            raise ValueError("give either family or checkpoint; found both or neither")
        if self.checkpoint is not None:
            sizes = self.changed(
                "layers", "width", "heads", "context", "dropout", "config", "init_rate"
            )
            if sizes:
                raise ValueError(f"{', '.join(sizes)}: fixed by the checkpoint, remove them")
        elif self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.init_scale_residuals and self.init_rate is None:
            raise ValueError("init_scale_residuals needs an init_rate")
        if self.family is not None and self.family not in known_families():
            raise ValueError(
                f"unknown family {self.family!r}{nearest(self.family, known_families())}"
            )
        return self


class LoraOptions(Options):
    """A low-rank update of matrices, the only part that is trained (Hu et al. 2022, ICLR, 4.1).

    ``W + alpha / rank * B A`` with B = 0 at the start, so the model starts unchanged.
    """

    rank: int = Field(8, ge=1, description="inner dimension of the update")
    alpha: float = Field(16.0, gt=0, description="the update is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="on the input of the update")
    targets: list[str] | None = Field(
        None,
        min_length=1,
        description="names of the modules to update, such as c_attn or q_proj; null: every linear "
        "module except the head",
    )
