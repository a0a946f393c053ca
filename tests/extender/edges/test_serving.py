import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from extender.settings import PREFIX, Settings
from tests.extender.edges.harness import Scheduler, World
from tests.process.test_tls import Authority


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "extender", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"host": "0.0.0.0"}, "beyond loopback the verbs want mutual TLS", id="open to the network"),
        pytest.param({"tls_certificate": "a"}, "want both or neither", id="a certificate without its key"),
        pytest.param({"tls_client_ca": "a"}, "only asked for certificates over TLS", id="client CA without TLS"),
        pytest.param({"host": "::", "tls_certificate": "a", "tls_key": "b"}, "mutual TLS", id="TLS, but for anyone"),
        pytest.param({"assume_ttl_s": 19}, "must not end before", id="a reservation shorter than a Binding"),
        pytest.param({"scorer": "luck"}, "want one of best-fit", id="an unknown scorer"),
        pytest.param({"port": 70000}, "less than or equal to 65535", id="no port"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.of(**given)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"host": "::1"}, id="loopback of IPv6"),
        pytest.param({"host": "localhost"}, id="loopback by name"),
        pytest.param({"host": "0.0.0.0", "insecure": True}, id="open on purpose"),
        pytest.param({"host": "x", "tls_certificate": "a", "tls_key": "b", "tls_client_ca": "c"}, id="mutual TLS"),
        pytest.param({"port": None, "host": None}, id="not given on the command line"),
    ],
)
def test_settings_that_are_good(given: dict[str, object]) -> None:
    Settings.of(**given)


def test_every_setting_says_why_and_is_listed() -> None:
    listed = run("settings").stdout
    for name, field in Settings.model_fields.items():
        assert f"{PREFIX}{name.upper()}" in listed
        assert field.description
        if isinstance(field.default, float):
            assert name.endswith("_s")
            assert "second" in field.description.lower(), "a duration, or a rate"


def test_environment_is_below_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}PORT", "1234")
    assert (Settings.of().port, Settings.of(port=5678).port) == (1234, 5678)


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        pytest.param(["--port", "99999"], {}, "port: Input should be less", id="a wrong option"),
        pytest.param([], {f"{PREFIX}HOST": "0.0.0.0"}, "mutual TLS", id="a wrong environment"),
        pytest.param(["--kubeconfig", "/nonexistent"], {}, "no kubeconfig at /nonexistent", id="no cluster"),
        pytest.param(
            [], {f"{PREFIX}TLS_CERTIFICATE": "/no", f"{PREFIX}TLS_KEY": "/no"}, "No such file", id="no certificate"
        ),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], environment: dict[str, str], message: str
) -> None:
    said = run("serve", *arguments, **environment)
    assert said.returncode == 2
    assert message in said.stderr
    assert said.stderr.startswith("slicewise extender: ")
    assert said.stderr.count("\n") == 1


async def test_a_port_that_is_taken_is_told(here: World) -> None:
    async with here.extender() as scheduler:
        port = scheduler.urls.verbs.rsplit(":", 1)[1]
        kubeconfig = str(here.there.kubeconfig)
        said = await asyncio.to_thread(run, "serve", "--port", port, "--kubeconfig", kubeconfig)
    assert said.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in said.stderr


async def test_mutual_tls_lets_in_only_who_has_a_certificate(here: World, tmp_path: Path) -> None:
    authority = Authority("ours")
    ca = authority.write(tmp_path / "ca.crt")
    served, client = authority.issue(tmp_path, "served"), authority.issue(tmp_path, "client")
    here.settings |= {"tls_certificate": served.certificate, "tls_key": served.key, "tls_client_ca": ca}
    here.gpus("a", "l40s:1")
    one = here.pod("one", mode="exclusive")
    async with here.extender() as scheduler:
        assert scheduler.urls.verbs.startswith("https://127.0.0.1:")
        port = int(scheduler.urls.verbs.rsplit(":", 1)[1])
        assert not await _gets_in(port, ca, None)
        assert await _gets_in(port, ca, client.certificate, client.key)
        assert (await Scheduler.send(scheduler, "GET", f"{scheduler.urls.metrics}/readyz")).status == 200
    assert one["metadata"]["name"] == "one"


async def _gets_in(port: int, ca: Path, certificate: Path | None, key: Path | None = None) -> bool:
    context = ssl.create_default_context(cafile=str(ca))
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
    except (ssl.SSLError, ConnectionError):
        return False
    return answer.startswith(b"HTTP/1.1 200")
