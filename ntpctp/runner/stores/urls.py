"""URLs of stores: normal form, working copy, and a form without secrets for messages."""

import getpass
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import fsspec.config

from ntpctp._core import redaction
from ntpctp._core.errors import InputError
from ntpctp._core.layout import is_url

SCRATCH = "NTPCTP_SCRATCH"
_SHORTEST = 8
"""Minimum length of a secret in a query, as in ``_core.redaction``."""


def normalised(url: str) -> str:
    """Return the normal form of ``url``: no trailing slash, the protocol in lower case.

    Raises:
        InputError: if it is not a URL, is a chain of URLs, or has no path.
    """
    if not is_url(url):
        raise InputError(f"{url}: expected a URL such as s3://bucket/path, found no '://'")
    protocol, _, place = url.partition("://")
    if "::" in url:
        raise InputError(
            f"{shown(url)}: expected one URL, found a chain of them ('::'). Give only the URL of "
            "the files"
        )
    protocol, place = protocol.lower(), place.rstrip("/")
    if not place:
        raise InputError(f"{protocol}://: no path in the URL; expected {protocol}://bucket/path")
    if protocol in ("file", "local"):
        return f"file://{os.path.abspath(place)}"
    return f"{protocol}://{place}"


def working_copy(url: str) -> Path:
    """Return the path of the working copy of ``url``, without creating it.

    It is below ``$NTPCTP_SCRATCH``, or below ``ntpctp-<user>`` in the system's directory for
    temporary files; the same for every call, so that a restarted worker finds its files.

    Raises:
        InputError: see ``normalised``.
    """
    # Neither digest nor name depends on a password, which may change.
    public = shown(normalised(url))
    scratch = os.environ.get(SCRATCH) or f"{tempfile.gettempdir()}/ntpctp-{_user()}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", public.rpartition("/")[2]).strip("-.")
    digest = hashlib.sha256(public.encode()).hexdigest()
    return Path(scratch) / f"{digest[:12]}-{name[:60]}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, the user id may have no name
        return str(os.getuid())


def shown(url: str) -> str:
    """Return ``url`` for messages, without password and query.

    >>> shown("sftp://me:hunter2@host/runs?token=abc")
    'sftp://me:***@host/runs?***'
    """
    protocol, separator, place = url.partition("://")
    place, question, _ = place.partition("?")
    host, slash, path = place.partition("/")
    user, at, host = host.rpartition("@")
    if ":" in user:
        user = user.partition(":")[0] + ":***"
    return f"{protocol}{separator}{user}{at}{host}{slash}{path}" + ("?***" if question else "")


def scrubbed(text: str, url: str) -> str:
    """Return ``text`` without the secrets in ``url``, the environment and fsspec's settings."""
    return redaction.scrubbed(text.replace(url, shown(url)), _secrets(url))


def _secrets(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.password:
        yield parts.password
    yield from (value for _, value in parse_qsl(parts.query) if len(value) >= _SHORTEST)
    for name, value in _settings(fsspec.config.conf):
        if redaction.is_secret(name, value):
            yield value


def _settings(block: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and value of every text in nested settings."""
    for name, value in block.items():
        if isinstance(value, dict):
            yield from _settings(value)
        elif isinstance(value, str):
            yield name, value
