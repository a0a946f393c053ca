"""Records a run so that `slicewise sim replay` can put it through the simulator: see sim/recording.py for the lines.

What KEDA and kube-scheduler sent comes from the proxies of record.py, objects from watches, the HPA's instants from
kube-apiserver's audit log. Nothing is decided here but whose question each was: KEDA asks the scaler for its own poll
and on the HPA's behalf with the same words; those that fall into a question of the HPA's are the HPA's.
"""

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from extender import wire
from scaler.pb import externalscaler_pb2 as pb
from sim import recorded
from sim.recording import POLL, SCALE, SYNC, Object, trigger_of
from tests.e2e.parts.apiserver import HPA_ACCOUNT
from tests.e2e.parts.client import Api, Json
from tests.e2e.parts.waiting import repeatedly
from tests.e2e.placements import INVENTORY
from tests.e2e.record import Exchange, now_s

WATCH_S: Final = 5  # how long one watch lasts, and so how long the end of a recording may take
EXTERNAL: Final = "/apis/external.metrics.k8s.io/"
OWNER_LABEL: Final = "scaledobject.keda.sh/name"  # by which KEDA's HPAs select their metrics
AFTERWARDS_S: Final = 1.0  # what was asked last still has its effect
SLACK_S: Final = 0.01  # clocks of one machine, stamps of microseconds


@dataclass(frozen=True, slots=True)
class Answered:
    """GetMetrics with the IsActive after it. `answer`: as a line of the recording has it."""

    at_s: float
    of: Object
    trigger: str
    answer: Json


@dataclass(frozen=True, slots=True)
class Question:
    """What the HPA asked: its target's scale (`end_s` does not matter), or a metric."""

    at_s: float
    end_s: float
    of: Object
    metric: bool


@dataclass(frozen=True, slots=True)
class Written:
    """The scale had another number of replicas from `at_s` on. `by`: the event of whose turn it was."""

    at_s: float
    of: Object
    by: str


@dataclass(slots=True)
class Tape:
    """`namespace`: whose ScaledObjects are recorded; each is taken to be named as its Deployment.

    `ends_s`: what is asked from then on belongs to the recording no more.
    """

    api: Api
    namespace: str
    lines: list[Json] = field(default_factory=list)
    answered: list[Answered] = field(default_factory=list)
    ends_s: float = inf
    _asked: dict[tuple[Object, str], list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    _replicas: dict[str, int] = field(default_factory=dict)
    _nodes: dict[str, tuple[str | None, tuple[tuple[str, int], ...]]] = field(default_factory=dict)
    _pods: dict[str, float] = field(default_factory=dict)  # when each was seen first
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Follows nodes, pods and Deployments for as long as the block runs."""
        deployments = f"/apis/apps/v1/namespaces/{self.namespace}/deployments"
        follows = (
            _Follow(self.api, "/api/v1/nodes", self._node),
            _Follow(self.api, "/api/v1/pods", self._pod),
            _Follow(self.api, deployments, self._deployment),
        )
        with ExitStack() as stack:
            for follow in follows:
                follow.begin()
                stack.enter_context(repeatedly(follow.look, every_s=0.05))
            try:
                yield
            finally:
                self.ends_s = now_s()

    def write(self, path: Path, *, scaler_log: Path, audit: Path) -> None:
        with self._lock:
            turns = turns_of(self.answered, *questions_of(audit.read_text(), self.namespace))
            turns = [turn for turn in turns if turn["at_s"] <= self.ends_s]
            lines = [line for line in self.lines if line["at_s"] <= self.ends_s + AFTERWARDS_S]
        told = sorted([*lines, *turns], key=lambda line: line["at_s"])
        path.write_text(scaler_log.read_text() + "".join(json.dumps(line) + "\n" for line in told))

    # -- what the proxies hear -----------------------------------------------------------------------------------------

    def scheduler_asked(self, exchange: Exchange) -> None:
        if exchange.kind == "filter":
            args = wire.decode_args(exchange.request)
            pod = dict(args.pod)
            uid = pod["metadata"]["uid"]  # type: ignore[index]  # JSON
            self._happened(
                recorded.PodSeen(exchange.at_s, pod), unless=uid
            )  # the watch may be later than kube-scheduler
            self._happened(recorded.FilterAsked(exchange.at_s, uid, args.names))
        elif exchange.kind == "bind":
            bind = wire.decode_binding(exchange.request)
            self._happened(recorded.BindAsked(exchange.at_s, bind.pod_uid, bind.node))

    def keda_asked(self, exchange: Exchange) -> None:
        if exchange.kind == "GetMetrics":
            ref = pb.GetMetricsRequest.FromString(exchange.request).scaledObjectRef
        elif exchange.kind == "IsActive":
            ref = pb.ScaledObjectRef.FromString(exchange.request)
        else:
            return
        of, trigger = (ref.namespace, ref.name), trigger_of(dict(ref.scalerMetadata))
        with self._lock:
            if exchange.error:
                self.answered.append(Answered(exchange.at_s, of, trigger, {"error": exchange.error}))
            elif exchange.kind == "GetMetrics":
                (value,) = pb.GetMetricsResponse.FromString(exchange.response).metricValues
                replicas = value.metricValueFloat or float(value.metricValue)
                self._asked[of, trigger].append((exchange.at_s, replicas))
            elif self._asked[of, trigger]:
                at_s, replicas = self._asked[of, trigger].pop(0)
                active = pb.IsActiveResponse.FromString(exchange.response).result
                self.answered.append(Answered(at_s, of, trigger, {"replicas": replicas, "active": active}))

    # -- what the watches see ------------------------------------------------------------------------------------------

    def _node(self, kind: str, node: Json) -> None:
        name = node["metadata"]["name"]
        inventory = None if kind == "DELETED" else node["metadata"].get("annotations", {}).get(INVENTORY)
        listed = (node.get("status") or {}).get("images") or ()
        images = tuple((n, image.get("sizeBytes", 0)) for image in listed for n in image.get("names") or ())
        if self._nodes.get(name) != (inventory, images):
            self._nodes[name] = inventory, images
            self._happened(recorded.NodeSeen(now_s(), name, inventory, images))

    def _pod(self, kind: str, pod: Json) -> None:
        if kind == "DELETED":
            self._happened(recorded.PodGone(now_s(), pod["metadata"]["uid"]))
            return
        pod["metadata"].pop("managedFields", None)
        self._happened(recorded.PodSeen(now_s(), pod))

    def _deployment(self, kind: str, deployment: Json) -> None:
        name, replicas = deployment["metadata"]["name"], deployment["spec"]["replicas"]
        if kind == "DELETED" or self._replicas.get(name) == replicas:
            return
        self._replicas[name] = replicas
        whose = {"namespace": self.namespace, "scaled_object": name}
        with self._lock:
            self.lines.append({"event": SCALE, **whose, "at_s": now_s(), "replicas": replicas})

    def _happened(self, happened: recorded.Happened, *, unless: str | None = None) -> None:
        """`unless`: a pod that had been seen by then. The proxies tell of a question after its answer."""
        with self._lock:
            if unless is not None and self._pods.get(unless, inf) <= happened.at_s:
                return
            if isinstance(happened, recorded.PodSeen):
                uid = happened.pod["metadata"]["uid"]
                self._pods[uid] = min(happened.at_s, self._pods.get(uid, inf))
            self.lines.append(recorded.line(happened))


@dataclass(slots=True)
class _Follow:
    """A list, and every change of it."""

    api: Api
    path: str
    see: Callable[[str, Json], None]
    since: str = ""

    def begin(self) -> None:
        listed = self.api.get(self.path)
        self.since = listed["metadata"]["resourceVersion"]
        for item in listed["items"]:
            self.see("ADDED", item)

    def look(self) -> None:
        for change in self.api.watch(self.path, self.since, lasts_s=WATCH_S):
            self.since = change["object"]["metadata"]["resourceVersion"]
            self.see(change["type"], change["object"])


def questions_of(audit: str, namespace: str) -> tuple[list[Question], list[Written]]:
    """The HPA's questions and everybody's writes, in the order of their instants; of other namespaces none."""
    found, written = list[Question](), list[Written]()
    for line in audit.splitlines():
        event = json.loads(line)
        url = urlsplit(event["requestURI"])
        at_s, end_s = (_seconds(event[f"{stamp}Timestamp"]) for stamp in ("requestReceived", "stage"))
        parts = url.path.strip("/").split("/")
        if namespace not in parts:
            continue
        if url.path.startswith(EXTERNAL):
            selected = parse_qs(url.query).get("labelSelector", [""])[0]
            name = dict(pair.split("=", 1) for pair in selected.split(",") if "=" in pair).get(OWNER_LABEL, "")
            found.append(Question(at_s, end_s, (namespace, name), metric=True))
        elif parts[-1] == "scale" and event["verb"] != "get":
            by = SYNC if event["user"]["username"] == HPA_ACCOUNT else POLL
            written.append(Written(end_s, (namespace, parts[-2]), by))
        elif parts[-1] == "scale":
            found.append(Question(at_s, end_s, (namespace, parts[-2]), metric=False))
    return sorted(found, key=lambda question: question.at_s), sorted(written, key=lambda one: one.at_s)


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def turns_of(answered: Sequence[Answered], questions: Sequence[Question], written: Sequence[Written]) -> list[Json]:
    """Each sync of the HPA, with what it was answered, and each poll of KEDA, with all that remains."""
    left = sorted(answered, key=lambda one: one.at_s)
    turns = [
        _turn(SYNC, question.at_s, question.of, _answers_of(question, questions[i + 1 :], left))
        for i, question in enumerate(questions)
        if not question.metric
    ]
    polls: dict[tuple[float, Object], dict[str, Json]] = {}
    for one in left:
        polls.setdefault((one.at_s, one.of), {})[one.trigger] = one.answer
    turns += [_turn(POLL, at_s, of, answers) for (at_s, of), answers in polls.items()]
    turns.sort(key=lambda line: line["at_s"])
    for write in written:
        before = [t for t in turns if (_of(t), t["event"]) == (write.of, write.by) and t["at_s"] <= write.at_s]
        if before:
            before[-1]["wrote_s"] = write.at_s
    return turns


def _answers_of(sync: Question, later: Sequence[Question], left: list[Answered]) -> dict[str, Json]:
    """Takes them from those that are left: one a trigger, while the HPA asks for a metric before its next sync."""
    found: dict[str, Json] = {}
    for question in later:
        if question.of == sync.of and not question.metric:
            break
        for one in [a for a in left if a.of == question.of == sync.of and _within(a.at_s, question)]:
            if one.trigger not in found:
                found[one.trigger] = one.answer
                left.remove(one)
    return found


def _of(turn: Json) -> Object:
    return turn["namespace"], turn["scaled_object"]


def _within(at_s: float, question: Question) -> bool:
    return question.at_s - SLACK_S <= at_s <= question.end_s + SLACK_S


def _turn(event: str, at_s: float, of: Object, answers: Mapping[str, Json]) -> Json:
    namespace, name = of
    return {"event": event, "namespace": namespace, "scaled_object": name, "at_s": at_s, "answers": dict(answers)}
