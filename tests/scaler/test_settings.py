"""Settings: where they come from, and what is said about wrong ones."""

from pathlib import Path
from typing import Any

import pytest

from scaler.backends import PrometheusBackend
from scaler.settings import PREFIX, Address, Settings, SettingsError

URL = "http://prometheus:9090"
ONE: dict[str, Any] = {"backends": {"default": URL}}


def prometheus(settings: Settings, name: str) -> PrometheusBackend:
    backend = settings.backends[name]
    assert isinstance(backend, PrometheusBackend)
    return backend


def faults(config: Path | None = None, **given: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.load(config, **given)
    return str(caught.value).splitlines()


def test_loopback_by_default() -> None:
    settings = Settings.load(**ONE)
    assert (str(settings.listen), str(settings.metrics_listen)) == ("127.0.0.1:9090", "127.0.0.1:9091")
    assert settings.listen.is_loopback
    assert prometheus(settings, "default").url == URL


def test_every_field_has_a_reason() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_command_line_over_environment_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "scaler.yaml"
    config.write_text(
        f"tick_s: 1\ndelay_s: 2\nqueries_at_once: 3\n"
        f"backends:\n  default: {URL}\n  eu: {{url: '{URL}/eu', token_file: /t}}\n"
    )
    monkeypatch.setenv(f"{PREFIX}TICK_S", "10")
    monkeypatch.setenv(f"{PREFIX}DELAY_S", "20")
    settings = Settings.load(config, tick_s=100.0, delay_s=None)
    assert (settings.tick_s, settings.delay_s, settings.queries_at_once) == (100.0, 20.0, 3)
    assert prometheus(settings, "eu").token_file == Path("/t")


def test_tables_in_the_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}BACKENDS", f'{{"default": "{URL}"}}')
    monkeypatch.setenv(f"{PREFIX}LISTEN", "127.0.0.1:7000")
    settings = Settings.load()
    assert (prometheus(settings, "default").url, settings.listen.port) == (URL, 7000)


def test_a_table_in_the_environment_that_is_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}BACKENDS", URL)
    (fault,) = faults()
    assert '"backends"' in fault
    assert fault.endswith("tables are written as JSON")


@pytest.mark.parametrize(
    ("given", "want"),
    [
        pytest.param({"tick_s": "soon"}, "tick_s: Input should be a valid number", id="no number"),
        pytest.param({"listen": "9090"}, "listen: want HOST:PORT", id="no host"),
        pytest.param(
            {"listen": "localhost:70000"}, "listen.port: Input should be less than or equal to 65535", id="port"
        ),
        pytest.param(
            {"listen": "0.0.0.0:9090"}, "listen is 0.0.0.0:9090, not loopback: set tls_certificate", id="plain"
        ),
        pytest.param({"listen": "[::]:9090"}, "listen is [::]:9090, not loopback", id="plain on IPv6"),
        pytest.param({"listen": "scaler.local:9090"}, "not loopback", id="plain on a name"),
        pytest.param({"tls_key": "/k"}, "tls_certificate and tls_key go together", id="a key alone"),
        pytest.param({"tls_client_ca": "/c"}, "tls_client_ca needs tls_certificate and tls_key", id="a CA alone"),
        pytest.param({"backends": {}}, "backends is empty; name at least one", id="nobody to ask"),
        pytest.param(
            {"backends": {"default": "prometheus:9090"}}, "backends.default.url: String should match", id="no URL"
        ),
        pytest.param(
            {"log_level": "loud"}, "log_level: Input should be 'debug', 'info', 'warning' or 'error'", id="level"
        ),
        pytest.param(
            {"backends": {"pods": {"kind": "scrape"}}, "kubernetes": False},
            "backends pods: kind scrape finds pods by the Kubernetes API; set kubernetes",
            id="scrapes without knowing the pods",
        ),
        pytest.param(
            {"backends": {"pods": {"kind": "scrape", "gateway": {"namespace": "edge", "workload": "gw"}}}},
            "backends.pods.gateway.port: Field required",
            id="a gateway without a port",
        ),
        pytest.param({"colour": "red"}, "colour: Extra inputs are not permitted", id="no such setting"),
    ],
)
def test_bad_setting(given: dict[str, Any], want: str) -> None:
    (fault,) = faults(**{**ONE, **given})
    assert want in fault


def test_all_faults_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}TICKS", "10")
    found = faults(tick_s="x", delay_s=-1, **ONE)
    assert [fault.split(":")[0] for fault in found] == [f"{PREFIX}TICKS", "tick_s", "delay_s"]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("tick_s: [", "not YAML", id="broken"),
        pytest.param("ticks: 1", "ticks: Extra inputs are not permitted", id="unknown"),
    ],
)
def test_bad_file(tmp_path: Path, text: str, want: str) -> None:
    config = tmp_path / "scaler.yaml"
    config.write_text(text)
    assert want in faults(config, **ONE)[0]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert faults(tmp_path / "none.yaml", **ONE) == [f"{tmp_path / 'none.yaml'}: no such file"]


@pytest.mark.parametrize(
    ("text", "loopback"),
    [("127.0.0.1:1", True), ("[::1]:1", True), ("localhost:1", True), ("10.0.0.1:1", False), ("[::]:1", False)],
)
def test_an_address_is_written_as_it_is_read(text: str, *, loopback: bool) -> None:
    address = Address.model_validate(text)
    assert (str(address), address.is_loopback) == (text, loopback)


@pytest.mark.parametrize("keys", [{"tls_certificate": "/c", "tls_key": "/k"}, {"plaintext": True}])
def test_beyond_loopback_with_tls_or_on_demand(keys: dict[str, Any]) -> None:
    assert not Settings.load(listen="0.0.0.0:9090", **keys, **ONE).listen.is_loopback
