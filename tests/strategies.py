"""Hypothesis strategies that more than one test module needs."""

from hypothesis import strategies as st

from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from scaler.trigger import Trigger

LOADS = st.one_of(st.just(0.0), st.floats(1e-6, 300.0), st.integers(0, 100).map(float), st.just(1e9))


def samples(at_s: float, values: st.SearchStrategy[float] = LOADS) -> st.SearchStrategy[Reading]:
    return st.builds(lambda value, pods: Sample(value, at_s, pods), values, st.none() | st.integers(0, 50))


def readings(at_s: float) -> st.SearchStrategy[dict[str, Reading]]:
    """Anything that may be read at `at_s`: known, missing, covered in part."""
    anything = samples(at_s) | st.just(Missing("not measured"))
    counts = samples(at_s, st.integers(0, 200).map(float)) | st.just(Missing("not measured"))
    return st.fixed_dictionaries(
        {name: counts if name in {ReadingName.REPLICAS, ReadingName.READY} else anything for name in ReadingName}
    )


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
