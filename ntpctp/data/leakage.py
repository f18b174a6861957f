"""Checks for leakage: no example may be in two splits."""

from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from ntpctp._core.errors import InputError
from ntpctp.data.example import Example


def check_disjoint(
    splits: Mapping[str, Sequence[Example]],
    see: Callable[[Example], None] = lambda example: None,
) -> None:
    """Check that no example is in two of ``splits``, which are given by name, ``train`` first.

    Held-out splits of different parts of a mixture (``part.split``) may share examples, since they
    are measured separately.

    Args:
        splits: examples by the name of their split.
        see: called with every example, to use the same pass for other purposes.

    Raises:
        InputError: names a shared example and both splits. Costs one pass over all splits and 8
            bytes per example; examples with equal hashes are compared in full.
    """
    hashes = {name: _hashes(examples, see) for name, examples in splits.items()}
    for one, other in combinations(splits, 2):
        if one == "train":
            advice = " A held-out split must not be trained on."
        elif one.rpartition(".")[0] == other.rpartition(".")[0]:
            advice = ""
        else:
            continue
        _refuse_shared(
            (one, splits[one], hashes[one]), (other, splits[other], hashes[other]), advice
        )


def check_unseen(
    trained: Mapping[str, Sequence[Example]], held_out: Mapping[str, Sequence[Example]]
) -> None:
    """Check that no held-out example is in a training split of any stage.

    Raises:
        InputError: as ``check_disjoint``, at the same cost.
    """
    hashes = {name: _hashes(examples) for name, examples in {**trained, **held_out}.items()}
    for one, other in product(trained, held_out):
        _refuse_shared(
            (one, trained[one], hashes[one]),
            (other, held_out[other], hashes[other]),
            " A held-out split must not be trained on, in an earlier stage either.",
        )


_Hashed = tuple[str, Sequence[Example], NDArray[np.int64]]
"""A split: name, examples, and the hash of each."""


def _hashes(
    examples: Sequence[Example], see: Callable[[Example], None] = lambda example: None
) -> NDArray[np.int64]:
    hashes = array("q")
    for example in examples:
        hashes.append(hash(example.key))
        see(example)
    return np.frombuffer(hashes, np.int64)


def _refuse_shared(one: _Hashed, other: _Hashed, advice: str) -> None:
    suspects = np.intersect1d(one[2], other[2])
    if not len(suspects):
        return
    seen: dict[tuple[str, ...], str] = {}
    for number in np.flatnonzero(np.isin(one[2], suspects)).tolist():
        example = one[1][number]
        seen.setdefault(example.key, example.source or f"example {number}")
    for number in np.flatnonzero(np.isin(other[2], suspects)).tolist():
        example = other[1][number]
        if example.key in seen:
            raise InputError(
                f"splits {one[0]!r} ({seen[example.key]}) and {other[0]!r} "
                f"({example.source or f'example {number}'}) share an example: "
                f"{' '.join(filter(None, example.key))[:200]!r}.{advice} Remove it from one of them"
            )
