"""The catalog's files: complete, with a source beside each number, and in agreement with their own names."""

import re
import tomllib
from importlib import resources

import pytest

from extender.placement import catalog
from extender.placement.profile import profile_name

FILES = sorted(f.name for f in resources.files(catalog).iterdir() if f.name.endswith(".toml"))
NUMBER = re.compile(r"^(memory_mib|sms|id|slices|size|starts|max_count|nvswitch|pci_devices) = ")
KEPT_BACK_MIB = 512  # a profile of the whole GPU counts what the driver keeps back of it, the GPU's own memory does not


def text(name: str) -> str:
    return (resources.files(catalog) / name).read_text("utf-8")


def test_the_models_that_the_catalog_promises_are_there() -> None:
    mig = {"a100-40", "a100-80", "a30", "h100-80", "h100-94", "h100-96", "h200", "gh200-96", "gh200-144"}
    mig |= {"b200", "gb200", "b300", "gb300", "rtx-pro-6000"}
    others = {"a10", "a40", "l4", "l40", "l40s", "t4", "v100-16", "v100-32"}
    known = catalog.load()
    assert set(known) == mig | others
    assert {name for name, model in known.items() if model.profiles} == mig


def test_models_of_eight_memory_slices_have_one_geometry() -> None:
    """Media engines and memory differ between them, places do not (NVIDIA MIG User Guide)."""
    grids = {
        tuple(sorted((p.id, p.slices, p.size, p.starts, p.max_count) for p in model.profiles))
        for model in catalog.load().values()
        if model.compute_slices == 7
    }
    assert len(grids) == 1


@pytest.mark.parametrize("name", FILES)
def test_ids_tell_the_profiles_of_a_model_apart(name: str) -> None:
    profiles = catalog.parse(text(name)).profiles
    assert len({p.id for p in profiles}) == len(profiles)
    assert all(p.id is not None for p in profiles)


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_named_as_the_model(name: str) -> None:
    assert catalog.parse(text(name)).name == name.removesuffix(".toml")


@pytest.mark.parametrize("name", FILES)
def test_every_number_has_its_source_beside_it(name: str) -> None:
    for line in text(name).splitlines():
        if NUMBER.match(line):
            assert re.search(r"  # .{10,}", line), line


@pytest.mark.parametrize("name", FILES)
def test_what_is_inferred_is_marked_in_both_places(name: str) -> None:
    for block in text(name).split("[[profile]]")[1:]:
        commented = {line.split(" = ")[0] for line in block.splitlines() if "# inferred" in line}
        assert commented == set(tomllib.loads(block).get("inferred", ()))


@pytest.mark.parametrize("name", FILES)
def test_profiles_agree_with_their_names(name: str) -> None:
    model = catalog.parse(text(name))
    for p in model.profiles:
        assert profile_name(p.name) == p.name
        assert p.name.startswith(f"{p.slices}g.")
        assert p.memory_mib <= model.memory_mib + KEPT_BACK_MIB
        assert p.sms is None or p.sms <= (model.sms or 0)
        assert all(start % p.size == 0 for start in p.starts)
        assert p.max_count <= len(p.starts)
    assert len({p.name for p in model.profiles}) == len(model.profiles)
    assert model.compute_slices == max((p.slices for p in model.profiles), default=0)
