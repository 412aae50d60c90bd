import pytest

from edgeinfer.strategies import standard_team


@pytest.fixture(scope="session")
def team():
    """The shipped agents, one thread."""
    return standard_team(threads=1)
