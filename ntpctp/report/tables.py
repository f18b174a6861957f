"""Comparisons as tables for papers: JSON, CSV, Markdown, LaTeX."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ntpctp.analysis.scores import IDENTITY, stands_alone
from ntpctp.report.verdict_words import shown_verdict

COLUMNS = (
    "data",
    *IDENTITY,
    *("unit", "higher_is_better"),
    *(f"{column}_{arm}" for arm in "ab" for column in ("arm", "mean", "sd", "seeds")),
    *("seeds", "items", "difference", "low", "high", "level"),
    *("p_value", "holm_p_value", "verdict", "reason"),
)
"""Columns of the rows. ``data`` names the experiment whose data were used, if several are joined;
the difference is arm A minus arm B; means and standard deviations are over all seeds of an arm;
``seeds`` and ``items`` count those that both arms share, on which the difference rests."""

TableRow = dict[str, Any]


def comparison_rows(record: Mapping[str, Any]) -> list[TableRow]:
    """Return one row for every score and pair of arms of the content of ``comparison.json``."""
    return [
        {
            "data": record["experiment"],
            **{column: score[column] for column in IDENTITY},
            "unit": score["unit"],
            "higher_is_better": score["higher_is_better"],
            **_of_arm("a", pair["a"], score),
            **_of_arm("b", pair["b"], score),
            **_of_difference(pair),
        }
        for score in record["scores"]
        for pair in score["pairs"]
    ]


def _of_arm(letter: str, name: str, score: Mapping[str, Any]) -> TableRow:
    spread = score["arms"].get(name) or {}
    return {
        f"arm_{letter}": name,
        f"mean_{letter}": spread.get("mean"),
        f"sd_{letter}": spread.get("standard_deviation"),
        f"seeds_{letter}": spread.get("num_seeds", 0),
    }


def _of_difference(pair: Mapping[str, Any]) -> TableRow:
    difference = pair["difference"] or {}
    verdict = pair["verdict"]
    return {
        "seeds": difference.get("num_seeds", len(pair["seeds"])),
        "items": difference.get("num_items"),
        "difference": difference.get("estimate"),
        **{key: difference.get(key) for key in ("low", "high", "level", "p_value")},
        "holm_p_value": pair["holm_p_value"],
        "verdict": verdict["words"] if verdict else None,
        "reason": pair["reason"] or difference.get("reason"),
    }


def as_json(rows: Sequence[TableRow], more: Mapping[str, Any]) -> str:
    """Return rows and further fields as one JSON object, with all digits."""
    return json.dumps({"rows": rows, **more}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(rows: Sequence[TableRow]) -> str:
    """Return rows as CSV with a header and all digits; null is empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def as_markdown(rows: Sequence[TableRow], everything: bool = False) -> str:
    """Return one Markdown table for each pair of arms, numbers rounded by their uncertainty.

    ``everything`` includes scores by stratum and strength, scores that refine others, and scores
    that are descriptive only.
    """
    parts = []
    for title, header, body in _tables(rows, everything):
        lines = [header, ["---", *["---:"] * (len(header) - 2), "---"], *body]
        shown = [
            "| " + " | ".join(x if k == 1 else _markdown(x) for x in line) + " |"
            for k, line in enumerate(lines)
        ]
        parts.append(f"**{_markdown(title)}**\n\n" + "\n".join(shown) + "\n")
    return "\n".join(parts)


def as_latex(rows: Sequence[TableRow], everything: bool = False) -> str:
    r"""Return one LaTeX table for each pair of arms, as ``as_markdown`` does.

    Needs ``\usepackage{booktabs}``; names with other than Latin letters need lualatex or xelatex.
    """
    parts = []
    for title, header, body in _tables(rows, everything):
        lines = [" & ".join(map(_latex, line)) + r" \\" for line in (header, *body)]
        parts += [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_latex(title)}}}",
            rf"  \begin{{tabular}}{{l{'r' * (len(header) - 2)}l}}",
            r"    \toprule",
            f"    {lines[0]}",
            r"    \midrule",
            *(f"    {line}" for line in lines[1:]),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    return "% \\usepackage{booktabs}\n" + "\n".join(parts)


def _tables(
    rows: Sequence[TableRow], everything: bool
) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    """Yield title, header and cells of the table of each pair of arms, in plain text."""
    pairs: dict[tuple[str, str, str], list[TableRow]] = {}
    for row in rows:
        alone = stands_alone(*(row[column] for column in IDENTITY))
        if everything or (row["higher_is_better"] is not None and alone):
            pairs.setdefault((row["data"], row["arm_a"], row["arm_b"]), []).append(row)
    for (data, a, b), of_pair in pairs.items():
        levels = {row["level"] for row in of_pair if row["level"] is not None}
        interval = f"{100 * max(levels):g}% interval" if levels else "interval"
        holm = any(row["holm_p_value"] is not None for row in of_pair)
        p_values = ["p", "p (Holm)"] if holm else ["p"]
        header = ["score (unit)", a, b, "difference", interval, *p_values, "verdict"]
        title = f"{data}: {a} minus {b} at the last step; mean (standard deviation over seeds)"
        yield title, header, [_cells(row, holm) for row in of_pair]


def _cells(row: TableRow, holm: bool) -> list[str]:
    stratum = "" if row["stratum"] is None else f" ({row['stratum']})"
    strength = "" if row["strength"] is None else f" at {row['strength']:g}"
    score = f"{row['split']}{stratum}: {row['score']}{strength} ({row['unit']})"
    low, high = row["low"], row["high"]
    half = None if low is None else (high - low) / 2
    interval = "-" if low is None else f"[{rounded(low, half)}, {rounded(high, half)}]"
    return [
        score,
        *(_level(row[f"mean_{arm}"], row[f"sd_{arm}"]) for arm in "ab"),
        rounded(row["difference"], half),
        interval,
        _p_value(row["p_value"]),
        *[_p_value(row["holm_p_value"])] * holm,
        shown_verdict(row["verdict"] or row["reason"] or "-"),
    ]


def _level(mean: float | None, sd: float | None) -> str:
    if mean is None:
        return "-"
    return f"{rounded(mean, sd)} ({'one seed' if sd is None else rounded(sd, sd)})"


def _p_value(p: float | None) -> str:
    return "-" if p is None else "<0.001" if p < 0.001 else f"{p:.2g}"


def rounded(value: float | None, uncertainty: float | None) -> str:
    """Return a number with two significant digits of its uncertainty, four if there is none.

    >>> rounded(0.81234, 0.0213), rounded(412.7, 35.0), rounded(5234.0, 812.0)
    ('0.812', '413', '5230')
    >>> rounded(0.81234, None), rounded(-0.00001, 0.01), rounded(None, 1.0)
    ('0.8123', '0.000', '-')
    """
    if value is None:
        return "-"
    if not uncertainty:
        return f"{value:.4g}"
    # 0.0996 rounds to 0.10: the digits are those of the rounded uncertainty.
    digits = 1 - math.floor(math.log10(float(f"{uncertainty:.1e}")))
    number = round(value, digits)
    return f"{number if number else 0.0:.{max(digits, 0)}f}"


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "\n": " ",
    "\r": " ",
}
_MARKDOWN = {**{sign: f"\\{sign}" for sign in "\\`*_{}[]<>#|~"}, "\n": " ", "\r": " "}
_NUMBER = set("0123456789.-()[], e+")


def _latex(text: str) -> str:
    if text[:1] == "-" and len(text) > 1 and set(text) <= _NUMBER:
        return f"$-${text[1:]}"
    if text[:1] == "[":  # after \\ a bracket would be read as the argument of the line break
        return "{[}" + text[1:].replace("-", "$-$")
    return "".join(_LATEX.get(sign, sign) for sign in text)


def _markdown(text: str) -> str:
    if set(text) <= _NUMBER or text == "<0.001":
        return text.replace("<", "&lt;")
    return "".join(_MARKDOWN.get(sign, sign) for sign in text)
