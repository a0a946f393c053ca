"""Instructions and tools that all prompts begin with: computed once by a replica, held once, found by every request."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.serving.compiled import CompiledPool
from sim.serving.pool import Counter, Gauge, Pool
from sim.serving.reference import ReferencePool
from sim.serving.turns import NO_SESSION, Turns
from tests.sim.engines import UNIT_PS, constant, shape, turns

ENGINES = pytest.mark.parametrize("engine", [ReferencePool, CompiledPool])
ALONE = constant(UNIT_PS)
COMMON = 64  # four blocks


def requests(*arrivals_ms: int, prompt: int = COMMON + 16, output: int = 8, common: int = COMMON) -> Turns:
    return turns([(NO_SESSION, at * UNIT_PS, prompt, output, False) for at in arrivals_ms], common)


def totals(pool: Pool) -> tuple[int, int]:
    """Prompt tokens computed, and found."""
    found = pool.totals()
    return int(found[Counter.PROMPT_TOKENS]), int(found[Counter.CACHED_TOKENS])


@ENGINES
@pytest.mark.parametrize(
    ("load", "computed"),
    [
        pytest.param(requests(0, 500), 80 + 16, id="the second computes its own part only, strangers though they are"),
        pytest.param(requests(0, 0), 80 + 16, id="so does one that begins in the same iteration"),
        pytest.param(requests(0, 0, prompt=COMMON + 400), 464 + 400, id="and one that begins while it is half done"),
        pytest.param(requests(0, 500, common=0), 80 + 80, id="nothing in common is nothing found"),
        pytest.param(requests(0, 500, common=15), 80 + 80, id="less than a block is not found"),
        pytest.param(requests(0, 500, common=79), 80 + 16, id="of a prompt the last token is always computed"),
    ],
)
def test_what_is_computed(engine: type[Pool], load: Turns, computed: int) -> None:
    pool = engine(load)  # type: ignore[call-arg]  # a protocol has no constructor
    pool.add(shape(times=ALONE, kv_blocks=100, token_budget=400))
    pool.run_until(1_000 * UNIT_PS)
    assert totals(pool) == (computed, int(load.prompt.sum()) - computed)


@ENGINES
def test_it_is_held_once_and_more_requests_fit(engine: type[Pool]) -> None:
    load = requests(0, *[500] * 6, output=40)
    pool = engine(load)  # type: ignore[call-arg]
    slot = pool.add(shape(times=ALONE, kv_blocks=16, max_running=9, token_budget=400))
    pool.run_until(503 * UNIT_PS)
    shown = pool.read((slot,))
    assert shown.gauge(Gauge.RUNNING).tolist() == [6], (
        "each needs two blocks of its own; alone five would need one more"
    )
    assert shown.gauge(Gauge.KV_USED).tolist() == [4 + 6 * 2]


@ENGINES
def test_a_new_replica_computes_it_anew_and_a_session_loses_what_it_had(engine: type[Pool]) -> None:
    rows = [(0, 0, 80, 16, False), (0, 400 * UNIT_PS, 112, 8, False)]
    pool = engine(turns(rows, COMMON))  # type: ignore[call-arg]
    slot = pool.add(shape(times=ALONE, kv_blocks=100, token_budget=400))
    pool.run_until(200 * UNIT_PS)
    pool.remove(slot)
    pool.add(shape(times=ALONE, kv_blocks=100, token_budget=400))
    pool.run_until(1_000 * UNIT_PS)
    assert totals(pool) == (80 + 112, 0)
    assert pool.totals()[Counter.LOST_TOKENS] == 80, "five whole blocks of the first turn's 95 tokens"


@ENGINES
def test_only_a_sessions_own_part_is_lost_where_others_keep_the_rest(engine: type[Pool]) -> None:
    """Its own replica goes; the one that it comes to has served a stranger."""
    rows = [(0, 0, 80, 16, False), (0, 400 * UNIT_PS, 112, 8, False), (NO_SESSION, UNIT_PS, 80, 8, False)]
    pool = engine(turns(rows, COMMON))  # type: ignore[call-arg]
    slots = [pool.add(shape(times=ALONE, kv_blocks=100, token_budget=400)) for _ in range(2)]
    pool.run_until(200 * UNIT_PS)
    pool.remove(slots[0])
    pool.run_until(1_000 * UNIT_PS)
    assert totals(pool) == (80 + 80 + 112 - COMMON, COMMON)
    assert pool.totals()[Counter.LOST_TOKENS] == 16


@given(prompts=st.lists(st.integers(1, 90), min_size=1, max_size=12), common=st.integers(0, 200))
def test_a_load_says_which_prompt_is_too_short(prompts: list[int], common: int) -> None:
    rows = [(NO_SESSION, 0, prompt, 1, False) for prompt in prompts]
    if common < min(prompts):
        assert turns(rows, common).common_tokens == common
    else:
        with pytest.raises(ValueError, match=f"less than the shortest prompt, {min(prompts)}, got {common}"):
            turns(rows, common)


@given(
    common=st.sampled_from([0, 16, 64, 100]),
    own=st.lists(st.integers(1, 60), min_size=1, max_size=10),
    gap_ms=st.integers(0, 40),
)
def test_every_prompt_is_computed_or_found_and_no_more_is_computed_than_alone(
    common: int, own: list[int], gap_ms: int
) -> None:
    """With room for all and one at a time nothing gives way, so that the sums are exact."""
    rows = [(NO_SESSION, i * gap_ms * UNIT_PS, common + tokens, 4, False) for i, tokens in enumerate(own)]
    pool = ReferencePool(turns(rows, common))
    pool.add(shape(times=ALONE, kv_blocks=400, max_running=1, token_budget=200))
    pool.run_until(10_000 * UNIT_PS)
    computed, found = totals(pool)
    assert computed + found == sum(common + tokens for tokens in own)
    assert found == (len(own) - 1) * (common // 16) * 16
    assert np.all(pool.outcome().done_ps >= 0)
