"""The measured table of the planners: of the shipped networks, as good as is asked, and made anew by its function."""

import hashlib

import numpy as np
import pytest

from edgeinfer.estimates import proportion
from edgeinfer.network.zoo import shipped
from edgeinfer.paper.measured import store, storyboards
from edgeinfer.scenes.storyboards import KINDS
from edgeinfer.strategies.planner import PLANNERS

xarray = pytest.importorskip("xarray")


@pytest.fixture(scope="module")
def table():
    return store.load("storyboards", "edgeinfer measure --only storyboards")


def test_it_is_of_the_shipped_networks(table):
    for name in PLANNERS:
        file = (shipped("scenes") / name / "model.onnx").read_bytes()
        assert table.attrs[f"{name}_sha256"] == hashlib.sha256(file).hexdigest()


@pytest.mark.parametrize(("frames", "least"), [(4, 0.85), (8, 0.6)])
def test_goals(table, frames, least):
    """Exact storyboards, like those of training and with objects that it never saw; the lower ends of 95 %."""
    for held in ("none", "objects"):
        exact = table.exact.sel(planner="planner", held_out=held, frames=frames).values
        assert len(exact) >= 400 and proportion(exact.astype(bool)).low >= least


def test_measured_anew(tmp_path):
    path = storyboards.measure(tmp_path, count=3, frames=(2, 3), seed=5)
    with xarray.open_dataset(path, engine="h5netcdf") as made:
        assert made.exact.shape == (2, 3, 2, 3) and set(np.unique(made.exact)) <= {0, 1}
        # Three storyboards of one and of two edits, by three kinds of what is held out.
        assert (made.asked.sum(("kind", "held_out")) == 27).all() and (made.right <= made.asked).all()
        assert list(made.kind.values) == list(KINDS)
    with pytest.raises(ValueError, match="count"):
        storyboards.measure(tmp_path, count=0)
