"""Reports as one HTML file that needs no network: the shell, the style and the charts, a body, a script and JSON."""

from html import escape
from importlib import resources
from string import Template

import msgspec

from sim.report.model import Report


def to_html(report: Report) -> str:
    """The same report gives the same bytes."""
    title = f"{report.scenario}: {report.about}"
    return assembled(title, _part("report.html"), _part("report.js"), msgspec.json.encode(report).decode())


def assembled(title: str, body: str, script: str, report: str) -> str:
    """A page of `body` that `script` fills from `report`, which is JSON."""
    return Template(_part("page.html")).substitute(
        title=escape(title),
        style=_part("page.css"),
        body=body,
        script=_part("charts.js") + script,
        report=report.replace("<", "\\u003c"),  # a text in the report cannot end the element that holds it
    )


def _part(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text("utf-8")
