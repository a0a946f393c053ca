"""How the day goes: when sessions come and what one calls that time. One round takes 30 minutes of cluster time."""

from dataclasses import dataclass
from typing import Final

ROUND_S: Final = 1800.0


@dataclass(frozen=True, slots=True)
class Chapter:
    """From `at_s` on, in cluster seconds of a round; the rate changes linearly to that of the next chapter."""

    at_s: float
    sessions_per_s: float
    title: str


CHAPTERS: Final = (
    Chapter(0, 0.12, "early: a few agents at work"),
    Chapter(180, 0.12, "the team arrives"),
    Chapter(420, 0.80, "everybody at once"),
    Chapter(840, 0.80, "lunch: sessions end"),
    Chapter(960, 0.10, "quiet: capacity goes when it is safe"),
    Chapter(1320, 0.10, "a second, smaller wave"),
    Chapter(1440, 0.35, "a second, smaller wave"),
    Chapter(1680, 0.12, "evening"),
    Chapter(ROUND_S, 0.12, "evening"),
)


def chapter(now_s: float) -> Chapter:
    return [found for found in CHAPTERS if found.at_s <= now_s % ROUND_S][-1]
