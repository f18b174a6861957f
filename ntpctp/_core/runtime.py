"""Settings of the libraries for commands: no progress bars, no nested threads, offline mode."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

NOT_CACHED = (
    "not in the Hub's cache, and downloads are disabled (--offline, or HF_HUB_OFFLINE in the "
    "environment)"
)
"""The reason why a file of the Hub is unavailable."""

START_DIRECTORY = "NTPCTP_START_DIRECTORY"
"""Variable that names the directory with modules of the user; by default the current directory.
Workers on other machines start elsewhere."""

_OFFLINE = "NTPCTP_OFFLINE"
_SAFE_PATH = "PYTHONSAFEPATH"
_HUB_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_TRUE = {"1", "ON", "YES", "TRUE"}  # as in huggingface_hub


def quiet_libraries() -> None:
    """Disable the libraries' progress bars, thread pools and telemetry.

    Sets environment variables, which libraries read at import, and imports none of them.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    # Telemetry, and faster kernels that transformers would fetch from the Hub. Values that the user
    # has set in the environment take precedence.
    for name, value in {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "USE_HUB_KERNELS": "0",
    }.items():
        os.environ.setdefault(name, value)
    if "transformers" in sys.modules:
        from transformers.utils import logging

        logging.disable_progress_bar()


@contextmanager
def isolated_imports() -> Iterator[None]:
    """Keep the current directory off the module path of Python processes that start inside.

    ``python -c`` and ``python -m`` put it first, so that workers would import, and thereby execute,
    any ``queue.py`` or ``datasets/`` that lies there.
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


def go_offline() -> None:
    """Forbid all downloads and uploads, in this process and those that it starts.

    Libraries read the environment at import; in those already imported the setting is changed.
    """
    for name in (_OFFLINE, *_HUB_OFFLINE):
        os.environ[name] = "1"
    if os.environ.get("WANDB_MODE") != "disabled":
        os.environ["WANDB_MODE"] = "offline"
    for module, names in {
        "huggingface_hub.constants": ("HF_HUB_OFFLINE",),
        "datasets.config": ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"),
    }.items():
        for name in names if module in sys.modules else ():
            setattr(sys.modules[module], name, True)


def is_offline() -> bool:
    """Whether downloads from the Hub are disabled."""
    return any(os.environ.get(name, "").upper() in _TRUE for name in _HUB_OFFLINE)


def is_cut_off() -> bool:
    """Whether ``go_offline`` was called, in this process or in the one that started it."""
    return os.environ.get(_OFFLINE) == "1"
