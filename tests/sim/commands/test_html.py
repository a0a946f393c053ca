"""The page: complete in itself, safe, the same bytes for the same report; drawn by a browser where there is one."""

import re
from pathlib import Path

import msgspec
import pytest

from sim.report.html import to_html
from sim.report.model import Report
from sim.run import load, simulate
from tests.browser import drawn
from tests.sim.commands.scenes import SHORT, scene, sim


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return simulate(load(scene(tmp_path_factory.mktemp("html"))), 0)


def test_the_page_needs_no_network_and_is_small(report: Report) -> None:
    page = to_html(report)
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", page))
    assert addresses == {"http://www.w3.org/2000/svg"}, "a name of the SVG standard, which nobody fetches"
    assert "default-src 'none'" in page
    assert len(page) < 150_000
    assert page == to_html(report)


def test_texts_of_a_scenario_cannot_break_out(report: Report) -> None:
    page = to_html(msgspec.structs.replace(report, about="</script><script>alert(1)</script> & <b>"))
    assert "<script>alert" not in page
    assert "<title>agents: &lt;/script&gt;" in page


def test_the_page_holds_the_whole_report(report: Report) -> None:
    found = re.search(r'<script type="application/json" id="report">(.*?)</script>', to_html(report), re.DOTALL)
    assert found is not None
    assert msgspec.json.decode(found[1], type=Report) == report


def test_run_and_report_make_the_same_page(tmp_path: Path) -> None:
    path, page, again = scene(tmp_path), tmp_path / "a.html", tmp_path / "b.html"
    kept = sim("run", path, "--html", page, "--json")
    assert kept.exit_code == 0, kept.output
    (tmp_path / "report.json").write_text(kept.stdout)
    assert sim("report", tmp_path / "report.json", "--html", again).exit_code == 0
    assert page.read_text() == again.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{}", "no report of `slicewise sim run --json`", id="not a report"),
        pytest.param("half", "no report of `slicewise sim run --json`", id="not JSON"),
    ],
)
def test_what_is_no_report(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text)
    result = sim("report", tmp_path / "x.json")
    assert result.exit_code == 2
    assert message in result.stderr


def test_another_schema_is_refused(tmp_path: Path, report: Report) -> None:
    (tmp_path / "x.json").write_text(report.to_json().replace("sim-report/1", "sim-report/0"))
    result = sim("report", tmp_path / "x.json")
    assert "schema: want slicewise.dev/sim-report/1 (got 'slicewise.dev/sim-report/0')" in result.stderr


def test_a_browser_draws_every_part(tmp_path: Path, report: Report) -> None:
    page = tmp_path / "report.html"
    page.write_text(to_html(report))
    dom = drawn(page, tmp_path)
    assert dom.count('role="img"') == 7, "six time lines and the map of the GPUs"
    assert dom.count('class="card ') == 8
    for part in ("Where the GPU hours went", "How long a start takes", "How far this can be believed"):
        assert part in dom


def test_nodes_that_come_are_in_the_report_with_their_time(tmp_path: Path) -> None:
    few = SHORT.replace(
        "{count: 2, gpu: a100-80, gpusPerNode: 8", "{count: 1, maxCount: 2, gpu: a100-80, gpusPerNode: 1"
    )
    text = few.replace("duration: 6m", "duration: 12m").replace("startReplicas: 1", "startReplicas: 4")
    found = simulate(load(scene(tmp_path, text.replace("minReplicaCount: 1", "minReplicaCount: 4"))), 0)
    first, later = found.nodes
    assert (first.from_s, first.to_s) == (0.0, None)
    assert 60 < later.from_s < 720
    assert "a100-80-0-001" in to_html(msgspec.json.decode(found.to_json(), type=Report))
