"""The ledger as a machine: whatever happens in whatever order, nothing is given twice and a restart knows all of it."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from extender.ledger import Ledger, Phase
from extender.placement.allocation import Grant, MigSlice, MpsShare, WholeGpu
from extender.placement.profile import Mode
from tests.extender.clusters import demand_of, nodes, pods
from tests.extender.objects import NOW_S, Json

NAMES = ["n0", "n1", "n2"]


class LedgerMachine(RuleBasedStateMachine):
    """`api` is what the API server has; `ledger` is what the extender thinks. Times are seconds since NOW_S."""

    pending = Bundle("pending")
    bound = Bundle("bound")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.api_nodes: dict[str, Json] = {}
        self.api_pods: dict[str, Json] = {}
        self.now_s = NOW_S
        self.count = 0

    @initialize(found=st.tuples(*(nodes(name) for name in NAMES)))
    def start(self, found: tuple[Json, ...]) -> None:
        for name, one in zip(NAMES, found, strict=True):
            self.api_nodes[name] = one
            self.ledger.put_node_object(one)
            self.ledger.heartbeat(name, self.now_s)

    @rule(target=pending, one=pods("x", priority=1))
    def create(self, one: Json) -> str:
        uid = f"u{self.count}"
        self.count += 1
        one["metadata"] |= {"uid": uid, "name": uid}
        self.api_pods[uid] = one
        return uid

    @rule(uid=pending, name=st.sampled_from(NAMES))
    def assume(self, uid: str, name: str) -> None:
        wanted = demand_of(self.api_pods[uid])
        first = self.ledger.assume(uid, wanted.key, wanted, name, self.now_s)
        assert self.ledger.assume(uid, wanted.key, wanted, name, self.now_s) == first

    @rule(target=bound, uid=consumes(pending), seen=st.booleans())
    def bind(self, uid: str, seen: bool) -> Any:  # noqa: ANN401
        """The Binding succeeds; the watch shows it now or later."""
        holding = self.ledger.holding(uid)
        if holding is None:
            return multiple()
        one = self.api_pods[uid]
        one["spec"]["nodeName"] = holding.node
        one["metadata"]["annotations"]["slicewise.dev/allocation"] = holding.allocation.encode()
        assert self.ledger.confirm(uid)
        if seen:
            self.ledger.put_pod(one)
        return uid

    @rule(uid=pending)
    def forget(self, uid: str) -> None:
        self.ledger.forget(uid)
        assert self.ledger.holding(uid) is None

    @rule(uid=pending, name=st.sampled_from(NAMES))
    def nominate(self, uid: str, name: str) -> None:
        self.api_pods[uid]["status"]["nominatedNodeName"] = name
        self.ledger.put_pod(self.api_pods[uid])

    @rule(uid=bound)
    def see(self, uid: str) -> None:
        self.ledger.put_pod(self.api_pods[uid])

    @rule(uid=bound)
    def leave(self, uid: str) -> None:
        self.api_pods[uid]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        self.ledger.put_pod(self.api_pods[uid])
        holding = self.ledger.holding(uid)
        assert holding is not None
        assert holding.phase is Phase.TERMINATING

    @rule(uid=consumes(bound))
    def end(self, uid: str) -> None:
        self.api_pods.pop(uid)
        self.ledger.drop_pod(uid)
        assert self.ledger.holding(uid) is None

    @rule(uid=consumes(bound))
    def finish(self, uid: str) -> None:
        self.api_pods[uid]["status"]["phase"] = "Succeeded"
        self.ledger.put_pod(self.api_pods[uid])
        assert self.ledger.holding(uid) is None

    @rule(name=st.sampled_from(NAMES))
    def node_flaps(self, name: str) -> None:
        self.ledger.drop_node(name)
        self.ledger.put_node_object(self.api_nodes[name])
        self.ledger.heartbeat(name, self.now_s)

    @rule(seconds=st.sampled_from([10.0, 130.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        for holding in self.ledger.expire(self.now_s):
            assert holding.phase is Phase.ASSUMED
        for name in NAMES:
            self.ledger.heartbeat(name, self.now_s)

    @invariant()
    def nothing_is_given_twice(self) -> None:
        assert self.ledger.problems() == ()
        taken: dict[str, list[tuple[str, Grant]]] = {}
        for holding in self.ledger.holdings():
            for grant in holding.allocation.grants():
                taken.setdefault(grant.uuid, []).append((holding.tenant, grant))
        for one in self.api_nodes.values():
            state = self.ledger.node(one["metadata"]["name"])
            for gpu in state.gpus if state else ():
                check_gpu(gpu.memory_mib, gpu.mode, taken.pop(gpu.uuid, []))
        assert not taken

    @invariant()
    def a_restart_knows_what_the_api_has_confirmed(self) -> None:
        fresh = Ledger()
        fresh.replace_nodes(list(self.api_nodes.values()))
        fresh.replace_pods(list(self.api_pods.values()), self.now_s)
        sure = {h.uid: (h.node, h.allocation, h.tenant) for h in self.ledger.holdings() if h.phase is not Phase.ASSUMED}
        assert {h.uid: (h.node, h.allocation, h.tenant) for h in fresh.holdings()} == sure
        if all(h.phase is not Phase.ASSUMED for h in self.ledger.holdings()):
            for name in self.api_nodes:
                old, new = self.ledger.node(name), fresh.node(name)
                assert old is not None
                assert new is not None
                assert old.usages == new.usages


def check_gpu(memory_mib: int, mode: Mode, taken: list[tuple[str, Grant]]) -> None:
    """The rules of one GPU, from the grants alone."""
    grants = [g for _, g in taken]
    if mode is Mode.MIG:
        cells = [c for g in grants if isinstance(g, MigSlice) for c in range(g.start, g.start + g.size)]
        assert all(isinstance(g, MigSlice) for g in grants)
        assert len(cells) == len(set(cells))
    elif any(isinstance(g, WholeGpu) for g in grants):
        assert len(grants) == 1
    else:
        shares = [g for g in grants if isinstance(g, MpsShare)]
        assert len(shares) == len(grants) <= 48
        assert mode is Mode.MPS or not shares
        assert sum(s.memory_mib for s in shares) <= memory_mib
        assert sum(s.compute_pct for s in shares) <= 100
        assert len({tenant for tenant, _ in taken}) <= 1


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
