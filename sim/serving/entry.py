"""A catalog entry as text: what `slicewise sim calibrate --write` leaves, and `times.parse` reads."""

from sim.serving.times import SPARED_BITS, Engine


def text(engine: Engine) -> str:
    """TOML; milliseconds for the whole pass, microseconds for a layer."""
    t, layer, ms = engine.times, engine.layers * 1e6, 1e9
    experts = f"experts = {t.experts / ms:.6g}\nspared = {t.spared / (1 << SPARED_BITS):.6f}\n" if t.experts else ""
    return f"""\
name = "{engine.name}"
gpu = "{engine.gpu}"
model = "{engine.model}"
tensor_parallel = {engine.tensor_parallel}
precision = "{engine.precision}"
basis = "{engine.basis}"
source = "{engine.source}"
layers = {engine.layers}
head_ms = 0.0
host_ms = {t.fixed / ms:.6g}
request_ms = {engine.request_s * 1e3:.4g}

[dense_ms]  # [at no token, per token of the iteration]
memory = [{t.a0 / ms:.6g}, {t.a1 / ms:.6g}]
compute = [{t.b0 / ms:.6g}, {t.b1 / ms:.6g}]
{experts}
[decode_us]  # per layer
fixed = {t.c0 / layer:.6g}
per_sequence = {t.c1 / layer:.6g}
mixed_per_sequence = {t.mixed_c1 / layer:.6g}
per_kv_token = {t.c2 / layer:.6g}
mixed_factor = {t.mixed_c2 / t.c2 if t.c2 else 1.0:.6g}

[prefill_us]  # per layer
fixed = {t.p0 / layer:.6g}
per_token_pair = {2 * t.p1 / layer:.6g}
per_token = {t.p2 / layer:.6g}
chunk_floor = {t.floor}

[memory]  # per GPU
weights_mib = {engine.weights_mib}
overhead_mib = {engine.overhead_mib}
kv_bytes_per_token = {engine.kv_bytes_per_token}
"""
