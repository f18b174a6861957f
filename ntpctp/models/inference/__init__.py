"""Inference on many examples, batched by length within a token budget: token losses, generation."""

from ntpctp.models.inference.batches import TokenBudget, batches_by_length, pad
from ntpctp.models.inference.decoding import Decoded, decode_greedily
from ntpctp.models.inference.forward import ScoringRequest, ScoringResult, TokenScores
from ntpctp.models.inference.generate import GenerationRequest, score_and_generate
from ntpctp.models.inference.perturbation import EMBEDDINGS, Perturbation, StateFunction, module_of
from ntpctp.models.inference.requests import log_likelihoods, score_requests
from ntpctp.models.inference.score import ExampleScores, score_examples, scoring_request
from ntpctp.models.inference.shortcuts import fuse_activations

__all__ = [
    "EMBEDDINGS",
    "Decoded",
    "ExampleScores",
    "GenerationRequest",
    "Perturbation",
    "ScoringRequest",
    "ScoringResult",
    "StateFunction",
    "TokenBudget",
    "TokenScores",
    "batches_by_length",
    "decode_greedily",
    "fuse_activations",
    "log_likelihoods",
    "module_of",
    "pad",
    "score_and_generate",
    "score_examples",
    "score_requests",
    "scoring_request",
]
