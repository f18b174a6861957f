"""Examples that cannot be used: too long for the model, or without a supervised token."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from ntpctp._core.errors import InputError
from ntpctp.config import Arm
from ntpctp.data.encoded import Selection, lengths, role_patterns, trim_prompt
from ntpctp.data.tasks import Task
from ntpctp.measures import EncodedSplit, Measure
from ntpctp.objectives import Selective
from ntpctp.objectives.dataset import SupervisedExamples


def fit(
    split: EncodedSplit, context: int | None, policy: str, name: str
) -> tuple[EncodedSplit, dict[str, int]]:
    """Apply the policy for examples that are longer than ``context`` tokens.

    Args:
        split: encoded.
        context: positions of the model; None: not limited.
        policy: ``error``, ``drop`` or ``trim_prompt``.
        name: of the split, for messages.

    Returns:
        The split, and the number of examples ``dropped_too_long`` or ``prompts_trimmed``.

    Raises:
        InputError: under ``error``, names the first such example; under ``trim_prompt``, one whose
            reasoning and answer alone do not fit.
    """
    if context is None:
        return split, {}
    num_tokens = lengths(split.encoded)
    too_long = np.flatnonzero(num_tokens > context)
    if not len(too_long):
        return split, {}
    if policy == "error":
        where = where_is(split, int(too_long[0]), name)
        raise InputError(
            f"{where}: has {num_tokens[too_long[0]]} tokens (prompt, answer and end of sequence), "
            f"but the model's context is {context}; nothing is truncated. Shorten it, raise "
            "model.context, or set data.too_long: drop or trim_prompt"
        )
    if policy == "drop":
        return without(split, too_long), {"dropped_too_long": len(too_long)}
    encoded = list(split.encoded)
    for index in too_long.tolist():
        where = where_is(split, index, name)
        if split.examples[index].is_plain_text:
            raise InputError(
                f"{where}: plain text of {len(encoded[index])} tokens has no prompt to trim. Split "
                "it, raise model.context, or set data.too_long: drop"
            )
        encoded[index] = trim_prompt(encoded[index], context, where)
    return EncodedSplit(split.examples, encoded), {"prompts_trimmed": len(too_long)}


def where_is(split: EncodedSplit, index: int, name: str) -> str:
    """Return the source of an example, for messages."""
    return split.examples[index].source or f"{name} example {index}"


def without(split: EncodedSplit, indices: Iterable[int]) -> EncodedSplit:
    """Return a view of a split without some examples."""
    left = np.setdiff1d(np.arange(len(split.encoded)), list(indices))
    return EncodedSplit(Selection(split.examples, left), Selection(split.encoded, left))


def candidate_lengths(
    measures: Sequence[Measure],
    task: Task,
    splits: Mapping[str, EncodedSplit],
    tokenizer: PreTrainedTokenizerBase,
    context: int | None,
) -> Iterator[int]:
    """Yield the tokens of each measured example with its longest choice as the answer.

    Raises:
        InputError: if one does not fit into ``context``.
    """
    fitted = max((getattr(m, "train_items", 0) for m in measures), default=0)
    known: dict[str, int] = {}
    for name in ("train", *task.evaluation_splits):
        split = splits[name].head(fitted if name == "train" else None)
        for index, example in enumerate(split.examples):
            if not example.choices:
                continue
            for choice in example.choices:
                if choice not in known:
                    ids = tokenizer(choice, add_special_tokens=False).input_ids
                    known[choice] = len(ids) + 1  # and the end of sequence
            longest = max(example.choices, key=known.__getitem__)
            length = int((~split.encoded[index].has_role("answer")).sum()) + known[longest]
            if context is not None and length > context:
                raise InputError(
                    f"{where_is(split, index, name)}: has {length} tokens with the choice "
                    f"{longest[:80]!r} as the answer, but the model's context is {context}. "
                    "Shorten it or raise model.context"
                )
            yield length


def supervised(split: EncodedSplit, name: str, arm: Arm, policy: str) -> tuple[EncodedSplit, int]:
    """Apply the policy for training examples without a supervised token.

    Args:
        split: for training.
        name: of the arm.
        arm: its objective decides which tokens are supervised.
        policy: ``error`` or ``drop``.

    Returns:
        The split, and the number of dropped examples.

    Raises:
        InputError: under ``error``, names the first such example.
    """
    if isinstance(arm.objective, Selective):
        return split, 0  # keeps at least one token of every example
    if arm.objective.is_by_roles():
        patterns = role_patterns(split.encoded)
        firsts = list(patterns.values())
        one_each = SupervisedExamples([split.encoded[index] for index in firsts], arm.objective)
        unsupervised = {firsts[k] for k in one_each.unsupervised()}
        if not unsupervised:
            return split, 0
        roles = {pattern for pattern, index in patterns.items() if index in unsupervised}
        empty = {k for k, encoded in enumerate(split.encoded) if encoded.roles.tobytes() in roles}
    else:
        empty = set(SupervisedExamples(split.encoded, arm.objective).unsupervised())
    if not empty:
        return split, 0
    first = min(empty)
    if policy == "error":
        where, objective = where_is(split, first, "train"), arm.objective.name
        if split.examples[first].is_plain_text:
            raise InputError(
                f"{where}: plain text without an answer, and arm {name!r} ({objective}) supervises "
                "none of its tokens. Train on it with ntp, or provide prompt and answer"
            )
        raise InputError(
            f"{where}: arm {name!r} ({objective}) supervises none of its tokens "
            f"({len(empty)} such examples). Choose an objective that covers it, or set "
            "data.unsupervised: drop"
        )
    return without(split, empty), len(empty)
