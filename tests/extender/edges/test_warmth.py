"""Warm places and kept room through the real server: from what the API shows to the answer and its reason."""

import logging

import pytest
import structlog
from pydantic import ValidationError

from extender.obs import kind
from extender.placement.warmth import Savings
from extender.settings import Settings
from tests.extender.edges.harness import World
from tests.fakes.kube_api import NODES, PODS

RESERVE = "priority>=1000: 7 x 1g.10gb"


def images(here: World, node: str, name: str, size: int) -> None:
    here.there.store.merge_patch(NODES, node, {"status": {"images": [{"names": [name], "sizeBytes": size}]}})


async def test_a_node_with_the_image_is_better_and_the_answer_says_why(here: World) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    here.settings |= {"log_level": "debug", "warm_image_mib_per_s": 100}
    for name in ("a", "b"):
        here.gpus(name, "a100-80:1")
    images(here, "b", "image:latest", 1000 << 20)
    one = here.pod("one", profile="1g.10gb", weights="llama")
    here.there.store.merge_patch(
        PODS, "one", {"spec": {"containers": [{**one["spec"]["containers"][0], "image": "image"}]}}
    )
    one = here.seen("one")
    async with here.extender() as scheduler:
        with structlog.testing.capture_logs() as logs:
            assert await scheduler.prioritize(one, "a", "b") == {"a": 9, "b": 10}
            assert await scheduler.bind(one, "b") == ""
        (scored,) = [entry for entry in logs if entry["event"] == "extender.scored"]
        assert [(best["node"], best["saved_s"]) for best in scored["best"]] == [("b", {"image": 10.0}), ("a", {})]
        (bound,) = [entry for entry in logs if entry["event"] == "extender.bound"]
        assert bound["warm_s"] == {"image": 10.0}
        await scheduler.until_said('slicewise_extender_warm_starts_total{what="image"} 1.0')
        await scheduler.until_said("slicewise_extender_warm_keys 1.0")
        two = here.pod("two", profile="1g.10gb", weights="llama")
        assert await scheduler.prioritize(two, "a", "b") == {"a": 9, "b": 10}, "b has the weights by now"
        assert await scheduler.bind(two, "a") == ""
        await scheduler.until_said('slicewise_extender_warm_starts_total{what="cold"} 1.0')


def test_the_settings_defaults_are_those_of_the_decision() -> None:
    assert Settings().savings == Savings()
    assert Settings().reserves == ()


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        pytest.param("reserve", "4 x 1g.10gb", "want `priority>=P: N x SIZE`", id="no priority"),
        pytest.param("warm_life_s", -1, "greater than or equal to 0", id="a life that is none"),
        pytest.param("warm_most_keys", 0, "greater than 0", id="no memory at all"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, value: object, fault: str) -> None:
    with pytest.raises(ValidationError) as told:
        Settings.of(**{name: value})
    assert fault in str(told.value)


async def test_room_is_kept_for_important_pods_by_filter_and_bind_and_after_a_restart(here: World) -> None:
    here.settings |= {"reserve": RESERVE}
    here.gpus("a", "a100-80:1")
    low, vip = here.pod("low", profile="1g.10gb"), here.pod("vip", profile="1g.10gb")
    vip = here.there.store.merge_patch(PODS, "vip", {"spec": {"priority": 1000}})
    why = "headroom: 7 x 1g.10gb are kept for priority 1000 and above"
    for _ in range(2):
        async with here.extender() as scheduler:
            found = await scheduler.filter(low, "a")
            assert (found["NodeNames"], found["FailedNodes"]) == ([], {"a": why})
            assert await scheduler.bind(low, "a") == why
            await scheduler.until_said('slicewise_extender_reserved_room{priority="1000",reserve="1g.10gb"}')
            await scheduler.until_said('slicewise_extender_reserved_slices{priority="1000",reserve="1g.10gb"} 7.0')
            assert (await scheduler.filter(vip, "a"))["NodeNames"] == ["a"]
            if here.seen("vip")["spec"].get("nodeName") is None:
                assert await scheduler.bind(vip, "a") == ""
    assert kind(why) == "kept for a higher priority"
