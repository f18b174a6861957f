"""Checksums: of a local file, and what a store tells of its own."""

import base64
import hashlib
import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

Info = Mapping[str, Any]
"""What fsspec tells of a remote file: ``size`` in bytes, and what else its file system knows."""

PART = 50 * 2**20
"""Bytes of each part of what s3fs uploads in parts: files of two parts and more."""

_BLOCK = 2**20
_ETAG = re.compile(r"[0-9a-f]{32}(-\d+)?")
# What changes when a remote file is replaced, by the names that file systems have for it.
_CHANGING = ("size", "ETag", "md5Hash", "mtime", "LastModified", "updated", "created", "ino")


class Sums(NamedTuple):
    """What a content is known by.

    Attributes:
        size: in bytes.
        sha256: in hexadecimal.
        tag: what an object store that tells a checksum would tell: the MD5, in hexadecimal.
    """

    size: int
    sha256: str
    tag: str


def sums_of(path: Path, in_parts: bool = False) -> Sums:
    """Return the checksums of a file; costs one read, at about 0.4 GB/s.

    Args:
        path: of the file.
        in_parts: whether the store is S3: then the tag of what is uploaded in parts is the MD5 of
            their MD5s, and their number.

    Raises:
        OSError: if the file is not there or cannot be read.
    """
    strong, weak = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    of_parts, size, filled = b"", 0, 0
    with path.open("rb") as file:
        in_parts = in_parts and os.fstat(file.fileno()).st_size >= 2 * PART
        while block := file.read(min(_BLOCK, PART - filled) if in_parts else _BLOCK):
            strong.update(block)
            weak.update(block)
            size, filled = size + len(block), filled + len(block)
            if in_parts and filled == PART:
                of_parts += weak.digest()
                weak, filled = hashlib.md5(usedforsecurity=False), 0
    if not in_parts:
        return Sums(size, strong.hexdigest(), weak.hexdigest())
    if filled:
        of_parts += weak.digest()
    tag = hashlib.md5(of_parts, usedforsecurity=False).hexdigest()
    return Sums(size, strong.hexdigest(), f"{tag}-{len(of_parts) // weak.digest_size}")


def tag_of(info: Info) -> str | None:
    """Return the checksum that a store tells, as ``Sums.tag`` has it; None: it tells none.

    An ETag of an object that was encrypted with a key of KMS looks like one and is none: that it
    differs proves nothing.
    """
    if isinstance(tag := info.get("ETag"), str) and _ETAG.fullmatch(tag.strip('"')):
        return tag.strip('"')
    if isinstance(tag := info.get("md5Hash"), str):  # Google Cloud Storage
        return base64.b64decode(tag).hex()
    return None


def identity(info: Info) -> tuple[str, ...] | None:
    """Return what changes when a remote file is replaced; None: nothing that is told would."""
    told = {name: info[name] for name in _CHANGING if info.get(name) is not None}
    if len(told) < 2:  # the size alone
        return None
    # A listing and a request for one file may tell one moment in different time zones.
    return tuple(
        f"{name}={value.timestamp() if isinstance(value, datetime) else value}"
        for name, value in told.items()
    )
