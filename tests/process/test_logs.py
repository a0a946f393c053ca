import asyncio
import json
import logging
import os
import signal
from collections.abc import Iterator

import pytest
import structlog

from slicewise.process.logs import HIDDEN, configure, hide_secrets
from slicewise.process.shutdown import repeat, stop_on_signals


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    structlog.reset_defaults()


def test_one_json_object_a_line_from_us_and_from_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    structlog.get_logger().info("extender.bound", pod_uid="u-1", took_s=0.25)
    structlog.get_logger().debug("extender.quiet")
    logging.getLogger("uvicorn.error").warning("started %s", "well")
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.err.splitlines()]
    assert said.out == ""
    assert [(x["event"], x["level"]) for x in lines] == [("extender.bound", "info"), ("started well", "warning")]
    assert (lines[0]["pod_uid"], lines[0]["took_s"], lines[1]["logger"]) == ("u-1", 0.25, "uvicorn.error")


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", "DEBUG")
    structlog.get_logger().debug("extender.bound", node="a")
    assert "extender.bound" in capsys.readouterr().err


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="log level 'loud' does not exist; use one of debug, info"):
        configure("json", "loud")


@pytest.mark.parametrize(
    ("key", "hidden"),
    [
        pytest.param("token", True, id="a token"),
        pytest.param("Authorization", True, id="a header"),
        pytest.param("redis-password", True, id="part of a name"),
        pytest.param("tokens_per_s", False, id="a count of language tokens is no secret"),
        pytest.param("node", False, id="anything else"),
    ],
)
def test_secrets_are_hidden_wherever_they_stand(key: str, hidden: bool) -> None:
    want = HIDDEN if hidden else "v"
    event = hide_secrets(None, "", {key: "v", "inside": {key: "v"}, "list": [{key: "v"}, 1]})
    assert event == {key: want, "inside": {key: want}, "list": [{key: want}, 1]}


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_asks_to_stop(which: signal.Signals) -> None:
    stop = stop_on_signals()
    os.kill(os.getpid(), which)
    await asyncio.wait_for(stop.wait(), 5)
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(each)


async def test_what_repeats_ends_with_the_program() -> None:
    stop, calls = asyncio.Event(), 0

    def act() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            stop.set()

    await asyncio.wait_for(repeat(act, every_s=0.001, stop=stop), 5)
    assert calls == 3
