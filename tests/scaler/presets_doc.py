"""docs/presets.md, written from the presets: `python tests/scaler/presets_doc.py` rewrites it."""

from pathlib import Path

from scaler.signals.recipes import RECIPES
from scaler.sources.presets import Preset, load

PATH = Path(__file__).parents[2] / "docs" / "presets.md"

HEAD = """\
# Engine presets

<!-- Written by tests/scaler/presets_doc.py from scaler/presets; a test compares them. -->

A preset says under which names an engine exports what the scaler reads; a trigger chooses one (`preset`, default
`vllm`). It holds no queries: readings are made of quantities by recipes that are the same for every engine and every
source (`scaler/signals/recipes.py`), in PromQL where a Prometheus is asked and by `scaler/signals/compute.py` where the
pods' own `/metrics` are. `slicewise scaler presets` prints every name with the versions that have it and its source.

| preset | engine | page | note |
|---|---|---|---|
{engines}

## What each gives

{matrix}

Every preset also reads `agent_requests_waiting` and `agent_sessions_active` (docs/triggers.md), which is all that there
is for an engine that exports nothing.

## Adding an engine

One file, `scaler/presets/NAME.toml`; the folder is read. A page of the engine's `/metrics` belongs to it
(`tests/contract/engines`), with the readings that it stands for.

```toml
engine = "Example"
versions = "2.0 and later"
port = 8000                    # where a direct scrape finds the page
path = "/metrics"
apart = ["engine"]             # labels that tell series of one pod apart; all others only mark a double scrape
up = "running"                 # the gauge that every serving pod always exports: coverage and age are counted by it

[gauges.running]
names = [                      # renames: tried in order for each pod
  {{ name = "example_running", versions = "2.1 and later", source = "src/metrics.py" }},
  {{ name = "example_active", versions = "2.0", source = "src/metrics.py" }},
]

[gauges.kv_usage]
names = [{{ name = "example_cache", match = {{ pool = "kv" }}, scale = 0.01, versions = "2.0", source = "metrics.py" }}]

[counters.ended]
lazy = true                    # appears with the first request: a pod that serves without it has counted nothing
names = [{{ name = "example_ok_total", plus = ["example_failed_total"], versions = "2.0", source = "metrics.py" }}]

[histograms.e2e_s]
names = [{{ name = "example_latency_ms", scale = 0.001, versions = "2.0 and later", source = "src/metrics.py" }}]
```

Quantities: {quantities}.

`minus` takes families off a gauge. A histogram may be `buckets = false` with `sum_name` and `count_name`, where only
those two are known. A gateway (`scope = "gateway"`) tells of workloads by the label `workload_label`, whose value has
to be the workload's name; it has no coverage, for it does not tell how many pods there are.
"""


def render() -> str:
    known = load()
    engines = [
        f"| `{name}` | {preset.engine}, {preset.versions} | `:{preset.port}{preset.path}` | {_note(preset)} |"
        for name, preset in known.items()
    ]
    matrix = [
        f"| reading | {' | '.join(f'`{name}`' for name in known)} |",
        f"|---|{'---|' * len(known)}",
        *(
            f"| `{reading}` | {' | '.join('yes' if _own(preset, reading) else '' for preset in known.values())} |"
            for reading in RECIPES
        ),
    ]
    quantities = sorted({str(quantity) for preset in known.values() for quantity in preset.quantities})
    return HEAD.format(
        engines="\n".join(engines),
        matrix="\n".join(matrix),
        quantities=", ".join(f"`{quantity}`" for quantity in quantities),
    )


def _own(preset: Preset, reading: str) -> bool:
    """Whether the engine itself gives it, and not only a gateway of ours."""
    without = Preset.model_validate({"engine": "none", "versions": "none", "port": 1})
    return set(preset.ways(reading)) > set(without.ways(reading))


def _note(preset: Preset) -> str:
    gateway = f"Gateway: `{preset.workload_label}` names the workload. " if preset.workload_label is not None else ""
    return f"{gateway}{preset.note or ''}".strip()


if __name__ == "__main__":
    PATH.write_text(render())
