"""The main job on the real control plane: recorded load, replicas by KEDA and HPA, each pod on a slice of its own.

The run is recorded and put through `slicewise sim replay`: the simulator's KEDA, HPA, kube-scheduler and extender must
do what the real ones did.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.e2e.engines import Load, Request, azure_trace, speed_for, synthetic_trace, window
from tests.e2e.exporter import Exporter
from tests.e2e.parts.apiserver import HPA_PERIOD_S
from tests.e2e.parts.client import Api, Json
from tests.e2e.parts.controlplane import ControlPlane
from tests.e2e.parts.installation import SLICEWISE, TICK_S, Installation, installation, mig, mps, whole
from tests.e2e.parts.prometheus import Prometheus
from tests.e2e.parts.waiting import repeatedly, wait_for
from tests.e2e.parts.workloads import (
    NAMESPACE,
    SCALED_OBJECTS,
    ReplicaHistory,
    at_zero,
    deployment,
    remove,
    runs,
    scaled_object,
    watched,
)
from tests.e2e.placements import Watchman
from tests.e2e.tape import Tape

pytestmark = pytest.mark.e2e

TRACE: Final = Path(
    os.environ.get("SLICEWISE_TRACE", Path(__file__).parents[3] / "shared" / "data" / "llm" / "azure_2023_code.csv.gz")
)
SLOTS: Final = 4  # requests in service at a time in one engine; the ScaledObjects' queuePerReplica
WAVE_S: Final = 60.0
MOST: Final = 5  # replicas of each workload: what fits on one A100 by MPS, and less than fits by MIG
WORKLOADS: Final = ("planner", "coder")


# Who took which step, as they say themselves: KEDA from 0 to 1 and to 0 again, the HPA all others.
ACTIVATED: Final = ("keda-operator", "KEDAScaleTargetActivated")
RESCALED: Final = ("horizontal-pod-autoscaler", "SuccessfulRescale")
DEACTIVATED: Final = ("keda-operator", "KEDAScaleTargetDeactivated")


def events(api: Api) -> set[tuple[str, str]]:
    """Who says what in the agents' namespace."""
    found = api.items("/api/v1/namespaces/agents/events")
    return {(event["reportingComponent"] or event["source"]["component"], event["reason"]) for event in found}


def wave() -> list[Request]:
    """Two and a half minutes with a rush in the middle, replayed in one: recorded by Azure if the trace is there."""
    if TRACE.is_file():
        return window(azure_trace(TRACE), from_s=540, lasts_s=150, replayed_in_s=WAVE_S)
    return window(synthetic_trace(lasts_s=150), from_s=0, lasts_s=150, replayed_in_s=WAVE_S)


@pytest.fixture
def exporter(plane: ControlPlane) -> Iterator[Exporter]:
    with Exporter(plane.api).serving() as serving:
        yield serving


@pytest.fixture
def tape(plane: ControlPlane) -> Tape:
    return Tape(plane.api, NAMESPACE)


@pytest.fixture
def slicewise(plane: ControlPlane, base: None, exporter: Exporter, tape: Tape) -> Iterator[Installation]:
    gpus = {"mig-1": mig(), "mps-1": mps(), "whole-1": whole()}
    with ExitStack() as stack:
        prometheus = Prometheus(plane.tools, plane.folder, discovery_url=f"http://{exporter.address}/targets")
        stack.callback(prometheus.stop)
        prometheus.up()
        yield stack.enter_context(installation(plane, prometheus_url=prometheus.url, gpus=gpus, tape=tape))


def test_load_rises_and_falls_and_the_pods_follow(
    plane: ControlPlane, exporter: Exporter, slicewise: Installation, tape: Tape, tmp_path: Path
) -> None:
    api, watchman = plane.api, Watchman(plane.api)
    histories = {name: ReplicaHistory(api, name) for name in WORKLOADS}
    with ExitStack() as stack:
        stack.callback(remove, api, WORKLOADS)
        stack.enter_context(tape.running())
        requests = wave()
        for name in WORKLOADS:
            exporter.add("agents", name, Load(requests, slots=SLOTS, speed=speed_for(requests, concurrency=10)))
            api.apply(deployment(name))
            api.apply(scaled_object(name, scaler=slicewise.scaler_address, most=MOST))
            stack.enter_context(repeatedly(histories[name].look, every_s=0.1))
        stack.enter_context(repeatedly(watchman.look, every_s=0.5))

        _at_rest(api)
        exporter.begin(*WORKLOADS)
        for name in WORKLOADS:
            wait_for(f"{name} runs at its most", partial(runs, api, name, MOST), within_s=120)
        _ends(api, exporter)
        for name in WORKLOADS:
            histories[name].look()  # the thread that looks may have missed the last change by an instant
            assert (histories[name].seen[0], max(histories[name].seen), histories[name].seen[-1]) == (0, MOST, 0)
            assert exporter.finished(name) == len(requests), "every request was answered"

        assert events(api) >= {ACTIVATED, RESCALED, DEACTIVATED}
        first = {place: set(holders) for place, holders in watchman.held.items()}
        for name in WORKLOADS:
            exporter.add("agents", name, Load(requests, slots=SLOTS, speed=speed_for(requests, concurrency=10)))
        exporter.begin(*WORKLOADS)
        for name in WORKLOADS:
            wait_for(f"{name} runs at its most again", partial(runs, api, name, MOST), within_s=120)
        watchman.look()  # all may be bound within one of its steps
        manifests = {name: api.get(f"{SCALED_OBJECTS}/{name}") for name in WORKLOADS}
    reused = {place for place, holders in watchman.held.items() if holders - first.get(place, set()) and place in first}
    assert watchman.looks > 20
    assert list(watchman.faults) == []
    assert {node for node, _, _ in watchman.held} == {"mig-1", "mps-1"}
    assert {node for node, _, _ in reused} == {"mig-1", "mps-1"}, (watchman.looks, dict(watchman.held), first)
    if plane.audit is not None:
        recording = tmp_path / "recording.jsonl"
        tape.write(recording, scaler_log=slicewise.scaler.log, audit=plane.audit)
        for name, manifest in manifests.items():
            _replays(recording, tmp_path / name, manifest, (0, MOST, 0, MOST))


def _replays(recording: Path, folder: Path, manifest: Json, through: tuple[int, ...]) -> None:
    """The same replicas within one sync period, and every pod on the same slices of the same node."""
    folder.mkdir()
    (folder / "scaledobject.yaml").write_text(yaml.safe_dump(manifest))
    command: list[str | Path] = [SLICEWISE, "sim", "replay", recording, "--scaled-object", folder / "scaledobject.yaml"]
    command += [f"--sync-period={HPA_PERIOD_S}s", f"--tick={TICK_S}s", "--json", folder / "replay.json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert answer.returncode == 0, f"{answer.stdout}{answer.stderr}"
    found = json.loads((folder / "replay.json").read_text())
    assert found["differences"] == []
    controllers, placements = found["controllers"], found["placements"]
    assert controllers["turns_recorded"]
    assert [replicas for _, replicas in controllers["today"]] == [replicas for _, replicas in controllers["recorded"]]
    assert controllers["late_s"] <= HPA_PERIOD_S
    values = iter(replicas for _, replicas in controllers["recorded"])
    assert all(value in values for value in through), f"{through} in this order: {controllers['recorded']}"
    assert placements["differences"] == []
    assert len(placements["places"]) >= 2 * MOST * len(WORKLOADS)


def _at_rest(api: Api) -> None:
    for name in WORKLOADS:
        wait_for(f"KEDA has taken on {name}", partial(watched, api, name), within_s=60)
        assert at_zero(api, name)


def _ends(api: Api, exporter: Exporter) -> None:
    for name in WORKLOADS:
        wait_for(f"the load of {name} is served", partial(exporter.over, name), within_s=180)
        wait_for(f"{name} is at zero again", partial(at_zero, api, name), within_s=180)
