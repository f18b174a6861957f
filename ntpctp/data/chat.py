"""Encoding of chats: the tokenizer's template renders them, character offsets give the roles."""

import json

import numpy as np
from transformers import PreTrainedTokenizerBase

from ntpctp._core.errors import InputError
from ntpctp.data.encoded import ROLE_CODES, EncodedExample
from ntpctp.data.example import Example, Role


def encode_chat(example: Example, tokenizer: PreTrainedTokenizerBase, where: str) -> EncodedExample:
    """Render the whole chat by the template, and assign each token to a turn by its offsets.

    Args:
        example: with messages.
        tokenizer: a fast tokenizer with a chat template.
        where: source of the example, for the error message.

    Raises:
        InputError: if the tokenizer has no template, or a further turn changes how the template
            renders those before it.
    """
    if not tokenizer.chat_template:
        raise InputError(
            f"{where}: has chat messages, but the tokenizer has no chat template. Use a tokenizer "
            "with one, or give prompt and answer"
        )
    turns = [
        {"role": message.role, "content": message.content, **json.loads(message.more or "{}")}
        for message in example.messages
    ]
    tools = json.loads(example.tools) if example.tools else None

    def render(upto: int, generation: bool = False) -> str:
        return str(
            tokenizer.apply_chat_template(
                turns[:upto], tools=tools, tokenize=False, add_generation_prompt=generation
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
                "turns follow, so no token can be assigned to a turn. Use a template that renders "
                "a turn the same way whatever follows"
            )
        spans.append((start, end, "answer" if index == len(turns) - 1 else "assistant"))
    encoding = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = list(encoding.input_ids), list(encoding.offset_mapping)
    roles = [ROLE_CODES["prompt"]] * len(ids)
    num_merged = 0
    for token, (first, last) in enumerate(offsets):
        for start, end, role in spans:
            # A token that straddles a boundary belongs to the later segment.
            if start < last <= end:
                roles[token] = ROLE_CODES[role]
                num_merged += first < start
            elif first < end < last:
                num_merged += 1
    # White space that the template adds after the end of a turn is never generated.
    for token in reversed(range(len(ids))):
        ends_turn = token + 1 == len(ids) or roles[token + 1] == ROLE_CODES["prompt"]
        if ends_turn and not whole[slice(*offsets[token])].strip():
            roles[token] = ROLE_CODES["prompt"]
    while roles[-1] == ROLE_CODES["prompt"] and offsets[len(ids) - 1][0] >= spans[-1][0]:
        ids.pop(), roles.pop(), offsets.pop()
    if ids[-1] != tokenizer.eos_token_id:
        ids.append(tokenizer.eos_token_id)
        roles.append(ROLE_CODES["answer"])
        offsets.append((len(whole), len(whole)))
    codes = np.array(roles, np.uint8)
    return EncodedExample(
        np.array(ids, np.int64),
        codes,
        int(np.argmax(codes == ROLE_CODES["answer"])),
        num_merged,
        whole,
        np.array(offsets, np.int64),
        example.spans,
    )
