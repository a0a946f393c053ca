"""Asking one source about what one trigger names, as the engine does in a tick."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from scaler.access import Role
from scaler.backends import AnyBackend, Backend
from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from scaler.sources import Wiring, connect
from scaler.sources.base import Place, Source, SourceError, Subject

BACKEND = "messages"


def now_s() -> float:
    return time.time()  # noqa: TID251  # real brokers, and those who write to them, have no other clock


def subject_of(name: str, group: str | None = None, *, role: Role = "backlog", namespace: str = "agents") -> Subject:
    place = Place(backend=BACKEND, name=name, group=group)
    return Subject(
        namespace=namespace,
        scaled_object=name,
        workload="worker",
        backend="default",
        preset="vllm",
        window_s=60.0,
        max_age_s=60.0,
        backlog=place if role == "backlog" else None,
        sessions=place if role == "sessions" else None,
    )


@asynccontextmanager
async def source_of(settings: Mapping[str, object], *, timeout_s: float = 5.0) -> AsyncIterator[Source]:
    """A source as the process would make it of these settings; `names` allow everything unless given."""
    backend: Backend = TypeAdapter(AnyBackend).validate_python({"names": ["*"], **settings})
    source = connect(BACKEND, backend, Wiring(presets={}, clock=now_s, timeout_s=timeout_s, at_once=8))
    try:
        yield source
    finally:
        await source.close()


async def read(source: Source, *subjects: Subject, at_s: float | None = None) -> list[Mapping[str, Reading]]:
    """All that the source provides of each, in one question."""
    asks = {subject: source.provides(subject) for subject in subjects}
    found = await source.read(asks, now_s() if at_s is None else at_s)
    return [found[subject].readings for subject in subjects]


async def values(source: Source, subject: Subject) -> dict[str, float | str]:
    """What was read, by name: numbers, and the reasons where there are none."""
    (readings,) = await read(source, subject)
    return {str(name): r.value if isinstance(r, Sample) else r.why for name, r in readings.items()}


async def backlog(source: Source, name: str, group: str | None = None) -> Reading:
    (readings,) = await read(source, subject_of(name, group))
    return readings[ReadingName.BACKLOG]


async def why_missing(source: Source, name: str, group: str | None = None) -> str:
    """The reason why nothing is known of what waits there."""
    found = await backlog(source, name, group)
    assert isinstance(found, Missing), found
    return found.why


async def fails(source: Source, subject: Subject) -> str:
    """Why the source as a whole could not be asked."""
    with pytest.raises(SourceError) as failure:
        await read(source, subject)
    return str(failure.value)


def written(folder: Path, **texts: str) -> dict[str, str]:
    """Files of credentials, as settings name them: NAME_file -> path."""
    for name, text in texts.items():
        (folder / name).write_text(f"{text}\n")
    return {f"{name}_file": str(folder / name) for name in texts}
