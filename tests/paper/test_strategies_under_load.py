"""Strategies under load: on queues of our own making, whose law is known, and on real processes."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray

from edgeinfer import bridge, strategies
from edgeinfer.paper import reproduction
from edgeinfer.paper.items import strategies_under_load as item
from edgeinfer.paper.measured import store
from edgeinfer.paper.measured import strategies_under_load as measured
from edgeinfer.strategies import Request

#: One of each form: stages in a row, rounds, branches.
CHOSEN = ("collaborative", "cooperative", "competitive")
ROUNDS = np.array([0.85, 0.1, 0.05])
READ, EXCHANGE = 1e-3, 2e-3
BITS = {"collaborative": (900.0, 20e3), "competitive": (900.0, 40e3)}


def served(ready, service):
    """When each leaves a FIFO server."""
    end, last = np.empty(len(ready)), -np.inf
    for k, (begin, time) in enumerate(zip(ready, service, strict=True)):
        last = end[k] = max(begin, last) + time
    return end


def row(held, rounds, edge, read):
    """What a user's process would write of a request: rounds of two steps of the device, with a millisecond between."""
    steps, at = [["aside", 0.0, 0.0, read, 0.0]], 5.0
    each = held / (2 * rounds) - 5e-4 * (2 * rounds - 1) / rounds
    for _ in range(2 * rounds):
        steps.append(["device", at, at + 3.0, at + 3.0 + each, 0.0])
        at += 3.0 + each + 1e-3
    there = [] if edge is None else [{"place": "edge", "seconds": edge, "begin": 0.0, "end": edge + EXCHANGE}]
    return {"failure": None, "steps": steps, "session": {"rounds": rounds, "steps": there}}


@pytest.fixture
def made_up(monkeypatch):
    """Load tests of queues in place of processes; `slower` times as slow under load as when they are timed."""

    def replace(slower=1.0):
        def load_test(load, rate, count, *, link, uplink, seed):
            rng, name = np.random.default_rng(seed), load.name
            arrivals = 10.0 * np.arange(count) if rate is None else np.cumsum(rng.exponential(1 / rate, count))
            factor = slower if count > 60 else 1.0
            number = rng.choice([1, 2, 3], count, p=ROUNDS) if name == "cooperative" else np.ones(count, int)
            device = factor * np.array([rng.uniform(0.05, 0.07, n).sum() for n in number])
            edge, ready = factor * rng.uniform(0.035, 0.045, count), arrivals + READ
            if name == "cooperative":
                done, edge = served(ready, device), [None] * count
            else:
                up, down = (
                    way.transfer(bits).sample(count, rng=rng)
                    for way, bits in zip((uplink, link), BITS[name], strict=True)
                )
                there = served(served(served(ready, up), edge), down) + EXCHANGE
                done = served(there, device) if name == "collaborative" else np.maximum(there, served(ready, device))
            sojourn = (done - arrivals)[:, None]
            rows = tuple(row(*each, READ) for each in zip(device.tolist(), number.tolist(), edge, strict=True))
            run = rate, arrivals - arrivals[0], ("request",), sojourn, np.full_like(sojourn, np.nan), {}, {}
            up, down = BITS.get(name, (np.nan, np.nan))
            return bridge.LoadTest(*run, name, down, 1.0, rows, up)

        monkeypatch.setattr(measured.bridge, "load_test", load_test)
        monkeypatch.setattr(measured, "law", lambda: ROUNDS)
        for module in (measured, item):
            monkeypatch.setattr(module, "_SAMPLED", {"jobs": 5_000, "replications": 8})

    return replace


def run(folder, **options):
    with xarray.open_dataset(
        measured.measure(folder, chosen=CHOSEN, progress=False, profile_seconds=4.0, **options), engine="h5netcdf"
    ) as table:
        return table.load()


def test_what_follows_the_law_is_predicted(made_up, tmp_path):
    made_up()
    table = run(tmp_path, seconds=90.0)
    found = item.data(measured=table)
    # The cells of a run stand and fall together: of six runs of 95 % intervals one may well miss; the seed is fixed.
    assert found["inside"].shape == (3, 2, 4) and int(found["inside"].sum()) >= 20
    assert int(found["inside_given"].sum()) >= 20 and int(found["inside_own"].sum()) >= 20
    # Some 400 to 1,000 requests: the median's standard error is 1 to 4 %, less where their arrivals are given.
    assert float(np.abs(item.errors(found)).max()) < 0.12 and float(np.abs(item.errors(found, "given")).max()) < 0.1
    assert bool((found["bracket_lower"] <= found["predicted_high"]).all())
    assert bool((found["bracket_upper"] >= found["predicted_low"]).all())
    # Deadlines are quantiles of some thousands of times.
    wanted = np.broadcast_to(found["probability"], found["predicted"].shape)
    np.testing.assert_allclose(found["predicted"], wanted, rtol=0.35)
    # What a request takes besides: the exchange alone, which nothing hides but what goes on at the same time.
    np.testing.assert_allclose(found["overhead"], [EXCHANGE, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(found["exchange"], [EXCHANGE, np.nan, EXCHANGE], rtol=1e-6)
    text = item.tell(found)
    assert "nan" not in text and text.count("\n| ") == 7 and "beside networks and link" in text
    assert len(reproduction._picture(item.draw(found), "png")) > 10_000
    assert reproduction._netcdf(found) and reproduction._csv(found) and "lies inside" in item.point(found)
    assert not (tmp_path / ".measure" / "strategies_under_load").exists()


@pytest.fixture
def unbracketed(monkeypatch):
    """No certified ends, which take longer than all else."""
    nothing = SimpleNamespace(lower=np.zeros(4), upper=np.ones(4))
    monkeypatch.setattr(measured, "violation_bracket", lambda *arguments: nothing)


def test_a_run_that_is_slower_than_its_profile_is_not(made_up, unbracketed, tmp_path):
    made_up(slower=1.3)
    found = item.data(measured=run(tmp_path, seconds=60.0, loads=(0.6,)))
    assert int(found["inside"].sum()) <= 4 and int(found["inside_own"].sum()) >= 9
    assert "missed" in item.tell(found) and float(found["slower_device"].min()) > 0.2


def test_what_was_measured_is_not_measured_again(made_up, unbracketed, tmp_path, monkeypatch):
    made_up()
    options = {"seconds": 1.0, "loads": (0.3,), "stored": tmp_path / "runs"}
    whole, count = measured.bridge.load_test, []

    def stops(load, *arguments, **named):
        count.append(load.name)
        if len(count) == 5:
            raise OSError("device: ended")
        return whole(load, *arguments, **named)

    monkeypatch.setattr(measured.bridge, "load_test", stops)
    with pytest.raises(OSError, match="ended"):
        run(tmp_path, **options)
    table = run(tmp_path, **options)
    # Nine runs, of which the one that broke is begun again.
    assert len(count) == 10 and table["requests"].min() >= 20
    with pytest.raises(ValueError, match="seconds"):
        measured.measure(tmp_path, **options | {"seconds": 2.0, "loads": (0.6,)}, progress=False)
    with pytest.raises(ValueError, match="chosen = 'alone'"):
        measured.measure(tmp_path, chosen=("alone",))
    monkeypatch.setattr(store, "FOLDER", tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="edgeinfer measure --only strategies_under_load"):
        item.data()


@pytest.mark.process
def test_times_of_real_processes(monkeypatch):
    """Agents that are rules, one request after the other through the link's process."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    asked = [Request("a red circle above a small blue square on white")]
    load = strategies.work_load("collaborative", asked, team="strategies.rules:team")
    tested = bridge.load_test(load, None, 5, link=measured.LINK, uplink=measured.LINK)
    found = measured.columns(tested)
    assert tested.failures == {} and set(found) == set(measured.COLUMNS)
    assert all(np.isfinite(values).all() for values in found.values())
    parts = found["read"] + found["edge"] + found["device"] + found["exchange"]
    # One exchange, and nothing that overlaps.
    assert (found["exchange"] > 0).all() and (parts < found["sojourn"]).all() and (found["rounds"] == 1).all()
    assert measured._Processors().others() >= 0
