"""Checkpoints that another program trained: any Hugging Face directory, or one of the hub."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from huggingface_hub import snapshot_download

from ntpctp._core.errors import InputError
from ntpctp._core.files import fingerprint, sha256_of
from ntpctp._core.runtime import NOT_CACHED, is_offline

CONFIG = "config.json"
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
# What transformers may read beside the weights to build the model or the tokenizer.
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
_NOT_OF_THE_MODEL = ("optimizer.safetensors",)


@dataclass(frozen=True)
class ExternalCheckpoint:
    """A checkpoint without an experiment.

    Attributes:
        name: as a directory of results is called.
        directory: where its files are.
        given: as the user named it.
    """

    name: str
    directory: Path
    given: str

    @cached_property
    def digest(self) -> str:
        """What changes with any of its weights, its config or its tokenizer; reads them all."""
        return fingerprint({file.name: sha256_of(file) for file in _files(self.directory)})


def is_checkpoint(path: Path) -> bool:
    """Whether ``path`` is a directory that transformers could load a model from."""
    return (path / CONFIG).is_file()


def open_external(given: str) -> ExternalCheckpoint:
    """Find a checkpoint.

    Args:
        given: a directory, or the id of a model on the hub, which is fetched if it is not in the
            cache.

    Raises:
        InputError: if there is none, or it has no weights as safetensors.
    """
    path = Path(given)
    # ".": the current directory has a name as well.
    name = path.resolve().name if path.exists() else given.replace("/", "__")
    directory = path if path.exists() else _fetched(given)
    if not is_checkpoint(directory):
        raise InputError(
            f"{given}: neither an experiment's directory nor inside one, nor a Hugging Face "
            f"checkpoint (it has no {CONFIG})"
        )
    if not any(file.suffix == ".safetensors" for file in _files(directory)):
        raise InputError(
            f"{given}: has no weights as *.safetensors, and no other format is read (a pickle can "
            "run code); save the model again with save_pretrained"
        )
    return ExternalCheckpoint(name, directory, given)


def _files(directory: Path) -> set[Path]:
    found = {file for pattern in (*_WEIGHTS, *_OTHERS) for file in directory.glob(pattern)}
    return {file for file in found if file.is_file() and file.name not in _NOT_OF_THE_MODEL}


def _fetched(given: str) -> Path:
    """Return the directory in the hub's cache."""
    if given.count("/") > 1 or given.startswith((".", "/")):
        raise InputError(f"{given}: no such file or directory")
    try:
        return Path(snapshot_download(given, allow_patterns=[*_WEIGHTS, *_OTHERS]))
    except Exception as error:  # the hub, its cache and the network each raise their own kinds
        why = NOT_CACHED if is_offline() else error
        raise InputError(
            f"{given}: no such directory, and no model of that id can be had from the hub: {why}"
        ) from error
