"""From text to token ids that know their role.

Segments are encoded one by one and their ids joined, so that training and decoding see the same
prompt ids; a chat is rendered whole by the tokenizer's own template and character offsets decide.
The end-of-sequence token belongs to the answer: stopping is learned.

Shape letter: T = tokens of one example.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ntpctp.errors import InputError
from ntpctp.tasks.example import ROLES, Example, Role

ROLE_CODES: dict[Role, int] = {role: code for code, role in enumerate(ROLES)}

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One encoded example.

    Attributes:
        input_ids: int64, shape (T,).
        roles: uint8, shape (T,): the ``ROLE_CODES`` of every token.
        answer_start: index of the first token after the prompt: where decoding takes over.
        num_merged: tokens that straddle two segments (only a chat template can make them); each
            counts as part of the later one.
        text: what the tokens stand for, prompt, reasoning and answer in one.
        offsets: int64, shape (T, 2): first character and the one behind the last, in ``text``; both
            alike for special tokens. None where the tokenizer does not tell.
        marked: character spans that the data mark as critical, in ``text``.
    """

    input_ids: NDArray[np.int64]
    roles: NDArray[np.uint8]
    answer_start: int
    num_merged: int = 0
    text: str = ""
    offsets: NDArray[np.int64] | None = None
    marked: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.input_ids)

    def has_role(self, *roles: Role) -> NDArray[np.bool_]:
        """Which tokens have one of ``roles``: bool, shape (T,)."""
        return np.isin(self.roles, [ROLE_CODES[role] for role in roles])


def closed_tokenizer(
    texts: Iterable[str], pieces: Literal["characters", "words"]
) -> PreTrainedTokenizerFast:
    """Build a tokenizer whose vocabulary is exactly the pieces that occur in ``texts``.

    Args:
        texts: all text that will ever be encoded.
        pieces: ``characters``: one token a character, decoding is exact. ``words``: letters and
            digits that belong together, every other sign for itself; white space is not kept, and
            decoding puts one space between words and none before punctuation.
    """
    if pieces == "characters":
        cut: pre_tokenizers.PreTokenizer = pre_tokenizers.Split(
            Regex(r"[\s\S]"), behavior="isolated"
        )
        join: decoders.Decoder = decoders.Fuse()
    else:
        cut = pre_tokenizers.Whitespace()
        # A prefix that cannot occur: the usual "##" would be taken out of the text.
        join = decoders.WordPiece(prefix="\x00", cleanup=True)
    found = {piece for text in texts for piece, _ in cut.pre_tokenize_str(text)}
    vocabulary = [PAD, EOS, UNKNOWN, *sorted(found - {PAD, EOS, UNKNOWN})]
    tokenizer = Tokenizer(
        models.WordLevel({piece: index for index, piece in enumerate(vocabulary)}, UNKNOWN)
    )
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = join
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN
    )


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """Load a Hugging Face tokenizer from a directory or the hub.

    Raises:
        InputError: if there is none, or it has no end-of-sequence token.
    """
    if not Path(source).exists() and source.count("/") > 1:
        raise InputError(f"tokenizer: no directory {source}; give a directory or a hub id")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"tokenizer: cannot load one from {source}: {error}") from error
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"tokenizer {source} has no end-of-sequence token, so stopping cannot be learned; "
            "set eos_token in its tokenizer_config.json"
        )
    return tokenizer


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer starts every text with its beginning-of-sequence token."""
    return tokenizer.bos_token_id is not None and tokenizer("a").input_ids[:1] == [
        tokenizer.bos_token_id
    ]


def encode(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, split: str = ""
) -> list[Row]:
    """Encode ``examples``, in order.

    Args:
        examples: with segments or with chat messages.
        tokenizer: has an end-of-sequence token.
        split: named in error messages.

    Raises:
        InputError: if a piece of text has no token, an answer has no token, or nothing precedes
            the answer; names the example.
    """
    texts = [segment.text for example in examples for segment in example.segments]
    pieces = iter(_encode_texts(texts, tokenizer))
    start = [tokenizer.bos_token_id] if adds_bos(tokenizer) else []
    rows = []
    for number, example in enumerate(examples):
        where = example.source or f"{split} example {number}"
        if example.messages:
            row = _encode_chat(example, tokenizer, where)
        else:
            row = _join(example, [next(pieces) for _ in example.segments], start, tokenizer, where)
        _check(row, example, tokenizer, where)
        rows.append(row)
    return rows


_Piece = tuple[list[int], NDArray[np.int64] | None]


def _encode_texts(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[_Piece]:
    """Return ids and offsets of each text; offsets are None for tokenizers that do not tell."""
    if not texts:
        return []
    fast = bool(tokenizer.is_fast)
    encoding = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=fast)
    if not fast:
        return [(ids, None) for ids in encoding.input_ids]
    return [
        (ids, np.array(offsets, np.int64).reshape(-1, 2))
        for ids, offsets in zip(encoding.input_ids, encoding.offset_mapping, strict=True)
    ]


def _join(
    example: Example,
    pieces: Sequence[_Piece],
    start: list[int],
    tokenizer: PreTrainedTokenizerBase,
    where: str,
) -> Row:
    """Join the encoded segments of an example, with the special tokens around them."""
    ids, text = list(start), ""
    roles = [ROLE_CODES["prompt"]] * len(start)
    offsets = [np.zeros((len(start), 2), np.int64)]
    answer_start = len(start)
    for segment, (piece, places) in zip(example.segments, pieces, strict=True):
        if segment.role == "answer" and not piece:
            raise InputError(f"{where}: the answer {segment.text!r} has no token")
        ids += piece
        roles += [ROLE_CODES[segment.role]] * len(piece)
        if places is not None:
            offsets.append(places + len(text))
        text += segment.text
        if segment.role == "prompt":
            answer_start = len(ids)
    ids.append(tokenizer.eos_token_id)
    roles.append(ROLE_CODES["answer"])
    offsets.append(np.full((1, 2), len(text)))
    return Row(
        np.array(ids, np.int64),
        np.array(roles, np.uint8),
        answer_start,
        text=text,
        offsets=np.concatenate(offsets) if all(p is not None for _, p in pieces) else None,
        marked=example.spans,
    )


def trim_prompt(row: Row, length: int, where: str) -> Row:
    """Cut the prompt of ``row`` from the left until it has ``length`` tokens.

    A beginning-of-sequence token is cut like any other; what follows the prompt is never cut.

    Raises:
        InputError: if no token of the prompt would be left.
    """
    cut = len(row) - length
    if cut >= row.answer_start:
        raise InputError(
            f"{where}: reasoning, answer and end of sequence alone have "
            f"{len(row) - row.answer_start} tokens and do not fit into {length} with a token of "
            "the prompt; raise model.context or remove the example"
        )
    return replace(
        row,
        input_ids=row.input_ids[cut:],
        roles=row.roles[cut:],
        answer_start=row.answer_start - cut,
        offsets=None if row.offsets is None else row.offsets[cut:],
    )


def _check(row: Row, example: Example, tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown != tokenizer.eos_token_id and unknown in row.input_ids:
        text = " ".join(example.key)
        raise InputError(
            f"{where}: the tokenizer has no token for a part of {text[:200]!r}; use a tokenizer "
            "that covers it, or a closed vocabulary built over all splits"
        )
    if row.answer_start == 0:
        raise InputError(
            f"{where}: nothing precedes the answer, so its first token cannot be predicted; give "
            "a prompt, or a tokenizer that adds a beginning-of-sequence token"
        )


def _encode_chat(example: Example, tokenizer: PreTrainedTokenizerBase, where: str) -> Row:
    """Render the whole chat by the template; offsets say which turn a token belongs to."""
    if not tokenizer.chat_template:
        raise InputError(
            f"{where}: has chat messages, but the tokenizer has no chat template; use one that "
            "has, or give prompt and answer"
        )
    turns = [{"role": message.role, "content": message.content} for message in example.messages]

    def render(upto: int, generation: bool = False) -> str:
        return str(
            tokenizer.apply_chat_template(
                turns[:upto], tokenize=False, add_generation_prompt=generation
            )
        )

    whole = render(len(turns))
    spans: list[tuple[int, int, Role]] = []
    for index, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        start = len(render(index, generation=True)) if index else 0
        end = len(render(index + 1))
        if not (
            whole.startswith(render(index, generation=True)) and render(index + 1) == whole[:end]
        ):
            raise InputError(
                f"{where}: the chat template renders turn {index + 1} differently once later "
                "turns follow, so its tokens cannot be told apart; use a template whose output "
                "only grows"
            )
        spans.append((start, end, "answer" if index == len(turns) - 1 else "assistant"))
    encoding = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = list(encoding.input_ids), encoding.offset_mapping
    roles = [ROLE_CODES["prompt"]] * len(ids)
    num_merged = 0
    for token, (first, last) in enumerate(offsets):
        for start, end, role in spans:
            # The later segment owns a token that straddles the boundary.
            if start < last <= end:
                roles[token] = ROLE_CODES[role]
                num_merged += first < start
            elif first < end < last:
                num_merged += 1
    # White space that the template puts behind the end of a turn is never generated.
    for token in reversed(range(len(ids))):
        ends_turn = token + 1 == len(ids) or roles[token + 1] == ROLE_CODES["prompt"]
        if ends_turn and not whole[slice(*offsets[token])].strip():
            roles[token] = ROLE_CODES["prompt"]
    while roles[-1] == ROLE_CODES["prompt"] and offsets[len(ids) - 1][0] >= spans[-1][0]:
        ids.pop(), roles.pop()
    if ids[-1] != tokenizer.eos_token_id:
        ids.append(tokenizer.eos_token_id)
        roles.append(ROLE_CODES["answer"])
    codes = np.array(roles, np.uint8)
    places = np.array([*offsets[: len(ids)], (len(whole), len(whole))], np.int64)[: len(ids)]
    return Row(
        np.array(ids, np.int64),
        codes,
        int(np.argmax(codes == ROLE_CODES["answer"])),
        num_merged,
        whole,
        places,
        example.spans,
    )
