"""What PromQL asks of kube-state-metrics, as Prometheus's own engine answers it (promtool)."""

from pathlib import Path

import pytest

from scaler.signals.reading import ReadingName
from scaler.sources.promql import Scope, cluster
from tests.scaler.promtool import Want, answered, flat

pytestmark = pytest.mark.integration

SCOPE = Scope(namespaces=("agents", "research"), window_s=120.0, max_age_s=60.0)
CHAT, OF_PLANNER = ("agents", "chat"), ("agents", "planner")

STATES = {
    'kube_deployment_spec_replicas{namespace="agents",deployment="chat"}': flat(3),
    'kube_deployment_status_replicas_ready{namespace="agents",deployment="chat"}': flat(2),
    'kube_statefulset_replicas{namespace="agents",statefulset="planner"}': flat(5),
    'kube_pod_status_phase{namespace="agents",pod="chat-7d9f8b6c4d-aaaaa",phase="Pending"}': flat(1),
    'kube_pod_status_phase{namespace="agents",pod="chat-7d9f8b6c4d-bbbbb",phase="Pending"}': flat(0),
    'kube_pod_status_phase{namespace="agents",pod="chat-7d9f8b6c4d-bbbbb",phase="Running"}': flat(1),
    'kube_pod_status_phase{namespace="agents",pod="planner-0",phase="Running"}': flat(1),
    'kube_pod_deletion_timestamp{namespace="agents",pod="chat-7d9f8b6c4d-bbbbb"}': flat(1e9),
}


@pytest.mark.parametrize(
    ("name", "want"),
    [
        pytest.param(ReadingName.REPLICAS, {CHAT: 3, OF_PLANNER: 5}, id="replicas"),
        pytest.param(ReadingName.READY, {CHAT: 2}, id="ready, of a Deployment"),
        pytest.param(ReadingName.PENDING, {CHAT: 1}, id="pending"),
        pytest.param(ReadingName.TERMINATING, {CHAT: 1, OF_PLANNER: 0}, id="terminating"),
    ],
)
def test_kube_state_metrics(name: ReadingName, want: Want, tmp_path: Path) -> None:
    answered(cluster(SCOPE)[name], STATES, want, tmp_path)
    answered(cluster(SCOPE)[name], {}, {}, tmp_path)
