"""The inventory onto the Node, the heartbeat into a Lease. What has not changed is not written."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from extender.agent.reading import GpuReading, Nvml, NvmlError
from extender.placement.model import INVENTORY, inventory_text
from slicewise.process.kube import Kube, KubeError
from slicewise.process.lease import renew

Clock = Callable[[], float]

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(slots=True)
class Publisher:
    """`now_s`: seconds since the epoch. `text`: the inventory of some readings.

    Order matters: first the inventory, then the heartbeat, so that a fresh heartbeat means a present inventory. While
    the GPUs cannot be read there is no heartbeat, and the extender stops using the node.
    """

    kube: Kube
    node: str
    namespace: str
    nvml: Nvml
    text: Callable[[Sequence[GpuReading]], str]
    now_s: Clock
    every_s: float
    check_s: float = 60.0  #: the Node is read back so often: somebody else may have changed the annotation
    _known: str | None = field(default=None)
    _read_s: float = field(default=float("-inf"))

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Faults of driver and API server are waited out."""
        while not stop.is_set():
            try:
                await self.once()
            except (KubeError, NvmlError) as e:
                log.warning("agent.not_published", node=self.node, why=str(e))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self.every_s)

    async def once(self) -> None:
        """Raises KubeError and NvmlError."""
        readings = await asyncio.to_thread(self.nvml.gpus)  # can take seconds on a busy node
        text, now_s = self.text(readings), self.now_s()
        path = f"/api/v1/nodes/{self.node}"
        if now_s - self._read_s >= self.check_s:
            self._known = inventory_text(await self.kube.get(path))
            self._read_s = now_s
        if text != self._known:
            await self.kube.merge_patch(path, {"metadata": {"annotations": {INVENTORY: text}}})
            self._known = text
            faulty = [g.uuid for g in readings if g.fault]
            log.info("agent.published", node=self.node, gpus=len(readings), faulty=faulty, bytes=len(text))
        # Written often enough that three misses in a row do not make the node stale.
        await renew(
            self.kube, self.namespace, self.node, holder=self.node, now_s=now_s, lasts_s=round(4 * self.every_s)
        )
