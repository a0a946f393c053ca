"""The joint run: scaler, KEDA, HPA, scheduler, nodes and engines answering one another on one clock."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sim.report import laws
from sim.report.model import Report
from sim.run import load, simulate
from sim.scenario import bundled

BASE = yaml.safe_load(bundled()["agents"].read_text())
POISSON = {
    "kind": "poisson",
    "promptTokens": {"p50": 500, "p90": 1500, "max": 8000},
    "outputTokens": {"p50": 150, "p90": 400, "max": 1000},
}
Change = Callable[[dict[str, Any]], None]


def run(tmp_path: Path, change: Change, seed: int = 1, **top: object) -> Report:
    """The bundled scenario with some fields replaced (`top`) or edited (`change`)."""
    value = yaml.safe_load(yaml.safe_dump(BASE)) | top
    change(value)
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(value))
    return simulate(load(path), seed)


def rates(*points: tuple[str, float]) -> Mapping[str, Any]:
    return POISSON | {"rate": [{"at": at, "perMinute": per_minute} for at, per_minute in points]}


def scaled_object(value: dict[str, Any], spec: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    value["scaledObject"]["spec"] |= spec
    value["scaledObject"]["spec"]["triggers"][0]["metadata"] = {"workload": "engine", **metadata}


def test_from_zero_to_many_and_back_to_zero(tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        metadata = {"policy": "queue", "queuePerReplica": "4", "stabilizationDown": "2m", "hpaTolerance": "0"}
        scaled_object(value, {"minReplicaCount": 0, "cooldownPeriod": 60}, metadata)

    load_ = rates(("0m", 0), ("5m", 0), ("6m", 120), ("14m", 120), ("15m", 0))
    report = run(tmp_path, change, duration="35m", workload=load_, startReplicas=0)
    first, *_, last = report.changes
    assert (first.by, first.before, first.after) == ("keda", 0, 1)
    assert (last.by, last.after) == ("keda", 0)
    assert 300 < first.at_s < 420
    assert report.replicas.most >= 3
    assert report.requests.done == report.requests.arrived
    assert report.time_line.ready[-1] == 0
    assert report.starts.count >= report.replicas.most
    held_first = report.latency.first_token_s.p99
    assert held_first is not None
    assert held_first > 20, "those that came first waited at the gateway for a cold start"


def test_push_wakes_sooner_than_polling(tmp_path: Path) -> None:
    def with_trigger(kind: str) -> Report:
        def change(value: dict[str, Any]) -> None:
            value["scaledObject"]["spec"]["triggers"][0]["type"] = kind
            metadata = {"policy": "queue", "queuePerReplica": "4"}
            scaled_object(value, {"minReplicaCount": 0, "pollingInterval": 120}, metadata)

        return run(tmp_path, change, duration="8m", workload=rates(("0m", 30)), startReplicas=0)

    assert with_trigger("external-push").changes[0].at_s < with_trigger("external").changes[0].at_s


def test_a_full_cluster_leaves_pods_pending_and_says_why(tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        value["cluster"]["nodes"][0] |= {"count": 1, "gpusPerNode": 1}
        scaled_object(value, {}, {"policy": "queue", "queuePerReplica": "1"})

    report = run(tmp_path, change, duration="10m", workload=rates(("0m", 60)))
    assert max(report.time_line.ready) == 2
    assert max(report.time_line.pending) > 0
    assert report.replicas.never_placed > 0
    assert report.replicas.unplaced_s > 0
    assert max(report.time_line.gpus_used) == 1.0


def test_pods_that_waited_for_room_get_it_when_others_go(tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        value["cluster"]["nodes"][0] |= {"count": 1, "gpusPerNode": 2}
        spec = {"maxReplicaCount": 4}
        scaled_object(value, spec, {"policy": "queue", "queuePerReplica": "2", "stabilizationDown": "30s"})

    load_ = rates(("0m", 100), ("8m", 100), ("9m", 2), ("14m", 2), ("15m", 100))
    report = run(tmp_path, change, duration="25m", workload=load_)
    assert report.replicas.reversals >= 2
    assert report.starts.count > 4, "slices were used again"
    assert report.replicas.never_placed == 0


def test_a_short_grace_drops_what_still_runs(tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        value["cluster"]["terminationGracePeriod"] = "0s"
        metadata = {"policy": "queue", "queuePerReplica": "1", "stabilizationDown": "0s", "hpaTolerance": "0"}
        scaled_object(value, {}, metadata)

    report = run(tmp_path, change, duration="20m")
    assert report.requests.dropped > 0
    assert report.sessions.broken == report.requests.dropped
    assert report.attainment.kept < report.attainment.judged


def test_lost_scrapes_make_the_scaler_careful(tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        metadata = {"policy": "tokens", "tokensPerSecondPerReplica": "1000", "stabilizationDown": "30s"}
        scaled_object(value, {}, metadata)

    load_ = rates(("0m", 60), ("10m", 60), ("11m", 5))
    told = run(tmp_path, change, duration="30m", workload=load_)
    deaf = run(tmp_path, change, duration="30m", workload=load_, metrics={"loss": 0.9})
    assert told.replicas.downs > 0
    assert deaf.replicas.downs <= told.replicas.downs
    assert deaf.time_line.wanted[-1] >= told.time_line.wanted[-1]


def test_blind_and_told_to_fail_it_falls_back(tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        metadata = {"policy": "tokens", "tokensPerSecondPerReplica": "1000", "onMissing": "fail"}
        spec = {"fallback": {"failureThreshold": 2, "replicas": 5}}
        scaled_object(value, spec, metadata)

    report = run(tmp_path, change, duration="6m", workload=rates(("0m", 60)), metrics={"loss": 1.0})
    assert report.time_line.wanted[-1] == 5
    assert all(c.by == "hpa" for c in report.changes[1:])


def test_mps_shares_serve_too(tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        value["cluster"]["nodes"][0]["mode"] = "mps"
        value["pod"]["metadata"]["annotations"] = {"slicewise.dev/memory": "30Gi", "slicewise.dev/compute": "40"}

    report = run(tmp_path, change, duration="10m")
    assert report.requests.done > 0
    assert any("MPS" in text for text in report.honesty.interpolated)


def test_several_gpus_for_one_engine(tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        value["engine"] |= {"catalog": "h100-80-llama-3.1-70b-tp4"}
        value["cluster"]["nodes"] = [{"count": 2, "gpu": "h100-80", "mode": "exclusive"}]
        value["pod"]["metadata"]["annotations"] = {"slicewise.dev/mode": "exclusive"}
        value["pod"]["spec"]["containers"][0]["resources"]["limits"] = {"slicewise.dev/gpu-slice": 4}

    report = run(tmp_path, change, duration="15m", workload=rates(("0m", 120)))
    assert report.requests.done > 0
    assert max(report.time_line.gpus_used) % 4 == 0


def test_cached_metrics_are_as_old_as_the_poll(tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        value["scaledObject"]["spec"]["triggers"][0]["useCachedMetrics"] = True
        scaled_object(value, {"pollingInterval": 240}, {"policy": "queue", "queuePerReplica": "1"})

    report = run(tmp_path, change, duration="12m", workload=rates(("0m", 0), ("4m", 0), ("5m", 100)))
    ups = [c.at_s for c in report.changes[1:]]
    assert ups
    # a poll every 4 minutes; what it saw is followed within the next syncs, then nothing happens until the next one
    assert all((at_s - ups[0]) % 240 <= 60 for at_s in ups)


def test_a_broken_balance_stops_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(laws, "_overlaps", lambda _: 1)
    with pytest.raises(laws.BrokenLawError, match=r"no slice is held twice: 1 is not 0"):
        run(tmp_path, lambda _: None, duration="1m")


def nodes(value: dict[str, Any], **fields: object) -> None:
    value["cluster"]["nodes"] = [{"gpu": "a100-80", "gpusPerNode": 1, "mode": "mig", **fields}]


QUICK = {"launch": {"p50": "40s", "p90": "40s"}, "registration": {"p50": "20s", "p90": "20s"}}


def test_nodes_come_for_pods_that_wait_and_go_when_they_are_empty(tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        scaled_object(value, {"minReplicaCount": 1}, {"policy": "queue", "queuePerReplica": "2"})
        nodes(value, count=1, maxCount=4)
        value["cluster"]["provisioning"] = QUICK | {"gpuReady": {"p50": "60s", "p90": "60s"}, "emptyAfter": "2m"}

    load_ = rates(("0m", 2), ("4m", 200), ("12m", 200), ("13m", 1))
    report = run(tmp_path, change, duration="40m", workload=load_)
    assert report.replicas.most > 2, "one node has room for two"
    assert max(report.time_line.ready) > 2
    assert report.gpus.provisioned_h > 40 / 60 + 0.05, "more than the first node"
    assert report.gpus.provisioned_h < 4 * 40 / 60 - 0.5, "and not all of them all the time"
    assert report.requests.done == report.requests.arrived


@pytest.mark.parametrize("notice", ["0s", "1m"])
def test_a_lost_node_takes_its_pods_with_it_and_all_come_again(tmp_path: Path, notice: str) -> None:
    def change(value: dict[str, Any]) -> None:
        scaled_object(value, {"minReplicaCount": 4, "maxReplicaCount": 4}, {"policy": "queue", "queuePerReplica": "8"})
        nodes(value, count=3)
        value["cluster"]["loss"] = {"meanLife": "20m", "notice": notice}
        value["cluster"]["provisioning"] = QUICK

    report = run(tmp_path, change, duration="1h", workload=rates(("0m", 60)), startReplicas=4)
    assert report.starts.count > 4, "what was lost was started anew"
    assert report.replicas.most == 4
    assert report.gpus.provisioned_h < 3
    if notice == "0s":
        assert report.requests.dropped > 0, "requests went with the node"


def outage(value: dict[str, Any], of: str) -> None:
    scaled_object(value, {"minReplicaCount": 1}, {"policy": "queue", "queuePerReplica": "2", "onMissing": "fail"})
    value["scaledObject"]["spec"]["fallback"] = {"failureThreshold": 3, "replicas": 6}
    value[of] = {"outages": [{"at": "5m", "lasts": "15m"}]}


@pytest.mark.parametrize(
    ("of", "replicas"),
    [
        pytest.param("metrics", 6, id="no measurements: the scaler says so, KEDA counts, and falls back"),
        pytest.param("scaler", None, id="no scaler: KEDA counts nothing, and the HPA holds (keda issue 8056)"),
    ],
)
def test_who_is_away_decides_whether_keda_falls_back(tmp_path: Path, of: str, replicas: int | None) -> None:
    report = run(tmp_path, lambda value: outage(value, of), duration="25m", workload=rates(("0m", 3)))
    wanted = dict(zip(report.time_line.at_s, report.time_line.wanted, strict=True))
    before = [n for at_s, n in wanted.items() if at_s <= 300][-1]
    away = {n for at_s, n in wanted.items() if 900 < at_s < 1200}
    assert away == {before if replicas is None else replicas}
    assert before < 6
