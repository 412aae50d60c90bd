"""Items that ask something of a cell: what they must show, at small sizes."""

import numpy as np
import pytest

pytest.importorskip("xarray")
pytest.importorskip("matplotlib")

from edgeinfer import paper
from edgeinfer.paper.items import batching, even_arrivals, figure1, schedulers, terminals


def test_poisson_arrivals_have_the_longer_tail():
    table = even_arrivals.data(loads=[0.3, 0.9], jobs=20_000)
    ratio = (table["exact"] / table["even"]).sel(quantile=0.99)
    assert (ratio[1:] > 2.2).all() and (ratio[1:] < 2.8).all()
    step = (even_arrivals.FIXED + even_arrivals.LIMIT * even_arrivals.EACH) / 120
    assert ((table["poisson_low"] - step <= table["exact"]) & (table["exact"] <= table["poisson_high"] + step)).all()
    # Two batches of the one size at most, and a bin of the histogram.
    size = table["rate"] * even_arrivals.FIXED / (1 - table["rate"] * even_arrivals.EACH)
    longest = 2 * (even_arrivals.FIXED + np.ceil(size) * even_arrivals.EACH)
    assert (table["even"].sel(quantile=0.99) <= longest * 1.012).all()
    even_arrivals.draw(table)
    assert len(even_arrivals.tell(table).splitlines()) == 6


def test_batches_help_where_much_is_fixed():
    table = batching.data(limits=[4], shares=[0.05, 0.5], loads=[0.4, 0.9], points=12)
    mean, tail = (table[name].sel(limit=4) for name in ("mean", "tail"))
    assert (tail.sel(share=0.5) < mean.sel(share=0.5)).all() and (mean.sel(share=0.5) < 1).all()
    assert tail.sel(share=0.05, load=0.4) > mean.sel(share=0.05, load=0.4) > 1 > mean.sel(share=0.05, load=0.9)
    batching.draw(table)
    assert "help both in 3, the mean alone in 0, the tail alone in 0, neither in 1" in batching.tell(table)


def test_more_terminals_with_the_prior_alone_on_the_edge():
    table = terminals.data(paper.scenario(), deadlines=[6.0])
    number = table["terminals"]
    assert (number.sel(paradigm="split") > number.sel(paradigm="edge_only")).all()
    assert number.sel(paradigm="device_only").values.tolist() == [np.inf]
    assert (number <= table["possible"]).all()
    terminals.draw(table)
    assert terminals.tell(table).count("any number") == 1


def test_schedulers_move_the_wait():
    table = schedulers.data(paper.scenario(), jobs=5_000, points=5)
    mean = table["mean"]
    urgent, plain = (mean.sel({"class": name}) for name in ("urgent", "plain"))
    for first in ("priority", "edf"):
        assert urgent.sel(scheduler=first) < urgent.sel(scheduler="fifo") < plain.sel(scheduler="fifo") + 0.2
        assert plain.sel(scheduler=first) > plain.sel(scheduler="fifo")
    assert urgent.sel(scheduler="processor_sharing") > urgent.sel(scheduler="fifo")
    schedulers.draw(table)
    assert len(schedulers.tell(table).splitlines()) == 8


def test_figure_1_is_a_cell():
    table = figure1.data(paper.scenario())
    alone = table.sel(collaboration="device-device")
    assert float(alone["cell_upper"]) == pytest.approx(float(alone["violation_upper"]), rel=1e-9)
    shared = table.sel(collaboration=["device-edge", "edge-edge"])
    assert (shared["cell_lower"] > shared["violation_upper"]).all() and (shared["cell_upper"] < 1).all()
    assert table.attrs["edge_load"] == pytest.approx(0.632, abs=1e-3)
    figure1.draw(table)
