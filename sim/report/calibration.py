"""What a calibration came to, as text and as JSON."""

import json

from sim.calibrate import Calibration, parameters


def as_json(result: Calibration) -> str:
    """The contract of `slicewise sim calibrate --json`; errors in per cent of what was measured."""
    document = {
        "schema": "slicewise.dev/sim-calibration/1",
        "engine": result.engine.name,
        "basis": result.engine.basis,
        "source": result.engine.source,
        "rows": result.rows,
        "parameters": parameters(result.engine) | {"kv_blocks": result.kv_blocks},
        "errors": result.errors,
        "errors_before": result.before,
        "crowded": {
            "rows": result.crowded,
            "served_at_once": dict(result.limits),
            "errors_without_them": result.without_them,
        },
    }
    return json.dumps(document, indent=1) + "\n"


def as_text(result: Calibration) -> str:
    lines = [f"{result.engine.name}: {result.rows} measurements, {result.engine.basis}", ""]
    lines.append(f"{'':<22}{'error of the mean':>20}{'mean absolute error':>22}")
    names = {"ttft_s": "time to first token", "tpot_s": "time per output token", "e2e_s": "end to end"}
    for key, name in names.items():
        found, before = result.errors[key], result.before[key]
        lines.append(f"{name:<22}{found['mean_error_pct']:>+18.1f} %{found['mape_pct']:>20.1f} %")
        if found != before:
            lines.append(f"{'  before':<22}{before['mean_error_pct']:>+18.1f} %{before['mape_pct']:>20.1f} %")
    lines += ["", *(f"{name:<14} {value:.6g}" for name, value in parameters(result.engine).items())]
    return "\n".join([*lines, f"{'kv_blocks':<14} {result.kv_blocks}"])
