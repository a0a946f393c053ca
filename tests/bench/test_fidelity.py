"""The comparison with a real engine, made with a simulated one that is known: what is found must be that one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from bench.fidelity import (
    ALONE,
    CROWD,
    DENSE,
    KV_BLOCKS,
    MIXED,
    SETTINGS,
    SLOTS,
    Run,
    burst_s,
    calibrated,
    compared,
    depths,
    in_time,
    poisson,
    requests,
    throughput,
    turns_of,
    waiting,
)
from sim.fit import Model, shape
from sim.serving.measured import LOG_FIELDS
from sim.serving.observed import Latencies, Log
from sim.serving.pool import Shape
from tests.e2e.clients import Ask, Seen

pytestmark = pytest.mark.timeout(300)  # the first use of the compiled engine on a machine compiles it
MS: Final = 10**9  # picoseconds
HIDDEN: Final = replace(
    DENSE.times,
    a0=14 * MS,
    a1=MS,
    b0=2 * MS,
    b1=MS,
    c0=0,
    c1=MS // 3,
    c2=MS // 1000,
    mixed_c1=MS // 2,
    mixed_c2=MS // 1000,
    p0=MS,
    p1=1000,
    p2=MS // 10,
    floor=1,
    fixed=4 * MS,
)
REAL: Final[Shape] = shape(SETTINGS, Model(HIDDEN, 0.0, KV_BLOCKS))


def played(load: list[Ask], from_s: float) -> list[Seen]:
    """What clients would have seen of the hidden engine."""
    bare = [_seen(ask, from_s, 0.0, 0.0) for ask in load]
    nothing = np.empty(0)
    found = Log(turns_of(bare), Latencies(nothing, nothing, nothing)).predict(REAL, 0.0)
    return [_seen(ask, from_s, float(found.ttft[i]), float(found.e2e[i])) for i, ask in enumerate(load)]


def _seen(ask: Ask, from_s: float, ttft_s: float, e2e_s: float) -> Seen:
    sent_s = from_s + ask.at_s
    return Seen(
        sent_s=sent_s,
        first_s=sent_s + ttft_s,
        last_s=sent_s + e2e_s,
        prompt_tokens=len(ask.prompt),
        cached_tokens=0,
        output_tokens=ask.output_tokens,
    )


@pytest.fixture(scope="module")
def calibration() -> tuple[Run, float]:
    seen = list[Seen]()
    parts = [[ask] for ask in requests([0.0] * ALONE, seed=1)] + [requests([0.0] * CROWD, seed=2)]
    for part in parts:
        seen += played(part, max((one.last_s for one in seen), default=0.0) + 0.01)
    most_per_s = throughput(seen[ALONE:])
    mixed = requests(poisson(MIXED, 0.6 * most_per_s, seed=3), seed=3)
    return Run(0.0, seen + played(mixed, max(one.last_s for one in seen)), []), most_per_s


@pytest.mark.parametrize("load", ["steady", "burst"])
def test_a_known_engine_is_foretold(calibration: tuple[Run, float], load: str, tmp_path: Path) -> None:
    run, most_per_s = calibration
    fitted, _ = calibrated(run, tmp_path)
    at_s = poisson(60, 0.9 * most_per_s, seed=4) if load == "steady" else burst_s(most_per_s)
    seen = played(requests(at_s, seed=6), 0.0)
    looks_s = np.arange(0.0, max(one.last_s for one in seen), 0.5)
    real = depths(turns_of(seen), REAL, looks_s)
    rows = {row.what: row for row in compared(Run(0.0, seen, list(zip(looks_s, real, strict=True))), fitted)}
    for name in ("TTFT", "TPOT", "E2E"):
        assert abs(rows[f"{name} mean, s"].error_pct) < 10
        assert abs(rows[f"{name} P95, s"].error_pct) < 15
    assert real.max() > 0, "requests had to wait"
    assert abs(rows["waiting, mean"].error_pct) < 25


def test_the_log_is_what_calibrate_takes(calibration: tuple[Run, float]) -> None:
    run, _ = calibration
    lines = run.log().splitlines()
    assert len(lines) == ALONE + CROWD + MIXED
    assert set(json.loads(lines[0])) == set(LOG_FIELDS)


def test_a_first_token_that_a_stalled_client_saw_with_the_last_is_dated_back() -> None:
    alone = [_seen(Ask(0.0, (1,), 11), 0.0, 1.0, 2.0)] * ALONE  # 0.1 s a token
    late = _seen(Ask(0.0, (1,), 11), 0.0, 1.999, 2.0)
    assert in_time(Run(0.0, [*alone, late], [])).seen == [*alone, replace(late, first_s=1.5)]


def test_throughput_is_that_of_full_slots() -> None:
    """A request a second ends in each slot; the last ones leave slots empty and do not count."""
    crowd = [_seen(Ask(0.0, (1,), 2), 0.0, 0.5, float(wave)) for wave in (1, 2, 3) for _ in range(SLOTS)]
    assert throughput(crowd) == SLOTS


def test_the_queue_is_read_from_the_engines_own_page() -> None:
    page = Path(__file__).parents[1] / "contract" / "engines" / "vllm-0.32.txt"
    assert waiting(page.read_text()) == 6
