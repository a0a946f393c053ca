"""The best that is known of a model on a GPU: measured there, carried over from where it was, or from datasheets."""

from dataclasses import asdict, replace
from math import log2
from pathlib import Path
from typing import Final

from sim.serving import modelcard
from sim.serving.known import Known, described, known, specs
from sim.serving.roofline import roofline
from sim.serving.times import Engine, Times, load

KEPT: Final = ("spared", "floor")  # they belong to the model, and are no times
FURTHEST: Final = 3.0  # a factor beyond it says more of the roofline than of the engine


def asked_for(gpu: str, model: str, tensor_parallel: int, precision: str | None) -> Known:
    """`model`: a name, or the path of a config.json or of its folder. Raises `UnknownError`."""
    path = Path(model)
    if path.is_dir() or path.suffix == ".json":
        name, shape = modelcard.read(path)
        return described(gpu, name, shape, tensor_parallel, precision)
    return known(gpu, model, tensor_parallel, precision)


def find(asked: Known) -> Engine:
    """The catalog's entry; else, `interpolated`, its nearest one for the same model; else the roofline."""
    measured = [e for e in load().values() if e.model == asked.model_name]
    for engine in measured:
        if _is(engine, asked):
            return engine
    return carried(min(measured, key=lambda e: _distance(e, asked)), asked) if measured else roofline(asked)


def _is(engine: Engine, asked: Known) -> bool:
    return (engine.gpu, engine.tensor_parallel, engine.precision) == (
        asked.gpu_name,
        asked.tensor_parallel,
        asked.precision,
    )


def _distance(engine: Engine, asked: Known) -> tuple[float, str]:
    """Another precision is another set of kernels; another GPU or parallelism is mostly other hardware numbers."""
    apart = 2.0 * (engine.precision != asked.precision) + 1.0 * (engine.gpu != asked.gpu_name)
    apart += 0.5 * abs(log2(engine.tensor_parallel / asked.tensor_parallel)) + 1.0 * (engine.basis != "calibrated")
    return apart, engine.name


def carried(source: Engine, asked: Known) -> Engine:
    """What `source` reached of its own datasheets is reached of these, number by number."""
    from_there = replace(asked, gpu_name=source.gpu, gpu=specs("gpus")[source.gpu])
    from_there = replace(from_there, tensor_parallel=source.tensor_parallel, precision=source.precision)
    there, here = roofline(from_there), roofline(asked)
    times = {
        name: value if name in KEPT else round(value * _factor(getattr(source.times, name), getattr(there.times, name)))
        for name, value in asdict(here.times).items()
    }
    kept = {name: getattr(source.times, name) for name in KEPT}
    return replace(
        here,
        times=Times(**(times | kept)),
        request_s=source.request_s,
        overhead_mib=source.overhead_mib,
        basis="interpolated",
        source=f"{source.name} ({source.source}), by the ratio of the datasheets",
    )


def _factor(measured: int, expected: int) -> float:
    return min(max(measured / expected, 1 / FURTHEST), FURTHEST) if expected else 1.0
