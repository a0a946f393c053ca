"""`slicewise scaler …` as a person meets it."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import structlog
from typer.testing import CliRunner

from scaler.__main__ import app
from scaler.pb.externalscaler_pb2_grpc import ExternalScalerStub
from tests.scaler.serving import KEYS, ask, ref

runner = CliRunner()


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """The command sends logs to the stderr of its moment; nobody after it shall write there."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        pytest.param(["serve"], "backends is empty; name at least one, such as --prometheus", id="nobody to ask"),
        pytest.param(["serve", "--prometheus", "x"], "backends.default.url: ", id="no URL"),
        pytest.param(["serve", "--prometheus", "http://p", "--listen", "0.0.0.0:1"], "not loopback", id="plaintext"),
        pytest.param(["serve", "--config", "nowhere.yaml"], "nowhere.yaml: no such file", id="no file"),
        pytest.param(
            ["serve", "--prometheus", "http://p", "--kubeconfig", "nowhere"], "say --no-kubernetes", id="no kubeconfig"
        ),
        pytest.param(["serve", "--tick-s", "x"], "--tick-s", id="no number"),
    ],
)
def test_wrong_usage_is_one_clear_line_and_exit_2(arguments: list[str], want: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert want in result.stderr
    assert "Traceback" not in result.output


def test_an_address_in_use() -> None:
    with subprocess.Popen([sys.executable, "-c", _LISTENER], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        port = other.stdout.readline().strip()
        arguments = [
            "serve",
            "--prometheus",
            "http://127.0.0.1:1",
            "--no-kubernetes",
            "--metrics-listen",
            "127.0.0.1:0",
        ]
        result = runner.invoke(app, [*arguments, "--listen", f"127.0.0.1:{port}"])
        other.terminate()
    assert result.exit_code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr


_LISTENER = """
import socket
with socket.create_server(("127.0.0.1", 0)) as s:
    print(s.getsockname()[1], flush=True)
    s.accept()
"""


def test_presets_are_listed_with_names_versions_and_sources() -> None:
    result = runner.invoke(app, ["presets"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "vllm: vLLM, 0.6 and later" in lines
    assert "  waiting: vllm:num_requests_waiting (0.6 and later; vllm/v1/metrics/loggers.py)" in lines
    assert "dynamo: Dynamo frontend, 0.7 and later" in lines


def test_one_preset_is_listed_alone() -> None:
    result = runner.invoke(app, ["presets", "dynamo"])
    assert result.exit_code == 0
    assert [line for line in result.stdout.splitlines() if not line.startswith(" ")] == [
        "dynamo: Dynamo frontend, 0.7 and later"
    ]
    assert "; a gateway, its label model names the workload" in result.stdout
    assert "running: dynamo_frontend_inflight_requests - dynamo_frontend_queued_requests (" in result.stdout


def test_a_preset_that_there_is_not_is_told() -> None:
    result = runner.invoke(app, ["presets", "gpt"])
    assert result.exit_code == 2
    assert "there is no preset 'gpt'; there are dynamo, epp, litellm" in result.output


def test_settings_are_listed_with_their_reasons() -> None:
    result = runner.invoke(app, ["settings"])
    assert result.exit_code == 0
    assert "SLICEWISE_SCALER_TICK_S (default 15.0)" in result.stdout


def test_the_command_serves_until_it_is_asked_to_stop() -> None:
    arguments = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--prometheus", "http://127.0.0.1:1"]
    command = [sys.executable, "-m", "scaler", "serve", *arguments, "--no-kubernetes", "--log-format", "json"]
    environ = {**os.environ, "SLICEWISE_SCALER_DRAIN_S": "0"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stderr is not None
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        listening = json.loads(process.stderr.readline())
        assert listening["event"] == "scaler.listening"
        make: Any = ExternalScalerStub
        with grpc.insecure_channel(listening["address"]) as channel:
            keys = {**KEYS, "workload": "chat"}
            assert len(make(channel).GetMetricSpec(ref(keys)).metricSpecs) == 1
            with pytest.raises(grpc.RpcError, match="not reachable"):
                make(channel).GetMetrics(ask(keys))
        events = map(json.loads, process.stderr)  # how the source fares is told meanwhile
        decided = next(event for event in events if event["event"] == "scaler.decided")
        assert decided["replicas"] is None
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
        assert json.loads(process.stderr.read().splitlines()[-1])["event"] == "scaler.stopped"
        watchdog.cancel()
