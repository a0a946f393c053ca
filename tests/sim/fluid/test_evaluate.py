"""`slicewise sim evaluate` from outside: the contract of its JSON, and that processes do not matter."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sim.cli import app
from sim.evaluation.evaluate import Done, names, plan, rows, tasks
from sim.evaluation.traces import find
from tests.sim.fluid.loads import write

FIELDS = {
    "trace",
    "peak_replicas",
    "cold_start_s",
    "seed",
    "policy",
    "attainment",
    "gpu_hours",
    "clairvoyant_gpu_hours",
    "lower_bound_gpu_hours",
    "reversals",
    "sessions_broken",
}


def evaluate(folder: Path, *options: str) -> Any:  # noqa: ANN401  # typer's result has no public type
    return CliRunner().invoke(app, ["evaluate", "--load", str(folder), *options])


def test_every_row_of_the_contract_in_its_order(tmp_path: Path) -> None:
    write(tmp_path)
    options = ("--peaks", "4", "--cold-starts", "30", "--seeds", "2", "--json", "-")
    policies = ("--policies", "slicewise,rate-hold-tuned,hpa-queue")
    one = evaluate(tmp_path, *policies, *options, "--jobs", "1")
    assert one.exit_code == 0, one.stderr
    rows = json.loads(one.stdout)
    assert [(r["trace"], r["seed"], r["policy"]) for r in rows] == [
        (trace.name, seed, policy)
        for trace in find(tmp_path)
        for seed in (1, 2)
        for policy in ("slicewise", "rate-hold-tuned", "hpa-queue")
    ]
    for row in rows:
        assert set(row) == FIELDS
        assert 0 <= row["attainment"] <= 1
        assert row["gpu_hours"] > 0
        if row["lower_bound_gpu_hours"] is not None:
            assert row["lower_bound_gpu_hours"] <= row["clairvoyant_gpu_hours"]
            if row["attainment"] >= 0.99:
                assert row["lower_bound_gpu_hours"] <= row["gpu_hours"]


def test_the_rows_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    write(tmp_path)
    for other in ("azure_2023_conv.csv", "servegen_m-mid_week1.csv.gz"):
        (tmp_path / other).unlink()
    options = ("--policies", "static", "--peaks", "4", "--cold-starts", "30,60", "--seeds", "1", "--json", "-")
    one, two = (evaluate(tmp_path, *options, "--jobs", jobs) for jobs in ("1", "2"))
    assert one.exit_code == two.exit_code == 0, two.stderr
    assert one.stdout == two.stdout


def test_it_says_how_far_it_has_come(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "azure_2023_conv.csv").unlink()
    whole = plan(tmp_path, ("static", "rate-hold"), (2, 4), (30.0,), 2)
    told: list[Done] = []
    assert len(rows(whole, 1, told.append)) == 2 * 2 * 2 * len(whole.traces)
    efforts = [done.effort_s for done in told]
    assert efforts == sorted(efforts)
    assert efforts[-1] == pytest.approx(told[-1].whole_s)
    assert [done.scenarios for done in told if done.scenarios] == sorted(
        done.scenarios for done in told if done.scenarios
    )
    assert told[-1].scenarios == told[-1].of_scenarios == 2 * len(whole.traces)


def test_many_replicas_begin_first_and_of_those_weeks_and_every_task_is_there_once(tmp_path: Path) -> None:
    write(tmp_path)
    whole = plan(tmp_path, ("static", "slicewise"), (4, 8), (30.0, 60.0), 2)
    found = tasks(whole)
    assert len(set(found)) == len(found) == len(whole.traces) * 2 * 2 * (2 + 2)
    order = [(task.scenario.peak_replicas, task.scenario.trace.is_week) for task in found]
    assert order == sorted(order, reverse=True)


def test_progress_is_a_line_a_scenario_where_there_is_no_terminal(tmp_path: Path) -> None:
    write(tmp_path)
    for other in ("azure_2023_conv.csv", "servegen_m-mid_week1.csv.gz"):
        (tmp_path / other).unlink()
    ran = evaluate(
        tmp_path, "--policies", "static", "--peaks", "4", "--cold-starts", "30,60", "--seeds", "1", "--jobs", "1"
    )
    assert [line for line in ran.stderr.splitlines() if "scenarios" in line] == ["1 of 2 scenarios", "2 of 2 scenarios"]


def test_without_json_there_is_a_table_with_attainment_cost_and_reversals(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "azure_2023_conv.csv").unlink()
    options = (
        "--policies",
        "static,static-tuned",
        "--peaks",
        "4",
        "--cold-starts",
        "30",
        "--seeds",
        "1",
        "--jobs",
        "1",
    )
    ran = evaluate(tmp_path, *options)
    assert ran.exit_code == 0, ran.stderr
    assert "| mooncake_tool / 4 / 30 |" in ran.stdout
    assert "scenarios at 99 %, mean cost" in ran.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param(
            ("--policies", "best"), "--policies: no such policy: best; there are slicewise, static", id="policy"
        ),
        pytest.param(("--peaks", "0"), "--peaks: numbers above 0", id="no replicas"),
        pytest.param(("--peaks", "1.5"), "--peaks: whole numbers", id="half a replica"),
        pytest.param(("--cold-starts", "a"), "--cold-starts: numbers above 0 and up to 3600", id="no number"),
        pytest.param(("--policies", "static"), "no load in it; want ServeGen", id="an empty folder"),
    ],
)
def test_wrong_usage_is_refused_in_one_line_with_exit_code_2(
    tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    ran = evaluate(tmp_path, *options)
    assert ran.exit_code == 2
    assert told in ran.stderr


def test_every_baseline_has_a_tuned_twin() -> None:
    assert names()[0] == "slicewise"
    assert {f"{name}-tuned" for name in names() if name != "slicewise" and not name.endswith("-tuned")} <= set(names())
