"""The page says everything, runs nothing that came from the data, and loads nothing."""

import base64
import json
import re
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from ntpctp.report.html import templates
from ntpctp.report.html.wording import MINUS, difference, interval, value

SCRIPT = "<script>alert(1)</script>"
NOT_CONVERGED = "not converged: residual 3.1 after 100 products"


def unpacked(text: str) -> str:
    return zlib.decompress(base64.b64decode(text)).decode()


class Document(HTMLParser):
    """Elements, scripts and visible text of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.packed: dict[str, Any] = {"figures": {}}
        self._inside = ""
        self._id = ""
        self._text: list[str] = []
        self.feed(page)
        self.text = " ".join("".join(self._text).split())

    @property
    def figures(self) -> dict[str, Any]:
        return self.packed["figures"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        self._id = ""
        if tag == "script" and dict(attrs).get("type") == "text/plain":
            self._id = str(dict(attrs)["id"])
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._id = ""

    def handle_data(self, data: str) -> None:
        if self._id == "packed":
            self.packed = json.loads(unpacked(data))
        elif self._id:
            assert unpacked(data) == get_plotlyjs()
        elif self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self._text.append(data)


def test_every_score_and_verdict_is_there(usual: Any, usual_page: str) -> None:
    text = Document(usual_page).text
    comparisons = usual.comparisons
    assert len(comparisons) == 6
    for comparison in comparisons:
        for name in ("ntp", "ctp"):
            for one in comparison.values[name].values():
                assert value(one, comparison.unit) in text.replace(" %", "\xa0%")
        pair = comparison.pairs[0]
        plain = usual_page.replace("\xa0", " ")
        assert difference(pair.difference.estimate, comparison.unit).replace("\xa0", " ") in plain
        ends = interval(pair.difference.low, pair.difference.high, comparison.unit)
        assert ends.replace("\xa0", " ") in plain
    assert "none corrected for their number" in text


def test_the_top_says_question_verdict_difference_and_spread(usual_page: str) -> None:
    head = Document(usual_page.partition("</header>")[0]).text
    assert "Which tokens should the loss see?" in head
    assert "ctp is better than ntp." in head or "Not decided" in head
    assert re.search(rf"difference {MINUS}\d+\.\d pp, 95 % interval \[{MINUS}", head)
    assert "over 5 seeds and 12 items" in head
    assert "sd over seeds" in head and "worst seed" in head and "permutation test p" in head


def test_a_missing_value_stands_with_its_reason(usual_page: str) -> None:
    document = Document(usual_page)
    assert document.text.count(NOT_CONVERGED) >= 3  # at the figure, the seed, the list
    assert "1 score is missing" in document.text


def test_nothing_is_missing_is_said(made: Callable[..., Any]) -> None:
    made_up = made()
    assert f"all {len(made_up.frame)} scores" in Document(made_up.page()).text


def test_a_run_that_was_not_measured_is_listed(made: Callable[..., Any]) -> None:
    made_up = made()
    frame = made_up.frame
    made_up.frame = frame[~((frame["arm"] == "ctp") & (frame["seed"] == 4))]
    text = Document(made_up.page()).text
    assert "9 scores are missing" in text  # 3 measures at 3 steps
    assert "accuracy: all of its scores" in text and "not measured" in text


def test_nothing_of_the_data_becomes_an_element(usual_page: str) -> None:
    document = Document(usual_page)
    assert SCRIPT not in usual_page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in usual_page  # shown as text
    kinds = [attributes.get("type") for tag, attributes in document.elements if tag == "script"]
    assert kinds.count(None) == 1  # the drawing of the figures; plotly is unpacked by it
    assert not any(
        name.startswith("on") for _, attributes in document.elements for name in attributes
    )


@pytest.mark.parametrize("place", ["question", "reason", "arm"])
def test_planted_scripts_are_escaped_everywhere(
    made: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(templates, "MOST_CELLS", 15)  # some tables are packed, some are not
    made_up = made(question=SCRIPT) if place == "question" else made()
    if place == "reason":
        made_up.frame.loc[0, ["value", "reason"]] = [np.nan, SCRIPT]
    if place == "arm":  # the experiment file refuses it; the page does not rely on that
        arms = dict(zip([SCRIPT, "ctp"], made_up.experiment.arms.values(), strict=True))
        made_up.experiment = made_up.experiment.model_copy(update={"arms": arms})
        made_up.frame["arm"] = made_up.frame["arm"].replace("ntp", SCRIPT)
        made_up.frame["rows_key"] = None
    page = made_up.page()
    assert SCRIPT not in page and "&lt;script&gt;" in page
    packed = Document(page).packed
    assert len(packed["tables"]) > 2 and "<script" not in str(packed["tables"].values())
    if place == "arm":
        assert "&lt;script&gt;" in packed["tables"]["accuracy-1"]
    for figure in packed["figures"].values():
        labels = json.dumps([trace.get("hovertemplate", "") for trace in figure["data"]])
        assert "<script" not in labels


def test_the_page_is_one_file_that_loads_nothing(usual_page: str) -> None:
    document = Document(usual_page)
    for tag, attributes in document.elements:
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "data", "action"):
            link = attributes.get(name) or "#"
            assert link.startswith("#") or link == "data:,", (tag, link)
    style = usual_page.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style
    assert usual_page.count('<script type="text/plain" id="plotly">') == 1
    assert len(usual_page.encode()) < 3_000_000


def test_every_figure_has_words_and_a_table(usual_page: str) -> None:
    document = Document(usual_page)
    plots = [a for tag, a in document.elements if tag == "div" and a.get("class") == "plot"]
    assert len(plots) == len(document.figures) == 7  # top, 2, 1, 1, losses of 2 objectives
    for plot in plots:
        assert len(str(plot["aria-label"])) > 40 and plot["data-figure"] in document.figures
    assert usual_page.count("<summary>table<span") == len(plots)
    ids = [a["id"] for _, a in document.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    targets = {str(a["href"])[1:] for tag, a in document.elements if tag == "a"}
    assert targets <= set(ids) and len(targets) > 8


def test_every_seed_is_a_point(usual_page: str) -> None:
    figure = Document(usual_page).figures["overview"]
    points = [trace for trace in figure["data"] if trace["mode"] == "markers"]
    assert [len(trace["x"]) for trace in points] == [5, 1, 5, 1, 5, 1]


def test_colours_are_those_of_the_style_sheet(usual_page: str) -> None:
    figures = json.dumps(Document(usual_page).figures)
    used = set(re.findall(r"var\((--[\w-]+)\)", figures))
    defined = set(re.findall(r"(--[\w-]+):", usual_page.partition("</style>")[0]))
    assert {"--arm-0", "--arm-1", "--arm-1-band"} <= used <= defined


def test_the_same_inputs_give_the_same_bytes(usual: Any, usual_page: str) -> None:
    assert usual.page() == usual_page


def test_one_seed_has_no_verdict(made: Callable[..., Any]) -> None:
    page = made(seeds=1).page()
    text = Document(page).text
    assert "One seed: no verdict." in page.partition("</header>")[0]
    assert "no interval over seeds can be computed" in text
    assert "One seed: the line is that seed" in text
    figure = Document(page).figures["accuracy-1"]
    assert not any(trace.get("fill") for trace in figure["data"])


def test_two_seeds_have_no_band(made: Callable[..., Any]) -> None:
    assert "No band: 2 seeds are too few" in Document(made(seeds=2).page()).text


def test_one_arm_is_not_compared(made: Callable[..., Any]) -> None:
    text = Document(made(arms=["ntp"]).page()).text
    assert "One arm, ntp: nothing to compare." in text


def test_three_arms_have_three_pairs(made: Callable[..., Any]) -> None:
    page = made(arms=["ntp", "ctp", "mixed"]).page()
    for pair in ("ntp against ctp", "ntp against mixed", "ctp against mixed"):
        assert f"{pair} at the last step" in page
    figure = Document(page).figures["overview"]
    assert len(figure["layout"]["yaxis2"]["ticktext"]) == 3


def test_arms_may_end_at_different_steps(made: Callable[..., Any]) -> None:
    text = Document(made(steps={"ctp": 150}).page()).text
    assert "100 to 150 optimizer steps" in text
    assert (
        "training.steps"
        in text.partition("Settings of the arms")[2].partition("settings that all")[0]
    )


def test_an_experiment_without_accuracy_has_a_page(made: Callable[..., Any]) -> None:
    text = Document(made(measures=["flatness"]).page()).text
    assert "top eigenvalue, answer loss, train" in text
    assert "No item rows of two arms" in text


def test_nothing_measured_yet_has_a_page(made: Callable[..., Any]) -> None:
    made_up = made()
    made_up.frame = made_up.frame.iloc[:0]
    text = Document(made_up.page()).text
    assert "Nothing is measured yet." in text and "90 scores are missing" in text


def test_files_that_are_gone_are_said(made: Callable[..., Any]) -> None:
    made_up = made()
    comparisons = made_up.comparisons
    assert "tokens in the loss" in Document(made_up.page()).text
    for name in ("provenance.json", "audit.json"):
        (made_up.output / name).unlink()
    for path in made_up.output.rglob("log.jsonl"):
        path.unlink()
    for path in made_up.output.rglob("tokenizer_config.json"):
        path.unlink()
    assert comparisons
    text = Document(made_up.page()).text
    assert "provenance.json is missing." in text
    assert "No checkpoint has a tokenizer" in text
    assert "tokens in the loss" not in text


def test_what_the_loss_sees_is_counted(usual: Any, usual_page: str) -> None:
    arms = json.loads((usual.output / "audit.json").read_text())["arms"]
    text = Document(usual_page).text
    for name in ("ntp", "ctp"):
        for split in ("train", "test"):
            counts = arms[name][split]
            assert f"{split}{counts['supervised_tokens']:,}{counts['min']} to" in text
    assert arms["ntp"]["train"]["supervised_tokens"] > arms["ctp"]["train"]["supervised_tokens"]


def test_a_page_is_written_whole_or_not_at_all(
    made: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made_up = made(seeds=1)
    made_up.page()
    before = (made_up.output / "report.html").read_bytes()

    def fail(*arguments: object) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr("ntpctp.report.html.render", fail)
    with pytest.raises(OSError, match="no space left"):
        made_up.page()
    assert (made_up.output / "report.html").read_bytes() == before
