"""Recorded pods through today's scheduler and extender."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from extender.ledger import Ledger
from extender.placement.allocation import ALLOCATION
from extender.placement.model import Demand
from sim.cluster.nodes import inventory_text
from sim.placements import _Today, placements
from sim.recorded import BindAsked, FilterAsked, Happened, NodeSeen, PodGone, PodSeen, line, parse


def pod(name: str, profile: str = "3g.40gb", **also: object) -> dict[str, Any]:
    resources = {"limits": {"slicewise.dev/gpu-slice": 1}}
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "annotations": {"slicewise.dev/profile": profile}},
        "spec": {"containers": [{"name": "main", "resources": resources}], **also},
    }


def bound(shown: Mapping[str, Any], node: str, record: str) -> dict[str, Any]:
    metadata = {**shown["metadata"], "annotations": {**shown["metadata"]["annotations"], ALLOCATION: record}}
    return {"metadata": metadata, "spec": {**shown["spec"], "nodeName": node}}


def cluster(*names: str) -> list[Happened]:
    return [NodeSeen(0.0, name, inventory_text(name, "a100-80", 1, "mig")) for name in names]


def real(names: Sequence[str], pods: Sequence[dict[str, Any]], node: str) -> list[Happened]:
    """What a run shows in which the extender's own ledger puts these pods on one node, one after the other."""
    ledger, found = Ledger(stale_after_s=float("inf")), list[Happened]()
    for seen in cluster(*names):
        assert isinstance(seen, NodeSeen)
        found.append(seen)
        ledger.put_node_object(
            {"metadata": {"name": seen.node, "annotations": {"slicewise.dev/inventory": seen.inventory}}}
        )
        ledger.heartbeat(seen.node, 0.0)
    for i, shown in enumerate(pods):
        at_s, uid, demand = 1.0 + i, shown["metadata"]["uid"], Demand.of(shown)
        assert demand is not None
        ledger.put_pod(shown)
        allocation = ledger.assume(uid, demand.key, demand, node, at_s)
        record = allocation.encode()  # type: ignore[union-attr]  # there is room
        ledger.put_pod(bound(shown, node, record))
        found += [PodSeen(at_s, shown), FilterAsked(at_s, uid, tuple(names)), BindAsked(at_s, uid, node)]
        found.append(PodSeen(at_s, bound(shown, node, record)))
    return found


def test_the_same_slices_of_the_same_nodes() -> None:
    found = placements(real(["a"], [pod("x"), pod("y", "2g.20gb"), pod("z", "1g.10gb")], "a"))
    assert found is not None
    assert found.differences == []
    assert [(p.pod, p.node) for p in found.places] == [("default/x", "a"), ("default/y", "a"), ("default/z", "a")]
    assert len({p.slices[0] for p in found.places}) == 3


def test_of_equally_good_nodes_any_is_right() -> None:
    for node in "ab":
        found = placements(real(["a", "b"], [pod("x")], node))
        assert found is not None
        assert found.differences == []


def test_a_worse_node_is_told_and_what_follows_is_compared_there() -> None:
    happened = real(["a"], [pod("first")], "a")
    happened[1:1] = cluster("b")
    shown = pod("second")
    (asked,) = [FilterAsked(5.0, "uid-second", ("a", "b"))]
    record = real(["b"], [shown], "b")[-1]
    assert isinstance(record, PodSeen)
    found = placements([*happened, PodSeen(5.0, shown), asked, BindAsked(5.0, "uid-second", "b"), record])
    assert found is not None
    assert [(d.pod, d.recorded, d.today) for d in found.differences] == [("default/second", "b", "a (score 10, b 9)")]
    assert len(found.places) == 2


def test_another_slice_than_recorded_is_told() -> None:
    happened = real(["a"], [pod("x", "1g.10gb")], "a")
    last = happened[-1]
    assert isinstance(last, PodSeen)
    record = last.pod["metadata"]["annotations"][ALLOCATION]
    start = record.index('"start":') + len('"start":')
    other = record[:start] + ("0" if record[start] != "0" else "3") + record[start + 1 :]
    happened[-1] = PodSeen(last.at_s, bound(pod("x", "1g.10gb"), "a", other))
    found = placements(happened)
    assert found is not None
    (difference,) = found.differences
    assert difference.recorded != difference.today
    assert difference.recorded.startswith("a: GPU-a-0 1g.10gb")


@pytest.mark.parametrize(
    ("record", "told"),
    [
        pytest.param("{}", "a: its record cannot be read: annotation slicewise.dev/allocation", id="unreadable"),
        pytest.param('{"version":1,"containers":[]}', "a: nothing", id="nothing held"),
    ],
)
def test_a_record_of_nothing(record: str, told: str) -> None:
    happened = real(["a"], [pod("x")], "a")
    happened[-1] = PodSeen(9.0, bound(pod("x"), "a", record))
    found = placements(happened)
    assert found is not None
    assert found.differences[0].recorded.startswith(told)


def test_a_node_that_has_no_room_today_is_told_with_the_reason() -> None:
    happened = real(["a"], [pod("x", "7g.80gb")], "a")
    late = pod("late", "7g.80gb")
    found = placements(
        [*happened, PodSeen(5.0, late), FilterAsked(5.0, "uid-late", ("a",)), BindAsked(5.0, "uid-late", "a")]
    )
    assert found is not None
    (difference,) = found.differences
    assert difference.today.startswith("none (a: ")


def test_room_comes_back_when_pods_and_nodes_go() -> None:
    happened = real(["a"], [pod("x", "7g.80gb")], "a")
    again = real(["a"], [pod("y", "7g.80gb")], "a")[1:]
    found = placements([*happened, PodGone(1.5, "uid-x"), *again])
    assert found is not None
    assert found.differences == []
    gone = placements([*happened, NodeSeen(1.2, "a", None), PodGone(1.5, "uid-x"), *again])
    assert gone is not None
    assert "none (a: " in gone.differences[0].today


def test_a_binding_that_failed_leaves_nothing_behind() -> None:
    happened = real(["a"], [pod("x", "7g.80gb")], "a")
    seen, asked, bind, record = happened[1:]
    found = placements([happened[0], seen, asked, bind, asked, bind, record])
    assert found is not None
    assert found.differences == []


def test_what_asks_for_nothing_of_ours_is_passed_over() -> None:
    other = {"metadata": {"name": "other", "uid": "uid-other"}, "spec": {"containers": [{"name": "main"}]}}
    bad = pod("bad", "9g.90gb")
    happened: list[Happened] = [*cluster("a"), PodSeen(1.0, other), PodSeen(1.0, bad)]
    happened += [h for uid in ("uid-other", "uid-bad") for h in (FilterAsked(1, uid, ("a",)), BindAsked(1, uid, "a"))]
    assert placements(happened) is None


def test_a_warm_node_is_as_warm_today_as_it_was() -> None:
    """Of two equal nodes one lists the image, so that one was chosen; without it either is as good."""
    nodes = [NodeSeen(0.0, name, inventory_text(name, "a100-80", 1, "mig")) for name in ("a", "b")]
    warm = NodeSeen(0.5, "b", nodes[1].inventory, (("engine:1", 20 << 30),))
    asking = {"spec": {"containers": [{**pod("x")["spec"]["containers"][0], "image": "engine:1"}]}}
    seen = PodSeen(1.0, {**pod("x"), **asking})
    for chosen, differences in (("b", 0), ("a", 1)):
        today = _Today()
        for node in (*nodes, warm):
            today.node(node)
        today.pod(seen)
        today.filter(FilterAsked(1.0, "uid-x", ("a", "b")))
        today.bind(BindAsked(1.0, "uid-x", chosen))
        assert len(today.differences) == differences


SEEN = [NodeSeen(1.0, "a", None), NodeSeen(1.0, "a", "{}", (("engine:1", 7),)), PodGone(2.0, "uid-x")]


@pytest.mark.parametrize("happened", [*real(["a"], [pod("x")], "a"), *SEEN])
def test_lines_are_read_as_they_were_written(happened: Happened) -> None:
    assert parse(line(happened)) == happened


@pytest.mark.parametrize(
    ("event", "fault"),
    [
        pytest.param({"event": "recorded.node", "at_s": 1, "node": "a", "inventory": 3}, "inventory: want", id="node"),
        pytest.param(
            {"event": "recorded.node", "at_s": 1, "node": "a", "inventory": None, "images": [["x", "7"]]},
            "images: want a list",
            id="images",
        ),
        pytest.param({"event": "recorded.pod", "at_s": 1, "pod": {}}, "pod: want a Pod object", id="pod"),
        pytest.param({"event": "recorded.gone", "at_s": 1}, "uid: want a text", id="gone"),
        pytest.param({"event": "recorded.filter", "at_s": 1, "uid": "x", "nodes": "a"}, "nodes: want a list", id="ask"),
        pytest.param({"event": "recorded.bind", "uid": "x", "node": "a"}, "at_s: want a number", id="no instant"),
    ],
)
def test_lines_that_cannot_be_are_refused(event: Mapping[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse(event)
