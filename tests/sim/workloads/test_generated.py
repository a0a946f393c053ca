"""Generated loads keep what they promise: rates, burstiness, hours of the day; same seed, same load."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from sim.serving.turns import PS_PER_S, Turns
from sim.streams import stream
from sim.workloads import WORKLOADS, agents, diurnal
from sim.workloads.shapes import renewal

TOKENS = {"promptTokens": {"p50": 500, "p90": 2000}, "outputTokens": {"p50": 100, "p90": 400, "max": 500}}
CONFIGS: dict[str, dict[str, Any]] = {
    "bursts": {"kind": "bursts", "rate": [{"at": "0m", "perMinute": 10}], "burstsPerHour": 30, **TOKENS},
    "diurnal": {"kind": "diurnal", "perMinute": 30, "peakToMean": 2.5, "weekend": 0.4, "cv": 1.3, **TOKENS},
}
AGENTS: dict[str, Any] = {"kind": "agents", "sessions": [{"at": "0m", "perMinute": 1}]}


def generate(kind: str, seed: int, duration_s: float, /, **change: object) -> Turns:
    workload = WORKLOADS[kind]
    return workload.turns(workload.config.model_validate(CONFIGS[kind] | change), seed, duration_s, None)


@pytest.mark.parametrize("kind", CONFIGS)
def test_same_seed_same_load(kind: str) -> None:
    one, same, other = (generate(kind, seed, 7200.0) for seed in (4, 4, 5))
    assert all(np.array_equal(getattr(one, f), getattr(same, f)) for f in one.__dataclass_fields__)
    assert not np.array_equal(one.arrival_ps, other.arrival_ps)
    assert (np.diff(one.arrival_ps) >= 0).all()
    assert one.prompt.min() >= 1
    assert one.output.max() <= 500


@pytest.mark.parametrize("kind", ["agents", *CONFIGS])
def test_a_load_does_not_hang_on_the_last_bit_of_an_exponential(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy takes another one where a processor has AVX-512; a report has the same bytes there."""
    monkeypatch.setitem(CONFIGS, "agents", AGENTS)
    here, exp = generate(kind, 4, 7200.0), np.exp
    monkeypatch.setattr(np, "exp", lambda x: np.nextafter(exp(x), np.inf))
    there = generate(kind, 4, 7200.0)
    assert all(np.array_equal(getattr(here, f), getattr(there, f)) for f in here.__dataclass_fields__)


@pytest.mark.parametrize("kind", ["agents", *CONFIGS])
def test_every_prompt_has_more_than_what_all_begin_with(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "agents", AGENTS)
    plain, load = generate(kind, 4, 7200.0), generate(kind, 4, 7200.0, commonTokens=6000)
    assert load.common_tokens == 6000
    assert load.prompt.min() == 6001, "shorter ones are drawn, and become so long"
    assert np.array_equal(load.arrival_ps, plain.arrival_ps)


def test_what_all_contexts_begin_with_is_not_compacted_away() -> None:
    with pytest.raises(ValidationError, match="commonTokens must be below compactedTokens, 8000"):
        agents.Config.model_validate({**AGENTS, "commonTokens": 8000})


def test_bursts_are_bursts() -> None:
    load = generate("bursts", 2, 86_400.0, requests={"p50": 100, "p90": 100})
    # 10 a minute between them, and 30 bursts an hour of 100 requests
    assert len(load) == pytest.approx(10 * 1440 + 30 * 24 * 100, rel=0.12)
    gaps_s = np.diff(load.arrival_ps) / PS_PER_S
    assert gaps_s.std() / gaps_s.mean() > 2.5


def test_a_week_has_days_and_a_weekend() -> None:
    load = generate("diurnal", 3, 7 * 86_400.0)
    hours = np.bincount((load.arrival_ps // (3600 * PS_PER_S)).astype(np.int64), minlength=168).reshape(7, 24)
    weekdays, weekend = hours[:5].mean(axis=0), hours[5:].mean(axis=0)
    assert weekdays.mean() * 24 == pytest.approx(30 * 1440, rel=0.03)
    assert weekend.mean() / weekdays.mean() == pytest.approx(0.4, abs=0.02)
    assert weekdays.argmax() in (13, 14)
    assert weekdays.max() / weekdays.mean() == pytest.approx(2.5, rel=0.05)


def test_a_flat_day_is_flat() -> None:
    config = diurnal.Config.model_validate(CONFIGS["diurnal"] | {"peakToMean": 1, "weekend": 1})
    assert diurnal.rate_per_s(config, np.arange(0.0, 86_400, 600)) == pytest.approx(0.5)


@pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
def test_renewals_follow_the_rate_and_are_as_bursty_as_asked(cv: float) -> None:
    times_s, rates = np.array([0.0, 1000.0, 2000.0, 5000.0]), np.array([0.0, 20.0, 0.0, 0.0])
    found = renewal(stream(7, "test"), times_s, rates, cv)
    assert (np.diff(found) >= 0).all()
    assert found.max() <= 2000, "nothing comes where the rate is 0"
    assert len(found) == pytest.approx(20_000, abs=4 * cv * 20_000**0.5)
    assert ((found > 500) & (found <= 1500)).mean() == pytest.approx(0.75, abs=0.03)
    flat = np.diff(renewal(stream(8, "test"), np.array([0.0, 200_000.0]), np.array([1.0, 1.0]), cv))
    assert flat.std() / flat.mean() == pytest.approx(cv, rel=0.08)


def test_instants_of_bursts_ascend_or_are_refused() -> None:
    points = [{"at": "5m", "perMinute": 1}, {"at": "5m", "perMinute": 2}]
    with pytest.raises(ValidationError, match="instants must ascend"):
        WORKLOADS["bursts"].config.model_validate(CONFIGS["bursts"] | {"rate": points})


def test_agents_wait_as_tracelab_says() -> None:
    # arXiv 2606.30560, two kinds of sessions: tools answer after 16.8 s in the mean; 3.1 and 4.9 % of their calls take
    # over a minute, which is 61 and 92 % of their time; people come back within 5 minutes in 70 and 80 %, within an
    # hour in 95 and 96 %
    config = agents.Config.model_validate(AGENTS)
    tool_s, human_s = (w.draw(stream(0, "test"), 500_000) for w in (config.tool_wait, config.human_wait))
    assert tool_s.mean() == pytest.approx(16.8, rel=0.05)
    assert 0.031 < (tool_s > 60).mean() < 0.049
    assert 0.61 < tool_s[tool_s > 60].sum() / tool_s.sum() < 0.92
    assert 0.70 < (human_s < 300).mean() < 0.80
    assert 0.95 < (human_s < 3600).mean() < 0.97
