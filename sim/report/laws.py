"""Balances that must come out even in every run: nothing is lost, and nothing comes from nowhere."""

from hashlib import sha256
from math import isclose

import numpy as np

from extender.placement.allocation import MigSlice
from sim.report.model import Law, Requests
from sim.serving.pool import Counter, Gauge, Status
from sim.serving.turns import PS_PER_S, Turns
from sim.world import World


class BrokenLawError(AssertionError):
    """The simulator is wrong; its numbers must not be used."""


def digest(turns: Turns) -> str:
    parts = (turns.prompt, turns.output, turns.session, turns.arrival_ps, turns.wait_ps, turns.human, turns.follows)
    found = sha256()
    for part in parts:
        found.update(np.ascontiguousarray(part).data)
    if turns.common_tokens:
        found.update(str(turns.common_tokens).encode())
    return found.hexdigest()


def check(world: World, requests: Requests, arrived: int) -> list[Law]:
    """Raises `BrokenLawError` where one does not hold."""
    outcome, totals, turns = world.pool.outcome(), world.pool.totals(), world.pool.turns
    done = outcome.status == Status.DONE
    inside = requests.running + requests.queued + requests.held
    busy_s = float(totals[Counter.BUSY_US]) / 1e6
    present = [p for p in world.active.values() if p.slot is not None]
    shown = world.pool.read(tuple(p.slot for p in present if p.slot is not None))
    kv_used = shown.gauge(Gauge.KV_USED).tolist()
    latency_s = float(((outcome.done_ps[done] - outcome.arrival_ps[done]) / PS_PER_S).sum())
    held_s = float(((outcome.routed_ps[done] - outcome.arrival_ps[done]) / PS_PER_S).sum())
    found = [
        _law(
            "requests: arrived = done + dropped + refused + running + queued + held",
            arrived,
            requests.done + requests.dropped + requests.refused + inside,
        ),
        _law(
            "requests: running and queued are those that the replicas show",
            requests.running + requests.queued,
            int((shown.gauge(Gauge.RUNNING) + shown.gauge(Gauge.QUEUED)).sum()),
        ),
        _law("requests: done is what the replicas counted", requests.done, int(totals[Counter.FINISHED])),
        _law("requests: dropped is what went with killed replicas", requests.dropped, world.dropped),
        _law(
            "latency: replicas' sum and the requests' own times, to 1 us a request",
            held_s + float(totals[Counter.LATENCY_US]) / 1e6,
            latency_s,
            tolerance=1e-6 * max(1, requests.done),
        ),
        _law(
            "tokens: generated at least those of done requests",
            float(min(int(totals[Counter.GENERATED_TOKENS]) - int(turns.output[done].sum()), 0)),
            0.0,
        ),
        _law(
            "KV: no replica uses more blocks than it has",
            float(sum(max(0, used - world.blocks(p)) for used, p in zip(kv_used, present, strict=True))),
            0.0,
        ),
        _law(
            "GPUs: what pods hold is what the ledger holds",
            sum(p.node is not None for p in (*world.active.values(), *world.neighbours.values())),
            len(world.ledger.holdings()),
        ),
        _law("GPUs: no slice is held twice", float(_overlaps(world)), 0.0),
        _law("time: no replica is busy longer than it lives", max(0.0, busy_s - _lived_s(world)), 0.0, tolerance=1e-3),
    ]
    if broken := [law for law in found if not law.holds]:
        raise BrokenLawError("; ".join(f"{law.name}: {law.left:g} is not {law.right:g}" for law in broken))
    return found


def _law(name: str, left: float, right: float, tolerance: float = 0.0) -> Law:
    holds = isclose(left, right, rel_tol=1e-9, abs_tol=tolerance)
    return Law(name=name, left=round(float(left), 6), right=round(float(right), 6), holds=holds)


def _lived_s(world: World) -> float:
    """Seconds of all replicas from ready to gone, or to the end of the run."""
    end_s = world.scenario.yaml.duration
    return sum((end_s if p.gone_s is None else p.gone_s) - p.ready_s for p in world.pods if p.ready_s is not None)


def _overlaps(world: World) -> int:
    """Slices of one GPU that cover each other, counted from the pods' own allocations."""
    taken: dict[str, list[tuple[int, int]]] = {}
    for pod in (*world.active.values(), *world.neighbours.values()):
        for grant in pod.allocation.grants() if pod.allocation is not None else ():
            span = (grant.start, grant.start + grant.size) if isinstance(grant, MigSlice) else None
            if span is not None:
                taken.setdefault(grant.uuid, []).append(span)
    return sum(
        a[0] < b[1] and b[0] < a[1] for spans in taken.values() for i, a in enumerate(spans) for b in spans[i + 1 :]
    )
