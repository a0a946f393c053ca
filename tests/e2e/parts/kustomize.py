"""Reads manifests/ as `kustomize build` would, for the little of kustomize that they use: resources, files and folders.

The tests apply the shipped files, with what must differ on loopback (addresses, periods) overlaid by `overlaid`.
"""

import copy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import yaml

from tests.e2e.parts.client import Json

MANIFESTS: Final = Path(__file__).parents[3] / "manifests"
KNOWN: Final = frozenset({"apiVersion", "kind", "resources"})


def build(folder: Path) -> list[Json]:
    """All objects of a kustomization, in its order."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = kustomization.keys() - KNOWN
    if unknown:
        raise ValueError(f"{folder}/kustomization.yaml uses {sorted(unknown)}; this reader knows {sorted(KNOWN)} only")
    return [thing for entry in kustomization["resources"] for thing in _objects(folder / entry)]


def _objects(path: Path) -> Iterator[Json]:
    if path.is_dir():
        yield from build(path)
    else:
        yield from (document for document in yaml.safe_load_all(path.read_text()) if document is not None)


def find(objects: Iterable[Json], kind: str, name: str) -> Json:
    """The one object of that kind and name."""
    found = [thing for thing in objects if (thing["kind"], thing["metadata"]["name"]) == (kind, name)]
    if len(found) != 1:
        raise LookupError(f"{len(found)} objects are {kind} {name}, want one")
    return found[0]


def overlaid(thing: Json, changes: Json) -> Json:
    """`thing` with a JSON merge patch on top (RFC 7396): maps are merged, None removes, everything else replaces."""
    result = copy.deepcopy(thing)
    for key, change in changes.items():
        if change is None:
            result.pop(key, None)
        elif isinstance(change, dict) and isinstance(result.get(key), dict):
            result[key] = overlaid(result[key], change)
        else:
            result[key] = copy.deepcopy(change)
    return result


def container(deployment: Json, name: str) -> Json:
    """A container of a Deployment or DaemonSet, by its name."""
    containers: list[Json] = deployment["spec"]["template"]["spec"]["containers"]
    return next(c for c in containers if c["name"] == name)
