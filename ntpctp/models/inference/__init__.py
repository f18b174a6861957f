"""Forward passes over many rows, batched by length within a token budget: no scores."""

from ntpctp.reading.answering import Asked, read_and_answer
from ntpctp.reading.batches import TokenBudget, batches_by_length, pad
from ntpctp.reading.decoding import Decoded, decode_greedily
from ntpctp.reading.disturbance import EMBEDDINGS, Change, Disturbance, module_of
from ntpctp.reading.forward import ReadText, Seen, Text
from ntpctp.reading.shortcuts import fuse_activations
from ntpctp.reading.teacher_forcing import ReadRow, read_rows, text_of
from ntpctp.reading.texts import log_likelihoods, read_texts

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
