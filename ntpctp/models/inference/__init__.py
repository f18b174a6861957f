"""Forward passes over many rows, batched by length within a token budget: no scores."""

from ntpctp.models.inference.batches import TokenBudget, batches_by_length, pad
from ntpctp.models.inference.decoding import Decoded, decode_greedily
from ntpctp.models.inference.forward import ReadText, Text, TokenScores
from ntpctp.models.inference.generate import GenerationRequest, read_and_answer
from ntpctp.models.inference.perturbation import EMBEDDINGS, Change, Perturbation, module_of
from ntpctp.models.inference.requests import log_likelihoods, read_texts
from ntpctp.models.inference.score import ReadRow, read_rows, text_of
from ntpctp.models.inference.shortcuts import fuse_activations

__all__ = [
    "EMBEDDINGS",
    "Change",
    "Decoded",
    "GenerationRequest",
    "Perturbation",
    "ReadRow",
    "ReadText",
    "Text",
    "TokenBudget",
    "TokenScores",
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
