"""The commands around a run, one module each. What they import at once is little, so that `--help` is quick."""

import typer

from sim.commands.backtest import backtest
from sim.commands.calibrate import calibrate
from sim.commands.compare import compare
from sim.commands.explain import explain
from sim.commands.init import init
from sim.commands.recommend import recommend
from sim.commands.replay import replay
from sim.commands.report import report
from sim.commands.run import run
from sim.commands.scenarios import scenarios
from sim.commands.sweep import sweep
from sim.commands.trace import trace
from sim.commands.validate import validate


def register(app: typer.Typer) -> None:
    for command in (
        run,
        backtest,
        calibrate,
        compare,
        explain,
        init,
        recommend,
        replay,
        report,
        scenarios,
        sweep,
        validate,
    ):
        app.command()(command)
    app.add_typer(trace)
