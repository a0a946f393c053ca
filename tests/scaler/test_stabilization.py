"""Damping by stories: one line a tick of 15 s."""

import pytest

from scaler.policy.base import Recommendation
from scaler.policy.stabilization import NO_PAST, Past, Windows, damp

TICK_S = 15.0
Tick = tuple[int | None, int | None, bool]  # wanted, current, in doubt


def play(
    ticks: list[Tick], windows: Windows, past: Past = NO_PAST, every_s: float = TICK_S
) -> list[tuple[int | None, str]]:
    """Answer and the rules that acted, tick by tick."""
    told = []
    for n, (wanted, current, doubt) in enumerate(ticks):
        wish = Recommendation(replicas=wanted, steps=(), doubts=("half",) if doubt or wanted is None else ())
        answer, steps, past = damp(wish, windows, now_s=n * every_s, past=past, current=current)
        told.append((answer, " ".join(step.rule for step in steps)))
    return told


def sure(*wanted: int, current: int | None = 3) -> list[Tick]:
    return [(n, current, False) for n in wanted]


DOWN = Windows(up_s=0, down_s=30, gap_s=60)
UP = Windows(up_s=30, down_s=0, gap_s=60)
NONE = Windows(up_s=0, down_s=0, gap_s=60)


@pytest.mark.parametrize(
    ("windows", "ticks", "want"),
    [
        pytest.param(NONE, sure(5, 2, 7), [(5, ""), (2, ""), (7, "")], id="no windows: the recommendation"),
        pytest.param(
            DOWN,
            sure(1, 1, 1),
            [(3, "warm-up"), (3, "warm-up"), (1, "")],
            id="a new process does not go below what runs before its window is filled",
        ),
        pytest.param(DOWN, sure(8, 9), [(8, ""), (9, "")], id="a new process may go up at once"),
        pytest.param(
            DOWN,
            sure(8, 2, 2, 2),
            [(8, ""), (8, "stabilization-down"), (8, "stabilization-down"), (2, "")],
            id="down to the highest of the window: a peak is kept for as long",
        ),
        pytest.param(
            UP,
            sure(8, 8, 8, 2, 8),
            [(3, "stabilization-up"), (3, "stabilization-up"), (8, ""), (2, ""), (2, "stabilization-up")],
            id="up to the lowest of the window: a peak is forgiven",
        ),
        pytest.param(
            DOWN,
            [(5, 3, False), (5, 3, False), (5, 3, False), (None, 3, False), (None, None, False)],
            [(5, ""), (5, ""), (5, ""), (5, "hold"), (5, "hold")],
            id="demand not known: the last answer holds, also when the replicas are not known",
        ),
        pytest.param(
            DOWN,
            [(1, 3, False)] * 4 + [(None, 9, False)],
            [(3, "warm-up")] * 2 + [(1, "")] * 2 + [(9, "hold")],
            id="demand not known while more run than were wanted: nothing is lowered",
        ),
        pytest.param(
            DOWN,
            [*sure(6, 6, 6), (2, 3, True), (8, 3, True), *sure(2, 2, 2)],
            [
                (6, ""),
                (6, ""),
                (6, ""),
                (6, "stabilization-down"),
                (8, ""),
                (8, "stabilization-down"),
                (8, "stabilization-down"),
                (2, ""),
            ],
            id="in doubt for less than the gap: up goes, down waits for the window",
        ),
        pytest.param(
            DOWN,
            [*sure(6, 6, 6), *[(2, 3, True)] * 6, *sure(2, 2, 2)],
            [
                *[(6, "")] * 3,
                *[(6, "stabilization-down")] * 2,
                *[(6, "partial")] * 4,
                *[(6, "warm-up")] * 2,
                (2, ""),
            ],
            id="in doubt for longer than the gap: the window has to fill again",
        ),
        pytest.param(
            DOWN,
            [(None, None, False), (4, None, False)],
            [(None, "hold"), (None, "warm-up")],
            id="neither replicas nor a past: not known, whatever is wanted",
        ),
        pytest.param(
            DOWN,
            [(4, None, False)] * 3,
            [(None, "warm-up"), (None, "warm-up"), (4, "")],
            id="replicas not known: known again once the window is filled",
        ),
        pytest.param(
            UP,
            [(4, None, False), (4, 1, False), (4, 1, False)],
            [(None, "warm-up"), (1, "stabilization-up"), (4, "")],
            id="replicas not known and the up-window not filled: not known, and no rise is owed for it",
        ),
        pytest.param(NONE, [(4, None, True)], [(None, "partial")], id="in doubt and replicas not known: not known"),
    ],
)
def test_damping(windows: Windows, ticks: list[Tick], want: list[tuple[int | None, str]]) -> None:
    assert play(ticks, windows) == want


def test_a_pause_longer_than_the_gap_empties_the_windows() -> None:
    assert play(sure(1, 1, 1, current=5), Windows(up_s=0, down_s=90, gap_s=60), every_s=61) == [(5, "warm-up")] * 3


def test_a_clock_that_steps_back_fills_the_window_again() -> None:
    wish = Recommendation(replicas=1, steps=())
    past, answer = NO_PAST, None
    for now_s in (1000.0, 1015.0, 1030.0):
        answer, _, past = damp(wish, DOWN, now_s=now_s, past=past, current=4)
    assert answer == 1
    answer, steps, past = damp(wish, DOWN, now_s=500.0, past=past, current=4)
    assert (answer, [step.rule for step in steps]) == (4, ["warm-up"])
    assert [noted.at_s for noted in past.wanted] == [500.0]


def test_memory_is_bounded_by_the_windows() -> None:
    past = NO_PAST
    for n in range(500):
        _, _, past = damp(Recommendation(replicas=n, steps=()), DOWN, now_s=n * TICK_S, past=past, current=3)
    assert (len(past.wanted), len(past.risen)) == (2, 3)


def test_a_held_answer_says_why() -> None:
    wish = Recommendation(replicas=1, steps=(), doubts=("queue: from 1 of 3 ready pods",))
    _, steps, _ = damp(wish, DOWN, now_s=0, past=NO_PAST, current=3)
    assert str(steps[0]) == (
        "partial: 1 -> 3 (demand may be higher: queue: from 1 of 3 ready pods; "
        "holds the highest of the last answer and the replicas that run)"
    )
