import gzip
from pathlib import Path

import pytest

from sim.packing.load import load_nodes, load_pods
from sim.packing.model import ANY_KIND_MASK
from sim.strict import ConfigError
from tests.sim.packing.clusters import NODES_CSV, PODS_CSV, write


def test_nodes_without_a_gpu_are_left_out_and_kinds_are_numbered_by_model(tmp_path: Path) -> None:
    inventory = load_nodes(write(tmp_path)[0])
    assert inventory.nodes.gpu_count.tolist() == [1, 2, 8]
    assert inventory.nodes.kind_id.tolist() == [1, 0, 2]
    assert inventory.kinds_of_model == {"P100": 1, "T4": 2, "V100": 4}


def test_pods_become_classes_and_named_models_become_kinds(tmp_path: Path) -> None:
    nodes, pods = write(tmp_path, pods=PODS_CSV + "p5,4000,8192,1,2500,\np6,1,1,1,500,A100\n")
    trace = load_pods(pods, load_nodes(nodes).kinds_of_model)
    assert trace.class_of_pod.tolist() == [0, 1, 2, 3, 4, 0, 5], "more than one GPU's milli is one GPU"
    assert trace.classes.kind_mask.tolist() == [ANY_KIND_MASK, 3, ANY_KIND_MASK, 4, ANY_KIND_MASK, 0]
    assert trace.classes.gpu_count.tolist() == [1, 1, 0, 8, 1, 1]


def test_a_gzipped_file_is_read_as_the_plain_one(tmp_path: Path) -> None:
    nodes, _ = write(tmp_path)
    zipped = tmp_path / "nodes.csv.gz"
    zipped.write_bytes(gzip.compress(NODES_CSV.encode()))
    assert load_nodes(zipped).nodes.cpu_milli.tolist() == load_nodes(nodes).nodes.cpu_milli.tolist()


def test_pods_without_the_column_of_models_go_to_any_node(tmp_path: Path) -> None:
    nodes, pods = write(tmp_path, pods="cpu_milli,memory_mib,num_gpu,gpu_milli\n1000,1,1,500\n")
    assert load_pods(pods, load_nodes(nodes).kinds_of_model).classes.kind_mask.tolist() == [ANY_KIND_MASK]


HEAD = "sn,cpu_milli,memory_mib,gpu,model\n"
MANY_KINDS = HEAD + "".join(f"n,{cpu},1,1,T4\n" for cpu in range(63))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(
            "sn,cpu_milli\n", ["1: memory_mib: the column is missing", "1: gpu:", "1: model:"], id="columns missing"
        ),
        pytest.param(HEAD + "n,-1,1,1,T4\n", ["2: cpu_milli: must be a whole number from 0 to"], id="negative CPU"),
        pytest.param(HEAD + "n,1,1.5,1,T4\n", ["2: memory_mib: must be a whole number"], id="memory not whole"),
        pytest.param(HEAD + "n,1,1,9,T4\n", ["2: gpu: must be a whole number from 0 to 8 (got '9')"], id="nine GPUs"),
        pytest.param(HEAD + "n,x,y,1,T4\n", ["2: cpu_milli:", "2: memory_mib:"], id="two faults in a line: both told"),
        pytest.param(HEAD + "n,1,1,1,\n", ["2: model: a node with GPUs needs one model"], id="GPUs without a model"),
        pytest.param(HEAD + "n,1,1\n", ["2: must have 5 fields"], id="fields missing"),
        pytest.param(HEAD + "n,1,1,1,T4,x\n", ["2: must have 5 fields"], id="too many fields"),
        pytest.param(HEAD + "n,1,1,0,\n", ["1: gpu: no node has a GPU"], id="no GPU anywhere"),
        pytest.param(MANY_KINDS, ["1: model: 63 kinds of node"], id="more kinds than a word has bits"),
        pytest.param("", ["1: cpu_milli: the column is missing"], id="an empty file"),
    ],
)
def test_faulty_nodes_are_refused_with_file_line_field_and_rule(tmp_path: Path, text: str, told: list[str]) -> None:
    nodes, _ = write(tmp_path, nodes=text)
    with pytest.raises(ConfigError) as refused:
        load_nodes(nodes)
    lines = str(refused.value).splitlines()
    for wanted in told:
        assert any(line.startswith(f"{nodes}:{wanted}") for line in lines), lines


POD_HEAD = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(POD_HEAD + "p,1,1,1,0,\n", "2: gpu_milli: a pod with a GPU must ask for 1 milli", id="0 of a GPU"),
        pytest.param(
            POD_HEAD + "p,1,1,2,500,\n", "2: gpu_milli: a pod of several GPUs takes them whole", id="halves of two"
        ),
        pytest.param(POD_HEAD + "p,1,1,9,1000,\n", "2: num_gpu: must be a whole number from 0 to 8", id="nine GPUs"),
        pytest.param(POD_HEAD + "p,1,1,0,0,\n", "1: num_gpu: no pod asks for a GPU", id="no pod with a GPU"),
        pytest.param(POD_HEAD + "p,1,1,1,,\n", "2: gpu_milli: must be a whole number", id="an empty field"),
    ],
)
def test_faulty_pods_are_refused_with_file_line_field_and_rule(tmp_path: Path, text: str, told: str) -> None:
    _, pods = write(tmp_path, pods=text)
    with pytest.raises(ConfigError) as refused:
        load_pods(pods, {})
    assert f"{pods}:{told}" in str(refused.value)


def test_of_very_many_faults_the_first_twenty_are_told(tmp_path: Path) -> None:
    _, pods = write(tmp_path, pods=POD_HEAD + "p,x,1,1,500,\n" * 30)
    with pytest.raises(ConfigError) as refused:
        load_pods(pods, {})
    assert len(refused.value.faults) == 20


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("absent.csv", None, id="no such file"),
        pytest.param("broken.csv.gz", b"no gzip", id="not gzipped"),
        pytest.param("cut.csv.gz", gzip.compress(NODES_CSV.encode())[:-9], id="cut off"),
        pytest.param("latin.csv", HEAD.encode() + b"\xff", id="not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read") as refused:
        load_nodes(path)
    assert name in str(refused.value)
