"""Small engines and loads for the tests of the serving model."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from hypothesis import strategies as st

from sim.serving.pool import NO_LIMIT, Shape
from sim.serving.times import BLOCK_TOKENS, Times
from sim.serving.turns import NO_SESSION, Turns

UNIT_PS = 1_000_000_000  # a millisecond

SLOW_GROWTH = Times(
    a0=5 * UNIT_PS,
    a1=UNIT_PS // 100,
    experts=UNIT_PS // 2,
    spared=(1 << 20) * 15 // 16,
    b0=UNIT_PS,
    b1=UNIT_PS // 30,
    c0=UNIT_PS // 5,
    c1=UNIT_PS // 50,
    c2=777_777,
    mixed_c1=UNIT_PS // 40,
    mixed_c2=1_000_001,
    p0=UNIT_PS // 7,
    p1=333,
    p2=9_999,
    floor=4,
    fixed=UNIT_PS // 3,
)


SPECULATIVE = SLOW_GROWTH.speculative(2, 0.7, UNIT_PS // 9)


def constant(iteration_ps: int) -> Times:
    """Every iteration takes the same time, whatever is in it."""
    nothing = dict.fromkeys(asdict(SLOW_GROWTH), 0)
    return Times(**(nothing | {"a0": iteration_ps, "floor": 1, "gain": SLOW_GROWTH.gain}))


def shape(
    *,
    times: Times = SLOW_GROWTH,
    kv_blocks: int = 40,
    max_running: int = 4,
    token_budget: int = 24,
    context: int = 10_000,
    max_requests: int = NO_LIMIT,
    block_tokens: int = BLOCK_TOKENS,
) -> Shape:
    return Shape(times, kv_blocks, max_running, token_budget, context, max_requests, block_tokens)


def turns(rows: Sequence[tuple[int, int, int, int, bool]], common_tokens: int = 0) -> Turns:
    """Rows (session, arrival or wait in ps, prompt, output, human); rows of a session stand together."""
    session = np.array([r[0] for r in rows], np.int64)
    later = np.array([i > 0 and r[0] == rows[i - 1][0] != NO_SESSION for i, r in enumerate(rows)], np.bool_)
    when = np.array([r[1] for r in rows], np.int64)
    return Turns(
        prompt=np.array([r[2] for r in rows], np.int32),
        output=np.array([r[3] for r in rows], np.int32),
        session=session,
        arrival_ps=np.where(later, -1, when),
        wait_ps=np.where(later, when, 0),
        human=np.array([r[4] for r in rows], np.bool_),
        follows=np.append(later[1:], np.False_),
        common_tokens=common_tokens,
    )


@st.composite
def loads(draw: st.DrawFn) -> Turns:
    """A few sessions and single requests, close enough together to meet, to wait and to be preempted."""
    rows: list[tuple[int, int, int, int, bool]] = []
    sessions = 0
    for _ in range(draw(st.integers(1, 12))):
        when = draw(st.integers(0, 60)) * UNIT_PS
        prompt = draw(st.integers(1, 120))
        if draw(st.booleans()):
            rows.append((NO_SESSION, when, prompt, draw(st.integers(1, 60)), False))
            continue
        for _ in range(draw(st.integers(1, 5))):
            output = draw(st.integers(1, 40))
            rows.append((sessions, when, prompt, output, draw(st.booleans())))
            when = draw(st.sampled_from([0, 1, UNIT_PS, 20 * UNIT_PS]))
            prompt = max(1, prompt + output + draw(st.integers(-60, 60)))
        sessions += 1
    common = draw(st.sampled_from([0, 0, 16, 40, 64]))
    return turns([(s, when, prompt + common, output, human) for s, when, prompt, output, human in rows], common)
