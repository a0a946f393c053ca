"""Fixtures of the e2e tests: one control plane for all, a Slicewise of its own for each."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.parts.controlplane import ControlPlane, control_plane, given_cluster
from tests.e2e.parts.kustomize import MANIFESTS, build, find, overlaid
from tests.e2e.parts.tools import CONTROL_PLANE, Tools, tools_or_skip

LOGS: Final = pytest.StashKey[Path]()
TEST_TIMEOUT_S: Final = 900  # a test waits for controllers with periods of seconds; its own deadlines are shorter


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("e2e") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S))


@pytest.fixture(scope="session")
def tools() -> Tools:
    given = given_cluster() is not None
    return tools_or_skip(*(CONTROL_PLANE[3:] if given else CONTROL_PLANE))


@pytest.fixture(scope="session")
def plane(
    tools: Tools, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[ControlPlane]:
    kept = os.environ.get("SLICEWISE_E2E_LOGS")
    folder = Path(kept) / f"run-{os.getpid()}" if kept else tmp_path_factory.mktemp("e2e")
    request.config.stash[LOGS] = folder / "logs"
    with control_plane(tools, folder) as running:
        yield running


@pytest.fixture(scope="session")
def base(plane: ControlPlane) -> Iterator[None]:
    """The shipped base. Its programs run as processes; its pods wait for nodes that are not there."""
    shipped = [*build(MANIFESTS / "base"), find(build(MANIFESTS / "examples" / "agents"), "Namespace", "agents")]
    for thing in shipped:
        no_pods = given_cluster() is not None and thing["kind"] == "Deployment"
        plane.api.apply(overlaid(thing, {"spec": {"replicas": 0}}) if no_pods else thing)
    yield
    for thing in reversed(shipped):
        plane.api.delete(plane.api.path(thing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    logs = item.config.stash.get(LOGS, None)
    if report.failed and logs is not None:
        ends = [_end(path) for path in sorted(logs.glob("*.log"))]
        report.sections.append((f"logs of the parts, in {logs}", "\n".join(ends)))
    return report


def _end(log: Path, lines: int = 12) -> str:
    text = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join([f"--- {log.name}", *(line[:400] for line in text)])
