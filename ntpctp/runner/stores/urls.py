"""URLs of stores: how they are told from paths, where they are worked on, what of them is shown."""

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
"""Characters of a secret in a query, as in ``secrecy``."""


def normalised(url: str) -> str:
    """Return the one way to write ``url``: no slash at its end, the protocol in small letters.

    Raises:
        InputError: if it is no URL, a chain of them, or names no place.
    """
    if not is_url(url):
        raise InputError(f"{url}: expected a URL such as s3://bucket/path, found no '://'")
    protocol, _, place = url.partition("://")
    if "::" in url:
        raise InputError(
            f"{shown(url)}: expected one URL, found a chain of them ('::'); give the one where the "
            "files are"
        )
    protocol, place = protocol.lower(), place.rstrip("/")
    if not place:
        raise InputError(f"{protocol}://: names no place; expected {protocol}://bucket/path")
    if protocol in ("file", "local"):
        return f"file://{os.path.abspath(place)}"
    return f"{protocol}://{place}"


def working_copy(url: str) -> Path:
    """Return the local directory in which the experiment at ``url`` is worked on.

    It is below ``$NTPCTP_SCRATCH``, or else below ``ntpctp-<user>`` where the system keeps
    temporary files; always the same for one URL, so that a worker that is started again finds what
    it had. It is not made here.

    Raises:
        InputError: see ``normalised``.
    """
    # Neither the digest nor the name depends on a password: it may change.
    public = shown(normalised(url))
    scratch = os.environ.get(SCRATCH) or f"{tempfile.gettempdir()}/ntpctp-{_user()}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", public.rpartition("/")[2]).strip("-.")
    digest = hashlib.sha256(public.encode()).hexdigest()
    return Path(scratch) / f"{digest[:12]}-{name[:60]}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return str(os.getuid())


def shown(url: str) -> str:
    """Return ``url`` as messages may show it: without a password and without a query.

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
    """Return ``text`` without the secrets of ``url``, the environment and fsspec's settings."""
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
