"""Where the built programs and the files of their Go modules are."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

SOURCES: Final = Path(__file__).parent.parent / "tools"
CONTROL_PLANE: Final = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "keda-operator",
    "keda-adapter",
    "kwok",
    "prometheus",
)


@dataclass(frozen=True, slots=True)
class Tools:
    folder: Path

    def binary(self, name: str) -> Path:
        return self.folder / "bin" / name


def tools_or_skip(*names: str) -> Tools:
    """The tools, or a skipped test that says what is lacking.

    Where CI is true and SLICEWISE_TOOLS is given, lacking tools fail the test: there they are required.
    """
    given = os.environ.get("SLICEWISE_TOOLS")
    if not given:
        pytest.skip(
            "SLICEWISE_TOOLS is not set; build the servers with `make tools` and run `make e2e` or `make integration`"
        )
    tools = Tools(Path(given).expanduser())
    lacking = [name for name in names if not os.access(tools.binary(name), os.X_OK)]
    if lacking:
        message = f"{tools.folder / 'bin'} lacks {', '.join(lacking)}; build with: tests/e2e/build-tools {given}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return tools


def brokers_or_skip(*programs: str, jars: str | None = None) -> Tools:
    """As `tools_or_skip`, for what install-brokers brings: programs of Debian's packages, and a folder of `jars`."""
    given = os.environ.get("SLICEWISE_TOOLS")
    if not given:
        pytest.skip("SLICEWISE_TOOLS is not set; bring the brokers with `make tools` and run `make integration`")
    tools = Tools(Path(given).expanduser())
    lacking = [name for name in programs if shutil.which(name) is None]
    if jars is not None and not any((tools.folder / jars).glob("*.jar")):
        lacking.append(f"{tools.folder / jars}/*.jar")
    if lacking:
        message = f"there is no {', no '.join(lacking)}; bring it with: tests/e2e/install-brokers {given}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return tools


@cache
def module_folder(tool: str, module: str) -> Path:
    """The folder, in Go's module cache, of a module that tools/`tool` pins: KEDA's CRDs and KWOK's stages are there."""
    go = shutil.which("go")
    assert go is not None, f"Go >= 1.26 is needed to find the files of {module}"
    answer = subprocess.run(
        [go, "mod", "download", "-json", module], cwd=SOURCES / tool, check=True, capture_output=True, timeout=120
    )
    return Path(json.loads(answer.stdout)["Dir"])
