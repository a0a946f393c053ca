"""Recorded rates: model against reality first."""

import json
from pathlib import Path

import pytest

from tests.sim.commands.scenes import SHORT, printed, scene, sim

BEGIN = 1_700_000_000
RATES = [(0, 0.2), (60, 0.2), (120, 2.0), (300, 2.0), (360, 0.5), (600, 0.5)]


def matrix(path: Path, *values: tuple[float, float]) -> Path:
    series = {"metric": {}, "values": [[BEGIN + t, str(v)] for t, v in values]}
    path.write_text(json.dumps({"status": "success", "data": {"resultType": "matrix", "result": [series]}}))
    return path


def recorded(folder: Path) -> Path:
    workload = "workload: {kind: prometheus, promptTokens: {p50: 500, p90: 1500}, outputTokens: {p50: 100, p90: 300}}\n"
    text = SHORT[: SHORT.index("workload:")] + workload + SHORT[SHORT.index("engine:\n") :]
    return scene(folder, text.replace("duration: 6m", "duration: 10m"))


def test_what_really_ran_comes_first(tmp_path: Path) -> None:
    path, rates = recorded(tmp_path), matrix(tmp_path / "rates.json", *RATES)
    line = printed(sim("run", path, "--trace", rates, "--json"))["time_line"]
    ran = matrix(tmp_path / "replicas.json", *zip(line["at_s"], line["wanted"], strict=True))  # the model's own
    slow = matrix(tmp_path / "p95.json", *((t, 400.0) for t in range(0, 601, 30)))
    changes = ("--set", "maxReplicaCount=1")
    text = sim("backtest", path, "--rates", rates, "--replicas", ran, "--p95", slow, *changes).stdout
    fits = text.index("replicas           recorded"), text.index("changed: maxReplicaCount=1")
    assert fits[0] < fits[1]
    assert "that is far apart: calibrate before you believe what follows" in text
    document = printed(sim("backtest", path, "--rates", rates, "--replicas", ran, "--p95", slow, "--json", "-"))
    assert document["schema"] == "slicewise.dev/sim-backtest/1"
    assert document["far"] == ["p95_end_to_end_s"]
    assert document["fits"]["replicas"]["instants"] == 40
    assert document["fits"]["replicas"]["mean_absolute_error"] == 0.0
    assert document["fits"]["replicas"]["correlation"] == 1.0
    assert document["fits"]["p95_end_to_end_s"]["recorded_mean"] == 400.0
    assert document["changed"] is None


def test_without_anything_to_hold_it_against_it_says_so(tmp_path: Path) -> None:
    result = sim("backtest", recorded(tmp_path), "--rates", matrix(tmp_path / "rates.json", *RATES))
    assert result.exit_code == 0, result.output
    assert "nothing to hold it against" in result.stdout


@pytest.mark.parametrize(
    ("begin", "message"),
    [pytest.param("5", "has no sample within the time that is simulated; see --begin", id="another day")],
)
def test_recordings_of_another_time(tmp_path: Path, begin: str, message: str) -> None:
    rates = matrix(tmp_path / "rates.json", *RATES)
    result = sim("backtest", recorded(tmp_path), "--rates", rates, "--replicas", rates, "--begin", begin)
    assert result.exit_code == 2
    assert message in result.stderr


def test_another_workload_has_no_recorded_rates(tmp_path: Path) -> None:
    result = sim("backtest", scene(tmp_path), "--rates", matrix(tmp_path / "rates.json", *RATES))
    assert result.exit_code == 2
    assert "workload.kind: want prometheus for recorded rates" in result.stderr
