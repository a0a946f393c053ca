from slicewise.demo.agents import Agents, percentile
from slicewise.demo.engines import Engine
from slicewise.demo.story import CHAPTERS, ROUND_S, chapter, sessions_per_s

STEP_S = 0.5


def live(agents: Agents, engines: dict[str, Engine], until_s: float, open_pods: frozenset[str]) -> None:
    for i in range(int(until_s / STEP_S)):
        agents.step(i * STEP_S, STEP_S, engines, open_pods)
        for engine in engines.values():
            engine.step(i * STEP_S, STEP_S)


def test_the_same_seed_gives_the_same_sessions() -> None:
    runs = []
    for _ in range(2):
        agents = Agents(3, lambda _: 0.5)
        live(agents, {"a": Engine(), "b": Engine()}, 120.0, frozenset({"a", "b"}))
        runs.append(agents.latencies)
    assert runs[0] == runs[1] != []


def test_sessions_wait_while_no_pod_is_open_and_then_go_on() -> None:
    agents, engine = Agents(3, lambda now_s: 1.0 if now_s < 30 else 0.0), Engine()
    live(agents, {"a": engine}, 30.0, frozenset())
    assert (engine.in_flight, agents.latencies) == (0, [])
    assert len(agents.sessions) > 10
    live(agents, {"a": engine}, 600.0, frozenset({"a"}))
    assert agents.latencies


def test_a_session_stays_on_its_pod_and_moves_only_when_that_closes() -> None:
    agents, engines = Agents(3, lambda now_s: 2.0 if now_s < 5 else 0.0), {"a": Engine(), "b": Engine()}
    live(agents, engines, 5.0, frozenset({"a"}))
    assert agents.on_pod("a") > 0
    live(agents, engines, 300.0, frozenset({"b"}))
    assert agents.on_pod("a") == 0


def test_the_sessions_of_a_pod_that_is_gone_are_nowhere_until_their_next_turn() -> None:
    agents, engine = Agents(3, lambda _: 2.0), Engine()
    live(agents, {"a": engine}, 20.0, frozenset({"a"}))
    agents.leave("a")
    assert agents.on_pod("a") == 0
    assert agents.sessions


def test_percentile_is_of_the_recent_turns_only() -> None:
    latencies = [(0.0, 100.0), (10.0, 1.0), (11.0, 2.0), (12.0, 3.0)]
    assert percentile(95, latencies, since_s=5.0) == 3.0
    assert percentile(95, latencies, since_s=50.0) is None


def test_the_story_goes_round() -> None:
    assert sessions_per_s(0.0) == sessions_per_s(ROUND_S) == CHAPTERS[0].sessions_per_s
    assert chapter(ROUND_S + 500) is chapter(500)
    assert all(0 < sessions_per_s(second) <= 0.9 for second in range(0, 3600, 7))
