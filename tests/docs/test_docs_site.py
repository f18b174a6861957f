"""The documentation as a site: strict, complete, and without anything from a network."""

import re
from urllib.parse import urlsplit

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from ntpctp.analysis.pipeline import compare_experiment
from ntpctp.analysis.run_scores import LEARNING
from ntpctp.config import experiment_of
from ntpctp.measures import MEASURES
from ntpctp.runner.engines import Local
from ntpctp.runner.experiment import run_experiment
from tests.conftest import tiny_content
from tests.docs.documents import ROOT

NOT_SCORES = {"slice", "eigenvector", "plane", "density"}
"""Kinds of rows that a docstring explains beside its scores."""

LOADED = re.compile(r'<(?:script|img|iframe|source)\b[^>]*?\bsrc="([^"]+)"|<link\b[^>]*?>')
HREF = re.compile(r'\bhref="([^"]+)"')


def built(directory, **changes):
    with (ROOT / "mkdocs.yml").open("rb") as file:
        config = load_config(file, site_dir=str(directory), **changes)
    build(config)
    return directory


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return built(tmp_path_factory.mktemp("site"))


def test_every_page_is_built_and_in_the_order_of_the_menu(site):
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert {path.stem for path in site.glob("*.html")} == pages | {"404"}
    menu = re.findall(r'href="([\w-]+)\.html" class="md-nav__link', (site / "log.html").read_text())
    assert list(dict.fromkeys(menu))[:3] == ["index", "tutorial", "reading-the-report"]
    assert set(menu) == pages


def test_pages_load_nothing_from_elsewhere(site):
    seen = 0
    for path in site.glob("*.html"):
        for match in LOADED.finditer(path.read_text()):
            source = match[1] or (HREF.search(match[0]) or [None, ""])[1]
            if 'rel="canonical"' in match[0]:
                continue
            assert not urlsplit(source).netloc, f"{path.name}: {match[0]}"
            seen += 1
    assert seen > 30
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.search(r"@import|url\(['\"]?(?:https?:)?//", styles)


@pytest.mark.parametrize(
    "text", ["[a](no-such.md)", "[a](measures.md#no-such)", "![a](images/no-such.png)"]
)
def test_a_dead_link_ends_the_build(tmp_path, text):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(f"# Start\n\n{text}\n")
    (docs / "measures.md").write_text("# Measures\n")
    nav = [{"Start": "index.md"}, {"Measures": "measures.md"}]
    with pytest.raises(Abort):
        built(tmp_path / "site", docs_dir=str(docs), nav=nav)


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert len(links) >= 8
    for link in links:
        path, _, anchor = link.partition("#")
        assert (ROOT / path).exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


def test_pictures_are_small_and_shown():
    pictures = sorted((ROOT / "docs/images").iterdir())
    shown = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    assert len(pictures) >= 3
    for path in pictures:
        assert path.suffix == ".png" and path.stat().st_size < 300_000, path.name
        assert f"(images/{path.name})" in shown, path.name


def defined_scores(measure):
    """The names that a docstring defines: in front of the colon of each of its points."""
    points = re.findall(r"^\s*\* (.+?)(?=^\s*\* |^\s*$|\Z)", measure.__doc__, re.M | re.S)
    return [
        name for point in points for name in re.findall(r"``([\w<>]+)``", point.partition(":")[0])
    ]


def test_every_measure_and_every_score_is_defined():
    page = (ROOT / "docs/measures.md").read_text()
    headings = {h.replace(" ", "_") for h in re.findall(r"^## (.+)$", page, re.M)}
    assert headings >= {*MEASURES, LEARNING}
    code = set(re.findall(r"`([\w<>.=]+)`", page))
    total = 0
    for name, measure in MEASURES.items():
        scores = [s for s in defined_scores(measure) if s not in NOT_SCORES]
        total += len(scores)
        missing = [s for s in scores if s not in code]
        assert not missing, f"docs/measures.md does not define {missing} of {name}"
    assert total > 50


def test_every_score_that_a_default_run_has_is_defined(tmp_path):
    content = tiny_content(seeds=1, arms={"ctp": {"objective": "ctp"}})
    content["training"] = {**content["training"], "steps": 2}
    content["evaluation"] = {
        "every": 1,
        "measures": [m for m in MEASURES if MEASURES[m].by_default],
    }
    experiment = experiment_of(content, "tiny")
    assert not run_experiment(experiment, tmp_path, engine=Local(1), on_event=lambda event: None)
    frame, _ = compare_experiment(experiment, tmp_path)
    page = (ROOT / "docs/measures.md").read_text()
    scores = set(frame["score"])
    assert len(scores) >= 18
    for score in scores:
        generic = re.sub(r"^(steps_to|mean|forgotten)_(exact_match|choice)$", r"\1_<score>", score)
        assert f"`{generic}`" in page, score
