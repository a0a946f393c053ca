"""`slicewise extender advise`: reads a cluster or a saved one, tells advice as a table or as JSON."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from extender.placement.advice import Advice, Placed, Proposal, Unplaced
from extender.placement.allocation import Allocation, Grant, MigSlice, MpsShare
from extender.placement.demand import PREFIX, SLICE, Demand, DemandError
from extender.placement.profile import profile_name
from extender.survey import Objects
from slicewise.process.kube import Json, Kube
from slicewise.process.lease import epoch_s, lease_path
from slicewise.process.watch import PAGE

BUDGETS_PATH: Final = "/apis/policy/v1/poddisruptionbudgets"
RUNNING: Final = "status.phase!=Succeeded,status.phase!=Failed"
_WANT: Final = re.compile(r"(?P<what>[^=\s]+?)(?:=(?P<count>[1-9]\d{0,2}))?")


class AdviseError(Exception):
    """What was asked or what was saved cannot be understood; the message says how to mend it."""


# ---- what there is ---------------------------------------------------------------------------------------------


async def fetch(kube: Kube, lease_namespace: str) -> Objects:
    """Four lists, read one after the other. Raises KubeError."""
    return Objects(
        nodes=await _all(kube, "/api/v1/nodes"),
        pods=await _all(kube, "/api/v1/pods", fieldSelector=RUNNING),
        budgets=await _all(kube, BUDGETS_PATH),
        renewed_s=_renewals(await _all(kube, lease_path(lease_namespace))),
    )


async def _all(kube: Kube, path: str, **selectors: str) -> list[Json]:
    found: list[Json] = []
    token = ""
    while True:
        page = await kube.get(path, limit=PAGE, **selectors, **({"continue": token} if token else {}))
        found += page.get("items") or []
        token = (page.get("metadata") or {}).get("continue") or ""
        if not token:
            return found


def load(path: Path, lease_namespace: str) -> tuple[Objects, float]:
    """What `kubectl get nodes,pods,pdb,leases -A -o json` wrote, and when: the time of its newest heartbeat."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise AdviseError(f"--state {path}: {e}") from e
    items = document.get("items") if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise AdviseError(f"--state {path}: want a List with items, as `kubectl get … -o json` writes it")
    kinds: dict[str, list[Json]] = {"Node": [], "Pod": [], "PodDisruptionBudget": [], "Lease": []}
    for i, item in enumerate(items):
        fault = _fault(item)
        if fault is not None:
            raise AdviseError(f"--state {path}: items[{i}]: want {fault}")
        kinds.get(item.get("kind"), []).append(item)
    leases = [x for x in kinds["Lease"] if x["metadata"].get("namespace", lease_namespace) == lease_namespace]
    renewed_s = _renewals(leases)
    if not renewed_s:
        raise AdviseError(f"--state {path}: no heartbeat: want the Leases of namespace {lease_namespace} in it")
    return Objects(kinds["Node"], kinds["Pod"], kinds["PodDisruptionBudget"], renewed_s), max(renewed_s.values())


def _fault(item: object) -> str | None:
    """What an object lacks to be one that the API server could have sent, as far as it is read here."""
    meta = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(meta, dict) or not isinstance(meta.get("name"), str):
        return "an object with metadata.name"
    if item.get("kind") == "Pod" and not isinstance(meta.get("uid"), str):
        return "a pod with metadata.uid"
    spec = item.get("spec")
    parts = {"spec": spec, "status": item.get("status")}
    parts |= {f"metadata.{name}": meta.get(name) for name in ("labels", "annotations")}
    if isinstance(spec, dict):
        for name in ("containers", "initContainers"):
            listed = spec.get(name) or []
            parts |= {f"spec.{name}[{i}]": c for i, c in enumerate(listed if isinstance(listed, list) else [listed])}
    for name, part in list(parts.items()):
        if name.startswith("spec.") and isinstance(part, dict):
            resources = part.get("resources") or {}
            parts[f"{name}.resources"] = resources
            if isinstance(resources, dict):
                parts |= {f"{name}.resources.{kind}": resources.get(kind) for kind in ("limits", "requests")}
    wrong = [name for name, part in parts.items() if part is not None and not isinstance(part, dict)]
    return f"objects in {', '.join(wrong)}" if wrong else None


def _renewals(leases: Iterable[Json]) -> dict[str, float]:
    renewed_s = {}
    for lease in leases:
        text = (lease.get("spec") or {}).get("renewTime")
        try:
            renewed_s[lease["metadata"]["name"]] = epoch_s(str(text))
        except ValueError:
            continue  # no heartbeat: the node's inventory counts as stale, and is told as such
    return renewed_s


# ---- what is wanted --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hypothetical:
    """Who would ask."""

    priority: int = 0
    tenant: str = "default"
    gpu_model: str | None = None


def demands(wants: Sequence[str], who: Hypothetical) -> list[Demand]:
    """`3g.40gb`, `20Gi` or `whole`, each with `=COUNT` for several. Raises AdviseError."""
    found: list[Demand] = []
    for text in wants:
        match = _WANT.fullmatch(text)
        if match is None:
            raise AdviseError(f"--want {text!r}: want a profile, a memory or `whole`, with =COUNT for several")
        what = match["what"]
        ask = {"memory": what}
        if what == "whole":
            ask = {"mode": "exclusive"}
        elif profile_name(what) is not None:
            ask = {"profile": what}
        ask |= {"tenant": who.tenant} | ({"gpu-model": who.gpu_model} if who.gpu_model else {})
        for _ in range(int(match["count"] or 1)):
            found.append(_demand(text, ask, who.priority, len(found) + 1))
    return found


def _demand(text: str, ask: Mapping[str, str], priority: int, number: int) -> Demand:
    name = f"want-{number}"
    pod = {
        "metadata": {"name": name, "uid": name, "annotations": {f"{PREFIX}{k}": v for k, v in ask.items()}},
        "spec": {"priority": priority, "containers": [{"name": "main", "resources": {"limits": {SLICE: "1"}}}]},
    }
    try:
        found = Demand.of(pod)
    except DemandError as e:
        raise AdviseError(f"--want {text!r}: {e}") from e
    assert found is not None  # noqa: S101  # it asks for one slice
    return found


# ---- what is told ----------------------------------------------------------------------------------------------


def as_json(advice: Sequence[Advice], notes: Sequence[str]) -> str:
    """The contract of `--json`: docs/advise.md."""
    return json.dumps({"version": 1, "advice": [_advice(a) for a in advice], "notes": list(notes)}, indent=2)


def show(advice: Sequence[Advice], notes: Sequence[str], console: Console) -> None:
    for one in advice:
        wanted = ", ".join(p.demand.key for p in one.before.wanted) or "less fragmentation"
        console.print(f"[bold]{wanted}[/]: {one.why}", soft_wrap=True)
        if not one.exhaustive:
            console.print("  The search was cut short: a cheaper or smaller set may be among what was not tried.")
        for number, proposal in enumerate(one.proposals, start=1):
            _show_proposal(number, proposal, console)
        for why, keys in one.stay.items():
            console.print(f"  stays: {', '.join(keys)} ({why})", soft_wrap=True)
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True)


def _show_proposal(number: int, proposal: Proposal, console: Console) -> None:
    price, gain = _cost(proposal), _gain(proposal)
    console.print(f"{number}. {_reason(proposal)}", soft_wrap=True)
    table = Table(box=None, show_header=False, padding=(0, 0, 0, 3))
    for column in ("", "pod", "node", "what"):
        table.add_column(column, overflow="fold")
    for step in _steps(proposal):
        table.add_row(step["do"], step["pod"], step["node"], ", ".join(step["what"]))
    console.print(table)
    costs = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in price.items())
    console.print(f"   cost: {costs}")
    more = ", ".join(f"{p} {n:+d}" for p, n in gain["placements"].items()) or "unchanged"
    console.print(
        f"   gain: {gain['memory_slices']} memory slices for what was stuck, fragmentation "
        f"{-gain['fragmentation_falls_slices']:+.2f} memory slices; room afterwards: {more}",
        soft_wrap=True,
    )
    if proposal.order_matters:
        console.print("   Only in this order: what is wanted must be bound before the evicted pods come back.")


def _advice(advice: Advice) -> dict[str, Any]:
    return {
        "wanted": [p.demand.key for p in advice.before.wanted],
        "needed": advice.needed,
        "why": advice.why,
        "tried": advice.tried,
        "exhaustive": advice.exhaustive,
        "fragmentation_slices": round(advice.before.fragmentation, 6),
        "room": dict(advice.before.room),
        "stay": {why: list(keys) for why, keys in advice.stay.items()},
        "proposals": [
            {
                "why": _reason(p),
                "cost": _cost(p),
                "gain": _gain(p),
                "order_matters": p.order_matters,
                "steps": _steps(p),
            }
            for p in advice.proposals
        ],
    }


def _cost(proposal: Proposal) -> dict[str, int]:
    price = proposal.cost
    return {"sessions": price.sessions, "restarts": price.restarts, "highest_priority": price.highest}


def _gain(proposal: Proposal) -> dict[str, Any]:
    return {
        "memory_slices": proposal.memory_slices,
        "fragmentation_falls_slices": round(proposal.fragmentation_falls, 6),
        "placements": proposal.placements,
    }


def _reason(proposal: Proposal) -> str:
    pods = ", ".join(s.holding.key for s in proposal.evicted)
    stuck = [a.demand.key for a in proposal.before.wanted if isinstance(a, Unplaced)]
    goal = f"then {', '.join(stuck)} fits" if stuck else "then fragmentation falls"
    return f"evict {pods}: {goal}, and each evicted pod has a place again"


def _steps(proposal: Proposal) -> list[dict[str, Any]]:
    """Evictions, then what is wanted, then the pods that come back."""
    steps = [_step("evict", s.holding.key, s.holding.node, s.holding.allocation) for s in proposal.evicted]
    for do, places in (("place", proposal.outcome.wanted), ("return", proposal.outcome.returned)):
        steps += [_step(do, p.demand.key, p.node, p.allocation) for p in places if isinstance(p, Placed)]
    return steps


def _step(do: str, pod: str, node: str, allocation: Allocation) -> dict[str, Any]:
    return {"do": do, "pod": pod, "node": node, "what": [_grant(g) for g in allocation.grants()]}


def _grant(grant: Grant) -> str:
    if isinstance(grant, MigSlice):
        return f"{grant.profile} at {grant.start} of {grant.uuid}"
    if isinstance(grant, MpsShare):
        return f"{grant.memory_mib} MiB, {grant.compute_pct} % of {grant.uuid}"
    return f"all of {grant.uuid}"
