"""Our own form of a load, one turn a line, without loss: what `slicewise sim trace convert` and `generate` write.

JSON lines, or CSV with the same columns. A first turn has `at_s` (seconds from the begin), a later one `wait_s` (from
the end of the turn before it) and `human` (for a person, not for a tool). `session` is a number that the lines of a
session, which follow one another, have in common; without it a request stands alone. Twelve digits after the point.
`common_tokens`, where it is there, is the same in all lines: what all prompts begin with.

    {"session": 7, "at_s": 12.5, "prompt_tokens": 6000, "output_tokens": 210}
    {"session": 7, "wait_s": 0.35, "human": false, "prompt_tokens": 7080, "output_tokens": 95}
"""

import csv
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, Any, Final, Literal

import numpy as np
from pydantic import Field

from sim.serving.turns import NO_SESSION, PS_PER_S, Turns
from sim.strict import Strict
from sim.workloads.trace import TraceError, at, given, objects, opened, rows, tokens

ABOUT: Final = "a load in our own form (JSON lines or CSV), as `slicewise sim trace convert` writes it"
COLUMNS: Final = ("session", "at_s", "wait_s", "human", "prompt_tokens", "output_tokens")
COMMON: Final = "common_tokens"
NEEDED: Final = ("at_s", "prompt_tokens", "output_tokens")


class Config(Strict):
    kind: Literal["turns"]
    speed: float = Field(default=1.0, gt=0, le=1000)  #: sessions and requests come so many times as fast


@dataclass(slots=True)
class _Columns:
    prompt: "array[int]" = field(default_factory=lambda: array("i"))
    output: "array[int]" = field(default_factory=lambda: array("i"))
    session: "array[int]" = field(default_factory=lambda: array("q"))
    arrival_ps: "array[int]" = field(default_factory=lambda: array("q"))
    wait_ps: "array[int]" = field(default_factory=lambda: array("q"))
    human: "array[int]" = field(default_factory=lambda: array("b"))


def turns(config: Config, seed: int, duration_s: float, trace: Path | None) -> Turns:
    """Of sessions that begin within `duration_s`."""
    del seed
    path, found = given(trace), _Columns()
    until_ps = int(duration_s * config.speed * PS_PER_S)
    name: object = None
    count, skipped = -1, False
    common: int | None = None
    for line, row in _rows(path):
        with at(path, line):
            later = row.get("wait_s") not in (None, "")
            known = row.get("session") not in (None, "")
            if later and (not known or row["session"] != name):
                raise ValueError("wait_s: a later turn must follow the turn before it, with the same session")
            if not later and known and row["session"] == name:
                raise ValueError(f"session: {name!r} has begun in the line before; want wait_s, not at_s")
            name = row["session"] if known else None
            time_ps = _picoseconds(row, "wait_s" if later else "at_s")
            prompt, output = (tokens(row.get(f, ""), f) for f in ("prompt_tokens", "output_tokens"))
            human = _flag(row.get("human")) if later else False
            common = _common(row, prompt, common)
        if not later:
            skipped = time_ps > until_ps
            count += known and not skipped
        if skipped:
            continue
        found.prompt.append(prompt)
        found.output.append(output)
        found.session.append(count if known else NO_SESSION)
        found.arrival_ps.append(-1 if later else round(time_ps / config.speed) if config.speed != 1 else time_ps)
        found.wait_ps.append(time_ps if later else 0)
        found.human.append(human)
    if not len(found.prompt):
        raise TraceError(f"{path}: there is no request in it within {duration_s:g} s")
    return _turns(found, common or 0)


def _common(row: dict[str, Any], prompt: int, before: int | None) -> int:
    """What the prompt begins with, as all do. `before`: what lines before said."""
    found = 0 if row.get(COMMON) in (None, "") else tokens(row[COMMON], COMMON, 0)
    if before is not None and found != before:
        raise ValueError(f"{COMMON}: want the same in all lines, {before} (got {found})")
    if prompt <= found:
        raise ValueError(f"prompt_tokens: want more than the {found} that all prompts begin with (got {prompt})")
    return found


def _turns(found: _Columns, common_tokens: int) -> Turns:
    arrival_ps = np.array(found.arrival_ps, np.int64)
    return Turns(
        prompt=np.array(found.prompt, np.int32),
        output=np.array(found.output, np.int32),
        session=np.array(found.session, np.int64),
        arrival_ps=arrival_ps,
        wait_ps=np.array(found.wait_ps, np.int64),
        human=np.array(found.human, np.bool_),
        follows=np.append(arrival_ps[1:] < 0, False),
        common_tokens=common_tokens,
    )


def write(load: Turns, out: IO[str], form: Literal["jsonl", "csv"]) -> None:
    """Line by line; the same load gives the same bytes."""
    writer = csv.writer(out, lineterminator="\n") if form == "csv" else None
    columns = (*COLUMNS, COMMON) if load.common_tokens else COLUMNS
    if writer is not None:
        writer.writerow(columns)
    for row in _listed(load):
        if writer is not None:
            writer.writerow([row.get(c, "") for c in columns])
        else:
            out.write("{" + ", ".join(f'"{key}": {value}' for key, value in row.items()) + "}\n")


def _listed(load: Turns) -> Iterator[dict[str, str]]:
    """Each value as the text that stands for it in either form."""
    common = {COMMON: str(load.common_tokens)} if load.common_tokens else {}
    for i in range(len(load)):
        row: dict[str, str] = {}
        if load.session[i] != NO_SESSION:
            row["session"] = str(load.session[i])
        if load.arrival_ps[i] >= 0:
            row["at_s"] = _seconds(int(load.arrival_ps[i]))
        else:
            row["wait_s"], row["human"] = _seconds(int(load.wait_ps[i])), "true" if load.human[i] else "false"
        row |= {"prompt_tokens": str(load.prompt[i]), "output_tokens": str(load.output[i])}
        yield row | common


def _seconds(time_ps: int) -> str:
    whole, rest = divmod(time_ps, PS_PER_S)
    return f"{whole}.{rest:012d}".rstrip("0").rstrip(".")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with opened(path) as text:
        is_json = text.read(1) in ("{", "")
    if is_json:
        # numbers are read as written: a float would lose picoseconds after an hour
        return objects(path, parse_float=Decimal)
    return ((line, dict(row)) for line, row in rows(path, NEEDED, (*COLUMNS, COMMON)))


def _picoseconds(row: dict[str, Any], key: str) -> int:
    value = row.get(key)
    try:
        time = Decimal(-1 if value in (None, "") or isinstance(value, bool) else value) * PS_PER_S
    except (InvalidOperation, TypeError, ValueError):
        time = Decimal(-1)
    if not time.is_finite() or not 0 <= time < 2**62:
        raise ValueError(f"{key}: want a time in seconds, 0 or more (got {str(value)!r})")
    return round(time)


def _flag(value: object) -> bool:
    if value not in (None, "", True, False, "true", "false"):
        raise ValueError(f"human: want true or false (got {value!r})")
    return value in (True, "true")
