"""The base class of tasks: options, and the named splits of examples that they define."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from ntpctp._core.errors import lookup
from ntpctp._core.options import Options
from ntpctp.data.example import Example
from ntpctp.data.tasks.edits.base import Edit
from ntpctp.data.tasks.edits.generic import generic_edits


class Task(Options, ABC):
    """The options of a task, and the examples that they define.

    A subclass has a field ``name: Literal["..."]``, its options, and the two abstract methods; it
    is registered by an entry in ``TASKS``. Examples depend on the options alone, so that all arms
    and seeds of an experiment use the same data.
    """

    name: str

    pieces: ClassVar[Literal["characters", "words"] | None] = None
    """How a closed vocabulary cuts the text; None: open text, which needs a tokenizer."""

    @property
    @abstractmethod
    def evaluation_splits(self) -> tuple[str, ...]:
        """Names of the held-out splits, the main one first. The training split is ``train``."""

    @abstractmethod
    def split(self, name: str) -> Sequence[Example]:
        """Return the examples of the split ``name``, always the same and in the same order.

        Raises:
            InputError: if the split is unknown, or cannot be created from the options or files.
        """

    def source_fingerprint(self) -> str | None:
        """Return a fingerprint of all data outside the options, such as files.

        Empty if the options determine the examples, as in generated tasks. None if a change of the
        data could not be detected: such examples are read and encoded at every start. By default
        the fingerprints of the tasks in the options, joined.
        """
        inner = [task.source_fingerprint() for task in _tasks_in(dict(self))]
        known = [fingerprint for fingerprint in inner if fingerprint is not None]
        return " ".join(filter(None, known)) if len(known) == len(inner) else None

    def further_examples(self) -> Iterator[Example]:
        """Yield examples outside all splits that a closed vocabulary must cover."""
        return iter(())

    def edits(self, split: str) -> Mapping[str, Edit]:
        """Return the edits of ``split`` by name.

        The edit ``contrast``, if there is one, changes the correct answer; the others keep it.

        Raises:
            InputError: for an unknown split.
        """
        names = ("train", *self.evaluation_splits)
        return self._edits(lookup({n: n for n in names}, split, f"split of {self.name}"))

    def _edits(self, split: str) -> Mapping[str, Edit]:
        """The edits of an existing split; by default those of any text."""
        return generic_edits()

    def to_datasets(self, tokenizer: Any = None) -> Any:
        """Return all splits as a ``datasets.DatasetDict``, for other tools to train on.

        Args:
            tokenizer: a tokenizer of ``transformers``, or None for text without tokens.

        Returns:
            Per split the columns ``text`` (all that the model reads; null for a chat without a
            tokenizer), ``prompt``, ``reasoning``, ``answer``, ``choices``, ``spans``, ``messages``,
            ``tools`` and one per stratum, each where an example of the split has it; with a
            tokenizer also ``input_ids`` (list of int) and ``roles`` (list of str: one of ``ROLES``
            per token). All splits are held in memory.

        Raises:
            InputError: for an example that cannot be encoded.
        """
        from ntpctp.data.to_datasets import to_datasets

        return to_datasets(self.all_splits(), tokenizer)

    def all_splits(self) -> dict[str, Sequence[Example]]:
        """Return the examples of all splits by name, ``train`` first."""
        return {name: self.split(name) for name in ("train", *self.evaluation_splits)}


def _tasks_in(value: object) -> Iterator[Task]:
    """Yield the tasks within the options of another."""
    if isinstance(value, Task):
        yield value
    elif isinstance(value, Options):
        yield from _tasks_in(dict(value))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tasks_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tasks_in(inner)
