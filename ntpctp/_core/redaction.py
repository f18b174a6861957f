"""Secrets of the environment are removed from all text that is printed or stored."""

import os
import re
from collections.abc import Iterable, Iterator

_NAMES = re.compile(r"(^|_)(SECRET|TOKEN|PASSWORD|PASSWD|KEY|SAS|CREDENTIALS?)(_|$)", re.I)
_IN_URL = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")
_SHORTEST = 8
"""Minimal length of a secret in characters: a shorter value may occur inside ordinary words."""


def scrubbed(text: str, secrets: Iterable[str] = ()) -> str:
    """Replace secrets in ``text``, the given ones and those of the environment, by ``***``."""
    for secret in sorted({*secrets, *of_environment()}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def of_environment() -> Iterator[str]:
    """Yield the values of environment variables named like secrets, and passwords in URLs."""
    for name, value in os.environ.items():
        if is_secret(name, value):
            yield value
        yield from (password for password in _IN_URL.findall(value) if password)


def is_secret(name: str, value: str) -> bool:
    """Whether an environment variable must not be shown.

    >>> is_secret("WANDB_API_KEY", "0123456789"), is_secret("TOKENIZERS_PARALLELISM", "false")
    (True, False)
    """
    return len(value) >= _SHORTEST and _NAMES.search(name) is not None
