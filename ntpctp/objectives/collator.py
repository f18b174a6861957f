"""Encoded examples and their supervision become a batch.

For any two objectives the batches of the same examples differ in labels and weights alone.

Shape letters: B = sequences of the batch, T = tokens of the longest one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntpctp._core.errors import InputError, lookup
from ntpctp.data.encoded import ROLE_CODES, EncodedExample
from ntpctp.objectives.objective import Normalisation, Objective, Supervision
from ntpctp.objectives.roles import ExampleObjective

IGNORE_INDEX = -100  # the label that torch.nn.functional.cross_entropy skips by default

Batch = dict[str, Tensor]
_ROLE_CODES = {str(role): code for role, code in ROLE_CODES.items()}
MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids")


class ObjectiveCollator:
    """Makes batches of rows of a ``datasets.Dataset``, or of encoded examples, for a data loader.

    Rows have the columns of ``Task.to_datasets``: ``input_ids`` (list of int), ``roles`` (one role
    per token) and, optionally, ``text``; others are ignored. The batch is that of ``collate``.

    Args:
        objective: one whose labels follow from each example alone (``ntp``, ``ctp``, ``weighted``).
        pad_token_id: any id; padding is masked by position.
        pack_into: see ``collate``.

    Raises:
        InputError: for other objectives: their labels depend on the position in the data set, on
            the step or on a reference model, which a data loader does not pass on.
    """

    def __init__(self, objective: Objective, pad_token_id: int = 0, pack_into: int | None = None):
        if not isinstance(objective, ExampleObjective):
            raise InputError(
                f"objective {objective.name!r}: its labels do not follow from one example alone. "
                "Expected ntp, ctp or weighted; for all others use SupervisedExamples("
                "[encoded_example(row) for row in dataset], objective).batch(indices, step)"
            )
        self._objective, self._pad, self._pack_into = objective, pad_token_id, pack_into

    def __call__(self, rows: Sequence[Mapping[str, Any] | EncodedExample]) -> Batch:
        """Return the batch of ``rows``, at least one."""
        examples = [r if isinstance(r, EncodedExample) else encoded_example(r) for r in rows]
        return collate(
            examples,
            [self._objective.of_example(example) for example in examples],
            normalisation=self._objective.normalisation,
            pad_token_id=self._pad,
            pack_into=self._pack_into,
        )


def encoded_example(row: Mapping[str, Any]) -> EncodedExample:
    """Return a row of ``Task.to_datasets`` with a tokenizer as an encoded example.

    Its tokens have no character offsets, which the objective ``critical`` needs.

    Raises:
        InputError: if a column is missing, or roles are unknown or not one per token.
    """
    for column in ("input_ids", "roles"):
        if row.get(column) is None:
            raise InputError(
                f"expected the column {column!r}, found {', '.join(map(str, row))}; make the data "
                "set with Task.to_datasets(tokenizer)"
            )
    ids = np.asarray(row["input_ids"], np.int64)
    roles = np.array([lookup(_ROLE_CODES, role, "role") for role in row["roles"]], np.uint8)
    if len(ids) != len(roles) or not len(ids):
        raise InputError(f"expected one role per token, found {len(roles)} for {len(ids)} tokens")
    given = np.flatnonzero(np.isin(roles, [ROLE_CODES["prompt"], ROLE_CODES["text"]]))
    answer_start = min(int(given[-1]) + 1 if len(given) else 0, len(ids) - 1)
    return EncodedExample(ids, roles, answer_start, text=row.get("text") or "")


def collate(
    examples: Sequence[EncodedExample],
    supervisions: Sequence[Supervision],
    *,
    normalisation: Normalisation = "supervised",
    pad_token_id: int = 0,
    pack_into: int | None = None,
) -> Batch:
    """Pad ``examples`` on the right into one batch, or pack them into sequences.

    Args:
        examples: at least one.
        supervisions: labels and weights of each example.
        normalisation: see ``objectives.objective``.
        pad_token_id: any id; padding is masked by position, never by value.
        pack_into: largest number of tokens of a sequence that may hold several examples; None: one
            example per sequence.

    Returns:
        For the model: ``input_ids`` and ``attention_mask``, int64 of shape (B, T). Packed:
        ``position_ids`` (B, T), from 0 in each example, and ``attention_mask`` (B, 1, T, T),
        float32, 0 where a token may attend and a very negative number elsewhere, so that the
        examples of a sequence do not see each other.

        For the loss: ``labels``, int64 (B, T), not shifted (the loss does that); the first token
        of an example has none, since it has no predecessor. ``loss_weights``, float32 (B, T), only
        if some weight is neither 0 nor 1. For objectives that choose tokens by a reference model:
        ``reference_losses`` float32 (B, T), ``example_index`` int64 (B, T) and ``num_kept`` int64
        (number of examples,).

        Scalars: ``normaliser`` (float64, the Z of this batch), ``num_tokens`` and
        ``num_supervised`` (int64).
    """
    starts = _starts(list(map(len, examples)), pack_into)
    shape = (
        1 + max(sequence for sequence, _ in starts),
        max(start + len(example) for (_, start), example in zip(starts, examples, strict=True)),
    )
    input_ids = np.full(shape, pad_token_id, np.int64)
    labels = np.full(shape, IGNORE_INDEX, np.int64)
    weights = np.zeros(shape, np.float32)
    position_ids = np.zeros(shape, np.int64)
    example_index = np.full(shape, -1, np.int64)
    reference = np.zeros(shape, np.float32)
    for index, ((sequence, start), example, supervision) in enumerate(
        zip(starts, examples, supervisions, strict=True)
    ):
        at = sequence, slice(start, start + len(example))
        input_ids[at] = example.input_ids
        position_ids[at] = np.arange(len(example))
        example_index[at] = index
        weights[at] = supervision.weights
        weights[sequence, start] = 0
        labels[at] = np.where(weights[at] != 0, supervision.labels, IGNORE_INDEX)
        if supervision.reference_losses is not None:
            reference[at] = supervision.reference_losses
    batch: dict[str, NDArray[Any]] = {
        "input_ids": input_ids,
        "attention_mask": (example_index >= 0).astype(np.int64),
        "labels": labels,
    }
    if pack_into is not None:
        batch["position_ids"] = position_ids
        batch["attention_mask"] = _block_mask(example_index)
    if np.any((weights != 0) & (weights != 1)):
        batch["loss_weights"] = weights
    num_supervised, total = int((weights != 0).sum()), float(weights.sum(dtype=np.float64))
    if supervisions[0].reference_losses is not None:
        num_kept = np.array([supervision.num_kept for supervision in supervisions], np.int64)
        batch["reference_losses"], batch["num_kept"] = reference, num_kept
        batch["example_index"] = example_index
        num_supervised, total = int(num_kept.sum()), float(num_kept.sum())
    num_tokens = sum(map(len, examples))
    with_predecessor = float(num_tokens - len(examples))
    return {name: torch.from_numpy(array) for name, array in batch.items()} | {
        "normaliser": torch.tensor(
            total if normalisation == "supervised" else with_predecessor, dtype=torch.float64
        ),
        "num_tokens": torch.tensor(num_tokens),
        "num_supervised": torch.tensor(num_supervised),
    }


def model_inputs(batch: Batch) -> Batch:
    """Return the part of a batch that the model reads."""
    return {name: batch[name] for name in MODEL_INPUTS if name in batch}


def _starts(lengths: Sequence[int], pack_into: int | None) -> list[tuple[int, int]]:
    """Return (sequence, first token) of each example; packing is first fit, longest first."""
    if pack_into is None:
        return [(index, 0) for index in range(len(lengths))]
    starts = [(0, 0)] * len(lengths)
    filled: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        fits = (s for s, used in enumerate(filled) if used + length <= pack_into)
        sequence = next(fits, len(filled))
        if sequence == len(filled):
            filled.append(0)
        starts[index] = sequence, filled[sequence]
        filled[sequence] += length
    return starts


def _block_mask(example_index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the additive mask of packed sequences: float32, shape (B, 1, T, T)."""
    length = example_index.shape[1]
    causal = np.tril(np.ones((length, length), bool))
    # Padding attends to itself alone: a token that attends to nothing would give NaN.
    query, key = example_index[:, :, None], example_index[:, None, :]
    allowed = ((query == key) & (query >= 0) & causal) | np.eye(length, dtype=bool)
    return np.where(allowed, np.float32(0), np.finfo(np.float32).min)[:, None]
