"""The peers' formulas at numbers that can be checked by hand, and their published defaults."""

from collections.abc import Mapping

import numpy as np
import pytest

from sim.baselines import BASELINES
from sim.baselines.aibrix import Aibrix
from sim.baselines.hpa_concurrency import HpaConcurrency
from sim.baselines.hpa_queue import HpaQueue
from sim.baselines.knative import Knative
from sim.baselines.kubeai import KubeAi
from sim.baselines.ray_serve import RayServe
from sim.baselines.wva_v1 import WvaV1
from sim.baselines.wva_v2 import WvaV2
from sim.fluid.seen import Seen

AT_REST = Seen(**dict.fromkeys(Seen._fields, 0.0))._replace(
    ready=10.0, slots=100.0, kv_tokens=100_000.0, prompt_tokens=1000.0, output_tokens=200.0, requests_per_s=20.0
)


def answers(name: str, *seen: Mapping[str, float], **changes: float) -> list[float]:
    """What the baseline with its defaults (and `changes`) answers at these moments, one tick after the other."""
    baseline = BASELINES[name]
    settings = baseline.defaults(10)
    if changes:
        settings = settings._replace(**changes)  # type: ignore[attr-defined]  # every baseline's settings have names
    memory = np.zeros(baseline.memory)
    moments = [AT_REST._replace(**{"now_s": 15.0 * i, **dict(moment)}) for i, moment in enumerate(seen)]
    return [float(baseline.decide(np.array(settings, np.float64), moment, memory)) for moment in moments]


def test_defaults_are_those_that_are_published() -> None:
    assert HpaQueue() == (5.0, 300.0, 1.0, 0.1)
    assert HpaConcurrency() == (0.7, 300.0, 0.1, 0.0)
    assert Knative() == (0.7, 2.0, 60.0, 1000.0, 2.0, 0.0)
    assert Aibrix() == (0.7, 2.0, 0.1, 300.0)
    assert WvaV1() == (0.80, 5.0, 0.1, 3.0)
    assert WvaV2() == (0.85, 0.70, 0.80)
    assert KubeAi() == (100.0,)
    assert RayServe() == (2.0, 30.0, 600.0)
    assert BASELINES["dynamo-kalman"].defaults(10) == (1.0, 1.0)
    assert BASELINES["static"].defaults(10) == (10.0,)


@pytest.mark.parametrize(
    ("name", "seen", "wanted"),
    [
        pytest.param("hpa-queue", [{"queued": 75.0}], 15.0, id="HPA: 75 wait, 5 a replica"),
        pytest.param("hpa-queue", [{"queued": 54.0}], 10.0, id="HPA: within the tolerance nothing moves"),
        pytest.param("hpa-queue", [{"queued": 500.0}], 20.0, id="HPA: at most doubled"),
        pytest.param("hpa-queue", [{"queued": 75.0}, {}], 15.0, id="HPA: the window holds the highest"),
        pytest.param("hpa-queue", [{"queued": 75.0}, {"now_s": 330.0}], 1.0, id="HPA: and no longer than it lasts"),
        pytest.param("hpa-concurrency", [{"queued": 40.0, "running": 800.0}], 12.0, id="HPA: 840 in flight, 70 each"),
        pytest.param("knative", [{"in_flight_60s": 840.0}], 12.0, id="KPA: stable window"),
        pytest.param("knative", [{"in_flight_6s": 1400.0, "in_flight_60s": 300.0}], 20.0, id="KPA: panic at twice"),
        pytest.param(
            "knative", [{"in_flight_6s": 1400.0}, {"in_flight_60s": 70.0}], 20.0, id="KPA: panic never lowers"
        ),
        pytest.param("knative", [{"in_flight_60s": 70.0}], 5.0, id="KPA: at most halved"),
        pytest.param("aibrix", [{"running": 3000.0}], 20.0, id="APA: at most doubled"),
        pytest.param("aibrix", [{"running": 70.0, "now_s": 60.0}], 10.0, id="APA: cooldown before it goes down"),
        pytest.param("aibrix", [{"running": 70.0, "now_s": 600.0}], 5.0, id="APA: at most halved"),
        pytest.param("wva-v1", [{"running": 700.0}], 11.0, id="WVA V1: 0.77 of the KV is in use: one more"),
        pytest.param("wva-v1", [{"running": 100.0}], 9.0, id="WVA V1: one less can carry it"),
        pytest.param("wva-v1", [{"running": 700.0, "pending": 1.0}], 11.0, id="WVA V1: nothing while one starts"),
        pytest.param("wva-v2", [{"running": 900.0}], 15.0, id="WVA V2: 990,000 tokens in use, 80,000 a replica"),
        pytest.param("kubeai", [{"in_flight_600s": 1250.0}], 13.0, id="KubeAI: mean of ten minutes"),
        pytest.param("kubeai", [{}, {}], 1.0, id="KubeAI: down after two ticks"),
        pytest.param("ray-serve", [{"in_flight_30s": 50.0}], 10.0, id="Ray Serve: waits before it goes up"),
        pytest.param("ray-serve", [{"in_flight_30s": 50.0}] * 3, 25.0, id="Ray Serve: up after 30 s"),
        pytest.param("dynamo-constant", [{"work_180s": 7.2, "now_s": 180.0}], 8.0, id="Dynamo: the last interval"),
        pytest.param("dynamo-constant", [{"work_180s": 7.2, "now_s": 195.0}], 10.0, id="Dynamo: between intervals"),
        pytest.param("rate-hold", [{"work_60s": 10.0}], 14.0, id="rate x 1.4"),
        pytest.param("rate-hold", [{"work_60s": 10.0}, {"work_60s": 1.0}], 14.0, id="rate x 1.4, held"),
        pytest.param("static", [{"queued": 1e6}], 10.0, id="static"),
    ],
)
def test_a_formula_at_work(name: str, seen: list[dict[str, float]], wanted: float) -> None:
    assert answers(name, *seen)[-1] == wanted


def test_dynamos_filter_follows_a_trend() -> None:
    rising = [{"now_s": 180.0 * (i + 1), "requests_per_s": 1.0 + i, "work_180s": 1.0 + i} for i in range(12)]
    assert answers("dynamo-kalman", *rising)[-1] == 13.0
    assert answers("dynamo-constant", *rising)[-1] == 12.0


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_answers_finitely_at_rest_and_has_its_defaults_shape_in_its_grid(name: str) -> None:
    baseline = BASELINES[name]
    assert np.isfinite(answers(name, {}, {}, {})).all()
    assert {len(settings) for settings in baseline.grid(40)} == {len(baseline.defaults(40))}
    assert baseline.about
