"""From the world to the scene: samples quantities over time, draws the GPUs from the API's objects."""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sim.serving.pool import Counter
from slicewise.demo.autoscaler import Autoscaler
from slicewise.demo.cluster import GPU_NODES
from slicewise.demo.controllers import PODS, is_leaving, is_ready
from slicewise.demo.kube_scheduler import NODES
from slicewise.demo.promises import INVENTORY, Json, Part, parts
from slicewise.demo.scene import Block, Curve, GpuPicture, Line, NodePicture, Scene
from slicewise.demo.story import ROUND_S, chapter
from slicewise.demo.tags import Tags, style
from slicewise.demo.world import World

SAMPLE_S: Final = 5.0
#: Windows of the P95 and of the token rate that are drawn.
P95_WINDOW_S: Final = 120.0
TOKENS_WINDOW_S: Final = 30.0
UNITS: Final = 8
KEPT_LINES: Final = 200
LEGEND: Final = "c1 c2: agents (coder)   grey: guests   ·· free"


@dataclass(slots=True)
class Stage:
    world: World
    tags: Tags
    autoscaler: Autoscaler
    p95_target_s: float
    speed: float
    length_s: float | None
    endpoints: str
    mapping: str
    lines: deque[Line] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    sessions: list[float | None] = field(default_factory=list)
    queue: list[float | None] = field(default_factory=list)
    ready: list[float | None] = field(default_factory=list)
    tokens_per_s: list[float | None] = field(default_factory=list)
    p95_s: list[float | None] = field(default_factory=list)
    allocated: list[float] = field(default_factory=list)
    slices: list[int] = field(default_factory=list)
    _sampled_s: float = 0.0

    def sample(self) -> None:
        """One sample every SAMPLE_S of cluster time, however often this is called."""
        while self._sampled_s + SAMPLE_S <= self.world.now_s:
            self._sampled_s += SAMPLE_S
            scrapes = self.world.scrapes
            self.sessions.append(self.world.serving.sessions())
            self.queue.append(self.world.serving.held + sum(scrape.waiting for scrape in scrapes.newest()))
            self.ready.append(self.world.pods()[0])
            self.tokens_per_s.append(scrapes.rate(Counter.GENERATED_TOKENS, TOKENS_WINDOW_S))
            self.p95_s.append(scrapes.latency_s(0.95, P95_WINDOW_S))
            held = parts(self.world.store.objects(PODS))
            self.slices.append(len(held))
            self.allocated.append(sum(share(part) for part in held) / gpu_count())

    def scene(self) -> Scene:
        return Scene(
            clock_s=self.world.now_s,
            length_s=self.length_s,
            speed=self.speed,
            phase=chapter(max(0.0, self.world.now_s - 1.0)).title,
            endpoints=self.endpoints,
            mapping=self.mapping,
            curves=self._curves(),
            nodes=self._nodes(),
            legend=LEGEND,
            lines=list(self.lines),
        )

    def _curves(self) -> list[Curve]:
        columns = int((self.length_s or ROUND_S) / SAMPLE_S)
        ready, there = self.world.pods()
        wanted = self.autoscaler.wanted
        replicas = (
            f"{ready} ready of {there}"
            if wanted is None or round(wanted) == there
            else f"{ready} of {there}, want {wanted:g}"
        )
        p95 = self.p95_s[-1] if self.p95_s else None
        late = p95 is not None and p95 > self.p95_target_s
        shown = [
            ("sessions", self.sessions, f"{self.world.serving.sessions()} active", "cyan", None),
            ("queue", self.queue, f"{self.queue[-1] or 0 if self.queue else 0:.0f} waiting", "yellow", None),
            ("replicas", self.ready, replicas, "green", None),
            (
                "tokens/s",
                self.tokens_per_s,
                f"{self.tokens_per_s[-1] or 0 if self.tokens_per_s else 0:,.0f}",
                "blue",
                None,
            ),
            (
                "P95",
                self.p95_s,
                f"{'--' if p95 is None else f'{p95:.1f} s'} (max {self.p95_target_s:g} s)",
                "red" if late else "magenta",
                self.p95_target_s,
            ),
        ]
        return [
            Curve(title, values[-columns:], columns, now, style, limit) for title, values, now, style, limit in shown
        ]

    def _nodes(self) -> list[NodePicture]:
        pods = {pod["metadata"]["name"]: pod for pod in self.world.store.objects(PODS)}
        held: dict[str, list[Part]] = {}
        for part in parts(pods.values()):
            held.setdefault(part.uuid, []).append(part)
        drawn = []
        for node in self.world.store.objects(NODES):
            gpus = json.loads(node["metadata"]["annotations"][INVENTORY])["gpus"]
            pictures = [
                GpuPicture(str(gpu["index"]), gpu["mode"], UNITS, self._blocks(gpu, held, pods)) for gpu in gpus
            ]
            drawn.append(NodePicture(node["metadata"]["name"], _note(gpus), pictures))
        return drawn

    def _blocks(self, gpu: Json, held: Mapping[str, list[Part]], pods: Mapping[str, Json]) -> list[Block]:
        blocks, next_free = [], 0.0
        for part in sorted(held.get(gpu["uuid"], []), key=lambda part: (part.start, part.pod)):
            start, size, name = float(part.start), float(part.size), part.profile.split(".")[0]
            if part.mode == "mps":
                start, size = next_free, UNITS * part.memory_mib / gpu["memory_mib"]
                name = f"{part.compute_pct:.0f}%"
                next_free += size
            elif part.mode == "exclusive":
                start, size, name = 0.0, float(UNITS), "whole GPU"
            pod, tag = pods[part.pod], self.tags.of(part.pod)
            unready = is_leaving(pod) or not is_ready(pod)
            blocks.append(Block(start, size, tag, name, style(tag), starting=unready))
        return blocks


def share(part: Part) -> float:
    """How much of one GPU a part takes, by memory."""
    if part.mode == "mig":
        return part.size / UNITS
    if part.mode == "exclusive":
        return 1.0
    memory = {node.uuid(i): node.memory_mib for node in GPU_NODES for i in range(len(node.modes))}
    return part.memory_mib / memory[part.uuid]


def gpu_count() -> int:
    return sum(len(node.modes) for node in GPU_NODES)


def _note(gpus: list[Json]) -> str:
    modes = [gpu["mode"] for gpu in gpus]
    words = {"mig": "MIG", "mps": "MPS", "exclusive": "whole"}
    counted = ", ".join(f"{modes.count(mode)} {words[mode]}" for mode in words if mode in modes)
    return f"{len(gpus)} x {gpus[0]['model'].upper()}: {counted}"
