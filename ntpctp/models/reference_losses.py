"""The losses of a reference checkpoint on a split: computed once, kept beside the experiment."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedTokenizerBase

from ntpctp._core.errors import InputError
from ntpctp._core.files import atomic_file, fingerprint, sha256_of
from ntpctp.data.tokenize import EncodedExample, load_tokenizer
from ntpctp.models.build import check_fits, load_model
from ntpctp.models.inference import TokenBudget, score_examples
from ntpctp.objectives import LossesOf


def reference_losses(
    directory: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_tokens: int | None,
    device: str | torch.device = "cpu",
) -> LossesOf:
    """Return the function (checkpoint, rows) -> losses that keeps its results in ``directory``.

    Args:
        directory: gets one safetensors file for each checkpoint and split.
        tokenizer: of the rows; a checkpoint that brings another vocabulary is refused.
        batch_tokens: of one forward pass; None: as many as fit.
        device: where the reference model runs.
    """

    def losses_of(checkpoint: str, rows: Sequence[EncodedExample]) -> list[NDArray[np.float32]]:
        path = directory / f"{_key(checkpoint, rows)}.safetensors"
        if not path.is_file():
            if load_tokenizer(checkpoint).get_vocab() != tokenizer.get_vocab():
                raise InputError(
                    f"reference {checkpoint}: its tokenizer has another vocabulary than the "
                    "experiment's, so their token losses cannot be compared"
                )
            model = load_model(checkpoint)
            torch.nn.Module.to(model, device)
            check_fits(model.config, max(map(len, rows)))
            read = score_examples(model, rows, TokenBudget(batch_tokens))
            flat = np.concatenate([seen.losses for seen in read]).astype(np.float32)
            with atomic_file(path) as temporary:
                save_file({"losses": flat}, temporary)
        flat = load_file(path)["losses"]
        return np.split(flat, np.cumsum([len(row) for row in rows])[:-1])

    return losses_of


def _key(checkpoint: str, rows: Sequence[EncodedExample]) -> str:
    """Return what the losses depend on: the weights (their path, for a hub id) and the tokens."""
    files = sorted(Path(checkpoint).glob("*.safetensors"))
    identity = [sha256_of(file) for file in files] or checkpoint
    return fingerprint([identity, [row.input_ids.tolist() for row in rows]])[:32]
