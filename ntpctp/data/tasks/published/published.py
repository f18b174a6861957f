r"""Published data sets from the files in which they are published.

    prompt     "A box holds 12 pens. How many pens are in 5 boxes, if 4 pens are lost?\n"
    reasoning  "There are 5*12=60 pens.\nWithout the lost ones there are 60-4=56 pens.\nAnswer: "
    answer     "56"

ProsQA has a task of its own, which generates items too.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ntpctp._core.errors import InputError, lookup
from ntpctp.data.example import Example, Segment
from ntpctp.data.normalisation import Rule
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.edits.base import Edit
from ntpctp.data.tasks.edits.generic import LOGICAL, generic_edits
from ntpctp.data.tasks.files.rows import fingerprint_of, hold_out
from ntpctp.data.tasks.published.formats import FORMATS, PublishedItem
from ntpctp.data.tasks.synthetic.kinship_words import WORDS

_MARKER = "Answer: "
# By what rules answers are compared; logical forms and actions are compared as they are.
_NORMALISE: dict[str, tuple[Rule, ...]] = {
    "clutrr": ("case", "full_stop"),
    "gsm8k": ("number", "full_stop"),
    "logicasker": ("case", "full_stop"),
    "prontoqa": ("case", "full_stop"),
    "ruletaker": ("case", "full_stop"),
}

# What is not about names and properties in the sentences of prontoqa and ruletaker.
# fmt: off
_FRAME = frozenset({
    "are", "each", "every", "everything", "people", "someone", "something", "that", "the", "then",
    "they", "thing", "things",
})
# fmt: on
_KIN = frozenset(
    part for pair in WORDS.values() for word in pair for part in [word, *word.split("-")]
)


class Published(Task):
    """Question and answer, and the published solution between them on request.

    The test split is ``test_path`` or, without it, a fifth of the questions (for RuleTaker: of
    the rule bases) chosen by a hash of their text. Answers are compared without regard to case and
    a full stop at the end; those of gsm8k without thousands separators and full stop; those of
    cogs and scan as they are.
    """

    name: Literal["published"] = "published"
    format: Literal["clutrr", "cogs", "gsm8k", "logicasker", "prontoqa", "ruletaker", "scan"] = (
        Field(description="layout of the files")
    )
    path: str = Field(description="file to train on")
    test_path: str | None = Field(None, description="file with the test split")
    ood_path: str | None = Field(
        None, description="file with the harder split ood, for instance gen.tsv of COGS"
    )
    reasoning: bool = Field(
        False, description="the solution comes before the answer (gsm8k, prontoqa)"
    )
    drop_shared: bool = Field(
        False,
        description="leave out of train what is in test or ood too, instead of an error (train.csv "
        "and test.csv of LogicAsker share 83 items)",
    )
    seed: int = Field(0, ge=0, description="chooses what is held out without test_path")

    pieces: ClassVar[Literal["words"]] = "words"

    @model_validator(mode="after")
    def _has_reasoning(self) -> "Published":
        if self.reasoning and self.format not in ("gsm8k", "prontoqa"):
            raise ValueError(
                f"format {self.format} has no reasoning (gsm8k and prontoqa have): leave it out"
            )
        return self

    @property
    def evaluation_splits(self) -> tuple[str, ...]:  # noqa: D102
        return ("test", "ood") if self.ood_path else ("test",)

    @cached_property
    def _splits(self) -> dict[str, list[Example]]:
        items = self._read(self.path)
        if self.test_path is None:
            examples = [self._example(item) for item in items]
            groups = [item.group or item.question for item in items]
            train, test = hold_out(examples, None, self.seed, self.path, groups)
        else:
            train, test = (
                [self._example(item) for item in part]
                for part in (items, self._read(self.test_path))
            )
        splits = {"train": train, "test": test}
        if self.ood_path:
            splits["ood"] = [self._example(item) for item in self._read(self.ood_path)]
        if self.drop_shared:
            tested = {e.key for name in self.evaluation_splits for e in splits[name]}
            splits["train"] = [example for example in train if example.key not in tested]
        return splits

    def source_fingerprint(self) -> str | None:  # noqa: D102
        return fingerprint_of([self.path, self.test_path, self.ood_path])

    def split(self, name: str) -> Sequence[Example]:  # noqa: D102
        return lookup(self._splits, name, "split of published")

    def _edits(self, split: str) -> Mapping[str, Edit]:
        """Those of any text, and no word touched that the logic of a question hangs on."""
        if self.format in ("prontoqa", "ruletaker"):
            return generic_edits(names=False, operators=LOGICAL, only=_FRAME)
        return generic_edits(protected=_KIN if self.format == "clutrr" else ())

    def _read(self, path: str) -> list[PublishedItem]:
        if not Path(path).is_file():
            found = "a directory" if Path(path).is_dir() else "no such file"
            raise InputError(f"{path}: expected a {self.format} file, found {found}")
        items = list(FORMATS[self.format](Path(path)))
        if not items:
            raise InputError(f"{path}: expected at least one {self.format} item, found none")
        return items

    def _example(self, item: PublishedItem) -> Example:
        with_reasoning = bool(self.reasoning and item.reasoning)
        steps = Segment("reasoning", f"{item.reasoning}\n{_MARKER}")
        return Example(
            (
                Segment("prompt", item.question + "\n"),
                *([steps] if with_reasoning else []),
                Segment("answer", item.answer),
            ),
            choices=item.choices,
            answer_marker=_MARKER if with_reasoning else "",
            source=item.where,
            normalise=_NORMALISE.get(self.format, ()),
            strata=item.strata,
        )
