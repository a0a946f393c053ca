"""A heartbeat: one Lease (coordination.k8s.io/v1) that its holder renews.

Source: https://kubernetes.io/docs/concepts/architecture/leases/
"""

from datetime import UTC, datetime

from slicewise.process.kube import Json, Kube, KubeError


def lease_path(namespace: str, name: str = "") -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases" + (f"/{name}" if name else "")


def micro_time(at_s: float) -> str:
    """Seconds since the epoch as the API's MicroTime.

    >>> micro_time(0.25)
    '1970-01-01T00:00:00.250000Z'
    """
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def epoch_s(text: str) -> float:
    """Seconds since the epoch of the API's Time or MicroTime. ValueError if it is neither.

    >>> epoch_s("1970-01-01T00:00:00.250000Z"), epoch_s("1970-01-01T00:01:00Z")
    (0.25, 60.0)
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"time {text!r} has no zone; want one such as 2026-01-31T12:00:00.000000Z")
    return at.timestamp()


async def renew(kube: Kube, namespace: str, name: str, *, holder: str, now_s: float, lasts_s: int) -> None:
    """Write `now_s` into the Lease; make it if there is none. Raises KubeError."""
    spec: Json = {"holderIdentity": holder, "leaseDurationSeconds": lasts_s, "renewTime": micro_time(now_s)}
    try:
        await kube.merge_patch(lease_path(namespace, name), {"spec": spec})
    except KubeError as e:
        if e.status != 404:
            raise
        metadata = {"name": name, "namespace": namespace}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        await kube.create(lease_path(namespace), lease)
