"""scores.parquet: its documented schema, reading by other tools, and refused files."""

import re
import shutil
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet
import pytest
import yaml

from ntpctp._core.errors import InputError
from ntpctp._core.files import read_json, write_json
from ntpctp._core.layout import EXPERIMENT
from ntpctp.analysis import scores
from ntpctp.analysis.checkpoint_scores import collect
from ntpctp.analysis.comparison import COMPARISON
from ntpctp.analysis.pipeline import compare_experiment
from ntpctp.analysis.scores import SCHEMA_VERSION, SCORES, read_scores
from ntpctp.config import load_output
from ntpctp.measures import Accuracy
from tests.analysis.simulated import simulate


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    output = tmp_path_factory.mktemp("scores") / "run"
    compare_experiment(simulate(output), output)
    return output


def documented(text):
    """The first words of all rows of the table in a docstring, names apart."""
    rows = re.findall(r"^([a-z_, ]+?)  +(?:text|int|float|bool) ", text, re.M)
    return [name for row in rows for name in row.split(", ")]


def test_all_columns_are_documented_in_their_order(simulated):
    columns = list(scores._TYPES)
    assert documented(scores.__doc__) == columns
    assert read_scores(simulated).columns.tolist() == columns


def test_the_page_has_the_same_columns_and_its_queries_run(
    simulated, tmp_path, monkeypatch, capsys
):
    page = (Path(__file__).parents[2] / "docs" / "scores.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", page, re.M)
    assert [name.strip("`") for row in rows for name in row.split(", ")] == list(scores._TYPES)
    shutil.copytree(simulated, tmp_path / "runs" / "quickstart")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(blocks) == 4
    printed = []
    for block in blocks:
        exec(block, {})
        printed.append(capsys.readouterr().out)
    assert all(printed)
    frame = read_scores(simulated)
    chosen = (frame["arm"] == "ctp") & (frame["step"] == 20) & frame["stratum"].isna()
    values = frame[chosen & (frame["score"] == "exact_match") & (frame["split"] == "test")]["value"]
    assert f"{values.mean():.6f}" in printed[0] and f"{values.std():.6f}" in printed[0]
    assert "no items" in printed[2]
    assert float(printed[3]) == pytest.approx(values.iloc[0])


def test_pandas_arrow_and_duckdb_read_the_same_numbers(simulated):
    path = simulated / SCORES
    frame = pd.read_parquet(path)
    assert len(frame) > 70 and frame["value"].isna().sum() > 0
    table = pyarrow.parquet.read_table(path).to_pylist()
    duck = duckdb.sql(f"SELECT * FROM read_parquet('{path}')")
    assert duck.columns == frame.columns.tolist()
    for ours, arrow, row in zip(frame.to_dict("records"), table, duck.fetchall(), strict=True):
        plain = [None if pd.isna(value) else value for value in ours.values()]
        assert plain == list(arrow.values()) == list(row)
    means = duckdb.sql(
        f"SELECT arm, avg(value) FROM read_parquet('{path}') WHERE score = 'exact_match' AND "
        "split = 'test' AND step = 20 AND stratum IS NULL GROUP BY arm"
    ).fetchall()
    (found,) = (
        score
        for score in read_json(simulated / COMPARISON)["scores"]
        if (score["split"], score["score"], score["stratum"]) == ("test", "exact_match", None)
    )
    expected = {arm: spread["mean"] for arm, spread in found["arms"].items()}
    assert dict(means) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("versions", "found"), [([1], "1"), ([1, SCHEMA_VERSION], "1, 2"), ([None], "none")]
)
def test_other_and_mixed_versions_are_refused(simulated, tmp_path, versions, found):
    frame = read_scores(simulated)
    frame["schema_version"] = [versions[k % len(versions)] for k in range(len(frame))]
    frame.to_parquet(tmp_path / SCORES)
    with pytest.raises(InputError, match=rf"version 2, found {found}; `ntpctp compare {tmp_path}`"):
        read_scores(tmp_path)


def test_files_that_are_no_table_of_scores_are_refused(tmp_path):
    with pytest.raises(InputError, match="no scores yet"):
        read_scores(tmp_path)
    (tmp_path / SCORES).write_text("no parquet")
    with pytest.raises(InputError, match="expected a Parquet file"):
        read_scores(tmp_path)
    pd.DataFrame({"arm": ["ntp"], "schema_version": [SCHEMA_VERSION]}).to_parquet(tmp_path / SCORES)
    with pytest.raises(InputError, match="missing columns: experiment, seed, stage"):
        read_scores(tmp_path)


def test_scores_of_an_older_measure_are_not_lost(simulated, tmp_path, monkeypatch, ntpctp):
    """With a newer version of a measure than the stored results, nothing is rewritten."""
    output = tmp_path / "run"
    shutil.copytree(simulated, output)
    before = {path: path.read_bytes() for path in (output / SCORES, output / COMPARISON)}
    monkeypatch.setattr(Accuracy, "version", Accuracy.version + 1)
    number = len(list(output.glob("*/seed-*/train/step-*")))
    for command in ("compare", "report"):
        outcome = ntpctp(command, output)
        assert outcome.code == 2
        assert (
            f"{number} checkpoints were measured by an older version of measure accuracy "
            f"({Accuracy.version - 1}, here {Accuracy.version}). `ntpctp evaluate {output}` "
            "measures them again"
        ) in outcome.err
    assert {path: path.read_bytes() for path in before} == before


def test_scores_of_other_options_are_not_lost(simulated, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(simulated, output)
    content = yaml.safe_load((output / EXPERIMENT).read_text())
    content["evaluation"]["measures"][0]["max_items"] = 5
    (output / EXPERIMENT).write_text(yaml.safe_dump(content))
    (thin,) = output.glob("ntp/seed-0/train/step-000010")
    write_json(thin / "thin.json", {})
    with pytest.raises(InputError, match=r"other options of measure accuracy \(max_items\), 1 of"):
        collect(load_output(output), output)


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_rows_that_are_not_of_their_scores_are_refused(simulated, tmp_path, damage):
    """Only at the last step, where item rows are used."""
    output = tmp_path / "run"
    shutil.copytree(simulated, output)

    def rows(step):
        return output / f"ntp/seed-0/train/step-0000{step}/evaluation/accuracy.jsonl"

    rows(10).write_text(rows(10).read_text() + "\n")
    assert len(collect(load_output(output), output))
    if damage == "gone":
        rows(20).unlink()
    else:
        rows(20).write_text(rows(20).read_text() + "\n")
    message = r"1 checkpoint was measured by measure accuracy, but its rows \(accuracy.jsonl\) are"
    with pytest.raises(InputError, match=message):
        collect(load_output(output), output)
