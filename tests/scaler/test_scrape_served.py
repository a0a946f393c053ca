"""The whole server on nothing but the pods' own /metrics: pods by the watch, pages of the pods, an answer to KEDA."""

from typing import Any

from tests.fakes.pods import IPS, serving_pages
from tests.scaler.serving import ask, house


def pod(name: str, ip: str) -> dict[str, Any]:
    owner = {"kind": "ReplicaSet", "name": "chat-7d9f8b6c4d", "controller": True}
    return {
        "metadata": {"namespace": "agents", "name": name, "ownerReferences": [owner]},
        "status": {"podIP": ip, "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


async def test_keda_is_answered_by_what_the_pods_say() -> None:
    async with serving_pages() as pages:
        pages.by_ip = {
            ip: f'vllm:num_requests_running{{engine="0"}} {n}\nvllm:num_requests_waiting{{engine="0"}} 10\n'
            for n, ip in enumerate(IPS[:3])
        }
        backends = {"default": {"kind": "scrape", "port": pages.port}}
        async with house(backends=backends) as served:
            for n, ip in enumerate(IPS[:3]):
                served.cluster.tell("/api/v1/pods", "ADDED", pod(f"chat-7d9f8b6c4d-aaaa{n}", ip))
            answer = await served.keda.GetMetrics(ask())
            assert answer.metricValues[0].metricValueFloat == 3 * 10 + 0 + 1 + 2
            assert sorted({ip for ip, _ in pages.asked}) == list(IPS[:3])
