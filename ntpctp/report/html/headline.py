"""The answer at the top of the page: one score, a verdict in plain words, and how steady it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ntpctp._core.text import listed, plural
from ntpctp.analysis.comparison import Pair, ScoreComparison
from ntpctp.config import Experiment
from ntpctp.report.html import wording
from ntpctp.report.html.wording import percent, quantity


@dataclass(frozen=True)
class Headline:
    """What a reader who reads nothing else should know.

    Attributes:
        verdict: one plain sentence.
        tone: of the verdict, for its look.
        winner: index of the better arm.
        level: sentences on the difference, one a pair of arms.
        steadiness: sentences on the spread over seeds.
        outlook: what would settle what is open.
    """

    verdict: str
    tone: Literal["better", "same", "open"]
    winner: int | None
    level: list[str]
    steadiness: list[str]
    outlook: list[str]


def question_of(experiment: Experiment) -> str:
    """Return the experiment's own question, or one made from its arms."""
    if experiment.question.strip():
        return " ".join(experiment.question.split())
    arms = list(experiment.arms)
    if len(arms) == 1:
        return f"How well does {arms[0]} learn the task {experiment.task.name}?"
    *first, last = arms
    return f"Which way of training is best for the task {experiment.task.name}: " + (
        f"{', '.join(first)} or {last}?"
    )


def label_of(comparison: ScoreComparison) -> str:
    """Return how the score of a comparison is called where several stand together."""
    return wording.full_label(
        comparison.split, comparison.score, comparison.strength, comparison.stratum
    )


def headline(experiment: Experiment, primary: ScoreComparison | None) -> Headline:
    """Return the answer on the primary score."""
    if primary is None:
        return Headline("Nothing is measured yet.", "open", None, [], [], [])
    decided = [pair for pair in primary.pairs if pair.verdict is not None]
    level = [_level(primary, pair) for pair in primary.pairs]
    steadiness = [_steadiness(primary, pair) for pair in primary.pairs if pair.spread]
    outlook = [_outlook(primary, pair, len(primary.pairs) > 1) for pair in decided]
    verdict, tone, winner = _verdict(experiment, primary, decided)
    return Headline(verdict, tone, winner, level, steadiness, [words for words in outlook if words])


def verdict_words(pair: Pair, unit: str) -> str:
    """Return the fixed words of a verdict, its margin in the unit that the page shows."""
    if pair.verdict is None:
        return pair.reason or "no direction is better"
    if pair.verdict.decision == "no difference" and pair.verdict.margin is not None:
        return f"no difference larger than {wording.width(pair.verdict.margin, unit)}"
    return pair.verdict.words


def _verdict(
    experiment: Experiment, primary: ScoreComparison, pairs: Sequence[Pair]
) -> tuple[str, Literal["better", "same", "open"], int | None]:
    arms = list(experiment.arms)
    if len(arms) == 1:
        return f"One arm, {arms[0]}: nothing to compare.", "open", None
    baseline = experiment.comparison.baseline
    if not pairs and baseline is not None and not primary.arms.get(baseline):
        return f"No verdict: {baseline}, which all are compared with, has no value.", "open", None
    if not pairs:
        return "No verdict: no seed has a value in two arms.", "open", None
    decisions = {pair.verdict.decision for pair in pairs if pair.verdict}
    if decisions == {"one seed"}:
        return (
            "One seed: no verdict. Another seed could turn the result around.",
            "open",
            None,
        )
    wins = dict.fromkeys(arms, 0)
    for pair in pairs:
        if pair.verdict and pair.verdict.better:
            wins[pair.a if pair.verdict.better == "a" else pair.b] += 1
    best = max(arms, key=lambda name: wins[name])
    if wins[best] == len(arms) - 1:
        others = "than all others" if len(arms) > 2 else f"than {_other(pairs[0], best)}"
        return f"{best} is better {others}.", "better", arms.index(best)
    if len(arms) > 2 and baseline is not None:
        return _against_baseline(baseline, arms, pairs, wins)
    if len(arms) > 2:
        found = sum(wins.values())
        if not found and decisions != {"no difference"}:
            return f"The data do not say which of the {len(arms)} arms is best.", "open", None
        return (
            f"No arm is shown to be better than all others: {found} of "
            f"{plural(len(pairs), 'pair')} {'has' if found == 1 else 'have'} a better arm.",
            "open",
            None,
        )
    if decisions == {"no difference"}:
        words = verdict_words(pairs[0], primary.unit)
        return f"{words[0].upper()}{words[1:]}.", "same", None
    return f"The data do not say whether {arms[0]} or {arms[1]} is better.", "open", None


def _against_baseline(
    baseline: str, arms: Sequence[str], pairs: Sequence[Pair], wins: Mapping[str, int]
) -> tuple[str, Literal["better", "same", "open"], int | None]:
    """Say how many arms differ from the one that all are compared with, and in which direction."""
    better = [arm for arm in arms if arm != baseline and wins[arm]]
    worse = wins[baseline]
    same = sum(p.verdict.decision == "no difference" for p in pairs if p.verdict)
    undecided = len(pairs) - len(better) - worse - same
    missing = len(arms) - 1 - len(pairs)
    counted = [
        f"{len(better)} better" + (f" ({listed(better)})" if better else ""),
        f"{worse} worse",
        *([f"{same} no different within the margin"] if same else []),
        *([f"{undecided} undecided"] if undecided else []),
        *([f"{missing} without a verdict"] if missing else []),
    ]
    words = f"Against {baseline}, of {plural(len(arms) - 1, 'arm')}: {', '.join(counted)}."
    if better:
        return words, "better", arms.index(better[0]) if len(better) == 1 else None
    return words, "same" if same == len(arms) - 1 else "open", None


def _level(primary: ScoreComparison, pair: Pair) -> str:
    a, b, result = primary.arms.get(pair.a), primary.arms.get(pair.b), pair.difference
    if result is None or a is None or b is None:
        return f"{pair.a} against {pair.b}: {pair.reason}."
    unit = primary.unit
    means = (
        f"{pair.a} {quantity(a.mean, unit)}, {pair.b} {quantity(b.mean, unit)}: difference "
        f"{wording.difference(result.estimate, unit)}"
    )
    rests = plural(result.num_seeds, "seed") + (
        f" and {plural(result.num_items, 'item')}" if result.num_items else ""
    )
    if result.low is None:
        if result.item_low is None:
            return f"{means}, {rests}; no interval over seeds can be computed."
        within = wording.interval(result.item_low, result.item_high, unit)
        return (
            f"{means}, {rests}; no interval over seeds can be computed ({within} for new items "
            "with these very weights)."
        )
    ends = wording.interval(result.low, result.high, unit)
    return f"{means}, {percent(result.level)} interval {ends} over {rests}."


def _steadiness(primary: ScoreComparison, pair: Pair) -> str:
    """Say which arm depends more on its seed, and whether that could be chance."""
    result = pair.spread
    sd_a = result.a.standard_deviation if result else None
    sd_b = result.b.standard_deviation if result else None
    if result is None or sd_a is None or sd_b is None:
        return "How steady an arm is from seed to seed cannot be seen from one seed."
    if sd_a == sd_b:
        return f"{pair.a} and {pair.b} spread alike over seeds (sd {_sd(primary, sd_a)})."
    a_steadier = sd_a < sd_b
    steady, loose = (pair.a, pair.b) if a_steadier else (pair.b, pair.a)
    low, high = sorted((sd_a, sd_b))
    worst = [_worst(primary, name) for name in (steady, loose)]
    alpha = 1 - pair.difference.level if pair.difference else 0.05
    spreads = (
        f"sd over seeds {_sd(primary, low)} ({steady}) against {_sd(primary, high)} ({loose}), "
        f"worst seed {worst[0]} against {worst[1]}"
    )
    if result.p_value is None:
        return f"Not tested: {spreads} ({result.reason})."
    words = f"permutation test {wording.p_value(result.p_value)}"
    if result.p_value <= alpha:
        return f"{steady} is steadier: {spreads} ({words})."
    if result.smallest_p_value is not None and result.smallest_p_value > alpha:
        words += f"; so few seeds cannot give less than {result.smallest_p_value:.2g}"
    return f"No difference in spread seen: {spreads} ({words})."


def _outlook(primary: ScoreComparison, pair: Pair, several: bool) -> str:
    verdict = pair.verdict
    if verdict is None:
        return ""
    where = f"{pair.a} against {pair.b}: " if several else ""
    if verdict.decision == "one seed":
        return f"{where}run at least 3 seeds (seeds: 5 in the experiment file)."
    if verdict.decision != "undecided":
        return ""
    needed = (
        f"about {plural(verdict.num_seeds_needed, 'seed')} an arm would decide it, if difference "
        "and spread stay as they are"
        if verdict.num_seeds_needed
        else verdict.words.rpartition(": ")[2]
    )
    seen = verdict.smallest_detectable_difference
    if seen is None:
        return f"{where}{needed}."
    if is_impossible(seen, pair):
        return f"{where}{needed}. These data could hardly have shown any difference that can be."
    return (
        f"{where}{needed}. These data would have shown a difference of "
        f"{wording.width(seen, primary.unit)} four times out of five."
    )


def is_impossible(difference: float, pair: Pair) -> bool:
    """Return whether two arms cannot differ by so much."""
    largest = pair.difference.largest if pair.difference else None
    return largest is not None and difference > largest


def _sd(primary: ScoreComparison, sd: float) -> str:
    return wording.width(sd, primary.unit)


def _worst(primary: ScoreComparison, name: str) -> str:
    return wording.value(worst_seed(primary, name), primary.unit)


def worst_seed(comparison: ScoreComparison, name: str) -> float | None:
    """Return the worst seed's value of an arm."""
    spread = comparison.arms.get(name)
    if spread is None:
        return None
    return spread.max if comparison.higher_is_better is False else spread.min


def _other(pair: Pair, name: str) -> str:
    return pair.b if pair.a == name else pair.a


def budget_line(experiment: Experiment) -> str:
    """Return what was compared, in one line."""
    steps = wording.span(arm.training.steps for arm in experiment.arms.values())
    return (
        f"{plural(len(experiment.arms), 'arm')} ({listed(experiment.arms)}), "
        f"{plural(len(experiment.seeds), 'seed')} each, {steps} optimizer steps"
    )
