"""The replay recipe: times, the queue, evictions, and what is reported."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sim.cli import app
from sim.packing.arguments import DEFAULT_SCORER
from sim.packing.load import load_nodes, load_pods, load_timeline
from sim.packing.model import Experiment
from sim.packing.placers import PLACERS
from sim.packing.replay import Outcome, Replay, Timeline, replay
from sim.packing.table import SCORERS
from sim.strict import ConfigError
from tests.sim.packing.clusters import ANY, NODES_CSV, experiment_of, nodes_of, pod, trace_of, write

WHOLE = (1000, 0, 1000, 1, ANY)
PAIR = (1000, 0, 1000, 2, ANY)
HALF = (1000, 0, 500, 1, ANY)
TIMED_CSV = """cpu_milli,memory_mib,num_gpu,gpu_milli,qos,creation_time,deletion_time,scheduled_time
1000,0,1,1000,LS,5,30,10
1000,0,1,500,BE,0,40,
"""


def timeline(arrives: list[int], runs: list[int], important: list[int], classes: list[int]) -> Timeline:
    return Timeline(*(np.array(column, dtype=np.int64) for column in (arrives, runs, important, classes)))


def run(pods: list[tuple[int, int, int, int, int]], times: Timeline, kinds: list[int], scorer: str = "spr") -> Outcome:
    experiment = Experiment(nodes_of(kinds), trace_of(pods), times.pod_class)
    return Replay(experiment.nodes, times, PLACERS[scorer](experiment, 0)).run()


@pytest.mark.parametrize("scorer", PLACERS)
def test_who_finds_no_place_waits_until_something_leaves(scorer: str) -> None:
    found = run([WHOLE], timeline([0, 1, 20], [10, 5, 1], [1, 1, 1], [0, 0, 0]), [0], scorer)
    assert found.waited_pct == pytest.approx(100 / 3)
    assert found.wait_s_p99 == pytest.approx(9, abs=0.2), "from 1 to 10"
    assert (found.never_placed, found.evicted) == (0, 0)
    assert found.allocation_mean_pct == pytest.approx(100 * 15 / 20)
    assert found.allocation_max_pct == 100.0


def test_the_important_evict_best_effort_and_those_start_anew() -> None:
    times = timeline([0, 0, 5, 30], [10, 10, 10, 1], [0, 0, 1, 1], [0, 0, 1, 0])
    found = run([WHOLE, PAIR], times, [1])
    assert found.evicted == 2
    assert found.never_placed == 0
    assert found.allocation_mean_pct == pytest.approx(100 * (2 * 25) / (2 * 30)), "5 of them lost, 10 + 10 run again"


def test_only_as_many_are_evicted_as_have_to_go_and_never_the_important() -> None:
    times = timeline([0, 0, 0, 0, 5], [50] * 5, [0, 0, 1, 1, 1], [0, 0, 0, 0, 0])
    found = run([HALF], times, [1])
    assert found.evicted == 1
    full = run([HALF], timeline([0, 0, 0, 0, 5], [50] * 5, [1, 1, 1, 1, 1], [0] * 5), [1])
    assert (full.evicted, full.never_placed) == (0, 1)


def test_best_effort_evicts_nobody_and_what_fits_no_node_waits_for_ever() -> None:
    found = run([WHOLE, (200_000, 0, 1000, 1, ANY)], timeline([0, 1, 2], [50] * 3, [0, 0, 1], [0, 0, 1]), [0])
    assert (found.evicted, found.never_placed) == (0, 2)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), scorer=st.sampled_from(list(PLACERS)), kinds=st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_when_all_have_left_the_cluster_is_empty_again(data: st.DataObject, scorer: str, kinds: list[int]) -> None:
    pods = data.draw(st.lists(pod(), min_size=1, max_size=4))
    experiment = experiment_of(kinds, pods)
    count = data.draw(st.integers(1, 25))
    column = st.lists(st.integers(0, 20), min_size=count, max_size=count)
    classes = [i % experiment.trace.classes.cpu_milli.size for i in data.draw(column)]
    important = [i % 2 for i in data.draw(column)]
    times = timeline(sorted(data.draw(column)), data.draw(column), important, classes)
    placer = PLACERS[scorer](experiment, 0)
    before = [column.copy() for column in placer.cluster[:3]]
    made = Replay(experiment.nodes, times, placer)
    outcome = made.run()
    assert all((column >= 0).all() for column in placer.cluster[:3])
    made._depart(10**9)
    assert [column.tolist() for column in placer.cluster[:3]] == [column.tolist() for column in before]
    assert 0 <= outcome.allocation_mean_pct <= outcome.allocation_max_pct + 1e-9 <= 100 + 1e-6


def test_every_scorer_of_the_other_recipe_replays_too() -> None:
    assert set(PLACERS) == set(SCORERS)
    times = timeline([0], [1], [1], [0])
    named = replay(nodes_of([0]), trace_of([WHOLE]), times, DEFAULT_SCORER, 3)
    assert named.scorer == DEFAULT_SCORER
    assert named.outcome.never_placed == 0


def test_times_are_read_in_order_of_arrival(tmp_path: Path) -> None:
    nodes, pods = write(tmp_path, pods=TIMED_CSV)
    inventory = load_nodes(nodes)
    times = load_timeline(pods, load_pods(pods, inventory.kinds_of_model))
    assert times.arrives_s.tolist() == [0, 5]
    assert times.runs_s.tolist() == [40, 20], "from its start, where that is known"
    assert times.important.tolist() == [0, 1]
    trace = load_pods(pods, inventory.kinds_of_model)
    twice = times.at_load(2 * 40_000 / (11_000 * 5), inventory.nodes, trace.classes)
    assert twice.arrives_s.tolist() == [0, 2], "40,000 milli-GPU-seconds in 5 s, and now in half of that"


def test_a_pod_that_ends_before_it_begins_is_a_fault(tmp_path: Path) -> None:
    nodes, pods = write(tmp_path, pods=TIMED_CSV.replace("5,30,10", "5,9,10"))
    trace = load_pods(pods, load_nodes(nodes).kinds_of_model)
    with pytest.raises(ConfigError, match=r"pods.csv:2: deletion_time: must not be before scheduled_time \(got '9'\)"):
        load_timeline(pods, trace)


def test_the_command_replays_a_file(tmp_path: Path) -> None:
    nodes, pods = write(tmp_path, nodes=NODES_CSV, pods=TIMED_CSV)
    base = ["pack", "--nodes", str(nodes), "--pods", str(pods), "--seeds", "1", "--scorers", "default,first_fit"]
    told = json.loads(CliRunner().invoke(app, [*base, "--recipe", "replay", "--load", "0.5", "--json", "-"]).stdout)
    assert told["recipe"] == "replay"
    assert [r["scorer"] for r in told["results"]] == ["default", "first_fit"]
    assert told["results"][0]["never_placed"] == 0
    shown = CliRunner().invoke(app, [*base, "--recipe", "replay"])
    assert "evicted" in shown.stdout
    refused = CliRunner().invoke(app, [*base, "--load", "1"])
    assert (refused.exit_code, "--load: the fgd recipe has its own" in refused.stderr) == (2, True)
