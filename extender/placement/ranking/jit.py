"""How the formulas are compiled."""

from pathlib import Path
from typing import Final

from extender.machine_code import cache_folder
from extender.placement.spr.jit import SOURCES as COMPILER
from extender.placement.spr.jit import compiler

SOURCES: Final = Path(__file__).parent
compiled: Final = compiler(cache_folder(SOURCES, COMPILER))
