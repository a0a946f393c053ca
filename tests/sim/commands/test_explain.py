"""One decision at one instant."""

from pathlib import Path

import pytest

from tests.sim.commands.scenes import SHORT, printed, scene, sim


def test_the_story_goes_from_the_readings_to_the_pods(tmp_path: Path) -> None:
    result = sim("explain", scene(tmp_path), "--at", "5m")
    assert result.exit_code == 0, result.output
    for part in (
        "agents, seed 0, at 5m00s",
        "  queue ",
        "  replicas ",
        "composite: ",
        "KEDA's poll, ",
        "the HPA's sync, ",
        "s0-desired_replicas = ",
        "engine-00000 on a100-80-0-000 serves ",
    ):
        assert part in result.stdout
    assert result.stdout == sim("explain", scene(tmp_path), "--at", "5m").stdout


def test_before_anything_was_measured_it_says_so(tmp_path: Path) -> None:
    result = sim("explain", scene(tmp_path), "--at", "2s")
    assert "is not known: no series" in result.stdout
    assert "engine-00000 on a100-80-0-000 starts since " in result.stdout


def test_pods_that_wait_and_pods_that_go(tmp_path: Path) -> None:
    full = SHORT.replace("{count: 2, gpu: a100-80, gpusPerNode: 8", "{count: 1, gpu: a100-80, gpusPerNode: 1")
    waiting = sim("explain", scene(tmp_path, full), "--at", "6m", "--set", "startReplicas=3")
    assert "for a place: 0/1 nodes are available: 1 " in waiting.stdout
    going = sim("explain", scene(tmp_path), "--at", "40s", "--set", "startReplicas=16", "--set", "maxReplicaCount=1")
    document = printed(sim("explain", scene(tmp_path), "--at", "40s", "--set", "maxReplicaCount=1", "--json", "-"))
    assert document["schema"] == "slicewise.dev/sim-story/1"
    assert document["replicas"] == 1
    assert "1 replicas asked for" in going.stdout


@pytest.mark.parametrize(
    ("at", "message"),
    [
        pytest.param("300", "--at: want a number with its unit", id="no unit"),
        pytest.param("2h", "--at: the scenario lasts from 0 to 6m00s", id="after the end"),
    ],
)
def test_instants_that_are_none(tmp_path: Path, at: str, message: str) -> None:
    result = sim("explain", scene(tmp_path), "--at", at)
    assert result.exit_code == 2
    assert message in result.stderr
