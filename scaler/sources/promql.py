"""PromQL text, and nothing else: the parts of the recipes (`scaler/signals/recipes.py`) in the words of a preset.

Each text answers for every workload of some namespaces at once: its series carry `namespace` and `workload`. A pod's
workload is read off its name. Every text keeps these rules:

- rate before sum: a restart is a reset of one pod's counter;
- highest by (namespace, pod, the preset's `apart`) before sum: a pod that two jobs scrape counts once;
- old and new names by `or` for each pod, never added;
- nothing where nothing is known: no `or vector(0)`. Zero without a series only for families that the preset calls lazy,
  and only for pods that export the preset's `up`;
- gauges of ghosts, whose last sample is older than `max_age_s`, do not count; the instant selector honours staleness
  markers, which a range would not;
- classic buckets of pods that export them, native histograms of the others, never both of one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scaler.signals.reading import ReadingName
from scaler.signals.recipes import (
    Counter,
    CountRate,
    Expression,
    Gateway,
    Gauge,
    Growth,
    Highest,
    Histogram,
    Own,
    Pods,
    Rate,
    Sum,
    SumRate,
)
from scaler.sources.presets import Exported, ExportedHistogram, HistogramName, Name, Preset

PART: Final = "part"
"""Label that tells the numbers of one query apart."""
KEPT: Final = "namespace, workload"

# A Deployment's pods are NAME-HASH-ID, a StatefulSet's NAME-INDEX. The hash is a decimal number in Kubernetes' safe
# letters, hence these ten characters; where a DaemonSet's or a Job's pod has a word, it is no hash. Source:
# kubernetes/kubernetes pkg/controller/controller_utils.go ComputeHash, apimachinery pkg/util/rand/rand.go.
REPLICA: Final = "[4-9bcdf]{1,10}-[a-z0-9]{5}"
INDEX: Final = "[0-9]+"


def quoted(text: str) -> str:
    """`text` as the inside of a PromQL string."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def escaped(text: str) -> str:
    """`text`, literally, as the inside of a PromQL string that holds a regular expression (RE2)."""
    return quoted("".join(f"\\{c}" if c in r"\.+*?()|[]{}^$" else c for c in text))


def seconds(duration_s: float) -> str:
    return f"{duration_s:.0f}s" if duration_s.is_integer() else f"{duration_s * 1000:.0f}ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose series: pods of `namespaces` (sorted, not empty); of `workload` alone where it is given."""

    namespaces: tuple[str, ...]
    window_s: float
    max_age_s: float
    workload: str | None = None

    def selector(self, match: Sequence[tuple[str, str]] = (), *, pods: bool = True) -> str:
        """Inside of braces. `pods`: whether a pod of the workload tells, or something that names it in a label."""
        names = "|".join(escaped(namespace) for namespace in self.namespaces)
        parts = [f'namespace="{quoted(names)}"' if self._is_one else f'namespace=~"{names}"']
        if self.workload is not None and pods:
            parts.append(f'pod=~"{escaped(self.workload)}-({REPLICA}|{INDEX})"')
        return ",".join([*parts, *(f'{label}="{quoted(value)}"' for label, value in match)])

    @property
    def _is_one(self) -> bool:
        return len(self.namespaces) == 1 and escaped(self.namespaces[0]) == self.namespaces[0]


def by_pod(text: str) -> str:
    """`text`, whose series have a `pod`, with the `workload` that its name tells: a Deployment's before others."""
    return f'label_replace({text}, "workload", "$1", "pod", "(.+?)-(?:{REPLICA}|{INDEX})")'


def by_label(text: str, label: str) -> str:
    """`text` with the `workload` that `label` names."""
    return f'label_replace({text}, "workload", "$1", "{label}", "(.+)")'


def together(texts: Mapping[str, str]) -> str:
    """One query that answers several: each series says in `part` which text it is of."""
    return _tree([f'label_replace({text}, "{PART}", "{tag}", "", "")' for tag, text in sorted(texts.items())])


def _tree(texts: Sequence[str]) -> str:
    """`or` as a tree: in a chain what stands first would be hashed again for each that follows."""
    if len(texts) <= 2:
        return " or ".join(texts)
    half = len(texts) // 2
    return f"({_tree(texts[:half])}) or ({_tree(texts[half:])})"


def cluster(scope: Scope) -> Mapping[str, str]:
    """Readings that kube-state-metrics has, scraped with honor_labels; for scalers without the Kubernetes API.

    Names: kubernetes/kube-state-metrics docs/metrics/workload/{deployment,statefulset,pod}-metrics.md.
    """

    def owned(deployment: str, stateful_set: str) -> str:
        each = ((deployment, "deployment"), (stateful_set, "statefulset"))
        named = (by_label(_fresh(f"{family}{{{scope.selector(pods=False)}}}", scope), label) for family, label in each)
        return f"max by ({KEPT}) ({' or '.join(named)})"

    def pods(family: str, phase: str | None = None) -> str:
        selector = scope.selector(() if phase is None else (("phase", phase),))
        return by_pod(f"max by (namespace, pod) ({_fresh(f'{family}{{{selector}}}', scope)})")

    none_terminates = f"0 * count by ({KEPT}) ({pods('kube_pod_status_phase', 'Running')})"
    return {
        ReadingName.REPLICAS: owned("kube_deployment_spec_replicas", "kube_statefulset_replicas"),
        ReadingName.READY: owned("kube_deployment_status_replicas_ready", "kube_statefulset_status_replicas_ready"),
        ReadingName.PENDING: f"sum by ({KEPT}) ({pods('kube_pod_status_phase', 'Pending')})",
        ReadingName.TERMINATING: f"count by ({KEPT}) ({pods('kube_pod_deletion_timestamp')}) or {none_terminates}",
    }


class Writer:
    """Texts of one preset for one scope."""

    def __init__(self, preset: Preset, scope: Scope) -> None:
        self._preset = preset
        self._scope = scope
        self._window = seconds(scope.window_s)

    def part(self, part: Expression) -> str:
        """One number for each workload. Quantiles and shares are not asked for: they are made of `buckets`."""
        match part:
            case Sum(gauge):
                text = self._added(self._gauge(gauge))
            case Highest(gauge):
                text = f"max by ({KEPT}) ({self._of_workloads(self._gauge(gauge))})"
            case Growth(gauge):
                text = self._added(self._exported(self._preset.gauges[gauge], self._deriv))
            case Rate(counter):
                text = self._added(self._exported(self._preset.counters[counter], self._rate))
            case SumRate(histogram):
                text = self._added(
                    self._observed(histogram, "histogram_sum", lambda name: name.sum_family, scaled=True)
                )
            case CountRate(histogram):
                text = self._added(self._observed(histogram, "histogram_count", lambda name: name.count_family))
            case Gateway(metric):
                text = self._gateway(metric)
            case Pods(metric):
                own = _fresh(f"{metric}{{{self._scope.selector()}}}", self._scope)
                text = f"sum by ({KEPT}) ({by_pod(f'max by (namespace, pod) ({own})')})"
            case _:
                raise TypeError(f"no PromQL for {part!r}: it is made of others")
        return text

    def buckets(self, histogram: Histogram) -> tuple[tuple[str, float, str], ...]:
        """What quantiles and shares are made of: (tag, unit of `le`, text) for each name that has buckets.

        The series carry `le` and a cumulative rate (classic), or no `le` and a native histogram. A pod counts in one of
        them only, and only under the first of the names that it exports.
        """
        found: list[tuple[str, float, str]] = []
        earlier: list[str] = []
        for n, name in enumerate(name for name in self._preset.histograms[histogram].names if name.buckets):
            hidden = "".join(f" unless on ({self._each}) {other}" for other in earlier)
            native, count = (self._rate(family, _match(name)) for family in (name.name, name.count_family))
            classic = f"max by ({self._by}, le) ({self._rate(name.bucket_family, _match(name))}){hidden}"
            # `max` passes over native histograms; the mean of one that is scraped twice is itself. Those of pods
            # that have both kinds are left out here: it would take four times as long to leave out their buckets.
            natives = f"avg by ({self._by}) ({native}) unless on ({self._each}) {count}{hidden}"
            summed = f"sum by ({KEPT}, le) ({self._of_workloads(classic)})"
            text = f"sum by ({KEPT}) ({self._of_workloads(natives)}) or {summed}"
            found.append((f"{histogram}.{n}", name.scale, text))
            earlier += [native, count]
        return tuple(found)

    def seen(self) -> str:
        """Pods with a sample of `up` that is no older than `max_age_s`."""
        return f"count by ({KEPT}) ({self._of_workloads(self._times())})"

    def young(self) -> str:
        """Of those, pods that rates know too little of.

        They have fewer than two samples within the window, or restarted in it: what they counted between their last
        sample and the restart is lost.
        """
        counts = self._either(lambda name: f"count_over_time({self._select(name.name, _match(name))}[{self._window}])")
        known = f"{counts} < 2"
        if (counter := next((one for one in Counter if one in self._preset.counters), None)) is not None:
            names = self._preset.counters[counter].names
            resets = (f"resets({self._select(name.name, _match(name))}[{self._window}])" for name in names)
            known = f"({known} or max by ({self._each}) ({' or '.join(resets)}) > 0)"
        return f"count by ({KEPT}) ({self._of_workloads(f'{known} and on ({self._each}) {self._times()}')})"

    def oldest(self) -> str:
        """When the newest sample was taken of the pod that was measured longest ago; ghosts left out."""
        return f"min by ({KEPT}) ({self._of_workloads(self._times())})"

    def newest(self) -> str:
        return f"max by ({KEPT}) ({self._of_workloads(self._times())})"

    @property
    def _each(self) -> str:
        """Labels of one that tells: a pod, or a gateway about one workload."""
        label = self._preset.workload_label
        return "namespace, pod" if label is None else f"namespace, pod, {label}"

    @property
    def _by(self) -> str:
        return ", ".join((self._each, *self._preset.apart))

    def _select(self, family: str, match: Sequence[tuple[str, str]]) -> str:
        pods = self._preset.scope == "pod"
        if not pods and self._scope.workload is not None and self._preset.workload_label is not None:
            match = (*match, (self._preset.workload_label, self._scope.workload))
        return f"{family}{{{self._scope.selector(match, pods=pods)}}}"

    def _fresh(self, family: str, match: Sequence[tuple[str, str]]) -> str:
        return _fresh(self._select(family, match), self._scope)

    def _rate(self, family: str, match: Sequence[tuple[str, str]]) -> str:
        return f"rate({self._select(family, match)}[{self._window}])"

    def _deriv(self, family: str, match: Sequence[tuple[str, str]]) -> str:
        return f"deriv({self._select(family, match)}[{self._window}])"

    def _max(self, text: str) -> str:
        return f"max by ({self._by}) ({text})"

    def _gateway(self, metric: Own) -> str:
        """Of whatever names the workload in a label, save the workload's own pods."""
        named = 'workload!=""' if self._scope.workload is None else f'workload="{quoted(self._scope.workload)}"'
        selected = f"{metric}{{{self._scope.selector(pods=False)},{named}}}"
        told = f"max by (namespace, workload, pod) ({_fresh(selected, self._scope)})"
        own = by_pod(f"max by (namespace, pod) ({selected})")
        return f"sum by ({KEPT}) ({told} unless on (namespace, workload, pod) {own})"

    def _gauge(self, gauge: Gauge) -> str:
        return self._exported(self._preset.gauges[gauge], self._fresh)

    def _exported(self, exported: Exported, read: Callable[[str, Sequence[tuple[str, str]]], str]) -> str:
        """One number for each pod and `apart`: of the first name that the pod has."""
        return self._first([self._named(name, read) for name in exported.names], lazy=exported.lazy)

    def _named(self, name: Name, read: Callable[[str, Sequence[tuple[str, str]]], str]) -> str:
        text = whole = self._max(read(name.name, _match(name)))
        for family in name.plus:
            text = f"({text} + ({self._max(read(family, _match(name)))} or 0 * {whole}))"
        for family in name.minus:
            text = f"({text} - ({self._max(read(family, _match(name)))} or 0 * {whole}))"
        return text if name.scale == 1 else f"{name.scale!r} * {text}"

    def _observed(
        self, histogram: Histogram, native: str, family: Callable[[HistogramName], str], *, scaled: bool = False
    ) -> str:
        """As `_exported`, of a histogram's sum or count. `native`: the function that takes it from a native one."""
        exported: ExportedHistogram = self._preset.histograms[histogram]
        texts: list[str] = []
        for name in exported.names:
            scale = f"{name.scale!r} * " if scaled and name.scale != 1 else ""
            if name.buckets:
                texts.append(scale + self._max(f"{native}({self._rate(name.name, _match(name))})"))
            texts.append(scale + self._max(self._rate(family(name), _match(name))))
        return self._first(texts, lazy=exported.lazy)

    def _first(self, texts: Sequence[str], *, lazy: bool) -> str:
        every = [*texts, f"0 * {self._serving()}"] if lazy and self._preset.up is not None else texts
        return f" or on ({self._each}) ".join(every)

    def _serving(self) -> str:
        return f"({self._gauge(self._up)})"

    @property
    def _up(self) -> Gauge:
        if self._preset.up is None:
            raise TypeError(f"the preset of {self._preset.engine} exports nothing")
        return self._preset.up

    def _times(self) -> str:
        """When each pod's newest sample of `up` was taken, ghosts left out."""
        times = self._either(lambda name: f"timestamp({self._select(name.name, _match(name))})")
        return f"{times} >= time() - {self._scope.max_age_s:g}"

    def _either(self, read: Callable[[Name], str]) -> str:
        names = self._preset.gauges[self._up].names
        return f"max by ({self._each}) ({' or '.join(read(name) for name in names)})"

    def _of_workloads(self, text: str) -> str:
        label = self._preset.workload_label
        return by_pod(text) if label is None else by_label(text, label)

    def _added(self, text: str) -> str:
        return f"sum by ({KEPT}) ({self._of_workloads(text)})"


def _fresh(selected: str, scope: Scope) -> str:
    return f"{selected} and timestamp({selected}) >= time() - {scope.max_age_s:g}"


def _match(name: Name | HistogramName) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(name.match.items()))
