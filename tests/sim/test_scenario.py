"""Scenario files: every fault at once, with file, line, field and rule; traces and the command line likewise."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sim.cli import app
from sim.scenario import bundled, load
from sim.serving.pool import NO_LIMIT
from sim.serving.turns import NO_SESSION, PS_PER_S
from sim.strict import ConfigError, parse
from sim.workloads import WORKLOADS, agents, azure, poisson
from sim.workloads.trace import TraceError

AGENTS = bundled()["agents"].read_text()


def faults_of(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(f).removeprefix(f"{path}:") for f in caught.value.faults]


def line_of(text: str, part: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)


FULL = """
sharing: {by: time-slicing, interference: none}
loss: {meanLife: 2d, notice: 2m}
percentageOfNodesToScore: 50
provisioning: {batch: 1s, emptyAfter: 5m}
"""


def test_everything_can_be_said(tmp_path: Path) -> None:
    engine = "maxNumSeqs: 32\n  maxRequests: 40\n  speculative: {tokens: 3, acceptance: 0.8, draft: 1ms}"
    text = AGENTS.replace("maxNumSeqs: 32", engine)
    text = text.replace("cluster:\n", "cluster:\n" + "".join(f"  {line}\n" for line in FULL.split("\n") if line))
    path = tmp_path / "x.yaml"
    path.write_text(text)
    yaml = load(path).yaml
    plain = load(bundled()["agents"]).yaml
    assert yaml.engine.entry.times.drafts == 3
    assert yaml.engine.entry.times.iteration_ps(8, 1000) < plain.engine.entry.times.iteration_ps(8, 1000)
    assert (yaml.engine.limits.max_requests, plain.engine.limits.max_requests) == (40, NO_LIMIT)
    assert (yaml.cluster.sharing.by, yaml.cluster.percentage_of_nodes_to_score) == ("time-slicing", 50)
    assert yaml.cluster.loss is not None
    assert (yaml.cluster.loss.mean_life, plain.cluster.loss) == (172_800.0, None)


@pytest.mark.parametrize(
    ("name", "basis"),
    [
        pytest.param("a100-80-llama-3.1-8b", "interpolated", id="as in the catalog"),
        pytest.param("a100-80-llama-3.1-8b-bf16-tp1", "interpolated", id="with everything said"),
        pytest.param("a100-80-llama-3-8b", "interpolated", id="another name of the model"),
        pytest.param("a100-80-qwen2.5-7b", "roofline", id="not in the catalog, as it is published, on one GPU"),
    ],
)
def test_an_engine_has_one_name(tmp_path: Path, name: str, basis: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(AGENTS.replace("catalog: a100-80-llama-3.1-8b", f"catalog: {name}"))
    entry = load(path).yaml.engine.entry
    assert entry.basis == basis
    assert (entry == load(bundled()["agents"]).yaml.engine.entry) == (basis != "roofline")


@pytest.mark.parametrize(
    ("before", "after", "at", "fault"),
    [
        pytest.param(
            "duration: 1h", "duration: 60", "duration: 60", "duration: want a number with its unit", id="unit"
        ),
        pytest.param("duration: 1h", "duration: 1h\nspeed: 3", "speed: 3", "speed: unknown field", id="unknown field"),
        pytest.param(
            "duration: 1h", "duration: 1h\nduration: 2h", "duration: 2h", "duration: is given twice", id="twice"
        ),
        pytest.param("duration: 1h\n", "", "", "duration: is required", id="missing field"),
        pytest.param(
            "kind: agents", "kind: robots", "kind: robots", "workload.kind: want one of agents, azure", id="kind"
        ),
        pytest.param(
            "{at: 20m, perMinute: 8}",
            "{at: 20m, rate: 8}",
            "rate: 8",
            "workload.sessions[2].perMinute: is required",
            id="deep",
        ),
        pytest.param(
            "{at: 20m, perMinute: 8}",
            "{at: 15m, perMinute: 8}",
            "workload:",
            "workload: instants must ascend",
            id="order",
        ),
        pytest.param(
            "catalog: a100-80-llama-3.1-8b",
            "catalog: b300",
            "catalog: b300",
            "engine.catalog: no such engine; there are",
            id="engine",
        ),
        pytest.param(
            "gpu: a100-80", "gpu: a1000", "gpu: a1000", "cluster.nodes[0].gpu: no such GPU model; there are", id="gpu"
        ),
        pytest.param(
            "gpu: a100-80", "gpu: t4", "gpu: t4", "cluster.nodes[0].mode: t4 cannot be cut", id="not MIG-capable"
        ),
        pytest.param(
            "gpu: a100-80", "gpu: h100-80", "", "engine.catalog: a100-80-llama-3.1-8b is for a100-80", id="mismatch"
        ),
        pytest.param(
            "gpu-slice: 1",
            "gpu-slice: 2",
            "pod:",
            "pod: asks for 2 GPUs or slices, but a100-80-llama-3.1-8b runs on 1",
            id="count",
        ),
        pytest.param(
            "gpu-slice: 1",
            "gpu-slice: some",
            "pod:",
            "pod: pod agents/probe: containers[0] (engine) resource",
            id="demand",
        ),
        pytest.param(
            "catalog: a100-80-llama-3.1-8b",
            "served: {model: meta-llama/Llama-3.1-8B, gpu: A100}",
            "served",
            "engine.served: is no field any more; name the engine instead, catalog: a100-80-llama-3.1-8b-bf16-tp1",
            id="the other way to name an engine",
        ),
        pytest.param(
            "catalog: a100-80-llama-3.1-8b",
            "served: {model: gpt-2, gpu: A100}",
            "served",
            "engine.served: is no field any more; name the engine instead in catalog: there are a100-80",
            id="the other way, of a model that nobody knows",
        ),
        pytest.param("catalog: a100-80-llama-3.1-8b\n  ", "", "engine:", "engine.catalog: is required", id="no engine"),
        pytest.param("slicewise.dev/gpu-slice", "cpu", "pod:", "pod: asks for no GPU", id="no demand"),
        pytest.param(
            "maxNumSeqs: 32",
            "maxNumSeqs: 32\n  speculative: {tokens: 4, acceptance: 1.5}",
            "speculative",
            "engine.speculative.acceptance: input should be less than or equal to 1",
            id="accepted more often than always",
        ),
        pytest.param(
            "maxNumBatchedTokens: 2048",
            "maxNumBatchedTokens: 128\n  speculative: {tokens: 4, acceptance: 0.5}",
            "engine:",
            "engine: maxNumBatchedTokens 128 is below 160, which maxNumSeqs needs to decode",
            id="no places for drafts",
        ),
        pytest.param(
            "{count: 2,",
            "{count: 2, maxCount: 1,",
            "maxCount",
            "maxCount 1 is below count",
            id="fewer nodes at most than at first",
        ),
        pytest.param(
            'sessionsPerReplica: "4"',
            'sessionPerReplica: "4"',
            "metadata:\n        sc",
            "unknown key; did you mean",
            id="trigger",
        ),
        pytest.param(
            "pollingInterval: 15", "pollingInterval: often", "pollingInterval: often", "pollingInterval", id="manifest"
        ),
        pytest.param("firstToken: 10s\n  endToEnd: 60s", "{}", "slo:", "slo: want at least one of", id="empty SLO"),
        pytest.param("name: agents\nabout", "name: [\nabout", "", "not YAML", id="not YAML"),
        pytest.param(
            "slo:\n", "scaler: {tick: 45s}\nslo:\n", "tick: 45s", "scaler.tick: a trigger's maxAge must", id="tick"
        ),
    ],
)
def test_faults(tmp_path: Path, before: str, after: str, at: str, fault: str) -> None:
    assert before in AGENTS
    text = AGENTS.replace(before, after)
    found = faults_of(tmp_path, text)
    assert any(fault in f for f in found), found
    if at and "\n" not in at:
        assert any(f.startswith(f"{line_of(text, at)}:") for f in found), (line_of(text, at), found)


def test_all_faults_at_once(tmp_path: Path) -> None:
    text = AGENTS.replace("maxNumSeqs: 32", "maxNumSeqs: 0").replace("count: 2", "count: none").replace("60s", "sixty")
    assert len(faults_of(tmp_path, text)) == 3


@pytest.mark.parametrize("text", ["", "- a\n", "just text\n"])
def test_what_is_no_mapping(tmp_path: Path, text: str) -> None:
    assert faults_of(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml")


def test_manifests_may_stand_beside_the_scenario(tmp_path: Path) -> None:
    (document,) = parse(AGENTS, "agents.yaml")
    import yaml  # noqa: PLC0415

    value = dict(document.value)
    manifests = [
        {"apiVersion": "v1", "kind": "ConfigMap"},
        value["scaledObject"],
        {"kind": "Deployment", "spec": {"template": value["pod"]}},
    ]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(manifests))
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(value | {"scaledObject": "all.yaml", "pod": "all.yaml"}))
    beside, within = load(tmp_path / "x.yaml"), load(bundled()["agents"])
    assert beside.yaml == within.yaml
    assert beside.digest != within.digest
    (tmp_path / "all.yaml").write_text("kind: Service\n")
    with pytest.raises(ConfigError, match=r"x.yaml:\d+: scaledObject: there is no ScaledObject in all.yaml"):
        load(tmp_path / "x.yaml")


@pytest.mark.parametrize("name", bundled())
def test_bundled_scenarios_are_named_as_their_files(name: str) -> None:
    assert load(bundled()[name]).yaml.name == name


# -- traces -----------------------------------------------------------------------------------------------------------

GOOD = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.98,4808,10\n2023-11-16 18:17:02.50,3180,8\n"


@pytest.mark.parametrize("zipped", [False, True])
def test_azure_trace(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / ("t.csv.gz" if zipped else "t.csv")
    path.write_bytes(gzip.compress(GOOD.encode()) if zipped else GOOD.encode())
    turns = azure.turns(azure.Config(kind="azure"), 0, 3600.0, path)
    assert (turns.arrival_ps / PS_PER_S).tolist() == [0.0, 1.48]
    assert (turns.prompt.tolist(), turns.output.tolist()) == ([3180, 4808], [8, 10])
    faster = azure.turns(azure.Config(kind="azure", speed=2.0), 0, 0.5, path)
    assert len(faster) == 1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("", "t.csv:1: want the columns TIMESTAMP", id="empty"),
        pytest.param("TIMESTAMP,ContextTokens\n", "missing: GeneratedTokens", id="a column is missing"),
        pytest.param(GOOD.splitlines()[0] + "\n", "there is no request in it", id="no rows"),
        pytest.param(GOOD + "2023-11-16 18:17:04,many,1\n", "t.csv:4: ContextTokens: want a whole number", id="text"),
        pytest.param(GOOD + "2023-11-16 18:17:04,1,0\n", "t.csv:4: GeneratedTokens: want a whole number", id="zero"),
        pytest.param(GOOD + "2023-11-16 18:17:04,1\n", "t.csv:4: list index", id="short row"),
        pytest.param(GOOD + "yesterday,1,1\n", "t.csv: TIMESTAMP: want times such as", id="no time"),
    ],
)
def test_faults_of_a_trace(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(TraceError) as caught:
        azure.turns(azure.Config(kind="azure"), 0, 3600.0, path)
    assert fault in str(caught.value)


def test_a_trace_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(b"not gzip")
    with pytest.raises(TraceError, match=r"t\.csv\.gz: cannot be read"):
        azure.turns(azure.Config(kind="azure"), 0, 3600.0, path)


# -- generated loads --------------------------------------------------------------------------------------------------

RATES = [{"at": "0m", "perMinute": 30}, {"at": "30m", "perMinute": 90}]
CONFIGS = {
    "agents": {"kind": "agents", "sessions": RATES},
    "poisson": {
        "kind": "poisson",
        "rate": RATES,
        "promptTokens": {"p50": 500, "p90": 2000},
        "outputTokens": {"p50": 100, "p90": 400, "max": 500},
    },
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_same_seed_same_load_and_its_rate(kind: str) -> None:
    workload = WORKLOADS[kind]
    config = workload.config.model_validate(CONFIGS[kind])
    one, same, other = (workload.turns(config, seed, 3600.0, None) for seed in (4, 4, 5))
    assert all(np.array_equal(getattr(one, f), getattr(same, f)) for f in one.__dataclass_fields__)
    assert len(one) != len(other) or not np.array_equal(one.arrival_ps, other.arrival_ps)
    first = one.arrival_ps >= 0
    # 30 a minute rising to 90 over half an hour, then 90: 1800 + 2700 in the mean
    assert int(first.sum()) == pytest.approx(4500, abs=3 * 4500**0.5)
    assert (one.prompt >= 1).all()
    assert (one.output >= 1).all()


def test_poisson_cuts_off_at_max() -> None:
    turns = poisson.turns(poisson.Config.model_validate(CONFIGS["poisson"]), 1, 3600.0, None)
    assert turns.output.max() == 500
    assert np.median(turns.prompt) == pytest.approx(500, rel=0.1)
    assert (turns.session == NO_SESSION).all()


def test_agent_contexts_grow_by_what_was_said_and_are_compacted() -> None:
    config = agents.Config.model_validate(CONFIGS["agents"])
    turns = agents.turns(config, 2, 3600.0, None)
    later = np.flatnonzero(turns.arrival_ps < 0)
    grown = turns.prompt[later] > turns.prompt[later - 1]
    assert (turns.prompt[later][grown] > (turns.prompt + turns.output)[later - 1][grown]).all()
    assert (turns.prompt[later][~grown] == config.compacted_tokens).all()
    assert (turns.prompt <= config.context_limit_tokens).all()
    assert (turns.session[later] == turns.session[later - 1]).all()
    assert turns.follows[later - 1].all()
    tool_s = turns.wait_ps[later][~turns.human[later]] / PS_PER_S
    # a session is cut where its next turn could not come within the hour, so long waits are rarer than in the source
    assert np.quantile(tool_s, [0.5, 0.9]) == pytest.approx([0.3, 13.6], rel=0.25)


def test_no_load_is_a_load() -> None:
    config = agents.Config.model_validate({"kind": "agents", "sessions": [{"at": "0m", "perMinute": 0}]})
    assert len(agents.turns(config, 0, 60.0, None)) == 0


# -- the command line -------------------------------------------------------------------------------------------------

RUN = CliRunner()


def test_help_is_short_and_complete() -> None:
    text = RUN.invoke(app, ["run", "--help"]).output
    assert all(option in text for option in ("--trace", "--seed", "--json", "--changes", "--engine", "SCENARIO"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            ["nope"], "no such scenario: nope; give a YAML file, or one of the bundled: agents, az", id="name"
        ),
        pytest.param(
            ["azure-code"], "this scenario replays a recorded trace; give it with --trace PATH", id="no trace"
        ),
        pytest.param(["agents", "--seed", "-1"], "--seed", id="seed"),
        pytest.param(["agents", "--trace", "nowhere.csv"], "nowhere.csv", id="trace that is not there"),
    ],
)
def test_wrong_usage_exits_2_with_a_line_on_stderr(arguments: list[str], message: str) -> None:
    result = RUN.invoke(app, ["run", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


SHORT = AGENTS.replace("duration: 1h", "duration: 5m").replace("{at: 0m, perMinute: 1}", "{at: 0m, perMinute: 4}")


def test_terminal_report(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(SHORT)
    result = RUN.invoke(app, ["run", str(path), "--changes", "1"])
    assert result.exit_code == 0, result.output
    for part in ("GPU hours", "sessions alive", "replicas wanted", "balances hold", "not modelled", "interpolated"):
        assert part in result.stdout


@pytest.mark.parametrize(
    ("promise", "code"),
    [
        pytest.param("{attainment: 0.01, gpuHours: 100, reversals: 99}", 0, id="kept"),
        pytest.param("{attainment: 1.0, gpuHours: 0.0001, reversals: 99}", 1, id="broken"),
    ],
)
def test_promises_decide_the_exit_code(tmp_path: Path, promise: str, code: int) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(f"{SHORT}promises: {promise}\n")
    result = RUN.invoke(app, ["run", str(path)])
    assert result.exit_code == code
    assert ("broken promises: " in result.stderr) is (code == 1)


def test_an_engine_that_does_not_fit_says_so(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SHORT.replace("3g.40gb", "1g.10gb"))
    result = RUN.invoke(app, ["run", str(path)])
    assert result.exit_code == 2
    assert "a100-80-llama-3.1-8b needs 17365 MiB" in result.stderr


def test_scenarios_lists_the_bundled() -> None:
    text = RUN.invoke(app, ["scenarios"]).stdout
    assert all(name in text for name in bundled())
