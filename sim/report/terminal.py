"""The report for a terminal."""

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sim.report.model import Change, Quantiles, Report
from sim.report.sparkline import sparkline
from sim.units import duration

UNKNOWN = "?"
NARROW = 40
WIDE = 132  # columns, for two tables beside each other
FEW = 8  # steps told of one change, in full in the JSON


def show(report: Report, console: Console, changes: int) -> None:
    """`changes`: how many scale events are listed."""
    console.print(_head(report))
    console.print(_numbers(report, side_by_side=console.width >= WIDE))
    console.print(_lines(report, max(NARROW, console.width - 36)))
    console.print(_changes(report, changes))
    console.print(_foot(report))


def _head(report: Report) -> RenderableType:
    title = f"[bold]{escape(report.scenario)}[/]  {escape(report.about)}"
    under = (
        f"{duration(report.duration_s)} simulated · seed {report.seed} · {report.engine} · slicewise {report.version}"
    )
    return Group(Text.from_markup(title), Text(under, style="dim"), Text())


def _time(value_s: float | None) -> str:
    return UNKNOWN if value_s is None else duration(value_s)


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:.2f} %"


def _quantiles(q: Quantiles) -> list[str]:
    return [_time(q.mean), _time(q.p50), _time(q.p90), _time(q.p99)]


def _numbers(report: Report, *, side_by_side: bool) -> RenderableType:
    latency = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("latency", "mean", "P50", "P90", "P99"):
        latency.add_column(column, justify="left" if column == "latency" else "right", no_wrap=True)
    names = {
        "first token": report.latency.first_token_s,
        "per output token": report.latency.per_output_token_s,
        "end to end": report.latency.end_to_end_s,
        "waiting": report.latency.waiting_s,
        "replica to ready": report.starts.to_ready_s,
    }
    for name, q in names.items():
        latency.add_row(name, *_quantiles(q))
    if not side_by_side:
        return Group(_totals(report), Text(), latency, Text())
    grid = Table.grid(padding=(0, 4))
    grid.add_row(latency, _totals(report))
    return Group(grid, Text())


def _totals(report: Report) -> Table:
    r, g, n, t = report.requests, report.gpus, report.replicas, report.tokens
    limits = ", ".join(
        f"{k.removesuffix('_s').replace('_', ' ')} {_time(v)}" for k, v in report.attainment.limits.items()
    )
    lost = r.dropped + r.refused
    reused = t.prompt_cached / (t.prompt_cached + t.prompt_computed) if t.prompt_cached else None
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("SLO", f"[bold]{_share(report.attainment.share)}[/] of {report.attainment.judged:,} within {limits}")
    table.add_row(
        "requests", f"{r.done:,} of {r.arrived:,} done, {lost:,} lost, {r.running + r.queued + r.held:,} open"
    )
    if report.sessions.begun:
        s = report.sessions
        table.add_row("sessions", f"{s.begun:,} begun, {s.finished:,} finished, {s.broken:,} broken")
    table.add_row("tokens", f"{t.generated:,} generated, prefix cache {_share(reused)}, {t.preemptions:,} preemptions")
    busy = f"replicas busy {_share(g.busy_share)}"
    table.add_row("GPU hours", f"[bold]{g.total_h:.2f}[/] ({g.starting_h:.2f} starting) of {g.provisioned_h:g}, {busy}")
    table.add_row(
        "replicas", f"{n.mean:.1f} on average, {n.most} at most, {n.ups} up, {n.downs} down, {n.reversals} reversals"
    )
    for promise in report.promises:
        verdict = "[green]kept[/]" if promise.kept else "[red]broken[/]"
        table.add_row("promise", f"{promise.name} {promise.wanted:g}: {verdict}")
    return table


def _lines(report: Report, width: int) -> RenderableType:
    line = report.time_line
    per_minute = [n * 60 / line.step_s for n in line.arrived]
    rows: list[tuple[str, Sequence[float | None], str, float | None]] = [
        ("requests a minute", per_minute, f"{max(per_minute, default=0):.0f}", None),
        ("waiting", line.queued, f"{max(line.queued, default=0)}", None),
        ("in service", line.running, f"{max(line.running, default=0)}", None),
        ("replicas wanted", line.wanted, f"{max(line.wanted, default=0)}", max(line.wanted, default=1)),
        ("replicas ready", line.ready, f"{max(line.ready, default=0)}", max(line.wanted, default=1)),
        ("GPUs held", line.gpus_used, f"{max(line.gpus_used, default=0):.2f}", None),
        ("KV cache used", line.kv_used, "100 %", 1.0),
        ("P95 end to end", line.p95_end_to_end_s, _time(_highest(line.p95_end_to_end_s)), None),
    ]
    if report.sessions.begun:
        rows.insert(3, ("sessions alive", line.sessions, f"{max(line.sessions, default=0)}", None))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for name, values, top_text, top in rows:
        table.add_row(name, sparkline(values, width, top), f"top {top_text}")
    table.add_row("SLO kept", sparkline(line.kept_share, width, 1.0, fold=min), "top 100 %")
    span = f"0 … {duration(report.duration_s)}, {duration(line.step_s)} a step"
    axis = f"{span}; a mark shows the highest, of SLO the lowest"
    return Group(table, Text(axis, style="dim"), Text())


def _highest(values: Sequence[float | None]) -> float | None:
    return max((v for v in values if v is not None), default=None)


def _changes(report: Report, most: int) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("at", "replicas", "by", "why"):
        table.add_column(column, no_wrap=column != "why")
    rows = [(c.at_s, f"{c.before} → {c.after}", c.by, _why(c)) for c in report.changes]
    rows += [
        (e.at_s, f"- {e.pod}", "kube-scheduler", f"evicted from {e.node} by {e.by}: {e.why}") for e in report.evictions
    ]
    rows.sort(key=lambda row: row[0])
    for at_s, replicas, by, why in rows[:most]:
        table.add_row(duration(at_s), replicas, by, escape(why))
    left = len(rows) - most
    rest = [Text(f"… and {left} more: --changes {len(rows)}, or --json", style="dim")] if left > 0 else []
    return Group(table, *rest, Text())


def _why(change: Change) -> str:
    return "; ".join(change.steps[-FEW:]) if change.steps else change.why


def _foot(report: Report) -> RenderableType:
    honesty = report.honesty
    lines = [
        Text.from_markup(f"[dim]checked[/]  {len(report.laws)} balances hold (requests, latency, tokens, KV, GPUs)")
    ]
    for name, told in (
        ("calibrated", honesty.calibrated),
        ("interpolated", honesty.interpolated),
        ("not modelled", honesty.not_modelled),
    ):
        lines += [Text.from_markup(f"[dim]{name}[/]  {escape(text)}") for text in told]
    return Group(*lines)
