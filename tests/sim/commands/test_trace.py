"""Loads by themselves: what they are like, in another form, and made."""

import os
from pathlib import Path

import numpy as np
import pytest

from sim.serving.turns import open_loop
from sim.statistics import of
from sim.workloads.recognise import kind_of
from sim.workloads.trace import TraceError
from tests.sim.commands.scenes import SHORT, printed, scene, sim

DATA = Path(os.environ.get("SLICEWISE_DATA", Path(__file__).parents[4] / "shared" / "data")) / "llm"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2026-01-01 00:00:00,100,5\n2026-01-01 00:00:10,300,15\n"


def test_statistics_of_a_load_that_can_be_counted_by_hand() -> None:
    load = open_loop(np.array([0.0, 1.0, 1.0, 2.0, 30.0]), np.array([10, 20, 30, 40, 50]), np.array([1, 1, 1, 1, 6]))
    found = of(load)
    assert (found.requests, found.arrivals, found.span_s, found.sessions) == (5, 5, 30.0, 0)
    assert found.per_s == pytest.approx(5 / 30, abs=1e-6)
    assert found.gap_cv == pytest.approx(np.std([1, 0, 1, 28]) / 7.5, abs=1e-6)
    assert found.peak_to_mean == {"1s": 15.0, "10s": 3.0}, "windows of which two have room"
    assert found.prompt_tokens is not None
    assert (found.prompt_tokens.mean, found.prompt_tokens.max) == (30.0, 50.0)
    assert found.prefix_reuse == 0.0


def test_statistics_of_nothing() -> None:
    found = of(open_loop(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)))
    assert (found.requests, found.per_s, found.gap_cv, found.prompt_tokens) == (0, 0.0, None, None)


@pytest.mark.parametrize(
    ("name", "kind", "published"),
    [
        # Patel et al. 2024, computed from the file: CV 13.15, prompts 2,048, answers 28; 10-s peak 12.8 times the mean
        pytest.param(
            "azure_2023_code.csv.gz",
            "azure",
            {"requests": 8819, "gap_cv": 13.15, "per_s": 2.57, "prompt": 2048, "output": 28, "peak 10s": 12.8},
            id="Azure code",
        ),
        # kvcache-ai/Mooncake: 12,031 requests, prompt 12,035, answer 343, 36.6 % of blocks seen before
        pytest.param(
            "mooncake_conversation.jsonl.gz",
            "mooncake",
            {"requests": 12_031, "prompt": 12_035, "output": 343, "block_reuse": 0.366},
            id="Mooncake conversation",
        ),
    ],
)
def test_published_statistics(name: str, kind: str, published: dict[str, float]) -> None:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"no {name} in {DATA}; set SLICEWISE_DATA to the folder that holds llm/{name}")
    assert kind_of(path) == kind
    found = printed(sim("trace", "stats", path, "--json", "-"))
    values = found | {
        "prompt": found["prompt_tokens"]["mean"],
        "output": found["output_tokens"]["mean"],
        "peak 10s": found["peak_to_mean"]["10s"],
    }
    assert {key: values[key] for key in published} == pytest.approx(published, rel=0.01)


def test_stats_for_people(tmp_path: Path) -> None:
    load = tmp_path / "load.jsonl"
    made = sim("trace", "generate", "agents", "--set", "sessions=[{at: 0m, perMinute: 20}]", "-o", load)
    assert made.exit_code == 0, made.output
    text = sim("trace", "stats", load).stdout
    for part in ("load.jsonl: turns", "turns a session", "tool wait, s", "human wait, s", "% of prompt tokens, within"):
        assert part in text
    found = printed(sim("trace", "stats", load, "--json", "-"))
    assert found["schema"] == "slicewise.dev/sim-trace-stats/1"
    assert 0.5 < found["prefix_reuse"] < 1
    # TraceLab: 90 % of the tools answer within 13.6 s, 3 to 5 % take over a minute; cut off where the hour ends
    assert found["tool_wait_s"]["p90"] == pytest.approx(13.6, rel=0.3)


def test_what_is_generated_and_converted_runs_in_a_scenario(tmp_path: Path) -> None:
    load = tmp_path / "load.csv"
    option = "sessions=[{at: 0m, perMinute: 8}]"
    sim("trace", "generate", "agents", "--set", option, "--duration", "6m", "--to", "csv", "-o", load)
    head = SHORT.index("workload:")
    text = SHORT[:head] + "workload: {kind: turns}\n" + SHORT[SHORT.index("engine:\n") :]
    result = sim("run", scene(tmp_path, text), "--trace", load, "--json")
    assert result.exit_code == 0, result.output
    assert printed(result)["sessions"]["begun"] > 20


def test_convert_is_the_same_load(tmp_path: Path) -> None:
    source = tmp_path / "x.csv"
    source.write_text(AZURE)
    rows = sim("trace", "convert", source).stdout.splitlines()
    assert rows == [
        '{"at_s": 0, "prompt_tokens": 100, "output_tokens": 5}',
        '{"at_s": 10, "prompt_tokens": 300, "output_tokens": 15}',
    ]
    assert sim("trace", "convert", source, "--set", "speed=2", "--to", "csv").stdout.splitlines()[2] == ",5,,,300,15"


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        ("TIMESTAMP,ContextTokens,GeneratedTokens", "azure"),
        ("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type", "burstgpt"),
        ("t_s,client,rate_rps,iat_cv", "servegen"),
        ("session,at_s,wait_s,human,prompt_tokens,output_tokens", "turns"),
        ('{"at_s": 0, "prompt_tokens": 1, "output_tokens": 1}', "turns"),
        ('{"timestamp": 0, "input_length": 1, "hash_ids": []}', "mooncake"),
        ('{"resourceSpans": []}', "otel"),
        ('{"status": "success", "data": {}}', "prometheus"),
        ('{"status": "success",', "prometheus"),
        ('{__name__="load"} 5 0', "prometheus"),
    ],
)
def test_kinds_are_known_by_their_first_line(tmp_path: Path, first: str, kind: str) -> None:
    path = tmp_path / "x"
    path.write_text(first + "\n")
    assert kind_of(path) == kind


@pytest.mark.parametrize("first", ["a,b,c", '{"a": 1}', "{half", ""])
def test_what_is_not_known_is_not_guessed(tmp_path: Path, first: str) -> None:
    path = tmp_path / "x"
    path.write_text(first)
    with pytest.raises(TraceError, match="say which it is with --kind"):
        kind_of(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["generate", "azure"], "no such kind here: azure; want one of agents, bursts", id="needs a trace"),
        pytest.param(["generate", "agents"], "sessions: is required", id="a field is missing"),
        pytest.param(["generate", "agents", "--set", "x"], "--set: want FIELD=VALUE", id="no value"),
        pytest.param(["stats", "FILE", "--kind", "poisson"], "no such kind here: poisson", id="needs none"),
        pytest.param(["stats", "FILE", "--duration", "1"], "--duration: want a number with its unit", id="no unit"),
        pytest.param(["convert", "FILE", "-o", "/nowhere/x"], "cannot be written", id="no such folder"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str], message: str) -> None:
    source = tmp_path / "x.csv"
    source.write_text(AZURE)
    result = sim("trace", *(source if a == "FILE" else a for a in arguments))
    assert result.exit_code == 2, result.output
    assert message in result.stderr
