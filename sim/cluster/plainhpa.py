"""An HPA of somebody's own, without KEDA: its metrics are read from the simulator's Prometheus, as an adapter would."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from scaler.signals.reading import Missing, Reading
from sim.cluster import hpa
from sim.cluster.autoscaler import Synced
from sim.cluster.hpa import Failed, PerPod, Scale, Usage
from sim.cluster.hpayaml import HorizontalPodAutoscaler


@dataclass(slots=True)
class PlainHpa:
    """`reading`: of which reading each metric's name is another. `read` and `read_pods` give it, of all and of each."""

    manifest: HorizontalPodAutoscaler
    reading: Mapping[str, str]
    read: Callable[[str], Reading]
    read_pods: Callable[[str], PerPod]
    spec: hpa.Spec = field(init=False)
    past: hpa.Past = hpa.NO_PAST

    def __post_init__(self) -> None:
        self.spec = self.manifest.hpa()

    def sync(self, scale: Scale, now_s: float) -> Synced:
        usage = {target.key: self._usage(target) for target in self.spec.targets}
        verdict, self.past = hpa.sync(self.spec, scale, usage, self.past, now_s)
        shown = {key: _mean(used) if isinstance(used, PerPod) else used for key, used in usage.items()}
        return Synced(shown, verdict, {})

    def _usage(self, target: hpa.Target) -> Usage:
        name = self.reading[target.name]
        if target.source == "pods":
            return self.read_pods(name)
        found = self.read(name)
        return Failed(found.why) if isinstance(found, Missing) else int(found.value * 1000)


def _mean(pods: PerPod) -> int | Failed:
    """As the HPA's status shows it."""
    values = [value for pod, value in pods.values_milli.items() if pod in pods.running]
    return sum(values) // len(values) if values else Failed("no pod has a value")
