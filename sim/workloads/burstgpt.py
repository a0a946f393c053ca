"""BurstGPT's traces: CSV with Timestamp (s), Model, Request tokens, Response tokens, Total tokens, Log Type.

Newer ones have Session ID and Elapsed time (s) as well.

Source: HPMLL/BurstGPT README and `data` (CC-BY-4.0), Wang et al., arXiv 2401.17644: a request that failed has no
response tokens. No trace comes with the project.
"""

from pathlib import Path
from typing import Final, Literal

from sim.serving.turns import NO_SESSION, Turns
from sim.workloads.recorded import UNKNOWN, RecordedConfig, Requests
from sim.workloads.trace import TraceError, at, given, number, rows, tokens

ABOUT: Final = "a BurstGPT trace (CSV with Timestamp, Model, Request tokens, Response tokens, Log Type)"
AT, PROMPT, OUTPUT, MODEL, LOG = "Timestamp", "Request tokens", "Response tokens", "Model", "Log Type"
SESSION, ELAPSED = "Session ID", "Elapsed time"


class Config(RecordedConfig):
    kind: Literal["burstgpt"]
    model: str | None = None  #: only requests to this model, such as GPT-4
    log_type: str | None = None  #: only these, such as `Conversation log`


def turns(config: Config, seed: int, duration_s: float, trace: Path | None) -> Turns:
    """Requests that failed are left out."""
    del seed
    path, requests = given(trace), Requests()
    known: dict[str, int] = {}
    begin_s: float | None = None
    for line, row in rows(path, (AT, PROMPT, OUTPUT, MODEL, LOG), (SESSION, ELAPSED)):
        if config.model not in (None, row[MODEL]) or config.log_type not in (None, row[LOG]):
            continue
        with at(path, line):
            at_s, prompt, output = number(row[AT], AT), tokens(row[PROMPT], PROMPT, 0), tokens(row[OUTPUT], OUTPUT, 0)
            elapsed_s = number(row[ELAPSED], ELAPSED, 0) if row.get(ELAPSED) else UNKNOWN
        begin_s = at_s if begin_s is None else begin_s
        if prompt == 0 or output == 0 or at_s - begin_s > duration_s * max(1.0, config.speed):
            continue
        name = row.get(SESSION, "")
        session = known.setdefault(name, len(known)) if name else NO_SESSION
        requests.add(at_s, prompt, output, session=session, end_s=at_s + elapsed_s, human=True)
    if not len(requests):
        raise TraceError(f"{path}: there is no request in it that was answered{_chosen(config)}")
    return requests.turns(config, duration_s)


def _chosen(config: Config) -> str:
    chosen = {"model": config.model, "logType": config.log_type}
    return "".join(f", {key} {value!r}" for key, value in chosen.items() if value is not None)
