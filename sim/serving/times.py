"""How long one iteration of an engine takes: a model of twelve numbers per GPU, model and tensor parallelism.

    t = max(a0 + a1 N + experts (1 - spared^N), b0 + b1 N)               dense layers: memory-bound or compute-bound
      + L (c0 + c1 B + c2 KV)            or  mix L (c1 B + c2 KV)        decode attention, alone or beside prefill
      + L (p0 + p1 sum max(chunk, floor) (ctx + chunk/2) + p2 sum chunk) prefill attention
      + head + host

With speculative decoding (Leviathan et al., "Fast inference from transformers via speculative decoding", ICML 2023)
each sequence has its drafts verified beside its next token, and an iteration yields `gain` tokens of it. A step stays
one token of each sequence: the part of it that is decoding is divided by the gain, what prompts add to it is not.

N tokens in the iteration, B sequences that decode, KV tokens that they attend to, L layers. A mixture of experts reads
those that some token wants: a token spares an expert with probability `spared`, so N of them read 1 - spared^N of all.
Kept in whole picoseconds.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Final, Literal

BLOCK_TOKENS: Final = 16  # vLLM's block size on GPUs
LARGEST_BLOCK: Final = 256  # that vLLM takes
GAIN_BITS: Final = 10  # of the fraction in which `gain` is kept
SPARED_BITS: Final = 20  # of the fraction in which `spared` is kept
_MIB: Final = 1 << 20
Basis = Literal["calibrated", "interpolated", "roofline"]


def experts_ps(experts: int, spared: int, tokens: int) -> int:
    """The experts' time x (1 - spared^tokens), in whole numbers so that machine code and Python agree."""
    if experts == 0:
        return 0
    left = 1 << SPARED_BITS
    while tokens:
        if tokens & 1:
            left = left * spared >> SPARED_BITS
        spared = spared * spared >> SPARED_BITS
        tokens >>= 1
    return (experts >> 10) * ((1 << SPARED_BITS) - left) >> (SPARED_BITS - 10)


@dataclass(frozen=True, slots=True)
class Times:
    """Picoseconds; the layers are multiplied in. `p1` is per (token x (2 ctx + chunk)), so half of the model's p1."""

    a0: int
    a1: int
    experts: int  #: all of them read; 0 for dense models
    spared: int  #: in units of 2^-SPARED_BITS: the share of the experts that one token does not use
    b0: int
    b1: int
    c0: int
    c1: int
    c2: int
    mixed_c1: int
    mixed_c2: int
    p0: int
    p1: int
    p2: int
    floor: int  #: tokens; a shorter prefill chunk costs as much as this one
    fixed: int  #: head + host
    drafts: int = 0  #: tokens that are verified beside each sequence's next one
    gain: int = 1 << GAIN_BITS  #: in units of 2^-GAIN_BITS: tokens of a sequence that an iteration yields

    def iteration_ps(self, decoding: int, kv_tokens: int, chunks: Iterable[tuple[int, int]] = ()) -> int:
        """`chunks`: (tokens, context before them) of each prefill in the iteration."""
        verified, attention, prefilled = decoding * (1 + self.drafts), 0, 0
        for chunk, context in chunks:
            prefilled += chunk
            attention += max(chunk, self.floor) * (2 * context + chunk)
        alone_ps = self._dense_ps(verified) + self.c0 + self.c1 * decoding
        step_ps = (alone_ps << GAIN_BITS) // self.gain
        if not prefilled:
            return step_ps + self.c2 * kv_tokens
        time_ps = self._dense_ps(verified + prefilled) + self.p0 + self.p1 * attention + self.p2 * prefilled
        return time_ps + self.mixed_c1 * decoding + self.mixed_c2 * kv_tokens - (alone_ps - step_ps)

    def _dense_ps(self, tokens: int) -> int:
        memory_ps = self.a0 + self.a1 * tokens + experts_ps(self.experts, self.spared, tokens)
        return max(memory_ps, self.b0 + self.b1 * tokens) + self.fixed

    def speculative(self, drafts: int, acceptance: float, draft_ps: int) -> "Times":
        """`acceptance`: of a draft, if those before it were; `draft_ps`: to make one, of the whole batch."""
        gain = round(sum(acceptance**i for i in range(drafts + 1)) * (1 << GAIN_BITS))
        c2 = (self.c2 << GAIN_BITS) // gain
        return replace(
            self,
            fixed=self.fixed + drafts * draft_ps,
            c2=c2,
            mixed_c2=max(0, self.mixed_c2 - (self.c2 - c2)),
            drafts=drafts,
            gain=gain,
        )

    def on_share(self, memory: Fraction, compute: Fraction) -> "Times":
        """On a part of the GPU: memory-bound terms grow by 1/memory, compute-bound ones by 1/compute.

        Launches and the host do not. The head is memory-bound, but small; it stays with the host.
        """

        def slower(ps: int, share: Fraction) -> int:
            return round(ps / share)

        return replace(
            self,
            **{
                name: slower(getattr(self, name), memory)
                for name in ("a0", "a1", "experts", "c1", "c2", "mixed_c1", "mixed_c2")
            },
            **{name: slower(getattr(self, name), compute) for name in ("b0", "b1", "p1", "p2")},
        )


@dataclass(frozen=True, slots=True)
class Engine:
    """A catalog entry: one model on one kind of GPU."""

    name: str
    gpu: str
    model: str
    tensor_parallel: int
    precision: str  #: of the weights
    basis: Basis
    source: str
    layers: int
    times: Times
    request_s: float  #: of a request outside the iterations: HTTP, tokenizer, the way to the client
    weights_mib: int  #: per GPU
    overhead_mib: int  #: per GPU: activations, graphs, the runtime
    kv_bytes_per_token: int  #: per GPU

    def kv_blocks(self, memory_mib: int, utilization: float, block_tokens: int = BLOCK_TOKENS) -> int:
        """Blocks that fit beside the weights; 0 or less: the model does not fit."""
        left_mib = memory_mib * utilization - self.weights_mib - self.overhead_mib
        return int(left_mib * _MIB // (block_tokens * self.kv_bytes_per_token))


def _ps(value: float, unit_ps: float) -> int:
    return round(value * unit_ps)


def parse(text: str) -> Engine:
    """One catalog file: milliseconds for the whole pass, microseconds for a layer."""
    entry = tomllib.loads(text)
    layers, dense, decode, prefill = entry["layers"], entry["dense_ms"], entry["decode_us"], entry["prefill_us"]
    per_layer, ms = layers * 1e6, 1e9
    mix = decode["mixed_factor"]
    times = Times(
        a0=_ps(dense["memory"][0], ms),
        a1=_ps(dense["memory"][1], ms),
        experts=_ps(dense.get("experts", 0.0), ms),
        spared=round(dense.get("spared", 0.0) * (1 << SPARED_BITS)),
        b0=_ps(dense["compute"][0], ms),
        b1=_ps(dense["compute"][1], ms),
        c0=_ps(decode["fixed"], per_layer),
        c1=_ps(decode["per_sequence"], per_layer),
        c2=_ps(decode["per_kv_token"], per_layer),
        mixed_c1=_ps(decode.get("mixed_per_sequence", decode["per_sequence"] * mix), per_layer),
        mixed_c2=_ps(decode["per_kv_token"] * mix, per_layer),
        p0=_ps(prefill["fixed"], per_layer),
        p1=_ps(prefill["per_token_pair"] / 2, per_layer),
        p2=_ps(prefill["per_token"], per_layer),
        floor=prefill["chunk_floor"],
        fixed=_ps(entry["head_ms"] + entry["host_ms"], ms),
    )
    memory = entry["memory"]
    return Engine(
        name=entry["name"],
        gpu=entry["gpu"],
        model=entry["model"],
        tensor_parallel=entry["tensor_parallel"],
        precision=entry["precision"],
        basis=entry["basis"],
        source=entry["source"],
        layers=layers,
        times=times,
        request_s=entry["request_ms"] / 1e3,
        weights_mib=memory["weights_mib"],
        overhead_mib=memory["overhead_mib"],
        kv_bytes_per_token=memory["kv_bytes_per_token"],
    )


@cache
def load() -> Mapping[str, Engine]:
    """Every engine by name; adding one is adding a file to `catalog/`."""
    folder = resources.files(__package__) / "catalog"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    engines = [parse(f.read_text("utf-8")) for f in files]
    return MappingProxyType({e.name: e for e in engines})
