"""The page of the packing lab: complete in itself, with means and intervals; drawn by a browser, if there is one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sim.cli import app
from sim.packing.html import to_html
from sim.packing.lab import run_experiment
from sim.packing.table import DEFAULT
from tests.browser import drawn
from tests.sim.packing.clusters import ANY, experiment_of, write


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    nodes, pods = write(folder)
    options = ["--scorers", f"fgd,{DEFAULT}", "--seeds", "1-3", "--bound", "--html", str(folder / "page.html")]
    ran = CliRunner().invoke(app, ["pack", "--nodes", str(nodes), "--pods", str(pods), *options])
    assert ran.exit_code == 0, ran.output
    assert "no policy has more than" in ran.stdout
    return folder / "page.html"


def report_of(page: str) -> Any:  # noqa: ANN401  # JSON
    found = re.search(r'<script type="application/json" id="report">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_it_needs_no_network(page: Path) -> None:
    text = page.read_text()
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", text))
    assert addresses == {"http://www.w3.org/2000/svg"}, "a name of the SVG standard, which nobody fetches"
    assert "default-src 'none'" in text


def test_it_holds_means_and_intervals_of_every_scorer(page: Path) -> None:
    report = report_of(page.read_text())
    assert report["seeds"] == [1, 2, 3]
    (trace,) = report["traces"]
    assert list(trace["scorers"]) == ["fgd", DEFAULT]
    for told in trace["scorers"].values():
        assert told["at_100"]["low"] <= told["at_100"]["mean"] <= told["at_100"]["high"]
        assert told["at_100"]["mean"] <= trace["bound_100_pct"]
        for curve in ("allocated", "gain", "fragmented"):
            assert {len(told[curve][line]) for line in ("mean", "low", "high")} == {131}
        assert told["allocated"]["mean"][100] == pytest.approx(told["at_100"]["mean"], abs=1e-4)
    assert set(trace["scorers"]["fgd"]["gain"]["mean"]) == {0}


def test_one_seed_has_no_intervals_and_results_without_curves_make_no_page() -> None:
    experiment = experiment_of([1], [(0, 0, 600, 1, ANY)] * 4)
    (trace,) = report_of(to_html([run_experiment(experiment, "fgd", 0, curved=True)]))["traces"]
    assert trace["bound_100_pct"] is None
    assert trace["scorers"]["fgd"]["fragmented"]["low"] is None
    assert trace["scorers"]["fgd"]["at_100"] == {"mean": 60, "low": None, "high": None}
    with pytest.raises(ValueError, match="curves"):
        to_html([run_experiment(experiment, "fgd", 0)])


def test_a_browser_draws_every_part(page: Path, tmp_path: Path) -> None:
    dom = drawn(page, tmp_path)
    assert dom.count('role="img"') == 4, "allocation, its difference, fragmentation and losses"
    assert dom.count('class="card"') == 5
    for part in ("Fragmentation", "Who lost", "gap closed", "bound at 100 %"):
        assert part in dom
