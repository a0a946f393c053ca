"""Who may ask what of a backend."""

import pytest

from scaler.access import Access


@pytest.mark.parametrize(
    ("namespaces", "may"),
    [
        pytest.param(None, True, id="no list: everybody"),
        pytest.param(("agents", "eval"), True, id="in the list"),
        pytest.param(("eval",), False, id="not in the list"),
        pytest.param((), False, id="an empty list: nobody"),
    ],
)
def test_namespaces(namespaces: tuple[str, ...] | None, may: bool) -> None:
    assert Access(roles=frozenset({"backlog"}), namespaces=namespaces).allows("agents") == may


@pytest.mark.parametrize(
    ("names", "name", "why"),
    [
        pytest.param(None, "anything", None, id="no patterns: everything"),
        pytest.param(("orders", "agents-*"), "agents-in", None, id="by a pattern"),
        pytest.param(("{namespace}.*",), "agents.in", None, id="by the tenant's own name"),
        pytest.param(("{namespace}.*",), "eval.in", "may name agents.* there (got 'eval.in')", id="another tenant's"),
        pytest.param((), "x", "may name nothing there (got 'x')", id="an empty list: nothing"),
        pytest.param(("Orders",), "orders", "may name Orders there", id="letters count"),
    ],
)
def test_names(names: tuple[str, ...] | None, name: str, why: str | None) -> None:
    refusal = Access(roles=frozenset({"backlog"}), names=names).refusal("backlog", name, "agents")
    if why is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert refusal.startswith("trigger metadata 'backlogName': namespace 'agents' ")
        assert why in refusal
