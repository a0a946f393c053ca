"""A recording through today's code."""

import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from scaler.evaluate import NO_PAST, evaluate
from scaler.obs import Observer, Whose
from scaler.signals.reading import Missing, Reading, Sample
from scaler.trigger import Trigger
from sim.recording import read, trigger_of
from sim.workloads.trace import TraceError
from tests.sim.commands.scenes import SHORT, printed, scene, sim

METADATA = {"workload": "engine", "policy": "queue", "queuePerReplica": "4", "stabilizationDown": "1m"}
TRIGGER = trigger_of(METADATA)
MANIFEST = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: chat, namespace: agents}
spec:
  scaleTargetRef: {name: engine}
  minReplicaCount: 1
  maxReplicaCount: 9
  advanced:
    horizontalPodAutoscalerConfig:
      behavior: {scaleUp: {tolerance: "0"}, scaleDown: {tolerance: "0", stabilizationWindowSeconds: 0}}
  triggers:
  - type: external
    metadata: METADATA
"""


def manifest(folder: Path, metadata: dict[str, str] | None = None) -> Path:
    text = MANIFEST.replace("METADATA", json.dumps(METADATA if metadata is None else metadata))
    return scene(folder, text, "scaledobject.yaml")


def live(folder: Path, *extra: dict[str, object]) -> Path:
    """The log of a scaler, by its own observer: a rush that comes, is lost sight of, and goes; the HPA follows."""
    trigger, past, replicas = Trigger.parse(METADATA), NO_PAST, 1
    whose = Whose(namespace="agents", scaled_object="chat", trigger=trigger_of(METADATA))
    observer = Observer(CollectorRegistry())
    with capture_logs() as events:
        for i in range(40):
            at_s = 1000.0 + 15 * i
            queue = 3.0 if i < 8 or i > 24 else 22.0
            readings: dict[str, Reading] = {
                "replicas": Sample(float(replicas), at_s),
                "ready": Sample(float(replicas), at_s),
                "running": Sample(1.0, at_s - 7.25, pods=replicas),
                "queue": Missing("no series") if i == 15 else Sample(queue, at_s - 7.25, pods=replicas),
            }
            decision, past = evaluate(trigger, readings, at_s, past)
            observer.decided(whose, decision, readings, at_s=at_s, took_s=0.01)
            replicas = replicas if decision.replicas is None else max(1, min(decision.replicas, replicas + 4))
    path = folder / "scaler.log"
    lines = [{"event": "scaler.listening"}, *events, *extra]
    path.write_text("not of ours\n" + "".join(json.dumps(line) + "\n" for line in lines))
    return path


CHAT = {"namespace": "agents", "scaled_object": "chat"}


def scaled(at_s: float, replicas: int, **other: str) -> dict[str, object]:
    return {"event": "recorded.scale", **CHAT, **other, "at_s": at_s, "replicas": replicas}


def turn(by: str, at_s: float, **answer: object) -> dict[str, object]:
    """Of one trigger, or of none."""
    answers = {TRIGGER: answer} if answer else {}
    return {"event": f"recorded.{by}", **CHAT, "at_s": at_s, "answers": answers}


def test_a_live_log_comes_out_the_same(tmp_path: Path) -> None:
    result = sim("replay", live(tmp_path), "--scaled-object", manifest(tmp_path))
    assert result.exit_code == 0, result.output
    assert "40 evaluations recorded" in result.stdout
    assert "answers every one of them the same" in result.stdout
    assert "the same replicas, at most " in result.stdout


def test_another_policy_of_today_is_told_with_both_stories(tmp_path: Path) -> None:
    today = manifest(tmp_path, METADATA | {"queuePerReplica": "6"})
    result = sim("replay", live(tmp_path), "--scaled-object", today, "--differences", "1")
    assert result.exit_code == 1
    for part in (
        "metadata are others today: values are compared, and not the steps",
        "(line 11, trigger 0): 6 then, 4 today",
        "  - queue: 1 -> 6 (23 requests wait or run, 4 a replica)",
        "  + queue: 1 -> 4 (23 requests wait or run, 6 a replica)",
        "more: --differences",
    ):
        assert part in result.stdout
    document = printed(sim("replay", live(tmp_path), "--scaled-object", today, "--json", "-"))
    assert (document["schema"], document["same"]) == ("slicewise.dev/sim-replay/1", False)


def test_a_recording_that_begins_in_the_middle_is_judged_with_care(tmp_path: Path) -> None:
    lines = live(tmp_path).read_text().splitlines(keepends=True)
    late = tmp_path / "late.log"
    late.write_text("".join(lines[28:]))  # the rush is over, and what was answered in it is not known
    result = sim("replay", late, "--scaled-object", manifest(tmp_path))
    assert "lie within the first window, before which the scaler may have known more" in result.stdout


def test_other_replicas_than_recorded_are_told(tmp_path: Path) -> None:
    extra = (scaled(1000.0, 1), scaled(1130, 9))
    result = sim("replay", live(tmp_path, *extra), "--scaled-object", manifest(tmp_path))
    assert result.exit_code == 1
    assert "by their periods, with the recorded decisions: other replicas than recorded" in result.stdout
    assert "  change 1: 9 at 130.0 s then, 5 at 121.0 s today, 9.0 s apart\n" in result.stdout


def answered(*turns: dict[str, object]) -> tuple[dict[str, object], ...]:
    """One poll and these syncs; the scale rose at the first sync that saw a rush, at 1127 s."""
    return (scaled(1000.0, 1), scaled(1127.2, 5), turn("poll", 1001.0, replicas=1.0, active=True), *turns)


def test_recorded_turns_are_taken_as_they_were(tmp_path: Path) -> None:
    """The HPA's own instants, later than its period says, and the answers that it had then."""
    quiet = [turn("sync", at_s, replicas=1.0, active=True) for at_s in (1001.0, 1062.0)]
    syncs = [turn("sync", 1127.0, replicas=6.0, active=True), turn("sync", 1142.3, replicas=5.0, active=True)]
    log = live(tmp_path, *answered(*quiet, *syncs), scaled(1003.0, 7, scaled_object="another"))
    found = printed(sim("replay", log, "--scaled-object", manifest(tmp_path), "--json", "-"))["controllers"]
    assert found["today"] == [[1000.0, 1], [1127.0, 5]]
    assert (found["same_values"], found["moved"]) == (True, [])
    assert found["late_s"] == pytest.approx(0.2)


def test_what_is_being_written_is_not_seen_yet(tmp_path: Path) -> None:
    """A sync between KEDA's question and its write reads the scale as it was: still zero, and nothing to do."""
    poll = turn("poll", 1127.0, replicas=6.0, active=True) | {"wrote_s": 1127.6}
    syncs = [turn("sync", at_s) for at_s in (1001.0, 1127.3)] + [turn("sync", 1142.5, replicas=5.0, active=True)]
    story = [scaled(1000.0, 0), scaled(1127.6, 1), scaled(1142.6, 5)]
    at_zero = manifest(tmp_path)
    at_zero.write_text(at_zero.read_text().replace("minReplicaCount: 1", "minReplicaCount: 0"))
    log = live(tmp_path, turn("poll", 1001.0, replicas=1.0, active=False), poll, *syncs, *story)
    found = printed(sim("replay", log, "--scaled-object", at_zero, "--json", "-"))["controllers"]
    assert found["today"] == [[1000.0, 0], [1127.6, 1], [1142.5, 5]]


def test_a_change_too_late_is_told_with_the_distance(tmp_path: Path) -> None:
    syncs = [turn("sync", at_s, replicas=n, active=True) for at_s, n in ((1001.0, 1.0), (1147.5, 6.0), (1149.0, 6.0))]
    result = sim("replay", live(tmp_path, *answered(*syncs)), "--scaled-object", manifest(tmp_path))
    assert result.exit_code == 1
    assert "the same replicas, at most 20.3 s apart in time; 15 s are allowed" in result.stdout
    assert "  change 1: 5 at 127.2 s then, 5 at 147.5 s today, 20.3 s apart\n" in result.stdout


def test_an_answer_that_the_scaler_had_not_decided_is_told(tmp_path: Path) -> None:
    syncs = [turn("sync", 1001.0, error="UNAVAILABLE: away"), turn("sync", 1127.0, replicas=6.0, active=True)]
    wrong = turn("sync", 1150.0, replicas=9.0, active=True)
    extra = [line for line in answered(*syncs, wrong) if line.get("replicas") != 5]
    log = live(tmp_path, *extra, scaled(1127.2, 5), scaled(1150.1, 9))
    result = sim("replay", log, "--scaled-object", manifest(tmp_path))
    assert result.exit_code == 1
    assert "the same replicas, but 1 answers that the scaler had not decided" in result.stdout
    assert "  at 150.0 s (trigger 0): the HPA was answered 9, the scaler had decided 6\n" in result.stdout


def test_pods_that_would_go_elsewhere_are_told(tmp_path: Path) -> None:
    path, log = scene(tmp_path), tmp_path / "run.jsonl"
    assert sim("run", path, "--record", log).exit_code == 0
    log.write_text(log.read_text().replace('\\"start\\":4', '\\"start\\":0'))
    result = sim("replay", log, "--scaled-object", path)
    assert result.exit_code == 1
    assert "kube-scheduler and the extender: other places, " in result.stdout
    assert "    - a100-80-0-000: GPU-a100-80-0-000-0 3g.40gb" in result.stdout


def test_what_the_simulator_records_replays_to_the_instant(tmp_path: Path) -> None:
    path, log = scene(tmp_path), tmp_path / "run.jsonl"
    assert sim("run", path, "--record", log).exit_code == 0
    document = printed(sim("replay", log, "--scaled-object", path, "--json", "-"))
    assert document["same"] is True
    assert document["evaluations"] == 24
    assert document["controllers"]["late_s"] == 0.0
    assert len(document["controllers"]["recorded"]) > 2
    assert (document["controllers"]["turns"], document["controllers"]["turns_recorded"]) == (48, True)
    places = document["placements"]["places"]
    assert document["placements"]["differences"] == []
    assert len(places) == len({place["pod"] for place in places}) > 3


def test_readings_keep_their_instants_and_their_pods(tmp_path: Path) -> None:
    found = read(live(tmp_path))
    assert found.evaluations[0].readings["queue"] == Sample(3.0, 992.75, pods=1)
    assert found.evaluations[15].readings["queue"] == Missing("no series")
    assert {e.process for e in found.evaluations} == {1}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        pytest.param({"event": "other"}, ": no line is an event scaler.decided", id="another log"),
        pytest.param({"event": "scaler.decided", "at_s": "x"}, ":1: at_s: want a number", id="no instant"),
        pytest.param({"event": "scaler.decided", "at_s": 1}, ":1: readings, steps: want an object", id="no readings"),
        pytest.param(
            {"event": "scaler.decided", "at_s": 1, "readings": {"queue": -1}, "steps": []},
            ":1: readings.queue: want a number, 0 or more",
            id="a negative queue",
        ),
        pytest.param(
            {"event": "scaler.decided", "at_s": 1, "readings": {}, "steps": [], "replicas": 1.5},
            ":1: replicas, pods: want a whole number",
            id="half a replica",
        ),
        pytest.param(
            {"event": "recorded.scale", "at_s": 1}, ":1: replicas, pods: want a whole", id="a scale of nothing"
        ),
        pytest.param(
            {"event": "recorded.scale", "at_s": 1, "replicas": 2}, ":1: namespace, scaled_object: want", id="whose?"
        ),
        pytest.param({"event": "recorded.poll", "at_s": 1}, ":1: answers: want an object", id="no answers"),
        pytest.param(turn("sync", 1.0) | {"answers": {"t": 3}}, ":1: answers.t: want an object", id="a bare number"),
        pytest.param(turn("sync", 1.0, active=True), f"answers.{TRIGGER}.replicas: want a number", id="no value"),
        pytest.param({"event": "recorded.gone", "at_s": 1}, ":1: uid: want a text", id="nobody is gone"),
    ],
)
def test_recordings_that_are_none(tmp_path: Path, line: dict[str, object], fault: str) -> None:
    path = tmp_path / "x.log"
    path.write_text(json.dumps(line) + "\n{half\n")
    with pytest.raises(TraceError) as caught:
        read(path)
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: 1", "there is no ScaledObject in it", id="no manifest"),
        pytest.param(MANIFEST.replace("METADATA", "{policy: x}"), "want one of queue, sessions", id="a bad trigger"),
        pytest.param(
            MANIFEST.replace("name: chat", "name: other").replace("METADATA", json.dumps(METADATA)),
            "nothing was recorded of agents/other; the recording has agents/chat",
            id="another object",
        ),
        pytest.param(
            MANIFEST.replace("METADATA", '{policy: queue, queuePerReplica: "9"}')
            + '  - {type: external, metadata: {policy: queue, queuePerReplica: "8"}}\n',
            "1 triggers of it with other metadata, the ScaledObject has 2",
            id="which trigger is which",
        ),
    ],
)
def test_manifests_that_do_not_fit(tmp_path: Path, text: str, message: str) -> None:
    result = sim("replay", live(tmp_path), "--scaled-object", scene(tmp_path, text, "x.yaml"))
    assert result.exit_code == 2, result.output
    assert message in result.stderr


def test_a_scenario_holds_a_manifest_too(tmp_path: Path) -> None:
    text = SHORT.replace("name: agents\n    namespace: agents\n", "name: chat\n    namespace: agents\n")
    result = sim("replay", live(tmp_path), "--scaled-object", scene(tmp_path, text), "--sync-period", "often")
    assert "--sync-period, --tick, --delay: want a number with its unit" in result.stderr


LIVE = Path(__file__).parents[2] / "contract" / "scaler-log.jsonl"
DEMO = Path(__file__).parents[3] / "slicewise" / "demo" / "scaledobject.yaml"


def test_what_a_scaler_really_logged_comes_out_the_same() -> None:
    """The first twelve minutes of `slicewise demo`: a process of its own, asked over gRPC, reading over HTTP.

    If a policy is changed on purpose, record it anew; the difference belongs into the changelog.
    """
    found = printed(sim("replay", LIVE, "--scaled-object", DEMO, "--json", "-"))
    assert found["evaluations"] == 48
    assert found["differences"] == []
    assert found["controllers"]["agree"] is True
    assert len(found["controllers"]["recorded"]) > 5


WHOLE_WAY = LIVE.parent / "whole-way.jsonl"
PLANNER = LIVE.parent / "whole-way.yaml"
PACE = ("--sync-period", "5s", "--tick", "2s")


def test_what_the_real_keda_and_hpa_did_comes_out_the_same() -> None:
    """A run of the end-to-end test, recorded once: KEDA 2.21.0 and kube-controller-manager 1.36.3, 0 to 5 to 0 to 5."""
    found = printed(sim("replay", WHOLE_WAY, "--scaled-object", PLANNER, *PACE, "--json", "-"))["controllers"]
    assert [replicas for _, replicas in found["today"]] == [0, 1, 5, 1, 0, 1, 5]
    assert (found["same_values"], found["moved"], found["unexplained"]) == (True, [], [])
    assert found["late_s"] < 0.25, "and not only within a sync period"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        pytest.param("cooldownPeriod: 10", "cooldownPeriod: 20", "change 4: 0 at", id="a longer cooldown"),
        pytest.param("value: 4", "value: 2", "change 2: 5 at", id="a narrower policy"),
        pytest.param("maxReplicaCount: 5", "maxReplicaCount: 4", "change 2: 5 at", id="a lower maximum"),
    ],
)
def test_other_rules_than_the_real_ones_are_seen(tmp_path: Path, old: str, new: str, told: str) -> None:
    text = PLANNER.read_text()
    assert old in text
    other = scene(tmp_path, text.replace(old, new), "other.yaml")
    result = sim("replay", WHOLE_WAY, "--scaled-object", other, *PACE)
    assert result.exit_code == 1
    assert told in result.stdout
