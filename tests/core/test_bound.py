import numpy as np
import pytest

from edgeinfer import _core

SPLIT = (0.651, 0.458)
GRID = 5e-4


def bound(stages, rate, deadline, method):
    log, theta = _core.violation_bound(stages, np.array([rate]), np.array([deadline]), method, 0.01)
    return log[0], theta[0]


def twin(moments, rate, deadline, skip_first):
    """log of inf e^{-theta T} prod M_k / prod (1 - M_k lambda / (lambda + theta)), from theory, on a grid."""

    def objective(theta):
        value = -theta * deadline
        for k, log_moment in enumerate(moments):
            value += log_moment(theta)
            kappa = log_moment(theta) - np.log1p(theta / rate)
            if kappa > 0 or (kappa == 0 and not (skip_first and k == 0)):
                return np.inf
            if not (skip_first and k == 0):
                value -= np.log(-np.expm1(kappa))
        return value

    return min(0.0, *(objective(theta) for theta in np.arange(1e-4, 8, GRID)))


def split_stages(latent):
    return [("deterministic", SPLIT[0]), ("transfer", latent), ("deterministic", SPLIT[1])]


@pytest.mark.parametrize("deadline", [4.8, 9.6, 18.0])
@pytest.mark.parametrize("method", ["union", "lundberg"])
def test_equals_an_independent_minimisation(latent, method, deadline):
    moments = [
        lambda theta: theta * SPLIT[0],
        lambda theta: float(latent.log_mgf(np.float64(theta))[0]),
        lambda theta: theta * SPLIT[1],
    ]
    value, _ = bound(split_stages(latent), 1.0, deadline, method)
    expected = twin(moments, 1.0, deadline, method == "lundberg")
    # The infimum is at most half a grid step from a grid point, where the logarithm's slope is below T.
    assert value <= expected + 1e-9
    assert value >= expected - GRID * deadline


def test_lundbergs_exponent_of_a_link_in_front():
    image = _core.Transfer(5.2429e6, 10e6, 10**0.1, 0.01)
    rate = 1.3
    root = 1e-6
    for step in 2.0 ** -np.arange(40):
        if image.log_mgf(np.float64(root + step))[0] < np.log1p((root + step) / rate):
            root += step
    log, theta = bound([("transfer", image), ("deterministic", 0.3)], rate, 1e4, "lundberg")
    # Far out, theta is the root of the link's own kappa, and the logarithm of the bound falls by it.
    assert abs(theta / root - 1) < 1e-6
    assert abs(log / (-root * 1e4) - 1) < 1e-2


def test_adjacent_deterministic_stages_merge():
    pair = [("deterministic", 0.3), ("deterministic", 0.5)]
    for method in ("union", "lundberg"):
        one = bound([("deterministic", 0.5)], 1.0, 7.0, method)[0]
        assert bound(pair, 1.0, 7.3, method)[0] == pytest.approx(one, rel=1e-9)


def test_lundberg_of_mm1_is_the_exact_exponent():
    # M/M/1: P(W > T) = e^{-(mu - lambda) T}; Lundberg's exponent is mu - lambda.
    log, theta = bound([("exponential", 0.5)], 1.0, 20.0, "lundberg")
    assert theta == pytest.approx(1.0, rel=1e-3)
    assert -20.0 <= log


def test_unstable_or_hopeless_is_one(latent):
    for rate, deadline in ((1.6, 10.0), (1.0, 0.1), (1.0, -3.0)):
        for method in ("union", "lundberg", "corrected"):
            assert bound(split_stages(latent), rate, deadline, method)[0] == 0


def test_deep_in_the_log_domain(latent):
    log, _ = bound(split_stages(latent), 1.0, 2000.0, "lundberg")
    assert -3000 < log < -2000 and np.isfinite(log)


def test_a_batch_equals_its_elements(latent):
    rates = np.repeat([0.3, 0.9], 40)
    deadlines = np.tile(np.linspace(2, 20, 40), 2)
    batch, _ = _core.violation_bound(split_stages(latent), rates, deadlines, "union", 0.01)
    single = [bound(split_stages(latent), r, t, "union")[0] for r, t in zip(rates, deadlines, strict=True)]
    np.testing.assert_allclose(batch, single, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        ([], 1.0, 1.0),
        ([("deterministic", -1.0)], 1.0, 1.0),
        ([("deterministic", 1.0)], np.nan, 1.0),
        ([("deterministic", 1.0)], 1.0, np.nan),
        ([("samples", np.array([]))], 1.0, 1.0),
        ([("samples", np.array([2.0, 1.0]))], 1.0, 1.0),
        ([("nonsense", 1.0)], 1.0, 1.0),
    ],
)
def test_bad_input(arguments):
    stages, rate, deadline = arguments
    with pytest.raises((ValueError, TypeError)):
        bound(stages, rate, deadline, "union")
    with pytest.raises((ValueError, TypeError)):
        _core.violation_bracket(stages, np.array([rate]), np.array([deadline]))


def test_failing_calls_leak_nothing():
    import gc
    import tracemalloc

    def fail():
        for stages in ([], [("deterministic", -1.0)], [("nonsense", 1.0)]):
            with pytest.raises((ValueError, TypeError)):
                bound(stages, 1.0, 1.0, "union")

    fail()
    tracemalloc.start()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(3334):
        fail()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 100_000  # 10 bytes a call; one leaked object would take 48 or more
