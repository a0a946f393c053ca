"""Direct scrapes of pods on loopback: what a silent, broken, huge, new or vanished pod does to a reading."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from scaler.backends import GatewayPlace, ScrapeBackend
from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from scaler.sources import Wiring
from scaler.sources.base import Subject
from scaler.sources.presets import load, parse
from scaler.sources.scrape import ScrapeSource, connect
from tests.fakes.clock import ManualClock
from tests.fakes.pods import IPS, FakeDirectory, FakePod, Pages, serving_pages

A, B, C = (FakePod(f"chat-7d9f8b6c4d-{name}", ip) for name, ip in zip(("aaaaa", "bbbbb", "ccccc"), IPS, strict=False))
GATEWAY_POD = FakePod("gateway-0", IPS[3])
CHAT = ("agents", "chat")
GATEWAY = parse(
    "gateway.toml",
    """
engine = "G"
versions = "1"
port = 9090
scope = "gateway"
workload_label = "model"
up = "running"
[gauges.running]
names = [{ name = "g_running", versions = "1", source = "g" }]
""",
)
PRESETS = {"vllm": load()["vllm"], "gateway": GATEWAY}
SUBJECT = Subject(
    namespace="agents",
    scaled_object="chat",
    workload="chat",
    backend="pods",
    preset="vllm",
    window_s=120.0,
    max_age_s=60.0,
)


def page(running: float, waiting: float = 0.0, tokens: float | None = None) -> str:
    labels = '{engine="0",model_name="m"}'
    text = f"vllm:num_requests_running{labels} {running}\nvllm:num_requests_waiting{labels} {waiting}\n"
    return text if tokens is None else f"{text}vllm:generation_tokens_total{labels} {tokens}\n"


class Scene:
    """A source, its pods and its clock. A round is one tick."""

    def __init__(self, pages: Pages, backend: ScrapeBackend, *, timeout_s: float, max_bytes: int) -> None:
        self.pages = pages
        self.clock = ManualClock(1000.0)
        self.directory = FakeDirectory({CHAT: (A, B), ("edge", "gateway"): (GATEWAY_POD,)})
        self.source = ScrapeSource(
            "pods", backend, PRESETS, self.directory, clock=self.clock, timeout_s=timeout_s, max_bytes=max_bytes
        )

    async def read(self, name: str, subject: Subject = SUBJECT) -> Reading:
        found = await self.source.read({subject: frozenset({name})}, self.clock())
        return found[subject].readings[name]

    async def rounds(self, name: str, *tokens: float) -> Reading:
        """Both pods at each of `tokens`, 15 s apart; what is read at the last."""
        got: Reading = Missing("no round")
        for n, value in enumerate(tokens):
            if n:
                self.clock.now_s += 15.0
            self.pages.by_ip = {ip: page(1, tokens=value) for ip in IPS[:2]}
            got = await self.read(name)
        return got


@asynccontextmanager
async def scene(
    gateway: bool = False, timeout_s: float = 5.0, max_bytes: int = 1 << 20, token_file: Path | None = None
) -> AsyncIterator[Scene]:
    async with serving_pages() as pages:
        place = GatewayPlace(namespace="edge", workload="gateway", port=pages.port) if gateway else None
        backend = ScrapeBackend(kind="scrape", port=pages.port, gateway=place, token_file=token_file)
        made = Scene(pages, backend, timeout_s=timeout_s, max_bytes=max_bytes)
        pages.by_ip = {ip: page(n + 1.0, waiting=2.0) for n, ip in enumerate(IPS[:3])}
        try:
            yield made
        finally:
            await made.source.close()


async def test_pods_are_asked_and_their_answers_summed() -> None:
    async with scene() as s:
        assert await s.read("running") == Sample(3.0, 1000.0, pods=2)
        assert sorted(s.pages.asked) == [(A.ip, "/metrics"), (B.ip, "/metrics")]
        assert s.pages.headers[0]["Accept"] == "text/plain;version=0.0.4"


async def test_a_pod_is_asked_once_a_tick_however_many_triggers_want_it() -> None:
    async with scene() as s:
        other = replace(SUBJECT, scaled_object="other", window_s=60.0)
        found = await s.source.read({SUBJECT: frozenset({"running", "queue"}), other: frozenset({"queue"})}, 1000.0)
        assert len(s.pages.asked) == 2
        assert found[SUBJECT].readings == {"running": Sample(3.0, 1000.0, 2), "queue": Sample(4.0, 1000.0, 2)}
        assert found[other].readings == {"queue": Sample(4.0, 1000.0, 2)}
        assert found[SUBJECT].asked["queue"].startswith(f"GET http://{A.ip}:{s.pages.port}/metrics, http://")


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("refuses", id="answers with 503"),
        pytest.param("redirects", id="redirects: not followed"),
        pytest.param("hangs", id="answers never"),
        pytest.param("gone", id="not reachable"),
        pytest.param("huge", id="sends more than is read"),
        pytest.param("other", id="exports something else"),
    ],
)
async def test_a_pod_that_tells_nothing_lowers_the_coverage_and_is_not_zero(fault: str) -> None:
    async with scene(timeout_s=0.3 if fault == "hangs" else 5.0, max_bytes=10_000) as s:
        assert B.ip is not None
        if fault in {"refuses", "redirects"}:
            s.pages.status[B.ip] = 503 if fault == "refuses" else 302
        elif fault == "hangs":
            s.pages.hangs.add(B.ip)
        elif fault == "gone":
            s.directory.by_workload[CHAT] = (A, replace(B, ip="127.0.0.9"))
        else:
            s.pages.by_ip[B.ip] = "x" * 20_000 if fault == "huge" else "up 1\n"
        assert await s.read("running") == Sample(1.0, 1000.0, pods=1)


async def test_what_a_pod_said_counts_until_it_is_too_old() -> None:
    async with scene() as s:
        await s.read("running")
        assert B.ip is not None
        s.pages.status[B.ip] = 503
        s.clock.now_s += 45.0
        assert await s.read("running") == Sample(3.0, 1000.0, pods=2)
        s.clock.now_s += 30.0
        assert await s.read("running") == Sample(1.0, 1075.0, pods=1)


@pytest.mark.parametrize(
    ("pods", "why"),
    [
        pytest.param((), "no pod answered", id="no pods"),
        pytest.param((FakePod("a", None),), "no pod answered", id="a pod without an address"),
        pytest.param((replace(A, terminating=True),), "no pod answered", id="a pod that ends"),
        pytest.param((replace(A, ip="127.0.0.9"),), "none of 1 pods answered lately", id="a pod that is silent"),
        pytest.param(Missing("pods are not watched"), "pods are not watched", id="who is there is not known"),
    ],
)
async def test_nobody_to_ask_is_missing(pods: Sequence[FakePod] | Missing, why: str) -> None:
    async with scene() as s:
        s.directory.by_workload[CHAT] = pods
        assert await s.read("running") == Missing(why)


async def test_a_workload_without_a_name_is_missing() -> None:
    async with scene() as s:
        assert await s.read("running", replace(SUBJECT, workload=None)) == Missing("the workload's name is not known")


async def test_rates_need_two_rounds_and_then_count_all_pods() -> None:
    async with scene() as s:
        got = await s.rounds("generation_tokens_per_s", 1000.0)
        assert got == Missing("generation_tokens: wants two answers of a pod within 120 s")
        got = await s.rounds("generation_tokens_per_s", *(1000.0 + 300.0 * n for n in range(9)))
        assert got == Sample(40.0, 1120.0, pods=2)


async def test_a_restart_is_no_dip() -> None:
    async with scene() as s:
        steady = [300.0 * n for n in range(9)]
        got = await s.rounds("generation_tokens_per_s", *(value % 1200.0 for value in steady))
        assert isinstance(got, Sample)
        assert 25.0 < got.value <= 40.0


async def test_a_pod_that_is_gone_leaves_no_ghost() -> None:
    async with scene() as s:
        await s.rounds("generation_tokens_per_s", *(300.0 * n for n in range(9)))
        s.directory.by_workload[CHAT] = (A,)
        assert await s.read("generation_tokens_per_s") == Sample(20.0, 1120.0, pods=1)
        assert await s.read("running") == Sample(1.0, 1120.0, pods=1)
        s.clock.now_s += 400.0
        await s.read("running")
        assert {target.pod for target in s.source._kept} == {A.name}


async def test_one_who_asks_alone_does_not_make_the_others_forget() -> None:
    async with scene() as s:
        s.directory.by_workload["agents", "code"] = (C,)
        await s.rounds("generation_tokens_per_s", *(300.0 * n for n in range(9)))
        await s.read("running", replace(SUBJECT, scaled_object="code", workload="code"))
        assert await s.read("generation_tokens_per_s") == Sample(40.0, 1120.0, pods=2)


async def test_windows_do_not_grow() -> None:
    async with scene() as s:
        await s.rounds("generation_tokens_per_s", *(300.0 * n for n in range(40)))
        (kept, _) = s.source._kept.values()
        assert {whose: len(seen) for whose, seen in kept.told.items()} == {("", ""): 13}


async def test_a_gateways_line_and_sessions_are_read_of_the_gateway() -> None:
    async with scene(gateway=True) as s:
        assert GATEWAY_POD.ip is not None
        s.pages.by_ip[GATEWAY_POD.ip] = (
            'agent_requests_waiting{namespace="agents",workload="chat"} 5\n'
            'agent_requests_waiting{namespace="other",workload="chat"} 500\n'
            'agent_sessions_active{workload="chat"} 40\n'
        )
        assert await s.read("queue") == Sample(9.0, 1000.0, pods=2)
        assert await s.read("sessions") == Sample(40.0, 1000.0)
        s.directory.by_workload[CHAT] = ()
        assert await s.read("queue") == Sample(5.0, 1000.0, pods=0)


async def test_a_preset_of_a_gateway_tells_of_the_workload_that_its_series_name() -> None:
    async with scene(gateway=True) as s:
        subject = replace(SUBJECT, preset="gateway")
        assert GATEWAY_POD.ip is not None
        s.pages.by_ip[GATEWAY_POD.ip] = 'g_running{model="chat"} 7\ng_running{model="code"} 8\n'
        assert await s.read("running", subject) == Sample(7.0, 1000.0, pods=None)
        s.pages.by_ip[GATEWAY_POD.ip] = 'g_running{model="code"} 8\n'
        assert isinstance(await s.read("running", replace(subject, workload="idle")), Missing)


async def test_a_gateway_that_is_not_known_is_missing() -> None:
    async with scene(gateway=True) as s:
        s.directory.by_workload["edge", "gateway"] = Missing("not listed yet")
        assert await s.read("sessions") == Missing("not listed yet")
    async with scene() as s:
        why = "preset 'gateway' tells of a gateway, and backends.pods names none"
        assert await s.read("running", replace(SUBJECT, preset="gateway")) == Missing(why)


async def test_a_token_goes_along(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    async with scene(token_file=token) as s:
        await s.read("running")
        assert s.pages.headers[0]["Authorization"] == "Bearer secret"


async def test_it_provides_what_the_preset_has_and_only_for_its_backend() -> None:
    async with scene() as s:
        assert ReadingName.P95_S in s.source.provides(SUBJECT)
        assert ReadingName.REPLICAS not in s.source.provides(SUBJECT)
        assert s.source.provides(replace(SUBJECT, preset="gateway")) == {"queue", "running", "sessions"}
        assert s.source.provides(replace(SUBJECT, backend="other")) == frozenset()


async def test_addresses_of_ipv6_are_written_in_brackets() -> None:
    async with scene() as s:
        s.directory.by_workload[CHAT] = (replace(A, ip="::1"),)
        found = await s.source.read({SUBJECT: frozenset({"running"})}, 1000.0)
        assert found[SUBJECT].asked["running"] == f"GET http://[::1]:{s.pages.port}/metrics"


async def test_asking_twice_at_once_is_done_in_turns() -> None:
    async with scene() as s:
        first, second = await asyncio.gather(s.read("running"), s.read("queue"))
        assert (first, second) == (Sample(3.0, 1000.0, 2), Sample(4.0, 1000.0, 2))


async def test_it_is_connected_as_the_settings_say() -> None:
    wiring = Wiring(presets=PRESETS, clock=ManualClock(), timeout_s=1.0, at_once=8, pods=FakeDirectory({}))
    source = connect("pods", ScrapeBackend(kind="scrape"), wiring)
    found = await source.read({SUBJECT: frozenset({"running"})}, 0.0)
    assert found[SUBJECT].readings == {"running": Missing("no pod answered")}
    await source.close()
    with pytest.raises(ValueError, match="finds pods through the Kubernetes API"):
        connect("pods", ScrapeBackend(kind="scrape"), replace(wiring, pods=None))


async def test_a_page_that_comes_in_pieces_is_whole() -> None:
    async with scene() as s:
        response = web.StreamResponse()

        async def slowly(request: web.Request) -> web.StreamResponse:
            await response.prepare(request)
            for piece in (b"vllm:num_requests_run", b'ning{engine="0"} 4', b"\n"):
                await response.write(piece)
                await asyncio.sleep(0.01)
            return response

        app = web.Application()
        app.router.add_get("/metrics", slowly)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        backend = ScrapeBackend(kind="scrape", port=runner.addresses[0][1])
        source = ScrapeSource("pods", backend, PRESETS, FakeDirectory({CHAT: (A,)}), clock=s.clock)
        found = await source.read({SUBJECT: frozenset({"running"})}, 1000.0)
        assert found[SUBJECT].readings == {"running": Sample(4.0, 1000.0, 1)}
        await source.close()
        await runner.cleanup()
