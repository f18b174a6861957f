"""Checkpoints of other programs: a Hugging Face directory, or a model on the Hub."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from huggingface_hub import snapshot_download

from ntpctp._core.errors import InputError
from ntpctp._core.files import fingerprint, sha256_of
from ntpctp._core.runtime import NOT_CACHED, is_offline

CONFIG = "config.json"
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
# Files other than weights from which transformers builds the model or the tokenizer.
_OTHERS = (
    CONFIG,
    "*token*.json",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.jinja",
    "*.tiktoken",
)
_NO_WEIGHTS = ("optimizer.safetensors",)


@dataclass(frozen=True)
class ExternalCheckpoint:
    """A checkpoint that belongs to no experiment.

    Attributes:
        name: for its directory of results.
        directory: of its files.
        given: path or Hub id, as the user wrote it.
    """

    name: str
    directory: Path
    given: str

    @cached_property
    def digest(self) -> str:
        """Content hash of weights, config and tokenizer; reads all these files."""
        return fingerprint({file.name: sha256_of(file) for file in _files(self.directory)})


def is_checkpoint(path: Path) -> bool:
    """Whether ``path`` is a directory with a model's ``config.json``."""
    return (path / CONFIG).is_file()


def open_external(given: str) -> ExternalCheckpoint:
    """Return a checkpoint; downloads it from the Hub if it is neither a directory nor cached.

    Args:
        given: a directory, or the id of a model on the Hub.

    Raises:
        InputError: if it is not found, or has no weights as safetensors.
    """
    path = Path(given)
    # Resolved, as "." has no name.
    name = path.resolve().name if path.exists() else given.replace("/", "__")
    directory = path if path.exists() else _downloaded(given)
    if not is_checkpoint(directory):
        raise InputError(
            f"{given}: neither an experiment's directory nor inside one, nor a Hugging Face "
            f"checkpoint (it has no {CONFIG})"
        )
    if not any(file.suffix == ".safetensors" for file in _files(directory)):
        raise InputError(
            f"{given}: no weights found as *.safetensors. Other formats are not read, as a pickle "
            "can run code. Save the model again with save_pretrained"
        )
    return ExternalCheckpoint(name, directory, given)


def _files(directory: Path) -> set[Path]:
    files = {file for pattern in (*_WEIGHTS, *_OTHERS) for file in directory.glob(pattern)}
    return {file for file in files if file.is_file() and file.name not in _NO_WEIGHTS}


def _downloaded(given: str) -> Path:
    """Return the model's directory in the cache of the Hub."""
    if given.count("/") > 1 or given.startswith((".", "/")):
        raise InputError(f"{given}: no such file or directory")
    try:
        return Path(snapshot_download(given, allow_patterns=[*_WEIGHTS, *_OTHERS]))
    except Exception as error:  # Hub, cache and network raise many types
        why = NOT_CACHED if is_offline() else error
        raise InputError(
            f"{given}: not a local directory, and the download from the Hub failed: {why}"
        ) from error
