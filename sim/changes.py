"""Fields of a scenario changed from the command line: `--set queuePerReplica=8`, one variant of a sweep."""

import re
from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Final

import yaml

from scaler.trigger import Trigger
from sim.cluster.scaledobject import SpecYaml
from sim.strict import ConfigError, Document, Fault

Changes = tuple[tuple[str, str], ...]  #: (field, its new value as text)

METADATA: Final = "scaledObject.spec.triggers[0].metadata."
SPEC: Final = "scaledObject.spec."
_PART: Final = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class ChangeError(ValueError):
    """A change that is not `FIELD=VALUE`."""


def parse(pairs: Iterable[str]) -> Changes:
    """Of texts such as `queuePerReplica=8`; a field that is given twice has its last value. Raises `ChangeError`."""
    found: dict[str, str] = {}
    for pair in pairs:
        field, equals, text = pair.partition("=")
        if not equals or not field.strip() or not text.strip():
            raise ChangeError(f"want FIELD=VALUE, such as queuePerReplica=8 (got {pair!r})")
        found[whole(field.strip())] = text.strip()
    return tuple(found.items())


def whole(field: str) -> str:
    """A trigger's key and a field of the ScaledObject's spec by their own names; other fields by their whole path."""
    if field in _METADATA_KEYS:
        return METADATA + field
    return SPEC + field if field in _SPEC_KEYS else field


def short(field: str) -> str:
    return field.removeprefix(METADATA).removeprefix(SPEC)


_METADATA_KEYS: Final = frozenset(f.alias or name for name, f in Trigger.model_fields.items())
_SPEC_KEYS: Final = frozenset(f.alias or name for name, f in SpecYaml.model_fields.items())


def changed(document: Document, changes: Changes) -> Document:
    """Raises `ConfigError` for a field that cannot be there; whether a value fits is told later."""
    if not changes:
        return document
    value, faults = deepcopy(document.value), list[Fault]()
    for field, text in changes:
        parts: list[str | int] = [name or int(index) for name, index in _PART.findall(field)]
        try:
            put(value, parts, text if ".metadata." in field else yaml.safe_load(text))
        except (KeyError, IndexError, TypeError, yaml.YAMLError):
            faults.append(Fault(document.file, 1, field, "there is no such field to change"))
    if faults:
        raise ConfigError(faults)
    return Document(document.file, value, document.lines)


def put(value: Any, parts: list[str | int], new: object) -> None:  # noqa: ANN401  # a YAML document
    """Mappings on the way that are not there are made; lists are not. Raises KeyError, IndexError or TypeError."""
    *way, last = parts
    for part in way:
        if isinstance(value, dict) and isinstance(part, str):
            value = value.setdefault(part, {})
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part]
        else:
            raise TypeError(part)
    if (isinstance(value, dict), isinstance(last, str)) not in {(True, True), (False, False)}:
        raise TypeError(last)
    value[last] = new
