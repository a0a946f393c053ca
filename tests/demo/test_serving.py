import pytest

from slicewise.demo.promises import Part
from slicewise.demo.serving import SLOTS, Serving, load_of, shape_of

GPU_MIB = 81920
MIG = Part("c", "a", "GPU-0", "mig", "2g.20gb", 0, 2)
MPS = Part("c", "a", "GPU-0", "mps", memory_mib=18 * 1024, compute_pct=25)


@pytest.mark.parametrize("part", [MIG, MPS], ids=["a MIG instance", "an MPS share"])
@pytest.mark.parametrize("model", ["a100-80", "h100-80"])
def test_the_agents_model_fits_on_what_a_pod_demands(part: Part, model: str) -> None:
    shape = shape_of(part, model, GPU_MIB)
    assert shape.kv_blocks * 16 > SLOTS * 4000, "every slot has room for a usual context"
    assert shape.max_running == SLOTS


def test_a_larger_part_is_faster() -> None:
    large = Part("c", "a", "GPU-0", "mig", "4g.40gb", 0, 4)
    slow, fast = (shape_of(part, "a100-80", GPU_MIB).times.iteration_ps(8, 30_000) for part in (MIG, large))
    assert fast < slow


def test_sessions_wait_at_the_gateway_until_a_pod_starts() -> None:
    serving = Serving(load_of(300.0, 7))
    serving.run_until(120.0)
    assert serving.held > 0
    serving.start("a", shape_of(MIG, "a100-80", GPU_MIB))
    serving.run_until(300.0)
    assert serving.held == 0
    assert len(serving.latencies_s()) > 0
    assert serving.sessions() > 0


def test_a_drained_pod_ends_empty_and_loses_nothing() -> None:
    serving = Serving(load_of(900.0, 7))
    for pod in ("a", "b"):
        serving.start(pod, shape_of(MIG, "a100-80", GPU_MIB))
    serving.run_until(150.0)
    left = [serving.drain("a")]
    for now_s in range(155, 300, 5):
        serving.run_until(float(now_s))
        left.append(serving.drain("a"))
    assert left[-1] == 0
    serving.gone("a")
    assert serving.lost_requests == 0


def test_a_pod_that_goes_at_once_takes_its_requests_with_it() -> None:
    serving = Serving(load_of(900.0, 7))
    serving.start("a", shape_of(MIG, "a100-80", GPU_MIB))
    serving.run_until(500.0)
    in_flight = serving.drain("a")
    serving.gone("a")
    assert serving.lost_requests == in_flight > 0


def test_a_pod_that_never_served_has_nothing_to_drain() -> None:
    serving = Serving(load_of(60.0, 7))
    assert serving.drain("guest") == 0
    serving.gone("guest")
