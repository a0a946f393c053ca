"""ServeGen: a week of production load as rates of each client over 600 s, and the lengths of its requests.

Source: alibaba/ServeGen (Apache-2.0), Xiang et al., arXiv 2505.09999. Two files a model: NAME_week1.csv(.gz) with t_s,
client, rate_rps, iat_cv, iat_family, iat_p1 (shape), iat_p2 (scale); NAME_lengths.csv(.gz) with client, window_s, kind,
quantiles and mean.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from math import expm1, log
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from sim.fluid.jit import compiled
from sim.fluid.load import Counts, FloatArray, factor_for, work_s
from sim.fluid.renewal import WINDOW_S, Windows, add_windows
from sim.fluid.service import Service
from sim.streams import stream
from sim.workloads.trace import TraceError, opened

Z90: Final = 1.2815515655446004  # standard normal quantile at 0.9
FAMILIES: Final = {"Gamma": False, "Weibull": True}
MOST_SQUARED_VARIATION: Final = 9.0  # of a length: beyond it a quantile table says nothing of the variance
LEAST_SHAPE: Final = 0.1  # of gaps: with less, all requests of a window come in one instant


class Lengths(NamedTuple):
    """Tokens of a client's requests: `mean`, and `spread`, the squared coefficient of variation."""

    mean: float
    spread: float


@dataclass(frozen=True, slots=True)
class Client:
    """`windows`: in order of time."""

    number: int
    windows: Windows
    prompt: Lengths
    output: Lengths


@dataclass(frozen=True, slots=True)
class ServeGen:
    clients: tuple[Client, ...]
    seconds: int

    def counts(self, service: Service, peak_replicas: int, seed: int) -> Counts:
        """One draw of the week, with as much load as keeps `peak_replicas` busy at the peak.

        Windows of each client are shifted together by up to 300 s, so that nobody can use the grid of the fit.
        """
        factor = factor_for(peak_replicas, self.work_by_window(service))
        sums = np.zeros((self.seconds, 5))
        counts = np.empty(self.seconds)
        for client in self.clients:
            random = stream(seed, "servegen", client.number)
            shift_s = random.uniform(-WINDOW_S / 2, WINDOW_S / 2)
            counts[:] = 0.0
            windows = client.windows
            shifted = windows._replace(since_s=windows.since_s + shift_s, rate_per_s=factor * windows.rate_per_s)
            add_windows(random, counts, shifted)
            _add_tokens(sums, counts, client.prompt, client.output)
        random = stream(seed, "servegen-lengths")
        requests, *tokens = (np.ascontiguousarray(column) for column in sums.T)
        return Counts(requests, _drawn(random, *tokens[:2]), _drawn(random, *tokens[2:]))

    def work_by_window(self, service: Service) -> FloatArray:
        """Replicas kept busy on average in each window of the trace as it is."""
        total = np.zeros(self.seconds // WINDOW_S)
        for client in self.clients:
            request_s = work_s(service, np.array(client.prompt.mean), np.array(client.output.mean))
            at = (client.windows.since_s // WINDOW_S).astype(np.int64)
            np.add.at(total, at, client.windows.rate_per_s * request_s)
        return total


@compiled
def _add_tokens(sums: FloatArray, counts: FloatArray, prompt: Lengths, output: Lengths) -> None:
    """Out: `sums`, by second: requests, and mean and variance of their prompt and of their output tokens."""
    prompt_variance, output_variance = prompt.mean**2 * prompt.spread, output.mean**2 * output.spread
    for second in range(len(counts)):
        requests = counts[second]
        if requests > 0.0:
            sums[second, 0] += requests
            sums[second, 1] += prompt.mean * requests
            sums[second, 2] += prompt_variance * requests
            sums[second, 3] += output.mean * requests
            sums[second, 4] += output_variance * requests


def _drawn(random: np.random.Generator, mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Sums of many lengths, by their mean and variance: Gamma."""
    scale = np.where(mean > 0.0, variance / np.where(mean > 0.0, mean, 1.0), 0.0)
    safe = np.maximum(scale, 1e-9)
    drawn = random.standard_gamma(np.maximum(mean / safe, 1e-12)) * safe
    return np.asarray(np.where(scale > 1e-9, drawn, mean))


def read(week: Path, lengths: Path) -> ServeGen:
    """Raises `TraceError` with file, line and rule."""
    rows = _week(week)
    prompt, output = (_lengths(lengths, kind) for kind in ("input", "output"))
    average = tuple(_average(known, lengths) for known in (prompt, output))
    own: dict[str, list[Row]] = {name: [] for name in sorted({row[1] for row in rows})}
    for row in sorted(rows):
        own[row[1]].append(row)
    clients: list[Client] = []
    for i, (name, windows) in enumerate(own.items()):
        since_s, rate_per_s, shape = (np.array([row[j] for row in windows], np.float64) for j in (0, 2, 4))
        weibull = np.array([row[3] for row in windows], np.bool_)
        both = prompt.get(name, average[0]), output.get(name, average[1])
        clients.append(Client(i, Windows(since_s, rate_per_s, weibull, shape), *both))
    return ServeGen(tuple(clients), int(max(row[0] for row in rows)) + WINDOW_S)


Row = tuple[float, str, float, bool, float]


def _week(path: Path) -> list[Row]:
    """(start, client, rate, Weibull?, shape) of each window that has a rate."""
    rows: list[Row] = []
    with opened(path) as text:
        reader = csv.DictReader(text)
        _demand(path, reader, ("t_s", "client", "rate_rps", "iat_family", "iat_p1"))
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if row["iat_family"] not in FAMILIES:
                raise TraceError(f"{where}: iat_family: want {' or '.join(FAMILIES)} (got {row['iat_family']!r})")
            at_s, rate, shape = (_number(where, name, row[name]) for name in ("t_s", "rate_rps", "iat_p1"))
            if rate > 0.0 and shape > 0.0:
                rows.append((at_s, row["client"], rate, FAMILIES[row["iat_family"]], max(shape, LEAST_SHAPE)))
    if not rows:
        raise TraceError(f"{path}: there is no request in it")
    return rows


def _lengths(path: Path, kind: str) -> dict[str, Lengths]:
    found: dict[str, Lengths] = {}
    with opened(path) as text:
        reader = csv.DictReader(text)
        _demand(path, reader, ("client", "kind", "q10", "q90", "mean"))
        for row in reader:
            if row["kind"] != f"{kind}_tokens":
                continue
            where = f"{path}:{reader.line_num}"
            low, high, mean = (_number(where, name, row[name]) for name in ("q10", "q90", "mean"))
            deviation = log(max(high, 1.0) / max(low, 1.0)) / (2 * Z90) if high > low else 0.0
            found[row["client"]] = Lengths(max(mean, 1.0), min(expm1(deviation**2), MOST_SQUARED_VARIATION))
    return found


def _average(known: Mapping[str, Lengths], path: Path) -> Lengths:
    """For clients that are not in the table: the average of those that are."""
    if not known:
        raise TraceError(f"{path}: kind: want rows of input_tokens and of output_tokens")
    return Lengths(
        float(np.mean([lengths.mean for lengths in known.values()])),
        float(np.mean([lengths.spread for lengths in known.values()])),
    )


def _demand(path: Path, reader: "csv.DictReader[str]", columns: tuple[str, ...]) -> None:
    if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
        raise TraceError(f"{path}:1: want the columns {', '.join(columns)}; missing: {', '.join(missing)}")


def _number(where: str, name: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1e12:
        raise TraceError(f"{where}: {name}: want a number, 0 or more (got {text!r})")
    return value
