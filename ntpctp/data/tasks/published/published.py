r"""The task ``published``: published data sets from their original files.

    prompt     "A box holds 12 pens. How many pens are in 5 boxes, if 4 pens are lost?\n"
    reasoning  "There are 5*12=60 pens.\nWithout the lost ones there are 60-4=56 pens.\nAnswer: "
    answer     "56"

ProsQA has a separate task, which also generates items.
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
# Rules by which answers are compared; logical forms and actions are compared exactly.
_NORMALISE: dict[str, tuple[Rule, ...]] = {
    "clutrr": ("case", "full_stop"),
    "gsm8k": ("number", "full_stop"),
    "logicasker": ("case", "full_stop"),
    "prontoqa": ("case", "full_stop"),
    "ruletaker": ("case", "full_stop"),
}

# Words in the sentences of prontoqa and ruletaker other than names and properties.
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
    """Question and answer; optionally the published solution between them.

    The test split is ``test_path`` or, without it, a fifth of the questions (for RuleTaker: of
    the rule bases), selected by a hash of their text. Answers are compared regardless of case and
    of a full stop at the end; those of gsm8k regardless of thousands separators and full stop;
    those of cogs and scan exactly.
    """

    name: Literal["published"] = "published"
    format: Literal["clutrr", "cogs", "gsm8k", "logicasker", "prontoqa", "ruletaker", "scan"] = (
        Field(description="format of the files")
    )
    path: str = Field(description="file to train on")
    test_path: str | None = Field(None, description="file with the test split")
    ood_path: str | None = Field(
        None, description="file with the harder split ood, for instance gen.tsv of COGS"
    )
    reasoning: bool = Field(
        False, description="whether the solution precedes the answer (gsm8k, prontoqa)"
    )
    drop_shared: bool = Field(
        False,
        description="remove examples from train that are also in test or ood, instead of raising "
        "an error (train.csv and test.csv of LogicAsker share 83 items)",
    )
    seed: int = Field(
        0, ge=0, description="selects the held-out questions if there is no test_path"
    )

    pieces: ClassVar[Literal["words"]] = "words"

    @model_validator(mode="after")
    def _has_reasoning(self) -> "Published":
        if self.reasoning and self.format not in ("gsm8k", "prontoqa"):
            raise ValueError(
                f"format {self.format} has no reasoning (gsm8k and prontoqa have). Remove reasoning"
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
        """The edits of any text, without words that determine the answer."""
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
