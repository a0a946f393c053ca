"""What of a GPU is free and of no use for one more replica."""

from pathlib import Path

import pytest

from extender.placement import catalog
from sim.report.fragments import unusable
from sim.report.model import Held
from tests.sim.commands.scenes import SHORT, printed, scene, sim

A100 = catalog.load()["a100-80"]


def mig(profile: str, start: int, size: int) -> Held:
    return Held(gpu=0, start=start / 8, part=size / 8, profile=profile)


def share(part: float) -> Held:
    return Held(gpu=0, start=None, part=part, profile=None)


@pytest.mark.parametrize(
    ("holds", "profile", "part", "lost"),
    [
        pytest.param([], "3g.40gb", 0.5, 0.0, id="an empty GPU takes two halves"),
        pytest.param([mig("3g.40gb", 4, 4)], "3g.40gb", 0.5, 0.0, id="a half leaves a half"),
        pytest.param([mig("1g.10gb", 2, 1)], "3g.40gb", 0.5, 3 / 8, id="a small slice in the wrong half"),
        pytest.param([], "1g.10gb", 1 / 8, 1 / 8, id="seven small slices leave a memory slice"),
        pytest.param([mig("7g.80gb", 0, 8)], "7g.80gb", 1.0, 0.0, id="a whole GPU that is taken"),
        pytest.param([share(0.4), share(0.4)], None, 0.4, 0.2, id="MPS: a fifth is too small for two fifths"),
        pytest.param([share(0.5)], None, 0.5, 0.0, id="MPS: a half is not"),
        pytest.param([], None, 1.0, 0.0, id="exclusive"),
        pytest.param([], "9g.90gb", 0.5, 1.0, id="a profile that the GPU does not have"),
    ],
)
def test_unusable(holds: list[Held], profile: str | None, part: float, lost: float) -> None:
    assert unusable(holds, A100, profile, part) == pytest.approx(lost)


def test_a_run_adds_it_up(tmp_path: Path) -> None:
    whole = printed(sim("run", scene(tmp_path), "--json"))["gpus"]
    assert whole["fragmented_h"] == 0.0, "halves always fit"
    mps = SHORT.replace("mode: mig", "mode: mps").replace(
        "slicewise.dev/profile: 3g.40gb", 'slicewise.dev/memory: 48Gi\n      slicewise.dev/compute: "60"'
    )
    gpus = printed(sim("run", scene(tmp_path, mps), "--json"))["gpus"]
    # 16 GPUs, 0.1 h: whoever takes 60 % leaves 40 %, and an empty GPU would too
    assert gpus["fragmented_h"] == pytest.approx(0.4 * 1.6, rel=1e-6)
    nobody = printed(
        sim(
            "run",
            scene(tmp_path, SHORT),
            "--set",
            "startReplicas=0",
            "--set",
            "minReplicaCount=0",
            "--set",
            "workload.sessions=[{at: 0m, perMinute: 0}]",
            "--json",
        )
    )["gpus"]
    assert nobody["fragmented_h"] == 0.0
