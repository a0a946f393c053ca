from pathlib import Path

import pytest

from extender.machine_code import cache_folder, is_filled


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "a.py").write_text("A = 1\n")
    return folder


def test_other_sources_have_another_folder_and_the_same_sources_the_same(package: Path) -> None:
    before = cache_folder(package)
    assert cache_folder(package) == before
    (package / "a.py").write_text("A = 2\n")
    assert cache_folder(package) != before


def test_where_nothing_can_be_kept_a_folder_of_this_process_serves(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder(package).is_dir()


def test_the_environment_overrules(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    assert cache_folder(package) == tmp_path / "mine"


def test_a_folder_is_filled_once_machine_code_lies_in_it(tmp_path: Path) -> None:
    assert not is_filled(tmp_path)
    (tmp_path / "x.nbc").write_bytes(b"")
    assert is_filled(tmp_path)
