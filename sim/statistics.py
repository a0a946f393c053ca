"""What a load is like: how often, how bursty, how long, how much of it is the same prefix again."""

import json
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.serving.turns import NO_SESSION, PS_PER_S, Turns

SCHEMA: Final = "slicewise.dev/sim-trace-stats/1"
WINDOWS_S: Final = (1, 10, 60, 600)
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spread:
    mean: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Statistics:
    """`arrivals`: sessions that begin and requests that stand alone; what comes later waits for answers.

    `gap_cv`: coefficient of variation of the gaps between arrivals, 1 for a Poisson process. `dispersion`: variance
    over mean of the arrivals in windows of so many seconds, 1 for Poisson. `prefix_reuse`: the share of all prompt
    tokens that the session's turn before has left in a cache, if nothing is ever evicted: a bound for any engine.
    """

    requests: int
    arrivals: int
    span_s: float
    per_s: float
    gap_cv: float | None
    peak_to_mean: dict[str, float]
    dispersion: dict[str, float]
    prompt_tokens: Spread | None
    output_tokens: Spread | None
    sessions: int
    turns_a_session: Spread | None
    tool_wait_s: Spread | None
    human_wait_s: Spread | None
    prefix_reuse: float
    block_reuse: float | None = None  #: where the trace knows its blocks: one cache for all, without bounds

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA} | asdict(self), indent=1) + "\n"


def of(turns: Turns, block_reuse: float | None = None) -> Statistics:
    first, later = turns.arrival_ps >= 0, turns.arrival_ps < 0
    arrivals_s = np.sort(turns.arrival_ps[first]) / PS_PER_S
    span_s = float(arrivals_s[-1] - arrivals_s[0]) if len(arrivals_s) else 0.0
    gaps_s = np.diff(arrivals_s)
    waits_s, in_session = turns.wait_ps / PS_PER_S, turns.session != NO_SESSION
    counts = np.bincount(turns.session[in_session]).astype(np.float64) if in_session.any() else np.zeros(0)
    windows = {w: _counts(arrivals_s, float(w)) for w in WINDOWS_S if span_s >= 2 * w}
    return Statistics(
        requests=len(turns),
        arrivals=len(arrivals_s),
        span_s=_digits(span_s),
        per_s=_digits(len(arrivals_s) / span_s) if span_s else 0.0,
        gap_cv=_digits(gaps_s.std() / gaps_s.mean()) if len(gaps_s) and gaps_s.mean() > 0 else None,
        peak_to_mean={f"{w}s": _digits(n.max() / n.mean()) for w, n in windows.items()},
        dispersion={f"{w}s": _digits(n.var() / n.mean()) for w, n in windows.items()},
        prompt_tokens=_spread(turns.prompt),
        output_tokens=_spread(turns.output),
        sessions=len(counts),
        turns_a_session=_spread(counts),
        tool_wait_s=_spread(waits_s[later & ~turns.human]),
        human_wait_s=_spread(waits_s[later & turns.human]),
        prefix_reuse=_reuse(turns, later),
        block_reuse=None if block_reuse is None else _digits(block_reuse),
    )


def _counts(arrivals_s: Floats, window_s: float) -> Floats:
    """Arrivals in each whole window."""
    places = ((arrivals_s - arrivals_s[0]) // window_s).astype(np.int64)
    return np.bincount(places)[: int((arrivals_s[-1] - arrivals_s[0]) // window_s)].astype(np.float64)


def _reuse(turns: Turns, later: NDArray[np.bool_]) -> float:
    """A prompt that is not longer than what was there before is another one."""
    rows = np.flatnonzero(later)
    known = (turns.prompt[rows - 1] + turns.output[rows - 1]).astype(np.int64)
    grown = turns.prompt[rows] > known
    total = int(turns.prompt.sum(dtype=np.int64))
    return _digits(float(known[grown].sum()) / total) if total else 0.0


def _spread(values: NDArray[np.generic]) -> Spread | None:
    if not len(values):
        return None
    numbers = np.asarray(values, np.float64)
    p50, p90, p99 = np.quantile(numbers, [0.5, 0.9, 0.99])
    return Spread(*(_digits(v) for v in (numbers.mean(), p50, p90, p99, numbers.max())))


def _digits(value: float) -> float:
    return round(float(value), 6)


def as_text(found: Statistics) -> str:
    lines = [
        f"requests          {found.requests:,} in {found.span_s:,.0f} s",
        f"arrivals          {found.arrivals:,}, {found.per_s:.4g} a second: "
        + (f"sessions ({found.sessions:,}) and requests alone" if found.sessions else "every request for itself"),
        f"burstiness        CV of the gaps {'?' if found.gap_cv is None else f'{found.gap_cv:.2f}'} (Poisson: 1)",
        f"  peak / mean     {_windows(found.peak_to_mean)}",
        f"  var / mean      {_windows(found.dispersion)} (Poisson: 1)",
        "",
        f"{'':<18}{'mean':>10}{'P50':>10}{'P90':>10}{'P99':>10}{'max':>12}",
    ]
    rows = {
        "prompt tokens": found.prompt_tokens,
        "output tokens": found.output_tokens,
        "turns a session": found.turns_a_session,
        "tool wait, s": found.tool_wait_s,
        "human wait, s": found.human_wait_s,
    }
    for name, spread in rows.items():
        if spread is not None:
            cells = "".join(f"{v:>10,.5g}" for v in (spread.mean, spread.p50, spread.p90, spread.p99))
            lines.append(f"{name:<18}{cells}{spread.max:>12,.6g}")
    lines += ["", f"prefix reuse      {100 * found.prefix_reuse:.1f} % of prompt tokens, within sessions"]
    if found.block_reuse is not None:
        lines.append(f"block reuse       {100 * found.block_reuse:.1f} % of prefix blocks, one cache for all")
    return "\n".join(lines)


def _windows(values: dict[str, float]) -> str:
    return ", ".join(f"{value:.3g} in {window}" for window, value in values.items()) or "? (too short)"
