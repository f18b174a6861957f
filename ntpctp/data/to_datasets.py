"""Examples as a ``datasets.DatasetDict``, for other tools to train on.

Columns, where an example of the split has them:

    text                                            all that the model reads, as one string
    prompt, reasoning, answer, choices, spans       of an example made of segments
    messages, tools                                 of a chat
    hops, depth, ...                                strata, each under its own name
    input_ids, roles                                with a tokenizer: token ids, and a role for each

The task ``dataset`` reads all but the last line back (``Dataset.of``).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from ntpctp.data.example import ROLES, Example
from ntpctp.data.tokenize import encode_examples

_CHUNK = 5000  # examples encoded at a time: bounds the memory


def to_datasets(
    splits: Mapping[str, Sequence[Example]], tokenizer: PreTrainedTokenizerBase | None = None
) -> datasets.DatasetDict:
    """Return the examples of all splits; see ``Task.to_datasets``."""
    return datasets.DatasetDict(
        {
            name: datasets.Dataset(_table(examples, tokenizer, name))
            for name, examples in splits.items()
        }
    )


def _table(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase | None, split: str
) -> pa.Table:
    """Return a split as one table; a column that is null in all of it is left out."""
    chunks = [pa.Table.from_pylist(list(map(_fields, chunk))) for chunk in _chunks(examples)]
    if tokenizer is not None:
        first = 0
        for number, chunk in enumerate(_chunks(examples)):
            chunks[number] = _with_tokens(chunks[number], chunk, tokenizer, split, first)
            first += len(chunk)
    table = pa.concat_tables(chunks, promote_options="permissive").combine_chunks()
    return table.select([n for n in table.column_names if table[n].null_count < len(table)])


def _chunks(examples: Sequence[Example]) -> Iterator[list[Example]]:
    rest = iter(examples)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk


def _fields(example: Example) -> dict[str, Any]:
    """Return an example as the row of a table."""
    is_chat, is_plain = bool(example.messages), example.is_plain_text
    fields = {
        "text": None if is_chat else "".join(segment.text for segment in example.segments),
        "prompt": None if is_chat or is_plain else example.text("prompt"),
        "reasoning": example.text("reasoning") or None,
        "answer": None if is_chat or is_plain else example.answer,
        "choices": list(example.choices) or None,
        "spans": [list(span) for span in example.spans] or None,
        "messages": [
            {"role": m.role, "content": m.content, **json.loads(m.more or "{}")}
            for m in example.messages
        ]
        or None,
        "tools": json.loads(example.tools) if example.tools else None,
    }
    return dict(example.strata) | fields


def _with_tokens(
    table: pa.Table,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    split: str,
    first: int,
) -> pa.Table:
    encoded = encode_examples(examples, tokenizer, split, first)
    bounds = pa.array(encoded.bounds.astype(np.int32))
    names = pa.DictionaryArray.from_arrays(encoded.roles, pa.array(ROLES)).cast(pa.string())
    table = table.set_column(
        table.column_names.index("text"), "text", pa.array(encoded.texts, pa.string())
    )
    table = table.append_column("input_ids", pa.ListArray.from_arrays(bounds, encoded.input_ids))
    return table.append_column("roles", pa.ListArray.from_arrays(bounds, names))
