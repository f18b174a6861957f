"""`ntpctp compare` and `ntpctp report` over one and over many experiments, as a user types them."""

import csv
import io
import json
import shutil

import pytest

from ntpctp._core.files import read_json
from ntpctp._core.layout import EXPERIMENT
from ntpctp.analysis.comparison import COMPARISON
from ntpctp.analysis.pipeline import compare_experiment
from ntpctp.analysis.scores import SCORES
from ntpctp.config import load_output
from tests.analysis.simulated import simulate

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two experiments on the same data, one on other data, the stages of one, and a broken one."""
    top = tmp_path_factory.mktemp("many") / "runs"
    other = {"task": {"name": "addition", "digits": 2, "train_size": 60, "test_size": 20}}
    simulate(
        top / "one", name="one", question=f"Does {SCRIPT} help?", arms={"ntp": 0.2, "ctp": 0.9}
    )
    simulate(top / "two", name="two", arms={"half": 0.6})
    simulate(top / "other", name="other", data="other data", **other)
    simulate(top / "staged/pretrain", name="staged-pretrain")
    simulate(top / "staged/finetune", name="staged-finetune", data="other data")
    shutil.rmtree(top / "staged/finetune/ctp/seed-2")
    for path in top.rglob(EXPERIMENT):
        compare_experiment(load_output(path.parent), path.parent)
    (top / "one/report.html").write_text("a report")
    (top / "bad #1").mkdir()
    (top / "bad #1" / EXPERIMENT).write_text(f"name: '{SCRIPT}'\n")
    return top


def content(directory):
    return {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_several_experiments_are_joined_and_stay_as_they_are(runs, ntpctp, tmp_path):
    before = content(runs)
    outcome = ntpctp("compare", runs / "one", runs / "two", "--output", tmp_path / "joined.json")
    assert outcome.code == 0, outcome.err
    assert "one and two" in outcome.out and "ntp against half" in outcome.out
    assert "objective.rate" in outcome.out  # what differs beyond what one program saw to
    record = read_json(tmp_path / "joined.json")
    assert {(r["arm_a"], r["arm_b"]) for r in record["rows"]} == {
        ("ntp", "ctp"), ("ntp", "half"), ("ctp", "half")
    }  # fmt: skip
    assert record["groups"][0]["differing_settings"]["objective.rate"]["ctp"] == "0.01"
    # A staged experiment is joined when its directory is given; here its tasks differ.
    outcome = ntpctp("compare", runs / "staged", "--format", "json")
    assert outcome.code == 0, outcome.err
    joined = json.loads(outcome.out)
    assert [g["experiment"] for g in joined["groups"]] == ["staged-finetune", "staged-pretrain"]
    assert set(joined["over_tasks"]["means"]) == {"ntp", "ctp"}
    note = "staged-finetune: ctp, seed 2 is left out: not measured"
    assert joined["groups"][0]["notes"] == [note]
    outcome = ntpctp("compare", runs / "one", runs / "other")
    assert "interquartile mean over runs and tasks" in outcome.out
    assert "The tasks are held fixed" in outcome.out
    assert content(runs) == before


@pytest.mark.slow
def test_formats_have_stdout_to_themselves(runs, ntpctp, tmp_path):
    one, two = (shutil.copytree(runs / name, tmp_path / name) for name in ("one", "two"))
    outcome = ntpctp("compare", one, "--format", "csv")
    assert outcome.code == 0, outcome.err
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    expected = read_json(one / COMPARISON)["scores"]
    assert [row["difference"] for row in rows if row["difference"]] == [
        str(score["pairs"][0]["difference"]["estimate"])
        for score in expected
        if score["pairs"][0]["difference"]
    ]
    assert outcome.err == f"report: {one / 'report.html'}\n"
    outcome = ntpctp("compare", one, "--format", "json")
    assert {r["score"] for r in json.loads(outcome.out)["rows"]} == {r["score"] for r in rows}
    outcome = ntpctp("compare", one, "--format", "markdown")
    assert outcome.out.startswith("**one: ntp minus ctp") and "kind" not in outcome.out
    assert "kind" in ntpctp("compare", one, "--format", "markdown", "--all").out
    outcome = ntpctp("compare", one, two, "--format", "latex")
    assert outcome.out.count(r"\begin{table}") == 3
    assert "settings that differ between joined arms: objective.rate" in outcome.err
    assert ntpctp("compare", two, "--format", "csv").out.count("\n") == 1
    outcome = ntpctp("compare", one, "--output", tmp_path / "x.json")
    assert outcome.code == 2 and "is written into its directory" in outcome.err


def test_the_index_has_one_row_an_experiment(runs, ntpctp):
    outcome = ntpctp("report", runs)
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"index: {runs / 'index.html'}\n"
    page = (runs / "index.html").read_text("utf-8")
    rows = page.split("<tr>")[2:]
    assert len(rows) == 6
    of = {name: next(row for row in rows if f"{name}</" in row) for name in ("one", "two", "other")}
    assert '<a href="./one/report.html">one</a>' in of["one"]
    assert "ctp is better than ntp." in of["one"] and "exact match, test" in of["one"]
    (value,) = {
        f"{100 * score['arms']['ctp']['mean']:.1f}"
        for score in read_json(runs / "one" / COMPARISON)["scores"]
        if (score["split"], score["score"], score["stratum"]) == ("test", "exact_match", None)
    }
    assert f"ctp: {value}" in of["one"]
    assert "One arm, half: nothing to compare." in of["two"] and "href" not in of["two"]
    assert "unfinished: 5 of 6 runs have their last checkpoint" in page
    assert "cannot be read" in rows[0] and "bad #1" in rows[0]
    assert "<script" not in page and "Does &lt;script&gt;" in page
    assert "http" not in page.split("</style>")[1]
    # Below runs/staged/ each stage is a row; an experiment's own directory has its own report.
    assert ntpctp("report", runs / "staged").code == 0
    assert (runs / "staged/index.html").is_file()


def test_what_cannot_be_compared_or_indexed(runs, ntpctp, tmp_path):
    outcome = ntpctp("report", tmp_path)
    assert outcome.code == 2 and "found no experiment.yaml" in outcome.err
    outcome = ntpctp("compare", tmp_path)
    assert outcome.code == 2 and "no experiment.yaml in it or in" in outcome.err
    outcome = ntpctp("compare", tmp_path / "nowhere", runs / "one")
    assert outcome.code == 2 and "nowhere" in outcome.err
    broken = tmp_path / "runs/broken"
    shutil.copytree(runs / "one", broken)
    for text in ('{"schema_version": 1}', "{", "[1, 2]", '{"schema_version": 4, "scores": [{}]}'):
        (broken / COMPARISON).write_text(text)
        assert ntpctp("report", tmp_path / "runs").code == 0
        page = (tmp_path / "runs/index.html").read_text("utf-8")
        assert str(broken / COMPARISON) in page and "1 without a verdict" in page
    outcome = ntpctp("report", runs / "one", "--figures", broken / COMPARISON)
    assert outcome.code == 2 and "expected a directory" in outcome.err
    (broken / SCORES).unlink()
    outcome = ntpctp("compare", broken, runs / "two")
    assert outcome.code == 2 and "no scores yet" in outcome.err


def test_a_lost_measurement_is_named_and_the_seeds_of_a_difference_are_counted(
    runs, ntpctp, tmp_path
):
    lost = tmp_path / "lost"
    shutil.copytree(runs / "one", lost)
    for path in lost.glob("ctp/seed-1/train/step-000020/evaluation/accuracy.*"):
        path.unlink()
    printed = ntpctp("compare", lost).out
    assert "missing: ctp, seed 1: not measured at step 20 (test exact match, " in printed
    assert "(2 seeds in both)" in printed
    (score,) = (
        score
        for score in read_json(lost / COMPARISON)["scores"]
        if (score["split"], score["score"], score["stratum"]) == ("test", "exact_match", None)
    )
    (pair,) = score["pairs"]
    # The difference is paired; how each arm spreads is not, and rests on all of its seeds.
    assert pair["difference"]["num_seeds"] == 2
    assert [pair["spread"][arm]["num_seeds"] for arm in ("a", "b")] == [3, 2]


def test_a_narrow_terminal_loses_no_number(runs):
    """Words fold where there is no room; none of their letters is cut off."""
    from rich.console import Console

    from ntpctp.analysis.joins import join, joined_record
    from ntpctp.report.terminal.comparisons import comparison_tables

    record = joined_record(join([runs / "one", runs / "two"]))
    letters = []
    for width in (400, 60):
        console = Console(width=width, file=io.StringIO())
        for table in comparison_tables(record["groups"][0]):
            console.print(table)
        letters.append(sorted(filter(str.isalnum, console.file.getvalue())))
    assert letters[0] == letters[1]
