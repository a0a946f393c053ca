"""Many runs come out in their order, whoever ran them."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from sim import jobs
from sim.jobs import Job, RayMissingError, reports
from tests.sim.commands.scenes import SHORT, scene


def wanted(folder: Path) -> list[Job]:
    path = scene(folder, SHORT.replace("6m", "1m"))
    return [Job(path, (), seed) for seed in (3, 1, 2)]


class FakeRay(ModuleType):
    """As much of Ray as is used: tasks that run when they are asked for, in any order."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.calls: list[str] = []

    def init(self, *, address: str | None, log_to_driver: bool) -> None:
        self.calls.append(f"init {address} {log_to_driver}")

    def remote(self, function: Callable[[Job], object]) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda job: (function, job))

    def get(self, handle: tuple[Callable[[Job], object], Job]) -> object:
        return handle[0](handle[1])

    def shutdown(self) -> None:
        self.calls.append("shutdown")


@pytest.mark.parametrize("address", ["local", "auto"])
def test_a_ray_cluster_is_asked_and_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    ray = FakeRay()
    monkeypatch.setitem(__import__("sys").modules, "ray", ray)
    found = [r.seed for r in reports(wanted(tmp_path), 1, address)]
    assert found == [3, 1, 2]
    assert ray.calls == [f"init {None if address == 'local' else address} False", "shutdown"]


def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(RayMissingError, match="pip install"):
        list(reports(wanted(tmp_path), 1, "auto"))


def test_one_process_compiles_before_the_others_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "compiled_before", lambda: False)
    assert [r.seed for r in reports(wanted(tmp_path), 2)] == [3, 1, 2]
    assert list(reports([], 2)) == []
