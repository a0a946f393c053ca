import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from slicewise.demo.plain import PlainView
from slicewise.demo.promises import NO_KILL, ONE_OWNER, Breach
from slicewise.demo.scene import Block, Curve, GpuPicture, Line, NodePicture, Scene, clock
from slicewise.demo.summary import Summary, rendered
from slicewise.demo.view import picture


def scene(lines: Sequence[Line] = (), *, length_s: float | None = 1800.0) -> Scene:
    gpus = [GpuPicture(str(i), "mig", 8, [Block(0, 2, f"c{i}", "2g", "black on white")]) for i in range(4)]
    curves = [
        Curve("sessions", [1.0, None, 50.0], 360, "50 active", "cyan"),
        Curve("queue", [], 360, "0 waiting", "yellow"),
        Curve("replicas", [2.0], 360, "2 ready of 3", "green"),
        Curve("tokens/s", [1e6], 360, "1,000,000", "blue"),
        Curve("P95", [12.0], 360, "12.0 s (max 20 s)", "red", 20.0),
    ]
    return Scene(
        clock_s=75.0,
        length_s=length_s,
        speed=30.0,
        phase="the team arrives",
        endpoints="on loopback: scaler :1 gRPC, extender :2 HTTP",
        mapping="1 s here = 30 s in the cluster",
        curves=curves,
        nodes=[NodePicture(f"gpu-{n}", "4 x A100-80: 4 MIG", gpus) for n in "abc"],
        legend="cN: agents",
        lines=lines,
    )


def drawn(width: int, height: int, lines: Sequence[Line] = (), *, length_s: float | None = 1800.0) -> list[str]:
    console = Console(width=width, height=height, record=True, file=io.StringIO())
    console.print(picture(scene(lines, length_s=length_s), width, height), height=height)
    return console.export_text().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (140, 45), (200, 60), (60, 20)])
def test_the_picture_fills_the_terminal_and_no_more(width: int, height: int) -> None:
    rows = drawn(width, height)
    assert len(rows) == height
    assert max(map(len, rows)) <= width


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 45)])
def test_everything_that_matters_is_on_it(width: int, height: int) -> None:
    text = "\n".join(drawn(width, height, [Line(60.0, "scaler", "wants 3, 2 run", "sessions: 31 of them", "cyan")]))
    for said in (
        "the team arrives",
        "1:15 of 30:00",
        "scaler :1 gRPC",
        "50 active",
        "2 ready of 3",
        "c3",
        "wants 3, 2 run",
    ):
        assert said in text
    assert "1 s = 30 s" in text or "1 s here = 30 s in the cluster" in text


def test_the_newest_lines_are_the_last_and_the_oldest_give_way() -> None:
    lines = [Line(float(i), "scaler", f"wants {i}", "because") for i in range(100)]
    text = "\n".join(drawn(80, 24, lines))
    assert "wants 99" in text
    assert "wants 1 " not in text


def test_a_run_without_an_end_shows_no_end() -> None:
    text = "\n".join(drawn(80, 24, length_s=None))
    assert "1:15" in text
    assert "1:15 of" not in text


def test_plain_lines_carry_the_same_facts_without_a_terminal() -> None:
    written: list[str] = []
    view = PlainView(written.append)
    view.tell(Line(60.0, "hpa", "coder 2 -> 3", "above target"))
    view.show(scene())
    view.show(scene())
    numbers = (
        "sessions 50 active   queue 0 waiting   replicas 2 ready of 3   tokens/s 1,000,000   P95 12.0 s (max 20 s)"
    )
    assert written == [
        "  1:00  hpa       coder 2 -> 3  (above target)",
        "  1:15  story     the team arrives",
        f"  1:15  status    {numbers}",
    ]


@pytest.mark.parametrize(
    ("breaches", "faults", "kept"),
    [
        pytest.param([], [], True, id="nothing broken"),
        pytest.param([Breach(NO_KILL, "x went")], [], False, id="a promise broken"),
        pytest.param([], ["scaler ended"], False, id="a server ended"),
    ],
)
def test_the_summary_says_what_was_kept(breaches: list[Breach], faults: list[str], kept: bool) -> None:
    summary = Summary(1800.0, 60.0, [("sessions", "10 at the peak")], breaches, 123, faults)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(rendered(summary))
    text = console.export_text()
    assert summary.kept is kept
    assert "30:00 of cluster time in 60 s" in text
    assert ("broken" in text) is bool(breaches)
    assert ONE_OWNER in text
    assert all(said in text for said in [*faults, *(breach.what for breach in breaches)])


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0, 75, 3675)] == ["0:00", "1:15", "61:15"]
