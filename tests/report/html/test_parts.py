"""Each part of the page against numbers worked out by hand."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from ntpctp._core.errors import InputError
from ntpctp._core.files import write_jsonl
from ntpctp._core.layout import RunId
from ntpctp.analysis.comparison import compare
from ntpctp.analysis.primary import primary_score
from ntpctp.config import experiment_of
from ntpctp.measures import MEASURES
from ntpctp.report.html import inputs, items
from ntpctp.report.html.appendix import disagreements_table
from ntpctp.report.html.curves import curves, mean_interval
from ntpctp.report.html.definitions import definitions
from ntpctp.report.html.figures import curves_figure
from ntpctp.report.html.headline import headline
from ntpctp.report.html.matched_budget import matched_table
from ntpctp.report.html.tables import Table
from ntpctp.report.html.verdicts import sizes_table, spread_table, verdict_tables
from ntpctp.report.html.wording import difference, number
from ntpctp.statistics import Verdict

SHARE = "share of items"
NOT_SIGNIFICANT = "No significant difference in spread: "


def test_a_line_of_a_log_that_is_half_written_is_none_yet(tmp_path):
    path = tmp_path / "ntp/seed-0/train/log.jsonl"
    path.parent.mkdir(parents=True)
    line = {"step": 1, "loss": 2, "tokens": 3, "supervised_tokens": 3, "seconds": 0.1}
    path.write_text(json.dumps(line) + '\n{"step": 2, "lo')
    assert inputs.read_log(tmp_path, RunId("ntp", 0)) == [line]
    path.write_text('{"step": 1, "lo\n')
    with pytest.raises(InputError, match=r"log\.jsonl, line 1"):
        inputs.read_log(tmp_path, RunId("ntp", 0))


def test_mean_interval_is_scipys() -> None:
    values = [0.41, 0.52, 0.48, 0.6]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert mean_interval(values, "nats per token", 0.9) == pytest.approx(tuple(expected))


def test_mean_interval_of_a_share_stays_possible() -> None:
    assert mean_interval([0.1, 0.9, 1.0], SHARE, 0.95) == (0.0, 1.0)
    assert mean_interval([0.1, 0.9, 1.0], "nats per token", 0.95)[1] > 1


def test_mean_interval_needs_three_seeds() -> None:
    assert mean_interval([0.1, 0.9], SHARE, 0.95) == (None, None)


def test_curves_keep_every_seed_and_leave_out_nulls() -> None:
    frame = pd.DataFrame(
        {
            "arm": ["a"] * 4 + ["b"],
            "seed": [1, 0, 0, 1, 0],
            "step": [0, 0, 10, 10, 0],
            "value": [1.0, 3.0, 5.0, None, 7.0],
            "error_bound": [None, 0.5, None, None, None],
            "unit": "nats per token",
        }
    ).astype({"error_bound": "float64"})
    found = curves(frame, ["b", "a", "c"], "step", 0.95)
    assert [curve.arm for curve in found] == ["b", "a"]
    first, second = found[1].points
    assert first.values == {0: 3.0, 1: 1.0} and first.mean == 2.0 and first.bounds == {0: 0.5}
    assert second.x == 10 and second.values == {0: 5.0}


def test_a_threshold_is_drawn_and_stays_in_sight() -> None:
    rows = {"arm": "a", "unit": "ratio", "error_bound": None, "seed": 0}
    frame = pd.DataFrame([{**rows, "step": s, "value": v} for s, v in ((0, 0.001), (9, 0.01))])
    found = curves(frame, ["a"], "step", 0.95)
    figure = curves_figure(found, ["a"], "ratio", "step", log=True, threshold=1.0)
    (line,) = figure.layout.shapes
    assert line.y0 == line.y1 == 1.0
    assert figure.layout.yaxis.range[1] > 0  # log10 of 1
    assert not curves_figure(found, ["a"], "ratio", "step", log=True).layout.shapes


def test_loss_curve_is_short_and_keeps_the_mean() -> None:
    log = [{"step": n, "loss": float(n)} for n in range(1, 1001)]
    points = inputs.loss_curve(log)
    assert len(points) == 250 and points[0] == (4, 2.5) and points[-1] == (1000, 998.5)
    assert inputs.loss_curve(log[:3]) == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert inputs.loss_curve([]) == []


def test_disagreements_count_and_order_items(made: Callable[..., Any]) -> None:
    made_up = made(seeds=2)
    primary = primary_score(made_up.experiment, made_up.comparisons)
    assert primary is not None and primary.score == "exact_match"
    rights = {
        ("ntp", 0): [1, 0, 0, 1],
        ("ntp", 1): [1, 1, 0, 1],
        ("ctp", 0): [1, 1, 1, 0],
        ("ctp", 1): [1, 1, 1, 1],
    }
    for (arm, seed), of_run in rights.items():
        path = made_up.output / f"{arm}/seed-{seed}/train/step-000100/evaluation/accuracy.jsonl"
        rows = [
            {
                "split": "test",
                "item": 10 * number,
                "exact_match": right,
                "prediction": "x" if right else f"y{seed}",
                "reference": "x",
            }
            for number, right in enumerate(of_run)
        ]
        # Of another split, of no value, out of order: none of them counts or misleads.
        decoy = {**rows[2], "split": "ood", "prediction": "decoy"}
        rows = [rows[3], rows[2], decoy, rows[1], rows[0]]
        rows.insert(1, {**rows[-1], "item": 50, "exact_match": None})
        write_jsonl(path, rows)
    answers = items.StoredAnswers(made_up.output, primary)
    texts = items.ExampleTexts(made_up.experiment, made_up.output, "test")
    found = items.disagreement(primary.pairs[0], primary, answers, texts)
    assert found is not None
    assert [item.number for item in found.items] == [20, 10, 30] and found.num_differing == 3
    assert found.num_items == 4
    assert found.counts == [(0, 1, 1, 2, 0), (1, 3, 0, 1, 0)]
    item = found.items[0]
    assert item.num_right == (0, 2)
    assert [(p.text, p.num_seeds, p.right) for p in item.predictions[0]] == [
        ("y0", 1, False),
        ("y1", 1, False),
    ]
    assert [(p.text, p.num_seeds, p.right) for p in item.predictions[1]] == [("x", 2, True)]


def test_tokens_carry_the_weight_of_each_objective(made: Callable[..., Any]) -> None:
    made_up = made(seeds=1)
    texts = items.ExampleTexts(made_up.experiment, made_up.output, "test")
    example = made_up.experiment.task.split("test")[0]
    tokens = texts.tokens(0, ["ntp", "ctp"])
    assert "".join(token.text for token in tokens[:-1]) == "".join(example.key)
    assert tokens[0].weights == (0.0, 0.0)  # nothing precedes it
    num_answer = len(example.answer) + 1  # the end of the sequence is learned too
    assert {token.weights for token in tokens[1:-num_answer]} == {(1.0, 0.0)}
    assert {token.weights for token in tokens[-num_answer:]} == {(1.0, 1.0)}


def test_tokens_of_an_answer_of_one_token_under_wrong_labels(made: Callable[..., Any]) -> None:
    made_up = made(seeds=1)
    noisy = {"objective": {"name": "noisy", "rate": 0.5, "base": "ntp"}}
    content = made_up.experiment.model_dump(mode="json")
    experiment = experiment_of({**content, "arms": {"noisy": noisy}}, "test")
    shutil.copytree(made_up.output / "ntp", made_up.output / "noisy")
    texts = items.ExampleTexts(experiment, made_up.output, "test")
    number = next(n for n, e in enumerate(experiment.task.split("test")) if len(set(e.answer)) == 1)
    assert [token.weights for token in texts.tokens(number, ["noisy"])][:2] == [(0.0,), (1.0,)]


def test_the_likeliest_choice_is_the_answer_shown(made: Callable[..., Any]) -> None:
    made_up = made(seeds=1)
    texts = items.ExampleTexts(made_up.experiment, made_up.output, "test")
    row = {"prediction": "free text", "choice_log_likelihoods": []}
    assert texts.answer(0, row, "choice") == "free text"


def test_a_clear_difference_names_the_winner(made: Callable[..., Any]) -> None:
    made_up = made()
    rows = made_up.frame["score"] == "answer_loss"
    first = rows & (made_up.frame["arm"] == "ntp")
    made_up.frame.loc[rows, "value"] = 1.0 + 0.01 * made_up.frame.loc[rows, "seed"] ** 2
    made_up.frame.loc[first, "value"] += 1.0 + 0.01 * made_up.frame.loc[first, "seed"]
    loss = next(c for c in made_up.comparisons if c.score == "answer_loss")
    found = headline(made_up.experiment, loss)
    assert found.verdict == "ctp is better than ntp." and found.winner == 1  # lower is better
    assert not found.outlook


def test_definitions_come_from_the_measures() -> None:
    found = definitions([measure() for measure in MEASURES.values()])
    assert [entry.name for entry in found] == [*MEASURES, "learning"]
    words = " ".join(str(block) for entry in found for block in entry.blocks)
    for score in ("exact_match", "accuracy_under_noise", "top_eigenvalue_answer_loss"):
        assert f"<code>{score}</code>" in words
    assert "``" not in words and ":math:" not in words and "\\" not in words


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 2 cells, got 1"):
        Table("of nothing", ("a", "b")).add("x")


def test_the_verdict_is_about_the_first_score_of_the_measure(usual):
    """With reasoning and candidates both scores are there; the task's own mode comes first."""
    match = usual.frame[usual.frame["score"] == "exact_match"].assign(rows_key=None)
    choice = match.assign(score="choice")
    for order, expected in (([match, choice], "exact_match"), ([choice, match], "choice")):
        frame = pd.concat(order, ignore_index=True)
        found = primary_score(usual.experiment, compare(usual.experiment, frame, usual.output))
        assert found.score == expected


@pytest.mark.parametrize(
    ("a", "b", "start"),
    [
        ([0.5, 0.5, 0.5, 0.5, 0.51], [0.1, 0.9, 0.2, 0.8, 0.5], "ctp varies less over seeds: "),
        (
            [0.1, 0.9, 0.3, 0.8, 0.5],
            [0.1, 0.9, 0.2, 0.8, 0.5],
            NOT_SIGNIFICANT,
        ),
        ([0.4, 0.6, 0.5], [0.1, 0.9, 0.5], NOT_SIGNIFICANT),
        ([0.4, 0.6], [0.1, 0.9], "Not tested: "),
    ],
)
def test_a_difference_in_spread_is_claimed_where_the_test_says_so(
    usual: Any, a: list[float], b: list[float], start: str
) -> None:
    """The first arm named is the one that spreads less; at p = 1 there is no claim at all."""
    frame = usual.frame[usual.frame["score"] == "exact_match"].assign(rows_key=None)
    frame = frame[(frame["step"] == 100) & (frame["seed"] < len(a))].copy()
    for arm, values in (("ctp", a), ("ntp", b)):
        frame.loc[frame["arm"] == arm, "value"] = values
    (comparison,) = compare(usual.experiment, frame, usual.output)
    (words,) = headline(usual.experiment, comparison).spreads
    assert words.startswith(start)
    p = comparison.pairs[0].spread.p_value
    assert (p is None) == (len(a) == 2) and (p is not None and p < 0.05) == ("varies less" in start)
    assert "(ctp) against" in words and "closer together" not in words


@pytest.mark.parametrize(
    ("better", "start"),
    [
        ({}, "Not decided which of the 3 arms is best."),
        ({(0, 1): "a"}, "No arm is better than all others: 1 of 3 pairs has"),
        ({(0, 1): "a", (0, 2): "a"}, "ntp is better than all others."),
    ],
)
def test_the_headline_of_three_arms(made: Callable[..., Any], better: Any, start: str) -> None:
    """Undecided pairs do not say that no arm is better."""
    made_up = made(arms=("ntp", "ctp", "half"))
    primary = primary_score(made_up.experiment, made_up.comparisons)
    assert primary is not None
    open_verdict = Verdict("the data do not say", "undecided", None, 9, None, None)
    names = list(primary.arms)
    pairs = []
    for pair in primary.pairs:
        key = names.index(pair.a), names.index(pair.b)
        decided = Verdict(f"{pair.a} better", "better", better.get(key), None, None, None)
        pairs.append(replace(pair, verdict=decided if key in better else open_verdict))
    assert headline(made_up.experiment, replace(primary, pairs=pairs)).verdict.startswith(start)


def test_matched_budgets_are_tabled_and_what_is_not_known_is_said(usual: Any) -> None:
    primary = primary_score(usual.experiment, usual.comparisons)
    table = matched_table(primary, 0.95, 6)
    assert table is not None and len(table.rows) == 4
    by_axis = {row[1].text: row for row in table.rows}
    # At the last step both arms have seen the same here: the difference is that over seeds.
    end = by_axis["supervised tokens"]
    assert end[2].text == "6\u202f000"
    assert primary is not None and primary.pairs[0].difference is not None
    assert end[4].text == difference(primary.pairs[0].difference.estimate, SHARE)
    assert by_axis["operations (FLOPs)"][1].note.startswith("operations of ntp and ctp are not")
    assert [cell.text for cell in by_axis["operations (FLOPs)"][2:]] == ["no value"] * 4
    assert matched_table(None, 0.95, 6) is None


def test_sizes_and_items_of_single_seeds_are_tabled(usual: Any) -> None:
    primary = primary_score(usual.experiment, usual.comparisons)
    assert primary is not None
    items = disagreements_table(primary)
    assert items is not None and len(items.rows) == 5
    assert [row[1].text for row in items.rows] == ["0", "1", "2", "3", "4"]
    assert primary.pairs[0].mcnemar is not None
    first = primary.pairs[0].mcnemar[0]
    assert [cell.text for cell in items.rows[0][2:5]] == [
        str(first.num_only_a),
        str(first.num_only_b),
        "12",
    ]
    sizes = sizes_table(usual.experiment, [primary])
    assert primary.pairs[0].effect is not None
    assert sizes.rows[0][2].text == number(primary.pairs[0].effect.estimate or 0, 3)
    at_target = [row[-1] for row in spread_table(usual.experiment, [primary]).rows]
    assert [cell.text for cell in at_target] == ["0 of 5", at_target[1].text]
    assert "at least 90.0" in at_target[0].note


def test_power_beyond_the_possible_is_said(usual: Any) -> None:
    frame = usual.frame[usual.frame["score"] == "exact_match"].assign(rows_key=None)
    frame = frame[(frame["step"] == 100) & (frame["seed"] < 2)].copy()
    frame.loc[frame["arm"] == "ntp", "value"] = [0.1, 0.9]
    frame.loc[frame["arm"] == "ctp", "value"] = [0.8, 0.2]
    (comparison,) = compare(usual.experiment, frame, usual.output)
    assert comparison.pairs[0].verdict.smallest_detectable_difference > 1
    (words,) = headline(usual.experiment, comparison).outlook
    assert words.endswith("With 80\xa0% power no possible difference is detectable.")
    ((_, _, table),) = verdict_tables(usual.experiment, [comparison])
    assert "no possible difference detectable with 80\xa0% power" in table.rows[0][4].note


def test_a_row_says_whether_its_verdict_could_be_no_difference(made: Callable[..., Any]) -> None:
    """Rows with and without a margin stand side by side: each says which it is."""
    made_up = made()
    found = {c.score: c for c in made_up.comparisons}
    match, loss = found["exact_match"], found["answer_loss"]
    assert match.margin == 0.01 and loss.margin is None
    same = Verdict("no difference larger than 0.01", "no difference", None, None, None, 0.01)
    alike = replace(match, pairs=[replace(match.pairs[0], verdict=same)])
    ((_, _, table),) = verdict_tables(made_up.experiment, [alike, match, loss])
    first, second, third = (row[4] for row in table.rows)
    assert first.text == "no difference larger than 1.0\xa0pp"
    assert first.note == "within the margin of ±1.0\xa0pp"
    assert second.note.startswith("margin of ±1.0\xa0pp; ")
    assert third.note.startswith("no margin stated; ")
