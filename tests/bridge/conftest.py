import pytest

from bridge import system, tiny
from edgeinfer.bridge import load


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A tiny cascade's folder; not to be written to."""
    return tiny.build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def cascade(tiny_folder):
    """The tiny cascade, one thread."""
    return load(tiny_folder, threads=1)


@pytest.fixture(scope="module")
def served(tiny_folder):
    """Address of an edge that a module's tests share and leave alive; three requests may wait, two run together."""
    with system.edge(tiny_folder, "--queue", "3", "--batch", "2") as process:
        yield process.address
        assert process.running, process.errors()
