"""An engine from datasheets alone, where nothing was measured: tagged `roofline`, and a start for calibration."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sim.serving.known import Known
from sim.serving.times import SPARED_BITS, Engine, Times

BITS: Final = {"bf16": 16.0, "fp8": 8.0, "fp4": 4.25}  # fp4 with a scale of 8 bits every 32 weights (MXFP4)
KV_BYTES: Final = 2  # keys and values are kept in 16 bits
OVERHEAD_MIB: Final = 3072
MS, US, LAYER_US = 1e9, 1e6, 1e6  # picoseconds


@dataclass(frozen=True, slots=True)
class Reached:
    """Which shares of the datasheets' numbers engines reach, and what nobody's datasheet has.

    The defaults are one fit to 225 closed-loop measurements of vLLM on H100 (dense and mixtures, bf16, fp8 and fp4, 2
    to 8 GPUs; ai-dynamo/aiconfigurator 095f58a silicon_sample.csv). With the specifications as they are now, its 234
    rows of such models are met within 5.7 % in the mean, time per output token.
    """

    weights: float = 0.92  #: of the bandwidth, for weights that every token uses
    experts: float = 0.85  #: of the bandwidth, for those of experts
    dense: float = 0.70  #: of the arithmetic
    mixture: float = 0.108  #: of the arithmetic, in experts
    kv: float = 0.80  #: of the bandwidth
    pairs: float = 0.67  #: of 16-bit arithmetic, in prefill attention
    host_ms: float = 0.4  #: a pass: scheduler, sampler, the way to the GPU and back
    rank_ms: float = 0.15  #: more for every doubling of GPUs
    layer_us: float = 9.0  #: launches that graphs do not hide
    sequence_us: float = 0.17  #: of a layer, a sequence that decodes
    answer_us: float = 17.0  #: of the host, a sequence that decodes: sampling, detokenizing, sending
    token_us: float = 0.0089  #: of a layer, a token of a prompt
    prefill_us: float = 105.0  #: of a layer that has a prompt
    reduce_us: float = 26.5  #: an all-reduce of nothing; two a layer
    link: float = 0.59  #: of the link's bandwidth, all-reduces of many tokens
    mix: float = 1.86  #: decode attention beside a prompt
    request_s: float = 0.039  #: HTTP, tokenizer, the way to the client


MEASURED: Final = Reached()


def roofline(known: Known, reached: Reached = MEASURED) -> Engine:
    gpu, model, tp, precision = known.gpu, known.model, known.tensor_parallel, known.precision
    layers, bandwidth = model["layers"], gpu["tb_per_s"] * 1e12
    dense, experts = _weights(model, precision)
    used = model.get("experts_used", 0) / model.get("experts", 1)
    reduce_ps, reduce_token_ps = _reduce(gpu, model, tp, reached)
    kv_bytes = 2 * model["kv_heads"] * model["head_dim"] * KV_BYTES / tp
    full = model["full_attention"]
    kv_ps = kv_bytes / (bandwidth * reached.kv) * 1e12 * full
    window_ps = kv_bytes / (bandwidth * reached.kv) * 1e12 * (layers - full) * model.get("window", 0)
    pair_ps = 4 * model["heads"] * model["head_dim"] / tp / (gpu["tflops"]["bf16"] * reached.pairs) * full
    sequence_ps = reached.sequence_us * US * layers / tp + window_ps + reached.answer_us * US
    base_ps = dense / tp / (bandwidth * reached.weights) * 1e12
    times = Times(
        a0=round(base_ps + reduce_ps),
        a1=round(0.001 * base_ps + reduce_token_ps),
        experts=round(experts / tp / (bandwidth * reached.experts) * 1e12),
        spared=round((1 - used) * (1 << SPARED_BITS)) if experts else 0,
        b0=round(0.2 * base_ps + reduce_ps),
        b1=round(_arithmetic_ps(gpu, model, precision, tp, reached) + reduce_token_ps),
        c0=round(reached.layer_us * US * layers),
        c1=round(sequence_ps),
        c2=round(kv_ps),
        mixed_c1=round(sequence_ps),
        mixed_c2=round(kv_ps * reached.mix),
        p0=round(reached.prefill_us * US * layers),
        p1=round(pair_ps / 2),
        p2=round(reached.token_us * US * layers / tp),
        floor=256,
        fixed=round((reached.host_ms + reached.rank_ms * (tp.bit_length() - 1)) * MS),
    )
    return Engine(
        name=known.name,
        gpu=known.gpu_name,
        model=known.model_name,
        tensor_parallel=tp,
        precision=precision,
        basis="roofline",
        source="datasheets: sim/serving/specs",
        layers=layers,
        times=times,
        request_s=reached.request_s,
        weights_mib=round((dense + experts) / tp / 2**20),
        overhead_mib=OVERHEAD_MIB,
        kv_bytes_per_token=round(kv_bytes * full),
    )


def _weights(model: Mapping[str, Any], precision: str) -> tuple[float, float]:
    """Bytes that every token reads, and bytes of all experts."""
    dense = model["billions"] * 1e9 * BITS[model.get("dense_precision", precision)] / 8
    return dense, model.get("expert_billions", 0.0) * 1e9 * BITS[precision] / 8


def _reduce(gpu: Mapping[str, Any], model: Mapping[str, Any], tp: int, reached: Reached) -> tuple[float, float]:
    """Two all-reduces a layer, picoseconds of a pass and of a token in it."""
    if tp == 1:
        return 0.0, 0.0
    count = 2 * model["layers"]
    token_bytes = 2 * model["hidden"] * 2 * (tp - 1) / tp
    return count * reached.reduce_us * US, count * token_bytes / (gpu["link_gb_per_s"] * 1e9 * reached.link) * 1e12


def _arithmetic_ps(
    gpu: Mapping[str, Any], model: Mapping[str, Any], precision: str, tp: int, reached: Reached
) -> float:
    """Of one token: two operations a parameter that it uses."""
    tflops = gpu["tflops"]
    dense = model["billions"] / (tflops[model.get("dense_precision", precision)] * reached.dense)
    used = model.get("expert_billions", 0.0) * model.get("experts_used", 0) / model.get("experts", 1)
    return 2e9 * float(dense + used / (tflops[precision] * reached.mixture)) / tp
