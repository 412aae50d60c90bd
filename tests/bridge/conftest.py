import pytest

from bridge import tiny
from edgeinfer.bridge import load


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A tiny cascade's folder; not to be written to."""
    return tiny.build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def cascade(tiny_folder):
    """The tiny cascade, one thread."""
    return load(tiny_folder, threads=1)
