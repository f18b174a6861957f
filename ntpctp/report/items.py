"""Items that one arm answers and another does not, with their text and what the losses see."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ntpctp import checkpoints
from ntpctp.comparison import Pair, ScoreComparison
from ntpctp.errors import InputError
from ntpctp.experiment import Experiment
from ntpctp.objectives import NTP, Selective, no_reference_losses
from ntpctp.report.sources import read_items
from ntpctp.runs import RunId, stage_directory
from ntpctp.tasks import Example
from ntpctp.tokens import Row, encode, load_tokenizer

NUM_SHOWN = 10
MOST_TOKENS = 400

Rows = Mapping[tuple[str, int], Sequence[Mapping[str, Any]]]
"""(arm, seed) -> item rows."""


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
class Item:
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
    items: list[Item]
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
        except InputError:
            return []
        columns = [self._shares(row, arm) for arm in arms]
        return [
            Token(self._piece(int(token)), tuple(column[place] for column in columns))
            for place, token in enumerate(row.input_ids)
        ]

    def _shares(self, row: Row, arm: str) -> list[float]:
        objective = self._experiment.arms[arm].objective
        # Which tokens a selective loss sees depends on the weights: all of them are candidates.
        rule = NTP() if isinstance(objective, Selective) else objective
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


def read_rows(
    experiment: Experiment, output: Path, primary: ScoreComparison
) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Return the item rows behind the primary score of every run that has them."""
    found = {}
    for name, step in primary.steps.items():
        for seed in experiment.seeds:
            rows = read_items(output, RunId(name, seed), step, primary.measure, primary.split)
            rows = [row for row in rows if row.get(primary.score) is not None]
            if rows and "prediction" in rows[0]:
                found[name, seed] = rows
    return found


def flips(pair: Pair, primary: ScoreComparison, rows: Rows, texts: Texts) -> Flips | None:
    """Return the items that differ most between two arms, or None without rows of both.

    Items are ordered by the difference in the number of seeds that answer them, then by number.
    """
    key = primary.score
    seeds = [seed for seed in pair.seeds if (pair.a, seed) in rows and (pair.b, seed) in rows]
    if not seeds:
        return None
    num_items = min(len(rows[arm, seed]) for arm in (pair.a, pair.b) for seed in seeds)
    right = {
        arm: [sum(int(rows[arm, seed][n][key]) for seed in seeds) for n in range(num_items)]
        for arm in (pair.a, pair.b)
    }
    gaps = [a - b for a, b in zip(right[pair.a], right[pair.b], strict=True)]
    order = sorted((n for n in range(num_items) if gaps[n]), key=lambda n: (-abs(gaps[n]), n))
    items = []
    for place in order[:NUM_SHOWN]:
        # Items without this score have no place among the rows.
        number = int(rows[pair.a, seeds[0]][place].get("item", place))
        tokens = texts.tokens(number, (pair.a, pair.b))
        items.append(
            Item(
                number,
                tokens[:MOST_TOKENS],
                max(len(tokens) - MOST_TOKENS, 0),
                texts.plain(number),
                str(rows[pair.a, seeds[0]][place]["reference"]),
                (right[pair.a][place], right[pair.b][place]),
                (
                    _predictions(pair.a, seeds, rows, place, key, texts),
                    _predictions(pair.b, seeds, rows, place, key, texts),
                ),
            )
        )
    counts = [_count(pair, seed, rows, key, num_items) for seed in seeds]
    return Flips(pair, counts, items, num_items, len(order))


def _checkpoints(experiment: Experiment, output: Path) -> list[Path]:
    found = []
    for name, arm in experiment.arms.items():
        for seed in experiment.seeds:
            stage = stage_directory(output, RunId(name, seed))
            for step in (arm.training.steps, 0):
                path = checkpoints.directory_of(stage, step)
                if (path / "tokenizer_config.json").is_file():
                    found.append(path)
    return found


def _predictions(
    arm: str, seeds: Sequence[int], rows: Rows, place: int, key: str, texts: Texts
) -> list[Prediction]:
    """Return the different answers of an arm's seeds, the most frequent first."""
    answers = [
        (texts.answer(int(row.get("item", place)), row, key), bool(row[key]))
        for row in (rows[arm, seed][place] for seed in seeds)
    ]
    return [
        Prediction(text, count, right)
        for (text, right), count in sorted(
            Counter(answers).items(), key=lambda entry: (-entry[1], entry[0])
        )
    ]


def _count(
    pair: Pair, seed: int, rows: Rows, key: str, num_items: int
) -> tuple[int, int, int, int, int]:
    a, b = rows[pair.a, seed][:num_items], rows[pair.b, seed][:num_items]
    kinds = Counter((bool(x[key]), bool(y[key])) for x, y in zip(a, b, strict=True))
    return (
        seed,
        kinds[True, True],
        kinds[True, False],
        kinds[False, True],
        kinds[False, False],
    )
