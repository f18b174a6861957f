"""The answer at the top of the page: the verdict on one score, and the spread over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ntpctp._core.text import listed, plural
from ntpctp.analysis.comparison import Pair, ScoreComparison
from ntpctp.config import Experiment
from ntpctp.report.html import wording
from ntpctp.report.html.wording import percent, quantity
from ntpctp.report.verdict_words import DESCRIPTIVE, shown_verdict
from ntpctp.statistics import Verdict

Tone = Literal["better", "same", "open"]


@dataclass(frozen=True)
class Headline:
    """The sentences at the top of the page."""

    verdict: str  # one sentence
    tone: Tone  # kind of the verdict, for its style
    winner: int | None  # index of the better arm
    differences: list[str]  # sentences on the difference, one for each pair of arms
    spreads: list[str]  # sentences on the spread over seeds, likewise
    outlook: list[str]  # what an undecided pair would need


def question_of(experiment: Experiment) -> str:
    """Return the question of the experiment file, or one made from its arms."""
    if experiment.question.strip():
        return " ".join(experiment.question.split())
    *first, last = experiment.arms
    if not first:
        return f"How well does {last} learn the task {experiment.task.name}?"
    way = f"Which way of training is best for the task {experiment.task.name}"
    return f"{way}: {', '.join(first)} or {last}?"


def label_of(comparison: ScoreComparison) -> str:
    """Return the label of a comparison's score beside other scores."""
    split, strength, stratum = comparison.split, comparison.strength, comparison.stratum
    return wording.full_label(split, comparison.score, strength, stratum)


def headline(experiment: Experiment, primary: ScoreComparison | None) -> Headline:
    """Return the answer on the primary score."""
    if primary is None:
        return Headline("Nothing is measured yet.", "open", None, [], [], [])
    decided = [pair for pair in primary.pairs if pair.verdict is not None]
    differences = [_difference(primary, pair) for pair in primary.pairs]
    spreads = [_spread(primary, pair) for pair in primary.pairs if pair.spread]
    outlook = [_outlook(primary, pair, len(primary.pairs) > 1) for pair in decided]
    verdict, tone, winner = _verdict(experiment, primary, decided)
    return Headline(verdict, tone, winner, differences, spreads, list(filter(None, outlook)))


def pair_verdict(pair: Pair, unit: str) -> str:
    """Return the verdict on a pair, or the reason why there is none, as readers see it."""
    if pair.verdict is None:
        return pair.reason or DESCRIPTIVE
    return shown_verdict(stored_verdict(pair.verdict, unit))


def stored_verdict(verdict: Verdict, unit: str) -> str:
    """Return the stored words of a verdict, its margin in the unit that the page shows."""
    if verdict.decision == "no difference" and verdict.margin is not None:
        return f"no difference larger than {wording.width(verdict.margin, unit)}"
    return verdict.words


def _verdict(
    experiment: Experiment, primary: ScoreComparison, pairs: Sequence[Pair]
) -> tuple[str, Tone, int | None]:
    arms = list(experiment.arms)
    if len(arms) == 1:
        return f"One arm, {arms[0]}: nothing to compare.", "open", None
    baseline = experiment.comparison.baseline
    if not pairs and baseline is not None and not primary.arms.get(baseline):
        return f"No verdict: the baseline {baseline} has no value.", "open", None
    if not pairs:
        return "No verdict: no seed has a value in two arms.", "open", None
    decisions = {pair.verdict.decision for pair in pairs if pair.verdict}
    if decisions == {"one seed"}:
        return "One seed: no verdict. Another seed could reverse the result.", "open", None
    wins = dict.fromkeys(arms, 0)
    for pair in pairs:
        if pair.verdict and pair.verdict.better:
            wins[pair.a if pair.verdict.better == "a" else pair.b] += 1
    best = max(arms, key=lambda name: wins[name])
    if wins[best] == len(arms) - 1:
        others = "all others" if len(arms) > 2 else next(name for name in arms if name != best)
        return f"{best} is better than {others}.", "better", arms.index(best)
    if len(arms) > 2 and baseline is not None:
        return _against_baseline(baseline, arms, pairs, wins)
    if len(arms) > 2:
        decided = sum(wins.values())
        if not decided and decisions != {"no difference"}:
            return f"Not decided which of the {len(arms)} arms is best.", "open", None
        counted = f"{decided} of {plural(len(pairs), 'pair')} {'has' if decided == 1 else 'have'}"
        return f"No arm is better than all others: {counted} a better arm.", "open", None
    if decisions == {"no difference"}:
        return f"{wording.capital(pair_verdict(pairs[0], primary.unit))}.", "same", None
    seeds = plural(len(pairs[0].seeds), "seed")
    words = f"Not decided: {arms[0]} and {arms[1]} differ by less than {seeds} can tell."
    return words, "open", None


def _against_baseline(
    baseline: str, arms: Sequence[str], pairs: Sequence[Pair], wins: Mapping[str, int]
) -> tuple[str, Tone, int | None]:
    better = [arm for arm in arms if arm != baseline and wins[arm]]
    worse = wins[baseline]
    same = sum(p.verdict.decision == "no difference" for p in pairs if p.verdict)
    undecided = len(pairs) - len(better) - worse - same
    missing = len(arms) - 1 - len(pairs)
    counted = [f"{len(better)} better" + (f" ({listed(better)})" if better else "")]
    counted.append(f"{worse} worse")
    others = {
        "without a difference larger than the margin": same,
        "undecided": undecided,
        "without a verdict": missing,
    }
    counted += [f"{count} {words}" for words, count in others.items() if count]
    words = f"Against {baseline}, of {plural(len(arms) - 1, 'arm')}: {', '.join(counted)}."
    if better:
        return words, "better", arms.index(better[0]) if len(better) == 1 else None
    return words, "same" if same == len(arms) - 1 else "open", None


def _difference(primary: ScoreComparison, pair: Pair) -> str:
    a, b, result = primary.arms.get(pair.a), primary.arms.get(pair.b), pair.difference
    if result is None or a is None or b is None:
        return f"{pair.a} against {pair.b}: {pair.reason}."
    unit = primary.unit
    means = (
        f"{pair.a} {quantity(a.mean, unit)}, {pair.b} {quantity(b.mean, unit)}: difference "
        f"{wording.difference(result.estimate, unit)}"
    )
    rests = plural(result.num_seeds, "seed")
    if result.num_items:
        rests += f" and {plural(result.num_items, 'item')}"
    if result.low is None:
        words = f"{means}, {rests}; no interval over seeds can be computed"
        if result.item_low is None:
            return f"{words}."
        within = wording.interval(result.item_low, result.item_high, unit)
        return f"{words} ({within} for these weights on new items)."
    ends = wording.interval(result.low, result.high, unit)
    return f"{means}, {percent(result.level)} interval {ends} over {rests}."


def _spread(primary: ScoreComparison, pair: Pair) -> str:
    """Say which arm varies less from seed to seed, and whether chance could explain it."""
    result, unit = pair.spread, primary.unit
    sd_a = result.a.standard_deviation if result else None
    sd_b = result.b.standard_deviation if result else None
    if result is None or sd_a is None or sd_b is None:
        return "The spread over seeds is unknown: one seed."
    if sd_a == sd_b:
        return f"{pair.a} and {pair.b} have the same sd over seeds ({wording.width(sd_a, unit)})."
    (low, low_arm), (high, high_arm) = sorted([(sd_a, pair.a), (sd_b, pair.b)])
    worst = [wording.value(worst_seed(primary, name), unit) for name in (low_arm, high_arm)]
    alpha = 1 - pair.difference.level if pair.difference else 0.05
    spreads = (
        f"sd over seeds {wording.width(low, unit)} ({low_arm}) against {wording.width(high, unit)} "
        f"({high_arm}), worst seed {worst[0]} against {worst[1]}"
    )
    if result.p_value is None:
        return f"Not tested: {spreads} ({result.reason})."
    words = f"permutation test {wording.p_value(result.p_value)}"
    if result.p_value <= alpha:
        return f"{low_arm} varies less over seeds: {spreads} ({words})."
    if result.smallest_p_value is not None and result.smallest_p_value > alpha:
        words += f"; smallest p possible with so few seeds: {result.smallest_p_value:.2g}"
    return f"No significant difference in spread: {spreads} ({words})."


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
        f"about {plural(verdict.num_seeds_needed, 'seed')} per arm needed, if difference and "
        "spread stay the same"
        if verdict.num_seeds_needed
        else shown_verdict(verdict.words).partition(": ")[2]
    )
    seen = verdict.smallest_detectable_difference
    if seen is None:
        return f"{where}{needed}."
    power = f"80{wording.SPACE}% power"
    if is_impossible(seen, pair):
        return f"{where}{needed}. With {power} no possible difference is detectable."
    smallest = wording.width(seen, primary.unit)
    return f"{where}{needed}. Smallest difference detectable with {power}: {smallest}."


def is_impossible(difference: float, pair: Pair) -> bool:
    """Return whether a difference is larger than two arms can differ."""
    largest = pair.difference.largest if pair.difference else None
    return largest is not None and difference > largest


def spread_mean(comparison: ScoreComparison, name: str) -> float | None:
    """Return an arm's mean over seeds; None if it has no value."""
    spread = comparison.arms.get(name)
    return spread.mean if spread else None


def worst_seed(comparison: ScoreComparison, name: str) -> float | None:
    """Return the value of an arm's worst seed."""
    spread = comparison.arms.get(name)
    if spread is None:
        return None
    return spread.max if comparison.higher_is_better is False else spread.min


def budget_line(experiment: Experiment) -> str:
    """Return the numbers of arms, seeds and steps in one line."""
    steps = wording.span(arm.training.steps for arm in experiment.arms.values())
    return (
        f"{plural(len(experiment.arms), 'arm')} ({listed(experiment.arms)}), "
        f"{plural(len(experiment.seeds), 'seed')} each, {steps} optimizer steps"
    )
