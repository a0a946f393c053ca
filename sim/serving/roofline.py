"""An engine from datasheets alone, where nothing was measured: tagged `roofline`, and a start for calibration.

The shares of the datasheets' numbers that engines reach are those of the catalog's measured entries: 0.83 of the
bandwidth for weights, 0.85 of the arithmetic, 0.9 of the bandwidth for KV; host, launches and the two all-reduces of a
layer as on H100 (10 us each, and 145 GB/s).
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

from sim.serving.times import NO_CAP_MS, Engine, Times, load

WEIGHTS, ARITHMETIC, KV = 0.83, 0.85, 0.9
BYTES: Final = MappingProxyType({"bf16": 2.0, "fp8": 1.0, "fp4": 0.53})
HOST_MS: Final = MappingProxyType({1: 1.25, 2: 1.83, 4: 2.29, 8: 2.51})  # fitted on H100, see the catalog
KV_BYTES = 2  # keys and values are kept in 16 bits
LAYER_US, SEQUENCE_US, PREFILL_US, FLOOR = 9.3, 0.17, 10.1, 256
DENSE_SLOPE = 0.001  # of the time at no token, per token
REDUCE_US, REDUCE_GB_PER_S = 10.0, 145.0
MIX = 1.64
REQUEST_S = 0.012
OVERHEAD_MIB = 3072


class UnknownError(ValueError):
    """A GPU, a model or a parallelism of which nothing is known; the message says what is, and how to add one."""


@cache
def specs(kind: str) -> Mapping[str, Any]:
    """`gpus` or `models`, by name."""
    file = resources.files(__package__) / "specs" / f"{kind}.toml"
    return MappingProxyType(tomllib.loads(file.read_text("utf-8")))


def find(gpu: str, model: str, tensor_parallel: int, precision: str) -> Engine:
    """The catalog's entry, or a roofline. Raises `UnknownError`."""
    for engine in load().values():
        if (engine.gpu, engine.model, engine.tensor_parallel) == (gpu, model, tensor_parallel) and (
            engine.precision == precision
        ):
            return engine
    return roofline(gpu, model, tensor_parallel, precision)


def roofline(gpu: str, model: str, tensor_parallel: int, precision: str) -> Engine:
    hardware, shape = _known("gpus", gpu), _known("models", model)
    if precision not in BYTES:
        raise UnknownError(f"no such precision: {precision}; there are {', '.join(BYTES)}")
    if tensor_parallel not in HOST_MS:
        raise UnknownError(f"no such tensor parallelism: {tensor_parallel}; there are {', '.join(map(str, HOST_MS))}")
    byte_ms = BYTES[precision] / tensor_parallel / (hardware["tb_per_s"] * WEIGHTS)  # per billion parameters
    experts, used = shape.get("experts", 1), shape.get("experts_used", 0)
    in_experts = shape.get("expert_billions", 0.0)
    each = in_experts / experts
    read_first, read_all = shape["billions"] + used * each, shape["billions"] + in_experts
    # with N tokens 1 - (1 - used/experts)^N of the experts are read; a line through 1 and 32 of them
    read_32 = shape["billions"] + in_experts * (1 - (1 - used / experts) ** 32)
    arithmetic_ms = 2 * read_first / tensor_parallel / (hardware["tflops"][precision] * ARITHMETIC)
    layers, full = shape["layers"], shape["full_attention"]
    reduces = 2 * layers if tensor_parallel > 1 else 0
    reduce_ms = reduces * shape["hidden"] * 2 / REDUCE_GB_PER_S / 1e6  # per token
    kv_bytes = 2 * shape["kv_heads"] * shape["head_dim"] * KV_BYTES / tensor_parallel
    kv_us = kv_bytes / (hardware["tb_per_s"] * KV) / 1e6 * full / layers
    pair_us = 4 * 4 * kv_bytes / KV_BYTES / (hardware["tflops"]["bf16"] * 0.5) / 1e6 * full / layers
    ms, per_layer = 1e9, layers * 1e6
    times = Times(
        a0=round((read_first * byte_ms + reduces * REDUCE_US / 1e3) * ms),
        a1=round((((read_32 - read_first) / 31 + DENSE_SLOPE * read_first) * byte_ms + reduce_ms) * ms),
        cap=round((read_all * byte_ms if in_experts else NO_CAP_MS) * ms),
        b0=round((0.2 * read_first * byte_ms + reduces * REDUCE_US / 1e3) * ms),
        b1=round((arithmetic_ms + reduce_ms) * ms),
        c0=round(LAYER_US * per_layer),
        c1=round(SEQUENCE_US / tensor_parallel * per_layer),
        c2=round(kv_us * per_layer),
        mixed_c1=round(SEQUENCE_US / tensor_parallel * MIX * per_layer),
        mixed_c2=round(kv_us * MIX * per_layer),
        p0=round(PREFILL_US * per_layer),
        p1=round(pair_us / 2 * per_layer),
        p2=round(0.0088 / tensor_parallel * per_layer),
        floor=FLOOR,
        fixed=round((HOST_MS[tensor_parallel] + 0.2) * ms),
    )
    return Engine(
        name=f"{gpu}-{model}-{precision}-tp{tensor_parallel}",
        gpu=gpu,
        model=model,
        tensor_parallel=tensor_parallel,
        precision=precision,
        basis="roofline",
        source="datasheets: sim/serving/specs",
        layers=layers,
        times=times,
        request_s=REQUEST_S,
        weights_mib=round(read_all * 1e9 * BYTES[precision] / tensor_parallel / 2**20),
        overhead_mib=OVERHEAD_MIB,
        kv_bytes_per_token=round(kv_bytes * layers),
    )


def _known(kind: str, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] | None = specs(kind).get(name)
    if found is None:
        known = ", ".join(specs(kind))
        raise UnknownError(
            f"nothing is known of {name!r}; known {kind}: {known}; add one to sim/serving/specs/{kind}.toml"
        )
    return found
