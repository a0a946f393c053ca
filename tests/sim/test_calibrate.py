"""Calibration finds what it was hidden; what is read and what is unknown is told with its place."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sim.calibrate import LENGTHS, calibrate, held_out, parameters
from sim.cli import app
from sim.fit import Model as Fitted
from sim.fit import Settings, shape
from sim.serving.closed import closed_loop
from sim.serving.defaults import defaults
from sim.serving.entry import text
from sim.serving.find import asked_for, find
from sim.serving.known import UnknownError, canonical, known, specs
from sim.serving.measured import read
from sim.serving.observed import Latencies, Log, Table
from sim.serving.pool import Shape
from sim.serving.roofline import roofline
from sim.serving.times import Engine, load, parse
from sim.streams import stream

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
    assert turns.output.mean() == pytest.approx(40, rel=0.01)
    assert turns.prompt.mean() == pytest.approx(100, rel=0.01)
    assert 36 <= turns.output.min() < turns.output.max() <= 44
    equal = closed_loop(3, 100, 40, spread=0.0)
    assert set(equal.output.tolist()) == {40}
    assert set(equal.prompt.tolist()) == {100}


def test_equal_lengths_keep_clients_behind_one_another() -> None:
    """A first token waits for the prompt before it, whatever the number of clients; spread lengths lose step."""
    roomy = replace(SETTINGS, kv_blocks=40_000, max_num_batched_tokens=8192)
    fast = shape(roomy, Fitted(H100.times, 0.0, 40_000))
    points = tuple((4096, 128, clients) for clients in (8, 16))
    table = Table(points, Latencies(*(np.full(2, 0.1) for _ in range(3))), ("run", "run"))
    spread, equal = (replace(table, lengths=lengths).predict(fast, 0.0) for lengths in LENGTHS)
    alone_s = H100.times.iteration_ps(0, 0, [(4096, 0)]) / 1e12
    assert (equal.ttft > 1.8 * alone_s).all()
    assert spread.ttft[0] < equal.ttft[0]
    measured = Table(points, equal, ("run", "run"))
    told = calibrate(H100, measured, replace(roomy, lengths="spread"), check_only=True)
    assert told.lengths == "spread"
    assert told.errors["ttft_s"]["mape_pct"] > 10
    assert calibrate(H100, measured, roomy, check_only=True).lengths == "equal"


def test_the_catalog_goes_before_what_is_carried_over_and_that_before_the_roofline() -> None:
    assert find(known("h100-80", "llama-3.1-8b", 1)) is H100
    assert find(known("h100-80", "llama-3.1-8b", 4)).basis == "interpolated"
    assert find(known("h100-80", "qwen2.5-72b", 4)).basis == "roofline"


@pytest.mark.parametrize("name", load())
def test_a_roofline_is_within_a_factor_of_what_was_measured(name: str) -> None:
    """Decoding alone and in a crowd, and a prompt: no promise, but no other order of magnitude."""
    measured = load()[name]
    asked = known(measured.gpu, measured.model, measured.tensor_parallel, measured.precision)
    guessed = roofline(asked)
    for work in ((1, 500, []), (64, 64_000, []), (0, 0, [(2048, 0)])):
        assert 1 / 1.6 < guessed.times.iteration_ps(*work) / measured.times.iteration_ps(*work) < 1.6
    assert guessed.kv_bytes_per_token == measured.kv_bytes_per_token
    assert guessed.weights_mib == pytest.approx(measured.weights_mib, rel=0.05)


@pytest.mark.parametrize(
    ("asked", "source", "ratio"),
    [
        pytest.param(("h200", "qwen3-32b", 2, "bf16"), "h100-80-qwen3-32b-tp2", 4.8 / 3.35, id="another GPU"),
        pytest.param(("h200", "gpt-oss-120b", 4, "fp4"), "h100-80-gpt-oss-120b-tp4", 4.8 / 3.35, id="of a mixture"),
    ],
)
def test_what_was_measured_on_one_gpu_is_carried_to_another(
    asked: tuple[str, str, int, str], source: str, ratio: float
) -> None:
    there, here = load()[source], find(known(*asked))
    assert here.basis == "interpolated"
    assert source in here.source
    assert there.times.c2 / here.times.c2 == pytest.approx(ratio, rel=0.01), "KV is read at the speed of the memory"
    assert here.times.b1 == pytest.approx(there.times.b1, rel=0.01), "the arithmetic is the same"
    assert here.times.fixed == pytest.approx(there.times.fixed, rel=0.01)


@pytest.mark.parametrize("model", specs("models"))
def test_experts_are_read_as_tokens_come(model: str) -> None:
    times = roofline(known("h100-80", model, 8, "fp8")).times
    alone, few, many = (times.iteration_ps(n, 0) for n in (1, 16, 256))
    assert alone < few < many


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        pytest.param(
            ("tpu-v5e", "llama-3.1-8b", 1, "bf16"), "nothing is known of 'tpu-v5e'; known gpus: h100-80", id="GPU"
        ),
        pytest.param(("t4", "gpt-2", 1, "bf16"), "nothing is known of 'gpt-2'; known models: llama", id="model"),
        pytest.param(
            ("t4", "llama-3.1-8b", 3, "bf16"), "no such tensor parallelism: 3; there are 1, 2", id="parallelism"
        ),
        pytest.param(("t4", "llama-3.1-8b", 1, "fp3"), "no such precision: fp3; there are bf16", id="precision"),
    ],
)
def test_what_is_unknown_says_what_is_known(asked: tuple[str, str, int, str], fault: str) -> None:
    with pytest.raises(UnknownError, match=fault):
        known(*asked)


@pytest.mark.parametrize(
    ("kind", "spelling", "name"),
    [
        ("gpus", "h100_sxm", "h100-80"),
        ("gpus", "NVIDIA H100 80GB HBM3", "h100-80"),
        ("gpus", "h200_sxm", "h200-141"),
        ("gpus", "a100_sxm", "a100-80"),
        ("gpus", "NVIDIA-A100-SXM4-80GB", "a100-80"),
        ("gpus", "L40S", "l40s"),
        ("gpus", "rtx_pro_6000_server", "rtx-pro-6000"),
        ("gpus", "RTXPRO6000", "rtx-pro-6000"),
        ("gpus", "RTX4090", "rtx4090"),
        ("gpus", "NVIDIA GB200", "gb200-186"),
        ("models", "meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("models", "meta-llama/Meta-Llama-3.1-70B-Instruct-FP8", "llama-3.1-70b"),
        ("models", "Qwen/Qwen3-235B-A22B-Instruct-2507", "qwen3-235b-a22b"),
        ("models", "mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b"),
        ("models", "openai/gpt-oss-120b", "gpt-oss-120b"),
    ],
)
def test_others_write_names_otherwise(kind: str, spelling: str, name: str) -> None:
    assert canonical(kind, spelling) == name


def test_a_model_may_come_with_its_own_config(tmp_path: Path) -> None:
    """The published config of Llama 3.1 8B, and what a mixture adds; weights come out as the card says."""
    llama = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
    llama |= {"intermediate_size": 14336, "vocab_size": 128256}
    folder = tmp_path / "Some-Llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(llama))
    asked = asked_for("cpu", str(folder), 1, None)
    assert (asked.gpu_name, asked.model_name, asked.precision) == ("cpu", "some-llama", "bf16")
    assert asked.model["billions"] == pytest.approx(8.03 - 0.53, abs=0.01)
    (folder / "config.json").write_text(
        json.dumps(llama | {"num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 32000})
    )
    assert asked_for("cpu", str(folder / "config.json"), 1, None).model["expert_billions"] == pytest.approx(
        45.1, abs=0.1
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param(None, "No such file", id="no file"),
        pytest.param("{", "want a model's config.json", id="no JSON"),
        pytest.param("{}", "there is no 'hidden_size'", id="another kind of model"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(tmp_path: Path, text: str | None, fault: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UnknownError, match=fault):
        asked_for("cpu", str(tmp_path), 1, None)


def test_an_engine_written_is_read_again() -> None:
    for engine in (H100, load()["h100-80-gpt-oss-120b-tp4"]):
        again = parse(text(engine))
        for work in ((1, 500, []), (64, 64_000, []), (5, 100, [(2048, 0)])):
            assert again.times.iteration_ps(*work) == pytest.approx(engine.times.iteration_ps(*work), rel=1e-4)
        assert (again.name, again.weights_mib, again.overhead_mib) == (
            engine.name,
            engine.weights_mib,
            engine.overhead_mib,
        )


def test_what_waits_before_the_engine_tells_how_many_it_serves() -> None:
    """Forty clients whose engine was started with room for four: seen in the times to first token, and found."""
    settings = replace(SETTINGS, max_num_batched_tokens=8192)
    fast = shape(settings, Fitted(H100.times, 0.0, 4000))
    few = Table(((500, 50, 40), (800, 80, 40)), NOTHING, ("run", "run"), {"run": 4}).predict(fast, 0.0)
    table = Table(((500, 50, 40), (800, 80, 40), (500, 50, 2)), _with(few, fast), ("run", "run", "other"))
    found = calibrate(H100, table, settings, check_only=False)
    assert found.limits == {"run": 4}
    assert found.errors["tpot_s"]["mape_pct"] < 1
    unfitted = calibrate(H100, table, settings, check_only=True)
    assert (unfitted.limits, unfitted.crowded) == ({"run": 4}, 2)
    assert unfitted.errors["tpot_s"]["mape_pct"] < 1
    assert unfitted.without_them["tpot_s"]["mape_pct"] < 1


NOTHING = Latencies(*(np.array([0.1, 0.1]) for _ in range(3)))


def _with(few: Latencies, fast: Shape) -> Latencies:
    other = Table(((500, 50, 2),), NOTHING, ("other",)).predict(fast, 0.0)
    return Latencies(*(np.append(a, b) for a, b in zip(few.columns(), other.columns(), strict=True)))


def test_what_is_held_out_is_predicted_by_what_is_not(tmp_path: Path) -> None:
    """Made by a slower engine: each number of clients is met by a fit to the others, and fifths of a log too."""
    hidden, points = slower(H100, 1.2), tuple((700, 80, clients) for clients in (1, 4, 16, 32))
    settings = replace(SETTINGS, lengths="spread")
    seen = Table(points, Latencies(*(np.full(4, 0.1) for _ in range(3))), ("run",) * 4).predict(
        shape(settings, Fitted(hidden.times, hidden.request_s, 4000)), hidden.request_s
    )
    table = Table(points, seen, ("run",) * 4)
    assert held_out(H100, table, settings)["tpot_s"]["mape_pct"] < 4
    log = read(log_of(hidden, tmp_path / "log.jsonl", requests=60))
    assert held_out(H100, log, settings)["tpot_s"]["mape_pct"] < 4
    few = Table(points[:2] * 2, seen.only(np.array([0, 1, 0, 1])), ("run",) * 4)
    assert held_out(H100, few, settings)["tpot_s"]["mape_pct"] < 30
    with pytest.raises(ValueError, match="nothing to hold out"):
        held_out(H100, Table(points[:1], seen.only(np.array([0])), ("run",)), settings)


@pytest.mark.parametrize(
    ("factors", "clients", "note"),
    [
        pytest.param((1000.0, 1000.0), (2, 4), "a token took 1e+03 times as long as expected", id="ms taken for s"),
        pytest.param((1.0, 1.0), (4, 4), "all rows are of 4 clients", id="one number of clients"),
        pytest.param((3.0, 1.0), (2, 4), "row 1: a token took longer with 2 clients than with 4", id="not alone"),
    ],
)
def test_what_a_reader_should_know_is_noted(factors: tuple[float, float], clients: tuple[int, int], note: str) -> None:
    points = tuple((500, 50, each) for each in clients)
    table = Table(points, Latencies(*(np.full(2, 0.1) for _ in range(3))), ("run", "run"))
    seen = table.predict(shape(SETTINGS, Fitted(H100.times, 0.0, 4000)), 0.0)
    scaled = Latencies(*(column * np.array(factors) for column in seen.columns()))
    notes = calibrate(H100, Table(points, scaled, ("run", "run")), SETTINGS, check_only=True).notes
    assert any(each.startswith(note) for each in notes), notes


def test_a_request_without_room_says_where_it_stands(tmp_path: Path) -> None:
    log = read(log_of(H100, tmp_path / "log.jsonl"))
    with pytest.raises(
        ValueError, match=r"log\.jsonl:\d+: a request of \d+ tokens has no room in a KV cache of 10 blocks"
    ):
        calibrate(H100, log, replace(SETTINGS, kv_blocks=10), check_only=True)


def test_blocks_are_counted_in_the_engines_own_size(tmp_path: Path) -> None:
    """As many tokens in larger blocks are nearly the same cache; the engine logs the number of its own blocks."""
    log = read(log_of(H100, tmp_path / "log.jsonl"))
    large = calibrate(H100, log, replace(SETTINGS, kv_blocks=500, block_tokens=128), check_only=True)
    assert large.errors["e2e_s"]["mape_pct"] < 2
    assert calibrate(H100, log, replace(SETTINGS, kv_blocks=500), check_only=True).errors["e2e_s"]["mape_pct"] > 20


def test_one_token_answers_have_no_time_per_token(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(
        "".join(
            json.dumps(
                {
                    "input_toks": 100,
                    "output_toks": 1,
                    "queued_ts": q,
                    "first_token_ts": q + 0.02,
                    "last_token_ts": q + 0.02,
                }
            )
            + "\n"
            for q in range(5)
        )
    )
    base = ["calibrate", str(path), "--gpu", "h100", "--model", "llama-3.1-8b", "--json", "-"]
    for options in ([], ["--check-only"]):
        printed = RUN.invoke(app, [*base, *options])
        assert printed.exit_code == 0, printed.output
        document = json.loads(printed.stdout)
        assert document["errors"]["tpot_s"] == {"mean_error_pct": None, "mape_pct": None}
        assert document["errors"]["ttft_s"]["mape_pct"] >= 0
        assert all(value >= 0 for value in document["parameters"].values())
    assert "not measured" in RUN.invoke(app, [*base[:-2], "--check-only"]).stdout


@pytest.mark.parametrize(
    ("gpu", "tp", "wanted"),
    [
        pytest.param("h100", 1, (1024, 8192, 16), id="70 GiB and more"),
        pytest.param("a100", 1, (256, 2048, 16), id="but not an A100"),
        pytest.param("rtx4090", 1, (256, 2048, 16), id="less"),
        pytest.param("cpu", 2, (256, 4096, 128), id="two processors"),
    ],
)
def test_an_engine_starts_as_vllm_does_on_that_hardware(gpu: str, tp: int, wanted: tuple[int, int, int]) -> None:
    found = defaults(known(gpu, "llama-3.1-8b", tp))
    assert (found.max_num_seqs, found.max_num_batched_tokens, found.block_size) == wanted


def test_a_mixture_whose_tokens_agree_on_experts_is_found() -> None:
    """Fewer a new token than random ones would ask for, and slower ones: seen in how times grow with clients."""
    engine = load()["h100-80-gpt-oss-120b-tp4"]
    skewed = replace(engine.times, experts=2 * engine.times.experts, spared=(1 << 20) * 98 // 100)
    points = tuple((500, 60, clients) for clients in (1, 2, 4, 8, 16, 32, 64))
    settings = replace(SETTINGS, max_num_batched_tokens=8192, kv_blocks=100_000)
    nothing = Latencies(*(np.full(len(points), 0.1) for _ in range(3)))
    runs = ("run",) * len(points)
    seen = Table(points, nothing, runs).predict(shape(settings, Fitted(skewed, 0.01, 100_000)), 0.01)
    found = calibrate(engine, Table(points, seen, runs), settings, check_only=False)
    assert found.before["tpot_s"]["mape_pct"] > 5
    assert found.errors["tpot_s"]["mape_pct"] < 1.5


def test_a_weak_start_is_far_from_the_truth_and_gets_there(tmp_path: Path) -> None:
    """A host's processor: twelve times faster than the prior, found from one log."""
    asked = known("cpu", "llama-3.2-1b", 1)
    prior = find(asked)
    names = ("a0", "a1", "b0", "b1", "c1", "c2", "mixed_c1", "mixed_c2", "p1", "p2", "fixed")
    hidden = replace(prior, times=replace(prior.times, **{n: round(getattr(prior.times, n) / 12) for n in names}))
    log = read(log_of(hidden, tmp_path / "log.jsonl", requests=60))
    found = calibrate(prior, log, SETTINGS, check_only=False)
    assert found.before["e2e_s"]["mape_pct"] > 100
    assert found.errors["tpot_s"]["mape_pct"] < 5
    assert found.errors["e2e_s"]["mape_pct"] < 5


@pytest.mark.parametrize("factor", [300.0, 1 / 20], ids=["far slower", "far faster"])
def test_an_engine_unlike_any_of_the_catalog_is_found(factor: float) -> None:
    names = ("a0", "a1", "b0", "b1", "c0", "c1", "c2", "mixed_c1", "mixed_c2", "p0", "p1", "p2", "fixed")
    times = replace(H100.times, **{n: round(getattr(H100.times, n) * factor) for n in names})
    points = tuple((700, 40, clients) for clients in (1, 4, 16))
    nothing = Table(points, Latencies(*(np.full(3, 0.1) for _ in range(3))), ("run",) * 3)
    seen = nothing.predict(shape(SETTINGS, Fitted(times, 0.01, 4000)), 0.01)
    found = calibrate(H100, Table(points, seen, ("run",) * 3), replace(SETTINGS, lengths="spread"), check_only=False)
    assert found.errors["tpot_s"]["mape_pct"] < 5
    assert found.errors["e2e_s"]["mape_pct"] < 5


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
    wrong = RUN.invoke(app, ["calibrate", log, "--gpu", "tpu-v5e", "--model", "llama-3.1-8b"])
    assert wrong.exit_code == 2
    assert "add one to sim/serving/specs/gpus.toml" in wrong.stderr
    held = RUN.invoke(app, ["calibrate", log, *options, "--check-only", "--held-out"])
    assert held.exit_code == 0, held.output
    assert "held out" in held.stdout
    small = RUN.invoke(app, ["calibrate", log, "--gpu", "t4", "--model", "llama-3.1-70b"])
    assert small.exit_code == 2
    assert "no room for a KV cache" in small.stderr
