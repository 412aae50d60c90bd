import math

import mpmath
import numpy as np
import pytest

from edgeinfer import _core

GOLDEN = {2.4: 0.176731, 4.8: 9.1188e-3, 9.6: 2.41446e-5, 18.0: 7.4621e-10}


def bracket(stages, rate, deadlines):
    deadlines = np.asarray(deadlines, dtype=float)
    lower, upper, _, _ = _core.violation_bracket(stages, np.full(deadlines.shape, rate), deadlines)
    assert (lower <= upper).all()
    return lower, upper


def erlang(load, time):
    """P(Wq <= t) of M/D/1 with service time 1 by Erlang's alternating series, in many digits."""
    with mpmath.workdps(120):
        load, time = mpmath.mpf(load), mpmath.mpf(time)
        total = mpmath.mpf(0)
        for k in range(int(mpmath.floor(time)) + 1):
            x = load * (k - time)
            total += x**k / mpmath.factorial(k) * mpmath.exp(-x)
        return float(1 - (1 - load) * total)


@pytest.mark.parametrize("load", [0.05, 0.35, 0.651, 0.95])
@pytest.mark.parametrize("time", [0.0, 0.3, 1.0, 2.5, 9.0, 30.2])
def test_device_only_is_erlangs_law(load, time):
    exact = erlang(load, time)
    lower, upper = bracket([("deterministic", 1.0)], load, [1.0 + time])
    if exact > 1e-60:
        assert abs(lower[0] / exact - 1) < 1e-6 and abs(upper[0] / exact - 1) < 1e-6


def test_golden_values(latent):
    lower, upper = bracket(
        [("deterministic", 0.651), ("transfer", latent), ("deterministic", 0.458)], 1.0, list(GOLDEN)
    )
    truth = np.array(list(GOLDEN.values()))
    # The golden values have five digits and a relative error of 2e-5.
    assert (lower <= truth * (1 + 4e-5)).all() and (upper >= truth * (1 - 4e-5)).all()
    assert (upper / lower <= 1.02).all()


@pytest.mark.parametrize(
    ("d1", "d3", "ratio"),
    [(0.651, 0.458, 1.02), (0.458, 0.651, 1.05), (0.651, 0.64, 1.10), (0.64, 0.651, 1.10), (0.651, 0.651, 1.10)],
)
def test_ratio_of_the_ends_down_to_1e_9(latent, d1, d3, ratio):
    stages = [("deterministic", d1), ("transfer", latent), ("deterministic", d3)]
    lower, upper = bracket(stages, 1.0, [2.4, 4.8, 9.6, 17.5])
    assert lower[-1] < 2e-9
    assert (upper / lower <= ratio).all()


@pytest.fixture(scope="module")
def image():
    """The law of 5.2429 Mbit at 1 dB, 10 ms slots: a mean of 0.5256 s."""
    return _core.Transfer(5.2429e6, 10e6, 10**0.1, 0.01)


def tandem(first, law, last):
    stages = [("deterministic", first), ("transfer", law), ("deterministic", last)]
    return [stage for stage in stages if stage[1] != 0]


def test_golden_values_with_the_link_as_bottleneck(image):
    lower, upper = bracket(tandem(0.3, image, 0.458), 1.3, [3.0, 6.0, 12.0, 20.0])
    truth = np.array([7.738e-2, 1.3359e-3, 3.982e-7, 7.927e-12])
    # The golden values have a standard error of 0.05 % at most, and four digits.
    assert (lower <= truth * (1 + 2e-3)).all() and (upper >= truth * (1 - 2e-3)).all()
    assert (upper / lower <= [1.15, 1.15, 1.3, 1.3]).all()


# Times below which 12, 30 and 50 % of the transfers are. Slow: the sanitizers take what follows alone.
@pytest.mark.slow
@pytest.mark.parametrize("load", [0.5, 0.8])
@pytest.mark.parametrize(
    ("first", "last", "ratios"),
    [
        (0.469, 0, (1.05, 1.3)),
        (0, 0.469, (1.05, 1.3)),
        (0.469, 0.469, (1.1, 1.3)),
        (0.499, 0.469, (1.15, 1.3)),
        (0.469, 0.499, (1.15, 1.3)),
    ],
)
def test_ratio_with_the_link_as_bottleneck(image, first, last, ratios, load):
    rate = load / image.mean
    lower, upper = bracket(tandem(first, image, last), rate, deadlines := np.arange(2.0, 40, 0.5))
    for probability, ratio in zip((1e-3, 1e-9), ratios, strict=True):
        nearest = np.argmin(np.abs(np.log(lower[:-1] / probability)))
        assert (upper / lower)[nearest] <= ratio, deadlines[nearest]


# The shortfall, stated: where the link and its neighbour are equally fast, the paths that change over late are too many
# for a sum over the job at which they first do.
@pytest.mark.parametrize(
    ("first", "last", "load", "ratio"),
    [
        (0.524, 0, 0.5, 2),
        (0, 0.524, 0.5, 1.7),
        pytest.param(0.524, 0.524, 0.5, 5, marks=pytest.mark.slow),
        pytest.param(0.524, 0, 0.8, 40, marks=pytest.mark.slow),
        pytest.param(0.524, 0.524, 0.8, 90, marks=pytest.mark.slow),
    ],
)
def test_ratio_where_the_link_straddles_its_neighbours(image, first, last, load, ratio):
    lower, upper = bracket(tandem(first, image, last), load / image.mean, np.arange(2.0, 40, 0.5))
    assert (upper / lower)[np.argmin(np.abs(np.log(lower[:-1] / 1e-9)))] <= ratio


@pytest.mark.parametrize(
    ("first", "last"),
    [(0.469, 0), (0.3, 0.499), pytest.param(0.524, 0.524, marks=pytest.mark.slow), (0.9, 0.2)],
)
def test_monotone_in_the_deadline(image, first, last):
    deadlines = np.linspace(0, 30, 160)
    lower, upper, *methods = _core.violation_bracket(tandem(first, image, last), np.full(160, 0.9), deadlines)
    # Each range of deadlines has lattices of its own in the joint walk.
    for ends, method in zip((lower, upper), methods, strict=True):
        joint = method == _core.BRACKET_METHODS.index("joint")
        assert (np.diff(ends) <= 1e-12 * ends[:-1])[~(joint[1:] | joint[:-1])].all()
        assert (~joint).sum() > 40


def test_a_link_before_a_stage_is_no_faster_than_behind_it():
    """The step of the proof that is not in the textbooks, for all outcomes of small systems."""
    rng = np.random.default_rng(3)
    for jobs in (2, 3, 4, 5) * 40:
        times, chances = rng.integers(0, 12, 3), rng.dirichlet(np.full(3, 0.7))
        arrivals, d = np.cumsum(rng.integers(0, 8, jobs)), rng.integers(1, 8)
        outcome = np.indices((3,) * jobs).reshape(jobs, -1)
        behind = before = link = free = np.full(outcome.shape[1], -1)
        for job in range(jobs):
            service = times[outcome[job]]
            free = np.maximum(free, arrivals[job]) + d
            behind = np.maximum(behind, free) + service
            link = np.maximum(link, arrivals[job]) + service
            before = np.maximum(before, link) + d
        weight = chances[outcome].prod(axis=0)
        for time in np.unique([behind, before]):
            assert weight[behind > time].sum() <= weight[before > time].sum() + 1e-12


def test_mm1_lies_inside():
    times = np.array([0.5, 2.0, 6.0, 12.0])
    lower, upper = bracket([("exponential", 0.6)], 1.0, times)
    exact = np.exp(-(1 / 0.6 - 1) * times)
    assert (lower <= exact).all() and (exact <= upper).all()


def test_mg1_mean_by_pollaczek_khinchine():
    samples = np.sort(np.random.default_rng(1).gamma(2.0, 0.2, 50))
    mean, second = samples.mean(), (samples**2).mean()
    exact = mean + second / (2 * (1 - mean))
    times = np.arange(0, 25, 0.01)
    lower, upper = bracket([("samples", samples)], 1.0, times)
    # The mean is the integral of sf, a decreasing function: its left and right sums bound it.
    assert 0.01 * lower[1:].sum() <= exact <= 0.01 * upper.sum() + 1e-4


def test_unstable_and_infinite(latent):
    lower, upper = bracket([("deterministic", 0.651), ("transfer", latent)], 1.6, [5.0, np.inf])
    assert (lower == 1).all() and (upper == 1).all()
    lower, upper = bracket([("deterministic", 0.651), ("transfer", latent)], 1.0, [-1.0, 0.0, np.inf])
    assert list(lower) == [1, 1, 0] and list(upper) == [1, 1, 0]


@pytest.mark.parametrize("several", [False, True])
def test_a_bracket_is_a_function_of_its_own_arguments(latent, several):
    stages = [("deterministic", 0.651), ("transfer", latent), ("deterministic", 0.458)]
    if several:
        stages[0] = ("exponential", 0.4)
    rates, deadlines = np.tile([1.0, 0.5], 24), np.repeat(np.geomspace(0.3, 500.0, 24), 2)
    mixed = _core.violation_bracket(stages, rates, deadlines)
    for i in (0, 5, 12, 13, 30, 47):
        alone = _core.violation_bracket(stages, rates[i : i + 1], deadlines[i : i + 1])
        assert [answer[0] for answer in alone] == [answer[i] for answer in mixed]
    for method in ("union", "lundberg"):
        bounds = _core.violation_bound(stages, rates, deadlines, method, 1.0)[0]
        alone = _core.violation_bound(stages, rates[9:10], deadlines[9:10], method, 1.0)[0]
        assert alone[0] == bounds[9]


def test_ends_at_the_end_of_the_range_of_double():
    rate, times = 1.0, np.array([500.0, 695.0, 740.0, 1e4])
    lower, upper = bracket([("exponential", 0.5)], rate, times)
    exact = np.exp(-times)
    # Down to the least double the upper end is some double above the truth.
    assert (lower <= exact).all() and (upper >= exact).all() and (upper > 0).all()
    assert (upper[:3] <= 3 * exact[:3]).all() and upper[3] <= 5e-324


def test_no_work_takes_no_time():
    for stages in ([("deterministic", 0.0)], [("samples", np.zeros(3)), ("deterministic", 0.0)]):
        lower, upper = bracket(stages, 2.0, [-1.0, 0.0, 3.0])
        assert list(lower) == list(upper) == [1, 0, 0]


def test_merging_is_exact():
    # Two deterministic stages are one of the longer time and a delay of the shorter.
    one, _ = bracket([("deterministic", 0.5)], 1.0, [3.0])
    two, _ = bracket([("deterministic", 0.3), ("deterministic", 0.5)], 1.0, [3.3])
    assert math.isclose(one[0], two[0], rel_tol=1e-9)
