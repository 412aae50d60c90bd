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


@pytest.mark.parametrize(("d1", "d3", "ratio"), [(0.651, 0.458, 1.02), (0.458, 0.651, 1.05), (0.651, 0.64, 1.10), (0.64, 0.651, 1.10), (0.651, 0.651, 1.10)])  # fmt: skip
def test_ratio_of_the_ends_down_to_1e_9(latent, d1, d3, ratio):
    stages = [("deterministic", d1), ("transfer", latent), ("deterministic", d3)]
    lower, upper = bracket(stages, 1.0, [2.4, 4.8, 9.6, 17.5])
    assert lower[-1] < 2e-9
    assert (upper / lower <= ratio).all()


def test_ratio_with_the_link_as_bottleneck():
    image = _core.Transfer(5.2429e6, 10e6, 10**0.1, 0.01)
    lower, upper = bracket(
        [("deterministic", 0.3), ("transfer", image), ("deterministic", 0.458)], 1.3, [3.0, 6.0, 15.0]
    )
    assert (upper / lower <= [1.15, 1.15, 1.3]).all()


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


def test_order_and_grouping_do_not_matter(latent):
    stages = [("deterministic", 0.651), ("transfer", latent), ("deterministic", 0.458)]
    rates, deadlines = np.array([1.0, 0.5, 1.0, 0.5]), np.array([4.8, 4.8, 2.4, 9.6])
    mixed = _core.violation_bracket(stages, rates, deadlines)
    for i in range(4):
        lower, upper = bracket(stages, rates[i], [deadlines[i]])
        np.testing.assert_allclose([mixed[0][i], mixed[1][i]], [lower[0], upper[0]], rtol=2e-2)


def test_merging_is_exact():
    # Two deterministic stages are one of the longer time and a delay of the shorter.
    one, _ = bracket([("deterministic", 0.5)], 1.0, [3.0])
    two, _ = bracket([("deterministic", 0.3), ("deterministic", 0.5)], 1.0, [3.3])
    assert math.isclose(one[0], two[0], rel_tol=1e-9)
