"""A scenario: what runs where, under which load. Strict YAML; manifests stand in it, or beside it, as they are."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from extender.placement import catalog as gpus
from extender.placement.model import DemandError
from scaler.trigger import Trigger, TriggerError
from sim.changes import Changes, changed
from sim.cluster.coldstart import ColdStart
from sim.cluster.hpayaml import HorizontalPodAutoscaler
from sim.cluster.nodes import Kind, Loss, Provisioning
from sim.cluster.placed import Interference, Limits
from sim.cluster.placing import ExtenderYaml
from sim.cluster.prometheus import EACH, READS
from sim.cluster.scaledobject import ScaledObject
from sim.engines import engine_of, how_to_name, replaced_by_catalog
from sim.podtemplate import PRIORITIES, Neighbour, PodTemplate, PriorityClassYaml, demand_of
from sim.serving.pool import NO_LIMIT
from sim.serving.times import Engine
from sim.serving.turns import to_ps
from sim.strict import ConfigError, Document, Fault, LackingError, Seconds, Strict, Where, check, read
from sim.workloads import WORKLOADS, Workload

FOLDER: Final = "scenarios"


class Speculative(Strict):
    """Drafts that are verified beside each sequence's next token; `acceptance` of one, if those before it were."""

    tokens: int = Field(ge=1, le=32)
    acceptance: float = Field(ge=0, le=1)
    draft: Seconds = Field(default=0.0, ge=0, le=1)  #: to make one, of the whole batch


class EngineYaml(Strict):
    """vLLM's own options under its own names; `catalog` names the engine whose iteration times it has.

    `max_requests`: running and waiting in one replica; the gateway refuses what would be more (None: no limit).
    """

    catalog: str
    served: Annotated[None, BeforeValidator(replaced_by_catalog)] = None
    max_num_seqs: int = Field(default=64, ge=1, le=4096)
    max_num_batched_tokens: int = Field(default=2048, ge=16)
    max_model_len: int = Field(default=131_072, ge=16)
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    speculative: Speculative | None = None
    max_requests: int | None = Field(default=None, ge=1)

    @field_validator("catalog")
    @classmethod
    def _known(cls, name: str) -> str:
        if engine_of(name) is None:
            raise ValueError(f"no such engine; {how_to_name()}")
        return name

    @model_validator(mode="after")
    def _places_for_drafts(self) -> Self:
        tokens = self.max_num_seqs * (1 + (self.speculative.tokens if self.speculative else 0))
        if tokens > self.max_num_batched_tokens:
            raise ValueError(
                f"maxNumBatchedTokens {self.max_num_batched_tokens} is below {tokens}, which maxNumSeqs needs to decode"
            )
        return self

    @property
    def entry(self) -> Engine:
        """With drafts, if any are made."""
        drafts = self.speculative
        engine = engine_of(self.catalog)
        if engine is None:
            raise ValueError("an engine that is not known is refused when the scenario is read")
        if drafts is None:
            return engine
        return replace(engine, times=engine.times.speculative(drafts.tokens, drafts.acceptance, to_ps(drafts.draft)))

    @property
    def limits(self) -> Limits:
        return Limits(
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            max_model_len=self.max_model_len,
            gpu_memory_utilization=self.gpu_memory_utilization,
            max_requests=NO_LIMIT if self.max_requests is None else self.max_requests,
        )


class Nodes(Strict):
    count: int = Field(ge=0, le=10_000)
    gpu: str
    max_count: int | None = Field(default=None, ge=1, le=10_000)  #: with those that come when pods wait for room
    gpus_per_node: int = Field(default=8, ge=1, le=16)
    cpus: int | None = Field(default=None, ge=1, le=10_000)  #: that pods may request; None: enough for all
    mode: Literal["mig", "mps", "exclusive"]

    @field_validator("gpu")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in gpus.load():
            known = ", ".join(gpus.load())
            raise ValueError(f"no such GPU model; there are {known}; add one as a file of extender/placement/catalog")
        return name

    @field_validator("mode")
    @classmethod
    def _possible(cls, mode: str, info: ValidationInfo) -> str:
        gpu = info.data.get("gpu")
        if mode == "mig" and gpu is not None and not gpus.load()[gpu].profiles:
            raise ValueError(f"{gpu} cannot be cut into MIG instances; want mps or exclusive")
        return mode

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.kind.most < max(1, self.count):
            raise ValueError(f"maxCount {self.kind.most} is below count {self.count}, or there is no node at all")
        return self

    @property
    def kind(self) -> Kind:
        most = self.count if self.max_count is None else self.max_count
        return Kind(self.gpu, self.gpus_per_node, self.mode, self.count, most, self.cpus)


class SharingYaml(Strict):
    """Of GPUs that are neither whole nor cut: see `sim/cluster/placed.py`."""

    by: Literal["mps", "time-slicing"] = "mps"
    interference: Interference = "table"


class Cluster(Strict):
    nodes: list[Nodes] = Field(min_length=1)
    neighbours: tuple[Neighbour, ...] = ()
    priority_classes: Mapping[str, PriorityClassYaml] = {}
    sharing: SharingYaml = SharingYaml()
    provisioning: Provisioning = Provisioning()
    loss: Loss | None = None
    extender: ExtenderYaml = ExtenderYaml()
    percentage_of_nodes_to_score: int = Field(default=0, ge=0, le=100)  #: kube-scheduler's own option
    cold_start: ColdStart = ColdStart()
    termination_grace_period: Seconds = Field(default=30.0, ge=0)


class Outage(Strict):
    """Something does not answer from `at` on, `lasts` long."""

    at: Seconds = Field(ge=0)
    lasts: Seconds = Field(gt=0)

    def covers(self, now_s: float) -> bool:
        return self.at <= now_s < self.at + self.lasts


class Metrics(Strict):
    scrape_interval: Seconds = Field(default=15.0, gt=0, le=300)
    loss: float = Field(default=0.0, ge=0, le=1)  #: share of a pod's scrapes that fail
    outages: tuple[Outage, ...] = ()  #: of Prometheus: nothing is scraped, nothing answered


class ScalerYaml(Strict):
    tick: Seconds = Field(default=15.0, ge=0.1, le=300)
    delay: Seconds = Field(default=1.0, ge=0, le=30)
    outages: tuple[Outage, ...] = ()  #: KEDA does not reach it


class HpaYaml(Strict):
    """`metrics`, `window`: of a HorizontalPodAutoscaler of your own, what its metrics' names stand for."""

    sync_period: Seconds = Field(default=15.0, gt=0, le=300)
    metrics: Mapping[str, str] = {}  #: a reading by each name; readings need none
    window: Seconds = Field(default=60.0, gt=0, le=3600)  #: of rates


class Slo(Strict):
    """A request keeps it if it keeps every limit given."""

    first_token: Seconds | None = Field(default=None, gt=0)
    per_output_token: Seconds | None = Field(default=None, gt=0)  #: mean after the first
    end_to_end: Seconds | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.first_token is None and self.per_output_token is None and self.end_to_end is None:
            raise ValueError("want at least one of firstToken, perOutputToken, endToEnd")
        return self


class Promises(Strict):
    """What must hold, or the run ends with exit code 1."""

    attainment: float | None = Field(default=None, ge=0, le=1)  #: at least this share of requests keeps the SLO
    gpu_hours: float | None = Field(default=None, ge=0)  #: at most so many
    reversals: int | None = Field(default=None, ge=0)  #: at most so many changes of direction


class ScenarioYaml(Strict):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    about: str
    duration: Seconds = Field(gt=0, le=30 * 86400)
    workload: Mapping[str, Any]
    engine: EngineYaml
    pod: PodTemplate
    scaled_object: ScaledObject | None = None
    horizontal_pod_autoscaler: HorizontalPodAutoscaler | None = None
    start_replicas: int = Field(default=1, ge=0)
    cluster: Cluster
    metrics: Metrics = Metrics()
    scaler: ScalerYaml = ScalerYaml()
    hpa: HpaYaml = HpaYaml()
    slo: Slo
    promises: Promises = Promises()

    @model_validator(mode="after")
    def _one_autoscaler(self) -> Self:
        if (self.scaled_object is None) == (self.horizontal_pod_autoscaler is None):
            raise ValueError("want either scaledObject or horizontalPodAutoscaler")
        return self

    @property
    def target_name(self) -> str:
        """Of the Deployment."""
        one = self.scaled_object or self.horizontal_pod_autoscaler
        if one is None:
            raise ValueError("a scenario without an autoscaler is refused when it is read")
        return one.spec.scale_target_ref.name

    @property
    def keda(self) -> ScaledObject:
        """Raises `LackingError`."""
        if self.scaled_object is None:
            raise LackingError("this scenario has a HorizontalPodAutoscaler of its own, and no ScaledObject")
        return self.scaled_object

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        engine, kinds = self.engine.entry, {n.gpu for n in self.cluster.nodes}
        if kinds != {engine.gpu}:
            raise ValueError(
                f"engine.catalog: {engine.name} is for {engine.gpu}, but the nodes have {', '.join(sorted(kinds))}"
            )
        return self


@dataclass(frozen=True, slots=True)
class Scenario:
    """Checked as a whole. `digest`: of every file it was read from."""

    path: str
    digest: str
    yaml: ScenarioYaml
    workload: Workload
    load: Strict
    triggers: tuple[Trigger, ...]


def bundled() -> dict[str, Path]:
    """The scenarios that come with the project, by name."""
    folder = resources.files("sim") / FOLDER
    with resources.as_file(folder) as path:
        return {p.stem: p for p in sorted(path.glob("*.yaml"))}


def load(path: Path, changes: Changes = ()) -> Scenario:
    """With some fields changed (`sim/changes.py`). Raises `ConfigError` with all that is wrong."""
    document, parts = document_of(path, changes)
    workload, config = _load(document)
    yaml = check(ScenarioYaml, document)
    faults: list[Fault] = []
    triggers = tuple(_triggers(document, yaml.scaled_object, faults) if yaml.scaled_object is not None else ())
    _metrics(document, yaml, faults)
    _neighbours(document, yaml, faults)
    _demand(document, yaml, faults)
    if yaml.scaler.tick * 2 > min((t.max_age_s for t in triggers), default=float("inf")):
        faults.append(document.fault(("scaler", "tick"), "a trigger's maxAge must be at least twice the tick"))
    if faults:
        raise ConfigError(faults)
    texts = [*(p.read_bytes() for p in parts), *(f"{field}={text}".encode() for field, text in changes)]
    digest = sha256(b"".join(texts)).hexdigest()
    return Scenario(path.name, digest, yaml, workload, config, triggers)


def document_of(path: Path, changes: Changes) -> tuple[Document, list[Path]]:
    """With its manifests in place and changed, and the files that it was read from. Raises `ConfigError`."""
    document = read(path)[0]
    if not isinstance(document.value, dict):
        raise ConfigError([document.fault((), "want a mapping: name, about, duration, …")])
    parts = [path, *(p for key, kind in _MANIFESTS.items() if (p := _inline(document, key, kind, path.parent)))]
    return changed(document, changes), parts


_MANIFESTS: Final = {
    "scaledObject": "ScaledObject",
    "horizontalPodAutoscaler": "HorizontalPodAutoscaler",
    "pod": "Deployment",
}
_WHOLE: Final = {"scaledObject": ScaledObject, "horizontalPodAutoscaler": HorizontalPodAutoscaler}


def _inline(document: Document, key: str, kind: str, folder: Path) -> Path | None:
    """Where a path stands in place of a manifest, the manifest of that kind in that file takes its place."""
    text = document.value.get(key)
    if not isinstance(text, str):
        return None
    path = folder / text
    for other in read(path):
        if isinstance(other.value, dict) and other.value.get("kind") == kind:
            if key in _WHOLE:
                check(_WHOLE[key], other)  # its faults are told with the lines of its own file
            document.value[key] = other.value if key in _WHOLE else other.value["spec"]["template"]
            return path
    raise ConfigError([document.fault((key,), f"there is no {kind} in {text}")])


def manifest(path: Path) -> tuple[ScaledObject, tuple[Trigger, ...]]:
    """The ScaledObject of a file, by itself or as a scenario has it. Raises `ConfigError`."""
    documents = read(path)
    found = next((d for d in documents if isinstance(d.value, dict) and d.value.get("kind") == "ScaledObject"), None)
    if found is None:
        if "scaledObject" not in (documents[0].value if isinstance(documents[0].value, dict) else ()):
            raise ConfigError([documents[0].fault((), "there is no ScaledObject in it")])
        scenario = load(path)
        return scenario.yaml.keda, scenario.triggers
    scaled_object, faults = check(ScaledObject, found), list[Fault]()
    triggers = tuple(_triggers(found, scaled_object, faults, ("spec", "triggers")))
    if faults:
        raise ConfigError(faults)
    return scaled_object, triggers


def _load(document: Document) -> tuple[Workload, Strict]:
    given = document.value.get("workload")
    kind = given.get("kind") if isinstance(given, dict) else None
    if not isinstance(kind, str) or kind not in WORKLOADS:
        where = ("workload", "kind") if isinstance(given, dict) else ("workload",)
        raise ConfigError([document.fault(where, f"want one of {', '.join(WORKLOADS)} (got {kind!r})")])
    workload = WORKLOADS[kind]
    try:
        return workload, check(workload.config, document.at("workload"))
    except ConfigError as e:
        raise ConfigError([Fault(f.file, f.line, f"workload.{f.field}".rstrip("."), f.rule) for f in e.faults]) from e


def _triggers(
    document: Document,
    scaled_object: ScaledObject,
    faults: list[Fault],
    where: tuple[str, ...] = ("scaledObject", "spec", "triggers"),
) -> list[Trigger]:
    triggers = list[Trigger]()
    for i, trigger in enumerate(scaled_object.spec.triggers):
        try:
            triggers.append(Trigger.parse(trigger.metadata))
        except TriggerError as e:
            faults += [document.fault((*where, i, "metadata"), fault) for fault in e.faults]
    return triggers


def _metrics(document: Document, yaml: ScenarioYaml, faults: list[Fault]) -> None:
    """Whether every metric of a plain HPA is something that can be read."""
    manifest = yaml.horizontal_pod_autoscaler
    for i, metric in enumerate(manifest.spec.metrics if manifest is not None else ()):
        target = metric.target
        reading = yaml.hpa.metrics.get(target.name, target.name)
        there = EACH if target.source == "pods" else READS
        if reading not in there:
            where = ("horizontalPodAutoscaler", "spec", "metrics", i)
            known = ", ".join(sorted(there))
            rule = f"{target}: say in hpa.metrics what it stands for: one of {known} (got {reading!r})"
            faults.append(document.fault(where, rule))


def _demand(document: Document, yaml: ScenarioYaml, faults: list[Fault]) -> None:
    """The extender's parser on the pod, and whether what it asks is what the engine needs."""
    try:
        demand = demand_of(yaml.pod, "probe", "probe")
    except DemandError as e:
        faults.append(document.fault(("pod",), str(e)))
        return
    if demand is None:
        faults.append(document.fault(("pod",), "asks for no GPU: want the resource slicewise.dev/gpu-slice"))
    elif demand.count != yaml.engine.entry.tensor_parallel:
        faults.append(
            document.fault(
                ("pod",),
                f"asks for {demand.count} GPUs or slices, but {yaml.engine.entry.name} "
                f"runs on {yaml.engine.entry.tensor_parallel}",
            )
        )


def _neighbours(document: Document, yaml: ScenarioYaml, faults: list[Fault]) -> None:
    """Whether each asks for something of ours, and whether every PriorityClass is known."""
    templates: list[tuple[Where, PodTemplate]] = [(("pod",), yaml.pod)]
    templates += [(("cluster", "neighbours", i, "pod"), n.pod) for i, n in enumerate(yaml.cluster.neighbours)]
    for where, template in templates:
        name, known = template.spec.get("priorityClassName"), {**PRIORITIES, **yaml.cluster.priority_classes}
        if name is not None and name not in known:
            rule = f"no such PriorityClass; there are {', '.join(known)}; others belong into cluster.priorityClasses"
            faults.append(document.fault((*where, "spec", "priorityClassName"), rule))
        try:
            if where != ("pod",) and demand_of(template, "probe", "probe") is None:
                faults.append(document.fault(where, "asks for no GPU: it would be nobody's neighbour"))
        except DemandError as e:
            faults.append(document.fault(where, str(e)))
