r"""Any data set of reasoning-gym, judged by that data set's own function.

Source: github.com/open-thought/reasoning-gym; it comes with the extra ``gym``.

    prompt  "Your task is to count how many legs there are in total when given a list of animals.
            Now, how many legs are there in total if you have 3 crabs, 2 leechs?\n"
    answer  "30"

Where several answers are right (a Sudoku, a proof), exact match counts one of them only; the score
``judged`` of the measure accuracy is what the data set's ``score_answer`` gives, from 0 to 1.
"""

import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any, Literal

from pydantic import Field

from ntpctp._core.errors import InputError, lookup, nearest
from ntpctp._core.rng import generator
from ntpctp.data.example import Example, Segment
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.synthetic.drawing import is_for_test

# One in five questions is for testing; a data set with fewer different questions than this share
# of the draws cannot fill its splits.
_DRAWS_PER_EXAMPLE = 50


class Gym(Task):
    """Questions of one data set; a hash of the question decides between train and test.

    reasoning-gym draws item ``index`` from the seed ``seed + index``, so that neighbouring seeds
    share nearly all items; the data set's own seed is therefore drawn from ours.
    """

    name: Literal["gym"] = "gym"
    dataset: str = Field(description="name in reasoning-gym, for instance leg_counting")
    options: dict[str, Any] = Field(
        default_factory=dict, description="of the data set, for instance {max_animals: 3}"
    )
    train_size: int = Field(5000, ge=1, description="training examples")
    test_size: int = Field(500, ge=1, description="held-out examples")
    seed: int = Field(0, ge=0, description="draws the items; the same for all arms and runs")

    @property
    def evaluation_splits(self) -> tuple[str, ...]:  # noqa: D102
        return ("test",)

    def source_fingerprint(self) -> str | None:  # noqa: D102
        return f"reasoning-gym {_library().__version__}"

    @cached_property
    def _splits(self) -> dict[str, list[Example]]:
        wanted = {"train": self.train_size, "test": self.test_size}
        most = _DRAWS_PER_EXAMPLE * (self.train_size + self.test_size)
        recipe = {
            "dataset": self.dataset,
            "options": self.options,
            "seed": int(generator(self.seed, "gym", self.dataset).integers(2**31 - most)),
            "size": most,
        }
        items = _items(json.dumps(recipe))
        splits: dict[str, list[Example]] = {"train": [], "test": []}
        for index in range(most):
            entry = items[index]
            split = splits["test" if is_for_test(entry["question"]) else "train"]
            name = "test" if split is splits["test"] else "train"
            if len(split) < wanted[name]:
                split.append(self._example(entry, recipe, index))
            if all(len(splits[name]) == size for name, size in wanted.items()):
                return splits
        raise InputError(
            f"task gym: {self.dataset} has too few different questions with these options: "
            f"{most:,} draws gave {len(splits['train'])} for train and {len(splits['test'])} for "
            "test; ask for fewer, or choose larger options"
        )

    def split(self, name: str) -> Sequence[Example]:  # noqa: D102
        return lookup(self._splits, name, "split of gym")

    def _example(self, entry: Any, recipe: dict[str, Any], index: int) -> Example:
        return Example(
            (
                Segment("prompt", entry["question"].rstrip() + "\n"),
                Segment("answer", str(entry["answer"])),
            ),
            source=f"gym {self.dataset}, item {index}",
            judge=json.dumps({**recipe, "index": index}),
        )


def score_answer(judge: str, answer: str) -> float:
    """Return what the data set's own function gives for ``answer``, from 0 to 1.

    Args:
        judge: of an example of the task ``gym``.
        answer: as written by a model.
    """
    recipe = json.loads(judge)
    index = recipe.pop("index")
    items = _items(json.dumps(recipe))
    return float(items.score_answer(answer, items[index]))


@lru_cache(maxsize=4)
def _items(recipe: str) -> Any:
    """Return a data set of reasoning-gym."""
    library, content = _library(), json.loads(recipe)
    from reasoning_gym.factory import DATASETS

    name = content["dataset"]
    if name not in DATASETS:
        raise InputError(
            f"task gym: reasoning-gym has no data set {name!r}{nearest(name, DATASETS)}"
        )
    try:
        return library.create_dataset(
            name, size=content["size"], seed=content["seed"], **content["options"]
        )
    except (TypeError, ValueError, AssertionError) as error:
        raise InputError(f"task gym: {name} does not take these options: {error}") from error


def _library() -> Any:
    try:
        import reasoning_gym
    except ImportError as error:
        raise InputError(
            "the task gym needs the library reasoning-gym: pip install 'ntpctp[gym]'"
        ) from error
    return reasoning_gym
