"""How the hot code of the packing lab is compiled: as the extender's own, and anew when that has changed."""

from pathlib import Path
from typing import Final

from extender.machine_code import cache_folder, is_filled
from extender.placement.ranking.jit import SOURCES as RANKING
from extender.placement.spr.jit import SOURCES, compiler

CACHE: Final = cache_folder(Path(__file__).parent, SOURCES, RANKING)
compiled: Final = compiler(CACHE)


def compiled_before() -> bool:
    return is_filled(CACHE)
