"""Experiments on the same data as one comparison, and what can not be paired in it.

Within an experiment only the objective differs, because one program made all runs from one file.
Between experiments nobody has seen to that: which settings differ is listed with the result, and
what cannot be paired is named with its reason.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ntpctp._core.layout import RunId
from ntpctp._core.provenance import PROVENANCE
from ntpctp._core.text import flat, listed
from ntpctp.analysis.comparison import (
    ComparisonSpec,
    ScoreComparison,
    compare_scores,
    comparison_spec,
)
from ntpctp.analysis.joins.item_rows import JoinedItemRows
from ntpctp.analysis.joins.stored_experiments import StoredExperiment
from ntpctp.analysis.matched_budget import read_flops
from ntpctp.analysis.run_scores import LEARNING
from ntpctp.config import Experiment


@dataclass(frozen=True)
class ExperimentGroup:
    """Experiments on the same data, compared as one.

    Attributes:
        label: names of the experiments.
        sources: the experiments.
        spec: joined arms, all seeds; level, margins and targets of the first experiment.
        comparisons: of all scores; one score has several where it was measured in several ways.
        differing: setting -> joined arm -> its value, of what not all arms share.
        notes: what is not joined or not paired, and why.
    """

    label: str
    sources: list[StoredExperiment]
    spec: ComparisonSpec
    comparisons: list[ScoreComparison]
    differing: dict[str, dict[str, str]]
    notes: list[str]


def group_by_data(sources: Sequence[StoredExperiment]) -> list[ExperimentGroup]:
    """Return one comparison for every set of experiments on the same data, in their order."""
    by_data: dict[str, list[StoredExperiment]] = {}
    for source in sources:
        by_data.setdefault(source.data or f"unknown: {source.directory}", []).append(source)
    return [_group(members) for members in by_data.values()]


def notes_on_data(groups: Sequence[ExperimentGroup]) -> list[str]:
    """Say why experiments are in different groups: which settings of their data differ."""
    notes = []
    for group in groups:
        for source in group.sources:
            if source.data is None:
                notes.append(
                    f"{source.label}: not paired with others: {PROVENANCE} does not record its data"
                )
    first, *others = groups
    for other in others:
        ours, theirs = (_data_settings(g.sources[0].experiment) for g in (first, other))
        fields = [
            f"{field} {ours.get(field)} and {theirs.get(field)}"
            for field in sorted({*ours, *theirs})
            if ours.get(field) != theirs.get(field)
        ]
        what = "; ".join(fields[:4]) or "no setting that is recorded, so files or versions do"
        more = f"; {len(fields) - 4} more" if len(fields) > 4 else ""
        notes.append(
            f"{first.label} and {other.label}: not paired, as their data differ ({what}{more})"
        )
    return notes


def _group(sources: Sequence[StoredExperiment]) -> ExperimentGroup:
    names = Counter(arm for source in sources for arm in source.experiment.arms)
    joined = {
        (place, arm): arm if names[arm] == 1 else f"{source.label}/{arm}"
        for place, source in enumerate(sources)
        for arm in source.experiment.arms
    }
    first = comparison_spec(sources[0].experiment)
    spec = ComparisonSpec(
        {
            joined[place, arm]: settings.training.steps
            for place, source in enumerate(sources)
            for arm, settings in source.experiment.arms.items()
        },
        sorted({seed for source in sources for seed in source.experiment.seeds}),
        first.level,
        first.margin,
        first.factors if len(sources) == 1 else {},
        first.targets,
        first.held_out,
        {
            joined[place, arm]: flops
            for place, source in enumerate(sources)
            for arm, flops in read_flops(source.directory).items()
        },
        first.baseline if len(sources) == 1 else None,
    )
    frames = [
        source.frame.assign(
            arm=source.frame["arm"].map({a: j for (p, a), j in joined.items() if p == place})
        )
        for place, source in enumerate(sources)
    ]
    items = JoinedItemRows(
        {
            joined[place, arm]: (source, arm)
            for place, source in enumerate(sources)
            for arm in source.experiment.arms
        },
        pd.concat(frames, ignore_index=True),
    )
    comparisons: list[ScoreComparison] = []
    notes = _notes_on_seeds(sources) + _notes_on_rules(sources)
    for measure in dict.fromkeys(m for frame in frames for m in frame["measure"].unique()):
        ways = _ways(sources, frames, measure)
        notes += _notes_on_ways(sources, measure, ways)
        for places in ways.values():
            rows = pd.concat([frames[place] for place in places], ignore_index=True)
            comparisons += compare_scores(spec, rows[rows["measure"] == measure], items)
    return ExperimentGroup(
        listed(source.label for source in sources),
        list(sources),
        spec,
        comparisons,
        _differing(sources, joined) if len(sources) > 1 else {},
        notes,
    )


def _ways(
    sources: Sequence[StoredExperiment], frames: Sequence[pd.DataFrame], measure: str
) -> dict[str, list[int]]:
    """Return the ways in which a measure was taken -> places of the experiments that did so."""
    ways: dict[str, list[int]] = {}
    for place, (source, frame) in enumerate(zip(sources, frames, strict=True)):
        if (frame["measure"] == measure).any():
            settings = _measure_settings(source.experiment, measure)
            key = ", ".join(f"{field}: {value}" for field, value in settings.items())
            ways.setdefault(key, []).append(place)
    return ways


def _measure_settings(experiment: Experiment, measure: str) -> dict[str, object]:
    if measure == LEARNING:
        shared = {"every": experiment.evaluation.every}
        return shared | {f"targets.{k}": v for k, v in experiment.comparison.targets.items()}
    for options in experiment.evaluation.measures:
        if options.name == measure:
            return flat(options.model_dump(mode="json", exclude={"at"}))
    return {"options": "unknown: the experiment file does not list it"}


def _notes_on_ways(
    sources: Sequence[StoredExperiment], measure: str, ways: Mapping[str, Sequence[int]]
) -> list[str]:
    notes = []
    by_way = [listed(sources[place].label for place in places) for places in ways.values()]
    if len(ways) > 1:
        options = [_measure_settings(sources[p[0]].experiment, measure) for p in ways.values()]
        fields = sorted({f for of_way in options for f in of_way})
        differing = [
            f"{field} "
            + " and ".join(
                f"{way.get(field)} ({who})" for way, who in zip(options, by_way, strict=True)
            )
            for field in fields
            if len({str(way.get(field)) for way in options}) > 1
        ]
        notes.append(
            f"{measure}: not paired between experiments that measured it in other ways: "
            + "; ".join(differing)
        )
    without = [
        source.label
        for place, source in enumerate(sources)
        if not any(place in places for places in ways.values())
    ]
    if without:
        notes.append(
            f"{measure}: {listed(without)} did not measure it, so there is nothing to pair"
        )
    return notes


def _notes_on_seeds(sources: Sequence[StoredExperiment]) -> list[str]:
    shared = set.intersection(*(set(source.experiment.seeds) for source in sources))
    notes = []
    for source in sources:
        alone = [str(seed) for seed in source.experiment.seeds if seed not in shared]
        if alone:
            notes.append(
                f"{source.label}: seeds {', '.join(alone)} are not in all experiments, so they "
                "count only in pairs of arms that both have them"
            )
        measured = set(zip(source.frame["arm"], source.frame["seed"], strict=True))
        steps = {name: arm.training.steps for name, arm in source.experiment.arms.items()}
        ends = source.frame[source.frame["step"] == source.frame["arm"].map(steps)]
        ended = set(zip(ends["arm"], ends["seed"], strict=True))
        for arm in source.experiment.arms:
            for seed in source.experiment.seeds:
                if (arm, seed) not in ended:
                    state = "not at its last step" if (arm, seed) in measured else "not measured"
                    notes.append(f"{source.label}: {RunId(arm, seed)} is {state}: left out")
    return notes


def _notes_on_rules(sources: Sequence[StoredExperiment]) -> list[str]:
    """Say whose level, margins and targets hold, where experiments state different ones."""
    first, *others = (
        (rules.level, rules.margin, rules.targets)
        for rules in (source.experiment.comparison for source in sources)
    )
    notes = []
    if not all(other == first for other in others):
        notes.append(
            "level, margins or targets differ between the experiments: those of "
            f"{sources[0].label} hold"
        )
    alone = [source.label for source in sources if source.experiment.comparison.baseline]
    if others and alone:
        notes.append(f"all pairs of joined arms are compared; {listed(alone)} named a baseline")
    return notes


def _differing(
    sources: Sequence[StoredExperiment], joined: Mapping[tuple[int, str], str]
) -> dict[str, dict[str, str]]:
    """Return setting -> joined arm -> value of all settings that some two joined arms differ in."""
    settings = {}
    for (place, arm), name in joined.items():
        experiment = sources[place].experiment
        settings[name] = {
            **flat(experiment.arms[arm].model_dump(mode="json")),
            **_data_settings(experiment),
            **flat({"evaluation": {"every": experiment.evaluation.every}}),
            **flat({"version": dict(sources[place].packages)}),
        }
    fields = dict.fromkeys(field for of_arm in settings.values() for field in of_arm)
    return {
        field: {name: str(of_arm.get(field, "-")) for name, of_arm in settings.items()}
        for field in fields
        if len({str(of_arm.get(field, "-")) for of_arm in settings.values()}) > 1
    }


def _data_settings(experiment: Experiment) -> dict[str, object]:
    dump = experiment.model_dump(mode="json", include={"task", "data", "tokenizer"})
    return flat(dump)
