"""The report as one HTML file that needs no network: the page's parts and the report's JSON, put together."""

from html import escape
from importlib import resources
from string import Template

import msgspec

from sim.report.model import Report


def to_html(report: Report) -> str:
    """The same report gives the same bytes."""
    parts = resources.files(__package__) / "page"
    page, style, charts, script = (
        (parts / name).read_text("utf-8") for name in ("page.html", "page.css", "charts.js", "report.js")
    )
    # a text in the report cannot end the element that holds it
    text = msgspec.json.encode(report).decode().replace("<", "\\u003c")
    return Template(page).substitute(
        title=escape(f"{report.scenario}: {report.about}"), style=style, script=charts + script, report=text
    )
