"""`slicewise agent run` and `slicewise agent inventory`: the composition root of the node agent."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from extender.agent.fake import FakeNvml
from extender.agent.inventory import Chosen, ChosenInstances, document, encoded
from extender.agent.nvml import Library
from extender.agent.publish import Publisher
from extender.agent.reading import GpuReading, Nvml, NvmlError
from slicewise.process.kube import Kube, KubeError
from slicewise.process.logs import configure
from slicewise.process.shutdown import stop_on_signals

WALL: Final = time.time

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="The node agent: publishes a node's GPUs, and a heartbeat, for the extender.",
)

Fake = Annotated[
    str,
    typer.Option(
        metavar="MODEL:COUNT,…",
        help="GPUs from the catalog in place of the driver's, such as a100-80:2,l40s:1; a100-80:1:mig-off is not cut.",
    ),
]
Shared = Annotated[
    str,
    typer.Option(
        metavar="all|INDEX,UUID,…", help="GPUs that are shared through MPS. Default: none, each is given whole."
    ),
]
Foreign = Annotated[
    str, typer.Option(metavar="all|INDEX,UUID,…", help="GPUs that another manager cuts; nothing is placed on them.")
]

SharedInstances = Annotated[
    str,
    typer.Option(
        metavar="all|PROFILE,UUID,…",
        help="MIG instances that exist, of others' making, to share through MPS. Default: none.",
    ),
]


@app.command()
def run(
    *,
    node: Annotated[
        str, typer.Option(envvar=["SLICEWISE_AGENT_NODE", "NODE_NAME"], help="Name of the Node object of this machine.")
    ],
    fake: Fake = "",
    mps_gpus: Shared = "",
    foreign_gpus: Foreign = "",
    mps_instances: SharedInstances = "",
    kubeconfig: Annotated[
        Path | None,
        typer.Option(help="How to reach the API server. Default: the pod's ServiceAccount, else $KUBECONFIG."),
    ] = None,
    namespace: Annotated[
        str, typer.Option(help="Where the heartbeat's Lease is kept, named like the node.")
    ] = "slicewise",
    every_seconds: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds between two readings and heartbeats.")
    ] = 10.0,
    log_format: Annotated[str, typer.Option(help="json for machines, text for people.")] = "json",
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Publish this node's GPUs until SIGTERM: the inventory when it changes, a heartbeat every few seconds."""
    try:
        _configure_logs(log_format, log_level)
        shared, foreign = Chosen.parse(mps_gpus, "--mps-gpus"), Chosen.parse(foreign_gpus, "--foreign-gpus")
        instances = ChosenInstances.parse(mps_instances, "--mps-instances")
        nvml = _nvml(fake, node)
    except (NvmlError, ValueError) as e:
        raise _refuse(e) from e

    def text(readings: Sequence[GpuReading]) -> str:
        return encoded(document(readings, shared=shared, foreign=foreign, instances=instances))

    async def publish() -> None:
        stop = stop_on_signals()
        async with Kube.connect(kubeconfig) as kube:
            await Publisher(
                kube=kube, node=node, namespace=namespace, nvml=nvml, text=text, now_s=WALL, every_s=every_seconds
            ).run(stop)

    try:
        asyncio.run(publish())
    except KubeError as e:
        raise _refuse(e) from e
    finally:
        nvml.close()


@app.command()
def inventory(
    *,
    node: Annotated[str, typer.Option(help="Names the UUIDs of --fake GPUs.")] = "this-node",
    fake: Fake = "",
    mps_gpus: Shared = "",
    foreign_gpus: Foreign = "",
    mps_instances: SharedInstances = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the annotation as it would be published.")] = False,
) -> None:
    """Print what would be published for this machine, and publish nothing."""
    try:
        shared, foreign = Chosen.parse(mps_gpus, "--mps-gpus"), Chosen.parse(foreign_gpus, "--foreign-gpus")
        instances = ChosenInstances.parse(mps_instances, "--mps-instances")
        nvml = _nvml(fake, node)
        try:
            found = document(nvml.gpus(), shared=shared, foreign=foreign, instances=instances)
        finally:
            nvml.close()
    except NvmlError as e:
        raise _refuse(e) from e
    if as_json:
        typer.echo(encoded(found))
    else:
        _show(found, Console())


def _show(found: dict[str, Any], console: Console) -> None:
    """A line for each GPU, then for each model the profiles that it can be cut into."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("GPU", "model", "GiB", "mode", "state", "UUID"):
        table.add_column(heading, overflow="fold")
    profiles: dict[str, list[dict[str, Any]]] = {}
    for gpu in found["gpus"]:
        state = ["ok" if gpu["healthy"] else gpu["why"], *(["another manager's"] if "owner" in gpu else [])]
        instances = gpu.get("instances", ())
        state += [f"{i['profile']}@{i['start']}{' under MPS' if i.get('mps') else ''}" for i in instances]
        size_gib = f"{gpu['memory_mib'] / 1024:.0f}"
        table.add_row(str(gpu["index"]), gpu["model"], size_gib, gpu["mode"], ", ".join(state), gpu["uuid"])
        profiles.setdefault(gpu["model"], gpu.get("profiles", []))
    console.print(table)
    for model, known in profiles.items():
        if known:
            names = ", ".join(f"{p['max_count']} x {p['name']}" for p in known)
            console.print(f"{model} can be cut into: {names}", highlight=False)


def _nvml(fake: str, node: str) -> Nvml:
    return FakeNvml.parse(fake, node) if fake else Library.load()


def _configure_logs(fmt: str, level: str) -> None:
    if fmt not in {"json", "text"}:
        raise ValueError(f"--log-format {fmt!r}: want json or text")
    configure("json" if fmt == "json" else "text", level)


def _refuse(e: Exception) -> typer.Exit:
    typer.echo(f"slicewise agent: {e}", err=True)
    return typer.Exit(2)


if __name__ == "__main__":
    app(prog_name="slicewise agent")
