"""What others measured is read, and what is wrong with it is told with file, line, field and rule."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.serving.known import known
from sim.serving.measured import LOG_FIELDS, precision_in, read
from sim.serving.observed import Log, Table
from sim.workloads.trace import TraceError

REQUEST = {"input_toks": 10, "output_toks": 5, "queued_ts": 1.0, "first_token_ts": 1.5, "last_token_ts": 2.0}
HEADER = "isl,osl,concurrency,ttft_ms,tpot_ms\n"


def line(**changed: object) -> str:
    return json.dumps(REQUEST | changed) + "\n"


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        pytest.param("x.txt", "", "want a request log", id="another kind of file"),
        pytest.param("x.jsonl", "\n", "there is no request in it", id="an empty log"),
        pytest.param("x.jsonl", "{}", "x.jsonl:1: want a JSON object with input_toks", id="a field is missing"),
        pytest.param("x.jsonl", "nonsense", "x.jsonl:1: want a JSON object", id="no JSON"),
        pytest.param("x.jsonl", "[1]", "x.jsonl:1: want a JSON object with input_toks", id="no object"),
        pytest.param("x.jsonl", line() + line(queued_ts="soon"), "x.jsonl:2: queued_ts: want a number", id="words"),
        pytest.param("x.jsonl", line(last_token_ts=float("nan")), "x.jsonl:1: last_token_ts: want a number", id="NaN"),
        pytest.param("x.jsonl", line(input_toks=True), "x.jsonl:1: input_toks: want a number (got True)", id="yes"),
        pytest.param("x.jsonl", line(input_toks=1.5), "x.jsonl:1: input_toks: want a whole number", id="half a token"),
        pytest.param("x.jsonl", line(input_toks=0), "x.jsonl:1: input_toks: want a whole number", id="no prompt"),
        pytest.param(
            "x.jsonl", line(output_toks=-1), "x.jsonl:1: output_toks: want a whole number", id="below nothing"
        ),
        pytest.param(
            "x.jsonl", line(first_token_ts=0.5), "x.jsonl:1: want queued_ts <= first_token_ts", id="time runs backwards"
        ),
        pytest.param(
            "x.jsonl", line(first_token_ts=None) * 3, "none of 3 requests was answered", id="all requests failed"
        ),
        pytest.param(
            "x.jsonl",
            line() + line(queued_ts=3e15, first_token_ts=3e15, last_token_ts=3e15),
            "queued_ts, first_token_ts, last_token_ts want seconds",
            id="nanoseconds",
        ),
        pytest.param("x.csv", "", "x.csv:1: want the columns isl, osl, concurrency", id="an empty table"),
        pytest.param(
            "x.csv", "isl,osl\n", "x.csv:1: want the columns isl, osl, concurrency; missing: conc", id="column"
        ),
        pytest.param(
            "x.csv", "isl,osl,concurrency,tpot_ms\n", "x.csv:1: want one column with ttft and its unit", id="no ttft"
        ),
        pytest.param(
            "x.csv",
            "isl,osl,concurrency,ttft,tpot_ms\n",
            "x.csv:1: want one column with ttft and its unit",
            id="no unit",
        ),
        pytest.param(
            "x.csv",
            "isl,osl,concurrency,ttft_ms,p50_tpot_ms,p99_tpot_ms\n",
            "(found: p50_tpot_ms, p99_tpot_ms)",
            id="two, and none is the mean",
        ),
        pytest.param("x.csv", HEADER, "no row has a measurement", id="no rows"),
        pytest.param("x.csv", HEADER + "1,1,1,,\n", "1 rows have no measurement", id="all runs failed"),
        pytest.param("x.csv", HEADER + "a,1,1,1,1\n", "x.csv:2: isl: want a number (got 'a')", id="text"),
        pytest.param("x.csv", HEADER + "9,9,0,1,1\n", "x.csv:2: concurrency: want a whole number", id="no clients"),
        pytest.param(
            "x.csv", HEADER + "9,9,1\n9,9,1,2\n", "x.csv:3: tpot_ms: want a number (got None)", id="short row"
        ),
        pytest.param("x.csv", HEADER + "9,9,1,1,-3\n", "x.csv:2: tpot_ms: want a time above 0 (got -3)", id="negative"),
        pytest.param("x.csv", HEADER + "9,9,1,inf,1\n", "x.csv:2: ttft_ms: want a number (got 'inf')", id="infinite"),
    ],
)
def test_faults_of_measurements(tmp_path: Path, name: str, text: str, fault: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(TraceError) as caught:
        read(path)
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    "failed",
    [
        pytest.param({"first_token_ts": None}, id="null"),
        pytest.param({"output_toks": 0}, id="no token"),
    ],
)
def test_requests_that_failed_are_left_out_and_counted(tmp_path: Path, failed: dict[str, object]) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(line() + line(**failed) + line(queued_ts=0.5))
    log = read(path)
    assert isinstance(log, Log)
    assert (log.failed, len(log.turns)) == (1, 2)
    assert log.places == (f"{path}:3", f"{path}:1"), "in the order of coming"
    assert log.longest == 15


@pytest.mark.parametrize(
    ("header", "values"),
    [
        pytest.param("silicon_ttft_ms,silicon_tpot_ms", "100,10", id="milliseconds"),
        pytest.param("ttft_s,tpot_s", "0.1,0.01", id="seconds"),
        pytest.param("TTFT (us),TPOT (us)", "100000,10000", id="microseconds"),
        pytest.param("p99_ttft_ms,mean_ttft_ms,mean_tpot_ms,std_tpot_ms", "900,100,10,1", id="the mean of several"),
        pytest.param("ttft_ms,p99_ttft_ms,tpot_ms,median_tpot_ms", "100,900,10,1", id="the one that is no quantile"),
    ],
)
def test_times_are_in_the_unit_that_their_column_says(tmp_path: Path, header: str, values: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"\ufeffisl, osl,concurrency,{header}\n8,3.0,1,{values}\n8,1,1,{values}\n8,3,1,,,,\n")
    table = read(path)
    assert isinstance(table, Table)
    assert (table.points, table.failed) == (((8, 3, 1), (8, 1, 1)), 1)
    np.testing.assert_allclose(table.measured.ttft, 0.1)
    np.testing.assert_allclose(table.measured.tpot, [0.01, np.nan])
    np.testing.assert_allclose(table.measured.e2e, [0.12, 0.1])


CELLS: st.SearchStrategy[object] = (
    st.none() | st.floats() | st.text(max_size=3) | st.integers() | st.booleans() | st.just([])
)
ROWS = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(LOG_FIELDS, CELLS)), max_size=3)
WORDS = st.text(max_size=4) | st.integers(-3, 10**9).map(str) | st.floats().map(str)
LINES = st.lists(st.lists(WORDS, max_size=6).map(",".join), max_size=3)


def assert_read_or_refused(path: Path, text: str) -> None:
    """Whatever is in it: numbers, or an error that names the file."""
    path.write_text(text, encoding="utf-8")
    try:
        found = read(path)
    except TraceError as e:
        if path.name not in str(e):
            raise
    else:
        assert np.isfinite(found.measured.ttft).all()


@given(rows=ROWS)
def test_any_log_is_read_or_refused_with_its_place(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]
) -> None:
    path = tmp_path_factory.mktemp("log") / "x.jsonl"
    assert_read_or_refused(path, "".join(json.dumps(row) + "\n" for row in rows))


@given(lines=LINES)
def test_any_table_is_read_or_refused_with_its_place(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.mktemp("table") / "x.csv"
    assert_read_or_refused(path, HEADER + "\n".join(lines))


TABLE = """gpu,model,tp,precision,isl,osl,concurrency,x_ttft_ms,x_tpot_ms
H100,llama-3.1-8b,1,,1000,100,4,100,10
H100,llama-3.1-8b,1,fp8,1000,100,4,100,7
H100,llama-3.1-8b,1,fp8,1000,200,4,100,7
H100,llama-3.1-8b,2,fp8,1000,300,4,100,5
A100,llama-3.1-8b,1,fp8,1000,400,4,100,20
H100,gpt-2,1,fp8,1000,500,4,100,2
"""


@pytest.mark.parametrize(
    ("precision", "points"),
    [
        pytest.param("bf16", ((1000, 100, 4),), id="an empty cell: as published"),
        pytest.param("fp8", ((1000, 100, 4), (1000, 200, 4)), id="only what is about the engine"),
    ],
)
def test_rows_about_other_engines_are_left_out(
    tmp_path: Path, precision: str, points: tuple[tuple[int, int, int], ...]
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    asked = known("h100", "llama-3.1-8b", 1, precision)
    table = read(path, None, asked)
    assert isinstance(table, Table)
    assert table.points == points
    assert precision_in(path, {}, asked) == "fp8"
    assert precision_in(path, {"precision": ""}, asked) is None
    assert precision_in(tmp_path / "log.jsonl", {}, asked) is None
    with pytest.raises(
        TraceError, match=r"no row has h100-80-llama-3\.1-8b-bf16-tp4; there are 2 of gpu=H100 model=llama"
    ):
        read(path, None, known("h100", "llama-3.1-8b", 4, "bf16"))
