import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.ledger import Ledger
from extender.placement.allocation import Allocation
from extender.placement.demand import Demand
from extender.verbs import (
    Eviction,
    Filtered,
    filter_nodes,
    filter_objects,
    pick_victims,
    score_nodes,
    score_objects,
)
from extender.wire import (
    BindingArgs,
    ExtenderArgs,
    WireError,
    decode_args,
    decode_binding,
    decode_preemption,
    encode_binding,
    encode_filter,
    encode_filter_error,
    encode_preemption,
    encode_scores,
)
from tests.extender.clusters import demand_of
from tests.extender.objects import NOW_S, gpu, ledger, node, pod

POD = {"metadata": {"uid": "u1", "name": "p"}}


def body(**fields: Any) -> bytes:  # noqa: ANN401
    return json.dumps(fields).encode()


def test_names_are_decoded_with_the_pod() -> None:
    args = decode_args(body(Pod=POD, Nodes=None, NodeNames=["n1", "n2"]))
    assert args == ExtenderArgs(POD, ["n1", "n2"])


def test_whole_nodes_are_decoded_with_their_annotations() -> None:
    one = node("n1")
    args = decode_args(body(Pod=POD, Nodes={"metadata": {"resourceVersion": "7"}, "items": [one]}, NodeNames=None))
    assert args.names == ["n1"]
    assert args.objects == {"n1": one}
    answer = json.loads(encode_filter(Filtered(fit=["n1"]), args))
    assert answer == {
        "Nodes": {"metadata": {"resourceVersion": "7"}, "items": [one]},
        "NodeNames": None,
        "FailedNodes": {},
        "FailedAndUnresolvableNodes": {},
        "Error": "",
    }


def test_whole_nodes_come_back_as_they_came() -> None:
    item = b'{ "metadata":{"name":"n1","labels":{"a":"b"}}, "status" : {"x":[1.50, 2]} }'
    args = decode_args(b'{"Pod":{},"Nodes":{"metadata":{},"items":[' + item + b']},"NodeNames":null}')
    assert item in encode_filter(Filtered(fit=["n1"]), args)
    assert item not in encode_filter(Filtered(failed={"n1": "full"}), args)


@pytest.mark.parametrize(
    ("sent", "names"),
    [
        pytest.param({"pod": POD, "nodenames": ["n1"]}, ["n1"], id="small letters"),
        pytest.param({"POD": POD, "NODENAMES": ["n1"], "NODES": None}, ["n1"], id="capitals"),
        pytest.param({"Pod": POD, "nodeNames": ["n1"], "Nodes": None}, ["n1"], id="mixed"),
        pytest.param({"pod": POD, "nodes": {"items": [node("n2")]}}, ["n2"], id="whole nodes in small letters"),
        pytest.param({"Pod": POD, "NodeNames": ["n1"], "Extra": 1, "Nodes": None}, ["n1"], id="an unknown field"),
        pytest.param({"Pod": POD, "NodeNames": []}, [], id="no nodes"),
        pytest.param({"Pod": POD, "Nodes": {"metadata": {}, "items": None}}, [], id="no items"),
        pytest.param({"Pod": POD, "Nodes": {}, "NodeNames": ["n1"]}, ["n1"], id="both: the names"),
    ],
)
def test_either_letter_case_nulls_and_unknown_fields(sent: dict[str, Any], names: list[str]) -> None:
    args = decode_args(body(**sent))
    assert (args.pod, args.names) == (POD, names)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        pytest.param(b"", "not what extender/v1 sends", id="empty"),
        pytest.param(b"[]", "not what extender/v1 sends", id="not an object"),
        pytest.param(b'{"Pod":5,"Nodes":null,"NodeNames":[]}', "Pod", id="a pod that is none"),
        pytest.param(b'{"Pod":null,"Nodes":null,"NodeNames":["n"]}', "Pod is missing or null", id="no pod"),
        pytest.param(b"{}", "Pod is missing or null", id="nothing"),
        pytest.param(b'{"Pod":{},"Nodes":null,"NodeNames":null}', "both null", id="no nodes in either form"),
        pytest.param(b'{"Pod":{},"NodeNames":[5]}', "NodeNames", id="a name that is none"),
        pytest.param(
            b'{"Pod":{},"Nodes":{"items":[{"metadata":{}}]}}', r"items\[0\].metadata.name", id="a nameless node"
        ),
        pytest.param(b'{"Pod":{},"Nodes":{"items":[5]}}', "not what extender/v1 sends", id="a node that is none"),
    ],
)
def test_bad_filter_requests_are_a_clear_error(sent: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why):
        decode_args(sent)


def test_the_filter_answer_is_what_go_would_write() -> None:
    filtered = Filtered(fit=["n1"], failed={"n2": "full"}, unresolvable={"n3": "no GPU"})
    assert encode_filter(filtered, ExtenderArgs(POD, ["n1", "n2", "n3"])) == (
        b'{"Nodes":null,"NodeNames":["n1"],"FailedNodes":{"n2":"full"},'
        b'"FailedAndUnresolvableNodes":{"n3":"no GPU"},"Error":""}'
    )


def test_our_own_failure_names_no_nodes() -> None:
    assert encode_filter_error("not synced") == (
        b'{"Nodes":null,"NodeNames":null,"FailedNodes":null,"FailedAndUnresolvableNodes":null,"Error":"not synced"}'
    )


def test_scores_are_a_bare_list() -> None:
    assert encode_scores([("n1", 7), ("n2", 0)]) == b'[{"Host":"n1","Score":7},{"Host":"n2","Score":0}]'
    assert encode_scores([]) == b"[]"


def test_a_binding_in_either_letter_case() -> None:
    want = BindingArgs("p", "ns", "u1", "n1")
    assert decode_binding(body(PodName="p", PodNamespace="ns", PodUID="u1", Node="n1")) == want
    assert decode_binding(body(podname="p", podNamespace="ns", PODUID="u1", node="n1", extra=1)) == want
    assert want.pod_key == "ns/p"


def test_an_incomplete_binding_names_every_empty_field() -> None:
    with pytest.raises(WireError, match="PodNamespace, PodUID: want a value"):
        decode_binding(body(PodName="p", PodUID="", Node="n1"))
    with pytest.raises(WireError, match="not what extender/v1 sends"):
        decode_binding(body(PodName=5))


def test_the_binding_answer() -> None:
    assert encode_binding() == b'{"Error":""}'
    assert encode_binding("taken") == b'{"Error":"taken"}'


META = {"n1": {"Pods": [{"UID": "a"}, {"UID": "b"}], "NumPDBViolations": 2}, "n2": {"Pods": None}, "n3": None}
WHOLE = {"n1": {"Pods": [pod("a"), pod("b")], "NumPDBViolations": 2}, "n2": {"Pods": None}, "n3": None}
WANT = {"n1": Eviction(("a", "b"), 2), "n2": Eviction(), "n3": Eviction()}


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param({"Pod": POD, "NodeNameToVictims": None, "NodeNameToMetaVictims": META}, id="uids"),
        pytest.param({"Pod": POD, "NodeNameToVictims": WHOLE, "NodeNameToMetaVictims": None}, id="whole pods"),
        pytest.param({"Pod": POD, "NodeNameToVictims": WHOLE, "NodeNameToMetaVictims": META}, id="both"),
        pytest.param({"pod": POD, "nodenametovictims": WHOLE}, id="small letters"),
        pytest.param(
            {
                "Pod": POD,
                "nodeNameToMetaVictims": {
                    "n1": {"pods": [{"uid": "a"}, {"Uid": "b"}], "numpdbviolations": 2},
                    "n2": {"pods": None},
                    "n3": None,
                },
            },
            id="small letters inside",
        ),
    ],
)
def test_victims_in_either_form(sent: dict[str, Any]) -> None:
    args = decode_preemption(body(**sent))
    assert (args.pod, args.candidates) == (POD, WANT)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        pytest.param(
            {"Pod": None, "NodeNameToVictims": None, "NodeNameToMetaVictims": META}, "Pod is missing", id="no pod"
        ),
        pytest.param(
            {"Pod": POD, "NodeNameToVictims": {"n": {"Pods": [{}]}}}, "metadata.uid", id="a victim without uid"
        ),
        pytest.param(
            {"Pod": POD, "NodeNameToMetaVictims": {"n": {"Pods": [5]}}}, "extender/v1", id="a victim that is none"
        ),
        pytest.param({"Pod": POD, "NodeNameToMetaVictims": {"n": 5}}, "extender/v1", id="victims that are none"),
    ],
)
def test_bad_preemption_requests_are_a_clear_error(sent: dict[str, Any], why: str) -> None:
    with pytest.raises(WireError, match=why):
        decode_preemption(body(**sent))


def test_a_preemption_request_without_candidates() -> None:
    assert decode_preemption(body(Pod=POD)).candidates == {}


def test_the_preemption_answer_has_the_meta_form_only() -> None:
    assert encode_preemption({"n1": Eviction(("a", "b"), 2)}) == (
        b'{"NodeNameToMetaVictims":{"n1":{"Pods":[{"UID":"a"},{"UID":"b"}],"NumPDBViolations":2}}}'
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Pod", "pod", "Nodes", "NodeNames", "items", "metadata", "name", "Pods", "UID", "Node", "PodUID"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON | st.binary(max_size=30))
def test_any_request_is_decoded_or_a_clear_error(sent: object) -> None:
    text = sent if isinstance(sent, bytes) else msgspec.json.encode(sent)
    for decode in (decode_args, decode_binding, decode_preemption):
        try:
            decode(text)
        except WireError as e:
            assert str(e)  # noqa: PT017 — either outcome is fine, any other exception is not


# ---- payloads of the real kube-scheduler -----------------------------------------------------------------------

RECORDED = Path(__file__).parents[1] / "contract" / "scheduler"


def replay(ledger: Ledger, demands: dict[str, Demand], verb: str, request: bytes) -> bytes:
    """One request, answered as the server does it, with what was decoded before."""
    if verb == "bind":
        binding = decode_binding(request)
        reserved = ledger.assume(binding.pod_uid, binding.pod_key, demands[binding.pod_uid], binding.node, NOW_S)
        assert isinstance(reserved, Allocation)
        ledger.confirm(binding.pod_uid)
        return encode_binding()
    if verb == "preempt":
        preemption = decode_preemption(request)
        return encode_preemption(pick_victims(ledger, demand_of(preemption.pod), preemption.candidates, NOW_S))
    args = decode_args(request)
    demand = demand_of(args.pod)
    demands[demand.uid] = demand
    if args.objects is None:
        if verb == "filter":
            return encode_filter(filter_nodes(ledger, demand, args.names, NOW_S), args)
        return encode_scores(score_nodes(ledger, demand, args.names, NOW_S))
    if verb == "filter":
        return encode_filter(filter_objects(ledger, demand, args.objects, NOW_S), args)
    return encode_scores(score_objects(ledger, demand, args.objects, NOW_S))


@pytest.mark.parametrize("form", ["names", "objects"])
def test_what_the_real_scheduler_sent_is_answered_byte_for_byte(form: str) -> None:
    nodes = [node(name, gpu(f"GPU-{name}")) for name in ("node-a", "node-b")]
    made, demands = ledger(nodes), dict[str, Demand]()
    requests = sorted((RECORDED / form).glob("*.request.json"))
    verbs = [path.name.split(".")[0].split("-")[1] for path in requests]
    assert verbs == ["filter", "prioritize", "bind", "filter", "bind", "preempt"]
    for verb, path in zip(verbs, requests, strict=True):
        answer = replay(made, demands, verb, path.read_bytes())
        assert answer == path.with_name(path.name.replace("request", "response")).read_bytes(), path.name


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*/*.request.json")), ids=lambda p: f"{p.parent.name}-{p.name}")
def test_the_real_requests_are_understood_in_either_letter_case(path: Path) -> None:
    decode: Any = {"bind": decode_binding, "preempt": decode_preemption}.get(path.name[3:].split(".")[0], decode_args)
    sent = json.loads(path.read_bytes())
    other = json.dumps({field.lower(): value for field, value in sent.items()}, separators=(",", ":")).encode()
    assert decode(other) == decode(path.read_bytes())
