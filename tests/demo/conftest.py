import pytest

from slicewise.demo.kube_store import Store


@pytest.fixture
def store() -> Store:
    return Store(now_s=lambda: 1_700_000_000.0)
