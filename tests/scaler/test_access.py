"""Who may ask what of a backend."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.access import Access, covers, leak


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


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        pytest.param("a", "a", True, id="itself"),
        pytest.param("a", "ab", False, id="not what only begins so"),
        pytest.param("a*", "a", True, id="a star may be nothing"),
        pytest.param("*", "", True, id="a star alone covers all"),
        pytest.param("a*a", "a", False, id="both ends need their own letters"),
        pytest.param("a*b*c", "a-b-b-c", True, id="several stars"),
        pytest.param("a*bb*b", "abb", False, id="what the end needs is not there for the middle"),
        pytest.param("a*b*c", "a-c", False, id="the middle is not there"),
        pytest.param("s:?:x", "s:*:x", False, id="a question mark is itself: it covers no star"),
        pytest.param("s:[!b]:x", "s:*:x", False, id="brackets are themselves"),
        pytest.param("s:a:*", "s:*", False, id="a pattern that covers more"),
        pytest.param("s:a:*", "s:a:*:x*", True, id="a pattern that covers less"),
    ],
)
def test_what_a_pattern_covers(pattern: str, name: str, covered: bool) -> None:
    assert covers(pattern, name) == covered


texts = st.text("ab*", max_size=8)


@given(texts, texts, st.lists(st.text("ab", max_size=4), min_size=8, max_size=8))
def test_whoever_covers_a_pattern_covers_all_that_it_covers(outer: str, inner: str, fillings: list[str]) -> None:
    of = iter(fillings)
    name = re.sub(r"\*", lambda _: next(of), inner)
    assert covers(inner, name)
    if covers(outer, inner):
        assert covers(outer, name)


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("*", id="everything"),
        pytest.param("{namespace}", id="the namespace alone"),
        pytest.param("{namespace}-jobs", id="without a star nothing is left open"),
        pytest.param("{namespace}.*", id="a dot is in no namespace's name"),
        pytest.param("session:{namespace}:*", id="colons"),
        pytest.param("*/{namespace}", id="a slash before it"),
    ],
)
def test_patterns_that_keep_tenants_apart(pattern: str) -> None:
    assert leak(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        pytest.param("{namespace}-*", "'{namespace}-' in a pattern with '*'", id="a-* covers a-b-x of a-b"),
        pytest.param("{namespace}*", "'{namespace}*'", id="a* covers ab"),
        pytest.param("*-{namespace}", "'-{namespace}'", id="*-a covers x-b-a of b-a"),
        pytest.param("q{namespace}.*", "'q{namespace}'", id="a letter before it"),
        pytest.param("*.{namespace}.*", "on both sides", id="*.a.* and *.b.* both cover x.a.b.y"),
        pytest.param("{tenant}.*", "the only variable is {namespace}", id="another variable"),
        pytest.param("{namespace", "the only variable is {namespace}", id="half a variable"),
    ],
)
def test_patterns_that_leak(pattern: str, why: str) -> None:
    assert why in (leak(pattern) or "")


namespaces = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,4}[a-z0-9])?", fullmatch=True)


@given(
    st.text("ab-*.:", max_size=6), st.text("ab-*.:", max_size=6), namespaces, namespaces, st.text("ab-.:", max_size=6)
)
def test_no_two_namespaces_share_a_name(head: str, tail: str, one: str, other: str, filling: str) -> None:
    pattern = f"{head}{{namespace}}{tail}"
    name = pattern.replace("*", filling).replace("{namespace}", one)
    if leak(pattern) is None and one != other:
        assert not covers(pattern.replace("{namespace}", other), name)
