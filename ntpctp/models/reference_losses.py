"""The losses of a reference checkpoint on a split: computed once, cached beside the experiment."""

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
    """Return the function (checkpoint, examples) -> losses, which caches in ``directory``.

    Args:
        directory: gets one safetensors file per checkpoint and split.
        tokenizer: of the examples; a checkpoint with another vocabulary is refused.
        batch_tokens: tokens of one forward pass; None: as many as fit.
        device: of the reference model.
    """

    def losses_of(checkpoint: str, examples: Sequence[EncodedExample]) -> list[NDArray[np.float32]]:
        path = directory / f"{_key(checkpoint, examples)}.safetensors"
        if not path.is_file():
            if load_tokenizer(checkpoint).get_vocab() != tokenizer.get_vocab():
                raise InputError(
                    f"reference {checkpoint}: its tokenizer has another vocabulary than the "
                    "experiment's, so token losses cannot be compared; use a reference with the "
                    "same tokenizer"
                )
            model = load_model(checkpoint)
            torch.nn.Module.to(model, device)
            check_fits(model.config, max(map(len, examples)))
            scores = score_examples(model, examples, TokenBudget(batch_tokens))
            flat = np.concatenate([score.losses for score in scores]).astype(np.float32)
            with atomic_file(path) as temporary:
                save_file({"losses": flat}, temporary)
        flat = load_file(path)["losses"]
        return np.split(flat, np.cumsum([len(example) for example in examples])[:-1])

    return losses_of


def _key(checkpoint: str, examples: Sequence[EncodedExample]) -> str:
    """Return a hash of the checkpoint's weights (of its Hub id, if not local) and of the tokens."""
    files = sorted(Path(checkpoint).glob("*.safetensors"))
    identity = [sha256_of(file) for file in files] or checkpoint
    return fingerprint([identity, [example.input_ids.tolist() for example in examples]])[:32]
