"""`slicewise scaler …`: the composition root, and the only place that reads the wall clock."""

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from scaler import check as checks
from scaler.server import ListenError, engine_with, serving
from scaler.settings import Settings, SettingsError
from scaler.sources import MissingExtraError, presets
from slicewise.process import logs
from slicewise.process.kube import Kube, KubeError
from slicewise.process.shutdown import stop_on_signals

app = typer.Typer(
    help="Serve KEDA's external-scaler protocol: decide how many replicas.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def serve(
    *,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file with any settings; every name is listed by `slicewise scaler settings`."),
    ] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where KEDA asks. Default: 127.0.0.1:9090.")
    ] = None,
    metrics_listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where /metrics is served. Default: 127.0.0.1:9091.")
    ] = None,
    prometheus: Annotated[
        str | None, typer.Option(metavar="URL", help="The Prometheus to ask: the backend named default.")
    ] = None,
    kubernetes: Annotated[
        bool | None,
        typer.Option("--kubernetes/--no-kubernetes", help="Read replicas from the Kubernetes API. Default: yes."),
    ] = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(help="How to reach the API. Default: the pod's ServiceAccount, $KUBECONFIG or ~/.kube/config."),
    ] = None,
    plaintext: Annotated[
        bool | None, typer.Option("--plaintext", help="Allow listening beyond loopback without TLS. Default: no.")
    ] = None,
    tick_s: Annotated[float | None, typer.Option(metavar="SECONDS", help="Between evaluations. Default: 15.")] = None,
    log_format: Annotated[str | None, typer.Option(metavar="json|text", help="Default: json.")] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error. Default: info.")
    ] = None,
) -> None:
    """Answer KEDA until SIGTERM.

    Settings: these options over environment variables (SLICEWISE_SCALER_TICK_S=15 …) over the file over the defaults.
    """
    given: dict[str, Any] = {
        "listen": listen,
        "metrics_listen": metrics_listen,
        "backends": None if prometheus is None else {"default": prometheus},
        "kubernetes": kubernetes,
        "kubeconfig": kubeconfig,
        "plaintext": plaintext,
        "tick_s": tick_s,
        "log_format": log_format,
        "log_level": log_level,
    }
    try:
        settings = Settings.load(config, **given)
    except SettingsError as e:
        _say_and_exit(str(e))
    logs.configure(settings.log_format, settings.log_level)
    try:
        asyncio.run(_serve(settings))
    except (ListenError, MissingExtraError) as e:
        _say_and_exit(str(e))
    except KubeError as e:
        _say_and_exit(f"{e}\nwithout a Kubernetes API, say --no-kubernetes")


@app.command()
def check(
    source: Annotated[
        str,
        typer.Argument(
            metavar="METADATA|FILE",
            help="A ScaledObject's YAML file, a file with a trigger's metadata, key=value,key=value itself, or - for "
            "standard input.",
        ),
    ],
    *,
    config: Annotated[Path | None, typer.Option(help="The server's settings file.")] = None,
    prometheus: Annotated[str | None, typer.Option(metavar="URL", help="The backend named default.")] = None,
    kubernetes: Annotated[
        bool | None, typer.Option("--kubernetes/--no-kubernetes", help="Read the Kubernetes API. Default: yes.")
    ] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="How to reach the API.")] = None,
    namespace: Annotated[str, typer.Option(help="Where the input does not tell it.")] = "default",
    name: Annotated[str, typer.Option(help="The ScaledObject's name, where the input does not tell it.")] = "check",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Connect, show every reading with its age, coverage and query, and say what is wrong and how to mend it.

    Exit codes: 0 nothing stands in the way, 1 something does, 2 wrong usage.
    """
    given: dict[str, Any] = {
        "backends": None if prometheus is None else {"default": prometheus},
        "kubernetes": kubernetes,
        "kubeconfig": kubeconfig,
    }
    try:
        text, where = _text_of(source)
        wanted = checks.candidates(text, where=where, namespace=namespace, name=name)
        settings = Settings.load(config, **given)
        logs.configure("text", "error")
        verdicts = asyncio.run(_check(settings, wanted))
    except (SettingsError, checks.CheckError, MissingExtraError, KubeError) as e:
        _say_and_exit(str(e))
    if as_json:
        typer.echo(checks.as_json(verdicts))
    else:
        for one in verdicts:
            checks.show(one, Console(highlight=False))
    if not all(one.is_well for one in verdicts):
        raise typer.Exit(1)


def _text_of(source: str) -> tuple[str, str]:
    if source == "-":
        return sys.stdin.read(), "standard input"
    path = Path(source)
    if "=" in source and not path.is_file():
        return source, "metadata"
    if not path.is_file():
        raise checks.CheckError(f"{source}: no such file, and not key=value,key=value either")
    return path.read_text("utf-8"), source


async def _check(settings: Settings, wanted: Sequence[checks.Candidate]) -> Sequence[checks.Verdict]:
    async with AsyncExitStack() as stack:
        kube = await stack.enter_async_context(Kube.connect(settings.kubeconfig)) if settings.kubernetes else None
        engine = await stack.enter_async_context(engine_with(settings, kube=kube, clock=time.time))
        return [await checks.verdict(engine, one, await _hpa(kube, one)) for one in wanted]


async def _hpa(kube: Kube | None, candidate: checks.Candidate) -> dict[str, Any] | None:
    """What KEDA has made of a ScaledObject, by the name that KEDA gives it; None where there is none yet."""
    if kube is None or candidate.scaled_object is None:
        return None
    path = f"/apis/autoscaling/v2/namespaces/{candidate.namespace}/horizontalpodautoscalers/keda-hpa-{candidate.name}"
    try:
        return await kube.get(path)
    except KubeError:
        return None


@app.command("presets")
def list_presets(
    engine: Annotated[str | None, typer.Argument(metavar="[PRESET]", help="Only this one. Default: all.")] = None,
) -> None:
    """List the engine presets: which readings each gives, and the names of their families by version and source."""
    known = presets.load()
    if engine is not None and engine not in known:
        _say_and_exit(f"there is no preset {engine!r}; there are {', '.join(known)}")
    for name, preset in known.items() if engine is None else [(engine, known[engine])]:
        typer.echo("\n".join(presets.listed(name, preset)))


@app.command("settings")
def list_settings() -> None:
    """List every setting: its environment variable, its default and its reason."""
    for name, field in Settings.model_fields.items():
        typer.echo(f"SLICEWISE_SCALER_{name.upper()} (default {field.default})")
        typer.echo(f"    {field.description}")


def _say_and_exit(why: str) -> NoReturn:
    for line in why.splitlines():
        typer.echo(f"slicewise scaler: {line}", err=True)
    raise typer.Exit(2)


async def _serve(settings: Settings) -> None:
    stop = stop_on_signals()
    async with AsyncExitStack() as stack:
        kube = await stack.enter_async_context(Kube.connect(settings.kubeconfig)) if settings.kubernetes else None
        clock = time.time
        running = await stack.enter_async_context(serving(settings, kube=kube, clock=clock))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, running.ticks}, return_when=asyncio.FIRST_COMPLETED)  # leaving it raises a defect
        stopping.cancel()


if __name__ == "__main__":
    app()
