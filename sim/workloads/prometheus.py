"""Arrivals at the rates that a Prometheus recorded.

Either the JSON of `/api/v1/query_range` (a matrix), such as that of `sum(rate(vllm:request_success_total[1m]))`, or the
lines of `promtool tsdb dump`: `{labels} value milliseconds`. Prometheus knows rates and no requests, so a scenario says
how long prompts and answers are. Several series are added up.
Source: prometheus/prometheus `docs/querying/api.md`; `cmd/promtool/tsdb.go` (dumpSamples, formatSeriesSet).
"""

import json
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sim.serving.turns import Turns, open_loop
from sim.streams import stream
from sim.strict import Seconds, Strict
from sim.workloads.shapes import CommonTokens, Quantity, renewal, tokens
from sim.workloads.trace import TraceError, at, given, number, opened

ABOUT: Final = "arrivals at the rates of a Prometheus range (query_range JSON, or promtool tsdb dump)"
STALE_S: Final = 300.0  # a series that has had no sample for so long has ended: Prometheus's own look-back
MOST_CHARACTERS: Final = 256 << 20
_DUMPED: Final = re.compile(r"(?P<labels>\{.*\})\s+(?P<value>\S+)\s+(?P<at_ms>-?\d+)$")
_NAME: Final = re.compile(r'__name__="((?:[^"\\]|\\.)*)"')


class Config(Strict):
    kind: Literal["prometheus"]
    samples: Literal["perSecond", "counter"] = "perSecond"  #: what the values are
    metric: str | None = None  #: only series of this name, where the file has several
    begins_at: Seconds = Field(default=0.0, ge=0)  #: after the first sample
    scale: float = Field(default=1.0, gt=0)
    cv: float = Field(default=1.0, ge=0.1, le=20)  #: of the gaps between requests, which rates do not tell
    prompt_tokens: Quantity
    output_tokens: Quantity
    common_tokens: CommonTokens = 0


@dataclass(slots=True)
class Series:
    at_s: "array[float]" = field(default_factory=lambda: array("d"))
    values: "array[float]" = field(default_factory=lambda: array("d"))


def turns(config: Config, seed: int, duration_s: float, trace: Path | None) -> Turns:
    path = given(trace)
    grid_s, rates = rates_of(path, config.metric, counter=config.samples == "counter")
    grid_s = grid_s - grid_s[0] - config.begins_at
    inside = (grid_s > 0) & (grid_s < duration_s)
    edges = np.array([0.0, min(duration_s, float(grid_s[-1]))])
    if edges[1] <= 0:
        raise TraceError(f"{path}: beginsAt: the last sample lies {-edges[1]:g} s before it")
    times = np.concatenate([edges[:1], grid_s[inside], edges[1:]])
    times = np.unique(times)
    rate = np.interp(times, grid_s, rates) * config.scale
    times_s = renewal(stream(seed, "prometheus/arrivals"), times, rate, config.cv)
    random = stream(seed, "prometheus/tokens")
    prompt = tokens(config.prompt_tokens, random, len(times_s), config.common_tokens)
    output = tokens(config.output_tokens, random, len(times_s))
    return open_loop(times_s, prompt, output, config.common_tokens)


def rates_of(path: Path, metric: str | None, *, counter: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(instants,) Unix seconds and (instants,) per second, of all series together. Raises `TraceError`."""
    series = [s for s in read(path, metric).values() if len(s.at_s) > 1]
    if not series:
        named = "" if metric is None else f" of {metric!r}"
        raise TraceError(f"{path}: want a series{named} of two samples or more")
    grid_s = np.unique(np.concatenate([np.array(s.at_s) for s in series]))
    total = np.zeros(len(grid_s))
    for one in series:
        at_s, values = np.array(one.at_s), np.array(one.values)
        if counter:
            grown = np.diff(values)
            grown = np.where(grown < 0, values[1:], grown)  # a reset: it began again from 0
            values = np.append(grown / np.diff(at_s), 0.0)
            values[-1] = values[-2]
        newest = np.searchsorted(at_s, grid_s, side="right") - 1
        alive = (newest >= 0) & (grid_s - at_s[np.maximum(newest, 0)] <= STALE_S)
        total += np.where(alive, values[np.maximum(newest, 0)], 0.0)
    return grid_s, total


def read(path: Path, metric: str | None = None) -> dict[str, Series]:
    """Series by their labels, in the order of the file. NaN (a stale marker) is left out. Raises `TraceError`."""
    with opened(path) as text:
        first = text.readline()
        text.seek(0)
        samples = _matrix(path, _whole(path, text)) if first.lstrip().startswith('{"') else _dump(path, text)
        found: dict[str, Series] = {}
        for labels, at_s, value in samples:
            name = _NAME.search(labels)
            if np.isnan(value) or (metric is not None and (name is None or name[1] != metric)):
                continue
            series = found.setdefault(labels, Series())
            if series.at_s and at_s <= series.at_s[-1]:
                raise TraceError(f"{path}: {labels}: samples must ascend in time ({at_s:g} s)")
            series.at_s.append(at_s)
            series.values.append(value)
    return found


def _whole(path: Path, text: IO[str]) -> str:
    """JSON is read at once, so that it must have room; a dump is read line by line."""
    found = text.read(MOST_CHARACTERS + 1)
    if len(found) > MOST_CHARACTERS:
        raise TraceError(f"{path}: is larger than {MOST_CHARACTERS >> 20} MiB: ask for a longer step, or use promtool")
    return found


def _dump(path: Path, text: Iterable[str]) -> Iterator[tuple[str, float, float]]:
    for line_number, line in enumerate(text, 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _DUMPED.match(line.strip())
        with at(path, line_number):
            if found is None:
                raise ValueError("want {labels} value milliseconds, as promtool tsdb dump writes it")
            yield found["labels"], number(found["at_ms"], "time") / 1e3, _value(found["value"])


def _matrix(path: Path, text: str) -> Iterator[tuple[str, float, float]]:
    try:
        answer = json.loads(text)
    except ValueError as e:
        raise TraceError(f"{path}: not JSON: {e}") from e
    with at(path, 1):
        if answer.get("status") != "success":
            raise ValueError(f"status: want success (got {answer.get('status')!r}: {answer.get('error', '')})")
        found: Any = answer.get("data") or {}
        if found.get("resultType") != "matrix":
            raise ValueError(f"data.resultType: want matrix, of /api/v1/query_range (got {found.get('resultType')!r})")
        for i, series in enumerate(found.get("result") or ()):
            labels = ", ".join(f'{k}="{v}"' for k, v in sorted((series.get("metric") or {}).items()))
            for pair in series.get("values") or ():
                if not isinstance(pair, list) or len(pair) != 2:
                    raise ValueError(f"data.result[{i}].values: want pairs of time and value (got {pair!r})")
                yield f"{{{labels}}}", number(pair[0], f"data.result[{i}].values"), _value(pair[1])


def _value(text: object) -> float:
    """NaN stays what it is; a rate below 0 or without end is refused."""
    try:
        value = float(str(text))
    except ValueError:
        value = float("-inf")
    if value < 0 or np.isinf(value):
        raise ValueError(f"value: want a number, 0 or more (got {text!r})")
    return value
