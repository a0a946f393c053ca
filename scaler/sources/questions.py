"""Queries of the Prometheus source, one TOML file an engine, until they are made from presets and recipes."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from string import Template
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from scaler.signals.reading import ReadingName
from scaler.sources.base import Subject

VARIABLES: Final = frozenset({"pods", "gateway", "namespace", "workload", "window"})


class Question(BaseModel):
    """One way to a reading; see the comments in the preset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: str
    query: str
    series: str | None = Field(default=None, pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")

    @field_validator("query")
    @classmethod
    def _is_template(cls, query: str) -> str:
        template = Template(query)
        unknown = set(template.get_identifiers()) - VARIABLES
        if unknown or not template.is_valid():
            raise ValueError(f"unknown variables {sorted(unknown)}; known are {sorted(VARIABLES)}; write $$ for $")
        return " ".join(query.split())

    def text(self, subject: Subject) -> str:
        return Template(self.query).substitute(variables(subject))


class Preset(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str
    versions: str
    readings: Mapping[ReadingName, tuple[Question, ...]]

    def questions(self, name: str) -> tuple[Question, ...]:
        return self.readings.get(ReadingName(name), ())


@cache
def load() -> Mapping[str, Preset]:
    """Every preset by its name. Raises pydantic.ValidationError where a file breaks the format."""
    folder = files("scaler") / "queries"
    return {
        entry.name.removesuffix(".toml"): Preset.model_validate(tomllib.loads(entry.read_text("utf-8")))
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    }


def quoted(text: str) -> str:
    """`text` as the inside of a PromQL string."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def escaped(text: str) -> str:
    """`text`, literally, as the inside of a PromQL string that holds a regular expression (RE2)."""
    return quoted("".join(f"\\{c}" if c in r"\.+*?()|[]{}^$" else c for c in text))


def variables(subject: Subject) -> dict[str, str]:
    namespace, workload = quoted(subject.namespace), quoted(subject.workload or "")
    # A Deployment's pods are NAME-HASH-ID, a StatefulSet's NAME-INDEX. No more dashes than that: pods of a workload
    # whose name only begins alike have more.
    pods = f"{escaped(subject.workload or '')}-([a-z0-9]{{1,10}}-[a-z0-9]{{5}}|[0-9]+)"
    return {
        "pods": f'namespace="{namespace}",pod=~"{pods}"',
        # Pods may carry such a label too; what they say is not a gateway's word on the whole workload.
        "gateway": f'namespace="{namespace}",workload="{workload}",pod!~"{pods}"',
        "namespace": namespace,
        "workload": workload,
        "window": f"{subject.window_s:.0f}s" if subject.window_s.is_integer() else f"{subject.window_s * 1000:.0f}ms",
    }


def seen_query(series: str, subject: Subject) -> str:
    """How many pods have a fresh sample of `series`: ghosts of pods that are gone and stuck exporters do not count."""
    pods = variables(subject)["pods"]
    return f"count(max by (pod) (timestamp({series}{{{pods}}})) >= time() - {subject.max_age_s:g})"


def newest_query(series: str, subject: Subject) -> str:
    """When the newest sample of `series` was taken."""
    return f"max(timestamp({series}{{{variables(subject)['pods']}}}))"
