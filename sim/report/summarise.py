"""From a finished run to its report."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.cluster.coldstart import STAGES
from sim.cluster.deployment import Pod
from sim.report import fragments, laws, places
from sim.report.model import (
    Attainment,
    Change,
    Eviction,
    Gpus,
    Honesty,
    Latency,
    Promise,
    Quantiles,
    Replicas,
    Report,
    Requests,
    Sessions,
    Starts,
    TimeLine,
    Tokens,
)
from sim.report.recorder import Recorder
from sim.scenario import Slo
from sim.serving.pool import Counter, Outcome, Status
from sim.serving.turns import NO_SESSION, PS_PER_S, Turns, to_ps
from sim.world import EvictionEvent, ScaleEvent, World

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64] | slice

NOT_MODELLED: Final = (
    "network, gateway and tokenizer time; routing is exact least outstanding, sessions stay where they were",
    "API server, KEDA and kube-scheduler answer at once; of a node's own resources CPUs alone, if it says how many",
    "bandwidth of image and weight copies that other tenants take; copies of one run share the store if it is told how",
    "prefix cache across sessions; which drafts are accepted (the mean is); prefill and decode on different replicas",
    "interference between MIG slices of one GPU (power, PCIe)",
)


@dataclass(frozen=True, slots=True)
class Times:
    """Of every request, seconds; NaN where it did not come so far. Made when asked for: ten millions take their room.

    `outside_s`: of each request, on its way to the engine and back.
    """

    outcome: Outcome
    turns: Turns
    outside_s: float

    def first(self, rows: Rows = slice(None)) -> Floats:
        """Of all, or of some."""
        return self._between(self.outcome.arrival_ps[rows], self.outcome.first_ps[rows], self.outside_s)

    def done(self, rows: Rows = slice(None)) -> Floats:
        """Of all, or of some."""
        return self._between(self.outcome.arrival_ps[rows], self.outcome.done_ps[rows], self.outside_s)

    def waiting(self) -> Floats:
        return self._between(self.outcome.arrival_ps, self.outcome.scheduled_ps, 0.0)

    def per_token(self) -> Floats:
        """Mean after the first; 0 where there is only one."""
        took_s = self._between(self.outcome.first_ps, self.outcome.done_ps, 0.0)
        took_s /= np.maximum(self.turns.output - 1, 1)
        return took_s

    @staticmethod
    def _between(begin_ps: NDArray[np.int64], end_ps: NDArray[np.int64], outside_s: float) -> Floats:
        took_s = (end_ps - begin_ps).astype(np.float64)
        took_s /= PS_PER_S
        took_s += outside_s
        took_s[end_ps < 0] = np.nan
        return took_s


def summarise(world: World, recorder: Recorder) -> Report:
    yaml, turns, outcome = world.scenario.yaml, world.pool.turns, world.pool.outcome()
    times = Times(outcome, turns, yaml.engine.entry.request_s)
    arrived = outcome.status != Status.FUTURE
    judged, kept = _judge(yaml.slo, outcome.status, times, yaml.duration)
    requests, sessions = _requests(outcome.status), _sessions(outcome.status, turns)
    line = _time_line(recorder, times, judged, kept)
    lives, replicas = places.pods(world), _replicas(world)
    gpus = _gpus(world, fragments.fragmented_h(world, [*lives, *places.neighbours(world)]))
    attainment = _attainment(yaml.slo, judged, kept, line)
    totals = world.pool.totals()
    done = outcome.status == Status.DONE
    return Report(
        version=metadata.version("slicewise"),
        scenario=yaml.name,
        about=yaml.about,
        seed=world.seed,
        engine=yaml.engine.entry.name,
        inputs={"scenario_sha256": world.scenario.digest, "load_sha256": laws.digest(turns)},
        duration_s=yaml.duration,
        requests=requests,
        latency=Latency(
            first_token_s=quantiles(times.first()[done]),
            per_output_token_s=quantiles(times.per_token()[done & (turns.output > 1)]),
            end_to_end_s=quantiles(times.done()[done]),
            waiting_s=quantiles(times.waiting()[done]),
        ),
        attainment=attainment,
        tokens=Tokens(
            prompt_computed=int(totals[Counter.PROMPT_TOKENS]),
            prompt_cached=int(totals[Counter.CACHED_TOKENS]),
            prefix_computed_again=int(totals[Counter.LOST_TOKENS]),
            generated=int(totals[Counter.GENERATED_TOKENS]),
            preemptions=int(totals[Counter.PREEMPTED]),
        ),
        sessions=sessions,
        gpus=gpus,
        replicas=replicas,
        starts=_starts(world.pods),
        promises=_promises(world, attainment, gpus, replicas),
        changes=[_change(event) for event in world.scale_events],
        evictions=[_eviction(event) for event in world.evictions],
        time_line=line,
        nodes=places.nodes(world),
        pods=lives,
        laws=laws.check(world, requests, int(arrived.sum())),
        honesty=_honesty(world),
    )


def rounded(value: float, digits: int = 6) -> float:
    """Six digits after the point: microseconds and micro-GPUs, and no noise in a diff."""
    return round(float(value), digits)


def quantiles(values: Floats) -> Quantiles:
    if not len(values):
        return Quantiles(mean=None, p50=None, p90=None, p99=None)
    p50, p90, p99 = np.quantile(values, [0.5, 0.9, 0.99])
    return Quantiles(mean=rounded(values.mean()), p50=rounded(p50), p90=rounded(p90), p99=rounded(p99))


def _requests(status: NDArray[np.int8]) -> Requests:
    n = np.bincount(status, minlength=len(Status))
    return Requests(
        arrived=int(n.sum() - n[Status.FUTURE]),
        done=int(n[Status.DONE]),
        dropped=int(n[Status.DROPPED]),
        refused=int(n[Status.REFUSED]),
        running=int(n[Status.RUNNING]),
        queued=int(n[Status.QUEUED]),
        held=int(n[Status.HELD]),
    )


def _sessions(status: NDArray[np.int8], turns: Turns) -> Sessions:
    in_session = turns.session != NO_SESSION
    first = in_session & (turns.arrival_ps >= 0)
    last = in_session & ~turns.follows
    return Sessions(
        begun=int((status[first] != Status.FUTURE).sum()),
        finished=int((status[last] == Status.DONE).sum()),
        broken=int(np.isin(status[in_session], [Status.DROPPED, Status.REFUSED]).sum()),
    )


def _judge(slo: Slo, status: NDArray[np.int8], times: Times, end_s: float) -> tuple[Flags, Flags]:
    """Which requests can be judged at the end, and which of them kept every limit."""
    lost = np.isin(status, [Status.DROPPED, Status.REFUSED])
    done = status == Status.DONE
    kept, late = done.copy(), np.zeros(len(status), np.bool_)
    for limit_s, took_s in ((slo.first_token, times.first), (slo.end_to_end, times.done)):
        if limit_s is None:
            continue
        seconds = took_s()
        kept &= seconds <= limit_s
        late |= (seconds > limit_s) | (np.isnan(seconds) & (times.outcome.arrival_ps < to_ps(end_s - limit_s)))
    if slo.per_output_token is not None:
        kept &= times.per_token() <= slo.per_output_token
    return (status != Status.FUTURE) & (done | lost | late), kept


def _attainment(slo: Slo, judged: Flags, kept: Flags, line: TimeLine) -> Attainment:
    limits = {"first_token_s": slo.first_token, "per_output_token_s": slo.per_output_token}
    limits["end_to_end_s"] = slo.end_to_end
    count, good = int(judged.sum()), int((judged & kept).sum())
    shares = [share for share in line.kept_share if share is not None]
    return Attainment(
        limits={name: limit for name, limit in limits.items() if limit is not None},
        judged=count,
        kept=good,
        share=rounded(good / count) if count else None,
        worst_bin=min(shares, default=None),
    )


def _time_line(recorder: Recorder, times: Times, judged: Flags, kept: Flags) -> TimeLine:
    rows, step_s, outcome = recorder.rows, recorder.step_s, times.outcome
    here, bins = outcome.arrival_ps >= 0, _bins(outcome.arrival_ps, step_s, len(rows))
    finished = _bins(outcome.done_ps, step_s, len(rows))
    order = np.argsort(finished, kind="stable")
    edges = np.searchsorted(finished[order], np.arange(len(rows) + 1))
    ends = list(pairwise(edges))
    late = [_p95(times.done(order[a:b])) for a, b in ends]
    first = [_p95(times.first(order[a:b])) for a, b in ends]
    good = np.bincount(bins[judged & kept], minlength=len(rows))
    count = np.bincount(bins[judged], minlength=len(rows))
    return TimeLine(
        step_s=step_s,
        at_s=[rounded(r.at_s) for r in rows],
        arrived=np.bincount(bins[here], minlength=len(rows)).tolist(),
        queued=[r.queued for r in rows],
        running=[r.running for r in rows],
        sessions=[r.sessions for r in rows],
        desired=[r.desired for r in rows],
        wanted=[r.wanted for r in rows],
        ready=[r.ready for r in rows],
        starting=[r.starting for r in rows],
        pending=[r.pending for r in rows],
        kv_used=[None if r.kv_used is None else rounded(r.kv_used) for r in rows],
        gpus_used=[rounded(r.gpus_used) for r in rows],
        dropped=_steps([r.dropped for r in rows]),
        prefix_computed_again=_steps([r.prefix_computed_again for r in rows]),
        p95_first_token_s=first,
        p95_end_to_end_s=late,
        kept_share=[rounded(g / c) if c else None for g, c in zip(good, count, strict=True)],
    )


def _p95(seconds: Floats) -> float | None:
    return rounded(np.quantile(seconds, 0.95)) if len(seconds) else None


def _steps(sums: Sequence[int]) -> list[int]:
    return [after - before for before, after in pairwise([0, *sums])]


def _bins(instants_ps: NDArray[np.int64], step_s: float, rows: int) -> NDArray[np.int16]:
    """Which row of the time line; -1 where it did not come so far, the last row for what came after it."""
    found = instants_ps // to_ps(step_s)
    np.clip(found, -1, rows - 1, out=found)
    return found.astype(np.int16)


def spans(pod: Pod, end_s: float) -> tuple[float, float, float]:
    """Seconds that a pod held its GPUs while starting, serving and draining."""
    if pod.bound_s is None:
        return 0.0, 0.0, 0.0
    gone_s = end_s if pod.gone_s is None else pod.gone_s
    deleted_s = gone_s if pod.deleted_s is None else pod.deleted_s
    ready_s = deleted_s if pod.ready_s is None else pod.ready_s
    return ready_s - pod.bound_s, deleted_s - ready_s, gone_s - deleted_s


def _gpus(world: World, fragmented_h: float) -> Gpus:
    yaml = world.scenario.yaml
    hours = np.array([[s * p.share / 3600 for s in spans(p, yaml.duration)] for p in world.pods]).reshape(-1, 3)
    starting, serving, draining = hours.sum(axis=0).tolist()
    replica_s = sum(sum(spans(p, yaml.duration)[1:]) for p in world.pods)
    busy_s = float(world.pool.totals()[Counter.BUSY_US]) / 1e6
    provisioned_h = world.fleet.gpu_s(yaml.duration) / 3600
    return Gpus(
        starting_h=rounded(starting),
        serving_h=rounded(serving),
        draining_h=rounded(draining),
        total_h=rounded(starting + serving + draining),
        busy_share=rounded(busy_s / replica_s) if replica_s else None,
        provisioned_h=rounded(provisioned_h),
        fragmented_h=rounded(min(fragmented_h, provisioned_h - starting - serving - draining)),
    )


def _replicas(world: World) -> Replicas:
    events, end_s = world.scale_events, world.scenario.yaml.duration
    instants = [e.at_s for e in events] + [end_s]
    area = sum(e.after * (then - e.at_s) for e, then in zip(events, instants[1:], strict=True))
    ups = [e.after > e.before for e in events[1:]]
    unplaced_s = sum((end_s if p.bound_s is None else p.bound_s) - p.created_s for p in world.pods if p.alive)
    return Replicas(
        most=max((e.after for e in events), default=0),
        mean=rounded(area / end_s),
        ups=sum(ups),
        downs=len(ups) - sum(ups),
        reversals=sum(a != b for a, b in pairwise(ups)),
        never_placed=sum(p.bound_s is None for p in world.pods),
        unplaced_s=rounded(unplaced_s),
    )


def _starts(pods: Sequence[Pod]) -> Starts:
    ready = [p for p in pods if p.ready_s is not None]
    to_ready = np.array([p.ready_s - p.created_s for p in ready if p.ready_s is not None])
    return Starts(
        count=len(ready),
        to_ready_s=quantiles(to_ready),
        stages_s={s: rounded(float(np.mean([p.stages[s] for p in ready]))) if ready else None for s in STAGES},
    )


def _promises(world: World, attainment: Attainment, gpus: Gpus, replicas: Replicas) -> list[Promise]:
    promises, wanted = list[Promise](), world.scenario.yaml.promises
    if wanted.attainment is not None:
        kept = attainment.share is not None and attainment.share >= wanted.attainment
        promises.append(Promise(name="attainment", wanted=wanted.attainment, got=attainment.share, kept=kept))
    if wanted.gpu_hours is not None:
        kept = gpus.total_h <= wanted.gpu_hours
        promises.append(Promise(name="gpu_hours", wanted=wanted.gpu_hours, got=gpus.total_h, kept=kept))
    if wanted.reversals is not None:
        kept = replicas.reversals <= wanted.reversals
        promises.append(Promise(name="reversals", wanted=wanted.reversals, got=replicas.reversals, kept=kept))
    return promises


def _change(event: ScaleEvent) -> Change:
    return Change(
        at_s=rounded(event.at_s),
        by=event.by,
        before=event.before,
        after=event.after,
        why=event.why,
        steps=list(event.steps),
    )


def _eviction(event: EvictionEvent) -> Eviction:
    return Eviction(at_s=rounded(event.at_s), pod=event.pod, node=event.node, by=event.by, why=event.why)


def _honesty(world: World) -> Honesty:
    yaml = world.scenario.yaml
    engine, modes = yaml.engine.entry, sorted({n.mode for n in yaml.cluster.nodes})
    told = {"calibrated": list[str](), "interpolated": list[str](), "roofline": list[str]()}
    told[engine.basis].append(f"iteration times of {engine.name}: {engine.source}")
    if "mig" in modes:
        told["interpolated"].append(
            "MIG: memory-bound terms by the slice's part of memory, compute-bound by its part of compute; no published "
            "LLM measurement on slices"
        )
    if "mps" in modes:
        told["interpolated"].append("MPS: time per token x (1 + 0.2 (k - 1)) for k shares, compute by its percentage")
    told["interpolated"].append("cold starts: lognormal stages by published medians, not those of your cluster")
    return Honesty(
        calibrated=told["calibrated"],
        interpolated=[*told["interpolated"], *(f"{text} (roofline)" for text in told["roofline"])],
        not_modelled=list(NOT_MODELLED),
    )
