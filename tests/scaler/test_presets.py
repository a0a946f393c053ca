"""The format of presets, and what holds for every preset that is shipped."""

import re

import pytest

from scaler.signals.reading import ReadingName
from scaler.signals.recipes import RECIPES, Counter, Gauge, Histogram
from scaler.sources.presets import Preset, PresetError, listed, load, parse
from tests.scaler.presets_doc import PATH, render

HEAD = 'engine = "E"\nversions = "1"\nport = 8000\n'
RUNNING = 'up = "running"\n[gauges.running]\nnames = [{ name = "e:running", versions = "1", source = "e.py" }]\n'
GAUGES = "'waiting', 'running', 'sessions', 'kv_usage' or 'oldest_wait_s'"
METRIC = "'^[a-zA-Z_:][a-zA-Z0-9_:]*$'"


def test_a_preset_as_documented_is_read() -> None:
    preset = parse("e.toml", HEAD + RUNNING)
    assert preset.gauges[Gauge.RUNNING].names[0].families == ("e:running",)
    assert preset.ways("running") == RECIPES["running"]
    assert preset.ways("p95_s") == ()


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        pytest.param("engine = ", ["e.toml: not TOML: Invalid value (at end of document)"], id="no TOML"),
        pytest.param('engine = "E"\nversions = "1"\n', ["e.toml: port: Field required"], id="a field left out"),
        pytest.param(
            HEAD + "color = 1\n[gauges.speed]\nnames = []\n",
            [
                f"e.toml: gauges.speed: Input should be {GAUGES} (got 'speed')",
                "e.toml: gauges.speed.names: want one name at least (got '[]')",
                "e.toml: color: Extra inputs are not permitted (got '1')",
            ],
            id="all faults at once",
        ),
        pytest.param(
            HEAD + RUNNING.replace("e:running", "e running"),
            [f"e.toml: gauges.running.names.0.name: String should match pattern {METRIC} (got 'e running')"],
            id="no metric's name",
        ),
        pytest.param(
            HEAD + 'scope = "gateway"\n' + RUNNING,
            ['e.toml: workload_label: stands with scope = "gateway", and only there'],
            id="a gateway without the label that names the workload",
        ),
        pytest.param(
            HEAD + RUNNING.replace('up = "running"\n', ""),
            ["e.toml: up: name the gauge that every serving pod always exports"],
            id="no gauge to count pods by",
        ),
        pytest.param(
            HEAD + RUNNING.replace('up = "running"', 'up = "waiting"'),
            ["e.toml: up: there is no [gauges.waiting]"],
            id="a gauge to count pods by that is not there",
        ),
        pytest.param(
            HEAD
            + RUNNING
            + '[counters.ended]\nnames = [{ name = "e", minus = ["f"], versions = "1", source = "e" }]\n',
            ["e.toml: counters.ended: minus: a difference of counters is no counter"],
            id="a difference of counters",
        ),
        pytest.param(
            HEAD + RUNNING + "lazy = true\n",
            ["e.toml: up: [gauges.running] is lazy, so its absence says nothing"],
            id="a gauge to count pods by that may be absent",
        ),
    ],
)
def test_a_fault_names_file_field_rule_and_value(text: str, faults: list[str]) -> None:
    with pytest.raises(PresetError) as told:
        parse("e.toml", text)
    assert str(told.value).splitlines() == faults


@pytest.mark.parametrize("preset", [pytest.param(preset, id=name) for name, preset in load().items()])
def test_a_family_stands_for_one_quantity_alone(preset: Preset) -> None:
    """A preset never takes one series for two quantities, unless labels tell them apart."""
    seen: dict[tuple[str, tuple[tuple[str, str], ...]], str] = {}
    for quantity, source in (*preset.gauges.items(), *preset.counters.items()):
        for name in source.names:
            for family in (name.name, *name.plus):
                key = (family, tuple(sorted(name.match.items())))
                assert seen.setdefault(key, quantity) == quantity


def test_histograms_name_their_families() -> None:
    text = HEAD + RUNNING + '[histograms.e2e_s]\nnames = [{ name = "h", versions = "1", source = "e.py"'
    whole = parse("e.toml", text + " }]").histograms[Histogram.E2E_S].names[0]
    assert whole.families == ("h_bucket", "h_sum", "h_count")
    two_counters = parse("e.toml", text + ', buckets = false, sum_name = "us", count_name = "n", scale = 1e-6 }]')
    assert two_counters.histograms[Histogram.E2E_S].names[0].families == ("us", "n")


def test_families_that_are_added_up() -> None:
    text = HEAD + RUNNING + '[counters.ended]\nnames = [{ name = "a", plus = ["b"], versions = "1", source = "e" }]'
    assert parse("e.toml", text).counters[Counter.ENDED].names[0].families == ("a", "b")


def test_the_documentation_is_that_of_the_presets() -> None:
    assert PATH.read_text() == render(), "docs/presets.md differs; mend it with: python tests/scaler/presets_doc.py"


def test_the_documented_example_is_a_preset() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PATH.read_text(), re.DOTALL)
    assert parse("example.toml", example).engine == "Example"


def test_recipes_and_readings_have_the_same_names() -> None:
    assert set(RECIPES) <= set(ReadingName)


def test_without_buckets_there_is_a_mean_and_no_quantile() -> None:
    triton = load()["triton"]
    assert triton.ways("service_s")
    assert triton.ways("p95_s") == triton.ways("attainment") == ()


def test_a_preset_lists_itself() -> None:
    lines = list(listed("triton", load()["triton"]))
    assert lines[0] == "triton: Triton Inference Server, 23.12 and later"
    assert (
        "  e2e_s: nv_inference_request_duration_us / nv_inference_request_success x 1e-06 "
        "(all; docs/user_guide/metrics.md)" in lines
    )
    assert "  readings: queue, sessions" in next(
        line for line in listed("ollama", load()["ollama"]) if "readings" in line
    )
