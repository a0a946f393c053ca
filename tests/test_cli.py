import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from slicewise.cli import PROGRAMS, app

RUNNER = CliRunner()
#: What may not be loaded for `slicewise --help`: our programs, and what makes them slow to start.
HEAVY = ("scaler", "extender", "sim", "slicewise.demo", "grpc", "numba", "numpy", "kubernetes", "starlette", "pydantic")
HELP_PROBE = f"""
import sys
from slicewise.cli import app
try:
    app(args=["--help"])
except SystemExit as end:
    assert end.code == 0, end.code
print("LOADED", *sorted(set({HEAVY!r}) & set(sys.modules)))
"""


def programs() -> list[object]:
    return [pytest.param(name, id=f"slicewise {name}") for name in PROGRAMS]


def commands(name: str) -> list[tuple[str, ...]]:
    """All command paths of a program, its groups included."""
    root = typer.main.get_command(import_module(PROGRAMS[name].module).app)
    found: list[tuple[str, ...]] = []
    todo: list[tuple[tuple[str, ...], Any]] = [((), root)]  # typer's own command class is private
    while todo:
        path, command = todo.pop()
        found.append(path)
        inner = getattr(command, "commands", {})
        todo += [((*path, word), child) for word, child in inner.items()]
    return sorted(found)


def ask(*args: str) -> subprocess.CompletedProcess[str]:
    wide = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}
    return subprocess.run(
        [Path(sys.executable).with_name("slicewise"), *args],
        capture_output=True,
        text=True,
        env=wide,
        timeout=30,
        check=False,
    )


def test_help_names_every_program_and_imports_none_of_them() -> None:
    asked = subprocess.run([sys.executable, "-c", HELP_PROBE], capture_output=True, text=True, timeout=30, check=True)
    *shown, loaded = asked.stdout.strip().splitlines()
    assert loaded.split() == ["LOADED"]
    for name, program in PROGRAMS.items():
        line = next(line for line in shown if f" {name} " in line)
        assert program.help[:30] in line


@pytest.mark.parametrize("name", programs())
def test_each_program_and_each_of_its_commands_explains_itself(name: str) -> None:
    module_app = import_module(PROGRAMS[name].module).app
    for path in commands(name):
        shown = RUNNER.invoke(module_app, [*path, "--help"], prog_name=f"slicewise {name}", env={"COLUMNS": "160"})
        assert shown.exit_code == 0, shown.output
        assert "Usage: slicewise " + " ".join((name, *path)) in shown.output


@pytest.mark.parametrize("name", programs())
def test_each_command_and_each_option_says_in_words_what_it_is(name: str) -> None:
    root = typer.main.get_command(import_module(PROGRAMS[name].module).app)
    for path in commands(name):
        command: Any = root
        for word in path:
            command = getattr(command, "commands", {})[word]
        assert command.get_short_help_str(200), f"slicewise {name} {' '.join(path)} has no description"
        silent = [p.name for p in command.params if p.name != "help" and not getattr(p, "help", None)]
        assert not silent, f"slicewise {name} {' '.join(path)}: no help for {silent}"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        pytest.param(("scalar",), "No such command 'scalar'", id="an unknown program is named back"),
        pytest.param(("--verbose",), "No such option: --verbose", id="an unknown option is named back"),
        pytest.param(("demo", "--seconds", "soon"), "Invalid value for '--seconds'", id="a bad value names its option"),
    ],
)
def test_wrong_usage_is_told_in_words_with_exit_code_2(args: tuple[str, ...], said: str) -> None:
    asked = ask(*args)
    assert asked.returncode == 2
    assert said in asked.stderr
    assert "Traceback" not in asked.stderr


def test_a_program_whose_packages_are_absent_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}", name="grpc")

    monkeypatch.setattr("slicewise.cli.import_module", absent)
    shown = RUNNER.invoke(app, ["scaler", "serve"])
    assert shown.exit_code == 2
    assert "'grpc' is not installed" in shown.stderr
    assert "pip install 'slicewise[scaler]'" in shown.stderr


def test_the_version_is_printed_alone() -> None:
    shown = RUNNER.invoke(app, ["--version"])
    assert shown.exit_code == 0
    assert shown.output.startswith("slicewise ")
