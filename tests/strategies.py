"""Hypothesis strategies that more than one test module needs."""

from hypothesis import strategies as st

from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from scaler.trigger import Trigger

#: What readings are made of: nothing, dust, fractions, the usual, the absurd.
VALUES = (
    0.0,
    0.0,
    1e-6,
    0.01,
    0.1,
    0.3,
    0.5,
    1.0,
    1.5,
    2.0,
    2.7,
    3.0,
    4.0,
    5.5,
    8.0,
    11.0,
    16.0,
    33.0,
    64.0,
    100.0,
    1e9,
)
COUNTS = (0, 0, 1, 2, 3, 4, 5, 8, 10, 11, 20, 21, 40, 100, 200)


def readings(at_s: float) -> st.SearchStrategy[dict[str, Reading]]:
    """Anything that may be read at `at_s`: known, missing, covered in part. Two bytes a reading: cheap to draw."""

    def decoded(drawn: bytes) -> dict[str, Reading]:
        pairs = zip(ReadingName, drawn[::2], drawn[1::2], strict=True)
        return {name: _reading(name, at_s, value, pods) for name, value, pods in pairs}

    size = 2 * len(ReadingName)
    return st.binary(min_size=size, max_size=size).map(decoded)


def _reading(name: ReadingName, at_s: float, value: int, pods: int) -> Reading:
    if value >= 200:
        return Missing("not measured")
    if name in {ReadingName.REPLICAS, ReadingName.READY}:
        return Sample(float(COUNTS[value % len(COUNTS)]), at_s)
    return Sample(VALUES[value % len(VALUES)], at_s, None if pods >= 100 else pods % 12)


TARGETS = {
    "queuePerReplica": st.sampled_from(["1", "4", "16.5", "30s"]),
    "sessionsPerReplica": st.sampled_from(["1", "16"]),
    "tokensPerSecondPerReplica": st.sampled_from(["50", "2400"]),
    "p95Target": st.sampled_from(["500ms", "8s", "2m"]),
}
OPTIONS = {
    "stabilizationUp": st.sampled_from(["0s", "30s", "2m"]),
    "stabilizationDown": st.sampled_from(["0s", "45s", "5m"]),
    "minReplicas": st.sampled_from(["0", "2"]),
    "maxReplicas": st.sampled_from(["2", "40"]),
    "onMissing": st.sampled_from(["hold", "fail"]),
    "hpaTolerance": st.sampled_from(["0", "0.1"]),
}


@st.composite
def metadata(draw: st.DrawFn) -> dict[str, str]:
    """Metadata of a sound trigger."""
    chosen = draw(st.lists(st.sampled_from(sorted(TARGETS)), min_size=1, unique=True))
    keys = {key: draw(TARGETS[key]) for key in chosen}
    if "p95Target" in keys or keys.get("queuePerReplica", "").endswith("s"):
        keys["slotsPerReplica"] = draw(st.sampled_from(["1", "8", "256"]))
    return keys | {key: draw(OPTIONS[key]) for key in draw(st.lists(st.sampled_from(sorted(OPTIONS)), unique=True))}


def triggers() -> st.SearchStrategy[Trigger]:
    return metadata().map(Trigger.parse)


AHEAD = {
    "coldStart": "90s",
    "promptTokensPerSecondPerReplica": "50",
    "generationTokensPerSecondPerReplica": "10",
    "slotsPerReplica": "8",
}


@st.composite
def learning_triggers(draw: st.DrawFn) -> Trigger:
    """Triggers whose policy learns, alone or among others."""
    among_others = draw(st.booleans())
    others = {"sessionsPerReplica": "2"} if among_others else {"policy": "ahead"}
    chosen = draw(st.lists(st.sampled_from(sorted(OPTIONS)), unique=True))
    return Trigger.parse(AHEAD | others | {key: draw(OPTIONS[key]) for key in chosen})


def any_triggers() -> st.SearchStrategy[Trigger]:
    return st.one_of(triggers(), learning_triggers())
