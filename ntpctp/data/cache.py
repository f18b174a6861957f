"""The cache of encoded tasks: created in chunks, stored as Arrow files, memory-mapped.

    <cache>/<key>/record.json       the content of the key, checksums, fingerprints
    <cache>/<key>/<split>.arrow     an Arrow stream, as ``datasets.Dataset.from_file`` reads it
    <cache>/<key>/tokenizer/        an ordinary Hugging Face tokenizer

The key is a hash of the task's options, the content of its files, the tokenizer, and the code that
creates and encodes examples. A directory may be deleted at any time.
"""

import gc
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from ntpctp._core import rng
from ntpctp._core.files import TEMPORARY, atomic_directory, fingerprint, sha256_of
from ntpctp._core.locks import alone
from ntpctp._core.records import read_sealed, write_sealed
from ntpctp.data.arrow import SCHEMA, record_batch, stored_split
from ntpctp.data.encoded import Chain, EncodedExample, EncodedExamples
from ntpctp.data.example import Example
from ntpctp.data.leakage import check_disjoint
from ntpctp.data.tasks import Task
from ntpctp.data.tokenize import Pieces, Vocabulary, encode_examples, fingerprint_of, load_tokenizer

FORMAT = 4  # increases with every change of the file format
_CHUNK = 5000  # examples encoded at a time: bounds the memory
_RECORD = "record.json"


@dataclass(frozen=True)
class Split:
    """The examples of a split and their encodings, in order; ``fingerprint`` is a hash of both."""

    examples: Sequence[Example]
    encoded: Sequence[EncodedExample]
    fingerprint: str


@dataclass(frozen=True)
class EncodedTask:
    """All splits of a task by name, ``train`` first, and the tokenizer that encoded them."""

    tokenizer: PreTrainedTokenizerBase
    splits: Mapping[str, Split]


def encode_task(
    task: Task, tokenizer: Pieces | PreTrainedTokenizerBase, cache: Path | None = None
) -> EncodedTask:
    """Create, check and encode all examples of ``task``, or load them from the cache.

    Args:
        task: the source of examples.
        tokenizer: a tokenizer, or how to cut the text for a closed vocabulary.
        cache: directory of encoded tasks; None: keep the task in memory.

    Returns:
        The splits. From a cache they are memory-mapped and occupy no memory; a damaged entry is
        replaced. Without a cache, or where a change of the examples could not be detected (a Python
        function, a data set of ``datasets``, a slow tokenizer), they are in memory.

    Raises:
        InputError: for an invalid example, or one in two splits.
    """
    key = _key(task, tokenizer) if cache is not None else None
    if cache is None or key is None:
        return _made(task, tokenizer, None)
    directory = cache / fingerprint(key)[:32]
    with alone(directory.with_name(f".{directory.name}.lock")):
        return _read(directory, key) or _stored(task, tokenizer, directory, key)


def _stored(
    task: Task,
    tokenizer: Pieces | PreTrainedTokenizerBase,
    directory: Path,
    key: Mapping[str, Any],
) -> EncodedTask:
    """Create ``directory``; the caller holds its lock."""
    for unfinished in directory.parent.glob(f"{TEMPORARY}*-{directory.name}"):
        shutil.rmtree(unfinished, ignore_errors=True)  # by a killed process
    with atomic_directory(directory) as temporary:
        made = _made(task, tokenizer, temporary)
        made.tokenizer.save_pretrained(temporary / "tokenizer")
        record = {
            "key": key,
            "splits": {name: split.fingerprint for name, split in made.splits.items()},
            "sha256": {
                str(path.relative_to(temporary)): sha256_of(path)
                for path in sorted(temporary.rglob("*"))
                if path.is_file()
            },
        }
        write_sealed(temporary / _RECORD, record)
    # Read back: memory-mapped, as at every later start.
    return _read(directory, key) or made


def _made(
    task: Task, tokenizer: Pieces | PreTrainedTokenizerBase, directory: Path | None
) -> EncodedTask:
    """Create and encode all splits, in Arrow files if ``directory`` is given."""
    examples = task.all_splits()
    with _garbage_collector_paused():
        return _encoded(examples, task.further_examples(), tokenizer, directory)


@contextmanager
def _garbage_collector_paused() -> Iterator[None]:
    """Pause the search for cycles, which takes a third of the time of creating many objects."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _encoded(
    examples: Mapping[str, Sequence[Example]],
    further: Iterator[Example],
    tokenizer: Pieces | PreTrainedTokenizerBase,
    directory: Path | None,
) -> EncodedTask:
    if isinstance(tokenizer, str):
        vocabulary = Vocabulary(tokenizer)

        def see(example: Example) -> None:
            for segment in example.segments:
                vocabulary.add(segment.text)
            for choice in example.choices:
                vocabulary.add(choice)

        check_disjoint(examples, see)
        for example in further:
            see(example)
        tokenizer = vocabulary.tokenizer()
    else:
        check_disjoint(examples)
    return EncodedTask(
        tokenizer,
        {
            name: _made_split(name, of_split, tokenizer, directory)
            for name, of_split in examples.items()
        },
    )


def _made_split(
    name: str,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    directory: Path | None,
) -> Split:
    hashed = hashlib.sha256()
    parts: list[EncodedExamples] = []
    path = None if directory is None else directory / f"{name}.arrow"
    with nullcontext() if path is None else pa.ipc.new_stream(str(path), SCHEMA) as stream:
        for chunk, encoded in _chunks(examples, tokenizer, name):
            _hash(hashed, chunk, encoded)
            if stream is None:
                parts.append(encoded)
            else:
                stream.write_batch(record_batch(chunk, encoded))
    if path is not None:
        return Split(*stored_split(path), hashed.hexdigest())
    return Split(examples, Chain(parts), hashed.hexdigest())


def _chunks(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, name: str
) -> Iterator[tuple[list[Example], EncodedExamples]]:
    rest, first = iter(examples), 0
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk, encode_examples(chunk, tokenizer, name, first)
        first += len(chunk)


def _hash(hashed: Any, chunk: Sequence[Example], encoded: EncodedExamples) -> None:
    """Add a chunk to the fingerprint: roles, ids, and all fields of the examples but the source."""
    content = [
        [e.key, e.choices, e.answer_marker, e.references, e.spans, e.normalise, e.judge, e.strata]
        for e in chunk
    ]
    hashed.update(json.dumps(content).encode())
    for numbers in (encoded.input_ids, encoded.roles, np.diff(encoded.bounds)):
        hashed.update(numbers.tobytes())


def _key(task: Task, tokenizer: Pieces | PreTrainedTokenizerBase) -> dict[str, Any] | None:
    """Return all that determines the content of an entry; None if a change cannot be detected."""
    source = task.source_fingerprint()
    known = tokenizer if isinstance(tokenizer, str) else fingerprint_of(tokenizer)
    if source is None or known is None:
        return None
    # The code that creates and encodes examples: all of ``data/``, and the random streams.
    code = [*Path(__file__).parent.rglob("*.py"), Path(rng.__file__)]
    return {
        "format": FORMAT,
        "task": task.model_dump(mode="json"),
        "source": source,
        "tokenizer": known,
        "code": fingerprint([sha256_of(path) for path in sorted(code)]),
        "versions": {name: version(name) for name in ("numpy", "tokenizers", "transformers")},
    }


def _read(directory: Path, key: Mapping[str, Any]) -> EncodedTask | None:
    """Return the stored task; None if it is missing, damaged or of another key."""
    try:
        record = read_sealed(directory / _RECORD, "it is replaced")
        if record["key"] != key:
            return None
        for name, checksum in record["sha256"].items():
            if sha256_of(directory / name) != checksum:
                return None
        splits = {
            name: Split(*stored_split(directory / f"{name}.arrow"), of_split)
            for name, of_split in record["splits"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return EncodedTask(load_tokenizer(str(directory / "tokenizer")), splits)
