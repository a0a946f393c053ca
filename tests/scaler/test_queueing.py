"""The queueing formulas against the textbook's slow ones and against a simulation's."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.signals.queueing import erlang_c, sojourn_quantile, sojourn_tail


def erlang_c_by_definition(load: float, servers: int) -> float:
    """Kleinrock, Queueing Systems 1, section 3.5, in logarithms: a^c/c! / (1 - rho) over the sum of all states."""
    logs = [n * math.log(load) - math.lgamma(n + 1) for n in range(servers)]
    full = servers * math.log(load) - math.lgamma(servers + 1) - math.log1p(-load / servers)
    top = max(*logs, full)
    return math.exp(full - top) / (sum(math.exp(x - top) for x in logs) + math.exp(full - top))


@settings(deadline=None)
@given(st.integers(1, 400), st.floats(0.01, 0.999))
def test_erlang_c_is_its_definition(servers: int, busy: float) -> None:
    load = busy * servers
    assert erlang_c(load, servers) == pytest.approx(erlang_c_by_definition(load, servers), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("load", "servers", "want"),
    [
        pytest.param(0.0, 1, 0.0, id="no load: nobody waits"),
        pytest.param(0.5, 1, 0.5, id="one server: the busy share waits"),
        pytest.param(2.0, 3, 0.4444444444, id="the textbook's example"),
        pytest.param(1.0, 2000, 0.0, id="far too many servers: nobody waits, and nothing overflows"),
        pytest.param(1e6, 1_001_000, 0.223, id="a million erlangs, one standard deviation spare: Halfin and Whitt"),
    ],
)
def test_erlang_c(load: float, servers: int, want: float) -> None:
    assert erlang_c(load, servers) == pytest.approx(want, abs=2e-3)


def tail_by_sum(t_s: float, arrivals_per_s: float, service_s: float, servers: int) -> float:
    """The wait is 0 or exponential; the sum of wait and service by numerical convolution."""
    load = arrivals_per_s * service_s
    wait, spare = erlang_c_by_definition(load, servers), (servers - load) / service_s
    n = 20_000
    step = t_s / n
    late = sum(
        math.exp(-(x := (i + 0.5) * step) / service_s) / service_s * wait * math.exp(-spare * (t_s - x))
        for i in range(n)
    )
    return math.exp(-t_s / service_s) + late * step


@pytest.mark.parametrize(
    ("t_s", "rate", "service_s", "servers"),
    [
        pytest.param(8.0, 3.0, 1.5, 8, id="slack"),
        pytest.param(8.0, 5.2, 1.5, 8, id="near the limit"),
        pytest.param(2.0, 1.0, 1.0, 2, id="servers less load is one: the 0/0 of the formula"),
        pytest.param(2.0, 0.5, 1.0, 1, id="one server: the spare rate is below the service rate"),
    ],
)
def test_sojourn_tail(t_s: float, rate: float, service_s: float, servers: int) -> None:
    got = sojourn_tail(t_s, arrivals_per_s=rate, service_s=service_s, servers=servers)
    assert got == pytest.approx(tail_by_sum(t_s, rate, service_s, servers), rel=1e-4)


def test_one_server_is_the_m_m_1_queue() -> None:
    got = sojourn_tail(3.0, arrivals_per_s=0.5, service_s=1.0, servers=1)
    assert got == pytest.approx(math.exp(-3.0 * (1.0 - 0.5)))


@settings(deadline=None)
@given(st.floats(0.01, 1e5), st.floats(1e-4, 1e4), st.floats(1e-6, 1e3), st.integers(1, 500))
def test_a_tail_is_a_probability(t_s: float, rate: float, service_s: float, servers: int) -> None:
    assert 0 <= sojourn_tail(t_s, arrivals_per_s=rate, service_s=service_s, servers=servers) <= 1


@settings(deadline=None)
@given(st.floats(0.1, 60), st.floats(0.1, 50), st.floats(0.1, 5), st.integers(1, 300))
def test_more_servers_are_never_later(t_s: float, rate: float, service_s: float, servers: int) -> None:
    few, more = (sojourn_tail(t_s, arrivals_per_s=rate, service_s=service_s, servers=servers + n) for n in (0, 1))
    assert more <= few + 1e-12


def test_servers_that_cannot_keep_up_are_late_for_all() -> None:
    assert sojourn_tail(9.0, arrivals_per_s=2.0, service_s=1.0, servers=2) == 1.0
    assert sojourn_quantile(0.95, arrivals_per_s=2.0, service_s=1.0, servers=2) == math.inf


@settings(deadline=None)
@given(st.floats(0.1, 20), st.floats(0.1, 5), st.integers(1, 120), st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_the_inverse_of_the_tail(rate: float, service_s: float, servers: int, p: float) -> None:
    if rate * service_s < 0.99 * servers:
        t_s = sojourn_quantile(p, arrivals_per_s=rate, service_s=service_s, servers=servers)
        late = [sojourn_tail(x, arrivals_per_s=rate, service_s=service_s, servers=servers) for x in (t_s, t_s * 0.998)]
        assert late[0] <= 1 - p <= late[1]
