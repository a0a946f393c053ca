"""`slicewise sim pack` from outside: what it prints, writes and refuses."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sim.cli import app
from sim.packing.arguments import scorers_of, seeds_of
from sim.packing.table import DEFAULT, SCORERS
from tests.sim.packing.clusters import write

FIELDS = {
    "pods",
    "scorer",
    "seed",
    "allocation_100_pct",
    "allocation_130_pct",
    "first_failure_pct",
    "lost_by_class_pct",
    "decision_ms_p50",
    "decision_ms_p99",
    "wall_s",
}
TIMES = {"decision_ms_p50", "decision_ms_p99", "wall_s"}


def pack(folder: Path, *options: str) -> Any:  # noqa: ANN401  # typer's result has no public type
    nodes, pods = write(folder)
    return CliRunner().invoke(app, ["pack", "--nodes", str(nodes), "--pods", str(pods), *options])


def test_json_on_stdout_has_every_experiment_with_the_fields_of_the_contract(tmp_path: Path) -> None:
    ran = pack(tmp_path, "--scorers", "fgd,spr", "--seeds", "1-2", "--json", "-")
    assert ran.exit_code == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["recipe"] == "fgd"
    assert [(r["scorer"], r["seed"]) for r in told["results"]] == [("fgd", 1), ("spr", 1), ("fgd", 2), ("spr", 2)]
    for result in told["results"]:
        assert set(result) == FIELDS
        assert result["pods"] == str(tmp_path / "pods.csv")
        assert 0 < result["allocation_100_pct"] <= result["allocation_130_pct"] <= 100
        assert set(result["lost_by_class_pct"]) == {
            "8-gpu", "2-4-gpu", "1-gpu", ">=600m", "<600m", "cpu-only", "with-model"
        }  # fmt: skip
        assert result["decision_ms_p99"] >= result["decision_ms_p50"] > 0


def test_default_is_the_scorer_that_production_uses(tmp_path: Path) -> None:
    told = json.loads(pack(tmp_path, "--scorers", f"default,{DEFAULT}", "--seeds", "3", "--json", "-").stdout)
    ours, same = ({k: v for k, v in r.items() if k not in TIMES | {"scorer"}} for r in told["results"])
    assert told["results"][0]["scorer"] == "default"
    assert ours == same


def test_the_same_seed_gives_the_same_result_but_for_the_times(tmp_path: Path) -> None:
    runs = [pack(tmp_path, "--scorers", ",".join(SCORERS), "--seeds", "7", "--json", "-").stdout for _ in range(2)]
    first, again = ([{k: v for k, v in r.items() if k not in TIMES} for r in json.loads(t)["results"]] for t in runs)
    assert first == again


def test_the_table_compares_every_scorer_with_the_first_one(tmp_path: Path) -> None:
    ran = pack(tmp_path, "--scorers", "best_fit,spr,random", "--seeds", "1-3", "--json", str(tmp_path / "out.json"))
    assert ran.exit_code == 0, ran.stderr
    for wanted in (
        "pods",
        "3 seeds",
        "best_fit",
        "spr",
        "random",
        "differences to best_fit",
        "first failure",
        "cpu-only",
        "±",
    ):
        assert wanted in ran.stdout
    assert len(json.loads((tmp_path / "out.json").read_text())["results"]) == 9


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    ran = pack(tmp_path, "--scorers", "first_fit", "--seeds", "1")
    assert "1 seed" in ran.stdout
    assert "±" not in ran.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param(
            ["--scorers", "fgd,best"], "no such scorer: best; there are default, spr, fgd", id="an unknown scorer"
        ),
        pytest.param(
            ["--seeds", "a-b"], "--seeds: whole numbers and ranges such as 42-51", id="seeds that are no numbers"
        ),
        pytest.param(["--seeds", "51-42"], "--seeds: a range goes upwards (got '51-42')", id="a range downwards"),
        pytest.param(
            ["--seeds", "1", "--scorers", "fgd", "--json", "/no/such/folder/x"],
            "cannot be written",
            id="no place for it",
        ),
    ],
)
def test_wrong_usage_is_refused_in_one_line_with_exit_code_2(tmp_path: Path, options: list[str], told: str) -> None:
    ran = pack(tmp_path, *options)
    assert ran.exit_code == 2
    assert told in ran.stderr


def test_faults_of_a_file_are_told_with_exit_code_2(tmp_path: Path) -> None:
    nodes, pods = write(tmp_path, pods="cpu_milli,memory_mib,num_gpu,gpu_milli\nx,1,1,1000\n1,1,3,10\n")
    ran = CliRunner().invoke(app, ["pack", "--nodes", str(nodes), "--pods", str(pods)])
    assert ran.exit_code == 2
    assert f"{pods}:2: cpu_milli: must be a whole number" in ran.stderr
    assert f"{pods}:3: gpu_milli: a pod of several GPUs takes them whole: 1000 (got '10')" in ran.stderr


def test_seeds_and_scorers_are_lists_without_repetition() -> None:
    assert seeds_of("42-44,7,43") == [42, 43, 44, 7]
    assert scorers_of("fgd, spr,fgd", list(SCORERS)) == ["fgd", "spr"]


@pytest.mark.parametrize("option", [["--bound"], ["--html", "/no/such/folder/x"]], ids=["a bound", "a page"])
@pytest.mark.parametrize(
    "recipe", [["--mix", "all"], ["--recipe", "replay", "--nodes", __file__]], ids=["MIG", "replay"]
)
def test_bounds_and_pages_are_of_the_fgd_recipe(option: list[str], recipe: list[str]) -> None:
    ran = CliRunner().invoke(app, ["pack", *recipe, *option])
    assert ran.exit_code == 2
    assert f"{option[0]}: is for traces by --recipe fgd" in ran.stderr


def test_a_bound_stands_in_each_result_when_it_is_asked_for(tmp_path: Path) -> None:
    ran = pack(tmp_path, "--scorers", "fgd,spr", "--seeds", "1-2", "--bound", "--json", "-")
    assert ran.exit_code == 0, ran.stderr
    for result in json.loads(ran.stdout)["results"]:
        assert set(result) == FIELDS | {"bound_100_pct"}
        assert result["allocation_100_pct"] <= result["bound_100_pct"] + 1e-6


def test_a_bound_without_the_solver_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highspy", None)
    ran = pack(tmp_path, "--bound")
    assert ran.exit_code == 2
    assert "pip install 'slicewise[bounds]'" in ran.stderr


def test_a_page_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    ran = pack(tmp_path, "--scorers", "fgd", "--seeds", "1", "--html", "/no/such/folder/x")
    assert ran.exit_code == 2
    assert "--html: /no/such/folder/x: cannot be written" in ran.stderr
