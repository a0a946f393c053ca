"""A against B on the same seeds."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.comparison import LoadsDifferError, compare
from sim.interval import of_mean, quantile, within
from sim.measures import MEASURES
from sim.report.model import Report
from sim.run import load, simulate
from tests.sim.commands.scenes import SHORT, printed, scene, sim


@pytest.mark.parametrize(
    ("level", "freedom", "t"),
    [  # any table of Student's distribution
        (0.95, 1, 12.706),
        (0.95, 2, 4.303),
        (0.95, 4, 2.776),
        (0.95, 9, 2.262),
        (0.95, 30, 2.042),
        (0.99, 9, 3.250),
        (0.90, 5, 2.015),
    ],
)
def test_students_quantiles(level: float, freedom: int, t: float) -> None:
    assert quantile(level, freedom) == pytest.approx(t, abs=6e-4)
    assert within(quantile(level, freedom), freedom) == pytest.approx(level, abs=1e-8)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_an_interval_holds_its_mean_and_grows_with_the_level(values: list[float]) -> None:
    narrow, wide = of_mean(values, 0.5), of_mean(values, 0.99)
    assert narrow is not None
    assert wide is not None
    assert wide.low <= narrow.low <= narrow.mean <= narrow.high <= wide.high


def test_one_value_has_no_interval() -> None:
    assert of_mean([1.0], 0.95) is None


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Report]:
    path = scene(tmp_path_factory.mktemp("compare"))
    thrifty = load(path, (("scaledObject.spec.maxReplicaCount", "1"),))
    return simulate(load(path), 1), simulate(thrifty, 1)


def test_equal_runs_are_no_difference(pair: tuple[Report, Report]) -> None:
    found = compare(("A", "B"), [(pair[0], pair[0])] * 3, 0.95, list(MEASURES), 0.0)
    assert {row.verdict for row in found.rows} <= {"no difference", "not known"}
    assert found.regressions == []


def test_a_change_for_the_worse_is_a_regression_only_where_it_is_judged(pair: tuple[Report, Report]) -> None:
    pairs = [pair] * 3
    assert "attainment" in compare(("A", "B"), pairs, 0.95, ["attainment"], 0.0).regressions
    assert compare(("A", "B"), pairs, 0.95, ["gpu_hours"], 0.0).regressions == []
    assert compare(("A", "B"), pairs, 0.95, ["attainment"], 10.0).regressions == [], "within the margin"
    verdicts = {row.measure: row.verdict for row in compare(("A", "B"), pairs, 0.95, [], 0.0).rows}
    assert verdicts["gpu_hours"] == "better"


def test_one_pair_decides_nothing(pair: tuple[Report, Report]) -> None:
    assert {row.verdict for row in compare(("A", "B"), [pair], 0.95, [], 0.0).rows} == {"not known"}


def test_other_loads_are_refused(pair: tuple[Report, Report], tmp_path: Path) -> None:
    other = simulate(load(scene(tmp_path)), 2)
    with pytest.raises(LoadsDifferError, match="seed 1: A and B have different loads"):
        compare(("A", "B"), [(pair[0], other)], 0.95, [], 0.0)


def test_the_command_is_the_same_for_any_number_of_processes(tmp_path: Path) -> None:
    path = scene(tmp_path)
    arguments = ("compare", path, "--set", "maxReplicaCount=1", "--seeds", "0-2", "--json", "-")
    one, two = sim(*arguments, "--jobs", 1), sim(*arguments, "--jobs", 2)
    assert one.exit_code == two.exit_code == 1, one.output
    assert one.stdout == two.stdout
    document = printed(one)
    assert document["schema"] == "slicewise.dev/sim-comparison/1"
    assert document["regressions"] == ["attainment"]
    assert document["b"] == "short.yaml maxReplicaCount=1"


def test_the_table_is_for_people(tmp_path: Path) -> None:
    path, other = scene(tmp_path), scene(tmp_path, SHORT.replace("maxReplicaCount: 16", "maxReplicaCount: 2"), "b.yaml")
    result = sim("compare", path, other, "--seeds", "0-1", "--judge", "gpu_hours")
    assert result.exit_code == 0, result.output
    for part in ("2 seeds in pairs; intervals at 95 %", "* GPU hours held", "verdict"):
        assert part in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "want a second scenario, or --set FIELD=VALUE", id="nothing to compare with"),
        pytest.param(["--set", "maxReplicaCount"], "want FIELD=VALUE, such as queuePerReplica=8", id="no value"),
        pytest.param(["--set", "name.x=1"], "name.x: there is no such field to change", id="a field under a text"),
        pytest.param(["--set", "maxReplicaCount=0"], "maxReplicaCount: input should be greater", id="a bad value"),
        pytest.param(["--set", "maxReplicaCount=3", "--seeds", "3"], "--seeds: want 2 or more", id="one seed"),
        pytest.param(
            ["--set", "maxReplicaCount=3", "--seeds", "x"], "--seeds: whole numbers and ranges", id="no seeds"
        ),
        pytest.param(["--set", "policy=x", "--judge", "beauty"], "--judge: no such measure: beauty", id="measure"),
        pytest.param(["--set", "duration=1m", "--seeds", "0-1"], "A and B have different loads", id="another load"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str], message: str) -> None:
    path = scene(tmp_path, SHORT.replace("6m", "2m"))
    result = sim("compare", path, *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr


def test_ray_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    result = sim("compare", scene(tmp_path), "--set", "maxReplicaCount=1", "--seeds", "0-1", "--ray", "local")
    assert result.exit_code == 2
    assert "pip install 'slicewise[sim,ray]'" in result.stderr
