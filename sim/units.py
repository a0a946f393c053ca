"""Texts with units, as they stand in YAML and in trigger metadata, to numbers."""

import re
from typing import Final

_SECONDS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: object) -> float:
    """`500ms`, `30s`, `5m`, `1h30m`, `7d`; a bare number is refused, since nobody knows its unit."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", str(text))
    if not parts or "".join(number + unit for number, unit in parts) != str(text):
        raise ValueError("want a number with its unit, such as 500ms, 30s, 5m, 1h30m or 7d")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def duration(value_s: float) -> str:
    """A time for people: `850ms`, `12.3s`, `4m10s`, `2h05m`."""
    if value_s < 1:
        return f"{value_s * 1000:.0f}ms"
    if value_s < 60:
        return f"{value_s:.3g}s"
    minutes, rest_s = divmod(round(value_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest_s:02d}s"
