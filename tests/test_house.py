"""The house rules that no linter knows: budgets, names, and words that would tie the project to one machine."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("slicewise", "scaler", "extender", "sim", "tests", "bench")
GENERATED = re.compile(r"_pb2(?:_grpc)?\.pyi?$")
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 60
#: Names that say nothing about what is inside.
EMPTY_NAMES = frozenset({"data", "info", "manager", "helper", "helpers", "util", "utils", "common", "misc", "v2"})
#: Nobody else has these folders, and nobody else may use these servers.
FORBIDDEN = {
    "an absolute path of one person's machine": re.compile(r"(?<![\w.}$*-])/(?:home|Users|root|work|workspace)/\w"),
    "the address of a package registry": re.compile(
        r"pythonhosted|pypi\.org|index-url|proxy\.golang|registry\.npm|repo1?\.maven|deb\.debian", re.IGNORECASE
    ),
}
TEXT_SUFFIXES = {".py", ".pyi", ".toml", ".txt", ".md", ".yaml", ".yml", ".json", ".proto", ".mod", ".sh", ".cfg", ""}
TOP_FOLDERS = (*PACKAGES, "proto", "manifests", "docs", ".ci")


def python_files() -> list[Path]:
    found = [path for folder in PACKAGES for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if not GENERATED.search(path.name)]


def text_files() -> list[Path]:
    inside = [path for folder in TOP_FOLDERS for path in sorted((ROOT / folder).rglob("*"))]
    top = [path for path in ROOT.glob("*") if path.name not in {".git", ".coverage"}]  # no text of ours
    files = [path for path in [*top, *inside] if path.is_file() and path.suffix in TEXT_SUFFIXES]
    return [path for path in files if "__pycache__" not in path.parts and path != Path(__file__)]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def test_there_is_something_to_look_at() -> None:
    assert len(python_files()) > 20
    assert ROOT / "pyproject.toml" in text_files()


def test_no_file_is_longer_than_its_budget() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in python_files()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_no_function_is_longer_than_its_budget() -> None:
    lengths = [found for path in python_files() for found in functions(path)]
    assert [found for found in lengths if found[1] > MAX_FUNCTION_LINES] == []


def test_every_module_has_a_name_that_says_something() -> None:
    names = {part.relative_to(ROOT): part.stem for path in python_files() for part in (path, path.parent)}
    assert [str(path) for path, name in names.items() if name in EMPTY_NAMES] == []


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_contains(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if FORBIDDEN[what].search(line)
    ]
    assert found == []


def test_the_budget_check_sees_a_long_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    long = tmp_path / "long.py"
    long.write_text("def f():\n" + "    x = 1\n" * 100)
    assert list(functions(long)) == [("long.py:1 f", 101)]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        pytest.param("see /home/ada/x", "an absolute path of one person's machine", id="a home folder"),
        pytest.param("--index-url https://x", "the address of a package registry", id="an index"),
    ],
)
def test_the_forbidden_words_are_recognised(text: str, what: str) -> None:
    assert FORBIDDEN[what].search(text)
