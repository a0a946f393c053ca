"""`slicewise scaler check`: what a trigger would see and decide now, what is wrong with it, and how to mend that."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scaler.doctor import Finding, examine, examine_hpa
from scaler.engine import Engine, Published
from scaler.forecast.headroom import HISTORY_H, LEARNING_H, PRIOR
from scaler.policy.base import Step
from scaler.signals.reading import Missing, Reading, ReadingName, unit_of
from scaler.trigger import Trigger, TriggerError

EXTERNAL: Final = frozenset({"external", "external-push"})
MENDS: Final = (
    ("the workload's name is not known", "name it: workload in the trigger, or scaleTargetRef in the ScaledObject"),
    ("there is no ScaledObject", "apply the ScaledObject first, or name the workload in the trigger"),
    ("is not listed yet", "let the scaler's ServiceAccount list and watch it, or run with --no-kubernetes"),
    ("not reachable", "is the address in the settings right, and does a NetworkPolicy let the scaler through?"),
    ("HTTP status 401", "give the backend a token_file that the far side accepts"),
    ("HTTP status 403", "the far side knows us and refuses: its rights must allow reading"),
    ("no answer within", "raise query_timeout_s, or ask why the far side is slow"),
    ("no series", "does the far side scrape these pods, with the labels namespace and pod? Run the query by hand"),
    ("older than maxAge", "is the scrape interval above maxAge / 2? Lengthen maxAge, or scrape more often"),
    ("ahead of our clock", "the clocks of the far side and of the scaler differ: run NTP on both"),
)
"""What stands in a reason -> what usually mends it; the first that fits."""
KUBE_STATE: Final = "let the scaler read the Kubernetes API, or scrape kube-state-metrics with honor_labels"
ABSENT: Final = {
    ReadingName.REPLICAS: KUBE_STATE,
    ReadingName.READY: KUBE_STATE,
    ReadingName.SESSIONS: "engines do not count sessions: export agent_sessions_active from the pods or a gateway, or "
    "name a sessionsBackend",
}
"""What mends a reading of which there is nothing at all."""
OTHERWISE: Final = "run the query by hand, and see what the far side says"


class CheckError(ValueError):
    """What is to be checked cannot be read; says where and how to mend it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One trigger that is to be checked. `scaled_object`: the whole object, where the input is one."""

    namespace: str
    name: str
    index: int
    metadata: Mapping[str, str]
    scaled_object: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One reading. `coverage`: pods seen of pods ready, for values that are made of pods."""

    reading: str
    unit: str
    value: float | None
    missing: str | None
    age_s: float | None
    coverage: str | None
    count: float | None
    saturated: bool
    asked: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`replicas`: what KEDA would be told now, None where that is not known."""

    candidate: Candidate
    readings: Sequence[Seen] = ()
    replicas: int | None = None
    steps: Sequence[str] = ()
    findings: Sequence[Finding] = field(default_factory=tuple)

    @property
    def is_well(self) -> bool:
        return not any(finding.severity == "error" for finding in self.findings)


def candidates(text: str, *, where: str, namespace: str, name: str) -> Sequence[Candidate]:
    """The external triggers of a ScaledObject in YAML, or one trigger's metadata as a YAML mapping or `key=value,…`.

    `namespace`, `name`: where the text does not tell them. Raises CheckError.
    """
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as e:
        raise CheckError(f"{where}: not YAML: {e}") from e
    found: list[Candidate] = []
    for document in documents:
        if isinstance(document, Mapping) and document.get("kind") == "ScaledObject":
            found += _of_object(document, where, namespace)
        elif isinstance(document, str) or (isinstance(document, Mapping) and "kind" not in document):
            pairs = _pairs(document, where) if isinstance(document, str) else document
            found.append(Candidate(namespace=namespace, name=name, index=0, metadata=_strings(pairs, where)))
    if not found:
        raise CheckError(
            f"{where}: nothing to check; want a ScaledObject with a trigger of type external or external-push, or "
            "such a trigger's metadata"
        )
    return found


def _of_object(document: Mapping[str, Any], where: str, namespace: str) -> Iterator[Candidate]:
    metadata, spec = document.get("metadata") or {}, document.get("spec") or {}
    for index, trigger in enumerate(spec.get("triggers") or []):
        if isinstance(trigger, Mapping) and trigger.get("type") in EXTERNAL:
            yield Candidate(
                namespace=str(metadata.get("namespace") or namespace),
                name=str(metadata.get("name") or "unnamed"),
                index=index,
                metadata=_strings(trigger.get("metadata") or {}, f"{where}: spec.triggers[{index}].metadata"),
                scaled_object=document,
            )


def _pairs(text: str, where: str) -> Mapping[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(equals for _, equals, _ in pairs):
        raise CheckError(f"{where}: want key=value,key=value (got {text[:80]!r})")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _strings(mapping: Mapping[Any, Any], where: str) -> Mapping[str, str]:
    """Kubernetes takes strings only here: an unquoted number is refused by the API server."""
    wrong = [str(key) for key, value in mapping.items() if not isinstance(value, str)]
    if wrong:
        raise CheckError(f"{where}: {', '.join(sorted(wrong))}: want strings; put the values in quotes")
    return {str(key): str(value) for key, value in mapping.items()}


async def verdict(engine: Engine, candidate: Candidate, hpa: Mapping[str, Any] | None = None) -> Verdict:
    """Asks everything that the trigger wants, as a new scaler would, and judges what comes back.

    `hpa`: what KEDA has made of the candidate's object, where that is known.
    """
    try:
        trigger = engine.admit(candidate.namespace, candidate.metadata)
    except TriggerError as e:
        return Verdict(candidate=candidate, findings=[_fault(fault) for fault in e.faults])
    published = await engine.caught_up(candidate.namespace, candidate.name, candidate.metadata)
    findings = [*_told(published), *_of_readings(published), *(_of_learning(published) if trigger.learns else ())]
    if candidate.scaled_object is not None:
        findings += examine(candidate.scaled_object, trigger, candidate.index)
        findings += examine_hpa(hpa, candidate.scaled_object, candidate.index) if hpa is not None else ()
    return Verdict(
        candidate=candidate,
        readings=[_seen(name, published) for name in _order(trigger)],
        replicas=published.decision.replicas,
        steps=[str(step) for step in published.decision.steps],
        findings=findings,
    )


def _fault(text: str) -> Finding:
    where, _, what = text.partition(": ")
    return Finding(severity="error", where=where, what=what or text, mend="see docs/triggers.md")


def _order(trigger: Trigger) -> Sequence[str]:
    known = [name for name in ReadingName if name in trigger.wanted()]
    return [*known, *sorted(trigger.wanted() - set(known))]


def _told(published: Published) -> Iterator[Finding]:
    """Steps that say that the answer is not what the demand asks for."""
    for step in published.decision.steps:
        if step.rule == "hpa-tolerance":
            yield Finding(severity="warning", where="the decision", what=step.why, mend="see hpaTolerance")
    if published.decision.replicas is None and not published.readings:
        why = _reason(published.decision.steps)
        yield Finding(
            severity="error", where="the decision", what=why, mend="raise first_answer_s, or mend the backend"
        )


def _of_learning(published: Published) -> Iterator[Finding]:
    """Little history makes a generous headroom, not a wrong one."""
    hours = len(published.learnt.hours)
    if hours <= LEARNING_H:
        yield Finding(
            severity="warning",
            where="what is learnt",
            what=f"{hours} hours with readings are known of the last {HISTORY_H}: until there are more than "
            f"{LEARNING_H}, the headroom is at least {PRIOR:g}",
            mend="nothing, where the workload is new; else let the backend be a Prometheus that keeps two days",
        )


def _reason(steps: Sequence[Step]) -> str:
    return steps[-1].why if steps else "nothing was decided"


def _of_readings(published: Published) -> Iterator[Finding]:
    for name, reading in published.readings.items():
        if isinstance(reading, Missing):
            yield Finding(severity="error", where=name, what=f"not known: {reading.why}", mend=_mend(name, reading.why))
        elif (coverage := _coverage(reading, published.readings)) is not None and coverage[0] < coverage[1]:
            yield Finding(
                severity="warning",
                where=name,
                what=f"seen from {coverage[0]:g} of {coverage[1]:g} ready pods: may raise and never lower",
                mend="are all pods scraped, and does each export the engine's metrics?",
            )
        elif reading.saturated:
            yield Finding(
                severity="warning",
                where=name,
                what=f"{reading.value:g} s is the histogram's highest bound: the truth is this or more",
                mend="give the engine buckets beyond the promised latency",
            )


def _mend(name: str, why: str) -> str:
    if "no series" in why and (known := {str(n): mend for n, mend in ABSENT.items()}.get(name)):
        return known
    return next((mend for sign, mend in MENDS if sign in why), OTHERWISE)


def _coverage(reading: Reading, readings: Mapping[str, Reading]) -> tuple[float, float] | None:
    ready = readings.get(ReadingName.READY)
    if isinstance(reading, Missing) or reading.pods is None or ready is None or isinstance(ready, Missing):
        return None
    return reading.pods, ready.value


def _seen(name: str, published: Published) -> Seen:
    reading = published.readings.get(name, Missing("no backend of this trigger has it"))
    known = None if isinstance(reading, Missing) else reading
    coverage = _coverage(reading, published.readings)
    return Seen(
        reading=name,
        unit=unit_of(name),
        value=None if known is None else known.value,
        missing=reading.why if isinstance(reading, Missing) else None,
        age_s=None if known is None else max(0.0, published.at_s - known.at_s),
        coverage=None if coverage is None else f"{coverage[0]:g} of {coverage[1]:g}",
        count=None if known is None else known.count,
        saturated=known is not None and known.saturated,
        asked=published.asked.get(name),
    )


def as_json(verdicts: Sequence[Verdict]) -> str:
    rows = []
    for one in verdicts:
        candidate = asdict(one.candidate)
        del candidate["scaled_object"]
        rows.append(
            {
                **candidate,
                "readings": [asdict(seen) for seen in one.readings],
                "replicas": one.replicas,
                "steps": list(one.steps),
                "findings": [asdict(finding) for finding in one.findings],
            }
        )
    return json.dumps(rows, indent=2)


def show(one: Verdict, console: Console) -> None:
    candidate = one.candidate
    console.print(Text(f"{candidate.namespace}/{candidate.name}, trigger {candidate.index}", style="bold"))
    if one.readings:
        console.print(_table(one.readings))
        for seen in one.readings:
            if seen.asked is not None:
                console.print(Text(f"  {seen.reading}: ", style="dim").append(seen.asked), soft_wrap=True)
        answer = "not known" if one.replicas is None else f"{one.replicas}"
        console.print(Text.assemble("KEDA would be told: ", (answer, "bold")))
        for step in one.steps:
            console.print(Text(f"  {step}"), soft_wrap=True)
    for finding in one.findings:
        sign, style = ("✗", "red") if finding.severity == "error" else ("!", "yellow")
        console.print(Text.assemble((f"{sign} {finding.where}", style), f": {finding.what}"), soft_wrap=True)
        console.print(Text(f"    {finding.mend}", style="dim"), soft_wrap=True)
    if not one.findings:
        console.print(Text("✓ nothing is wrong", style="green"))


def _table(readings: Sequence[Seen]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("reading", "value", "unit", "age", "pods", "why not"):
        table.add_column(column, justify="right" if column in {"value", "age"} else "left")
    for seen in readings:
        value = "?" if seen.value is None else f"{seen.value:.4g}{'+' if seen.saturated else ''}"
        age = "" if seen.age_s is None else f"{seen.age_s:.0f} s"
        table.add_row(seen.reading, value, seen.unit, age, seen.coverage or "", seen.missing or "")
    return table
