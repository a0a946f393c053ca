"""`policy: ahead` in the simulator: trigger, decision and HPA of production, on one clock."""

import json
from pathlib import Path

import pytest

from sim.journal import Journal
from sim.run import finish, prepare
from sim.scenario import bundled, load
from tests.sim.commands.scenes import printed, scene, sim

KEYS = """\
        policy: ahead
        coldStart: 2m
        promptTokensPerSecondPerReplica: "3700"
        generationTokensPerSecondPerReplica: "300"
        slotsPerReplica: "10"
"""
QUEUE = """\
        policy: composite
        sessionsPerReplica: "4"
        queuePerReplica: "4"
        stabilizationDown: 5m
"""


def ahead(folder: Path, duration: str = "1h") -> Path:
    """The bundled agents, planned ahead."""
    text = bundled()["agents"].read_text().replace("duration: 1h", f"duration: {duration}")
    assert QUEUE in text
    return scene(folder, text.replace(QUEUE, KEYS), "ahead.yaml")


def test_the_hpa_does_what_the_policy_says(tmp_path: Path) -> None:
    journal = Journal()
    run = prepare(load(ahead(tmp_path)), seed=1, journal=journal)
    report = finish(run)
    assert report.requests.done > 500
    assert report.replicas.most > 4, "the rush is answered"
    decided = {tick.as_of_s: tick.decision for tick in journal.ticks}
    assert all(decision.replicas is not None for decision in decided.values())
    by_tokens = [decision for decision in decided.values() if decision.steps[0].rule == "work"]
    assert len(by_tokens) > 0.9 * len(decided)
    assert {"work", "ahead"} <= {step.rule for decision in by_tokens for step in decision.steps}
    for sync in journal.syncs:
        (asked,) = sync.usage_milli.values()
        assert isinstance(asked, int)
        if not sync.verdict.steps:  # neither a rate of change nor a bound stood in the way
            assert sync.verdict.replicas == asked // 1000
    assert sum(not sync.verdict.steps for sync in journal.syncs) > 0.9 * len(journal.syncs)


def test_of_a_run_one_instant_a_minute_is_learnt(tmp_path: Path) -> None:
    run = prepare(load(ahead(tmp_path, "20m")), seed=1)
    finish(run)
    published = run.control.scaler.published[0]
    learnt = run.control.scaler.pasts[0].learnt
    assert published.decision.replicas is not None
    assert len(learnt.at_s) > 15
    assert len({at_s // 60 for at_s in learnt.at_s}) == len(learnt.at_s)


def test_a_recorded_run_is_replayed_to_the_same_decisions(tmp_path: Path) -> None:
    path, log = ahead(tmp_path, "20m"), tmp_path / "scaler.log"
    assert sim("run", path, "--seed", "3", "--record", log).exit_code == 0
    found = printed(sim("replay", log, "--scaled-object", path, "--json", "-"))
    assert found["evaluations"] > 70
    assert found["differences"] == []


def test_ahead_and_the_default_see_the_same_load(tmp_path: Path) -> None:
    """A comparison in the words of the command; which is better depends on the load (docs/triggers.md)."""
    result = sim("compare", "agents", ahead(tmp_path), "--seeds", "0-1", "--json", "-")
    assert result.exit_code in {0, 1}, result.stderr
    assert json.loads(result.stdout)["seeds"] == [0, 1]


@pytest.mark.parametrize("at", ["25m"])
def test_explain_tells_demand_headroom_and_hold(tmp_path: Path, at: str) -> None:
    told = " ".join(sim("explain", ahead(tmp_path), "--at", at).stdout.split())
    assert "prompt tokens/s of 3700 a replica" in told
    assert "replicas' demand, the highest of" in told
