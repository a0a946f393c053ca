"""Sweeps and recommendations."""

from pathlib import Path

import pytest
import yaml

from scaler.trigger import Trigger
from sim.changes import METADATA, SPEC, parse, short, whole
from sim.cluster.scaledobject import ScaledObject
from sim.measures import MEASURES
from sim.search import Axis, Lab, SpaceError, Sweep, Variant, axis, points
from tests.sim.commands.scenes import SHORT, printed, scene, sim

QUEUE = METADATA + "queuePerReplica"


@pytest.mark.parametrize(
    ("field", "path"),
    [
        pytest.param("queuePerReplica", QUEUE, id="a key of the trigger"),
        pytest.param("maxReplicaCount", SPEC + "maxReplicaCount", id="a field of the spec"),
        pytest.param("metrics.loss", "metrics.loss", id="a whole path"),
    ],
)
def test_short_names(field: str, path: str) -> None:
    assert whole(field) == path
    assert short(path) == field
    assert parse([f"{field}=1", f"{field}=2"]) == ((path, "2"),), "the last one counts"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("queuePerReplica=4, 8", Axis(QUEUE, ("4", "8")), id="values"),
        pytest.param("queuePerReplica=2..32", Axis(QUEUE, (), 2.0, 32.0, ""), id="a range"),
        pytest.param("stabilizationDown=1m..10m", Axis(METADATA + "stabilizationDown", (), 1, 10, "m"), id="of times"),
        pytest.param("p95Target=2..8s", Axis(METADATA + "p95Target", (), 2, 8, "s"), id="with its unit once"),
    ],
)
def test_axes(text: str, found: Axis) -> None:
    assert axis(text) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("queuePerReplica", "want FIELD=A,B,C or FIELD=LOW..HIGH", id="no values"),
        pytest.param("queuePerReplica=8..2", "a range ascends from above 0", id="downwards"),
        pytest.param("stabilizationDown=30s..5m", "in one unit", id="two units"),
    ],
)
def test_axes_that_are_none(text: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        axis(text)


def test_points() -> None:
    axes = [axis("queuePerReplica=2,4"), axis("sessionsPerReplica=3,5,3")]
    assert len(points(axes, "grid", 0, 0)) == 4, "each once"
    drawn = points([axis("queuePerReplica=2..32"), axis("policy=queue,composite")], "random", 40, 0)
    assert drawn == points([axis("queuePerReplica=2..32"), axis("policy=queue,composite")], "random", 40, 0)
    values = [float(dict(point)[QUEUE]) for point in drawn]
    assert min(values) >= 2
    assert max(values) <= 32
    assert 0.25 < sum(v < 8 for v in values) / len(values) < 0.75, "evenly on a logarithmic scale"
    with pytest.raises(SpaceError, match="a grid needs values, and queuePerReplica has a range"):
        points([axis("queuePerReplica=2..32")], "grid", 4, 0)


def variant(attainment: float | None, hours: float | None, name: str = "x", seeds: int = 3) -> Variant:
    means = dict.fromkeys(MEASURES, 0.0) | {"attainment": attainment, "gpu_hours": hours}
    return Variant(((name, "1"),), seeds, means)


def test_the_front_is_who_nobody_beats_and_the_best_is_the_cheapest_that_keeps_the_target() -> None:
    cheap, good, dear, poor = variant(0.9, 1.0), variant(0.99, 2.0), variant(0.999, 4.0), variant(0.95, 3.0)
    few = variant(1.0, 0.5, seeds=1)
    sweep = Sweep([dear, poor, few, cheap, good], [], 0.98)
    assert sweep.front == [cheap, good, dear]
    assert sweep.best is good
    assert Sweep(sweep.variants, [], 0.9999).best is dear, "what misses it least"
    assert Sweep([], [], 0.9).best is None
    assert Sweep([variant(None, None)], [], 0.9).best is not None


def test_halving_gives_the_better_third_more_seeds(tmp_path: Path) -> None:
    talk: list[str] = []
    lab = Lab(scene(tmp_path, SHORT.replace("6m", "2m")), None, (0, 1, 2), 1, None, talk.append)
    wanted = [(("scaledObject.spec.maxReplicaCount", str(n)),) for n in (1, 2, 3, 4, 0)]
    found = lab.sweep(wanted, "halving", 0.99)
    assert talk == ["4 variants on 1 of 3 seeds: 4 runs", "2 variants on 3 of 3 seeds: 4 runs"]
    assert sorted(v.seeds for v in found.variants) == [1, 1, 3, 3]
    assert found.refused[0][1].endswith("greater than or equal to 1 (got 0)")


def test_sweep_prints_a_table_and_json(tmp_path: Path) -> None:
    path = scene(tmp_path, SHORT.replace("6m", "2m"))
    vary = ("--vary", "maxReplicaCount=1,4", "--vary", "minReplicaCount=1,3", "--seeds", "0")
    table = sim("sweep", path, *vary, "--rows", 1)
    assert table.exit_code == 0, table.output
    assert "* maxReplicaCount=" in table.stdout
    assert "refused: maxReplicaCount=1 minReplicaCount=3" in table.stdout
    one, two = sim("sweep", path, *vary, "--json", "-"), sim("sweep", path, *vary, "--json", "-", "--jobs", 2)
    assert one.stdout == two.stdout
    document = printed(one)
    assert document["schema"] == "slicewise.dev/sim-sweep/1"
    assert len(document["variants"]) == 3
    assert sum(row["pareto"] for row in document["variants"]) >= 1


def test_nothing_but_refused_variants(tmp_path: Path) -> None:
    result = sim("sweep", scene(tmp_path), "--vary", "maxReplicaCount=0", "--seeds", "0")
    assert result.exit_code == 2
    assert "no variant is a scenario that can be run" in result.stderr


def test_recommend_writes_a_scaled_object_that_our_scaler_takes(tmp_path: Path) -> None:
    path, out = scene(tmp_path), tmp_path / "so.yaml"
    vary = ("--vary", "queuePerReplica=2,8", "--vary", "stabilizationDown=1m")
    result = sim(
        "recommend", path, "--target", "0.01", "--seeds", "0-1", *vary, "-o", out, "--json", tmp_path / "x.json"
    )
    assert result.exit_code == 0, result.output
    text = out.read_text()
    assert text.startswith("# Recommended by `slicewise sim recommend short.yaml`: ")
    document = yaml.safe_load(text)
    scaled_object = ScaledObject.model_validate(document)
    assert [Trigger.parse(t.metadata).policy for t in scaled_object.spec.triggers] == ["composite"]
    assert document["spec"]["scaleTargetRef"] == {"name": "engine"}
    assert (tmp_path / "x.json").read_text().startswith("{")


def test_recommend_varies_the_triggers_own_targets_and_says_when_nothing_is_enough(tmp_path: Path) -> None:
    text = (
        SHORT.replace("6m", "1m")
        .replace('        queuePerReplica: "4"\n', "")
        .replace("firstToken: 10s", "firstToken: 1ms")
    )
    result = sim("recommend", scene(tmp_path, text), "--target", "0.99", "--seeds", "0")
    assert result.exit_code == 1, result.output
    assert "21 variants on 1 of 1 seeds" in result.stderr
    assert "sessionsPerReplica=2 " in result.stderr
    assert "nothing that was tried keeps 0.99" in result.stderr
    assert yaml.safe_load(result.stdout)["kind"] == "ScaledObject"


def test_recommend_has_one_standard_output(tmp_path: Path) -> None:
    result = sim("recommend", scene(tmp_path), "--json", "-")
    assert result.exit_code == 2
    assert "give one of them a file" in result.stderr
