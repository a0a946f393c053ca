"""`Ahead` on token work: which readings it needs, what it learns from them, and what it does where they are missing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import floor
from typing import ClassVar, Final

from scaler.forecast.headroom import Learnt, Observed
from scaler.policy.ahead import Ahead, Pressure
from scaler.policy.base import NOISE, Recommendation, Step, View, replicas_for, unknown
from scaler.policy.queue import IN_FLIGHT
from scaler.policy.tokens import TOKENS
from scaler.signals.reading import ReadingName, Sample
from scaler.signals.signal import Signal
from scaler.signals.work import Pace, request_work_s, work_arriving_per_s, work_done_per_s

STEP_S: Final = 60
"""One instant a minute is learnt from: what a new process reads of the past is then the same as what others saw."""

GAP_S: Final = 2.5 * STEP_S
"""Where demand was not known for longer, what was seen before is no longer the highest demand of a hold."""

LITTLE: Final = 0.5
"""Replicas. One is there anyway: how many times as much comes after less demand than this says nothing."""

PASSING: Final = 0.5
"""Requests a replica. Fewer that wait are on their way into a batch, and no reason not to lower."""

FLOWS: Final = (*TOKENS, ReadingName.ARRIVALS_PER_S, ReadingName.ENDED_PER_S)


def recommend_and_learn(ahead: Ahead, seen: Observed, now: Pressure, learnt: Learnt) -> tuple[Recommendation, bool]:
    """What to have; its `learnt` is to be kept where the second value says so: of each minute, the first instant.

    The instants between are decided with all that they show, and forgotten. The first instant after a gap shows too
    little, for its window reaches into the gap: it counts as high as the second.
    """
    if seen.slow < LITTLE or seen.fast < LITTLE:
        seen = replace(seen, slow=max(seen.slow, LITTLE), fast=max(seen.fast, LITTLE))
    if 0.0 < now.queued <= PASSING * now.current:
        now = replace(now, queued=0.0)
    if learnt.at_s and seen.at_s - learnt.at_s[-1] > GAP_S:
        learnt = replace(learnt, at_s=(), slow=())
    if len(learnt.at_s) == 1 and seen.at_s > learnt.at_s[0]:
        learnt = replace(learnt, slow=(max(learnt.slow[0], seen.slow),))
    wish, after = ahead.recommend(seen, now, learnt)
    is_first = not learnt.at_s or floor(seen.at_s / STEP_S) > floor(learnt.at_s[-1] / STEP_S)
    return Recommendation(replicas=wish.replicas, steps=wish.steps, doubts=wish.doubts, learnt=after), is_first


@dataclass(frozen=True, slots=True)
class _Load:
    """`seen` is sure to be all of it where `is_whole`; `request_s`: replica-seconds of a request, None: not known."""

    seen: Observed
    queued: float
    running: float
    request_s: float | None
    doubts: tuple[str, ...]
    is_whole: bool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensAhead:
    """Replicas for the highest work of a hold, times a learnt headroom (`Ahead`); 0 after a hold with hardly any work.

    Demand: prompt tokens / `pace.prefill_per_s` + generated tokens / `pace.decode_per_s`, and the work of requests that
    pile up. `cold_start_s`: from decision to ready. `slots`: requests that one replica serves at once. `late_share`: of
    requests, may find too few replicas. `first_token_s`: when the first token is late; None: not measured.
    """

    rule: ClassVar[str] = "ahead"
    pace: Pace
    cold_start_s: float
    slots: int
    late_share: float
    first_token_s: float | None = None

    @property
    def reads(self) -> frozenset[str]:
        late = frozenset[str]() if self.first_token_s is None else frozenset({ReadingName.TTFT_ATTAINMENT})
        return frozenset({*FLOWS, *IN_FLIGHT, ReadingName.SERVICE_S}) | late

    def recommend(self, view: View) -> Recommendation:
        signals: dict[str, Signal] = {name: view.total(name) for name in (*FLOWS, *IN_FLIGHT)}
        doubts = tuple(dict.fromkeys(doubt for signal in signals.values() for doubt in signal.doubts))
        if all(signals[name].at_least is None for name in TOKENS):
            return self._by_requests(view, signals, doubts)
        load = self._load(view, signals, doubts)
        if view.current is None:
            load = replace(load, doubts=(*load.doubts, "how many replicas there are is not known"))
        now = Pressure(
            queued=load.queued,
            running=load.running,
            backlog_s=load.queued * (load.request_s or 0.0),
            current=view.current or 0,
        )
        ahead = Ahead(cold_start_s=self.cold_start_s, slots=self.slots, late_share=self.late_share)
        wish, is_kept = recommend_and_learn(ahead, load.seen, now, view.learnt)
        busy = Step("work", view.current, replicas_for(load.seen.slow, 1.0), load.why)
        steps = (busy, replace(wish.steps[0], before=view.current), *wish.steps[1:])
        if not load.doubts and self._is_idle(load, wish.learnt):
            steps = (
                *steps,
                Step(
                    "idle", wish.replicas, 0, "nothing arrives, waits or runs, and next to nothing did for a whole hold"
                ),
            )
        return Recommendation(
            replicas=None if steps[-1].after is None else int(steps[-1].after),
            steps=steps,
            doubts=load.doubts,
            learnt=wish.learnt if is_kept and load.is_whole else None,
        )

    def _by_requests(self, view: View, signals: Mapping[str, Signal], doubts: tuple[str, ...]) -> Recommendation:
        """Where no pod tells of tokens: slots for what a gateway holds; nothing is learnt."""
        in_flight = sum(signals[name].at_least or 0.0 for name in IN_FLIGHT)
        if in_flight < NOISE:
            return unknown(self.rule, view, doubts)
        want = replicas_for(in_flight, self.slots)
        why = f"sized by requests alone: {in_flight:g} wait or run, {self.slots} slots a replica"
        return Recommendation(replicas=want, steps=(Step(self.rule, view.current, want, why),), doubts=doubts)

    def _load(self, view: View, signals: Mapping[str, Signal], doubts: tuple[str, ...]) -> _Load:
        prompt, generated, arrived, ended, queued, running = (signals[name].at_least or 0.0 for name in signals)
        done = work_done_per_s(prompt, generated, self.pace)
        grown = arrived - ended if all(signals[name].at_least is not None for name in FLOWS[2:]) else 0.0
        service = view.readings[ReadingName.SERVICE_S]
        service_s = service.value if isinstance(service, Sample) else None
        request_s = request_work_s(done, ended_per_s=ended, running=running, service_s=service_s)
        why = (
            f"{prompt:.4g} prompt tokens/s of {self.pace.prefill_per_s:g} a replica, {generated:.4g} generated of "
            f"{self.pace.decode_per_s:g}: {done:.3g} replicas busy"
        )
        if request_s is not None:
            why = f"{why}; {grown:+.3g} requests/s pile up, {request_s:.3g} s of work each"
        elif grown > NOISE or queued > NOISE:
            doubts = (*doubts, "how much work a request is, is not known: none has ended within the window")
        demand = work_arriving_per_s(done, grown_per_s=grown, request_s=request_s or 0.0)
        arrivals = STEP_S * arrived
        on_time = view.readings.get(ReadingName.TTFT_ATTAINMENT)
        measured = isinstance(on_time, Sample)
        return _Load(
            seen=Observed(
                view.at_s,
                slow=demand,
                fast=demand,
                arrived=arrivals if measured else 0.0,
                late=arrivals * max(0.0, 1.0 - on_time.value) if isinstance(on_time, Sample) else 0.0,
            ),
            queued=queued,
            running=running,
            request_s=request_s,
            doubts=doubts,
            is_whole=all(signals[name].at_least is not None for name in FLOWS),
            why=why,
        )

    def _is_idle(self, load: _Load, learnt: Learnt | None) -> bool:
        """Whether nothing is to do, and next to nothing has been for a whole hold."""
        if learnt is None or load.seen.slow + load.queued + load.running > NOISE:
            return False
        hold_s = learnt.headroom.hold_s
        return learnt.known_s >= hold_s and (learnt.highest(load.seen.at_s - hold_s, load.seen.at_s) or 0.0) <= LITTLE
