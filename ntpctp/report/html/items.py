"""Items that one arm answers and another does not, with their text and what the losses see."""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ntpctp._core.errors import InputError
from ntpctp._core.layout import RunId, checkpoint_directory, rows_path, stage_directory
from ntpctp.analysis.comparison import Pair, ScoreComparison
from ntpctp.analysis.item_scores import ItemRows
from ntpctp.config import Experiment
from ntpctp.data.example import Example
from ntpctp.data.tokenize import EncodedExample, encode, load_tokenizer
from ntpctp.objectives import NTP, Noisy, Selective, no_reference_losses

NUM_SHOWN = 10
MOST_TOKENS = 400


@dataclass(frozen=True)
class Token:
    """A piece of an example and its share of each arm's loss, from 0 to 1."""

    text: str
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Prediction:
    """What some seeds of an arm answered."""

    text: str
    num_seeds: int
    right: bool


@dataclass(frozen=True)
class ShownItem:
    """One example and the answers of two arms."""

    number: int
    tokens: list[Token]
    num_more_tokens: int
    text: str
    reference: str
    num_right: tuple[int, int]
    predictions: tuple[list[Prediction], list[Prediction]]


@dataclass(frozen=True)
class Flips:
    """How the items of a split fall out in two arms."""

    pair: Pair
    counts: list[tuple[int, int, int, int, int]]
    """A seed: seed, items right in both, in A only, in B only, in neither."""
    items: list[ShownItem]
    num_items: int
    num_differing: int


class Texts:
    """Examples of one split as tokens with their weights under every arm."""

    def __init__(self, experiment: Experiment, output: Path, split: str):
        self._experiment, self.reason = experiment, ""
        self._examples: Sequence[Example] = []
        self._tokenizer: PreTrainedTokenizerBase | None = None
        try:
            self._examples = experiment.task.split(split)
        except (InputError, OSError) as error:
            self.reason = f"The text cannot be shown: {error}"
            return
        # Every checkpoint carries the tokenizer, the same one in all arms.
        for checkpoint in _checkpoints(experiment, output):
            try:
                self._tokenizer = load_tokenizer(str(checkpoint))
                return
            except InputError:
                continue
        self.reason = "No checkpoint has a tokenizer, so tokens and their weights are not shown."

    def plain(self, number: int) -> str:
        """Return an example's text."""
        if number >= len(self._examples):
            return ""
        example = self._examples[number]
        if example.messages:
            return "\n".join(f"{m.role}: {m.content}{m.more}" for m in example.messages)
        return "".join(segment.text for segment in example.segments)

    def answer(self, number: int, row: Mapping[str, Any], key: str) -> str:
        """Return what a run answered: the choice that it found likeliest, or what it wrote."""
        likelihoods = row.get("choice_log_likelihoods")
        if key == "choice" and likelihoods and number < len(self._examples):
            best = max(range(len(likelihoods)), key=lambda place: float(likelihoods[place]))
            return self._examples[number].choices[best]
        return str(row["prediction"])

    def tokens(self, number: int, arms: Sequence[str]) -> list[Token]:
        """Return an example's tokens, none if it cannot be encoded."""
        if self._tokenizer is None or number >= len(self._examples):
            return []
        try:
            row = encode([self._examples[number]], self._tokenizer)[0]
            columns = [self._shares(row, arm) for arm in arms]
        except InputError:
            return []
        return [
            Token(self._piece(int(token)), tuple(column[place] for column in columns))
            for place, token in enumerate(row.input_ids)
        ]

    def _shares(self, row: EncodedExample, arm: str) -> list[float]:
        objective = self._experiment.arms[arm].objective
        # Which tokens a selective loss sees depends on the weights: all of them are candidates.
        rule = NTP() if isinstance(objective, Selective) else objective
        if isinstance(rule, Noisy):
            # Wrong labels have the same weights, and are drawn from answers that are not here.
            rule = rule.model_copy(update={"rate": 0.0})
        weights = rule.supervise([row], no_reference_losses)[0].weights.astype(float)
        weights[0] = 0.0  # nothing precedes the first token, so no loss sees it
        return [float(weight) for weight in weights / (weights.max() or 1.0)]

    def _piece(self, token: int) -> str:
        assert self._tokenizer is not None
        text = str(self._tokenizer.decode([token]))
        # A byte of a longer sign has no text of its own.
        return (
            text
            if text and "\ufffd" not in text
            else str(self._tokenizer.convert_ids_to_tokens(token))
        )


class StoredItems:
    """The item rows behind the primary score, run by run: numbers as columns, texts on demand."""

    def __init__(self, output: Path, primary: ScoreComparison):
        self._output, self._primary = output, primary
        self._columns = ItemRows(output, {primary.measure: [primary.score]})

    def values(self, arm: str, seed: int) -> dict[int, int]:
        """Return item -> whether it is answered rightly; empty where there are no such rows."""
        primary, run = self._primary, RunId(arm, seed)
        if arm not in primary.steps or not self._path(arm, seed).is_file():
            return {}
        numbers, values = self._columns.values(
            run, primary.steps[arm], primary.measure, primary.split, primary.score
        )
        first = self.texts(arm, seed, numbers[:1].tolist())
        if not all("prediction" in row for row in first.values()):
            return {}
        return dict(zip(numbers.tolist(), values.astype(int).tolist(), strict=True))

    def texts(self, arm: str, seed: int, items: Collection[int]) -> dict[int, Mapping[str, Any]]:
        """Return item -> its whole row."""
        wanted, found = set(items), {}
        with self._path(arm, seed).open("rb") as file:
            for line in file:
                # Inside of a text the quotes would be escaped: what matches is the row's own field.
                number = _ITEM.search(line)
                if number is None or int(number[1]) in wanted:
                    row = json.loads(line) if line.strip() else {}
                    known = row.get(self._primary.score) is not None
                    if known and row["split"] == self._primary.split:
                        found[int(row.get("item", 0))] = row
                if len(found) == len(wanted):
                    break
        return found

    def _path(self, arm: str, seed: int) -> Path:
        stage = stage_directory(self._output, RunId(arm, seed))
        checkpoint = checkpoint_directory(stage, self._primary.steps[arm])
        return rows_path(checkpoint, self._primary.measure)


_ITEM = re.compile(rb'"item": ?([0-9]+)')


def flips(pair: Pair, primary: ScoreComparison, rows: StoredItems, texts: Texts) -> Flips | None:
    """Return the items that differ most between two arms, or None without rows of both.

    Items are ordered by the difference in the number of seeds that answer them, then by number.
    """
    arms = (pair.a, pair.b)
    right = {(arm, seed): rows.values(arm, seed) for arm in arms for seed in pair.seeds}
    seeds = [seed for seed in pair.seeds if all(right[arm, seed] for arm in arms)]
    if not seeds:
        return None
    shared = set.intersection(*(set(right[arm, seed]) for arm in arms for seed in seeds))
    numbers = sorted(shared)
    num_right = {arm: [sum(right[arm, seed][n] for seed in seeds) for n in numbers] for arm in arms}
    gaps = {n: a - b for n, a, b in zip(numbers, *num_right.values(), strict=True) if a != b}
    order = sorted(gaps, key=lambda n: (-abs(gaps[n]), n))
    shown = order[:NUM_SHOWN]
    found = {(arm, seed): rows.texts(arm, seed, shown) for arm in arms for seed in seeds}
    place = {n: k for k, n in enumerate(numbers)}
    items = []
    for number in shown:
        tokens = texts.tokens(number, arms)
        a, b = (
            _predictions([found[arm, seed][number] for seed in seeds], number, primary.score, texts)
            for arm in arms
        )
        items.append(
            ShownItem(
                number,
                tokens[:MOST_TOKENS],
                max(len(tokens) - MOST_TOKENS, 0),
                texts.plain(number),
                str(found[pair.a, seeds[0]][number]["reference"]),
                (num_right[pair.a][place[number]], num_right[pair.b][place[number]]),
                (a, b),
            )
        )
    counts = [_count(seed, right[pair.a, seed], right[pair.b, seed], numbers) for seed in seeds]
    return Flips(pair, counts, items, len(numbers), len(order))


def _checkpoints(experiment: Experiment, output: Path) -> list[Path]:
    found = []
    for name, arm in experiment.arms.items():
        for seed in experiment.seeds:
            stage = stage_directory(output, RunId(name, seed))
            for step in (arm.training.steps, 0):
                path = checkpoint_directory(stage, step)
                if (path / "tokenizer_config.json").is_file():
                    found.append(path)
    return found


def _predictions(
    rows: Sequence[Mapping[str, Any]], number: int, key: str, texts: Texts
) -> list[Prediction]:
    """Return the different answers of an arm's seeds, the most frequent first."""
    answers = [(texts.answer(number, row, key), bool(row[key])) for row in rows]
    return [
        Prediction(text, count, right)
        for (text, right), count in sorted(
            Counter(answers).items(), key=lambda entry: (-entry[1], entry[0])
        )
    ]


def _count(
    seed: int, a: Mapping[int, int], b: Mapping[int, int], numbers: Sequence[int]
) -> tuple[int, int, int, int, int]:
    kinds = Counter((bool(a[n]), bool(b[n])) for n in numbers)
    return (
        seed,
        kinds[True, True],
        kinds[True, False],
        kinds[False, True],
        kinds[False, False],
    )
