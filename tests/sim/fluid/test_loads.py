"""Recorded loads become fluids: what is kept, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from sim.evaluation.traces import find
from sim.fluid import recorded, servegen
from sim.fluid.load import load_of
from sim.fluid.renewal import Gaps, add_window, squared_variation
from sim.streams import stream
from sim.workloads.trace import TraceError
from tests.sim.fluid.loads import AZURE, LENGTHS, MOONCAKE, SERVICE, WEEK, write

SHARED = Path(__file__).parents[3].parent / "shared" / "data" / "llm"


def test_every_kind_of_load_in_a_folder_is_found_by_what_stands_in_it(tmp_path: Path) -> None:
    assert [(trace.name, trace.kind) for trace in find(write(tmp_path))] == [
        ("azure_2023_conv", "azure"),
        ("mooncake_tool", "mooncake"),
        ("servegen_m-mid_week1", "servegen"),
    ]


def test_a_folder_without_a_load_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no load in it; want ServeGen"):
        find(tmp_path)


def test_rates_without_lengths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x_week1.csv").write_text(WEEK)
    with pytest.raises(TraceError, match=r"its lengths are not there; want .*x_lengths\.csv"):
        find(tmp_path)


def test_a_peak_of_n_replicas_keeps_n_replicas_85_percent_busy(tmp_path: Path) -> None:
    for trace in find(write(tmp_path)):
        load = load_of(SERVICE, trace.read().counts(SERVICE, 20, 1))
        busiest = max(np.diff(load.work_sum)[at : at + 600].mean() for at in range(0, len(load.requests) - 500, 600))
        assert busiest == pytest.approx(0.85 * 20, rel=0.12), trace.name


def test_the_same_seed_is_the_same_load_and_another_seed_another(tmp_path: Path) -> None:
    trace = find(write(tmp_path))[2].read()
    one, again, other = (trace.counts(SERVICE, 8, seed) for seed in (1, 1, 2))
    assert (one.requests == again.requests).all()
    assert (one.prompt_tokens == again.prompt_tokens).all()
    assert (one.requests != other.requests).any()


@pytest.mark.parametrize("rate_per_s", [0.5, 4.0, 80.0], ids=["single arrivals", "bursts", "dense"])
@pytest.mark.parametrize("gaps", [Gaps(False, 0.3), Gaps(True, 0.4)], ids=["Gamma", "Weibull"])
def test_a_window_has_as_many_requests_as_its_rate_says(rate_per_s: float, gaps: Gaps) -> None:
    counts = np.zeros(700)
    add_window(stream(1, "test"), counts, 50.0, rate_per_s, gaps)
    assert counts.sum() == pytest.approx(600 * rate_per_s, abs=1.0)
    assert counts[:50].sum() == counts[651:].sum() == 0.0


def test_the_variation_of_gaps_follows_from_their_shape() -> None:
    assert squared_variation(Gaps(False, 0.25)) == pytest.approx(4.0)
    assert squared_variation(Gaps(True, 1.0)) == pytest.approx(1.0)
    assert squared_variation(Gaps(True, 0.5)) == pytest.approx(5.0)


def test_stamps_in_steps_of_three_seconds_are_spread_over_each_step(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(MOONCAKE)
    counts = recorded.read_mooncake(tmp_path / "m.jsonl").recorded
    assert counts.requests.sum() == 800
    assert counts.requests.max() == 2


def test_clients_without_lengths_have_the_average_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text(WEEK)
    (tmp_path / "l.csv").write_text(LENGTHS)
    clients = servegen.read(tmp_path / "w.csv", tmp_path / "l.csv").clients
    assert [client.prompt.mean for client in clients] == [1000.0, 1000.0, 1000.0]
    assert clients[2].output == clients[0].output


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        pytest.param(
            "a.csv", AZURE.replace("ContextTokens", "Tokens"), "a.csv:1: want the columns", id="a column lacks"
        ),
        pytest.param(
            "a.csv", AZURE.replace(",800,", ",many,"), "a.csv:2: ContextTokens: want a number", id="no number"
        ),
        pytest.param(
            "a.csv", AZURE.replace("2023-11-16", "yesterday", 1), "TIMESTAMP: want times such as", id="no time"
        ),
        pytest.param("a.csv", AZURE.splitlines()[0] + "\n", "there is no request in it", id="no request"),
        pytest.param("m.jsonl", "{", "m.jsonl:1: not JSON", id="no JSON"),
        pytest.param("m.jsonl", '{"input_length": 1}\n', "m.jsonl:1: timestamp: want a number", id="no timestamp"),
        pytest.param(
            "m.jsonl",
            '{"timestamp": 0, "input_length": 1, "output_length": 1}\n'
            '{"timestamp": 9e12, "input_length": 1, "output_length": 1}\n',
            "is the unit of time right",
            id="a unit of time that is not milliseconds",
        ),
    ],
)
def test_faults_of_recorded_requests_name_file_line_and_field(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text)
    read = recorded.read_azure if name.endswith("csv") else recorded.read_mooncake
    with pytest.raises(TraceError, match=told):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("week", "lengths", "told"),
    [
        pytest.param(WEEK.replace("Gamma", "Cauchy", 1), LENGTHS, "iat_family: want Gamma or Weibull", id="family"),
        pytest.param(WEEK.replace("rate_rps", "rate"), LENGTHS, "missing: rate_rps", id="no rate"),
        pytest.param(WEEK.replace(",0.5,", ",-1,", 1), LENGTHS, "rate_rps: want a number", id="a negative rate"),
        pytest.param(WEEK.splitlines()[0] + "\n", LENGTHS, "there is no request in it", id="no window"),
        pytest.param(WEEK, LENGTHS.replace("input_tokens", "x"), "want rows of input_tokens", id="no prompt lengths"),
    ],
)
def test_faults_of_servegen_name_file_and_field(tmp_path: Path, week: str, lengths: str, told: str) -> None:
    (tmp_path / "w.csv").write_text(week)
    (tmp_path / "l.csv").write_text(lengths)
    with pytest.raises(TraceError, match=told):
        servegen.read(tmp_path / "w.csv", tmp_path / "l.csv")


def test_the_published_weeks_have_the_mean_requests_that_a_study_of_them_found() -> None:
    week = SHARED / "servegen_m-large_week1.csv.gz"
    if not week.is_file():
        pytest.skip(f"{week} is not there")
    trace = servegen.read(week, SHARED / "servegen_m-large_lengths.csv.gz")
    assert len(trace.clients) == 135
    assert trace.seconds == 7 * 86_400
    weights = [client.windows.rate_per_s.sum() for client in trace.clients]
    assert np.average([c.prompt.mean for c in trace.clients], weights=weights) == pytest.approx(1103, rel=0.01)
    assert np.average([c.output.mean for c in trace.clients], weights=weights) == pytest.approx(171, rel=0.01)
