"""docs/sources.md shows settings and a trigger that work, and names what there is."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from scaler.backends import AnyBackend, MessageBroker
from scaler.settings import Settings
from scaler.sources.rabbitmq import FEW, MAX_PAGES, PAGE
from scaler.trigger import Trigger
from tests.e2e.parts.kustomize import MANIFESTS

TEXT = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
SETTINGS, TRIGGER = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL))
KINDS = [kind for kind in get_args(get_args(AnyBackend)[0]) if issubclass(kind, MessageBroker)]


def test_the_settings_are_taken() -> None:
    settings = Settings(**SETTINGS)
    shown = {type(backend) for backend in settings.backends.values()}
    assert shown >= set(KINDS)


def test_the_trigger_is_taken_and_may_name_what_it_names() -> None:
    trigger = Trigger.parse(TRIGGER["metadata"])
    backends = Settings(**SETTINGS).backends
    assert trigger.backlog_backend is not None
    assert trigger.backlog_name is not None
    assert backends[trigger.backlog_backend].access.refusal("backlog", trigger.backlog_name, "agents") is None
    assert trigger.sessions_backend is not None
    assert trigger.sessions_key is not None
    assert backends[trigger.sessions_backend].access.refusal("sessions", trigger.sessions_key, "agents") is None


def test_the_example_goes_with_the_settings_that_are_shown() -> None:
    example = MANIFESTS / "examples" / "queues" / "summarizer.yaml"
    (scaled,) = (t for t in yaml.safe_load_all(example.read_text()) if t["kind"] == "ScaledObject")
    trigger = Trigger.parse(scaled["spec"]["triggers"][0]["metadata"])
    named = {"backlog": (trigger.backlog_backend, trigger.backlog_name)}
    named["sessions"] = (trigger.sessions_backend, trigger.sessions_key)
    backends = Settings(**SETTINGS).backends
    for role, (backend, name) in named.items():
        access = backends[str(backend)].access
        assert role in access.roles
        assert access.refusal("backlog", str(name), scaled["metadata"]["namespace"]) is None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_every_setting_of_a_kind_is_named(kind: type[MessageBroker]) -> None:
    # What belongs to every login is shown by example.
    usual = {"certificate_file", "key_file", "token_file", "max_partitions", "session_idle_s"}
    assert {name for name in kind.model_fields if name not in TEXT} <= usual


def test_the_limits_are_those_of_the_code() -> None:
    assert f"more than {MAX_PAGES * PAGE:,} queues is read for at most {FEW} queues" in TEXT
    assert f"one for up to {FEW} queues; for more, one for each {PAGE} queues" in TEXT
