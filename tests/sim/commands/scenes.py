"""Short scenarios, and the command line to run them with."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from sim.cli import app
from sim.scenario import bundled

SHORT = (
    bundled()["agents"]
    .read_text()
    .replace("duration: 1h", "duration: 6m")
    .replace("{at: 0m, perMinute: 1}", "{at: 0m, perMinute: 8}")
)


def scene(folder: Path, text: str = SHORT, name: str = "short.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def sim(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def printed(result: Result) -> Any:  # noqa: ANN401  # JSON
    """What was printed as JSON."""
    return json.loads(result.stdout)
