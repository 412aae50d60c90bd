"""Shares of dependent requests against ratio estimates, exact limits, and their coverage."""

import numpy as np
import pytest
from scipy import stats

from edgeinfer.estimates import cycles, proportion, shares


def test_cycles_begin_with_who_finds_nobody():
    arrival, sojourn = np.array([0.0, 1.0, 2.5, 3.0, 9.0]), np.array([2.0, 2.0, 0.5, np.inf, 1.0])
    assert cycles(arrival, sojourn).tolist() == [0, 0, 0, 1, 2]


def test_interval_is_that_of_a_ratio_of_cycles():
    """Against the normal interval of the ratio estimator, which is right for many cycles."""
    rng = np.random.default_rng(4)
    sizes = rng.integers(1, 6, 3000)
    groups = np.repeat(np.arange(3000), sizes)
    # Requests of a cycle are late together.
    late = np.repeat(rng.uniform(size=(3000, 1)) < 0.3, sizes, axis=0)
    found = shares(late, groups, resamples=4000, seed=1)[0]
    assert found.value == late.mean() and found.replications == 3000
    error = 1.96 * np.std(sizes * (late[np.r_[0, np.cumsum(sizes)[:-1]], 0] - found.value))
    error /= np.sqrt(3000) * sizes.mean()
    # A bootstrap of 4000 has its ends right to 3 % or so of the width.
    np.testing.assert_allclose([found.value - found.low, found.high - found.value], error, rtol=0.1)


def test_never_and_always_have_an_interval():
    late = np.column_stack([np.zeros(100, bool), np.ones(100, bool)])
    found = shares(late, np.arange(100), resamples=4000, seed=1)
    # Two deadlines: a tail of 1.25 % each; 0.957 ** 100 is 1.25 %.
    np.testing.assert_allclose([found.value, found.low, found.high], [[0, 1], [0, 0.957], [0.043, 1]], atol=5e-4)
    exact = stats.binomtest(0, 100).proportion_ci(0.95, "exact")
    assert shares([False] * 100, np.arange(100)).high == pytest.approx(exact.high)


def test_they_cover_where_the_interval_of_independent_requests_does_not():
    """Hits of a two-state Markov chain, a share of 0.1 that lasts ten steps on average, started as it runs."""
    rng = np.random.default_rng(5)
    plain, found = [], []
    for _ in range(400):
        draws, hits = rng.random(2000), np.empty(2000, bool)
        state = draws[0] < 0.1
        for i, draw in enumerate(draws):
            hits[i] = state
            state = draw < 0.9 if state else draw < 0.1 / 9
        groups = np.cumsum(np.concatenate([[False], hits[1:] & ~hits[:-1]]))
        for covered, value in ((plain, proportion(hits)), (found, shares(hits, groups, resamples=400))):
            assert value.low <= value.value <= value.high
            covered.append(value.low <= 0.1 <= value.high)
    # Some twenty cycles a run: some per cent below 95 %. Beyond 4.5 standard errors of 400 at 0.9.
    assert np.mean(plain) < 0.75 and np.mean(found) > 0.9 - 4.5 * np.sqrt(0.09 / 400)


def test_one_group_tells_nothing():
    found = shares([True, False], [0, 0])
    assert (found.value, found.low, found.high) == (0.5, 0, 1)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: shares([1, 0], [0, 1]), "hits of type int64"),
        (lambda: shares([], []), "hits"),
        (lambda: shares([True], [0, 1]), "groups of type int64 and shape"),
        (lambda: shares([True, True], [0, 2]), r"groups: must have a request in each of 0 \.\. 2"),
        (lambda: shares([True], [0], 1.0), "confidence = 1"),
        (lambda: cycles([0.0, 1.0], [1.0]), "arrivals, sojourn of shape"),
    ],
)
def test_bad_input_is_named(call, text):
    with pytest.raises(ValueError, match=text):
        call()
