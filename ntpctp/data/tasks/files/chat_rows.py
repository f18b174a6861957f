"""Reading the turns of a chat, and its tools, from a row of a user's file.

    {"role": "user", "content": "2+2?"}
    {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": ...}]}
    {"role": "tool", "content": "4", "name": "sum"}

All fields but role and content are passed to the chat template unchanged. Null fields are dropped,
since tables fill missing fields with null.
"""

import json
from typing import Any

from ntpctp._core.errors import InputError, nearest
from ntpctp.data.example import Message

_ROLES = ("system", "developer", "user", "assistant", "tool")


def read_message(message: Any, where: str) -> Message:
    """Return one turn.

    Raises:
        InputError: if it is invalid; names ``where``.
    """
    if isinstance(message, dict) and message.get("tool_calls"):
        message = {**message, "content": message.get("content") or ""}
    if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
        raise InputError(
            f"{where}: expected an object with role and content, found "
            f"{json.dumps(message, default=str)[:80]}"
        )
    role, content = message["role"], message["content"]
    if role not in _ROLES:
        raise InputError(
            f"{where}: unknown role {role!r}{nearest(str(role), _ROLES)} "
            f"(expected one of: {', '.join(_ROLES)})"
        )
    if not isinstance(content, str):
        raise InputError(
            f"{where}: expected content to be a string, found {type(content).__name__}"
        )
    check_characters(content, f"{where}: content")
    more = {key: value for key, value in message.items() if key not in ("role", "content")}
    more = _without_nulls(more)
    return Message(role, content, _json(more, where) if more else "")


def read_tools(tools: Any, where: str) -> str:
    """Return a chat's tools as JSON.

    Raises:
        InputError: if they are not a list of objects; names ``where``.
    """
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise InputError(
            f"{where}: expected a list of tools, each an object, found "
            f"{json.dumps(tools, default=str)[:80]}"
        )
    return _json(_without_nulls(tools), where)


def _json(value: Any, where: str) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: cannot be written as JSON: {error}") from error
    check_characters(text, f"{where}, as JSON")
    return text


def check_characters(text: str, where: str) -> None:
    """Refuse half of a surrogate pair, which JSON can escape but UTF-8 cannot encode.

    Raises:
        InputError: names ``where``.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: character {error.start + 1} is half of a surrogate pair, not a character. "
            "Correct the file"
        ) from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(inner) for k, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value
