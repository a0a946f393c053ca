"""Strict YAML: every fault of a document at once, each with file, line, field and rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from sim.units import seconds

Where = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Keys in camelCase as in Kubernetes; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=False)


Seconds = Annotated[float, BeforeValidator(seconds)]


@dataclass(frozen=True, slots=True)
class Fault:
    file: str
    line: int
    field: str
    rule: str

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line}: {self.field}: {self.rule}"
            if self.field
            else f"{self.file}:{self.line}: {self.rule}"
        )


class ConfigError(Exception):
    """A document that cannot be used; `faults` are all that is wrong with it, in the order of lines."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda f: (f.file, f.line)))
        super().__init__("\n".join(map(str, self.faults)))


class LackingError(ValueError):
    """A document that is right, without a part that is needed for what was asked."""


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its value and the line of every field in it."""

    file: str
    value: Any
    lines: Mapping[Where, int]

    def fault(self, where: Where, rule: str) -> Fault:
        known = where
        while known not in self.lines:
            known = known[:-1]
        return Fault(self.file, self.lines[known], spell(where), rule)

    def at(self, *where: str | int) -> "Document":
        """The part of the document below `where`, which still knows its lines."""
        value = self.value
        for key in where:
            value = value[key]
        below = {w[len(where) :]: line for w, line in self.lines.items() if w[: len(where)] == where}
        return Document(self.file, value, below)


def spell(where: Where) -> str:
    text = ""
    for key in where:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def read(path: Path) -> list[Document]:
    """Every document of a file. Raises `ConfigError` for a file that cannot be read or is not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        why = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        raise ConfigError([Fault(str(path), 1, "", f"cannot be read: {why}")]) from e
    return parse(text, str(path))


def parse(text: str, file: str) -> list[Document]:
    try:
        nodes = list(yaml.compose_all(text, yaml.SafeLoader))
        documents = [_document(node, file) for node in nodes]
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        raise ConfigError([Fault(file, line, "", f"not YAML: {e.problem}")]) from e
    if not documents:
        raise ConfigError([Fault(file, 1, "", "the file is empty")])
    return documents


def _document(node: yaml.Node, file: str) -> Document:
    lines: dict[Where, int] = {(): node.start_mark.line + 1}
    faults: list[Fault] = []
    constructor = yaml.SafeLoader("")

    def walk(node: yaml.Node, where: Where) -> object:
        lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            value: dict[str, object] = {}
            for key_node, value_node in node.value:
                key = str(constructor.construct_object(key_node))
                line = key_node.start_mark.line + 1
                if key in value:
                    faults.append(Fault(file, line, spell((*where, key)), "is given twice"))
                lines[*where, key] = line
                value[key] = walk(value_node, (*where, key))
            return value
        if isinstance(node, yaml.SequenceNode):
            return [walk(item, (*where, i)) for i, item in enumerate(node.value)]
        scalar: object = constructor.construct_object(node)
        return scalar

    value = walk(node, ())
    if faults:
        raise ConfigError(faults)
    return Document(file, value, lines)


def check(model: type[Model], document: Document) -> Model:
    """The document as a `model`; raises `ConfigError` with every fault."""
    try:
        return model.model_validate(document.value)
    except ValidationError as e:
        raise ConfigError(
            [document.fault(_place(x["loc"]), _rule(x["type"], x["msg"], x["input"])) for x in e.errors()]
        ) from e


def _place(loc: tuple[str | int, ...]) -> Where:
    """Without the tags that pydantic adds for the branch of a union; they are no keys of the document."""
    return tuple(key for key in loc if not (isinstance(key, str) and key.startswith(_TAG)))


_TAG: Final = "as:"


def _rule(kind: str, message: str, got: object) -> str:
    if kind == "extra_forbidden":
        return "unknown field"
    if kind == "missing":
        return "is required"
    message = message.removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return message if isinstance(got, dict | list) else f"{message} (got {got!r})"
