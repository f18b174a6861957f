"""The page in a real browser without a network: drawn, hovered, switched, tabbed, printed."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ntpctp.report.html import templates
from tests.report.browser import BROWSER, DRIVER, MISSING, Page, browser

pytestmark = pytest.mark.skipif(BROWSER is None or DRIVER is None, reason=MISSING)

LIGHT, DARK = "rgb(255, 255, 255)", "rgb(20, 23, 28)"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def file(usual_page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("browser") / "report.html"
    path.write_text(usual_page, "utf-8")
    return path


def draw_all(page: Page) -> int:
    """Open what is closed and scroll through the page until every figure has been near."""
    page.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    count = page.js("document.querySelectorAll('.plot').length")
    for place in range(count):
        page.js("document.querySelectorAll('.plot')[arguments[0]].scrollIntoView()", place)
        page.wait(f"document.querySelectorAll('.plot')[{place}].querySelector('.main-svg')")
    return int(count)


@pytest.mark.slow
def test_it_opens_without_a_complaint_or_a_request(page: Page, file: Path) -> None:
    page.requests()
    page.open(file)
    assert page.requests() == [file.as_uri()]
    assert page.js("performance.getEntriesByType('resource').map((one) => one.name)") == []
    assert draw_all(page) == 7
    drawn = "[...document.querySelectorAll('.plot')].every((p) => p.querySelector('.trace path'))"
    assert page.js(drawn)
    assert page.requests() == [] and page.complaints() == []


def test_figures_far_below_wait_until_they_come_near(page: Page, file: Path) -> None:
    page.open(file)
    drawn = "[...document.querySelectorAll('.plot')].map((p) => !!p.querySelector('.main-svg'))"
    assert page.js(drawn)[0] and not page.js(drawn)[-1]
    page.js("location.hash = '#training'")
    page.wait("document.querySelector('#figure-loss-1 .main-svg')")
    page.wait("document.querySelector('nav a[href=\"#training\"]').ariaCurrent === 'true'")
    top = "document.querySelector('#training h2').getBoundingClientRect().top"
    bar = "document.querySelector('nav').getBoundingClientRect().bottom"
    assert page.js(top) >= page.js(bar)  # the bar does not hide what a link leads to


def test_a_point_under_the_mouse_tells_its_value(page: Page, file: Path) -> None:
    page.open(file)
    box = page.js(
        "(() => { const r = document.querySelector('#figure-overview .points path')"
        ".getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    assert page.js("document.querySelector('.hovertext')") is None
    page.point(*box)
    words = page.wait("document.querySelector('.hovertext')?.textContent")
    assert re.match(r"ntp, seed 0: [\d.]+\s%", words)


@pytest.mark.parametrize(("dark", "paper", "ink"), [(False, LIGHT, 0), (True, DARK, 1)])
def test_light_and_dark(page: Page, file: Path, dark: bool, paper: str, ink: int) -> None:
    page.open(file, dark=dark)
    assert page.js("getComputedStyle(document.body).backgroundColor") == paper
    marker = "getComputedStyle(document.querySelector('#figure-overview .points path')).fill"
    colours = ["rgb(0, 114, 178)", "rgb(86, 180, 233)"]
    assert page.js(marker) == colours[ink]
    # The system's scheme may change while the page is open.
    scheme = {"name": "prefers-color-scheme", "value": "light" if dark else "dark"}
    page.cdp("Emulation.setEmulatedMedia", media="", features=[scheme])
    page.wait(f"{marker} === '{colours[1 - ink]}'")


def test_on_a_phone_nothing_is_wider_than_the_screen(page: Page, file: Path) -> None:
    page.open(file, 390)
    draw_all(page)
    assert page.js("document.documentElement.clientWidth") == 390
    assert page.js("document.documentElement.scrollWidth") == 390
    widest = "Math.max(...[...document.querySelectorAll('.plot')].map((p) => p.scrollWidth))"
    assert page.js(widest) <= 390 - 2 * 16


def test_learning_curves_move_to_tokens(page: Page, file: Path) -> None:
    page.open(file)
    draw_all(page)
    mean = "document.querySelector('#figure-accuracy-1').data.at(-1)"  # of ctp: 3 checkpoints
    title = "document.querySelector('#figure-accuracy-1 .xtitle').textContent"
    assert page.js(f"{mean}.x") == [0, 50, 100] and page.js(title) == "optimizer step"
    for place, (value, each) in enumerate([("tokens", 80), ("supervised_tokens", 60)]):
        page.js(f"document.querySelectorAll('.axis [value={value}]')[arguments[0]].click()", place)
        page.js("document.querySelector('#figure-accuracy-1').scrollIntoView()")
        page.wait(f"{mean}.x[2] === {100 * each}")
        assert page.js(f"{mean}.x") == [0, 50 * each, 100 * each]
        assert "tokens" in page.js(title)
        chosen = f"[...document.querySelectorAll('.axis [value={value}]')].map((r) => r.checked)"
        assert page.js(chosen) == [True, True]  # accuracy and flatness; robustness has no steps


def test_tables_and_focus_are_reached_with_the_keyboard(page: Page, file: Path) -> None:
    page.open(file)
    summary = "document.querySelector('#figure-overview ~ .behind > summary')"
    for _ in range(20):
        page.key("Tab", 9)
        assert page.js("getComputedStyle(document.activeElement).outlineStyle") in ("solid", "auto")
        if page.js(f"document.activeElement === {summary}"):
            break
    else:
        pytest.fail("the table behind the first figure is not reached within twenty tabs")
    assert page.js("getComputedStyle(document.activeElement).outlineWidth") == "2px"
    assert page.js(f"{summary}.parentElement.querySelector('table').checkVisibility()") is False
    page.key("Enter", 13, text="\r")
    assert page.wait(f"{summary}.parentElement.querySelector('table').checkVisibility()")
    rows = page.js(f"{summary}.parentElement.querySelectorAll('tbody tr').length")
    assert rows == 5  # a row a seed


@pytest.mark.slow
def test_a_long_table_is_unpacked_when_it_is_opened(
    page: Page, usual: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(templates, "MOST_CELLS", 20)
    path = tmp_path / "report.html"
    path.write_text(usual.page(), "utf-8")
    page.open(path)
    details = "document.querySelector('#figure-accuracy-1 ~ .behind')"
    table = f"{details}.querySelectorAll('tbody tr')"
    assert page.js(f"{table}.length") == 0
    for opened in (True, False, True):  # once, however often
        page.js(
            "document.querySelector('#figure-accuracy-1 ~ .behind').open = arguments[0]", opened
        )
        page.wait(f"{table}.length === {2 * 3}")  # arms, checkpoints
    assert page.complaints() == []


@pytest.mark.slow
def test_it_prints_every_part(page: Page, file: Path) -> None:
    page.open(file, dark=True)
    pdf = base64.b64decode(page.cdp("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert pdf.startswith(b"%PDF-")
    # The events around printing open what paper cannot open, and draw all figures in light colours.
    page.js("dispatchEvent(new Event('beforeprint'))")
    page.cdp("Emulation.setEmulatedMedia", media="print")
    drawn = "[...document.querySelectorAll('.plot')].map((p) => !!p.querySelector('.main-svg'))"
    assert page.js(drawn) == [True] * 7
    marker = "getComputedStyle(document.querySelector('#figure-overview .points path')).fill"
    assert page.js(marker) == "rgb(0, 114, 178)"
    shown = page.js("document.body.innerText")
    for heading in page.js("[...document.querySelectorAll('h2')].map((one) => one.textContent)"):
        assert heading in shown
    assert "Equal spread is tested by permuting" in shown  # in a part that is closed on the screen
    assert "71 further" not in shown and page.js("document.querySelectorAll('nav').length") == 1
    assert page.js("document.querySelector('nav').checkVisibility()") is False
    page.size(688)  # A4 less its margins
    assert page.js("document.querySelector('#verdicts table').offsetWidth") <= 688
    page.cdp("Emulation.setEmulatedMedia", media="")
    page.js("dispatchEvent(new Event('afterprint'))")
    assert page.js("document.querySelectorAll('details[data-print][open]').length") == 0
    assert page.js("document.documentElement.dataset.paper === undefined")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.slow
def test_axe_finds_nothing(page: Page, file: Path, dark: bool) -> None:
    """Contrast, names of figures and controls, order of headings, heads of tables, landmarks."""
    from axe_core_python.selenium import Axe

    page.open(file, dark=dark)
    draw_all(page)
    found: dict[str, Any] = Axe().run(page.driver)
    assert len(found["passes"]) > 20
    wrong = {
        entry["id"]: [node["html"][:200] for node in entry["nodes"]][:3]
        for entry in found["violations"]
    }
    assert wrong == {}
