"""Forward passes over many rows, batched by length within a token budget: no scores."""

from ntpctp.models.inference.batches import TokenBudget, batches_by_length, pad
from ntpctp.models.inference.decoding import Decoded, decode_greedily
from ntpctp.models.inference.forward import ReadText, Seen, Text
from ntpctp.models.inference.generate import Asked, read_and_answer
from ntpctp.models.inference.perturbation import EMBEDDINGS, Change, Disturbance, module_of
from ntpctp.models.inference.score import ReadRow, read_rows, text_of
from ntpctp.models.inference.shortcuts import fuse_activations
from ntpctp.models.inference.texts import log_likelihoods, read_texts

__all__ = [
    "EMBEDDINGS",
    "Asked",
    "Change",
    "Decoded",
    "Disturbance",
    "ReadRow",
    "ReadText",
    "Seen",
    "Text",
    "TokenBudget",
    "batches_by_length",
    "decode_greedily",
    "fuse_activations",
    "log_likelihoods",
    "module_of",
    "pad",
    "read_and_answer",
    "read_rows",
    "read_texts",
    "text_of",
]
