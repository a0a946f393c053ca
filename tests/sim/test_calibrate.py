"""Calibration finds what it was hidden; what is read and what is unknown is told with its place."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sim.calibrate import Model as Fitted
from sim.calibrate import Settings, calibrate, parameters, shape
from sim.cli import app
from sim.serving.closed import closed_loop
from sim.serving.observed import Log, Table, read
from sim.serving.roofline import UnknownError, find, roofline, specs
from sim.serving.times import Engine, load
from sim.streams import stream
from sim.workloads.trace import TraceError

SETTINGS = Settings(64, 2048, 81559, 0.9, kv_blocks=4000)
H100 = load()["h100-80-llama-3.1-8b"]
RUN = CliRunner()


def log_of(engine: Engine, path: Path, requests: int = 200) -> Path:
    """What that engine would have written."""
    random = stream(5, "calibrate")
    queued = np.cumsum(random.exponential(0.08, requests))
    prompts, outputs = random.integers(50, 3000, requests), random.integers(2, 400, requests)
    lines = [
        {"input_toks": int(p), "output_toks": int(o), "queued_ts": q, "first_token_ts": q, "last_token_ts": q}
        for q, p, o in zip(queued, prompts, outputs, strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    log = read(path)
    assert isinstance(log, Log)
    seen = log.predict(shape(SETTINGS, Fitted(engine.times, 0.0, 4000)), 0.0)
    for line, first, last in zip(lines, seen.ttft, seen.e2e, strict=True):
        line |= {"first_token_ts": line["queued_ts"] + first, "last_token_ts": line["queued_ts"] + last}
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def slower(engine: Engine, factor: float) -> Engine:
    times = engine.times
    return replace(engine, times=replace(times, a0=round(times.a0 * factor), b1=round(times.b1 * factor)))


def test_a_log_of_the_engine_itself_has_no_error(tmp_path: Path) -> None:
    found = calibrate(H100, read(log_of(H100, tmp_path / "log.jsonl")), SETTINGS, check_only=True)
    assert all(abs(e["mean_error_pct"]) < 0.01 and e["mape_pct"] < 0.01 for e in found.errors.values())
    assert found.errors == found.before


def test_an_engine_that_is_a_third_slower_is_found(tmp_path: Path) -> None:
    hidden = slower(H100, 1.35)
    found = calibrate(H100, read(log_of(hidden, tmp_path / "log.jsonl")), SETTINGS, check_only=False)
    assert found.before["e2e_s"]["mape_pct"] > 15
    assert found.errors["e2e_s"]["mape_pct"] < 3
    assert found.errors["tpot_s"]["mape_pct"] < 2
    assert found.engine.basis == "calibrated"
    assert parameters(found.engine)["a0_ms"] == pytest.approx(parameters(hidden)["a0_ms"], rel=0.1)


def test_the_size_of_the_cache_is_found_where_it_is_not_known(tmp_path: Path) -> None:
    tight = replace(SETTINGS, kv_blocks=None, gpu_memory_utilization=0.5)
    log = read(log_of(H100, tmp_path / "log.jsonl"))
    found = calibrate(H100, log, tight, check_only=False)
    assert found.errors["e2e_s"]["mape_pct"] <= found.before["e2e_s"]["mape_pct"]


def test_a_table_is_a_closed_loop(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(
        gzip.compress(b"isl,osl,concurrency,x_ttft_ms,x_tpot_ms,tp\n1000,100,4,100,10,1\n500,50,2,60,8,2\n")
    )
    table = read(path, {"tp": "1"})
    assert isinstance(table, Table)
    assert table.points == ((1000, 100, 4),)
    assert table.measured.e2e == pytest.approx([0.1 + 0.01 * 99])
    found = calibrate(H100, table, SETTINGS, check_only=False)
    assert found.errors["tpot_s"]["mape_pct"] < 1
    assert found.rows == 1


def test_clients_of_a_closed_loop_wait_for_their_answers() -> None:
    turns = closed_loop(3, 100, 40)
    assert len(turns) == 30
    assert (turns.arrival_ps == 0).sum() == 3
    assert turns.follows.sum() == 27
    assert turns.output.mean() == pytest.approx(40, rel=0.1)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        pytest.param("x.txt", "", "want a request log", id="another kind of file"),
        pytest.param("x.jsonl", "\n", "there is no request in it", id="an empty log"),
        pytest.param("x.jsonl", "{}", "x.jsonl:1: want a JSON object with input_toks", id="a field is missing"),
        pytest.param("x.jsonl", "nonsense", "x.jsonl:1: want a JSON object", id="no JSON"),
        pytest.param(
            "x.jsonl",
            '{"input_toks": 1, "output_toks": 1, "queued_ts": 5, "first_token_ts": 4, "last_token_ts": 6}',
            "x.jsonl:1: want at least one token each way, and queued <= first",
            id="time runs backwards",
        ),
        pytest.param(
            "x.csv", "isl,osl\n", "x.csv:1: want the columns isl, osl, concurrency; missing: conc", id="column"
        ),
        pytest.param(
            "x.csv", "isl,osl,concurrency,tpot_ms\n", "want one column with ttft_ms in its name", id="no ttft"
        ),
        pytest.param("x.csv", "isl,osl,concurrency,ttft_ms,tpot_ms\n", "no row has a measurement", id="no rows"),
        pytest.param(
            "x.csv", "isl,osl,concurrency,ttft_ms,tpot_ms\na,1,1,1,1\n", "x.csv:2: invalid literal", id="text"
        ),
    ],
)
def test_faults_of_measurements(tmp_path: Path, name: str, text: str, fault: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(TraceError) as caught:
        read(path)
    assert fault in str(caught.value)


def test_the_catalog_goes_before_the_roofline() -> None:
    assert find("h100-80", "llama-3.1-8b", 1, "bf16") is H100
    assert find("h100-80", "llama-3.1-8b", 2, "bf16").basis == "roofline"


@pytest.mark.parametrize("name", load())
def test_a_roofline_is_within_a_factor_of_what_was_measured(name: str) -> None:
    """Decoding alone and in a crowd, and a prompt: no promise, but no other order of magnitude."""
    measured = load()[name]
    guessed = roofline(measured.gpu, measured.model, measured.tensor_parallel, measured.precision)
    for work in ((1, 500, []), (64, 64_000, []), (0, 0, [(2048, 0)])):
        assert 1 / 1.6 < guessed.times.iteration_ps(*work) / measured.times.iteration_ps(*work) < 1.6
    assert guessed.kv_bytes_per_token == measured.kv_bytes_per_token
    assert guessed.weights_mib == pytest.approx(measured.weights_mib, rel=0.05)


@pytest.mark.parametrize("model", specs("models"))
def test_experts_are_read_as_tokens_come(model: str) -> None:
    times = roofline("h100-80", model, 8, "fp8").times
    alone, few, many = (times.iteration_ps(n, 0) for n in (1, 16, 256))
    assert alone < few < many


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        pytest.param(("b300", "llama-3.1-8b", 1, "bf16"), "nothing is known of 'b300'; known gpus: h100-80", id="GPU"),
        pytest.param(("t4", "gpt-2", 1, "bf16"), "nothing is known of 'gpt-2'; known models: llama", id="model"),
        pytest.param(
            ("t4", "llama-3.1-8b", 3, "bf16"), "no such tensor parallelism: 3; there are 1, 2", id="parallelism"
        ),
        pytest.param(("t4", "llama-3.1-8b", 1, "fp3"), "no such precision: fp3; there are bf16", id="precision"),
    ],
)
def test_what_is_unknown_says_what_is_known(asked: tuple[str, str, int, str], fault: str) -> None:
    with pytest.raises(UnknownError, match=fault):
        find(*asked)


def test_the_command(tmp_path: Path) -> None:
    log = str(log_of(H100, tmp_path / "log.jsonl"))
    options = ["--gpu", "h100-80", "--model", "llama-3.1-8b", "--kv-blocks", "4000", "--max-num-seqs", "64"]
    base = ["calibrate", log, *options, "--max-num-batched-tokens", "2048", "--check-only"]
    printed = RUN.invoke(app, [*base, "--json", "-"])
    assert printed.exit_code == 0, printed.output
    document = json.loads(printed.stdout)
    assert set(document["errors"]) == {"ttft_s", "tpot_s", "e2e_s"}
    assert set(document["errors"]["e2e_s"]) == {"mean_error_pct", "mape_pct"}
    assert document["parameters"]["a0_ms"] == 5.42
    assert document["rows"] == 200
    told = RUN.invoke(app, [*base, "--json", str(tmp_path / "out.json")])
    assert "time per output token" in told.stdout
    assert json.loads((tmp_path / "out.json").read_text()) == document
    wrong = RUN.invoke(app, ["calibrate", log, "--gpu", "b300", "--model", "llama-3.1-8b"])
    assert wrong.exit_code == 2
    assert "add one to sim/serving/specs/gpus.toml" in wrong.stderr
    small = RUN.invoke(app, ["calibrate", log, "--gpu", "t4", "--model", "llama-3.1-70b"])
    assert small.exit_code == 2
    assert "no room for a KV cache" in small.stderr
