"""Secrets of the environment: what is printed or written down does not show them."""

import os
import re
from collections.abc import Iterable, Iterator

_NAMES = re.compile(r"(^|_)(SECRET|TOKEN|PASSWORD|PASSWD|KEY|SAS|CREDENTIALS?)(_|$)", re.I)
_IN_URL = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")
_SHORTEST = 8
"""Characters of a secret; shorter ones would be found in half of all words."""


def scrubbed(text: str, secrets: Iterable[str] = ()) -> str:
    """Return ``text`` with ``***`` for secrets: the given ones and those of the environment."""
    for secret in sorted({*secrets, *of_environment()}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def of_environment() -> Iterator[str]:
    """Yield the values of variables that are named like secrets, and passwords in URLs."""
    for name, value in os.environ.items():
        if is_secret(name, value):
            yield value
        yield from (password for password in _IN_URL.findall(value) if password)


def is_secret(name: str, value: str) -> bool:
    """Whether what is called ``name`` is not to be shown.

    >>> is_secret("WANDB_API_KEY", "0123456789"), is_secret("TOKENIZERS_PARALLELISM", "false")
    (True, False)
    """
    return len(value) >= _SHORTEST and _NAMES.search(name) is not None
