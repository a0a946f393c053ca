"""`slicewise scaler check`: what it reads, what it asks, and what it says of the answers."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from rich.console import Console
from typer.testing import CliRunner

from scaler.__main__ import app
from scaler.access import Access
from scaler.check import Candidate, CheckError, Verdict, as_json, candidates, show, verdict
from scaler.engine import Engine, Limits
from scaler.obs import Observer
from scaler.signals.reading import Missing, Reading, Sample
from tests.fakes.clock import ManualClock
from tests.fakes.source import RememberingSource, ScriptedSource

NOW_S = 1005.0
KEYS = {"queuePerReplica": "4", "workload": "chat", "stabilizationDown": "0s"}
WELL: dict[str, Reading | float] = {
    "queue": Sample(6.0, 985.0, pods=3),
    "running": Sample(6.0, 985.0, pods=3),
    "replicas": 3.0,
    "ready": 3.0,
}
OBJECT = """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: chat-so, namespace: agents}
spec:
  scaleTargetRef: {name: chat}
  triggers:
  - {type: cron, metadata: {timezone: UTC}}
  - type: external
    metadata: {scalerAddress: "s:9090", queuePerReplica: "4"}
  - type: external-push
    metadata: {scalerAddress: "s:9090", sessionsPerReplica: "16"}
"""


LIMITS = Limits(
    tick_s=15.0,
    delay_s=1.0,
    first_answer_s=5.0,
    forget_after_s=100.0,
    max_objects=10,
    backends={"default": Access(roles=frozenset({"metrics"}))},
    presets=frozenset({"vllm"}),
    dependencies=frozenset({"vectors"}),
    reads_cluster=True,
)


def engine(readings: dict[str, Reading | float]) -> Engine:
    return Engine(None, [ScriptedSource(readings)], LIMITS, Observer(CollectorRegistry()), clock=ManualClock(NOW_S))


async def checked(readings: dict[str, Reading | float], keys: dict[str, str] | None = None) -> Verdict:
    candidate = Candidate(namespace="agents", name="chat-so", index=0, metadata=KEYS if keys is None else keys)
    return await verdict(engine(readings), candidate)


def told(text: str) -> list[tuple[str, str, int, dict[str, str]]]:
    found = candidates(text, where="x.yaml", namespace="default", name="check")
    return [(c.namespace, c.name, c.index, dict(c.metadata)) for c in found]


def test_the_external_triggers_of_an_object_are_checked() -> None:
    first, second = told(OBJECT)
    assert first == ("agents", "chat-so", 1, {"scalerAddress": "s:9090", "queuePerReplica": "4"})
    assert second[2] == 2


@pytest.mark.parametrize(
    ("text", "metadata"),
    [
        pytest.param(
            "queuePerReplica: '4'\nworkload: chat\n", {"queuePerReplica": "4", "workload": "chat"}, id="a file"
        ),
        pytest.param("queuePerReplica=4,workload=chat", {"queuePerReplica": "4", "workload": "chat"}, id="pairs"),
    ],
)
def test_metadata_alone(text: str, metadata: dict[str, str]) -> None:
    assert told(text) == [("default", "check", 0, metadata)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("kind: Deployment\n", "x.yaml: nothing to check; want a ScaledObject", id="another kind"),
        pytest.param("", "nothing to check", id="nothing"),
        pytest.param("a: [", "x.yaml: not YAML", id="no YAML"),
        pytest.param("queuePerReplica: 4\n", "x.yaml: queuePerReplica: want strings", id="a number without quotes"),
        pytest.param("a=1,b", "want key=value,key=value (got 'a=1,b')", id="half a pair"),
        pytest.param(OBJECT.replace('"16"', "16"), "spec.triggers[2].metadata: sessionsPerReplica", id="in an object"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, why: str) -> None:
    with pytest.raises(CheckError) as caught:
        told(text)
    assert why in str(caught.value)


async def test_a_trigger_that_is_well() -> None:
    one = await checked(WELL)
    assert one.is_well
    assert one.findings == []
    assert (one.replicas, one.steps[0]) == (3, "queue: 3 -> 3 (12 requests wait or run, 4 a replica)")
    queue = next(seen for seen in one.readings if seen.reading == "queue")
    assert (queue.value, queue.unit, queue.age_s, queue.coverage) == (6.0, "requests", 5.0, "3 of 3")


@pytest.mark.parametrize(
    ("readings", "severity", "where", "what", "mend"),
    [
        pytest.param(
            {"queue": Missing("no series")},
            "error",
            "queue",
            "not known: no series",
            "labels namespace and pod",
            id="none",
        ),
        pytest.param(
            {"queue": Missing("an odd thing")}, "error", "queue", "an odd thing", "run the query by hand", id="odd"
        ),
        pytest.param(
            {"running": Sample(6.0, 985.0, pods=2)}, "warning", "running", "2 of 3 ready pods", "scraped", id="a part"
        ),
        pytest.param(
            {"queue": Sample(6.0, 985.0, saturated=True)}, "warning", "queue", "this or more", "buckets", id="saturated"
        ),
    ],
)
async def test_what_is_wrong_with_a_reading(
    readings: dict[str, Reading | float], severity: str, where: str, what: str, mend: str
) -> None:
    one = await checked(WELL | readings)
    (finding,) = one.findings
    assert (finding.severity, finding.where) == (severity, where)
    assert what in finding.what
    assert mend in finding.mend
    assert one.is_well == (severity == "warning")


async def test_metadata_that_break_the_contract_are_told_at_once_and_nothing_is_asked() -> None:
    one = await checked(WELL, {"queuePerReplica": "x", "window": "1s", "b": "c"})
    assert [finding.where for finding in one.findings] == [
        "trigger metadata 'b'",
        "trigger metadata 'queuePerReplica'",
        "trigger metadata 'window'",
    ]
    assert one.readings == ()


async def test_a_step_that_the_hpa_swallows_is_told() -> None:
    one = await checked(WELL | {"replicas": 40.0, "ready": 3.0, "queue": 160.0})
    assert [f.where for f in one.findings] == ["the decision"]
    assert "within the HPA's tolerance" in one.findings[0].what


async def test_the_object_itself_is_examined() -> None:
    (first, *_) = candidates(OBJECT, where="x", namespace="", name="")
    one = await verdict(engine(WELL), first)
    assert any(finding.where.endswith("scaleUp.tolerance") for finding in one.findings)


async def test_the_hpa_that_keda_made_is_examined_too() -> None:
    (first, *_) = candidates(OBJECT, where="x", namespace="", name="")
    one = await verdict(engine(WELL), first, {"metadata": {"name": "keda-hpa-chat-so"}, "spec": {}})
    assert "HPA keda-hpa-chat-so: spec.metrics" in [finding.where for finding in one.findings]


async def test_json_and_text_say_the_same() -> None:
    one = await checked(WELL | {"queue": Missing("no series")})
    (row,) = json.loads(as_json([one]))
    assert (row["name"], row["replicas"], row["findings"][0]["where"]) == ("chat-so", 3, "queue")
    assert next(r for r in row["readings"] if r["reading"] == "queue")["missing"] == "no series"
    console = Console(record=True, width=200, file=io.StringIO())
    show(one, console)
    show(await checked(WELL), console)
    text = console.export_text()
    assert "agents/chat-so, trigger 0" in text
    assert "✗ queue: not known: no series" in text
    assert "KEDA would be told: 3" in text
    assert "✓ nothing is wrong" in text


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        pytest.param(["nowhere.yaml"], "nowhere.yaml: no such file, and not key=value,key=value either", id="no file"),
        pytest.param(["a=1,b", "--prometheus", "http://127.0.0.1:1"], "want key=value,key=value", id="half a pair"),
        pytest.param(["queuePerReplica=4"], "backends is empty", id="nobody to ask"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(arguments: list[str], why: str) -> None:
    result = CliRunner().invoke(app, ["check", *arguments])
    assert result.exit_code == 2
    assert why in result.stderr


@pytest.mark.parametrize("how", ["a file", "standard input", "pairs"])
def test_the_command_asks_for_real_and_says_what_it_misses(how: str, tmp_path: Path) -> None:
    path = tmp_path / "trigger.yaml"
    path.write_text("queuePerReplica: '4'\nworkload: chat\n")
    source = {"a file": str(path), "standard input": "-", "pairs": "queuePerReplica=4,workload=chat"}[how]
    arguments = ["check", source, "--no-kubernetes", "--prometheus", "http://127.0.0.1:1"]
    as_json, as_text = (ran([*arguments, *more], path.read_text()) for more in (["--json"], []))
    assert (as_json.returncode, as_text.returncode) == (1, 1)
    (row,) = json.loads(as_json.stdout)
    assert {finding["where"] for finding in row["findings"]} >= {"queue", "running", "replicas", "ready"}
    assert "not reachable" in row["findings"][0]["what"]
    assert "KEDA would be told: not known" in as_text.stdout


def ran(arguments: list[str], typed: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, whose logging is its own too."""
    command = [sys.executable, "-m", "scaler", *arguments]
    return subprocess.run(command, input=typed, capture_output=True, text=True, timeout=60, check=False)


AHEAD = {
    "policy": "ahead",
    "workload": "chat",
    "coldStart": "3m",
    "promptTokensPerSecondPerReplica": "15000",
    "generationTokensPerSecondPerReplica": "5000",
    "slotsPerReplica": "128",
}
RATES: dict[str, Reading | float] = {
    "prompt_tokens_per_s": 30_000.0,
    "generation_tokens_per_s": 5_000.0,
    "arrivals_per_s": 20.0,
    "ended_per_s": 20.0,
    "service_s": 4.0,
    "queue": 0.0,
    "running": 80.0,
    "replicas": 6.0,
    "ready": 6.0,
}


@pytest.mark.parametrize(
    ("hours", "warned"),
    [
        pytest.param(0, True, id="nothing is remembered: the headroom is a guess, and that is said"),
        pytest.param(24, False, id="a day is remembered: it is decided as a scaler would that has run for a day"),
    ],
)
async def test_a_policy_that_learns_is_checked_with_what_the_backend_remembers(hours: int, warned: bool) -> None:
    ticks = [990.0 - 15.0 * n for n in range(hours * 240)]
    source = RememberingSource(RATES, dict.fromkeys(ticks, RATES))
    asked = Engine(None, [source], LIMITS, Observer(CollectorRegistry()), clock=ManualClock(NOW_S))
    one = await verdict(asked, Candidate(namespace="agents", name="chat-so", index=0, metadata=AHEAD))
    await asked.close()
    assert [f.where for f in one.findings] == (["what is learnt"] if warned else [])
    assert one.replicas == (6 if warned else 4), one.steps
    assert one.is_well
