from collections import defaultdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from extender.placement.images import LEAST_BYTES, MOST_ON_NODE, Images
from extender.placement.reuse import canonical

GIB = 1 << 30


def listing(*images: Any) -> dict[str, object]:  # noqa: ANN401
    return {"status": {"images": [{"names": names, "sizeBytes": size} for names, size in images]}}


def where(images: Images, name: str) -> dict[int, float]:
    found = images.find(canonical(name))
    return {} if found is None else dict(zip(found[0].tolist(), found[1].tolist(), strict=True))


def test_an_image_is_found_by_each_of_its_names_on_the_nodes_that_list_it() -> None:
    images = Images()
    images.put(3, listing((["vllm:1", "vllm@sha256:0"], GIB)))
    images.put(1, listing((["other:1"], GIB), (["vllm:1"], 2 * GIB)))
    assert where(images, "vllm:1") == {1: 2 * GIB, 3: GIB}
    assert where(images, "vllm@sha256:0") == {3: GIB}
    assert images.find("nowhere:1") is None
    images.drop(3)
    assert where(images, "vllm:1") == {1: 2 * GIB}
    assert where(images, "vllm@sha256:0") == {}


def test_small_images_and_what_cannot_be_read_are_passed_over() -> None:
    images = Images()
    listed: list[object] = [
        "text",
        {"names": None, "sizeBytes": GIB},
        {"names": ["a:1"], "sizeBytes": "1Gi"},
        {"names": [7], "sizeBytes": GIB},
        {"names": ["b:1"], "sizeBytes": LEAST_BYTES - 1},
    ]
    images.put(1, {"status": {"images": listed}})
    images.put(2, {"status": {"images": None}})
    images.put(4, {})
    assert len(images) == 0


def test_of_a_kubelet_that_lists_without_a_limit_the_largest_are_kept() -> None:
    images = Images()
    images.put(1, listing(*(([f"i:{i}"], GIB - i) for i in range(MOST_ON_NODE + 5))))
    assert len(images) == MOST_ON_NODE
    assert where(images, "i:0") == {1: GIB}
    assert images.find(canonical(f"i:{MOST_ON_NODE}")) is None


def test_answers_are_remembered_for_few_images() -> None:
    images = Images()
    for node in (1, 2):
        images.put(node, listing(*(([f"i:{node}-{i}"], GIB) for i in range(MOST_ON_NODE))))
    asked = [f"i:{node}-{i}" for node in (1, 2) for i in range(MOST_ON_NODE)]
    assert [list(where(images, name)) for name in asked] == [[1]] * MOST_ON_NODE + [[2]] * MOST_ON_NODE


NAMES = st.lists(st.sampled_from(["a:1", "a@0", "b:1", "c:1"]), min_size=1, max_size=2, unique=True)
LISTED = st.lists(st.tuples(NAMES, st.sampled_from([GIB, 2 * GIB])), max_size=4)


@given(changes=st.lists(st.tuples(st.integers(1, 70), LISTED), max_size=12))
def test_it_is_its_plain_twin(changes: list[tuple[int, list[tuple[list[str], int]]]]) -> None:
    """On each node the size of a name that is listed twice may be either."""
    images, twin = Images(), dict[int, list[tuple[list[str], int]]]()
    for column, listed in changes:
        images.put(column, listing(*listed))
        twin[column] = listed
        sizes: dict[str, dict[int, set[float]]] = defaultdict(lambda: defaultdict(set))
        for node, there in twin.items():
            for names, size in there:
                for name in names:
                    sizes[name][node].add(size)
        for name in ("a:1", "a@0", "b:1", "c:1"):
            found = where(images, name)
            assert found.keys() == sizes[name].keys()
            assert all(size in sizes[name][node] for node, size in found.items())
    distinct = {(tuple(names), size) for there in twin.values() for names, size in there}
    assert len(images) == len(distinct)
