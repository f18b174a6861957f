"""Figures as files for papers: real colours, names of the arms, one page each; and their errors."""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from ntpctp._core.errors import InputError
from ntpctp.report.html import figure_files
from ntpctp.report.html.figure_files import WIDTH, named_panels, paper_figure, write_figures
from tests.report.browser import BROWSER, DRIVER, MISSING, browser

needs_browser = pytest.mark.skipif(BROWSER is None or DRIVER is None, reason=MISSING)
ARMS = ("ntp", "ctp")


def panels_of(made: Any) -> dict[str, Any]:
    return named_panels(made.experiment, made.frame, made.comparisons, made.output)


def test_names_tell_what_a_figure_shows(usual):
    assert list(panels_of(usual)) == [
        "overview",
        "accuracy-test-exact-match",
        "accuracy-test-loss-on-the-answer",
        "robustness-test-accuracy-under-noise",
        "flatness-train-top-eigenvalue-answer-loss",
        "training-loss-of-the-objective-ntp",
        "training-loss-of-the-objective-ctp",
    ]


def test_a_figure_stands_alone_in_the_look_of_paper(usual):
    for name, panel in panels_of(usual).items():
        before = json.dumps(panel.figure)
        figure = paper_figure(panel, ARMS)
        assert json.dumps(panel.figure) == before  # the page's own is untouched
        assert "var(" not in json.dumps(figure), name
        assert figure["layout"]["width"] == WIDTH and figure["layout"]["paper_bgcolor"] == "#ffffff"
        named = [trace["name"] for trace in figure["data"] if trace.get("showlegend")]
        expected = {"overview": []} | {f"training-loss-of-the-objective-{a}": [a] for a in ARMS}
        assert named == expected.get(name, list(ARMS))
    loss = paper_figure(panels_of(usual)["accuracy-test-loss-on-the-answer"], ARMS)
    title = loss["layout"]["yaxis"]["title"]["text"]
    assert title.replace("<br>", " ") == "loss on the answer, nats per token"
    colours = {trace["line"]["color"] for trace in loss["data"]}
    assert colours == {"#0072b2", "#d55e00"}  # as style.css has them for light


def test_names_that_collide_are_numbered():
    taken: dict[str, int] = {}
    for _ in range(3):
        taken[figure_files._free("a", taken)] = 0
    assert list(taken) == ["a", "a-2", "a-3"]
    assert figure_files._slug("Loss: <b>, ../seed 0") == "loss-b-..-seed-0"


def test_without_kaleido_the_error_says_what_to_install(usual, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(
        InputError, match=r"kaleido is not installed.*pip install 'ntpctp\[figures\]'"
    ):
        write_figures(panels_of(usual), ARMS, tmp_path / "figures", "svg")
    assert not (tmp_path / "figures").exists()


def test_without_a_browser_the_error_says_what_to_install(usual, tmp_path, monkeypatch):
    kaleido = pytest.importorskip("kaleido")

    def nothing_found(*_: object, **__: object) -> None:
        raise kaleido.errors.ChromeNotFoundError

    monkeypatch.setattr(kaleido, "start_sync_server", nothing_found)
    with pytest.raises(InputError, match=r"no browser was found.*apt-get install chromium"):
        write_figures(panels_of(usual), ARMS, tmp_path / "figures", "svg")
    assert not (tmp_path / "figures").exists()


@needs_browser
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.slow
def test_a_trained_experiment_as_page_and_files(tmp_path: Path, capsys: Any) -> None:
    """The whole way as a user goes it: run, report with figures, open the page."""
    import yaml

    from ntpctp.cli import app
    from tests.conftest import TINY

    tiny = TINY | {"evaluation": {"every": 4, "measures": ["accuracy"]}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny, sort_keys=False))
    out, folder = tmp_path / "out", tmp_path / "figures"
    run = ["run", str(tmp_path / "tiny.yaml"), "--output", str(out), "--workers", "1"]
    app(run, standalone_mode=False)
    app(["report", str(out), "--figures", str(folder)], standalone_mode=False)
    files = sorted(folder.iterdir())
    assert f"figures: {len(files)} in {folder}" in capsys.readouterr().out and len(files) > 5
    for path in files:
        drawing = ElementTree.parse(path).getroot()
        words = " ".join(node.text or "" for node in drawing.iter() if node.tag.endswith("}text"))
        if not path.name.startswith("training-"):
            assert "ntp" in words and "ctp" in words, path
        assert "var(" not in path.read_text("utf-8")
        assert float(drawing.attrib["width"]) == WIDTH
    with browser() as page:
        page.open(out / "report.html")
        assert page.complaints() == []
        points = page.js("document.querySelectorAll('#figure-overview .points path').length")
        assert points == 2 * 2 + 2 + 2 + 1  # seeds, means, differences, their mean
    one = {"a": panels_of_output(out)["overview"]}
    (pdf,) = write_figures(one, ARMS, folder, "pdf")
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF-") and len(re.findall(rb"/Type\s*/Page\b", content)) == 1
    (png,) = write_figures(one, ARMS, folder, "png")
    assert png.read_bytes().startswith(b"\x89PNG")


def panels_of_output(out: Path) -> dict[str, Any]:
    from ntpctp.analysis.pipeline import compare_experiment
    from ntpctp.config import load_output

    experiment = load_output(out)
    return named_panels(experiment, *compare_experiment(experiment, out), out)
