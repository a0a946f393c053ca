"""An engine by its name: one of the catalog's, or one whose name says all that is needed to work it out."""

import re
from collections.abc import Mapping
from typing import Final

from sim.serving.find import find
from sim.serving.known import UnknownError, canonical, known, specs
from sim.serving.times import Engine, load

_PARTS: Final = re.compile(r"(?P<model>.+?)(-(?P<precision>bf16|fp8|fp4))?(-tp(?P<tp>[1248]))?")


def engine_of(name: str) -> Engine | None:
    """`h100-80-llama-3.1-8b`, or `a100-80-qwen3-14b-fp8-tp1`; None where nothing is known of it.

    What is not said: the precision that the model is published in, and one GPU.
    """
    if name in load():
        return load()[name]
    for gpu in sorted(specs("gpus"), key=len, reverse=True):
        parts = _PARTS.fullmatch(name.removeprefix(f"{gpu}-")) if name.startswith(f"{gpu}-") else None
        if parts is None:
            continue
        try:
            model = canonical("models", parts["model"])
        except UnknownError:
            continue
        return find(known(gpu, model, int(parts["tp"] or 1), parts["precision"]))
    return None


def how_to_name() -> str:
    """What there is, and how to add one."""
    return (
        f"there are {', '.join(load())}; add one as a file of sim/serving/catalog, or name one by its GPU, model, "
        f"precision and tensor parallelism, such as a100-80-qwen3-14b-fp8-tp1: GPUs {', '.join(specs('gpus'))}; "
        f"models {', '.join(specs('models'))}"
    )


def replaced_by_catalog(served: object) -> None:
    """Scenarios could say `served: {model, gpu, tensorParallel, precision}`. Raises `ValueError` with what to write."""
    if served is None:
        return
    told: Mapping[str, object] = served if isinstance(served, Mapping) else {}
    try:
        precision = told.get("precision")
        name = known(
            str(told["gpu"]),
            str(told["model"]),
            int(str(told.get("tensorParallel", 1))),
            None if precision is None else str(precision),
        ).name
    except (KeyError, ValueError):
        raise ValueError(f"is no field any more; name the engine instead in catalog: {how_to_name()}") from None
    raise ValueError(f"is no field any more; name the engine instead, catalog: {name}")
