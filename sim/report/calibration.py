"""What a calibration came to, as text and as JSON."""

import json
from collections.abc import Mapping
from math import isfinite

from sim.calibrate import Calibration, parameters
from sim.serving.observed import Errors


def as_json(result: Calibration) -> str:
    """The contract of `slicewise sim calibrate --json`; errors in per cent of what was measured."""
    document = {
        "schema": "slicewise.dev/sim-calibration/1",
        "engine": result.engine.name,
        "basis": result.engine.basis,
        "source": result.engine.source,
        "rows": result.rows,
        "parameters": parameters(result.engine) | {"kv_blocks": result.kv_blocks},
        "errors": _finite(result.errors),
        "errors_before": _finite(result.before),
        "errors_held_out": None if result.held_out is None else _finite(result.held_out),
        "lengths": result.lengths,
        "crowded": {
            "rows": result.crowded,
            "served_at_once": dict(result.limits),
            "errors_without_them": _finite(result.without_them),
        },
        "notes": list(result.notes),
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _finite(errors: Errors) -> dict[str, dict[str, float | None]]:
    """null: nothing was measured."""
    return {
        name: {what: value if isfinite(value) else None for what, value in found.items()}
        for name, found in errors.items()
    }


def as_text(result: Calibration) -> str:
    lines = [f"{result.engine.name}: {result.rows} measurements, {result.engine.basis}", ""]
    lines.append(f"{'':<22}{'error of the mean':>20}{'mean absolute error':>22}")
    names = {"ttft_s": "time to first token", "tpot_s": "time per output token", "e2e_s": "end to end"}
    for key, name in names.items():
        lines.append(_line(name, result.errors[key]))
        if result.errors[key] != result.before[key]:
            lines.append(_line("  before", result.before[key]))
        if result.held_out is not None:
            lines.append(_line("  held out", result.held_out[key]))
    if result.crowded:
        served = ", ".join(f"{limit} of {run}" for run, limit in result.limits.items())
        lines += ["", f"served at once, found for {result.crowded} rows from these rows: {served}"]
    lines += ["", *result.notes] if result.notes else []
    lines += ["", *(f"{name:<14} {value:.6g}" for name, value in parameters(result.engine).items())]
    return "\n".join([*lines, f"{'kv_blocks':<14} {result.kv_blocks}"])


def _line(name: str, found: Mapping[str, float]) -> str:
    if not isfinite(found["mape_pct"]):
        return f"{name:<22}{'not measured':>20}"
    return f"{name:<22}{found['mean_error_pct']:>+18.1f} %{found['mape_pct']:>20.1f} %"
