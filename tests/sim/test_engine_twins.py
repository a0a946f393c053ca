"""The compiled engine answers exactly what the plain one answers: every time of every request, every counter."""

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sim.serving
from sim.serving.compiled import CompiledPool
from sim.serving.pool import NO_LIMIT, Pool, Shape
from sim.serving.reference import ReferencePool
from sim.serving.turns import Turns
from tests.sim.engines import SPECULATIVE, UNIT_PS, constant, loads, shape

ACTIONS = st.lists(
    st.tuples(st.sampled_from(["add", "drain", "remove", "read"]), st.integers(0, 30), st.integers(0, 3)), max_size=12
)
SHAPES = (
    st.builds(
        shape,
        kv_blocks=st.integers(11, 30),
        max_running=st.integers(1, 5),
        token_budget=st.integers(5, 64),
        times=st.sampled_from([shape().times, constant(UNIT_PS), constant(UNIT_PS // 2)]),
        max_requests=st.sampled_from([NO_LIMIT, NO_LIMIT, 1, 4]),
    )
    | st.builds(
        shape,
        kv_blocks=st.integers(11, 30),
        max_running=st.integers(1, 5),
        token_budget=st.integers(15, 64),
        times=st.just(SPECULATIVE),
    )
    | st.builds(
        shape,
        kv_blocks=st.integers(3, 60),
        max_running=st.integers(1, 5),
        token_budget=st.integers(5, 64),
        block_tokens=st.sampled_from([1, 8, 64, 128]),
    )
)


def act(pool: Pool, shapes: list[Shape], actions: list[tuple[str, int, int]]) -> list[object]:
    """What an onlooker sees while replicas come and go."""
    seen: list[object] = []
    slots = [pool.add(shapes[0])]
    now_ps = 0
    for action, wait, which in actions:
        now_ps += wait * UNIT_PS
        pool.run_until(now_ps)
        if action == "add":
            slots.append(pool.add(shapes[which % len(shapes)]))
        elif slots and action == "drain":
            pool.drain(slots[which % len(slots)])
        elif slots and action == "remove":
            seen.append(pool.remove(slots.pop(which % len(slots))))
        shown = pool.read(tuple(slots))
        seen.append(shown.table.tolist())
        seen.append([pool.held(), pool.held_sessions(), *[pool.load(s) for s in slots], slots])
    pool.run_until(now_ps + 3_000 * UNIT_PS)
    return [*seen, pool.totals().tolist()]


def assert_same(turns: Turns, shapes: list[Shape], actions: list[tuple[str, int, int]], twin: type[Pool]) -> None:
    plain, fast = ReferencePool(turns), twin(turns)  # type: ignore[call-arg]  # a protocol has no constructor
    np.testing.assert_equal(act(fast, shapes, actions), act(plain, shapes, actions))
    for name in ("status", "arrival_ps", "routed_ps", "scheduled_ps", "first_ps", "done_ps"):
        got, wanted = getattr(fast.outcome(), name), getattr(plain.outcome(), name)
        np.testing.assert_array_equal(got, wanted, err_msg=name)


@settings(deadline=None, max_examples=400)
@given(turns=loads(), shapes=st.lists(SHAPES, min_size=1, max_size=2), actions=ACTIONS)
def test_twins_agree_to_the_last_picosecond(
    turns: Turns, shapes: list[Shape], actions: list[tuple[str, int, int]]
) -> None:
    assert_same(turns, shapes, actions, CompiledPool)


@pytest.fixture(scope="module")
def uncompiled() -> Iterator[type[Pool]]:
    """The fast engine's own source, run by Python: the same steps can be traced line by line."""
    plain = ModuleType("sim.serving.jit")
    for name in ("compiled", "entry", "borrowed"):
        setattr(plain, name, lambda function: function)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "sim.serving.jit", plain)
        for name in ("heaps", "caches", "runs", "batches", "steps", "compiled"):
            spec = importlib.util.find_spec(f"sim.serving.{name}")
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, f"sim.serving.{name}", module)
            patch.setattr(sim.serving, name, module)
            spec.loader.exec_module(module)
        yield sys.modules["sim.serving.compiled"].CompiledPool


@settings(deadline=None, max_examples=60)
@given(turns=loads(), shapes=st.lists(SHAPES, min_size=1, max_size=2), actions=ACTIONS)
def test_the_compiled_source_says_the_same_uncompiled(
    uncompiled: type[Pool], turns: Turns, shapes: list[Shape], actions: list[tuple[str, int, int]]
) -> None:
    assert_same(turns, shapes, actions, uncompiled)
