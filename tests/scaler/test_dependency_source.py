"""Dependencies by their queries: asked once a tick, and missing where the far side does not say one number."""

from collections.abc import AsyncIterator, Iterator

import pytest

from scaler.backends import Dependency, PrometheusBackend
from scaler.signals.dependency import name_of
from scaler.signals.reading import Missing, Reading, Sample
from scaler.sources.base import SourceError, Subject
from scaler.sources.dependencies import DependencySource
from scaler.sources.prometheus_api import PrometheusApi
from tests.fakes.prometheus import FakePrometheus

T = 1_700_000_010.0
VECTORS, LLM = name_of("vectors"), name_of("llm")


def subject(namespace: str = "agents", *depends_on: str) -> Subject:
    return Subject(
        namespace=namespace,
        scaled_object="chat",
        workload="chat",
        backend="default",
        preset="vllm",
        window_s=120.0,
        max_age_s=60.0,
        depends_on=depends_on,
    )


def query(tag: str) -> str:
    return f'label_replace(x, "part", "{tag}", "", "")'


def dependency(name: str) -> Dependency:
    return Dependency(
        latency_query=query(f"p95.{name}"), latency_s=0.5, error_query=query(f"errors.{name}"), error_share=0.05
    )


@pytest.fixture
def far_side() -> Iterator[FakePrometheus]:
    with FakePrometheus().serving() as fake:
        fake.answers = {"p95.vectors": 2.0, "errors.vectors": 0.01, "p95.llm": 0.1, "errors.llm": 0.0}
        yield fake


@pytest.fixture
async def source(far_side: FakePrometheus) -> AsyncIterator[DependencySource]:
    api = PrometheusApi(PrometheusBackend(url=far_side.url), timeout_s=2.0)
    source = DependencySource(api, {"vectors": dependency("vectors"), "llm": dependency("llm")})
    yield source
    await source.close()


async def read(source: DependencySource, name: str = VECTORS) -> Reading:
    one = subject("agents", "vectors", "llm")
    return (await source.read({one: frozenset({name})}, T))[one].readings[name]


async def test_strain_is_the_worse_of_latency_and_errors(source: DependencySource) -> None:
    assert await read(source) == Sample(4.0, T)


async def test_each_query_of_a_tick_is_asked_once(source: DependencySource, far_side: FakePrometheus) -> None:
    one, two = subject("agents", "vectors"), subject("eval", "vectors", "llm")
    found = await source.read({one: frozenset({VECTORS}), two: frozenset({VECTORS, LLM})}, T)
    assert found[one].readings == {VECTORS: Sample(4.0, T)}
    assert found[two].readings == {VECTORS: Sample(4.0, T), LLM: Sample(0.2, T)}
    assert found[two].asked[LLM] == query("p95.llm")
    assert len(far_side.queries) == 4


def test_only_what_is_depended_on_and_known_is_provided(source: DependencySource) -> None:
    assert source.provides(subject("agents", "vectors", "other")) == {VECTORS}
    assert source.provides(subject("agents")) == frozenset()


@pytest.mark.parametrize("answer", [[], [({}, 1), ({}, 2)], "NaN", "+Inf"])
async def test_what_is_no_number_is_missing(source: DependencySource, far_side: FakePrometheus, answer: object) -> None:
    far_side.answers["p95.vectors"] = answer
    reading = await read(source)
    assert isinstance(reading, Missing)
    assert reading.why.startswith("latency: ")


async def test_a_refused_query_is_missing_and_a_dead_far_side_an_error(far_side: FakePrometheus) -> None:
    far_side.status = 422
    api = PrometheusApi(PrometheusBackend(url=far_side.url), timeout_s=2.0)
    source = DependencySource(api, {"vectors": dependency("vectors")})
    assert isinstance(await read(source), Missing)
    await source.close()
    nowhere = DependencySource(
        PrometheusApi(PrometheusBackend(url="http://127.0.0.1:1"), timeout_s=2.0), {"vectors": dependency("vectors")}
    )
    with pytest.raises(SourceError, match="not reachable"):
        await read(nowhere)
    await nowhere.close()
