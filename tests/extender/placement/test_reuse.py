import pytest

from extender.placement.demand import Demand, DemandError
from extender.placement.reuse import SESSION, WEIGHTS, canonical
from tests.extender.objects import container, demand, pod


@pytest.mark.parametrize(
    ("image", "listed"),
    [
        pytest.param("vllm", "docker.io/library/vllm:latest", id="latest is what no tag means"),
        pytest.param("vllm/vllm:v1", "docker.io/vllm/vllm:v1", id="a registry is left out"),
        pytest.param("registry.example:5000/vllm", "registry.example:5000/vllm:latest", id="a port is no tag"),
        pytest.param("quay.io/vllm:v1", "quay.io/vllm:v1", id="a tag stays"),
        pytest.param("localhost/vllm:v1", "localhost/vllm:v1", id="localhost is a registry"),
        pytest.param("quay.io/vllm@sha256:0", "quay.io/vllm@sha256:0", id="a digest stays"),
        pytest.param("quay.io/vllm:v1@sha256:0", "quay.io/vllm@sha256:0", id="a tag beside a digest says nothing"),
    ],
)
def test_images_are_named_as_nodes_list_them(image: str, listed: str) -> None:
    assert canonical(image) == listed


def test_a_pod_names_each_image_once_and_its_keys_by_tenant() -> None:
    ask = {"profile": "1g.10gb", "weights": "llama-70b, lora-7", "session": "user-42", "session-seconds": "30"}
    containers = [container("a", image="vllm"), container("b", image="vllm:latest"), container("c", image="")]
    reuse = demand(ask=ask, containers=containers, init=[{"name": "i", "image": "fetch:1"}]).reuse
    assert reuse.images == ("docker.io/library/fetch:1", "docker.io/library/vllm:latest")
    assert reuse.keys("blue") == (
        ("blue", WEIGHTS, "llama-70b"),
        ("blue", WEIGHTS, "lora-7"),
        ("blue", SESSION, "user-42"),
    )
    assert (reuse.weights_s, reuse.session_s) == (None, 30.0)


NINE = ",".join(map(str, range(9)))


@pytest.mark.parametrize(
    ("annotations", "fault"),
    [
        pytest.param({"weights": "a,,b"}, "annotation slicewise.dev/weights: want 1 to 8 names", id="an empty name"),
        pytest.param({"session": NINE}, "annotation slicewise.dev/session: want 1 to 8 names", id="too many names"),
        pytest.param({"weights": "x" * 254}, "1 to 253 characters", id="a long name"),
        pytest.param({"weights-seconds": "5m"}, "want seconds from 0 to 3600, such as 45, got '5m'", id="a duration"),
        pytest.param({"session-seconds": "nan"}, "slicewise.dev/session-seconds: want seconds", id="not a number"),
        pytest.param({"session-seconds": "3601"}, "from 0 to 3600", id="more than an hour"),
        pytest.param({"weights": "", "weights-seconds": "-1"}, "got ''; annotation", id="all faults at once"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_rule(annotations: dict[str, str], fault: str) -> None:
    with pytest.raises(DemandError) as told:
        Demand.of(pod(ask={"profile": "1g.10gb", **annotations}))
    assert fault in str(told.value)
