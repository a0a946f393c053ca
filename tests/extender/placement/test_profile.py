import pytest

from extender.placement import catalog
from extender.placement.profile import Media, Placement, Profile, profile_name


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("1g.10gb", "1g.10gb", id="as NVML writes it"),
        pytest.param("MIG 1g.10gb", "1g.10gb", id="as nvidia-smi prints it"),
        pytest.param(" 3G.40GB ", "3g.40gb", id="in capitals, with spaces around"),
        pytest.param("1g.5gb+me", "1g.5gb+me", id="with media extensions"),
        pytest.param("1g.5gb.me", "1g.5gb+me", id="as in a resource name"),
        pytest.param("2g.48gb.me.all", "2g.48gb+me.all", id="all engines, as in a resource name"),
        pytest.param("1g.24gb.gfx", "1g.24gb+gfx", id="graphics, as in a resource name"),
        pytest.param("1g.24gb-me", "1g.24gb-me", id="without engines"),
        pytest.param("1g.24gb-gfx", None, id="there is no such thing as without graphics"),
        pytest.param("1c.3g.20gb", None, id="a compute instance is no profile"),
        pytest.param("half", None, id="not a profile"),
    ],
)
def test_names_in_every_form(text: str, want: str | None) -> None:
    assert profile_name(text) == want


@pytest.mark.parametrize(
    ("name", "media", "plain"),
    [
        ("1g.24gb", Media.SHARE, True),
        ("1g.24gb+gfx", Media.SHARE, False),
        ("1g.24gb+me", Media.EXTENDED, False),
        ("1g.24gb+me.all", Media.ALL, False),
        ("1g.24gb-me", Media.NONE, False),
    ],
)
def test_the_name_says_what_it_takes_of_the_media_engines(name: str, media: Media, plain: bool) -> None:
    p = Profile(name, slices=1, size=3, memory_mib=24186, starts=(0,), max_count=1)
    assert (p.media, p.plain, p.short) == (media, plain, "1g")


def test_a_model_knows_its_profiles_by_name() -> None:
    a100 = catalog.load()["a100-40"]
    found = a100.profile("3g.20gb")
    assert found is not None
    assert (found.slices, found.size) == (3, 4)
    assert a100.profile("3g.40gb") is None


def test_a_placement_reads_as_profile_at_start() -> None:
    assert str(Placement("3g.40gb", 4, 4)) == "3g.40gb@4"
