"""ServeGen: days of production load as rates, one line a client and 600 s, and lengths by their quantiles.

Two files: rates `NAME_week1.csv` (t_s, client, rate_rps, iat_cv, iat_family, iat_p1, iat_p2) and, beside it, lengths
`NAME_lengths.csv` (client, window_s, kind, q1 … q99, mean); .gz as well. Each client's gaps are Gamma or Weibull with
the recorded shape. A client without lengths has those of the pool.
Source: alibaba/ServeGen (Apache-2.0), Xiang et al., arXiv 2505.09999. No trace comes with the project.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import gamma
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sim.serving.turns import Turns, open_loop
from sim.streams import stream
from sim.strict import Seconds, Strict
from sim.workloads.trace import TraceError, at, given, number, rows

ABOUT: Final = "ServeGen rates NAME_week1.csv, with NAME_lengths.csv beside it: clients with their own burstiness"
WINDOW_S: Final = 600.0
LEVELS: Final = (1, 5, 10, 25, 50, 75, 90, 95, 99)
KINDS: Final = ("input_tokens", "output_tokens")
POOL: Final = "all"
Floats = NDArray[np.float64]


class Config(Strict):
    kind: Literal["servegen"]
    scale: float = Field(default=1.0, gt=0)  #: rates are multiplied by it; each client stays as bursty as it is
    begins_at: Seconds = Field(default=0.0, ge=0)  #: in the recording


@dataclass(slots=True)
class Client:
    """One entry a window: when it begins, requests/s, and the shape of the gaps."""

    begins_s: list[float] = field(default_factory=list)
    rates_per_s: list[float] = field(default_factory=list)
    shapes: list[float] = field(default_factory=list)
    weibull: list[bool] = field(default_factory=list)


def turns(config: Config, seed: int, duration_s: float, trace: Path | None) -> Turns:
    path = given(trace)
    clients = _clients(path, config, duration_s)
    lengths = _lengths(lengths_beside(path), set(clients))
    times, prompts, outputs = list[Floats](), list[Floats](), list[Floats]()
    for name in sorted(clients, key=int):
        times_s = _arrivals(stream(seed, "servegen/arrivals", int(name)), clients[name])
        tokens = stream(seed, "servegen/tokens", int(name))
        drawn = [_drawn(lengths.get((name, kind), lengths[POOL, kind]), tokens, len(times_s)) for kind in KINDS]
        times.append(times_s)
        prompts.append(drawn[0])
        outputs.append(drawn[1])
    times_s = np.concatenate(times) if times else np.zeros(0)
    order = np.argsort(times_s, kind="stable")
    order = order[times_s[order] <= duration_s]
    if not len(order):
        raise TraceError(f"{path}: there is no request within {duration_s:g} s of beginsAt {config.begins_at:g} s")
    prompt, output = np.concatenate(prompts), np.concatenate(outputs)
    return open_loop(times_s[order], prompt[order].astype(np.int64), output[order].astype(np.int64))


def lengths_beside(path: Path) -> Path:
    """`NAME_lengths.csv` for `NAME_week1.csv`."""
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    name = path.name.removesuffix(suffix).rpartition("_")[0]
    found = [path.with_name(f"{name}_lengths.csv{gz}") for gz in ("", ".gz")]
    for candidate in found:
        if name and candidate.is_file():
            return candidate
    raise TraceError(f"{path}: want its lengths beside it, in {found[0].name} or {found[1].name}")


def _clients(path: Path, config: Config, duration_s: float) -> dict[str, Client]:
    clients: dict[str, Client] = {}
    for line, row in rows(path, ("t_s", "client", "rate_rps", "iat_family", "iat_p1")):
        with at(path, line):
            begin_s = number(row["t_s"], "t_s", 0) - config.begins_at
            if not -WINDOW_S < begin_s < duration_s:
                continue
            rate_per_s, shape = number(row["rate_rps"], "rate_rps", 0), number(row["iat_p1"], "iat_p1", 1e-6)
            if row["iat_family"] not in ("Gamma", "Weibull"):
                raise ValueError(f"iat_family: want Gamma or Weibull (got {row['iat_family']!r})")
            if not row["client"].isdecimal():
                raise ValueError(f"client: want a number (got {row['client']!r})")
        client = clients.setdefault(row["client"], Client())
        if client.begins_s and begin_s <= client.begins_s[-1]:
            raise TraceError(f"{path}:{line}: t_s: the windows of a client must ascend")
        client.begins_s.append(begin_s)
        client.rates_per_s.append(rate_per_s * config.scale)
        client.shapes.append(shape)
        client.weibull.append(row["iat_family"] == "Weibull")
    return clients


def _arrivals(random: np.random.Generator, client: Client) -> Floats:
    """A renewal process a window; what is left of a gap goes on in the next one, at its rate."""
    found, left, before_s = list[Floats](), 0.0, -np.inf
    each = zip(client.begins_s, client.rates_per_s, client.shapes, client.weibull, strict=True)
    for begin_s, rate_per_s, shape, weibull in each:
        expected = rate_per_s * WINDOW_S
        if begin_s > before_s + 1.5 * WINDOW_S:
            left = float(random.uniform()) * float(_gaps(random, 1, shape, weibull=weibull)[0])
        instants = left + np.concatenate([[0.0], np.cumsum(_gaps(random, _enough(expected), shape, weibull=weibull))])
        while instants[-1] <= expected:
            more = np.cumsum(_gaps(random, _enough(expected), shape, weibull=weibull))
            instants = np.concatenate([instants, instants[-1] + more])
        inside = int(np.searchsorted(instants, expected))
        left, before_s = float(instants[inside]) - expected, begin_s
        if inside:
            found.append(begin_s + instants[:inside] / rate_per_s)
    times_s = np.concatenate(found) if found else np.zeros(0)
    return times_s[times_s >= 0]


def _enough(expected: float) -> int:
    return 16 + int(expected + 4 * np.sqrt(expected))


def _gaps(random: np.random.Generator, count: int, shape: float, *, weibull: bool) -> Floats:
    """Of mean 1."""
    if weibull:
        return np.asarray(random.weibull(shape, count) / gamma(1 + 1 / shape))
    return np.asarray(random.gamma(shape, 1 / shape, count))


def _lengths(path: Path, clients: set[str]) -> Mapping[tuple[str, str], Floats]:
    """(client, kind) -> values at `LEVELS`; windows of their own are not told apart."""
    found: dict[tuple[str, str], Floats] = {}
    columns = ("client", "window_s", "kind", *(f"q{level}" for level in LEVELS))
    sums: dict[str, list[Floats]] = {kind: [] for kind in KINDS}
    for line, row in rows(path, columns):
        if row["window_s"] != POOL or row["kind"] not in KINDS:
            continue
        with at(path, line):
            values = np.array([number(row[f"q{level}"], f"q{level}", 0) for level in LEVELS])
        sums[row["kind"]].append(values)
        if row["client"] in clients:
            found[row["client"], row["kind"]] = values
    for kind in KINDS:
        if not sums[kind]:
            raise TraceError(f"{path}: kind: there is no line of {kind} with window_s {POOL}")
        found[POOL, kind] = np.mean(sums[kind], axis=0)
    return found


def _drawn(values: Floats, random: np.random.Generator, count: int) -> Floats:
    """By the inverse of the quantiles, straight between them; beyond the first and the last they stay."""
    levels = np.array(LEVELS) / 100
    return np.maximum(1, np.rint(np.interp(random.uniform(size=count), levels, values)))
