"""Encoding of examples as token ids, each with a role.

Each segment is encoded separately and the ids are concatenated, so that training and decoding use
the same prompt ids. A chat is rendered as a whole by the tokenizer's template. The end-of-sequence
token belongs to the answer: the model learns to stop.

Shape letters: N = examples, S = tokens of all of them.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ntpctp._core.errors import InputError
from ntpctp._core.files import fingerprint
from ntpctp._core.hub import read_tokenizer
from ntpctp.data.chat import encode_chat
from ntpctp.data.encoded import ROLE_CODES, EncodedExample, EncodedExamples, trim_prompt
from ntpctp.data.example import Example

_TOKENIZER_FILES = ("*token*", "vocab*", "*.model", "*.tiktoken", "spiece*")
PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"

__all__ = [
    "ROLE_CODES",
    "EncodedExample",
    "Vocabulary",
    "adds_bos",
    "closed_tokenizer",
    "encode",
    "encode_examples",
    "fingerprint_of",
    "load_tokenizer",
    "trim_prompt",
    "unknown_token_id",
]


Pieces = Literal["characters", "words"]


class Vocabulary:
    """A closed vocabulary: the pieces of all texts that were added.

    Args:
        pieces: ``characters``: one token per character; decoding is exact. ``words``: one token per
            run of letters and digits, and per other character; white space is not kept, and
            decoding puts one space between words and none before punctuation.
    """

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._texts: set[str] = set()

    def add(self, text: str) -> None:
        """Add the pieces of ``text``."""
        # Spaces always separate words; each distinct word is cut once, in ``tokenizer``.
        self._texts.update(text if self._pieces == "characters" else text.split(" "))

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Return a tokenizer whose vocabulary consists of exactly the added pieces."""
        if self._pieces == "characters":
            cut: pre_tokenizers.PreTokenizer = pre_tokenizers.Split(
                Regex(r"[\s\S]"), behavior="isolated"
            )
            join: decoders.Decoder = decoders.Fuse()
        else:
            cut = pre_tokenizers.Whitespace()
            # A prefix that cannot occur: the usual "##" would be removed from the text.
            join = decoders.WordPiece(prefix="\x00", cleanup=True)
        found = {piece for text in self._texts for piece, _ in cut.pre_tokenize_str(text)}
        vocabulary = [PAD, EOS, UNKNOWN, *sorted(found - {PAD, EOS, UNKNOWN})]
        tokenizer = Tokenizer(
            models.WordLevel({piece: index for index, piece in enumerate(vocabulary)}, UNKNOWN)
        )
        tokenizer.pre_tokenizer = cut
        tokenizer.decoder = join
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN
        )


def closed_tokenizer(texts: Iterable[str], pieces: Pieces) -> PreTrainedTokenizerFast:
    """Build a tokenizer whose vocabulary is exactly the pieces of ``texts``; see ``Vocabulary``."""
    vocabulary = Vocabulary(pieces)
    for text in texts:
        vocabulary.add(text)
    return vocabulary.tokenizer()


def fingerprint_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return a hash of all settings that determine token ids; None for a slow tokenizer."""
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return None
    special = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id
    return fingerprint([tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template, special])


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """Load a Hugging Face tokenizer from a directory or the Hub.

    Raises:
        InputError: if the tokenizer is missing, invalid, or has no end-of-sequence token.
    """
    if not Path(source).exists() and source.count("/") > 1:
        raise InputError(f"tokenizer: no directory {source}. Give a directory or a Hub id")
    files = [file for name in _TOKENIZER_FILES for file in Path(source).glob(name)]
    if Path(source).is_dir() and not files:
        raise InputError(
            f"tokenizer: no tokenizer files in {source} (tokenizer.json, vocab.json, ...). Save "
            "a tokenizer there, or name another one"
        )
    try:
        tokenizer = read_tokenizer(source)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot load a tokenizer from {source}: {error}") from error
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"tokenizer {source} has no end-of-sequence token, so a model cannot learn to stop. "
            "Set eos_token in its tokenizer_config.json"
        )
    return tokenizer


def unknown_token_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the id of the unknown token; None if the vocabulary covers all text.

    GPT-2's tokenizer, which covers all text, names the end of sequence as its unknown token.
    """
    unknown = tokenizer.unk_token_id
    return None if unknown is None or unknown == tokenizer.eos_token_id else int(unknown)


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer begins every text with a beginning-of-sequence token."""
    return tokenizer.bos_token_id is not None and tokenizer("a").input_ids[:1] == [
        tokenizer.bos_token_id
    ]


def encode(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    split: str = "",
    *,
    allow_unknown: bool = False,
) -> list[EncodedExample]:
    """Encode ``examples``, in order; see ``encode_examples``."""
    if not examples:
        return []
    return list(encode_examples(examples, tokenizer, split, allow_unknown=allow_unknown))


def encode_examples(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    split: str = "",
    first: int = 0,
    *,
    allow_unknown: bool = False,
) -> EncodedExamples:
    """Encode ``examples``, in order, as flat arrays.

    Args:
        examples: with segments or with chat messages.
        tokenizer: has an end-of-sequence token.
        split: named in error messages.
        first: number of the first example, for error messages.
        allow_unknown: whether text without a token may become the unknown token.

    Raises:
        InputError: if text has no token (unless allowed), an answer has no token or contains the
            end of sequence, or no token precedes the answer; names the example.
    """
    where = [example.source or f"{split} example {first + k}" for k, example in enumerate(examples)]
    if not any(example.messages for example in examples):
        encoded = _encode_segments(examples, tokenizer, where)
    else:
        encoded = EncodedExamples.of(
            [
                encode_chat(example, tokenizer, place)
                if example.messages
                else _encode_segments([example], tokenizer, [place])[0]
                for example, place in zip(examples, where, strict=True)
            ]
        )
    _check(encoded, examples, tokenizer, where, allow_unknown)
    return encoded


class _Tokens(NamedTuple):
    """The tokens of all segments but special ones; segments are numbered over all examples."""

    ids: NDArray[np.int32]  # (S,)
    segment: NDArray[np.int64]  # (S,)
    offsets: NDArray[np.int32] | None  # (S, 2), within the segment


def _tokens(segments: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase) -> _Tokens:
    """Encode every segment of every example separately."""
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        texts = [text for of_example in segments for text in of_example]
        pieces = tokenizer(texts, add_special_tokens=False).input_ids if texts else []
        return _Tokens(
            np.fromiter(chain.from_iterable(pieces), np.int32),
            np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces]),
            None,
        )
    # Calling the wrapper builds a dict and lists for each text, which takes four times as long.
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    # "Pretokenized": each segment is encoded as a separate text.
    encodings = backend.encode_batch(segments, is_pretokenized=True, add_special_tokens=False)
    first = np.cumsum([0, *map(len, segments)])[:-1]
    sizes = [len(encoding) for encoding in encodings]
    total = sum(sizes)
    places = chain.from_iterable(chain.from_iterable(e.offsets for e in encodings))
    return _Tokens(
        np.fromiter(chain.from_iterable(e.ids for e in encodings), np.int32, total),
        np.fromiter(chain.from_iterable(e.word_ids for e in encodings), np.int64, total)
        + np.repeat(first, sizes),
        np.fromiter(places, np.int32, 2 * total).reshape(-1, 2),
    )


def _encode_segments(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, where: Sequence[str]
) -> EncodedExamples:
    """Concatenate the encoded segments of each example, and add the special tokens."""
    segments = [segment for example in examples for segment in example.segments]
    tokens = _tokens([[s.text for s in e.segments] for e in examples], tokenizer)
    example_of = np.repeat(np.arange(len(examples)), [len(e.segments) for e in examples])
    role_of = np.array([ROLE_CODES[s.role] for s in segments], np.uint8)
    num_tokens = np.bincount(tokens.segment, minlength=len(segments))
    empty = np.flatnonzero((num_tokens == 0) & (role_of == ROLE_CODES["answer"]))
    if len(empty):
        place, text = where[example_of[empty[0]]], segments[empty[0]].text
        raise InputError(f"{place}: the answer {text!r} has no token")
    start = [tokenizer.bos_token_id] if adds_bos(tokenizer) else []
    sizes = np.bincount(example_of, num_tokens, len(examples)).astype(np.int64)
    bounds = np.concatenate([[0], np.cumsum(sizes + len(start) + 1)])
    total = int(bounds[-1])
    # Shift each token by the special tokens of its own example and of those before.
    into = np.arange(len(tokens.ids))
    into += np.repeat(np.arange(len(examples)) * (len(start) + 1) + len(start), sizes)
    ids = np.full(total, tokenizer.eos_token_id, np.int32)
    ids[into] = tokens.ids
    roles = np.full(total, ROLE_CODES["prompt"], np.uint8)
    roles[into] = role_of[tokens.segment]
    last_role = role_of[np.cumsum([len(e.segments) for e in examples]) - 1]
    roles[bounds[1:] - 1] = last_role
    if start:
        ids[bounds[:-1]] = start
    texts = ["".join([s.text for s in e.segments]) for e in examples]
    offsets = None
    if tokens.offsets is not None:
        # Characters before a segment within its own example.
        before = np.cumsum([0, *(len(s.text) for s in segments)])[:-1]
        characters = np.array([len(text) for text in texts], np.int64)
        before -= np.repeat(np.cumsum(characters) - characters, np.bincount(example_of))
        offsets = np.zeros((total, 2), np.int32)
        offsets[into] = tokens.offsets + before[tokens.segment, None]
        offsets[bounds[1:] - 1] = characters[:, None]
    return EncodedExamples(
        ids,
        roles,
        bounds,
        _answer_starts(examples, role_of, example_of, num_tokens, len(start)),
        np.zeros(len(examples), np.int32),
        texts,
        offsets,
        {k: example.spans for k, example in enumerate(examples) if example.spans},
    )


def _answer_starts(
    examples: Sequence[Example],
    role_of: NDArray[np.uint8],
    example_of: NDArray[np.int64],
    num_tokens: NDArray[np.int64],
    num_special: int,
) -> NDArray[np.int32]:
    """Return the first token after the last segment of the input: int32, shape (N,).

    In plain text that is the end of sequence: no token of it is decoded.
    """
    given = np.isin(role_of, [ROLE_CODES["prompt"], ROLE_CODES["text"]])
    last_given = np.full(len(examples), -1)
    np.maximum.at(last_given, example_of[given], np.flatnonzero(given))
    counted = np.arange(len(role_of)) <= last_given[example_of]
    starts = np.bincount(example_of, num_tokens * counted, len(examples))
    return (starts + num_special).astype(np.int32)


def _check(
    encoded: EncodedExamples,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    where: Sequence[str],
    allow_unknown: bool,
) -> None:
    unknown = unknown_token_id(tokenizer)
    if unknown is not None and not allow_unknown:
        places = np.flatnonzero(encoded.input_ids == unknown)
        if len(places):
            index = int(np.searchsorted(encoded.bounds, places[0], side="right")) - 1
            text = " ".join(filter(None, examples[index].key))
            raise InputError(
                f"{where[index]}: the tokenizer has no token for a part of {text[:200]!r}. Use a "
                "tokenizer that covers it, or a closed vocabulary built over all splits"
            )
    inside = np.isin(encoded.roles, [ROLE_CODES["reasoning"], ROLE_CODES["answer"]])
    inside[encoded.bounds[1:] - 1] = False
    places = np.flatnonzero(inside & (encoded.input_ids == tokenizer.eos_token_id))
    if len(places):
        index = int(np.searchsorted(encoded.bounds, places[0], side="right")) - 1
        raise InputError(
            f"{where[index]}: reasoning or answer contains the end of sequence "
            f"{tokenizer.eos_token!r} as text, at which decoding would stop. Remove or rewrite it"
        )
    unpreceded = np.flatnonzero(encoded.answer_starts == 0)
    if len(unpreceded):
        raise InputError(
            f"{where[unpreceded[0]]}: no token precedes the answer, so its first token cannot be "
            "predicted. Give a prompt, or a tokenizer that adds a beginning-of-sequence token"
        )
