"""The landscape's figures and tables against rows written by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ntpctp.report.html.landscape import landscape_panels
from ntpctp.report.html.wording import MINUS

AXIS = [-1.0, 0.0, 1.0]
COMMON = {"split": "train", "items": 4, "fingerprint": "f"}


def rows_of(scale: float) -> list[dict[str, Any]]:
    """A run whose loss is ``scale`` times a parabola, with a hole in the second slice."""
    return [
        {**COMMON, "kind": "density", "probe": 0, "nodes": [0.0, 2 * scale],
         "weights": [0.5, 0.5]},
        {**COMMON, "kind": "density", "probe": 1, "nodes": [0.0, 4 * scale],
         "weights": [0.75, 0.25]},
        {**COMMON, "kind": "eigenvector", "value": scale, "residual": 0.0, "coordinates": AXIS,
         "losses": [3 * scale, 0.5, 5 * scale]},
        {**COMMON, "kind": "slice", "direction": 0, "coordinates": AXIS,
         "losses": [scale, 0.25, 2 * scale]},
        {**COMMON, "kind": "slice", "direction": 1, "coordinates": AXIS,
         "losses": [None, 0.25, scale]},
        {**COMMON, "kind": "plane", "coordinates": AXIS,
         "losses": [[8 * scale, 1.0, 2.0], [1.0, 0.25, 1.0], [None, 1.0, 3.0]]},
    ]  # fmt: skip


@pytest.fixture
def measured(made: Callable[..., Any]) -> Any:
    """Two arms and two seeds; one run was not measured."""
    made_up = made(seeds=2, measures=["accuracy", "landscape"])
    for arm, seed, scale in (("ntp", 0, 4.0), ("ntp", 1, 3.0), ("ctp", 1, 1.0)):
        write(made_up.output, arm, seed, rows_of(scale))
    return made_up


def write(output: Path, arm: str, seed: int, rows: list[dict[str, Any]]) -> None:
    path = output / arm / f"seed-{seed}" / "train" / "step-000100" / "evaluation"
    (path / "landscape.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")


def by_title(made_up: Any) -> dict[str, Any]:
    return {p.title: p for p in landscape_panels(made_up.experiment, made_up.output)}


def cells(panel: Any) -> list[list[str]]:
    return [[" ".join(filter(None, (c.text, c.note))) for c in row] for row in panel.table.rows]


def test_every_run_and_direction_is_a_thin_line_of_its_arm(measured: Any) -> None:
    panel = by_title(measured)["Slices along random directions, train"]
    lines = panel.figure["data"]
    assert [line["y"] for line in lines] == [
        [4.0, 0.25, 8.0], [None, 0.25, 4.0],
        [3.0, 0.25, 6.0], [None, 0.25, 3.0],
        [1.0, 0.25, 2.0], [None, 0.25, 1.0],
    ]  # fmt: skip
    colours = [line["line"]["color"] for line in lines]
    assert colours == ["var(--arm-0)"] * 4 + ["var(--arm-1)"] * 2
    assert cells(panel)[1] == ["ntp", "0", "direction 2", "no value", "0.25", "4", "4"]
    along = by_title(measured)["Slices along the top eigenvector, train"]
    assert [line["y"] for line in along.figure["data"]] == [
        [12.0, 0.5, 20.0], [9.0, 0.5, 15.0], [3.0, 0.5, 5.0]
    ]  # fmt: skip


def test_density_is_a_sum_of_gaussians_that_integrates_to_one(measured: Any) -> None:
    panel = by_title(measured)["Density of the Hessian's eigenvalues, train"]
    assert len(panel.figure["data"]) == 3
    width = 16 / 100  # the nodes of all runs lie between 0 and 16
    for line, scale in zip(panel.figure["data"], (4.0, 3.0, 1.0), strict=True):
        x, y = np.array(line["x"]), np.array(line["y"])
        parts = ((0.0, 0.625), (2 * scale, 0.25), (4 * scale, 0.125))
        expected = sum(
            w * np.exp(-(((x - n) / width) ** 2) / 2) / (width * np.sqrt(2 * np.pi))
            for n, w in parts
        )
        np.testing.assert_allclose(y, expected, rtol=2e-3, atol=1e-12)  # x has seven digits
        assert np.trapezoid(y, x) == pytest.approx(1, abs=1e-3)
    # Both probes of the second arm have mean 1, and mean squares 2 and 4.
    assert cells(panel)[2] == ["ctp", "1", "0", "4", "1 ± 0", "1.732 ± 0.289"]


def test_planes_share_their_levels_and_show_holes(measured: Any) -> None:
    found = by_title(measured)
    first, second = (
        found["Loss on a plane, ntp, seed 0, train"],
        found["Loss on a plane, ctp, seed 1, train"],
    )
    assert sum("plane" in title for title in found) == 2  # the first measured seed of each arm
    assert first.figure["data"][0]["contours"] == second.figure["data"][0]["contours"]
    assert first.figure["data"][0]["contours"]["size"] == pytest.approx((32 - 0.25) / 12)
    assert first.figure["data"][0]["z"][2][0] is None
    assert cells(first)[0] == [f"{MINUS}1", "32", "1", "2"] and cells(first)[2][1] == "no value"


def test_the_page_has_the_figures_with_their_definition(measured: Any) -> None:
    page = measured.page()
    section = page.partition('id="measure-landscape"')[2].partition("</section>")[0]
    assert section.count('<figure class="panel">') == 5
    assert "the table below has" in section.lower()
    definition = page.partition('id="definitions"')[2]
    assert "filter has the norm" in definition and "<code>slice_rise</code>" in definition


def test_without_rows_there_is_nothing_to_draw(made: Callable[..., Any]) -> None:
    made_up = made(seeds=2, measures=["accuracy", "landscape"])
    assert landscape_panels(made_up.experiment, made_up.output) == []
    section = made_up.page().partition('id="measure-landscape"')[2].partition("</section>")[0]
    assert "No figure: see" in section


def test_an_eigenvector_without_a_line_is_left_out(made: Callable[..., Any]) -> None:
    made_up = made(seeds=2, measures=["accuracy", "landscape"])
    write(
        made_up.output, "ntp", 0, [{**COMMON, "kind": "eigenvector", "value": 1.0, "residual": 0.5}]
    )
    assert landscape_panels(made_up.experiment, made_up.output) == []


def test_one_step_is_left_to_the_tables(made: Callable[..., Any]) -> None:
    made_up = made(seeds=2)
    frame = made_up.frame
    made_up.frame = frame[(frame["measure"] != "flatness") | (frame["step"] == 100)]
    section = made_up.page().partition('id="measure-flatness"')[2].partition("</section>")[0]
    assert "measured at one step only" in section and "<figure" not in section
