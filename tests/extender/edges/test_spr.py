"""A running extender that places by scarcity-priced rollout, followed over HTTP through a mixed cluster: as the lab."""

import numpy as np
import pytest

from extender.warm import warm_up
from slicewise.process.lease import micro_time
from tests.extender.edges.harness import World, until
from tests.extender.packing import KINDS, Lab, Pod, Room, experiment, gpus_of, name_of, node_object, pod_object
from tests.fakes.kube_api import LEASES, NODES, PODS

NODES_OF_KIND = (24, 60, 44, 72)
ARRIVALS = 120
#: As in openb: most pods share a GPU, some take one whole, few take a node, some have no GPU or name a model.
SHAPES = (
    (0.30, 0, 0),
    (0.10, 250, 1),
    (0.22, 460, 1),
    (0.12, 810, 1),
    (0.18, 1000, 1),
    (0.03, 1000, 2),
    (0.02, 1000, 4),
    (0.03, 1000, 8),
)
CPU_MILLI = (1_000, 4_000, 6_000, 8_000, 12_000, 16_000)


def stream(seed: int) -> list[Pod]:
    rng = np.random.default_rng(seed)
    chances = np.array([chance for chance, _, _ in SHAPES])
    pods = []
    for kind in rng.choice(len(SHAPES), ARRIVALS, p=chances / chances.sum()).tolist():
        _, milli, gpus = SHAPES[kind]
        cpu = int(rng.choice(CPU_MILLI)) * max(1, gpus // 2)
        models = ("a10", "a40") if gpus and rng.random() < 0.1 else ()
        pods.append(Pod(cpu, cpu * int(rng.choice([1, 3, 5])), milli, gpus, models))
    return pods


@pytest.mark.timeout(300)  # where no machine code is kept, it is made
async def test_over_http_every_pod_gets_the_node_and_the_gpu_that_the_lab_gives_it(here: World) -> None:
    kinds = [kind for kind, count in enumerate(NODES_OF_KIND) for _ in range(count)]
    kinds = np.random.default_rng(3).permutation(kinds).tolist()
    pods = stream(5)
    of = experiment(kinds, pods)
    lab, room = Lab(of, "spr"), Room(of.nodes)
    store = here.there.store
    for i, kind in enumerate(kinds):
        store.create(NODES, node_object(i, kind))
        store.create(LEASES, {"metadata": {"name": name_of(i)}, "spec": {"renewTime": micro_time(here.now_s)}})
    here.settings["scorer"] = "spr"
    warm_up("spr")
    placed = 0
    async with here.extender() as scheduler:
        for i, pod in enumerate(pods):
            name, node = f"p{i}", lab.place(i)
            assert node >= 0
            made = pod_object(name, pod)
            made["metadata"] |= {"namespace": "default"}
            one = store.create(PODS, made)
            if pod.gpus:
                fit = (await scheduler.filter(one, *room.names(pod)))["NodeNames"]
                scores = await scheduler.prioritize(one, *fit)
                best = max(fit, key=scores.__getitem__)
                assert best == name_of(node), (i, pod)
                assert await scheduler.bind(one, best) == ""
                if lab.gpu(i) >= 0:
                    assert gpus_of(here.allocation(name)) == [lab.gpu(i)], (i, pod)
                placed += 1
            else:
                store.merge_patch(PODS, name, {"spec": {"nodeName": name_of(node)}})
            cpu, memory = room.take(node, pod)

            async def seen(node: int = node, left: dict[str, int] = {"cpu_milli": cpu, "memory_mib": memory}) -> bool:  # noqa: B006
                state = await scheduler.state(f"?node={name_of(node)}")
                return bool(state["nodes"][name_of(node)]["free"] == left)

            await until(seen)
    assert placed > 60
    assert len({KINDS[kind][0] for kind in kinds}) == len(KINDS)
