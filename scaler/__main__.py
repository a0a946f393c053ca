"""`slicewise scaler …`: the composition root, and the only place that reads the wall clock."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from scaler.server import ListenError, serving
from scaler.settings import Settings, SettingsError
from scaler.signals.reading import ReadingName
from scaler.sources import presets
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
    except ListenError as e:
        _say_and_exit(str(e))
    except KubeError as e:
        _say_and_exit(f"{e}\nwithout a Kubernetes API, say --no-kubernetes")


@app.command("presets")
def list_presets() -> None:
    """List the engine presets: which readings each knows."""
    for name, preset in presets.load().items():
        typer.echo(f"{name}: {preset.engine}, {preset.versions}")
        for reading in ReadingName:
            if preset.ways(reading):
                typer.echo(f"  {reading}")


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
