"""What the benchmark of shared GPUs makes of the steps that it is told; the GPU itself is not here."""

import pytest

from bench.gpu.sharing import Case, Steps, row


@pytest.mark.parametrize(
    ("gap_ms", "alone", "shared", "times", "throughput"),
    [
        pytest.param(0, [10.0], [[10.0]], 1.0, 1.0, id="one process is the yardstick"),
        pytest.param(0, [10.0], [[20.0], [20.0]], 2.0, 1.0, id="two that take turns get as much done as one"),
        pytest.param(0, [10.0], [[10.0], [10.0]], 1.0, 2.0, id="two that do not meet get twice as much done"),
        pytest.param(10, [10.0], [[10.0], [10.0]], 1.0, 2.0, id="pauses count as time"),
        pytest.param(10, [10.0], [[30.0], [30.0]], 3.0, 1.0, id="steps that grow into their pauses"),
        pytest.param(0, [10.0], [[10.0], [30.0]], 2.0, 1.333, id="unequal neighbours: the mean of their steps"),
        pytest.param(
            0, [10.0] * 3, [[10.0, 10.0, 100.0]], 1.0, 0.25, id="a stall is in the throughput, not the median"
        ),
    ],
)
def test_a_row(gap_ms: float, alone: Steps, shared: list[Steps], times: float, throughput: float) -> None:
    found = row("8b", Case(8, 1024, gap_ms=gap_ms), "MPS", alone, shared)
    assert (found.times, found.throughput, found.processes) == (times, throughput, len(shared))


@pytest.mark.parametrize(
    ("case", "text"),
    [
        pytest.param(Case(8, 1024), "decode 8 x 1024", id="decoding"),
        pytest.param(Case(8, 1024, gap_ms=3), "decode 8 x 1024, 3 ms gap", id="with a pause"),
        pytest.param(Case(prefill=512), "prefill of 512", id="a prompt"),
    ],
)
def test_a_case_says_what_it_is(case: Case, text: str) -> None:
    assert str(case) == text
