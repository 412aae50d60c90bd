"""Intervals against SciPy, and their coverage."""

import numpy as np
import pytest
from scipy import stats

from edgeinfer.bridge import intervals


@pytest.mark.parametrize(("hits", "n"), [(0, 30), (7, 30), (30, 30), (449, 450)])
def test_proportion_is_wilsons(hits, n):
    ours = intervals.proportion(np.arange(n) < hits, 0.9)
    theirs = stats.binomtest(hits, n).proportion_ci(0.9, "wilson")
    assert ours.value == hits / n
    np.testing.assert_allclose(ours[1:], [theirs.low, theirs.high], atol=1e-12)


def test_paired_difference_covers():
    # 4,000 data sets of 539 pairs: the share that covers is within 4.5 standard errors (false alarm 7e-6) of >= 0.94.
    rng = np.random.default_rng(2)
    both, gained, lost = 0.985, 0.009, 0.004
    counts = rng.multinomial(539, [both, gained, lost, 1 - both - gained - lost], 4000)
    covered = []
    for b, g, k, none in counts:
        first = np.repeat([True, True, False, False], [b, g, k, none])
        second = np.repeat([True, False, True, False], [b, g, k, none])
        found = intervals.paired_difference(first, second)
        assert found.value == pytest.approx((g - k) / 539)
        covered.append(found.low <= gained - lost <= found.high)
    assert np.mean(covered) > 0.94 - 4.5 * np.sqrt(0.94 * 0.06 / 4000)


def test_correlated_proportion_covers_where_the_plain_interval_does_not():
    """Hits of a two-state Markov chain, a share of 0.1 that lasts ten steps on average, started as it runs."""
    rng = np.random.default_rng(5)
    plain, found = [], []
    for _ in range(400):
        draws, hits = rng.random(2000), np.empty(2000, bool)
        state = draws[0] < 0.1
        for i, draw in enumerate(draws):
            hits[i] = state
            state = draw < 0.9 if state else draw < 0.1 / 9
        for covered, interval in ((plain, intervals.proportion), (found, intervals.correlated_proportion)):
            value = interval(hits)
            assert value.low <= value.value <= value.high
            covered.append(value.low <= 0.1 <= value.high)
    # Twenty batches of ten times the memory: some per cent below 95 %. Beyond 4.5 standard errors of 400 at 0.9.
    assert np.mean(plain) < 0.75 and np.mean(found) > 0.9 - 4.5 * np.sqrt(0.09 / 400)
    assert intervals.correlated_proportion([False] * 100) == intervals.proportion([False] * 100)


def test_mean_agrees_with_the_normal_interval():
    x = np.random.default_rng(3).normal(2, 1, 2000)
    found = intervals.mean(x, 0.95)
    # Bootstrap ends of 2,000 resamples scatter by about 0.05 of a standard error.
    np.testing.assert_allclose(found[1:], x.mean() + np.array([-1.96, 1.96]) * x.std() / np.sqrt(2000), atol=0.006)
    assert intervals.mean(x) == intervals.mean(x)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: intervals.proportion([1, 0]), "hits of type int64"),
        (lambda: intervals.proportion([]), "hits"),
        (lambda: intervals.proportion([True], 1.0), "confidence = 1"),
        (lambda: intervals.correlated_proportion([True] * 3), "hits: 3: must be at least one in each of 20"),
        (lambda: intervals.paired_difference([True], [True, False]), "second of shape"),
        (lambda: intervals.mean([]), "values of shape"),
    ],
)
def test_bad_input_is_named(call, text):
    with pytest.raises(ValueError, match=text):
        call()
