"""One gate for numbers: durations become seconds where a time is asked for, and nothing else passes for a number."""

import datetime
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer import bridge, estimates, paper
from edgeinfer.bridge.cascade import choices as allocation
from edgeinfer.bridge.codec import quantisers
from edgeinfer.bridge.exit import queue, rules

NODE = ei.Node("unit", 1.0)
LINK = ei.RayleighLink(10e6, 31, -100, 128.1, 0.01)
LAW = LINK.transfer(1e6)
DEVICE = ei.Pipeline([ei.Compute(0.3, NODE, "a")])
SPLIT = ei.Pipeline([ei.Compute(0.3, NODE, "a"), ei.Transfer(1e6, LINK, "b")])
PROBABILITIES = [[[0.9, 0.1], [0.6, 0.4]], [[0.9, 0.1], [0.2, 0.8]]]
EVALUATION = rules.Evaluation(PROBABILITIES, [0, 1], [1.0, 3.0], 2.5)
SERVED = queue.Served(*np.array([[0.0, 1.0], [0.0, 2.0], [2.0, 5.0]]), np.array([0, 0]), np.array([True, False]))
STEPS = {"prior_step_seconds": 0.1, "decode_step_seconds": 0.2, "waiting_seconds": 0.5, "quality": None}


def waiting(**changes):
    return allocation.allocate(allocation.DEFAULT, **({"deadline": 4.0} | STEPS | changes))


def simulated(**changes):
    return ei.simulate(DEVICE, 1.0, **({"deadlines": 1.0, "jobs": 9, "replications": 2, "rng": 1} | changes))


def observed(bits, seconds):
    return bridge.LinkRate().observe(bits, seconds)


#: Function of one argument, the name that an error gives it, and a good value in seconds.
TIMES = {
    "slot of link": (lambda x: ei.RayleighLink(1e6, 31, -100, 100, x), "slot", 0.01),
    "cdf": (LAW.cdf, "t", 0.1),
    "sf": (LAW.sf, "t", 0.1),
    "Exponential": (lambda x: ei.Exponential(x, "e"), "mean_time", 0.5),
    "bound": (lambda x: ei.violation_bound(DEVICE, 1.0, x), "deadline", 2.0),
    "union": (lambda x: ei.violation_bound(DEVICE, 1.0, x, "union"), "deadline", 2.0),
    "slot of bound": (lambda x: ei.violation_bound(DEVICE, 1.0, 3.0, "corrected", slot=x), "slot", 0.02),
    "bracket": (lambda x: ei.violation_bracket(DEVICE, 1.0, x), "deadline", 2.0),
    "max_arrival_rate": (lambda x: ei.max_arrival_rate(DEVICE, x, 0.1, tolerance=0.1), "deadline", 2.0),
    "min_bandwidth": (lambda x: ei.min_bandwidth(SPLIT, 0.1, x, 0.1, tolerance=0.3, method="union"), "deadline", 4.0),
    "simulate": (lambda x: simulated(deadlines=x).violation.value.tolist(), "deadlines", 0.5),
    "rare_violation": (
        lambda x: ei.rare_violation(DEVICE, 1.0, x, relative_error=0.3, rng=1, threads=1).value,
        "deadline",
        2.0,
    ),
    "slot of scenario": (lambda x: paper.scenario().replace(slot=x), "slot", 0.02),
    "best_paradigm": (lambda x: ei.plan.best_paradigm(paper.scenario(), "violation", deadline=x), "deadline", 6.0),
    "allocate": (lambda x: waiting(deadline=x), "deadline", 4.0),
    "allocate step": (lambda x: waiting(prior_step_seconds=x), "prior_step_seconds", 0.1),
    "policy": (lambda x: queue.DeadlinePolicy([rules.ExitRule([0.9])], [0.4], x).deadline, "deadline", 1.0),
    "mean_times": (
        lambda x: queue.DeadlinePolicy([rules.ExitRule([0.9])], [x], 1.0).mean_times.tolist(),
        "mean_times[0]",
        0.5,
    ),
    "violation": (SERVED.violation, "deadline", 2.0),
    "backlog": (lambda x: int(SERVED.backlog(x)), "times", 1.5),
    "rate": (lambda x: observed(1e6, x), "seconds", 2.0),
    "airtime": (lambda x: bridge.Airtime(LINK, seed=1).finish(1e6, x), "now", 2.0),
    "with_times": (lambda x: EVALUATION.with_times([1.0, 3.0], x).full_cost, "full_time", 2.5),
}
NUMBERS = {
    "Node": (lambda x: ei.Node("n", x), "flops"),
    "bandwidth": (lambda x: ei.RayleighLink(x, 31, -100, 100, 0.01), "bandwidth"),
    "transfer": (LINK.transfer, "bits"),
    "mgf": (LAW.mgf, "theta"),
    "sample": (LAW.sample, "size"),
    "sample_rate": (LINK.sample_rate, "size"),
    "Compute": (lambda x: ei.Compute(x, NODE, "c"), "work"),
    "Cascade": (lambda x: ei.Cascade(1, 1, 1, 1, x, 1), "latent_bits"),
    "arrival_rate": (lambda x: ei.violation_bound(DEVICE, x, 2.0), "arrival_rate"),
    "mean_sojourn": (lambda x: ei.mean_sojourn(DEVICE, x), "arrival_rate"),
    "deadline_at": (lambda x: ei.deadline_at(DEVICE, 1.0, x), "probability"),
    "tolerance": (lambda x: ei.deadline_at(DEVICE, 1.0, 0.1, tolerance=x), "tolerance"),
    "jobs": (lambda x: simulated(jobs=x), "jobs"),
    "replications": (lambda x: simulated(replications=x), "replications"),
    "threads": (lambda x: simulated(threads=x), "threads"),
    "warmup": (lambda x: simulated(warmup=x), "warmup"),
    "confidence": (lambda x: simulated(confidence=x), "confidence"),
    "quantile": (lambda x: simulated().quantile(x), "p"),
    "replace": (lambda x: paper.scenario().replace(prior_steps=x), "prior_steps"),
    "poisson": (lambda x: bridge.poisson(x, 3), "rate"),
    "requests": (lambda x: bridge.poisson(1.0, x), "requests"),
    "observe": (lambda x: observed(x, 1.0), "bits"),
    "thresholds": (rules.ExitRule, "thresholds"),
    "costs": (lambda x: rules.Evaluation(PROBABILITIES, [0, 1], [1.0, 3.0], x), "full_cost"),
    "uniform": (lambda x: quantisers.uniform([[0.0, 1.0]], x), "bits"),
    "mean": (lambda x: estimates.mean([1.0, 2.0], x), "confidence"),
    "psnr": (lambda x: ei.quality.psnr(np.zeros((2, 2, 2, 3)), np.ones((2, 2, 2, 3)), data_range=x), "data_range"),
    "order": (lambda x: bridge.Order("a", quality=x), "quality"),
    "seed": (lambda x: bridge.Order("a", seed=x), "seed"),
}


class Quantity:
    """What a library of units would make: a number and a unit, and a float only of what has none."""

    def __init__(self, magnitude, units):
        self.magnitude, self.units = magnitude, units

    def __float__(self):
        raise TypeError(f"{self.units} is not a number")

    def __array__(self, dtype=None, copy=None):
        return np.array(self.magnitude, dtype)


class Labelled(np.ndarray):
    unit = "ms"


OBJECT = np.empty((), object)
OBJECT[()] = Quantity(1.0, "ms")
NO_NUMBERS = {
    "instant": np.datetime64("1970-01-01T00:00:04"),
    "datetime": datetime.datetime(1970, 1, 1),
    "date": datetime.date(1970, 1, 1),
    "years": np.timedelta64(1, "Y"),
    "no unit": np.timedelta64(4),
    "not a time": np.timedelta64("NaT", "s"),
    "masked": np.ma.masked,
    "masked array": np.ma.array(1.0, mask=True),
    "complex": 1 + 0j,
    "complex array": np.array(1 + 0j),
    "bool": True,
    "text": "1",
    "bytes": b"1",
    "text object": np.array("1", object),
    "nothing": None,
    "record": np.zeros((), [("a", float)]),
    "quantity": Quantity(1.0, "second"),
    "quantity object": OBJECT,
    "subclass": np.array(1.0).view(Labelled),
    "dictionary": {},
}


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ei.AccuracyWarning)
        yield


def durations(seconds):
    yield np.timedelta64(round(seconds * 1000), "ms")
    yield np.array(round(seconds * 1e6), "timedelta64[us]")
    yield datetime.timedelta(seconds=seconds)
    yield Decimal(str(seconds))
    yield Fraction(str(seconds))


def same(a, b):
    return np.all(a == b) if isinstance(a, np.ndarray) else a == b


@pytest.mark.parametrize("name", TIMES)
def test_durations_are_seconds(name):
    function, _, seconds = TIMES[name]
    right = function(seconds)
    for value in durations(seconds):
        assert same(function(value), right), repr(value)


@pytest.mark.parametrize("name", NUMBERS)
def test_durations_are_no_other_numbers(name):
    function, parameter = NUMBERS[name]
    for value in (np.timedelta64(1, "s"), np.array(1, "timedelta64[s]"), datetime.timedelta(seconds=1)):
        with pytest.raises(ValueError, match=rf"{parameter}\b"):
            function(value)


#: Whose default is None.
OPTIONAL = ("order", "threads", "warmup", "slot of bound")


@pytest.mark.parametrize("name", [*TIMES, *NUMBERS])
def test_what_is_no_number_is_refused_by_name(name):
    function, parameter, *_ = (TIMES | NUMBERS)[name]
    for kind, value in NO_NUMBERS.items():
        if value is None and name in OPTIONAL:
            continue
        with pytest.raises(ValueError) as error:
            function(value)
        assert str(error.value).startswith(parameter), kind


def test_elements_of_lists_and_arrays_are_named():
    bound = lambda x: ei.violation_bound(DEVICE, 1.0, x)  # noqa: E731
    for value in (
        [1.0, np.ma.masked],
        [1.0, True],
        [1, "2"],
        np.array([1, None], object),
        np.ma.masked_equal([1, 2], 2),
    ):
        with pytest.raises(ValueError, match=r"deadline\[1\]"):
            bound(value)
    with pytest.raises(ValueError, match="deadline: rows of shapes"):
        bound([[1.0], [1.0, 2.0]])
    # NumPy would take the 4 for milliseconds.
    mixed = bound([np.timedelta64(2000, "ms"), 4])
    assert (mixed == bound([2.0, 4.0])).all()
    assert bound(np.ma.array([2.0, 4.0])).shape == (2,)
    assert (ei.Measured([datetime.timedelta(milliseconds=100), 0.2], "m").samples == [0.1, 0.2]).all()


@pytest.mark.parametrize("unit", ["W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"])
def test_every_fixed_unit(unit):
    count = {"W": 1, "D": 7, "h": 168, "m": 10080}.get(unit, 604800 if unit == "s" else 6)
    factor = {"ms": 1e3, "us": 1e6, "ns": 1e9, "ps": 1e12, "fs": 1e15, "as": 1e18}
    seconds = 6 / factor[unit] if unit in factor else 604800.0
    assert ei.Exponential(np.timedelta64(count, unit), "e").mean_time == seconds


def test_pandas():
    pandas = pytest.importorskip("pandas")
    right = ei.violation_bound(DEVICE, 1.0, [2.0, 4.0])
    for value in (
        pandas.to_timedelta([2000, 4000], "ms"),
        pandas.Series(pandas.to_timedelta([2, 4], "s")),
        [pandas.Timedelta("2s"), pandas.Timedelta("4s")],
        pandas.Series([2.0, 4.0], index=["unit", "units"]),
    ):
        assert (ei.violation_bound(DEVICE, 1.0, value) == right).all()
    for value in (pandas.Timestamp("2020"), pandas.NaT, pandas.NA, pandas.array([1, None]), pandas.Series(["1"])):
        with pytest.raises(ValueError, match="deadline"):
            ei.violation_bound(DEVICE, 1.0, value)
    with pytest.raises(ValueError, match="arrival_rate"):
        ei.violation_bound(DEVICE, pandas.Timedelta("1s"), 2.0)


def test_labelled_arrays_say_their_unit():
    xarray = pytest.importorskip("xarray")
    array = xarray.DataArray([2.0, 4.0], attrs={"units": "s"})
    assert ei.violation_bound(DEVICE, 1.0, array).shape == (2,)
    with pytest.raises(ValueError, match="deadline is in ms"):
        ei.violation_bound(DEVICE, 1.0, array.assign_attrs(units="ms"))
    with pytest.raises(ValueError, match="bandwidth is in MHz"):
        paper.scenario().replace(bandwidth=array.assign_attrs(units="MHz"))


def test_axes_of_sweeps_and_dominance():
    pytest.importorskip("xarray")
    slots = np.array([10_000_000, 20_000_000], "timedelta64[ns]")
    table = ei.study.sweep(lambda s: s.slot, paper.scenario(), {"slot": slots}, progress=False)
    assert table["value"].values.tolist() == table["slot"].values.tolist() == [0.01, 0.02]
    with pytest.raises(ValueError, match="bandwidth"):
        ei.study.sweep(lambda s: 0.0, paper.scenario(), {"bandwidth": slots}, progress=False)
    with pytest.raises(ValueError, match="masked"):
        axis = np.ma.masked_equal([1.0, 2.0], 2.0)
        ei.study.sweep(lambda s: 0.0, paper.scenario(), {"prior_steps": axis}, progress=False)
    with pytest.raises(ValueError, match="bandwidth"):
        ei.plan.dominance(paper.scenario(), ("bandwidth", slots), ("slot", slots), deadline=4.0)


def test_whole_numbers_keep_every_digit():
    assert bridge.Order("a", seed=2**63 - 1).seed == 2**63 - 1
    assert bridge.Order("a", seed=np.uint64(2**62 + 1)).seed == 2**62 + 1
    for huge in (10**400, -(10**400), Decimal("1e999")):
        with pytest.raises(ValueError, match="flops = "):
            ei.Node("n", huge)
