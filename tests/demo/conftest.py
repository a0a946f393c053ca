from collections.abc import Iterator

import pytest

from slicewise.demo.kube_store import Store


@pytest.fixture
def store() -> Iterator[Store]:
    yield Store(now_s=lambda: 1_700_000_000.0)
