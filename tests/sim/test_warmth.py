"""Engines start where they find image and weights, and room is kept: the extender's own decisions in the joint run."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from sim.run import finish, load, prepare
from sim.scenario import bundled
from sim.strict import ConfigError
from sim.world import World

ENGINE = {"name": "engine", "image": "vllm:1", "resources": {"limits": {"slicewise.dev/gpu-slice": 1}}}


def changed(tmp_path: Path, name: str, **extender: object) -> Path:
    value: dict[str, Any] = yaml.safe_load(bundled()[name].read_text())
    value["pod"]["spec"]["containers"] = [ENGINE]
    value["cluster"]["nodes"][0]["count"] = 4
    value["cluster"]["extender"] = extender
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def ran(path: Path) -> World:
    run = prepare(load(path), 1)
    report = finish(run)
    assert report.starts.count > 5
    return run.world


def test_engines_stay_where_the_image_is(tmp_path: Path) -> None:
    sticky, spread = (ran(changed(tmp_path, "agents", **more)) for more in ({}, {"warmLife": "0s"}))
    (node,) = sticky.fleet.images
    assert sticky.fleet.images[node] == (("docker.io/library/vllm:1", 19_073 << 20),)
    assert {pod.node for pod in sticky.pods if pod.node} == {node}
    assert len(spread.fleet.images) > 1


def test_a_node_that_is_about_to_go_has_no_room_that_counts_and_keeps_its_images(tmp_path: Path) -> None:
    fleet = prepare(load(changed(tmp_path, "agents")), 1).world.fleet
    name = next(iter(fleet.kind_of))
    column = fleet.ledger.fleet.slots[name]
    fleet.cordon(name)
    fleet.list_image(name, "docker.io/library/vllm:1", 1000)
    assert fleet.ledger.fleet.cordoned[column]
    assert fleet.ledger.unusable(name, 0.0) is None
    fleet.drop(name, 1.0)
    assert (fleet.cordoned, fleet.images) == (set(), {})


@pytest.mark.parametrize(
    ("extender", "fault"),
    [
        pytest.param({"reserve": "4 x 1g"}, "want `priority>=P: N x SIZE`", id="no reserve"),
        pytest.param({"warmLife": "-1s"}, "cluster.extender.warmLife", id="a life that is none"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, extender: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError) as told:
        load(changed(tmp_path, "agents", **extender))
    assert fault in str(told.value)


def test_room_that_is_kept_is_there_when_an_interactive_pod_comes(tmp_path: Path) -> None:
    path = bundled()["headroom"]
    waits = []
    for reserve in (True, False):
        value: dict[str, Any] = yaml.safe_load(path.read_text()) | {"duration": "20m"}
        value["cluster"]["extender"] = value["cluster"]["extender"] if reserve else {}
        changed_path = tmp_path / f"{reserve}.yaml"
        changed_path.write_text(yaml.safe_dump(value))
        run = prepare(load(changed_path), 1)
        finish(run)
        pods = [pod for pod in run.world.pods if pod.created_s > 60][:2]
        waits.append([pod.bound_s is not None and pod.bound_s - pod.created_s <= 1 for pod in pods])
    assert waits[0] == [True, True]
    assert waits[1] != waits[0]
