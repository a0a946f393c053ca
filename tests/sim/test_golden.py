"""The bundled scenarios' whole reports: a changed number is a reviewed diff, and the same run is the same bytes."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from sim.report.model import Report
from sim.run import EngineKind, simulate
from sim.scenario import bundled, load
from sim.streams import stream

SEED = 7


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An hour of bursts in the columns of Azure's traces; no recorded one comes with the project."""
    random = stream(SEED, "test-trace")
    starts = np.sort(random.uniform(0, 3500, 60))
    times = np.sort(np.concatenate([s + random.exponential(0.4, 20).cumsum() for s in starts]))
    prompts, outputs = random.integers(50, 7000, len(times)), random.integers(1, 200, len(times))
    base = np.datetime64("2026-01-01T00:00:00", "ns")
    stamps = base + (times * 1e9).astype("timedelta64[ns]")
    lines = [f"{str(t).replace('T', ' ')},{p},{o}" for t, p, o in zip(stamps, prompts, outputs, strict=True)]
    path = tmp_path_factory.mktemp("trace") / "bursts.csv"
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines, ""]))
    return path


def report(name: str, trace: Path, engine: EngineKind = EngineKind.COMPILED) -> Report:
    made = simulate(load(bundled()[name]), seed=SEED, trace=trace, engine=engine)
    return msgspec.structs.replace(made, version="any")


@pytest.mark.parametrize("name", bundled())
def test_report_is_the_one_we_agreed_on(name: str, trace: Path, accept_golden: bool) -> None:
    golden = bundled()[name].with_suffix(".golden.json")
    made = report(name, trace).to_json()
    if accept_golden:
        golden.write_text(made)
    assert made == golden.read_text(), "if this is meant, run pytest tests/sim --accept-golden and say why"


def test_both_engines_give_the_same_report(tmp_path: Path, trace: Path) -> None:
    text = (
        bundled()["agents"]
        .read_text()
        .replace("duration: 1h", "duration: 10m")
        .replace("at: 0m, perMinute: 1", "at: 0m, perMinute: 6")
    )
    path = tmp_path / "short.yaml"
    path.write_text(text)
    plain, fast = (simulate(load(path), seed=3, engine=kind) for kind in (EngineKind.REFERENCE, EngineKind.COMPILED))
    assert plain.requests.done > 50
    assert plain == fast


def test_two_processes_print_the_same_bytes() -> None:
    command = [sys.executable, "-c", "from sim.cli import app; app()", "run", "agents", "--seed", "5", "--json"]
    first, second = (subprocess.run(command, check=True, capture_output=True).stdout for _ in range(2))
    assert first == second
    assert msgspec.json.decode(first, type=Report).seed == 5


def test_seeds_differ(trace: Path) -> None:
    scenario = load(bundled()["agents"])
    assert simulate(scenario, seed=1).requests != simulate(scenario, seed=2).requests


def test_the_first_run_says_that_it_compiles_and_later_ones_do_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from sim.cli import app; app()", "run", str(tmp_path / "short.yaml"), "--json"]
    (tmp_path / "short.yaml").write_text(bundled()["agents"].read_text().replace("duration: 1h", "duration: 1m"))
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("NUMBA_CACHE_DIR", None)
    first, later = (
        subprocess.run(command, check=True, capture_output=True, env=environment, text=True) for _ in range(2)
    )
    assert first.stderr == "compiling the engine, once on this machine (about 20 s) …\n"
    assert later.stderr == ""
    assert first.stdout == later.stdout
