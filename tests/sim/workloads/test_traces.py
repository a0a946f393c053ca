"""Recorded loads of every form: what is read, what is a session, and what is refused with line, field and rule."""

import gzip
import io
import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.serving.turns import NO_SESSION, PS_PER_S, Turns
from sim.workloads import WORKLOADS, mooncake, servegen
from sim.workloads import turns as our_own
from sim.workloads.trace import TraceError

DATA = Path(os.environ.get("SLICEWISE_DATA", Path(__file__).parents[4] / "shared" / "data")) / "llm"
LENGTHS = {"promptTokens": {"p50": 500, "p90": 2000}, "outputTokens": {"p50": 100, "p90": 400}}


def needs(name: str) -> Path:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"no {name} in {DATA}; set SLICEWISE_DATA to the folder that holds llm/{name}")
    return path


def read(kind: str, path: Path, duration_s: float = 3600.0, seed: int = 1, /, **config: object) -> Turns:
    workload = WORKLOADS[kind]
    return workload.turns(workload.config.model_validate({"kind": kind, **config}), seed, duration_s, path)


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def seconds(turns: Turns) -> list[float]:
    """The arrival of first turns, the wait of later ones."""
    found: list[float] = (np.where(turns.arrival_ps >= 0, turns.arrival_ps, turns.wait_ps) / PS_PER_S).round(6).tolist()
    return found


def mooncake_row(at_ms: int, prompt: int, output: int, *ids: int) -> dict[str, object]:
    return {"timestamp": at_ms, "input_length": prompt, "output_length": output, "hash_ids": ids}


SPAN: dict[str, Any] = {
    "traceId": "aa",
    "startTimeUnixNano": "1700000000000000000",
    "endTimeUnixNano": "1700000002000000000",
    "attributes": [
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
        {"key": "gen_ai.conversation.id", "value": {"stringValue": "c1"}},
        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "900"}},
        {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "40"}},
    ],
}


def spans(*changes: dict[str, Any]) -> dict[str, object]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN | change for change in changes]}]}]}


def matrix(*values: tuple[float, str], **top: object) -> dict[str, object]:
    series = {"metric": {"__name__": "load"}, "values": [list(v) for v in values]}
    return {"status": "success", "data": {"resultType": "matrix", "result": [series]}} | top


# -- Mooncake ----------------------------------------------------------------------------------------------------------


def test_mooncake_requests_that_begin_with_all_of_an_earlier_one_are_its_next_turn(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "x.jsonl",
        mooncake_row(0, 1100, 40, 0, 1, 2),
        mooncake_row(1000, 1100, 40, 0, 7, 8),  # shares the system prompt alone
        mooncake_row(61_000, 1700, 100, 0, 1, 3, 4),
    )
    turns = read("mooncake", path, recordedPerOutputToken="25ms")
    assert turns.session.tolist() == [0, 0, 1]
    assert turns.prompt.tolist() == [1100, 1700, 1100]
    assert turns.follows.tolist() == [True, False, False]
    assert seconds(turns) == [0.0, 60.0, 1.0], "the wait begins when the first answer of 40 tokens ended, after 1 s"
    assert turns.human.tolist() == [False, True, False]


def test_mooncake_without_sessions_comes_as_recorded(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", mooncake_row(500, 1100, 40, 0, 1), mooncake_row(2500, 1700, 100, 0, 1, 3))
    turns = read("mooncake", path, sessions=False, speed=2)
    assert (turns.session == NO_SESSION).all()
    assert seconds(turns) == [0.0, 1.0]


def test_the_published_prefix_reuse_of_mooncake() -> None:
    """36.6 % of the blocks of the conversation trace were seen before."""
    path = needs("mooncake_conversation.jsonl.gz")
    assert mooncake.block_reuse(path) == pytest.approx(0.366, abs=0.0006)
    turns = read("mooncake", path)
    assert len(turns) == 12_031
    assert 0.2 < turns.follows.mean() < 0.4


# -- BurstGPT ----------------------------------------------------------------------------------------------------------

BURSTGPT = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"


def test_burstgpt_leaves_out_what_failed_and_knows_when_a_request_ended(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "x.csv",
        BURSTGPT,
        "5,a,2.5,ChatGPT,472,18,490,Conversation log",
        "6,,1,GPT-4,100,0,100,API log",
        "9,,1,GPT-4,300,20,320,API log",
        "15,a,4,ChatGPT,600,30,630,Conversation log",
    )
    turns = read("burstgpt", path)
    assert turns.prompt.tolist() == [472, 600, 300]
    assert seconds(turns) == [0.0, 7.5, 4.0]
    assert turns.session.tolist() == [0, 0, NO_SESSION]
    assert read("burstgpt", path, model="GPT-4").prompt.tolist() == [300]
    with pytest.raises(TraceError, match="no request in it that was answered, model 'Llama'"):
        read("burstgpt", path, model="Llama")


def test_burstgpt_without_sessions(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "x.csv",
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type",
        "5,ChatGPT,472,18,490,Conversation log",
        "45,ChatGPT,1087,230,1317,Conversation log",
    )
    assert seconds(read("burstgpt", path)) == [0.0, 40.0]


# -- OpenTelemetry -----------------------------------------------------------------------------------------------------


def test_spans_of_one_conversation_are_a_session_and_tools_are_no_people(tmp_path: Path) -> None:
    tool = [{"key": "gen_ai.operation.name", "value": {"stringValue": "execute_tool"}}, SPAN["attributes"][1]]
    whole = [{"key": "gen_ai.operation.name", "value": {"stringValue": "invoke_agent"}}, *SPAN["attributes"][1:]]

    def at(begin_s: int, end_s: int, trace: str, attributes: object = SPAN["attributes"]) -> dict[str, object]:
        begin, end = (str((1_700_000_000 + t) * 10**9) for t in (begin_s, end_s))
        return {"startTimeUnixNano": begin, "endTimeUnixNano": end, "traceId": trace, "attributes": attributes}

    path = lines(
        tmp_path / "x.jsonl",
        spans(at(0, 2, "aa"), at(3, 4, "aa", tool), at(5, 6, "aa"), at(0, 6, "aa", whole)),
        spans(at(66, 67, "bb"), at(68, 69, "bb", tool), at(70, 71, "cc")),
    )
    turns = read("otel", path)
    assert turns.session.tolist() == [0, 0, 0, 0]
    assert seconds(turns) == [0.0, 3.0, 60.0, 3.0]
    assert turns.human.tolist() == [False, False, True, False]


def test_spans_without_a_conversation_are_a_session_by_their_trace(tmp_path: Path) -> None:
    bare = [a for a in SPAN["attributes"] if a["key"] != "gen_ai.conversation.id"]
    path = lines(tmp_path / "x.jsonl", spans({"attributes": bare}, {"attributes": bare, "traceId": "bb"}))
    assert read("otel", path).session.tolist() == [0, 1]


# -- Prometheus --------------------------------------------------------------------------------------------------------


def test_a_range_of_rates_gives_as_many_requests(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.json", matrix(*((1e9 + 60 * i, str(min(i, 30))) for i in range(61))))
    turns = read("prometheus", path, **LENGTHS)
    # 0 to 30 a second over half an hour, then 30: 27,000 + 54,000
    assert len(turns) == pytest.approx(81_000, abs=3 * 81_000**0.5)
    half = read("prometheus", path, scale=0.5, beginsAt="30m", **LENGTHS)
    assert len(half) == pytest.approx(27_000, abs=3 * 27_000**0.5)


def test_a_dump_of_counters_is_added_up_over_series_and_resets(tmp_path: Path) -> None:
    rows = []
    for pod in ("a", "b"):
        for i in range(61):
            count = 600 * i if i <= 30 or pod == "a" else 600 * (i - 30)  # b restarts after half an hour
            rows.append(f'{{__name__="load", pod="{pod}"}} {count} {(10**9 + 60 * i) * 1000}')
    rows.append('{__name__="other", pod="a"} 5 1000000000000')
    turns = read("prometheus", lines(tmp_path / "x.txt", *rows), samples="counter", metric="load", **LENGTHS)
    assert len(turns) == pytest.approx(72_000, abs=3 * 72_000**0.5)


def test_a_range_that_has_no_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.workloads.prometheus.MOST_CHARACTERS", 40)
    with pytest.raises(TraceError, match="ask for a longer step, or use promtool"):
        read("prometheus", lines(tmp_path / "x.json", matrix((1, "1"), (2, "1"))), **LENGTHS)


def test_a_series_that_ended_carries_no_load(tmp_path: Path) -> None:
    rows = [f'{{pod="a"}} 10 {1000 * t}' for t in range(0, 3601, 60)]
    rows += [f'{{pod="b"}} 10 {1000 * t}' for t in range(0, 1201, 60)]
    turns = read("prometheus", lines(tmp_path / "x.txt", *rows), **LENGTHS)
    assert len(turns) == pytest.approx(10 * 3600 + 10 * 1500, rel=0.02), "b counts until its look-back is over"


# -- ServeGen ----------------------------------------------------------------------------------------------------------


def test_servegen_keeps_rates_and_lengths_of_its_clients() -> None:
    path = needs("servegen_m-small_week1.csv.gz")
    turns = read("servegen", path, 86_400.0, scale=0.01)
    with gzip.open(path, "rt") as text:
        table = np.loadtxt(text, delimiter=",", skiprows=1, usecols=(0, 2))
    expected = table[table[:, 0] < 86_400, 1].sum() * 600 * 0.01
    assert len(turns) == pytest.approx(expected, rel=0.01)
    assert turns.prompt.mean() > turns.output.mean() > 20
    gaps = np.diff(turns.arrival_ps)
    assert gaps.min() >= 0


def servegen_files(folder: Path, *rates: str, lengths: str = "0,all,{kind},10,20,30,40,50,60,70,80,90,50") -> Path:
    header = "client,window_s,kind,q1,q5,q10,q25,q50,q75,q90,q95,q99,mean"
    rows = [lengths.replace("{kind}", kind) for kind in ("input_tokens", "output_tokens")]
    lines(folder / "m_lengths.csv", header, *rows)
    return lines(folder / "m_week1.csv", "t_s,client,rate_rps,iat_cv,iat_family,iat_p1,iat_p2", *rates)


def test_servegen_clients_are_as_bursty_as_they_were(tmp_path: Path) -> None:
    calm = servegen_files(tmp_path, *(f"{600 * i},0,2,0.2,Gamma,25,0.02" for i in range(6)))
    gaps_s = np.diff(read("servegen", calm).arrival_ps) / PS_PER_S
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(0.2, rel=0.1)
    wild = servegen_files(tmp_path, *(f"{600 * i},7,2,2.2,Weibull,0.5,0.25" for i in range(6)))
    turns = read("servegen", wild)
    gaps_s = np.diff(turns.arrival_ps) / PS_PER_S
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(5**0.5, rel=0.15)
    assert np.quantile(turns.prompt, [0.1, 0.5, 0.9]) == pytest.approx([30, 50, 70], abs=3), "the pool's lengths"


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        pytest.param("m_week1.csv", "m_lengths.csv.gz", id="its lengths may be compressed alone"),
        pytest.param("m-large_week1.csv.gz", "m-large_lengths.csv", id="or the rates alone"),
    ],
)
def test_servegen_lengths_lie_beside_the_rates(tmp_path: Path, name: str, beside: str) -> None:
    (tmp_path / beside).write_text("")
    assert servegen.lengths_beside(tmp_path / name) == tmp_path / beside
    with pytest.raises(TraceError, match=r"beside it, in other_lengths\.csv or other_lengths\.csv\.gz"):
        servegen.lengths_beside(tmp_path / "other_week1.csv")


# -- our own form ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("common", [0, 700])
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_our_own_form_loses_nothing(tmp_path: Path, form: Literal["jsonl", "csv"], common: int) -> None:
    config = WORKLOADS["agents"].config.model_validate(
        {"kind": "agents", "sessions": [{"at": "0m", "perMinute": 9}], "commonTokens": common}
    )
    load = WORKLOADS["agents"].turns(config, 3, 3600.0, None)
    out = io.StringIO()
    our_own.write(load, out, form)
    path = tmp_path / f"x.{form}"
    path.write_text(out.getvalue())
    again = read("turns", path)
    assert all(np.array_equal(getattr(load, f), getattr(again, f)) for f in load.__dataclass_fields__)


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 2**61), st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1), st.booleans()),
            min_size=1,
            max_size=4,
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(["jsonl", "csv"]),
)
def test_any_sessions_come_back_to_the_picosecond(
    tmp_path_factory: pytest.TempPathFactory,
    sessions: list[list[tuple[int, int, int, bool]]],
    form: Literal["jsonl", "csv"],
) -> None:
    rows = [(number, place, *turn) for number, turns in enumerate(sessions) for place, turn in enumerate(turns)]
    first = np.array([place == 0 for _, place, *_ in rows])
    times = np.array([time_ps for _, _, time_ps, *_ in rows], np.int64)
    load = Turns(
        prompt=np.array([row[3] for row in rows], np.int32),
        output=np.array([row[4] for row in rows], np.int32),
        session=np.array([row[0] for row in rows], np.int64),
        arrival_ps=np.where(first, times, -1),
        wait_ps=np.where(first, 0, times),
        human=np.array([row[5] for row in rows]) & ~first,
        follows=np.append(~first[1:], False),
    )
    out = io.StringIO()
    our_own.write(load, out, form)
    path = tmp_path_factory.mktemp("turns") / "x"
    path.write_text(out.getvalue())
    again = read("turns", path, 1e8)
    assert all(np.array_equal(getattr(load, f), getattr(again, f)) for f in load.__dataclass_fields__)


def test_our_own_form_mixes_sessions_and_single_requests(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "x.jsonl",
        {"at_s": 0, "prompt_tokens": 10, "output_tokens": 1},
        {"session": "a", "at_s": 1.5, "prompt_tokens": 10, "output_tokens": 1},
        {"session": "a", "wait_s": 2, "human": True, "prompt_tokens": 20, "output_tokens": 2},
        {"session": "b", "at_s": 9, "prompt_tokens": 10, "output_tokens": 1},
        {"session": "b", "wait_s": 2, "prompt_tokens": 20, "output_tokens": 2},
        {"at_s": 3, "prompt_tokens": 11, "output_tokens": 1},
    )
    turns = read("turns", path, 5.0)
    assert turns.session.tolist() == [-1, 0, 0, -1], "b begins after the end"
    assert turns.human.tolist() == [False, False, True, False]
    assert seconds(read("turns", path, 5.0, speed=2)) == [0.0, 0.75, 2.0, 4.5, 2.0, 1.5]


# -- what is refused ---------------------------------------------------------------------------------------------------

MOONCAKE = mooncake_row(0, 1100, 40, 0)
OURS: dict[str, object] = {"at_s": 0, "prompt_tokens": 10, "output_tokens": 1}


@pytest.mark.parametrize(
    ("kind", "rows", "fault"),
    [
        pytest.param("mooncake", ["{"], ":1: not JSON", id="half a line"),
        pytest.param("mooncake", ["[]"], ":1: want one JSON object a line", id="a list"),
        pytest.param("mooncake", [MOONCAKE | {"timestamp": "soon"}], ":1: timestamp: want a number, 0", id="time"),
        pytest.param(
            "mooncake", [MOONCAKE, MOONCAKE | {"input_length": 0}], ":2: input_length: want a whole", id="no prompt"
        ),
        pytest.param("mooncake", [MOONCAKE | {"hash_ids": "0,1"}], ":1: hash_ids: want a list", id="ids as text"),
        pytest.param("mooncake", [], ": there is no request in it", id="empty"),
        pytest.param("burstgpt", ["Timestamp,Model"], ":1: want the columns", id="columns"),
        pytest.param("burstgpt", [BURSTGPT, "5,a"], ":2: want 8 fields as in line 1 (got 2)", id="short line"),
        pytest.param("burstgpt", [BURSTGPT, "5,a,-1,m,9,9,18,l"], ":2: Elapsed time: want a number, 0", id="elapsed"),
        pytest.param(
            "burstgpt", [BURSTGPT, "5,a,1,m,9.5,9,18,l"], ":2: Request tokens: want a whole", id="half a token"
        ),
        pytest.param("otel", [{}], ":1: resourceSpans: is required", id="no OTLP"),
        pytest.param("otel", [{"resourceSpans": 3}], ":1: resourceSpans: want a list of objects", id="no list"),
        pytest.param("otel", [spans({"attributes": []})], ": no span has gen_ai.usage.input_tokens", id="no call"),
        pytest.param(
            "otel", [spans({"endTimeUnixNano": "1"})], ":1: endTimeUnixNano: want startTimeUnixNano or", id="backwards"
        ),
        pytest.param(
            "otel", [spans({"startTimeUnixNano": None})], ":1: startTimeUnixNano: want a number", id="no time"
        ),
        pytest.param("prometheus", ["load 5"], ":1: want {labels} value milliseconds", id="no dump"),
        pytest.param("prometheus", ['{a="b"} -5 0'], ":1: value: want a number, 0 or more", id="negative"),
        pytest.param("prometheus", [matrix(status="error", error="down")], ":1: status: want success", id="failed"),
        pytest.param("prometheus", [{"status": "success"}], ":1: data.resultType: want matrix", id="no matrix"),
        pytest.param("prometheus", [matrix((1, "1"))], ": want a series of two samples or more", id="one sample"),
        pytest.param("prometheus", [matrix((2, "1"), (1, "1"))], ": samples must ascend", id="order"),
        pytest.param("prometheus", ['{"x'], ": not JSON", id="half an answer"),
        pytest.param("turns", [{"wait_s": 1} | OURS], ":1: wait_s: a later turn must follow", id="orphan"),
        pytest.param(
            "turns", [OURS | {"session": 1}, OURS | {"session": 1}], ":2: session: 1 has begun", id="begins twice"
        ),
        pytest.param(
            "turns",
            [OURS | {"common_tokens": 5}, OURS],
            ":2: common_tokens: want the same in all lines, 5 (got 0)",
            id="common tokens of one line alone",
        ),
        pytest.param(
            "turns",
            [OURS | {"common_tokens": 10}],
            ":1: prompt_tokens: want more than the 10 that all prompts begin with (got 10)",
            id="a prompt that is all common",
        ),
        pytest.param("turns", [OURS | {"at_s": -1}], ":1: at_s: want a time in seconds", id="before the begin"),
        pytest.param("turns", [OURS | {"at_s": "NaN"}], ":1: at_s: want a time in seconds", id="NaN"),
        pytest.param("turns", [OURS | {"output_tokens": True}], ":1: output_tokens: want a whole number", id="flag"),
        pytest.param(
            "turns",
            [OURS | {"session": 1}, {"session": 1, "wait_s": 1, "human": "no", "prompt_tokens": 1, "output_tokens": 1}],
            ":2: human: want true or false",
            id="human",
        ),
        pytest.param("turns", [OURS | {"at_s": 9e5}], ": there is no request in it within 3600 s", id="too late"),
    ],
)
def test_a_trace_that_cannot_be_used_says_where_and_why(
    tmp_path: Path, kind: str, rows: list[object], fault: str
) -> None:
    path = lines(tmp_path / "x", *rows)
    with pytest.raises(TraceError) as caught:
        read(kind, path, **(LENGTHS if kind == "prometheus" else {}))
    assert str(caught.value).startswith(str(path))
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("rates", "config", "fault"),
    [
        pytest.param(["0,0,2,1,Pareto,1,1"], {}, ":2: iat_family: want Gamma or Weibull", id="family"),
        pytest.param(["0,x,2,1,Gamma,1,1"], {}, ":2: client: want a number", id="client"),
        pytest.param(["0,0,2,1,Gamma,0,1"], {}, ":2: iat_p1: want a number, 1e-06 or more", id="shape"),
        pytest.param(
            ["600,0,2,1,Gamma,1,1", "0,0,2,1,Gamma,1,1"], {}, ":3: t_s: the windows of a client must ascend", id="order"
        ),
        pytest.param(["0,0,2,1,Gamma,1,1"], {"beginsAt": "5h"}, ": there is no request within 3600 s", id="later"),
    ],
)
def test_servegen_refuses(tmp_path: Path, rates: list[str], config: dict[str, object], fault: str) -> None:
    path = servegen_files(tmp_path, *rates)
    with pytest.raises(TraceError) as caught:
        read("servegen", path, **config)
    assert fault in str(caught.value)


def test_servegen_refuses_lengths_without_outputs(tmp_path: Path) -> None:
    path = servegen_files(tmp_path, "0,0,2,1,Gamma,1,1", lengths="0,all,input_tokens,1,2,3,4,5,6,7,8,9,5")
    with pytest.raises(TraceError, match="kind: there is no line of output_tokens with window_s all"):
        read("servegen", path)


@pytest.mark.parametrize("kind", [name for name, workload in WORKLOADS.items() if workload.needs_trace])
def test_every_recorded_load_asks_for_its_trace(kind: str) -> None:
    workload = WORKLOADS[kind]
    config = workload.config.model_validate({"kind": kind} | (LENGTHS if kind == "prometheus" else {}))
    with pytest.raises(TraceError, match="give it with --trace PATH"):
        workload.turns(config, 0, 60.0, None)
