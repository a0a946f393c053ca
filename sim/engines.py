"""An engine by its name: one of the catalog's, or a roofline whose name says all that it needs."""

import re
from typing import Final

from sim.serving.find import find
from sim.serving.known import known, specs
from sim.serving.times import Engine, load

_PARTS: Final = re.compile(r"-(bf16|fp8|fp4)-tp([1248])$")


def engine_of(name: str) -> Engine | None:
    """`h100-80-llama-3.1-8b`, or `l40s-llama-3.1-8b-bf16-tp1`; None where nothing is known of it."""
    if name in load():
        return load()[name]
    parts = _PARTS.search(name)
    if parts is None:
        return None
    for gpu in specs("gpus"):
        model = name[: parts.start()].removeprefix(f"{gpu}-")
        if name.startswith(f"{gpu}-") and model in specs("models"):
            return find(known(gpu, model, int(parts[2]), parts[1]))
    return None


def how_to_name() -> str:
    """What there is, and how to add one."""
    return (
        f"there are {', '.join(load())}; add one as a file of sim/serving/catalog, or name a roofline by GPU, model, "
        f"precision and tensor parallelism, such as l40s-llama-3.1-8b-bf16-tp1: GPUs {', '.join(specs('gpus'))}; "
        f"models {', '.join(specs('models'))}"
    )
