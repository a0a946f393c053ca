import json
from dataclasses import replace

import pytest

from extender.agent.fake import FakeNvml
from extender.agent.inventory import Chosen, ChosenInstances, document, encoded, model_name
from extender.agent.reading import GpuReading, InstanceReading, NvmlError
from extender.placement import catalog
from extender.placement.links import NO_LINKS, Links
from extender.placement.model import Inventory
from extender.placement.profile import Mode, Placement


@pytest.mark.parametrize("model", sorted(catalog.load()))
def test_the_extender_reads_what_the_agent_writes(model: str) -> None:
    fake = FakeNvml.parse(f"{model}:2", "node-a")
    inventory, problems = Inventory.parse(encoded(document(fake.gpus())))
    assert problems == ()
    assert [(g.index, g.model.name, g.healthy) for g in inventory.gpus] == [(0, model, True), (1, model, True)]
    mig = bool(catalog.load()[model].profiles)
    assert {g.mode for g in inventory.gpus} == {Mode.MIG if mig else Mode.EXCLUSIVE}
    assert inventory.gpus[0].model == catalog.load()[model]


@pytest.mark.parametrize(
    ("fake", "want"),
    [
        pytest.param("h100-80:2:mig-off", Links(nvswitch=18), id="an HGX board"),
        pytest.param("h100-80:2", NO_LINKS, id="cut GPUs are joined to nobody"),
        pytest.param("l40s:2", NO_LINKS, id="a card without NVLink"),
    ],
)
def test_links_are_published_and_read(fake: str, want: Links) -> None:
    inventory, problems = Inventory.parse(encoded(document(FakeNvml.parse(fake, "a").gpus())))
    assert ({g.links for g in inventory.gpus}, problems) == ({want}, ())


def test_links_of_sixteen_gpus_are_few_bytes() -> None:
    meshed = Links(nvlink=tuple((i, 2) for i in range(15)), pcie=0)
    gpus = [replace(g, links=meshed) for g in FakeNvml.parse("l40s:16", "a").gpus()]
    assert len(encoded(document(gpus))) - len(encoded(document(FakeNvml.parse("l40s:16", "a").gpus()))) < 2500


def test_the_same_node_has_the_same_uuids_and_another_node_has_others() -> None:
    def uuids(node: str) -> set[str]:
        return {g.uuid for g in FakeNvml.parse("a100-80:2,l40s:1", node).gpus()}

    assert uuids("a") == uuids("a")
    assert len(uuids("a") | uuids("b")) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a100:2", "no GPU model 'a100'; known are a10, a100-40", id="a model that is not in the catalog"),
        pytest.param("l40s", "want MODEL:COUNT", id="no count"),
        pytest.param("l40s:0", "count from 1 to 16", id="none of them"),
        pytest.param("l40s:17", "count from 1 to 16", id="too many"),
        pytest.param("l40s:1:cut", "'cut' is no option; mig-off is", id="an option that does not exist"),
    ],
)
def test_a_wrong_fake_says_how_it_should_be(text: str, message: str) -> None:
    with pytest.raises(NvmlError, match=message):
        FakeNvml.parse(text, "a")


def test_mig_mode_wins_over_mps_and_mps_over_exclusive() -> None:
    fake = FakeNvml.parse("a100-80:1,a100-80:1:mig-off,l40s:2", "a")
    gpus = fake.gpus()
    shared = Chosen.parse(f"0,1,{gpus[3].uuid}", "--mps-gpus")
    found = document(gpus, shared=shared)["gpus"]
    assert [g["mode"] for g in found] == ["mig", "mps", "exclusive", "mps"]
    assert "profiles" not in found[1]
    assert {g["mode"] for g in document(gpus[2:], shared=Chosen.parse("all", ""))["gpus"]} == {"mps"}


def test_existing_instances_are_shared_by_uuid_or_profile() -> None:
    """Not those that our agent made, nor one without a compute instance."""
    places = [("MIG-a", "3g.40gb", 4), ("MIG-b", "1g.10gb", 0), ("", "1g.10gb", 1), ("MIG-d", "1g.10gb", 2)]
    instances = tuple(InstanceReading(Placement(p, s, 4 if p[0] == "3" else 1), u, busy=False) for u, p, s in places)
    gpus = [replace(g, instances=instances) for g in FakeNvml.parse("a100-80:1", "a").gpus()]

    def shared(text: str, made: tuple[str, ...] = ()) -> list[str]:
        chosen = ChosenInstances.parse(text, "--mps-instances")
        inventory, problems = Inventory.parse(encoded(document(gpus, instances=chosen, made=made)))
        assert problems == ()
        return [g.uuid for g in inventory.gpus[1:]]

    assert shared("") == []
    assert shared("MIG-a") == ["MIG-a"]
    assert shared("1g.10gb") == ["MIG-b", "MIG-d"]
    assert shared("all", made=("MIG-d",)) == ["MIG-b", "MIG-a"]


@pytest.mark.parametrize("text", [pytest.param("0", id="an index"), pytest.param("GPU-5f", id="a GPU")])
def test_a_wrong_choice_of_instances_names_the_option(text: str) -> None:
    with pytest.raises(NvmlError, match=r"--mps-instances .* is neither a MIG-… UUID, a profile nor the word all"):
        ChosenInstances.parse(text, "--mps-instances")


@pytest.mark.parametrize("text", [pytest.param("gpu0", id="a word"), pytest.param("0, -1", id="a negative index")])
def test_a_wrong_choice_of_gpus_names_the_option(text: str) -> None:
    with pytest.raises(NvmlError, match=r"--mps-gpus .* is neither an index, a GPU-… UUID nor the word all"):
        Chosen.parse(text, "--mps-gpus")


def test_faulty_and_foreign_gpus_are_published_and_not_used() -> None:
    bad = GpuReading("GPU-a", 0, "l40s", "", 46068, mig=False, fault="rows of its memory could not be remapped")
    theirs = GpuReading("GPU-b", 1, "l40s", "", 46068, mig=False)
    found = document([bad, theirs], foreign=Chosen(frozenset({"1"})))
    assert found["gpus"][0]["why"] == "rows of its memory could not be remapped"
    inventory, problems = Inventory.parse(encoded(found))
    assert problems == ()
    assert [g.usable for g in inventory.gpus] == [False, False]


def test_instances_say_who_made_them() -> None:
    model = catalog.load()["a100-80"]
    instances = (
        InstanceReading(Placement("3g.40gb", 4, 4), "MIG-b", busy=False),
        InstanceReading(Placement("1g.10gb", 0, 1), "MIG-a", busy=True),
    )
    gpu = GpuReading("GPU-a", 0, "a100-80", "", 81920, mig=True, profiles=model.profiles, instances=instances)
    inventory, _ = Inventory.parse(encoded(document([gpu], made={"MIG-b"})))
    found = inventory.gpus[0].instances
    assert [(i.uuid, i.placement.start, i.managed) for i in found] == [("MIG-a", 0, False), ("MIG-b", 4, True)]


@pytest.mark.parametrize(
    ("product", "device", "name"),
    [
        pytest.param("NVIDIA A100-SXM4-80GB", "20b2", "a100-80", id="by its PCI device"),
        pytest.param("a30", "", "a30", id="by the catalog's own name"),
        pytest.param("NVIDIA X900", "ffff", "x900", id="not in the catalog: its own name"),
        pytest.param("", "", "unknown", id="no name at all"),
    ],
)
def test_the_model_is_named(product: str, device: str, name: str) -> None:
    assert model_name(GpuReading("GPU-a", 0, product, device, 1, mig=False)) == name


def test_the_text_is_short_and_does_not_depend_on_anything_but_the_gpus() -> None:
    gpus = FakeNvml.parse("a100-80:8", "a").gpus()
    text = encoded(document(gpus))
    assert text == encoded(document(gpus))
    assert len(text) < 16_000  # all annotations of an object share 256 KiB
    assert json.loads(text)["version"] == 1
