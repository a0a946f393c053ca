"""The ledger knows what all pods of a node ask for in CPU and memory, from the API alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.ledger import Ledger
from extender.placement.allocation import Allocation, WholeGpu
from extender.placement.load import Allocatable
from tests.extender.clusters import demand_of
from tests.extender.objects import NOW_S, Json, container, gpu, node, pod

ROOM = {"cpu": "16", "memory": "64Gi"}


def a_node(name: str = "a") -> Json:
    gpus = (gpu(f"GPU-{name}-{i}", index=i, mode="exclusive") for i in range(2))
    return node(name, *gpus) | {"status": {"allocatable": ROOM}}


def other(uid: str, cpu: str = "1", on: str = "a", **more: object) -> Json:
    return pod(uid, ask={}, containers=[{"name": "c", "resources": {"requests": {"cpu": cpu}}}], on=on, **more)  # type: ignore[arg-type]


def whole(uid: str, cpu: str = "1", on: str | None = None) -> Json:
    one = container()
    one["resources"]["requests"] = {"cpu": cpu, "memory": "1Gi"}
    place = Allocation.of({"main": [WholeGpu("GPU-a-0")]}) if on else None
    return pod(uid, ask={"mode": "exclusive"}, containers=[one], on=on, allocation=place)


def cpu(ledger: Ledger, name: str = "a") -> int | None:
    """As the node says and as the arrays do."""
    found = ledger.node(name)
    assert found is not None
    assert ledger.fleet.cpu_free_milli[ledger.fleet.slots[name]] == (
        -1 if found.free.cpu_milli is None else found.free.cpu_milli
    )
    return found.free.cpu_milli


@pytest.fixture
def ledger() -> Ledger:
    made = Ledger()
    for name in "ab":
        made.put_node_object(a_node(name))
        made.heartbeat(name, NOW_S)
    return made


def test_pods_with_and_without_gpus_take_cpu_and_memory(ledger: Ledger) -> None:
    ledger.put_pod(other("o", "2"))
    ledger.put_pod(whole("g", "3", on="a"))
    assert cpu(ledger) == 11_000
    assert ledger.node("a").free == Allocatable(11_000, 63 * 1024)  # type: ignore[union-attr]
    ledger.drop_pod("o")
    ledger.drop_pod("g")
    assert cpu(ledger) == 16_000


def test_a_reservation_takes_what_the_pod_asks_for_and_gives_it_back(ledger: Ledger) -> None:
    demand = demand_of(whole("g", "3"))
    ledger.assume("g", demand.key, demand, "a", NOW_S)
    assert cpu(ledger) == 13_000
    ledger.put_pod(whole("g", "3", on="a"))
    assert cpu(ledger) == 13_000
    ledger.drop_pod("g")
    assert cpu(ledger) == 16_000


def test_a_pod_whose_record_is_not_understood_still_takes_cpu(ledger: Ledger) -> None:
    broken = whole("g", "3", on="a")
    broken["metadata"]["annotations"]["slicewise.dev/allocation"] = "{"
    ledger.put_pod(broken)
    assert cpu(ledger) == 13_000
    ledger.put_pod(whole("g", "3", on="a"))
    assert cpu(ledger) == 13_000
    ledger.put_pod(broken)
    assert cpu(ledger) == 13_000, "what it holds is known; the new record is not believed"


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        pytest.param("16", 0, id="all of it"),
        pytest.param("20", 0, id="more than there is: never less than none"),
        pytest.param("0", 16_000, id="none"),
    ],
)
def test_what_is_left_is_never_negative(ledger: Ledger, asked: str, left: int) -> None:
    ledger.put_pod(other("o", asked))
    assert cpu(ledger) == left


def test_a_list_without_a_pod_ends_what_it_took(ledger: Ledger) -> None:
    ledger.put_pod(other("o"))
    ledger.put_pod(other("p"))
    ledger.replace_pods([other("p")], NOW_S)
    assert cpu(ledger) == 15_000


def test_a_pod_that_ended_or_is_elsewhere_takes_nothing_here(ledger: Ledger) -> None:
    ledger.put_pod(other("o"))
    ledger.put_pod(other("o", phase="Succeeded"))
    ledger.put_pod(other("p"))
    ledger.put_pod(other("p", on="b"))
    assert (cpu(ledger), cpu(ledger, "b")) == (16_000, 15_000)


def test_a_node_may_come_after_its_pods_and_is_forgotten_with_them() -> None:
    made = Ledger()
    made.put_pod(other("o", on="late"))
    assert made.nodes() == ("late",)
    made.put_node_object(a_node("late"))
    assert cpu(made, "late") == 15_000
    made.drop_node("late")
    assert made.nodes() == ("late",)
    made.drop_pod("o")
    assert made.nodes() == ()


def test_a_node_that_does_not_tell_has_no_number(ledger: Ledger) -> None:
    ledger.put_node_object(node("a", gpu("GPU-a-0", mode="exclusive")))
    ledger.put_pod(other("o"))
    assert cpu(ledger) is None


@given(
    st.lists(
        st.tuples(st.sampled_from("opqr"), st.sampled_from(["0", "1", "2500m"]), st.sampled_from("ab-")), max_size=30
    )
)
def test_free_is_allocatable_less_the_pods_that_are_there(events: list[tuple[str, str, str]]) -> None:
    made, there = Ledger(), dict[str, tuple[str, str]]()
    for name in "ab":
        made.put_node_object(a_node(name))
    for uid, asked, where in events:
        if where == "-":
            made.drop_pod(uid)
            there.pop(uid, None)
        else:
            made.put_pod(other(uid, asked, on=where))
            there[uid] = asked, where
    milli = {"0": 0, "1": 1000, "2500m": 2500}
    for name in "ab":
        assert cpu(made, name) == 16_000 - sum(milli[asked] for asked, where in there.values() if where == name)
