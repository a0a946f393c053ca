"""`init` and `validate`: scenarios to begin with run as they are; those that cannot run say why before they do."""

from pathlib import Path

import pytest

from sim.presets import GPUS, LOADS
from tests.sim.commands.scenes import SHORT, scene, sim


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("preset", LOADS)
def test_every_preset_runs_as_it_is(tmp_path: Path, preset: str, gpu: str) -> None:
    path = tmp_path / "mine.yaml"
    made = sim("init", preset, "--gpu", gpu, "--output", path)
    assert made.exit_code == 0, made.output
    assert made.stderr == f"slicewise sim run {path}\n"
    checked = sim("validate", path)
    assert checked.exit_code == 0, checked.output
    assert checked.stdout == f"{path}: can be run\n"
    path.write_text(path.read_text().replace("duration: 1h", "duration: 4m"))
    result = sim("run", path)
    assert result.exit_code == 0, result.output
    assert "GPU hours" in result.stdout
    assert "interpolated" in result.stdout


def test_init_prints_and_never_overwrites(tmp_path: Path) -> None:
    assert sim("init", "agent").stdout.startswith("# Written by `slicewise sim init agent --gpu a100`")
    path = scene(tmp_path)
    result = sim("init", "agent", "-o", path)
    assert result.exit_code == 2
    assert "cannot be written: File exists" in result.stderr
    assert path.read_text() == SHORT


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        pytest.param("maxReplicaCount: 16", "maxReplicaCount: 0", "short.yaml:46: scaledObject.spec.max", id="a field"),
        pytest.param("3g.40gb", "1g.10gb", "engine: a100-80-llama-3.1-8b needs 17365 MiB", id="weights do not fit"),
        pytest.param("mode: mig", "mode: exclusive", "pod: no empty node of the cluster has room for it", id="no MIG"),
        pytest.param(
            "maxNumBatchedTokens: 2048", "maxNumBatchedTokens: 16", "engine: maxNumBatchedTokens 16 is", id="budget"
        ),
    ],
)
def test_validate_says_what_a_run_would(tmp_path: Path, before: str, after: str, fault: str) -> None:
    good, bad = scene(tmp_path, name="good.yaml"), scene(tmp_path, SHORT.replace(before, after))
    result = sim("validate", good, bad)
    assert result.exit_code == 2
    assert fault in result.stderr
    assert f"{good}: can be run" in result.stdout


def test_an_engine_that_is_not_in_the_catalog_can_be_named_by_its_parts(tmp_path: Path) -> None:
    text = SHORT.replace("catalog: a100-80-llama-3.1-8b", "catalog: a100-80-qwen3-14b-fp8-tp1")
    assert sim("validate", scene(tmp_path, text)).exit_code == 0
    unknown = sim("validate", scene(tmp_path, SHORT.replace("llama-3.1-8b", "llama-9-8b-fp8-tp1")))
    assert "no such engine; there are a100-80-llama-3.1" in unknown.stderr
    assert "or name a roofline by GPU, model, precision and tensor parallelism" in unknown.stderr
