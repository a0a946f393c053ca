import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept-golden", action="store_true", help="write the golden reports anew; the commit says why")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first use of the compiled engine on a machine compiles it, which takes longer than a test may."""
    for item in items:
        if "tests/sim" in item.nodeid:
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture
def accept_golden(request: pytest.FixtureRequest) -> bool:
    """The option is known where this folder is named on the command line."""
    return bool(request.config.getoption("--accept-golden", default=False))
