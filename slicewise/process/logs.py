"""Logs of every program: one structured event a line on stderr, the standard library's loggers included."""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Literal

import structlog

Format = Literal["json", "text"]

#: Parts of key names whose values never reach a log line, wherever they stand in it.
SECRET_KEYS: Final = (
    "authorization",
    "cookie",
    "credential",
    "passphrase",
    "password",
    "private_key",
    "secret",
    "token",
)
HIDDEN: Final = "(hidden)"
#: Token counts are the trade of this project; these keys are numbers, not secrets.
NOT_SECRET: Final = ("tokens",)


def configure(fmt: Format, level: str) -> None:
    """Send structlog's events and the standard library's records to stderr, as JSON lines or as text for people.

    `level` is a name of the standard library, in any case: debug, info, warning, error.
    Raises ValueError on a level that does not exist.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"log level {level!r} does not exist; use one of debug, info, warning, error")
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        hide_secrets,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(sort_keys=False)
        if fmt == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=number, handlers=[handler], force=True)


def hide_secrets(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: the values of keys that name secrets are replaced, in nested mappings and lists too."""
    for key, value in event.items():
        event[key] = HIDDEN if _is_secret(key) else _hidden_inside(value)
    return event


def _is_secret(key: str) -> bool:
    name = key.lower().replace("-", "_")
    return any(part in name for part in SECRET_KEYS) and not any(part in name for part in NOT_SECRET)


def _hidden_inside(value: object) -> object:
    if isinstance(value, Mapping):
        return {k: HIDDEN if _is_secret(str(k)) else _hidden_inside(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden_inside(v) for v in value]
    return value
