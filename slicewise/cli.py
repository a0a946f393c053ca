"""The one command. Each program mounts here by name and is imported only when it is used.

`slicewise --help` must answer at once on a laptop that has no gRPC, numba or Kubernetes client installed, so this
module knows only names, one-line descriptions and the extra that brings each program's dependencies.
"""

import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Final

import typer

app = typer.Typer(
    name="slicewise",
    help="Scale AI agents by what they do, pack them onto GPU slices, rehearse both offline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@dataclass(frozen=True, slots=True)
class Program:
    """A part of Slicewise: where its typer app lives (`module:app`), the extra it needs, one line of help."""

    module: str
    extra: str
    help: str


PROGRAMS: Final = {
    "scaler": Program("scaler.__main__", "scaler", "Serve KEDA's external-scaler protocol: decide how many replicas."),
    "extender": Program("extender.__main__", "extender", "Serve kube-scheduler's extender: decide which GPU slice."),
    "agent": Program("extender.agent.__main__", "agent", "Run on a GPU node: publish its GPUs and slices."),
    "sim": Program("sim.cli", "sim", "Rehearse policies and placement offline, with the production code."),
    "demo": Program("slicewise.demo.__main__", "all", "Watch the real servers drive a simulated cluster, on loopback."),
}


def _mount(name: str, program: Program) -> None:
    @app.command(
        name,
        help=program.help,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
    )
    def run(context: typer.Context) -> None:
        try:
            module = import_module(program.module)
        except ModuleNotFoundError as e:
            typer.echo(
                f"slicewise {name}: the Python package {e.name!r} is not installed; "
                f"mend it with: pip install 'slicewise[{program.extra}]'",
                err=True,
            )
            raise typer.Exit(2) from e
        module.app(args=context.args, prog_name=f"slicewise {name}")


for _name, _program in PROGRAMS.items():
    _mount(_name, _program)


def _print_version(wanted: bool) -> None:
    if wanted:
        metadata = import_module("importlib.metadata")  # slow to import, and help needs none of it
        typer.echo(f"slicewise {metadata.version('slicewise')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version  # the eager callback has answered it


def main() -> None:
    app(args=sys.argv[1:])
