import os
import signal
import subprocess
import sys
import time

import dask
import numpy as np
import pytest
import xarray

from edgeinfer import latency, paper, study

AXES = {"prior_steps": [10.0, 20.0, 30.0], "bandwidth": [5e6, 10e6]}


def stages(scenario):
    return {
        "total": latency(scenario.pipelines()["split"]).total,
        "pair": np.array([scenario.bandwidth, 1.0]),
    }


def noisy(scenario, rng):
    return np.random.default_rng(rng).random()


def test_grid_equals_direct_calls():
    table = study.sweep(stages, paper.scenario(), AXES, progress=False)
    assert table["total"].dims == ("prior_steps", "bandwidth")
    assert table["bandwidth"].attrs["units"] == "Hz"
    direct = latency(paper.scenario().replace(prior_steps=30.0, bandwidth=5e6).pipelines()["split"]).total
    assert table["total"].sel(prior_steps=30, bandwidth=5e6).item() == direct
    assert table["pair"].shape == (3, 2, 2)


def test_other_axes_are_arguments():
    table = study.sweep(lambda s, factor: factor * s.slot, paper.scenario(), {"factor": [1, 2]}, progress=False)
    np.testing.assert_array_equal(table["value"], [0.01, 0.02])


def test_a_function_of_the_axes_alone(tmp_path):
    def area(width, height, rng):
        return width * height + 0 * np.random.default_rng(rng).random()

    axes = {"width": [1, 2], "height": [3.0, 4.0]}
    options = {"store": tmp_path / "areas", "seed": 1, "progress": False}
    table = study.sweep(area, None, axes, **options)
    np.testing.assert_array_equal(table["value"], [[3, 4], [6, 8]])
    assert study.sweep(area, None, axes, **options).identical(table)
    # What no scenario says is not without a dimension.
    assert not table["width"].attrs
    with pytest.raises(ValueError, match="arguments of the function with which it can be called"):
        study.sweep(area, None, {"depth": [1.0]}, progress=False)
    with pytest.raises(ValueError, match="or None for a function of the axes alone"):
        study.sweep(area, {"width": 1}, axes, progress=False)


def test_resumes_only_what_is_missing(tmp_path):
    calls = []

    def counted(scenario):
        calls.append(scenario.prior_steps)
        if len(calls) == 2:
            raise RuntimeError("stop")
        return scenario.prior_steps

    axes = {"prior_steps": [1.0, 2.0, 3.0]}
    with pytest.raises(RuntimeError):
        study.sweep(counted, paper.scenario(), axes, store=tmp_path / "s.zarr", progress=False)
    table = study.sweep(counted, paper.scenario(), axes, store=tmp_path / "s.zarr", progress=False)
    assert calls == [1.0, 2.0, 2.0, 3.0]
    np.testing.assert_array_equal(table["value"], [1, 2, 3])


def test_store_keeps_labelled_values(tmp_path):
    def labelled(scenario):
        return {"y": xarray.DataArray([1.0, 2.0], dims="t", coords={"t": [0.1, 0.2]}, attrs={"units": "s"})}

    for _ in range(2):
        table = study.sweep(labelled, paper.scenario(), {"slot": [0.01]}, store=tmp_path / "z", progress=False)
    assert table["y"].dims == ("slot", "t") and table["y"].attrs == {"units": "s"}
    np.testing.assert_array_equal(table["t"], [0.1, 0.2])


def test_store_of_another_sweep_is_refused(tmp_path):
    study.sweep(stages, paper.scenario(), {"slot": [0.01]}, store=tmp_path / "z", progress=False)
    with pytest.raises(ValueError, match="another sweep"):
        study.sweep(stages, paper.scenario(), {"slot": [0.02]}, store=tmp_path / "z", progress=False)


@pytest.mark.parametrize("axes", [{}, {"slot": []}, {"slot": [[0.01]]}, {"slot": [0.01, 0.01]}])
def test_bad_axes(axes):
    with pytest.raises(ValueError, match="axes"):
        study.sweep(stages, paper.scenario(), axes, progress=False)


def test_seeds_depend_on_the_cell_alone():
    scenario = paper.scenario()
    one = study.sweep(noisy, scenario, {"slot": [0.01, 0.02]}, seed=1, progress=False)
    two = study.sweep(noisy, scenario, {"slot": [0.01, 0.02, 0.03]}, seed=1, progress=False)
    np.testing.assert_array_equal(one["value"], two["value"][:2])
    assert len(np.unique(two["value"])) == 3


def latency_of_split(scenario):
    return latency(scenario.pipelines()["split"]).total


def several(scenario, rng):
    """Each kind of answer, and failures: of the function, of its answer, and of the worker."""
    steps = scenario.prior_steps
    if steps == 30.0 and scenario.bandwidth == 5e6:
        raise RuntimeError("no")
    labels = [steps, 10.0]
    return {
        "total": latency(scenario.pipelines()["split"]).total if steps > 10 else 0,
        "name": "x" * int(steps / 10),
        "labelled": xarray.DataArray([1, 2], dims="t", coords={"t": labels}) if steps > 10 else None,
        "noise": np.random.default_rng(rng).random(2),
    }


def kills_its_worker(scenario):
    if scenario.prior_steps == 20.0:
        os._exit(1)
    return scenario.prior_steps


@pytest.mark.process
@pytest.mark.filterwarnings("default")
def test_dask_equals_in_process(tmp_path):
    from distributed import Client, LocalCluster

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        for function, options in ((latency_of_split, {}), (several, {"on_error": "mark", "seed": 3})):
            near = study.sweep(function, paper.scenario(), AXES, progress=False, **options)
            for store in (None, tmp_path / function.__name__, tmp_path / function.__name__):
                far = study.sweep(
                    function, paper.scenario(), AXES, client=client, store=store, progress=False, **options
                )
                xarray.testing.assert_identical(far, near)
        with pytest.raises(RuntimeError, match="no") as failure:
            study.sweep(
                several,
                paper.scenario(),
                {"prior_steps": [30.0], "bandwidth": [5e6]},
                seed=1,
                client=client,
                progress=False,
            )
        assert failure.value.__notes__ == ["in cell (prior_steps = 30.0, bandwidth = 5000000.0)"]
        axes = {"prior_steps": [10.0, 20.0, 30.0]}
        killed = study.sweep(kills_its_worker, paper.scenario(), axes, client=client, progress=False, on_error="mark")
    assert [text.partition(":")[0] for text in killed["failure"].values] == ["", "KilledWorker", ""]
    np.testing.assert_array_equal(killed["value"], [10, np.nan, 30])


SCRIPT = """
import sys, time
from edgeinfer import paper, study
def slow(scenario):
    time.sleep(float(sys.argv[2]))
    print(scenario.prior_steps, flush=True)
    return scenario.prior_steps
slow.__module__ = "script"
table = study.sweep(slow, paper.scenario(), {"prior_steps": [float(i) for i in range(1, 9)]}, store=sys.argv[1])
print("sum", table["value"].sum().item(), flush=True)
"""


@pytest.mark.process
def test_resumes_after_kill(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "z")]
    victim = subprocess.Popen([*command, "0.3"], stdout=subprocess.PIPE, text=True)
    for _ in range(3):
        victim.stdout.readline()
    time.sleep(0.2)
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    again = subprocess.run([*command, "0"], capture_output=True, text=True, check=True)
    lines = again.stdout.split()
    assert lines[-1] == "36.0"
    assert 4 <= len(lines[:-2]) <= 6  # only the cells that were not finished
    assert again.stderr == ""  # no bar in a pipe
