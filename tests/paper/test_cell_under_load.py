"""A cell under load: the measurement itself, and the comparison on runs whose law is known."""

import numpy as np
import pytest

from edgeinfer import paper

xarray = pytest.importorskip("xarray")
pytest.importorskip("onnxruntime")

from edgeinfer.paper.items import cell_under_load as item  # noqa: E402
from edgeinfer.paper.measured import cell_under_load as measured  # noqa: E402
from edgeinfer.paper.measured import store  # noqa: E402


@pytest.mark.process
def test_a_real_run(tmp_path):
    options = {"users": 2, "loads": (0.5,), "seconds": 2.0, "timed": 1.0, "blocks": 2, "repetitions": 2}
    options |= {"layers": 64, "width": 1024, "stored": tmp_path / "runs"}
    path = measured.measure(tmp_path, **options, progress=False)
    assert path == tmp_path / "cell_under_load.nc"
    with xarray.open_dataset(path, engine="h5netcdf") as raw:
        raw = raw.load()
    assert float(raw["sojourn"].min()) > 0 and np.isfinite(raw["batch_time"]).any("repetition").all()
    assert set(np.unique(raw["user"])) == {0, 1} and raw["batch_size"].max() <= measured.LIMIT
    assert 1 <= raw["timed_size"].min() and float(raw["timed_lasting"].min()) > 0
    # Blocks one behind the other.
    assert raw["arrival"].max() < 2.0 and (np.diff(raw["arrival"].values) >= 0).all()
    assert raw.attrs["uplink_bits"] > 1024 * 32 and 0 < raw["overhead"].median() < 1
    # All is kept: the same call measures nothing anew.
    again = measured.measure(tmp_path, **options, progress=False)
    with xarray.open_dataset(again, engine="h5netcdf") as other:
        assert other["sojourn"].equals(raw["sojourn"])


def run(rate, fixed, each, bits, seconds, seed):
    """Eight users at a batching server, each over links of its own, event by event: arrivals and sojourn times."""
    rng = np.random.default_rng(seed)
    law = measured.LINK.transfer(bits)
    count = rng.poisson(rate * seconds)
    born = np.sort(rng.uniform(0, seconds, count))
    user, free = rng.integers(0, 8, count), np.zeros((2, 8))
    times = law.sample((2, count), rng)
    at_edge = np.empty(count)
    for n in range(count):
        free[0, user[n]] = at_edge[n] = max(born[n], free[0, user[n]]) + times[0, n]
    order, done, now, at = np.argsort(at_edge), np.empty(count), 0.0, 0
    sizes, lasting = [], []
    while at < count:
        now = max(now, at_edge[order[at]])
        size = int(min(np.searchsorted(at_edge[order], now, side="right") - at, measured.LIMIT))
        sizes.append(size)
        lasting.append(fixed + each * size)
        now += lasting[-1]
        for n in order[at : at + size]:
            free[1, user[n]] = done[n] = max(now, free[1, user[n]]) + times[1, n]
        at += size
    return born, done - born, user, sizes, lasting


def table(slower=1.0, seconds=600.0, overhead=0.02):
    fixed, each, bits = 0.06, 0.01, 4e4
    sizes = np.array(measured.SIZES)
    batching = {"batch_time": (fixed + each * sizes)[:, None] * np.ones(3), "overhead": np.full(3, overhead)}
    found = []
    for number, load in enumerate((0.4, 0.7)):
        rate = load * measured.LIMIT / (fixed + measured.LIMIT * each)
        columns = run(rate, slower * fixed, slower * each, bits, seconds, number)
        names = ("arrival", "sojourn", "user", "size", "lasting")
        found.append(dict(zip(names, columns, strict=True)) | {"rate": rate})
        found[-1]["sojourn"] = found[-1]["sojourn"] + overhead
        found[-1] |= {"timed_size": sizes, "timed_lasting": fixed + each * sizes}
    attrs = {"users": 8, "seconds": seconds, "blocks": 1, "limit": measured.LIMIT, "processor": "none"}
    attrs |= {"snr": 10.0, "bandwidth": 1e6, "slot": 0.01, "uplink_bits": bits, "downlink_bits": bits}
    return xarray.Dataset(measured._variables(batching, found), {"size": sizes, "load": [0.4, 0.7]}, attrs)


def test_runs_of_known_times_are_as_simulated():
    """The intervals meet, and ratios are near 1; with batches a fifth slower only the run's own times say so."""
    pytest.importorskip("matplotlib")
    found = item.data(table=table(), jobs=8_000)
    for name in ("mean", "quantile"):
        assert (abs(found[f"measured_{name}"] / found[f"simulated_{name}"] - 1) < 0.06).all(), name
        assert (found[f"measured_{name}_low"] < found[f"simulated_{name}_high"]).all()
        assert (found[f"simulated_{name}_low"] < found[f"measured_{name}_high"]).all()
    assert abs(found["measured_batch"] / found["simulated_batch"] - 1).max() < 0.05
    np.testing.assert_allclose(found["fixed"], 0.06)
    np.testing.assert_allclose(found["each"], 0.01)
    np.testing.assert_allclose(found["loaded_time"], found["fitted"])
    item.draw(found)
    assert len(item.tell(found).splitlines()) == 6 and not found.attrs["preliminary"]
    slow = item.data(table=table(slower=1.2, seconds=60.0), jobs=5_000, deadlines=2)
    assert (slow["measured_mean"] / slow["simulated_mean"] > 1.1).all()
    assert (abs(slow["measured_mean"] / slow["own_mean"] - 1) < 0.1).all()
    assert item.tell(slow).startswith("**Preliminary")


def test_the_shipped_measurement():
    """A whole run is near its prediction."""
    found = item.data(jobs=8_000)
    if not found.attrs["preliminary"]:
        assert (abs(found["measured_mean"] / found["simulated_mean"] - 1) < 0.05).all()
        assert (abs(found["measured_quantile"] / found["simulated_quantile"] - 1) < 0.1).all()
    assert found["measured"].dims == ("load", "deadline") and (found["failed"] == 0).all()


def test_a_missing_file_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="edgeinfer measure --only cell_under_load"):
        paper.cell_under_load.data()
