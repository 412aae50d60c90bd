"""Sweeps of a function of a cell: the grid, the store, and workers that are killed."""

import os
import signal

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer import study

STAGES = ei.Pipeline([ei.Exponential(0.5, "gpu")])
CELL = ei.Cell(ei.Terminals(1, 0.03, STAGES, edge="gpu"), [ei.EdgeNode(), ei.EdgeNode()])
FUZZ = bool(os.environ.get("EDGEINFER_FUZZ"))


def late(cell, count, rng):
    run = ei.simulate_cell(cell.with_count(count), 2.0, jobs=500, replications=2, rng=rng, threads=1)
    return {"late": run["terminals"].violation[..., -1], "load": max(ei.cell.loads(cell.with_count(count)).values())}


def late_and_killed(cell, count, rng, flag):
    """Once, the worker that computes is killed from outside, as by the kernel for its memory."""
    if count == 7:
        try:
            os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return late(cell, count, rng)


def test_a_cell_is_swept_and_resumed(tmp_path):
    calls = []

    def counted(cell, count, rng):
        calls.append(count)
        if len(calls) == 3:
            raise RuntimeError("stop")
        return late(cell, count, rng)

    axes = {"assignment": ["random", "least_loaded"], "count": [4, 8]}
    with pytest.raises(RuntimeError):
        study.sweep(counted, CELL, axes, store=tmp_path / "store", seed=1, progress=False)
    table = study.sweep(counted, CELL, axes, store=tmp_path / "store", seed=1, progress=False)
    assert calls == [4, 8, 4, 4, 8]
    assert table["late"].dims == ("assignment", "count")
    assert table["load"].sel(count=8).values == pytest.approx([0.06, 0.06])
    whole = study.sweep(late, CELL, axes, seed=1, progress=False)
    np.testing.assert_array_equal(table["late"], whole["late"])
    assert (table["late_low"] <= table["late"]).all()
    with pytest.raises(ValueError, match="scenario field terminals"):
        other = ei.Cell(ei.Terminals(1, 0.2, STAGES, edge="gpu"), CELL.edges)
        study.sweep(counted, other, axes, store=tmp_path / "store", seed=1, progress=False)


@pytest.mark.process
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(not FUZZ, reason="starts a cluster; sweeps of scenarios on one are tested with the rest")
def test_a_worker_is_killed(tmp_path):
    from distributed import Client, LocalCluster

    axes = {"assignment": ["random", "least_loaded"], "count": list(range(1, 101))}
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        far = study.sweep(
            late_and_killed,
            CELL,
            axes | {"flag": [str(tmp_path / "killed")]},
            store=tmp_path / "store",
            client=client,
            seed=1,
            progress=False,
        )
    assert (tmp_path / "killed").exists() and far["late"].size == 200
    assert np.isfinite(far["late"]).all() and (far["load"][:, -1, 0] > 0.99 * 100 * 0.03 * 0.5 / 2).all()


def test_a_cell_is_made_again_of_what_it_shows():
    names = {"array": np.array, "inf": np.inf, **vars(ei.cell), **vars(ei.model)}
    kinds = (
        ei.Terminals(2, 0.2, ei.Pipeline([ei.Constant(0.1, "a")]), edge="a", rounds=[0.5, 0.5]),
        ei.Terminals(2, ei.Periodic(5.0), ei.Pipeline([ei.Constant(0.1, "a")]), name="alone"),
    )
    shared = ei.Cell(kinds, ei.EdgeNode(batch=ei.Batching(2)), downlink=ei.Band(1e6))
    assert eval(repr(shared), names) == shared
