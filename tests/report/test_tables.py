"""Comparisons for papers: all digits for machines, rounded and escaped for readers."""

import csv
import io
import json
import shutil
import subprocess

import duckdb
import pandas as pd
import pytest

from ntpctp.report import tables
from ntpctp.report.tables import COLUMNS, as_csv, as_json, as_latex, as_markdown, rounded

NASTY = r"a_b 50% & #1 $x$ {y} ~ ^ \cmd <t> | `c` *d* [e] " + '"f"'


def row(**changes):
    fields = {
        "data": "one",
        "measure": "accuracy",
        "split": "test",
        "stratum": None,
        "score": "exact_match",
        "strength": None,
        "unit": "share of items",
        "higher_is_better": True,
        "arm_a": "ntp",
        "mean_a": 0.8123456789,
        "sd_a": 0.0213,
        "seeds_a": 5,
        "arm_b": "ctp",
        "mean_b": 0.9,
        "sd_b": None,
        "seeds_b": 1,
        "seeds": 5,
        "items": 100,
        "difference": -0.0876543211,
        "low": -0.1076543,
        "high": -0.0676543,
        "level": 0.95,
        "p_value": 1e-7,
        "holm_p_value": None,
        "verdict": "ctp better",
        "reason": None,
    }
    assert tuple(fields) == COLUMNS
    return {**fields, **changes}


ROWS = [
    row(),
    row(stratum="hops = 3"),
    row(split=NASTY, arm_a="n_p", verdict=NASTY),
    row(higher_is_better=None, score="stopped"),
    row(mean_a=None, difference=None, low=None, high=None, p_value=None, verdict=None,
        reason="no seed has a value in both arms"),
]  # fmt: skip


def test_machines_get_all_rows_and_digits(tmp_path):
    content = json.loads(as_json(ROWS, {"notes": []}))
    assert content == {"rows": ROWS, "notes": []}
    read = list(csv.DictReader(io.StringIO(as_csv(ROWS))))
    assert [{k: "" if v is None else str(v) for k, v in r.items()} for r in ROWS] == read
    path = tmp_path / "rows.csv"
    path.write_text(as_csv(ROWS))
    # To the last bit but one at most: pandas' fast reader of decimals may miss by that.
    assert pd.read_csv(path)["difference"][0] == pytest.approx(ROWS[0]["difference"], rel=1e-15)
    assert duckdb.sql(f"SELECT split FROM '{path}'").fetchall()[2] == (NASTY,)


def test_readers_get_numbers_rounded_by_their_uncertainty():
    lines = as_markdown(ROWS[:1]).splitlines()
    assert lines[2] == ("| score (unit) | ntp | ctp | difference | 95% interval | p | verdict |")
    assert lines[4] == (
        "| test: exact\\_match (share of items) | 0.812 (0.021) | 0.9 (one seed) | -0.088 | "
        "[-0.108, -0.068] | &lt;0.001 | ctp better |"
    )


@pytest.mark.parametrize(
    ("value", "uncertainty", "expected"),
    [
        (0.123456, 0.0996, "0.12"),
        (0.123456, 0.00996, "0.123"),
        (123456.0, 1234.0, "123500"),
        (99.99, 0.05, "99.990"),
        (-0.0004, 0.5, "0.00"),
        (1.5e-9, 2e-10, "0.00000000150"),
        (12.0, 0.0, "12"),
    ],
)
def test_rounding(value, uncertainty, expected):
    assert rounded(value, uncertainty) == expected


def test_first_rank_scores_or_all():
    for write in (as_markdown, as_latex):
        few, everything = write(ROWS), write(ROWS, everything=True)
        assert "hops" not in few and "stopped" not in few
        assert "hops" in everything and "stopped" in everything


def test_markdown_has_one_cell_a_column_whatever_the_names():
    (table,) = [t for t in as_markdown(ROWS).split("**") if "cmd" in t]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len(lines) == 3
    for line in lines:
        assert line.replace("\\|", "").count("|") == 8
    assert r"a\_b 50% & \#1 $x$ \{y\} \~ ^ \\cmd \<t\> \| \`c\` \*d\* \[e\]" in lines[2]


def test_latex_is_escaped_and_compiles(tmp_path):
    text = as_latex([*ROWS, *(row(arm_a="[a", split="-1", score=sign) for sign in NASTY)])
    escaped = (
        r"a\_b 50\% \& \#1 \$x\$ \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}cmd "
        r"\textless{}t\textgreater{} \textbar{} `c` *d* [e] \textquotedbl{}f\textquotedbl{}"
    )
    assert escaped in text and "{[}$-$0.108, $-$0.068]" in text
    assert text.count(r"\begin{tabular}{lrrrrrl}") == 3
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex here: the escaping is tested above, the compiling is not")
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs}\n"
        f"\\begin{{document}}\n{text}\\end{{document}}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-1500:]
    assert (tmp_path / "t.pdf").stat().st_size > 1000


def test_levels_are_not_rounded():
    for level, shown in ((0.995, "99.5% interval"), (0.975, "97.5% interval"), (0.95, "95% int")):
        assert shown in as_markdown([row(level=level)])


def test_rows_of_a_comparison():
    spread = {"mean": 0.5, "standard_deviation": 0.1, "num_seeds": 3}
    difference = {
        "num_seeds": 3, "num_items": 9, "estimate": 0.1, "low": None, "high": None, "level": 0.95,
        "p_value": None, "reason": "one seed",
    }  # fmt: skip
    pair = {
        "a": "x", "b": "y", "seeds": [0], "difference": difference, "holm_p_value": 0.5,
        "verdict": {"words": "one seed: no verdict"}, "reason": None,
    }  # fmt: skip
    score = {
        "measure": "accuracy", "split": "test", "stratum": None, "score": "choice",
        "strength": None, "unit": "share of items", "higher_is_better": True,
        "arms": {"x": spread, "y": None}, "pairs": [pair, {**pair, "difference": None}],
    }  # fmt: skip
    one, other = tables.comparison_rows({"experiment": "e", "scores": [score]})
    assert tuple(one) == COLUMNS
    assert (one["mean_a"], one["mean_b"], one["seeds_b"]) == (0.5, None, 0)
    assert (one["difference"], one["items"], one["reason"]) == (0.1, 9, "one seed")
    assert (other["difference"], other["seeds"]) == (None, 1)
