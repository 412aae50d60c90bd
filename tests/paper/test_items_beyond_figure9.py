"""Items that ask more of the three paradigms than the paper's figures: what they must show, at small sizes."""

import numpy as np
import pytest

pytest.importorskip("xarray")
pytest.importorskip("matplotlib")

import edgeinfer as ei
from edgeinfer import paper
from edgeinfer.paper.bounds import certified_best
from edgeinfer.paper.items import distance, doppler, frames, independent_terminals, looseness, with_uplink

#: From 95 % intervals to 4.5 standard errors: false alarms < 7e-6 each.
SLACK = 4.5 / 1.96


def shown(item, table, rows):
    """Drawn, told in so many rows, and every number of a stated kind."""
    item.draw(table)
    assert item.tell(table).count("\n|") == rows + 2
    assert item.point(table).endswith(".")
    kinds = {variable.attrs.get("provenance") for variable in table.data_vars.values()}
    assert kinds <= {"derived", "simulated"}


def test_looseness_of_every_method():
    """The printed formulas fall below the truth; all others are at least it, and the lower end at most."""
    split = paper.scenario().pipelines()["split"]
    table = looseness.data(paper.scenario(), pipeline=split, points=1)
    ratios = np.concatenate([table["load_ratio"].values, table["stages_ratio"].values[:, 0]], axis=1)
    slack = SLACK * np.concatenate([np.log(table["load_high"]), np.log(table["stages_high"][0])])
    method = dict(zip(table["method"].values, np.log(ratios), strict=True))
    assert (method["lower"] <= slack).all()
    for name in ("upper", "lundberg", "union", "corrected"):
        assert (method[name] >= -slack).all() and (method[name] >= method["lower"] - 1e-9).all()
    assert (method["upper"] - method["lower"] < 0.05).all()
    assert method["printed_long"][:1].max() < np.log(0.1)
    shown(looseness, table, 4)


def test_an_uplink_costs_and_nobody_wins_beyond_capacity():
    table = with_uplink.data(paper.scenario(), bits=[0.2e6], shares=[0.1, 1.1], points=5)
    assert (table["upper"] >= table["lower_without"]).all()
    assert (table["upper"].sel(paradigm="device_only") == table["upper_without"].sel(paradigm="device_only")).all()
    some = table.isel(deadline=[0, 4])
    slack = SLACK * np.log(some["rare_high"] / some["rare"])
    assert (some["rare"] * np.exp(slack) >= some["lower"]).all() and (
        some["rare"] <= some["upper"] * np.exp(slack)
    ).all()
    light, beyond = (table.isel(bits=0, rate=at) for at in (0, 1))
    assert light["winner"].values.tolist() == ["none", *["split"] * 4]
    assert (beyond["winner"] == "none").all() and (beyond["best"] == 1).all()
    shown(with_uplink, table, 2)


def test_certified_best():
    lower, upper = np.array([[0.1, 0.1, 1.0], [0.3, 0.15, 1.0]]), np.array([[0.2, 0.2, 1.0], [0.4, 0.5, 1.0]])
    assert certified_best(["a", "b"], lower, upper).tolist() == ["a", "none", "none"]
    assert certified_best(["b", "a"], lower[::-1], upper[::-1]).tolist() == ["a", "none", "none"]


def test_frames_wait_for_nothing_but_the_link():
    table = frames.data(paper.scenario(), shares=[0.2, 0.6], points=31)
    service = float(paper.scenario().pipelines()["device_only"].moments()[0][0])
    camera = table.sel(arrivals="camera", paradigm="device_only")
    # D/D/1: late below the service time, never above.
    np.testing.assert_array_equal(camera["lower"], table["deadline"] < service)
    np.testing.assert_array_equal(camera["upper"], table["deadline"] < service)
    assert camera["deadline_low"][0] < service <= camera["deadline_high"][0]
    assert np.isinf(camera["deadline_low"][1]) and camera["rate"][1] * service > 1
    ends = table[["deadline_low", "deadline_high"]].sel(paradigm=["split", "edge_only"])
    assert (ends["deadline_low"] < ends["deadline_high"]).all()
    assert (ends["deadline_low"].sel(arrivals="Poisson") > ends["deadline_high"].sel(arrivals="camera")).all()
    shown(frames, table, 2)


def test_slow_fading_is_worst_for_a_link_alone():
    table = doppler.data(paper.scenario(), dopplers=(0.5, 50.0), slots=(0.02,), jobs=500)
    assert np.isnan(table["ratio"].sel(doppler=50)).all()
    slow = table.sel(doppler=0.5, slot=0.02)
    assert slow["ratio_low"].sel(system="downlink") > 5 > slow["ratio_high"].sel(system="split")
    assert ((slow["ratio_low"] < slow["ratio"]) & (slow["ratio"] < slow["ratio_high"])).all()
    np.testing.assert_allclose(slow["ratio"], slow["correlated"] / slow["independent"])
    shown(doppler, table, 3)


def test_far_terminals_are_late_or_unstable():
    table = distance.data(paper.scenario(), distances=[150.0, 2500.0], tolerance=1.0)
    assert (table["unstable"] <= table["lower"]).all() and (table["lower"] <= table["upper"]).all()
    alone = ei.violation_bracket(paper.scenario().pipelines()["device_only"], 0.35, table.attrs["deadline"])
    assert (table["upper"].sel(paradigm="device_only") == alone.upper).all()
    near, far = (table.sel(distance=d) for d in (150.0, 2500.0))
    assert near["upper"].sel(paradigm="split") < near["lower"].sel(paradigm=["edge_only", "device_only"]).min()
    assert far["upper"].sel(paradigm="device_only") < far["lower"].sel(paradigm=["edge_only", "split"]).min()
    assert (far["unstable"].sel(paradigm=["edge_only", "split"]) > 0.5).all()
    assert "from 150 m to 150 m, device only from 2500 m on" in distance.point(table)
    shown(distance, table, 2)


def test_others_at_the_edge_matter_more_than_independence():
    table = independent_terminals.data(paper.scenario(), numbers=[1, 10], band_loads=[0.9], jobs=4_000)
    assert float(table["alone"][0]) == float(table["upper"][0])
    slack = SLACK * np.log(table["late_high"] / table["late"])
    assert (abs(np.log(table["independent"] / table["late"])) < slack).all()
    assert table["alone"][1] < 1e-6 * table["late_low"][1]
    # Where a band is shared and nearly full, each on its own would see a small part of it.
    assert table["band_independent"][0] * 5 < table["band_late_low"][0]
    assert (table["band_late_low"] <= table["band_upper"]).all()
    shown(independent_terminals, table, 3)
