"""Independent random streams, each named by a seed and a path, never by ``seed + index``."""

import zlib

import numpy as np


def _entropy(part: str | int) -> int:
    return zlib.crc32(part.encode()) if isinstance(part, str) else part


def generator(seed: int, *path: str | int) -> np.random.Generator:
    """Return the generator of the stream ``path`` under ``seed``.

    Streams with different paths or seeds are statistically independent
    (``numpy.random.SeedSequence``), so ``generator(0, "data", 1)`` and ``generator(1, "data", 0)``
    share nothing.

    Args:
        seed: non-negative.
        path: names and non-negative indices, for instance ``"order", epoch``.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, *map(_entropy, path)]))


def torch_seed(seed: int, *path: str | int) -> int:
    """Return a 63-bit seed for ``torch.manual_seed``, of the stream ``path`` under ``seed``."""
    return int(generator(seed, *path).integers(2**63 - 1))
