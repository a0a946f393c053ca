"""The documents speak of files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PATH = re.compile(r"`((?:slicewise|scaler|extender|sim|proto|manifests|tests|bench|docs)/[\w./-]*)`")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("manifests/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_path_in_a_document_exists(document: Path) -> None:
    named = {path for path in PATH.findall(document.read_text()) if "NAME" not in path}
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_the_architecture_names_every_top_level_module_of_the_servers() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    modules = [*ROOT.glob("scaler/*.py"), *ROOT.glob("extender/*.py")]
    named = {str(m.relative_to(ROOT)) for m in modules if m.name not in {"__init__.py", "clock.py", "interest.py"}}
    assert {path for path in named if path not in text} == set()
