"""Which kind a recorded load is, by its first line."""

import json
from pathlib import Path

from sim.workloads import azure, burstgpt
from sim.workloads.trace import TraceError, opened

LONGEST: int = 1 << 20  # characters of a first line


def kind_of(path: Path) -> str:
    """Raises `TraceError` where nothing fits."""
    with opened(path) as text:
        first = text.readline(LONGEST).strip()
    found = _of_json(first) if first.startswith("{") else _of_header({c.strip() for c in first.split(",")})
    if found is None:
        raise TraceError(f"{path}:1: no known kind of trace begins so; say which it is with --kind")
    return found


def _of_header(columns: set[str]) -> str | None:
    kinds = {
        "azure": set(azure.COLUMNS),
        "burstgpt": {burstgpt.AT, burstgpt.PROMPT, burstgpt.OUTPUT},
        "servegen": {"t_s", "client", "rate_rps"},
        "turns": {"at_s", "prompt_tokens", "output_tokens"},
    }
    return next((kind for kind, needed in kinds.items() if needed <= columns), None)


def _of_json(line: str) -> str | None:
    """A dump of Prometheus begins with labels in braces, which is no JSON."""
    try:
        row = json.loads(line)
    except ValueError:
        return "prometheus" if line.startswith(('{__name__="', '{"status"')) else None
    kinds = {
        "otel": {"resourceSpans"},
        "mooncake": {"timestamp", "hash_ids"},
        "turns": {"prompt_tokens", "output_tokens"},
        "prometheus": {"status", "data"},
    }
    return next((kind for kind, needed in kinds.items() if needed <= row.keys()), None)
