"""Items that two arms answer differently, with their text and the tokens that the losses see."""

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
_ITEM = re.compile(rb'"item": ?([0-9]+)')


@dataclass(frozen=True)
class Token:
    """A token's text and its weight in each arm's loss, as a share of that arm's largest weight."""

    text: str
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Prediction:
    """One answer and the number of an arm's seeds that gave it."""

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
class Disagreement:
    """The items of a split that two arms answer differently."""

    pair: Pair
    counts: list[tuple[int, int, int, int, int]]
    """For each seed: seed, items right in both arms, in A only, in B only, in neither."""
    items: list[ShownItem]
    num_items: int
    num_differing: int


class ExampleTexts:
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
        # Every checkpoint holds the tokenizer, the same one in all arms.
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
        """Return a run's answer: the choice with the largest likelihood, or the generated text."""
        likelihoods = row.get("choice_log_likelihoods")
        if key == "choice" and likelihoods and number < len(self._examples):
            best = max(range(len(likelihoods)), key=lambda choice: float(likelihoods[choice]))
            return self._examples[number].choices[best]
        return str(row["prediction"])

    def tokens(self, number: int, arms: Sequence[str]) -> list[Token]:
        """Return an example's tokens; an empty list if it cannot be encoded."""
        if self._tokenizer is None or number >= len(self._examples):
            return []
        try:
            encoded = encode([self._examples[number]], self._tokenizer)[0]
            columns = [self._shares(encoded, arm) for arm in arms]
        except InputError:
            return []
        return [
            Token(self._piece(int(token)), tuple(column[index] for column in columns))
            for index, token in enumerate(encoded.input_ids)
        ]

    def _shares(self, encoded: EncodedExample, arm: str) -> list[float]:
        objective = self._experiment.arms[arm].objective
        # Which tokens a selective loss keeps depends on the weights: all are candidates.
        rule = NTP() if isinstance(objective, Selective) else objective
        if isinstance(rule, Noisy):
            # Wrong labels do not change weights, and are drawn from answers that are not loaded.
            rule = rule.model_copy(update={"rate": 0.0})
        weights = rule.supervise([encoded], no_reference_losses)[0].weights.astype(float)
        weights[0] = 0.0  # no loss sees the first token: it has no predecessor
        return [float(weight) for weight in weights / (weights.max() or 1.0)]

    def _piece(self, token: int) -> str:
        assert self._tokenizer is not None
        text = str(self._tokenizer.decode([token]))
        # A byte of a multi-byte character has no text of its own.
        readable = text and "\ufffd" not in text
        return text if readable else str(self._tokenizer.convert_ids_to_tokens(token))


class StoredAnswers:
    """The item rows of the primary score, run by run: values as columns, whole rows on demand."""

    def __init__(self, output: Path, primary: ScoreComparison):
        self._output, self._primary = output, primary
        self._columns = ItemRows(output, {primary.measure: [primary.score]})

    def is_right(self, arm: str, seed: int) -> dict[int, int]:
        """Return item -> 1 if it is answered right, else 0; empty without such rows."""
        primary, run = self._primary, RunId(arm, seed)
        if arm not in primary.steps or not self._path(arm, seed).is_file():
            return {}
        numbers, values = self._columns.values(
            run, primary.steps[arm], primary.measure, primary.split, primary.score
        )
        first = self.rows(arm, seed, numbers[:1].tolist())
        if not all("prediction" in row for row in first.values()):
            return {}
        return dict(zip(numbers.tolist(), values.astype(int).tolist(), strict=True))

    def rows(self, arm: str, seed: int, items: Collection[int]) -> dict[int, Mapping[str, Any]]:
        """Return item -> its whole row."""
        wanted, rows = set(items), {}
        with self._path(arm, seed).open("rb") as file:
            for line in file:
                # Quotes within a text are escaped, so only the row's own field matches.
                number = _ITEM.search(line)
                if number is None or int(number[1]) in wanted:
                    row = json.loads(line) if line.strip() else {}
                    known = row.get(self._primary.score) is not None
                    if known and row["split"] == self._primary.split:
                        rows[int(row.get("item", 0))] = row
                if len(rows) == len(wanted):
                    break
        return rows

    def _path(self, arm: str, seed: int) -> Path:
        stage = stage_directory(self._output, RunId(arm, seed))
        step = self._primary.steps[arm]
        return rows_path(checkpoint_directory(stage, step), self._primary.measure)


def disagreement(
    pair: Pair, primary: ScoreComparison, answers: StoredAnswers, texts: ExampleTexts
) -> Disagreement | None:
    """Return the items on which two arms differ most, or None without item rows of both.

    Items are ordered by the difference in the number of seeds that answer them right, then by
    number.
    """
    arms = (pair.a, pair.b)
    right = {(arm, seed): answers.is_right(arm, seed) for arm in arms for seed in pair.seeds}
    seeds = [seed for seed in pair.seeds if all(right[arm, seed] for arm in arms)]
    if not seeds:
        return None
    numbers = sorted(set.intersection(*(set(right[arm, seed]) for arm in arms for seed in seeds)))
    of_a, of_b = ([right[arm, seed] for seed in seeds] for arm in arms)
    num_right = {n: (sum(r[n] for r in of_a), sum(r[n] for r in of_b)) for n in numbers}
    gaps = {number: abs(a - b) for number, (a, b) in num_right.items() if a != b}
    shown = sorted(gaps, key=lambda number: (-gaps[number], number))[:NUM_SHOWN]
    rows = {(arm, seed): answers.rows(arm, seed, shown) for arm in arms for seed in seeds}
    items = []
    for number in shown:
        tokens = texts.tokens(number, arms)
        a, b = (
            _predictions([rows[arm, seed][number] for seed in seeds], number, primary.score, texts)
            for arm in arms
        )
        reference = str(rows[pair.a, seeds[0]][number]["reference"])
        more, text = max(len(tokens) - MOST_TOKENS, 0), texts.plain(number)
        shown_tokens = tokens[:MOST_TOKENS]
        items.append(
            ShownItem(number, shown_tokens, more, text, reference, num_right[number], (a, b))
        )
    counts = []
    for seed in seeds:
        kinds = Counter((right[pair.a, seed][n], right[pair.b, seed][n]) for n in numbers)
        counts.append((seed, kinds[1, 1], kinds[1, 0], kinds[0, 1], kinds[0, 0]))
    return Disagreement(pair, counts, items, len(numbers), len(gaps))


def _checkpoints(experiment: Experiment, output: Path) -> list[Path]:
    """Return the last and first checkpoints that hold a tokenizer."""
    paths = (
        checkpoint_directory(stage_directory(output, RunId(name, seed)), step)
        for name, arm in experiment.arms.items()
        for seed in experiment.seeds
        for step in (arm.training.steps, 0)
    )
    return [path for path in paths if (path / "tokenizer_config.json").is_file()]


def _predictions(
    rows: Sequence[Mapping[str, Any]], number: int, key: str, texts: ExampleTexts
) -> list[Prediction]:
    """Return the different answers of an arm's seeds, the most frequent first."""
    answers = [(texts.answer(number, row, key), bool(row[key])) for row in rows]
    counted = sorted(Counter(answers).items(), key=lambda entry: (-entry[1], entry[0]))
    return [Prediction(text, count, right) for (text, right), count in counted]
