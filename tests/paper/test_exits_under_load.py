"""Exits under load: the measurement itself, and the comparison on runs whose law is known."""

import numpy as np
import pytest

from edgeinfer import paper
from edgeinfer.bridge import Served
from edgeinfer.paper.items import exits_under_load
from edgeinfer.paper.measured import exits, store

SCENARIO = paper.scenario()


def test_a_real_run(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    path = exits.measure(tmp_path, requests=40, profiled=20, rounds=2, loads=(0.2, 1.5), progress=False)
    assert path == tmp_path / "exits_under_load.nc"
    raw, table = store.load("exits_under_load"), exits_under_load.data()
    assert raw["samples"].shape == (2, 2, 40) and bool((raw["samples"] > 0).all())
    assert bool((raw["sojourn"] > 0).all()) and bool((raw["backlog"] > 0).all())
    assert bool((raw["violation"].diff("deadline") <= 0).all())
    # 34 requests are left of forty.
    np.testing.assert_allclose(raw["accuracy"] * 34, np.rint(raw["accuracy"] * 34), atol=1e-9)
    assert bool(np.isnan(table["predicted_sojourn"].sel(policy="deadline")).all())
    assert {v.attrs["provenance"] for v in table.data_vars.values()} == {"measured", "derived from measured samples"}
    exits_under_load.draw(table)
    assert len(exits_under_load.tell(table).splitlines()) == 12


def test_service_times_give_the_run_back():
    rng = np.random.default_rng(1)
    arrivals, services = np.cumsum(rng.exponential(1, 200)), rng.exponential(0.9, 200)
    run = queue(arrivals, services)
    np.testing.assert_allclose(exits._services(run), services, rtol=1e-9)


def queue(arrivals, services):
    ends, free = np.empty(len(arrivals)), -np.inf
    for number, (arrival, service) in enumerate(zip(arrivals, services, strict=True)):
        free = ends[number] = max(arrival, free) + service
    return Served(arrivals, ends - services, ends, np.zeros(len(arrivals), int), np.ones(len(arrivals), bool))


def test_prediction_and_run_agree_where_services_are_independent(tmp_path, monkeypatch):
    """With a known law in place of the machine, nearly every interval meets the bracket; with runs a fifth slower than
    their profile most do not."""
    rng = np.random.default_rng(7)
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    slow = 1.0

    def served(network, images, labels, policy, arrivals, seed):
        factor = slow if len(arrivals) == 2000 else 1.0
        return queue(arrivals, factor * rng.lognormal(np.log(unit) - 0.08, 0.4, len(arrivals)))

    unit = 1e-3
    monkeypatch.setattr(exits, "serve_exits", served)
    network = exits.load_exits()
    monkeypatch.setattr(type(network), "service_times", lambda *arguments, **options: np.full((3, 5), unit))
    shares = []
    for slow in (1.0, 1.2):  # noqa: B007  read by `served`
        exits.measure(tmp_path, requests=2000, profiled=1000, rounds=6, loads=(0.5, 0.7), progress=False)
        table = exits_under_load.data()
        met, cells = exits_under_load.agreement(table)
        shares.append(met / cells)
    # 95 % intervals, but cells of one run stand and fall together; the seed is fixed.
    assert shares[0] >= 0.8 and shares[1] <= 0.4
    backlog = table["backlog"] / table["predicted_backlog"]
    assert bool((backlog.isel(policy=[0, 1]) > 1.1).all())


def test_the_shipped_measurement_is_drawn():
    table = exits_under_load.data()
    assert table["violation_upper"].dims == ("policy", "arrival_rate", "deadline")
    assert bool(table["backlog"].isel(arrival_rate=-1, policy=0) > table["backlog"].isel(arrival_rate=-1, policy=1))
    exits_under_load.draw(table)


def test_a_missing_file_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="edgeinfer measure --only exits_under_load"):
        exits_under_load.data()
