"""The iteration model and its catalog; what a slice makes of it."""

from dataclasses import replace
from fractions import Fraction
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement import catalog as gpus
from extender.placement.allocation import Allocation, ContainerGrants, Grant, MigSlice, MpsShare, WholeGpu
from sim.cluster.placed import MPS_COSTS, EngineFitError, Limits, Sharing, shape_of, share_of, slowdown
from sim.serving.pool import Shape
from sim.serving.times import SPARED_BITS, experts_ps, load
from tests.sim.engines import SLOW_GROWTH

H100 = load()["h100-80-llama-3.1-8b"]
MS = 1e9


def published_ms(tokens: int, decoding: int, kv: int, chunks: list[tuple[int, int]]) -> float:
    """The same model in floating point, from the numbers as they are published."""
    dense = max(5.42 + 0.0054 * tokens, 1.32 + 0.0189 * tokens)
    if not chunks:
        return dense + 32e-3 * (9.1 + 0.172 * decoding + 0.001248 * kv) + 0.38 + 0.95
    decode = (0.172 * decoding + 0.001248 * kv) * 1.64
    pairs = sum(max(chunk, 256) * (context + chunk / 2) for chunk, context in chunks)
    prefill = 10.1 + 2.10e-5 * pairs + 0.00875 * sum(chunk for chunk, _ in chunks)
    return dense + 32e-3 * (decode + prefill) + 0.38 + 0.95


@pytest.mark.parametrize(
    ("decoding", "kv", "chunks"),
    [
        pytest.param(1, 100, [], id="one decodes: memory-bound"),
        pytest.param(256, 500_000, [], id="many decode"),
        pytest.param(0, 0, [(2048, 0)], id="a prompt: compute-bound"),
        pytest.param(64, 60_000, [(512, 8192), (100, 0)], id="mixed: two chunks, one below the floor"),
    ],
)
def test_picoseconds_keep_the_published_model(decoding: int, kv: int, chunks: list[tuple[int, int]]) -> None:
    tokens = decoding + sum(chunk for chunk, _ in chunks)
    wanted = published_ms(tokens, decoding, kv, chunks)
    assert H100.times.iteration_ps(decoding, kv, chunks) / MS == pytest.approx(wanted, rel=2e-3)


def test_an_iteration_grows_with_everything_in_it() -> None:
    base = SLOW_GROWTH.iteration_ps(4, 400, [(100, 0)])
    assert SLOW_GROWTH.iteration_ps(5, 400, [(100, 0)]) > base
    assert SLOW_GROWTH.iteration_ps(4, 401, [(100, 0)]) > base
    assert SLOW_GROWTH.iteration_ps(4, 400, [(101, 0)]) > base
    assert SLOW_GROWTH.iteration_ps(4, 400, [(100, 1)]) > base


def test_all_experts_are_read_in_the_end() -> None:
    """One token reads its own, a crowd all; between them the expected number of distinct ones."""
    mixture = load()["h100-80-gpt-oss-120b-tp4"].times
    for tokens in (1, 2, 7, 64, 1000):
        wanted = mixture.experts * (1 - (mixture.spared / 2**SPARED_BITS) ** tokens)
        assert experts_ps(mixture.experts, mixture.spared, tokens) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize(
    ("drafts", "acceptance", "gain"),
    [
        pytest.param(0, 0.9, 1.0, id="nothing drafted: as before"),
        pytest.param(4, 0.0, 1.0, id="nothing accepted: the sure token"),
        pytest.param(4, 0.8, 3.3616, id="1 + 0.8 + 0.64 + 0.512 + 0.4096"),
        pytest.param(3, 1.0, 4.0, id="all accepted"),
    ],
)
def test_drafts_that_are_accepted_shorten_the_step(drafts: int, acceptance: float, gain: float) -> None:
    """Leviathan et al., equation 1: (1 - a^(k+1)) / (1 - a) tokens an iteration, which has all drafts in it."""
    draft_ps = 1_000_000
    times = SLOW_GROWTH.speculative(drafts, acceptance, draft_ps)
    batch, kv = 3, 300
    widest = SLOW_GROWTH.iteration_ps(batch * (1 + drafts), 0) - SLOW_GROWTH.c1 * batch * drafts
    whole = widest + SLOW_GROWTH.c2 * kv + drafts * draft_ps
    assert times.iteration_ps(batch, kv) == pytest.approx(whole / gain, rel=2e-3)
    mixed = times.iteration_ps(batch, kv, [(40, 8)])
    assert mixed - times.iteration_ps(batch, kv) > 0
    if drafts == 0:
        assert times == SLOW_GROWTH


def test_drafts_need_their_places_in_the_budget() -> None:
    with pytest.raises(ValueError, match="token_budget 11 is below max_running 4 x 3"):
        Shape(SLOW_GROWTH.speculative(2, 0.5, 0), 10, 4, 11, 100)


def test_every_engine_of_the_catalog_is_complete() -> None:
    for name, engine in load().items():
        assert engine.name == name
        assert engine.source
        assert engine.basis in {"calibrated", "interpolated", "roofline"}
        assert engine.times.iteration_ps(1, 100) > 0
        assert engine.kv_blocks(81920, 0.9) > 0


def granted(*grants: Grant) -> Allocation:
    return Allocation((ContainerGrants("main", grants),))


A100 = load()["a100-80-llama-3.1-8b"]
GPU = gpus.load()["a100-80"]
LIMITS = Limits(max_num_seqs=32, max_num_batched_tokens=2048, max_model_len=100_000, gpu_memory_utilization=0.9)


@pytest.mark.parametrize(
    ("grant", "share"),
    [
        pytest.param(MigSlice("GPU-0", "3g.40gb", 0, 4), Fraction(1, 2), id="half the memory, 3/7 of compute: half"),
        pytest.param(MigSlice("GPU-0", "1g.10gb", 0, 1), Fraction(1, 7), id="1/8 of memory, 1/7 of compute: 1/7"),
        pytest.param(MigSlice("GPU-0", "7g.80gb", 0, 8), Fraction(1), id="all of it"),
        pytest.param(MpsShare("GPU-0", 20480, 50), Fraction(1, 2), id="a quarter of memory, half of compute: half"),
        pytest.param(WholeGpu("GPU-0"), Fraction(1), id="whole"),
    ],
)
def test_what_a_pod_takes_of_a_gpu(grant: Grant, share: Fraction) -> None:
    assert share_of(granted(grant), GPU) == share
    assert share_of(granted(grant, WholeGpu("GPU-1")), GPU) == share + 1


def test_a_slice_is_slower_where_the_hardware_is_divided() -> None:
    whole = shape_of(A100, LIMITS, granted(WholeGpu("GPU-0")), GPU)
    half = shape_of(A100, LIMITS, granted(MigSlice("GPU-0", "3g.40gb", 0, 4)), GPU)
    assert half.times.a0 == 2 * whole.times.a0
    assert half.times.b1 == round(whole.times.b1 * 108 / 42), "in SMs: a slice of three has not 3/7 of them"
    assert (half.times.fixed, half.times.c0) == (whole.times.fixed, whole.times.c0)
    assert half.kv_blocks < whole.kv_blocks / 2
    assert half.context_tokens == 100_000


def test_mps_shares_slow_each_other() -> None:
    half = shape_of(A100, LIMITS, granted(MpsShare("GPU-0", 40960, 50)), GPU)
    assert A100.times.a0 < half.times.a0 < 2 * A100.times.a0
    assert half.times.b0 == A100.times.b0 * 2


@pytest.mark.parametrize(
    ("sharing", "memory", "compute"),
    [
        pytest.param(Sharing(interference="none"), 1, 4, id="beside each other, undisturbed: the percentage alone"),
        pytest.param(Sharing(interference="pessimistic"), 4, 4, id="all read all the time"),
        pytest.param(Sharing("time-slicing", "none"), 4, 4, id="by turns"),
        pytest.param(Sharing("time-slicing", "pessimistic"), 4.28, 4.28, id="by turns, with what switching costs"),
    ],
)
def test_what_four_that_share_a_gpu_do_to_one_another(sharing: Sharing, memory: float, compute: float) -> None:
    quarter = shape_of(A100, LIMITS, granted(MpsShare("GPU-0", 40960, 25)), GPU, sharing).times
    assert quarter.a0 == pytest.approx(A100.times.a0 * memory, rel=1e-6)
    assert quarter.b1 == pytest.approx(A100.times.b1 * compute, rel=1e-6)
    assert quarter.fixed == A100.times.fixed, "the host is another machine"


@pytest.mark.parametrize("by", ["mps", "time-slicing"])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_the_measured_interference_lies_between_none_and_all(by: Literal["mps", "time-slicing"], parts: int) -> None:
    part = Fraction(1, parts)
    least, table, most = (
        Sharing(by, interference).slowed(A100.times, part).a0 for interference in ("none", "table", "pessimistic")
    )
    assert least <= table <= most if by == "mps" else table <= most
    assert (table > A100.times.a0) == (parts > 1)


@given(on_gpu=st.integers(1, 10**11), host=st.integers(0, 10**11), cost=st.fractions(0, 20, max_denominator=100))
def test_neighbours_cost_as_much_as_they_keep_the_gpu_busy(on_gpu: int, host: int, cost: Fraction) -> None:
    """The slowdown solves its own equation: who is slowed down is on the GPU for longer, and slows down the others."""
    slowed = slowdown(replace(H100.times, a0=on_gpu, a1=0, b0=0, b1=0, c0=0, c1=0, fixed=host), cost)
    busy = slowed * on_gpu / (slowed * on_gpu + host)
    assert float(slowed) == pytest.approx(float(1 + cost * busy), rel=1e-6)


@pytest.mark.parametrize(
    ("alone_ms", "engines", "measured"),
    [
        pytest.param(7.23, 2, 1.43, id="8B, 8 sequences, two"),
        pytest.param(7.23, 3, 2.13, id="8B, 8 sequences, three"),
        pytest.param(8.64, 2, 1.62, id="8B, 32 sequences, two"),
        pytest.param(8.64, 3, 2.15, id="8B, 32 sequences, three"),
    ],
)
def test_what_an_h100_showed_under_mps_is_foretold(alone_ms: float, engines: int, measured: float) -> None:
    """bench/gpu: decoders of Llama 8B's shapes that leave the GPU alone for 3 ms after each step."""
    times = replace(H100.times, a0=round(alone_ms * MS), a1=0, b0=0, b1=0, c0=0, c1=0, fixed=round(3 * MS))
    assert float(slowdown(times, MPS_COSTS * (engines - 1))) == pytest.approx(measured, rel=0.1)


def test_an_engine_without_room_is_refused() -> None:
    with pytest.raises(EngineFitError, match="needs 17365 MiB"):
        shape_of(A100, LIMITS, granted(MigSlice("GPU-0", "1g.10gb", 0, 1)), GPU)
    with pytest.raises(EngineFitError, match=r"no profile 9g\.90gb"):
        shape_of(A100, LIMITS, granted(MigSlice("GPU-0", "9g.90gb", 0, 1)), GPU)


def test_the_context_is_no_longer_than_the_cache() -> None:
    wide = Limits(max_num_seqs=8, max_num_batched_tokens=2048, max_model_len=10**9, gpu_memory_utilization=0.9)
    shape = shape_of(A100, wide, granted(WholeGpu("GPU-0")), GPU)
    assert shape.context_tokens == shape.kv_blocks * 16


def test_a_budget_below_the_batch_is_refused_as_vllm_does() -> None:
    with pytest.raises(ValueError, match="token_budget 3 is below max_running 4"):
        Shape(SLOW_GROWTH, 10, 4, 3, 100)


@pytest.mark.parametrize("tokens", [0, 24, 512])
def test_a_block_that_vllm_does_not_have_is_refused(tokens: int) -> None:
    with pytest.raises(ValueError, match=f"block_tokens {tokens}: want a power of two, at most 256"):
        Shape(SLOW_GROWTH, 10, 4, 8, 100, block_tokens=tokens)
