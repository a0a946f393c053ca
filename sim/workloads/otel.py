"""OpenTelemetry spans of agents: OTLP as JSON lines, as the collector's file exporter writes it.

Read are spans with `gen_ai.usage.input_tokens` and `gen_ai.usage.output_tokens` (calls of a model), and those with
`gen_ai.operation.name` `execute_tool` for the waits. Turns of one `gen_ai.conversation.id` are a session; without it
those of one trace are. A turn that begins another trace than the one before it was asked for by a person, unless a tool
ran in between.
Source: OpenTelemetry semantic conventions 1.37 `docs/gen-ai/gen-ai-spans.md` and `gen-ai-agent-spans.md`; OTLP/JSON:
open-telemetry/opentelemetry-proto `opentelemetry/proto/trace/v1/trace.proto` in proto3's JSON (64-bit numbers are
texts).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from sim.serving.turns import Turns
from sim.workloads.recorded import RecordedConfig, Requests
from sim.workloads.trace import TraceError, at, given, number, objects, tokens

ABOUT: Final = "OpenTelemetry spans (OTLP as JSON lines) with gen_ai.usage.input_tokens and output_tokens"
INPUT, OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
CONVERSATION, OPERATION, TOOL = "gen_ai.conversation.id", "gen_ai.operation.name", "execute_tool"
NOT_ANSWERED: Final = frozenset({"embeddings", "invoke_agent", "create_agent"})
"""Operations whose tokens are not those of one call that generates: an agent's span sums up its calls."""


class Config(RecordedConfig):
    kind: Literal["otel"]


@dataclass(frozen=True, slots=True)
class Span:
    trace: str
    begin_s: float
    end_s: float
    attributes: Mapping[str, Any]


def turns(config: Config, seed: int, duration_s: float, trace: Path | None) -> Turns:
    del seed
    path = given(trace)
    sessions: dict[str, int] = {}
    calls: list[tuple[float, float, int, int, int, str]] = []
    tools: dict[int, list[float]] = {}
    for line, value in objects(path):
        with at(path, line):
            for span in _spans(value):
                name = str(span.attributes.get(CONVERSATION) or span.trace)
                session = sessions.setdefault(name, len(sessions))
                if span.attributes.get(OPERATION) == TOOL:
                    tools.setdefault(session, []).append(span.begin_s)
                elif INPUT in span.attributes and span.attributes.get(OPERATION) not in NOT_ANSWERED:
                    prompt, output = (tokens(span.attributes.get(k), k, 0) for k in (INPUT, OUTPUT))
                    if prompt and output:
                        calls.append((span.begin_s, span.end_s, prompt, output, session, span.trace))
    if not calls:
        raise TraceError(f"{path}: no span has {INPUT} and {OUTPUT}")
    return _requests(calls, tools).turns(config, duration_s)


def _requests(calls: list[tuple[float, float, int, int, int, str]], tools: dict[int, list[float]]) -> Requests:
    requests, last = Requests(), dict[int, tuple[float, str]]()
    for begin_s, end_s, prompt, output, session, trace in sorted(calls):
        before_s, before = last.get(session, (begin_s, trace))
        by_tool = any(before_s <= tool_s <= begin_s for tool_s in tools.get(session, ()))
        requests.add(begin_s, prompt, output, session=session, end_s=end_s, human=trace != before and not by_tool)
        last[session] = end_s, trace
    return requests


def _spans(value: Mapping[str, Any]) -> Iterator[Span]:
    """Raises `ValueError` with field and rule."""
    if "resourceSpans" not in value:
        raise ValueError("resourceSpans: is required; want OTLP traces as JSON, one object a line")
    for resource in _list(value, "resourceSpans"):
        for scope in _list(resource, "scopeSpans"):
            for span in _list(scope, "spans"):
                begin_s, end_s = (number(span.get(f), f, 0) / 1e9 for f in ("startTimeUnixNano", "endTimeUnixNano"))
                if end_s < begin_s:
                    raise ValueError("endTimeUnixNano: want startTimeUnixNano or later")
                attributes = {str(a.get("key")): _value(a.get("value")) for a in _list(span, "attributes")}
                yield Span(str(span.get("traceId", "")), begin_s, end_s, attributes)


def _list(value: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    found = value.get(field, [])
    if not isinstance(found, list) or not all(isinstance(x, dict) for x in found):
        raise ValueError(f"{field}: want a list of objects")
    return found


def _value(value: object) -> object:
    """The one of stringValue, intValue, doubleValue, … that is set."""
    return next(iter(value.values()), None) if isinstance(value, dict) else None
