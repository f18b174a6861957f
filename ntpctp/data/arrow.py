"""Examples and encoded examples as Arrow columns, and back from a memory-mapped file.

Text, roles and ids are columns. Fields that few examples have (choices, references, source, the
messages of a chat) share one column of JSON, null for an example without any.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ntpctp.data.encoded import ROLE_CODES, Chain, EncodedExample, EncodedExamples, Lazy
from ntpctp.data.example import ROLES, Example, Message, Segment

Spans = tuple[tuple[int, int], ...]

SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("roles", pa.list_(pa.uint8())),
        ("offsets", pa.list_(pa.int32())),  # start and end of each token in turn
        ("answer_start", pa.int32()),
        ("num_merged", pa.int32()),
        ("text", pa.string()),
        ("segment_ends", pa.list_(pa.int32())),  # in characters; empty for a chat
        ("segment_roles", pa.list_(pa.uint8())),
        ("spans", pa.list_(pa.int32())),  # start and end of each marked span in turn, or null
        ("more", pa.string()),
    ]
)


def record_batch(examples: Sequence[Example], encoded: EncodedExamples) -> pa.RecordBatch:
    """Return encoded examples as one record batch of ``SCHEMA``."""
    bounds = encoded.bounds.astype(np.int32)
    segments = [segment for example in examples for segment in example.segments]
    cuts = np.cumsum([0, *(len(example.segments) for example in examples)], dtype=np.int32)
    ends = [e for ex in examples for e in accumulate([len(s.text) for s in ex.segments])]
    codes = [ROLE_CODES[segment.role] for segment in segments]
    offsets = (
        pa.nulls(len(encoded), SCHEMA.field("offsets").type)
        if encoded.offsets is None
        else pa.ListArray.from_arrays(2 * bounds, encoded.offsets.ravel())
    )
    return pa.record_batch(
        [
            pa.ListArray.from_arrays(bounds, encoded.input_ids),
            pa.ListArray.from_arrays(bounds, encoded.roles),
            offsets,
            pa.array(encoded.answer_starts),
            pa.array(encoded.num_merged),
            pa.array(encoded.texts, pa.string()),
            pa.ListArray.from_arrays(cuts, pa.array(ends, pa.int32())),
            pa.ListArray.from_arrays(cuts, pa.array(codes, pa.uint8())),
            pa.array([_flat(example.spans) for example in examples], pa.list_(pa.int32())),
            pa.array(map(_more, examples), pa.string()),
        ],
        schema=SCHEMA,
    )


def stored_split(path: Path) -> tuple[Lazy[Example], Lazy[EncodedExample]]:
    """Return the examples and encoded examples of an Arrow stream, memory-mapped.

    Raises:
        OSError, pyarrow.ArrowInvalid (a ValueError): if the file cannot be read.
    """
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
        batches = list(stream)
    return Chain([_Examples(batch) for batch in batches]), Chain([_encoded(b) for b in batches])


class _Strings(Sequence[str]):
    """A column of text that is decoded on access."""

    def __init__(self, column: pa.StringArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: Any) -> Any:
        return self._column[index].as_py()


class _Spans(Mapping[int, Spans]):
    """A column of marked spans: number of an example -> spans, for examples that have any."""

    def __init__(self, column: pa.ListArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column) - int(self._column.null_count)

    def __iter__(self) -> Iterator[int]:
        return (k for k, flat in enumerate(self._column) if flat.is_valid)

    def __getitem__(self, index: int) -> Spans:
        flat = self._column[index].as_py()
        if flat is None:
            raise KeyError(index)
        return tuple(zip(flat[::2], flat[1::2], strict=True))


def _flat(spans: Spans) -> list[int] | None:
    return [place for span in spans for place in span] or None


class _Examples(Lazy[Example]):
    """The examples of a record batch."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._text, self._ends, self._roles, self._more = (
            batch.column(name) for name in ("text", "segment_ends", "segment_roles", "more")
        )
        self._spans = _Spans(batch.column("spans"))

    def __len__(self) -> int:
        return len(self._text)

    def item(self, index: int) -> Example:
        ends, codes = self._ends[index].as_py(), self._roles[index].as_py()
        text = self._text[index].as_py() if ends else ""
        segments = tuple(
            Segment(ROLES[code], text[start:end])
            for code, start, end in zip(codes, [0, *ends], ends, strict=False)
        )
        more = json.loads(self._more[index].as_py() or "{}")
        return Example(
            segments,
            tuple(Message(*turn) for turn in more.get("messages", ())),
            tuple(more.get("choices", ())),
            more.get("answer_marker", ""),
            more.get("source", ""),
            tuple((name, answer) for name, answer in more.get("references", ())),
            self._spans.get(index, ()),
            tuple(more.get("normalise", ())),
            more.get("judge", ""),
            more.get("tools", ""),
            tuple((name, level) for name, level in more.get("strata", ())),
        )


def _more(example: Example) -> str | None:
    fields = {
        "messages": [astuple(message) for message in example.messages],
        "choices": example.choices,
        "answer_marker": example.answer_marker,
        "source": example.source,
        "references": example.references,
        "normalise": example.normalise,
        "judge": example.judge,
        "tools": example.tools,
        "strata": example.strata,
    }
    if not any(fields.values()):
        return None
    not_empty = {name: value for name, value in fields.items() if value}
    return json.dumps(not_empty, ensure_ascii=False)


def _encoded(batch: pa.RecordBatch) -> EncodedExamples:
    ids, offsets = batch.column("input_ids"), batch.column("offsets")
    return EncodedExamples(
        ids.values.to_numpy(),
        batch.column("roles").values.to_numpy(),
        ids.offsets.to_numpy().astype(np.int64),
        batch.column("answer_start").to_numpy(),
        batch.column("num_merged").to_numpy(),
        _Strings(batch.column("text")),
        offsets.values.to_numpy().reshape(-1, 2) if offsets.null_count == 0 else None,
        _Spans(batch.column("spans")),
    )
