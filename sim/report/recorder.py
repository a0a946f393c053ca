"""The time line while the run goes: what only the present can tell. Requests are counted afterwards."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sim.kernel import Rank
from sim.serving.pool import Counter, Gauge
from sim.world import World


@dataclass(frozen=True, slots=True)
class Row:
    at_s: float
    desired: int | None
    dropped: int  #: since the begin
    prefix_computed_again: int  #: tokens, since the begin
    queued: int
    running: int
    sessions: int
    wanted: int
    ready: int
    starting: int
    pending: int
    kv_used: float | None  #: share of the ready replicas' blocks
    gpus_used: float


@dataclass(slots=True)
class Recorder:
    """`desired`: what the scaler answers now, None where it does not know."""

    world: World
    step_s: float
    desired: Callable[[], int | None]
    rows: list[Row] = field(default_factory=list)

    def start(self) -> None:
        self.world.after(self.step_s, Rank.REPORT, self._note)

    def _note(self) -> None:
        world = self.world
        pods = list(world.active.values())
        shown = world.pool.read(world.census().slots)
        blocks = sum(world.blocks(p) for p in pods)
        alive = [p for p in pods if p.alive]
        self.rows.append(
            Row(
                at_s=world.now_s,
                desired=self.desired(),
                dropped=world.dropped,
                prefix_computed_again=int(world.pool.totals()[Counter.LOST_TOKENS]),
                queued=int(shown.gauge(Gauge.QUEUED).sum()) + world.pool.held(),
                running=int(shown.gauge(Gauge.RUNNING).sum()),
                sessions=int(shown.gauge(Gauge.SESSIONS).sum()) + world.pool.held_sessions(),
                wanted=world.replicas,
                ready=sum(p.serving for p in alive),
                starting=sum(p.node is not None and p.ready_s is None for p in alive),
                pending=sum(p.node is None for p in alive),
                kv_used=float(shown.gauge(Gauge.KV_USED).sum()) / blocks if blocks else None,
                gpus_used=sum(p.share for p in pods),
            )
        )
        world.after(self.step_s, Rank.REPORT, self._note)
