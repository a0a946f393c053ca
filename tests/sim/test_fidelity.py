"""Against engines that ran: the catalog as it is, nothing fitted here."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sim.serving.measured import read
from sim.serving.observed import errors
from sim.serving.pool import Shape
from sim.serving.times import load

DATA = Path(os.environ.get("SLICEWISE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "engine"


def needs(name: str) -> Path:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"no {name} in {DATA}; set SLICEWISE_DATA to the folder that holds engine/{name}")
    return path


def test_a_recorded_run_of_vllm_out_of_memory_most_of_the_time() -> None:
    """300 requests at 10/s on an RTX 4090 with 2,588 blocks of cache, as the engine logged: some 190 preemptions."""
    log = read(needs("vllm_0.19_rtx4090_llama-3.1-8b_requests.jsonl.gz"))
    engine = load()["rtx4090-llama-3.1-8b"]
    found = errors(log.predict(Shape(engine.times, 2588, 256, 2048, 32768), 0.0), log.measured)
    assert abs(found["ttft_s"]["mean_error_pct"]) <= 3
    assert abs(found["tpot_s"]["mean_error_pct"]) <= 2
    assert abs(found["e2e_s"]["mean_error_pct"]) <= 2
    assert found["e2e_s"]["mape_pct"] <= 6


@pytest.mark.parametrize("tensor_parallel", [2, 4, 8])
def test_measured_points_of_h100(tensor_parallel: int) -> None:
    only = {"model_path": "meta-llama/Llama-3.1-70B", "tp_size": str(tensor_parallel)}
    table = read(needs("vllm_measured_h100.csv.gz"), only)
    engine = load()[f"h100-80-llama-3.1-70b-fp8-tp{tensor_parallel}"]
    shape = Shape(engine.times, engine.kv_blocks(81559, 0.9), 1024, 8192, 131_072)
    found = errors(table.predict(shape, engine.request_s), table.measured)
    assert found["tpot_s"]["mape_pct"] <= 4
    assert len(table.measured.ttft) == 15


def test_the_clock_of_a_table_is_the_clients() -> None:
    table = read(needs("vllm_measured_h100.csv.gz"), {"model_path": "meta-llama/Llama-3.1-70B", "tp_size": "4"})
    engine = load()["h100-80-llama-3.1-70b-fp8-tp4"]
    shape = Shape(engine.times, engine.kv_blocks(81559, 0.9), 1024, 8192, 131_072)
    inside, outside = table.predict(shape, 0.0), table.predict(shape, engine.request_s)
    np.testing.assert_allclose(outside.ttft - inside.ttft, engine.request_s)
    np.testing.assert_array_equal(outside.tpot, inside.tpot)
    slower = replace(engine.times, fixed=engine.times.fixed * 2)
    assert (table.predict(replace(shape, times=slower), 0.0).tpot > inside.tpot).all()
