"""Forward passes over many rows, batched by length within a token budget: no scores."""

from ntpctp.reading.answering import answer_greedily
from ntpctp.reading.batches import TokenBudget, batches_by_length, pad
from ntpctp.reading.candidates import Choices, log_likelihoods
from ntpctp.reading.decoding import Decoded, decode_greedily
from ntpctp.reading.disturbance import EMBEDDINGS, Change, Disturbance, module_of
from ntpctp.reading.teacher_forcing import ReadRow, read_rows

__all__ = [
    "EMBEDDINGS",
    "Change",
    "Choices",
    "Decoded",
    "Disturbance",
    "ReadRow",
    "TokenBudget",
    "answer_greedily",
    "batches_by_length",
    "decode_greedily",
    "log_likelihoods",
    "module_of",
    "pad",
    "read_rows",
]
