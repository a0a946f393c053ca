import pytest

from extender.ledger import Ledger, ObjectError, Phase, Refusal
from extender.placement.allocation import Allocation, MigSlice
from extender.placement.model import INVENTORY, NoInventory
from tests.extender.objects import NOW_S, Json, demand, gpu, held, ledger, node, pod

ONE = [node("n0", gpu())]
SEVEN = {"profile": "7g.80gb"}


def slice_at(start: int, uuid: str = "GPU-0") -> Allocation:
    return Allocation.of({"main": [MigSlice(uuid, "1g.10gb", start, 1)]})


def whys(made: Ledger) -> list[str]:
    return [str(p) for p in made.problems()]


def assume(
    made: Ledger, uid: str, node_name: str = "n0", now_s: float = NOW_S, **fields: object
) -> Allocation | Refusal:
    wanted = demand(uid, **fields)
    return made.assume(uid, wanted.key, wanted, node_name, now_s)


def test_an_unknown_scorer_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"want one of best-fit, dot-prod, .*, got 'magic'"):
        Ledger(scorer="magic")


# ---- reservations ----------------------------------------------------------------------------------------------


def test_the_same_pod_on_the_same_node_gets_the_same_answer() -> None:
    made = ledger(ONE)
    first = assume(made, "u1")
    assert assume(made, "u1", now_s=NOW_S + 5) == first
    assert len(made.holdings()) == 1
    made.confirm("u1")
    assert assume(made, "u1", now_s=NOW_S + 10) == first


def test_asking_again_renews_the_reservation() -> None:
    made = ledger(ONE)
    assume(made, "u1")
    made.heartbeat("n0", NOW_S + 100)
    assume(made, "u1", now_s=NOW_S + 100)
    assert made.expire(NOW_S + 150) == ()
    assert [h.uid for h in made.expire(NOW_S + 220)] == ["u1"]
    assert made.holding("u1") is None


def test_another_node_ends_the_attempt_on_the_first() -> None:
    made = ledger([node("n0", gpu("a")), node("n1", gpu("b"))])
    assume(made, "u1", "n0", ask=SEVEN)
    assume(made, "u1", "n1", ask=SEVEN)
    assert isinstance(assume(made, "u2", "n0", ask=SEVEN), Allocation)
    assert isinstance(assume(made, "u1", "n0", ask=SEVEN), Refusal)
    assert made.holding("u1") is None


def test_a_confirmed_pod_stays_where_it_is() -> None:
    made = ledger([*ONE, node("n1", gpu("b"))])
    assume(made, "u1")
    assert made.confirm("u1")
    assert assume(made, "u1", "n1") == Refusal("the pod is already bound to n0")
    made.forget("u1")
    assert made.expire(NOW_S + 10_000) == ()
    assert made.holding("u1") is not None


def test_a_failed_binding_gives_the_slice_back() -> None:
    made = ledger(ONE)
    assume(made, "u1", ask=SEVEN)
    assert isinstance(assume(made, "u2", ask=SEVEN), Refusal)
    made.forget("u1")
    made.forget("u1")
    assert isinstance(assume(made, "u2", ask=SEVEN), Allocation)


def test_confirming_what_has_expired_says_so() -> None:
    made = ledger(ONE)
    assume(made, "u1")
    made.expire(NOW_S + 1000)
    assert not made.confirm("u1")


@pytest.mark.parametrize(
    ("name", "now_s", "why"),
    [
        pytest.param("nowhere", NOW_S, "has not been seen", id="a node that is not there"),
        pytest.param("bare", NOW_S, "has not reported its GPUs", id="a node without inventory"),
        pytest.param("n0", NOW_S + 61, "no heartbeat of the node agent for 60 s", id="a silent node"),
    ],
)
def test_nodes_that_cannot_be_used(name: str, now_s: float, why: str) -> None:
    refused = assume(ledger([*ONE, {"metadata": {"name": "bare"}}]), "u1", name, now_s)
    assert isinstance(refused, Refusal)
    assert why in refused.why


def test_a_full_node_says_what_there_is_no_room_for() -> None:
    made = ledger(ONE)
    assume(made, "u1", ask=SEVEN)
    assert assume(made, "u2") == Refusal("no room for 1 x 1g.10gb")


def test_the_demand_of_another_pod_is_refused() -> None:
    assert ledger(ONE).assume("u1", "p", demand("u2"), "n0", NOW_S) == Refusal("the demand is of pod u2, not of u1")


# ---- pods from the API -----------------------------------------------------------------------------------------


def test_a_bound_pod_is_restored_exactly_as_recorded() -> None:
    made = ledger(ONE)
    made.put_pod(pod("u1", on="n0", allocation=slice_at(5), priority=4, ask={"profile": "1g.10gb", "tenant": "blue"}))
    restored = made.holding("u1")
    assert restored is not None
    assert (restored.phase, restored.priority, restored.tenant, restored.key) == (Phase.BOUND, 4, "blue", "team/pod-u1")
    assert restored.allocation == slice_at(5)


def test_a_pod_may_come_before_its_node() -> None:
    made = ledger([])
    made.put_pod(pod("u1", on="n0", allocation=Allocation.of({"main": [MigSlice("GPU-0", "7g.80gb", 0, 8)]})))
    made.put_node_object(ONE[0])
    made.heartbeat("n0", NOW_S)
    assert isinstance(assume(made, "u2"), Refusal)


def test_a_heartbeat_may_come_before_its_node() -> None:
    made = Ledger()
    made.heartbeat("n0", NOW_S)
    made.put_node_object(ONE[0])
    assert made.unusable("n0", NOW_S) is None


def test_what_the_api_shows_goes_before_a_reservation() -> None:
    made = ledger([*ONE, node("n1", gpu("b"))])
    assume(made, "u1", "n1")
    made.put_pod(pod("u1", on="n0", allocation=slice_at(2)))
    assert held(made, "u1") == slice_at(2)
    view = made.view_for("n1", demand("other"))
    assert view.gpus[0][1].state == 0


def test_pods_that_have_ended_release_their_slices() -> None:
    for phase in ("Succeeded", "Failed"):
        made = ledger(ONE)
        made.put_pod(pod("u1", on="n0", allocation=slice_at(0)))
        made.put_pod(pod("u1", on="n0", allocation=slice_at(0), phase=phase))
        assert made.holdings() == ()


def test_a_pod_being_deleted_keeps_its_slice_until_it_is_gone() -> None:
    made = ledger(ONE)
    whole = Allocation.of({"main": [MigSlice("GPU-0", "7g.80gb", 0, 8)]})
    made.put_pod(pod("u1", on="n0", allocation=whole, leaving=True))
    assert isinstance(assume(made, "u2"), Refusal)
    made.drop_pod("u1")
    assert isinstance(assume(made, "u2"), Allocation)


def test_two_pods_on_one_slice_are_reported_and_the_slice_stays_taken() -> None:
    made = ledger(ONE)
    for uid in ("u1", "u2"):
        made.put_pod(pod(uid, on="n0", allocation=slice_at(0)))
    assert whys(made) == ["n0: pods u1 and u2 both hold 1g.10gb@0 of GPU-0"]
    made.drop_pod("u1")
    assert whys(made) == []
    assert made.view_for("n0", demand("x")).gpus[0][1].state == 1


@pytest.mark.parametrize(
    ("record", "why"),
    [
        pytest.param(None, "is missing or names no GPU", id="no record"),
        pytest.param("{", "slicewise.dev/allocation", id="a broken record"),
        pytest.param('{"version":1,"containers":[]}', "names no GPU", id="an empty record"),
    ],
)
def test_a_bound_pod_without_a_readable_record_is_reported(record: str | None, why: str) -> None:
    made = ledger(ONE)
    made.put_pod(pod("u1", on="n0", allocation=record))
    assert made.holdings() == ()
    assert len(whys(made)) == 1
    assert "n0: pod team/pod-u1 is bound, and what it holds is not known" in whys(made)[0]
    assert why in whys(made)[0]
    made.put_pod(pod("u1", on="n0", allocation=slice_at(0)))
    assert whys(made) == []


def test_what_was_known_of_a_pod_stays_taken_when_its_record_is_broken_later() -> None:
    made = ledger(ONE)
    made.put_pod(pod("u1", on="n0", allocation=slice_at(3)))
    made.put_pod(pod("u1", on="n0", allocation="{"))
    assert held(made, "u1") == slice_at(3)
    assert len(whys(made)) == 1


def test_a_record_that_is_corrected_moves_the_pod() -> None:
    made = ledger([node("n0", gpu("a"), gpu("b", index=1))])
    made.put_pod(pod("u1", on="n0", allocation=slice_at(3, "a")))
    made.put_pod(pod("u1", on="n0", allocation=slice_at(5, "b")))
    assert [u.state for _, u in made.view_for("n0", demand("x")).gpus] == [0, 1 << 5]
    made.put_pod(pod("u1", on="n0", allocation=slice_at(6, "gone")))
    made.put_pod(pod("u1", on="n0", allocation=slice_at(6, "a")))
    assert whys(made) == []


def test_a_reservation_elsewhere_ends_when_the_api_shows_the_pod_bound_without_a_record() -> None:
    made = ledger([*ONE, node("n1", gpu("b"))])
    assume(made, "u1", "n1")
    made.put_pod(pod("u1", on="n0"))
    assert made.holdings() == ()


def test_a_faulty_demand_of_a_bound_pod_does_not_hide_what_it_holds() -> None:
    made = ledger(ONE)
    made.put_pod(pod("u1", on="n0", allocation=slice_at(3), ask={"profile": "half"}))
    assert held(made, "u1") == slice_at(3)
    made.put_pod(pod("u2", on="n0", ask={"profile": "half"}))
    assert "want a MIG profile" in whys(made)[0]


def test_pods_that_ask_for_nothing_are_nobody() -> None:
    made = ledger(ONE)
    made.put_pod(pod("u1", on="n0", containers=[{"name": "web"}]))
    assert (made.holdings(), made.problems()) == ((), ())


def test_a_pod_without_uid_is_a_clear_error() -> None:
    with pytest.raises(ObjectError, match=r"Pod metadata.uid: want the text that the API server gives, got None"):
        ledger(ONE).put_pod({"metadata": {"name": "p"}})
    with pytest.raises(ObjectError, match=r"Node metadata.name"):
        ledger([]).put_node_object({})


def test_a_gpu_that_disappears_is_reported_as_long_as_it_is_held() -> None:
    made = ledger(ONE)
    made.put_pod(pod("u1", on="n0", allocation=slice_at(0, "GPU-old")))
    assert whys(made) == ["n0: pods u1 hold GPU-old, which is not reported"]
    made.drop_pod("u1")
    assert whys(made) == []


def test_refused_gpus_are_reported() -> None:
    made = ledger([node("n0", gpu(), gpu("GPU-1", memory_mib=-1))])
    assert whys(made) == ["n0: GPU GPU-1: memory_mib: want > 0, got -1"]


def test_a_full_list_of_pods_ends_what_it_does_not_show() -> None:
    made = ledger(ONE)
    for uid, start in (("gone", 0), ("kept", 1)):
        made.put_pod(pod(uid, on="n0", allocation=slice_at(start)))
    made.put_pod(pod("waiting", nominated="n0"))
    made.put_pod(pod("broken", on="n0"))
    assume(made, "fresh")
    made.replace_pods([pod("kept", on="n0", allocation=slice_at(1))], NOW_S)
    assert {h.uid for h in made.holdings()} == {"kept", "fresh"}
    assert whys(made) == []
    assert made.special_nodes(demand("x")) == set()


def test_a_confirmed_pod_that_a_list_does_not_show_gets_time_to_appear() -> None:
    made = ledger(ONE)
    assume(made, "u1")
    made.confirm("u1")
    made.replace_pods([], NOW_S)
    made.replace_pods([], NOW_S + 60)
    assert made.expire(NOW_S + 119) == ()
    assert [h.uid for h in made.expire(NOW_S + 120)] == ["u1"]


def test_a_confirmed_pod_that_appears_in_time_stays() -> None:
    made = ledger(ONE)
    assume(made, "u1")
    made.confirm("u1")
    made.replace_pods([], NOW_S)
    assert made.confirm("u1")
    made.put_pod(pod("u1", on="n0", allocation=held(made, "u1")))
    assert made.expire(NOW_S + 10_000) == ()


# ---- nodes from the API ----------------------------------------------------------------------------------------


def test_an_inventory_is_read_again_only_when_its_text_changes() -> None:
    made = ledger(ONE)
    state = made.node("n0")
    assert state is not None
    before = state.inventory
    made.put_node_object(ONE[0])
    assert state.inventory is before
    made.put_node_object(node("n0", gpu("GPU-new")))
    assert state.inventory is not before


def test_an_inventory_that_becomes_unreadable_is_not_used() -> None:
    made = ledger(ONE)
    made.put_node_object({"metadata": {"name": "n0", "annotations": {INVENTORY: "{"}}})
    assert (made.unusable("n0", NOW_S) or "").startswith("unreadable inventory")
    made.put_node_object({"metadata": {"name": "n0"}})
    assert made.unusable("n0", NOW_S) == "no inventory: the node agent has not reported its GPUs"
    made.put_node_object(ONE[0])
    assert made.unusable("n0", NOW_S) is None


def test_a_node_that_goes_and_comes_back_still_has_its_pods() -> None:
    made = ledger(ONE)
    made.put_pod(pod("u1", on="n0", allocation=slice_at(0)))
    made.drop_node("n0")
    made.drop_node("n0")
    assert made.unusable("n0", NOW_S) == "no inventory: the node has not been seen"
    assert not made.knows("n0")
    made.put_node_object(ONE[0])
    made.heartbeat("n0", NOW_S)
    assert made.view_for("n0", demand("x")).gpus[0][1].state == 1
    made.drop_pod("u1")
    made.drop_node("n0")
    assert made.nodes() == ()
    made.drop_node("never")


def test_a_full_list_of_nodes_ends_what_it_does_not_show() -> None:
    made = ledger([*ONE, node("n1", gpu("b"))])
    made.replace_nodes([node("n1", gpu("b")), node("n2", gpu("c"))])
    assert set(made.nodes()) == {"n1", "n2"}


def test_an_inventory_may_be_put_as_it_is() -> None:
    made = Ledger()
    made.put_node("n0", NoInventory("being drained"))
    made.put_pod(pod("u1", on="n0", allocation=slice_at(3)))
    assert whys(made) == []
    assert made.unusable("n0", NOW_S) == "being drained"


def test_unhealthy_and_foreign_gpus_give_nothing() -> None:
    made = ledger([node("n0", gpu("a", healthy=False), gpu("b", index=1, owner="mig-manager"))])
    assert made.view_for("n0", demand("x")).gpus == ()


# ---- static MIG ------------------------------------------------------------------------------------------------


def static(uid: str, count: int, **fields: object) -> Json:
    limits = {"nvidia.com/mig-1g.10gb": str(count)}
    return pod(uid, ask={}, containers=[{"name": "m", "resources": {"limits": limits}}], **fields)  # type: ignore[arg-type]


def free(made: Ledger) -> tuple[int, int]:
    room = made.static_room("n0")
    return room.free["1g.10gb"], room.existing["1g.10gb"]


def test_static_pods_are_counted_against_instances_that_nobody_else_has() -> None:
    instances = [
        {"profile": "1g.10gb", "start": 0, "size": 1},
        {"profile": "1g.10gb", "start": 1, "size": 1},
        {"profile": "1g.10gb", "start": 2, "size": 1, "managed": True},
        {"profile": "1g.10gb", "start": 3, "size": 1},
    ]
    made = ledger([node("n0", gpu(instances=instances))])
    made.put_pod(pod("dynamic", on="n0", allocation=slice_at(3)))
    assert free(made) == (2, 2)
    made.put_pod(static("s1", 1, on="n0"))
    made.put_pod(static("s2", 1, on="n0", allocation=Allocation(())))
    assert free(made) == (0, 2)
    made.put_pod(static("s3", 1, on="n0"))
    assert whys(made) == ["n0: 1 more 1g.10gb are used than instances exist"]
    made.drop_pod("s3")
    made.drop_pod("s2")
    assert free(made) == (1, 2)
