import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from extender.agent.__main__ import app
from extender.agent.fake import FakeNvml
from extender.agent.inventory import document, encoded
from extender.agent.publish import Publisher
from extender.agent.reading import GpuReading, NvmlError
from extender.placement.model import INVENTORY, Inventory
from slicewise.process.kube import Kube, KubeError
from slicewise.process.lease import epoch_s
from tests.fakes.kube_api import LEASES, NODES, Cluster, cluster, eventually, node, refuses


class Driver:
    """GPUs that a test changes, and that can fail."""

    def __init__(self) -> None:
        self.readings: Sequence[GpuReading] = FakeNvml.parse("a100-80:1", "node-a").gpus()
        self.broken = False

    def gpus(self) -> Sequence[GpuReading]:
        if self.broken:
            raise NvmlError("the driver does not answer")
        return self.readings

    def close(self) -> None: ...


class Agent:
    def __init__(self, there: Cluster, publisher: Publisher, driver: Driver, now_s: list[float]) -> None:
        self.there = there
        self.publisher = publisher
        self.driver = driver
        self.now_s = now_s

    @property
    def inventory(self) -> str:
        return str(self.there.store.get(NODES, "node-a")["metadata"]["annotations"].get(INVENTORY))

    @property
    def renewed_s(self) -> float:
        return epoch_s(self.there.store.get(LEASES, "node-a")["spec"]["renewTime"])

    @property
    def patches(self) -> int:
        return self.there.faults.seen.count("PATCH /api/v1/nodes/node-a")


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with _agent(tmp_path) as running:
        yield running


@asynccontextmanager
async def _agent(folder: Path) -> AsyncIterator[Agent]:
    driver, now_s = Driver(), [1000.0]
    async with cluster(folder) as there, Kube.connect(there.kubeconfig) as kube:
        there.store.create(NODES, node("node-a", {"other": "kept"}))
        publisher = Publisher(
            kube=kube,
            node="node-a",
            namespace="slicewise",
            nvml=driver,
            text=lambda readings: encoded(document(readings)),
            now_s=lambda: now_s[0],
            every_s=0.01,
        )
        yield Agent(there, publisher, driver, now_s)


async def test_inventory_first_then_the_heartbeat(agent: Agent) -> None:
    await agent.publisher.once()
    inventory, problems = Inventory.parse(agent.inventory)
    assert (len(inventory.gpus), problems, agent.renewed_s) == (1, (), 1000.0)
    assert agent.there.store.get(NODES, "node-a")["metadata"]["annotations"]["other"] == "kept"
    writes = [seen for seen in agent.there.faults.seen if not seen.startswith("GET")]
    assert writes[0].startswith("PATCH /api/v1/nodes")
    assert "leases" in writes[-1]


async def test_only_changes_are_written_but_every_heartbeat_is(agent: Agent) -> None:
    for _ in range(5):
        await agent.publisher.once()
        agent.now_s[0] += 10
    assert (agent.patches, agent.renewed_s) == (1, 1040.0)
    agent.driver.readings = FakeNvml.parse("a100-80:2", "node-a").gpus()
    await agent.publisher.once()
    assert agent.patches == 2
    assert len(Inventory.parse(agent.inventory)[0].gpus) == 2


async def test_what_somebody_else_wrote_over_it_is_mended(agent: Agent) -> None:
    await agent.publisher.once()
    good = agent.inventory
    agent.there.store.merge_patch(NODES, "node-a", {"metadata": {"annotations": {INVENTORY: "{}"}}})
    agent.now_s[0] += 61
    await agent.publisher.once()
    assert agent.inventory == good


async def test_a_restarted_agent_does_not_write_what_is_there(agent: Agent) -> None:
    await agent.publisher.once()
    agent.publisher._known, agent.publisher._read_s = None, float("-inf")
    await agent.publisher.once()
    assert agent.patches == 1


async def test_while_the_driver_is_silent_there_is_no_heartbeat(agent: Agent) -> None:
    await agent.publisher.once()
    agent.driver.broken = True
    agent.now_s[0] += 10
    with pytest.raises(NvmlError):
        await agent.publisher.once()
    assert agent.renewed_s == 1000.0


async def test_no_heartbeat_without_the_inventory(agent: Agent) -> None:
    agent.there.faults.add("PATCH", "nodes", refuses(403))
    with pytest.raises(KubeError):
        await agent.publisher.once()
    assert agent.there.store.objects(LEASES) == []


async def test_faults_are_waited_out(agent: Agent) -> None:
    agent.there.faults.add("GET", "nodes", refuses(500), times=2)
    stop = asyncio.Event()
    task = asyncio.create_task(agent.publisher.run(stop))
    await eventually(lambda: agent.there.store.objects(LEASES) != [])
    agent.driver.broken = True
    stop.set()
    await task
    assert Inventory.parse(agent.inventory)[1] == ()


def test_inventory_command_prints_what_would_be_published() -> None:
    said = CliRunner().invoke(app, ["inventory", "--fake", "a100-80:1,l40s:1", "--mps-gpus", "1", "--json"])
    assert said.exit_code == 0
    inventory, problems = Inventory.parse(said.output)
    assert ([g.mode.value for g in inventory.gpus], problems) == (["mig", "mps"], ())
    table = CliRunner().invoke(app, ["inventory", "--fake", "a100-80:1", "--foreign-gpus", "0"])
    assert "another manager's" in table.output.replace("\n", " ")
    assert "7 x 1g.10gb" in table.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["inventory", "--fake", "l400:1"], "no GPU model 'l400'", id="an unknown model"),
        pytest.param(["inventory", "--fake", "l40s:1", "--mps-gpus", "x"], "--mps-gpus 'x'", id="an unknown GPU"),
        pytest.param(
            ["inventory", "--fake", "l40s:1", "--mps-instances", "x"], "--mps-instances 'x'", id="an unknown instance"
        ),
        pytest.param(["run", "--node", "a", "--fake", "l400:1"], "no GPU model", id="run refuses it too"),
        pytest.param(
            ["run", "--node", "a", "--fake", "l40s:1", "--log-format", "xml"], "want json or text", id="a log format"
        ),
        pytest.param(
            ["run", "--node", "a", "--fake", "l40s:1", "--kubeconfig", "/nonexistent"],
            "no kubeconfig at /nonexistent",
            id="no cluster",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code == 2
    assert message in said.stderr
    assert said.stderr.count("\n") == 1
    assert said.stderr.startswith("slicewise agent: ")


def test_a_real_run_publishes_and_stops_at_sigterm(tmp_path: Path) -> None:
    async def story() -> None:
        async with cluster(tmp_path) as there:
            there.store.create(NODES, node("node-a"))
            process = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-m",
                    "extender.agent",
                    "run",
                    "--node",
                    "node-a",
                    "--fake",
                    "l40s:2",
                    "--every-seconds",
                    "0.1",
                ),
                *("--kubeconfig", str(there.kubeconfig)),
                stderr=asyncio.subprocess.PIPE,
            )
            await eventually(lambda: there.store.objects(LEASES) != [], within_s=20)
            process.terminate()
            _, said = await process.communicate()
            assert process.returncode == 0
            assert json.loads(said.splitlines()[0])["event"] == "agent.published"
            text = there.store.get(NODES, "node-a")["metadata"]["annotations"][INVENTORY]
            assert len(Inventory.parse(text)[0].gpus) == 2

    asyncio.run(story())
