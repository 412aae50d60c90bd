"""Intervals against SciPy, and their coverage."""

import numpy as np
import pytest
from scipy import stats

from edgeinfer.estimates import Estimate, proportions


@pytest.mark.parametrize(("hits", "n"), [(0, 30), (7, 30), (30, 30), (449, 450)])
def test_proportion_is_wilsons(hits, n):
    ours = proportions.proportion(np.arange(n) < hits, 0.9)
    theirs = stats.binomtest(hits, n).proportion_ci(0.9, "wilson")
    assert ours.value == hits / n
    np.testing.assert_allclose([ours.low, ours.high], [theirs.low, theirs.high], atol=1e-12)


def test_paired_difference_covers():
    # 4,000 data sets of 539 pairs: the share that covers is within 4.5 standard errors (false alarm 7e-6) of >= 0.94.
    rng = np.random.default_rng(2)
    both, gained, lost = 0.985, 0.009, 0.004
    counts = rng.multinomial(539, [both, gained, lost, 1 - both - gained - lost], 4000)
    covered = []
    for b, g, k, none in counts:
        first = np.repeat([True, True, False, False], [b, g, k, none])
        second = np.repeat([True, False, True, False], [b, g, k, none])
        found = proportions.paired_difference(first, second)
        assert found.value == pytest.approx((g - k) / 539)
        covered.append(found.low <= gained - lost <= found.high)
    assert np.mean(covered) > 0.94 - 4.5 * np.sqrt(0.94 * 0.06 / 4000)


@pytest.mark.parametrize("confidence", [0.01, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("size", [1, 2, 20, 1000])
def test_paired_difference_has_its_value_between_ends_that_a_difference_may_have(size, confidence):
    ones, none = np.ones(size, bool), np.zeros(size, bool)
    for first, second in ((ones, none), (none, ones), (ones, np.arange(size) == 0), (ones, ones)):
        found = proportions.paired_difference(first, second, confidence)
        assert -1 <= found.low <= found.value <= found.high <= 1


def test_mean_agrees_with_the_normal_interval():
    x = np.random.default_rng(3).normal(2, 1, 2000)
    found = proportions.mean(x, 0.95)
    # Bootstrap ends of 2,000 resamples scatter by about 0.05 of a standard error.
    np.testing.assert_allclose(
        [found.low, found.high], x.mean() + np.array([-1.96, 1.96]) * x.std() / np.sqrt(2000), atol=0.006
    )
    assert proportions.mean(x) == proportions.mean(x)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: proportions.proportion([1, 0]), "hits of type int64"),
        (lambda: proportions.proportion([]), "hits"),
        (lambda: proportions.proportion([True], 1.0), "confidence = 1"),
        (lambda: proportions.paired_difference([True], [True, False]), "second of shape"),
        (lambda: proportions.mean([]), "values of shape"),
    ],
)
def test_bad_input_is_named(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_an_estimate_of_several_is_taken_one_by_one():
    both = Estimate(np.array([1.0, 2.0]), np.array([0.0, 1.0]), np.array([2.0, 3.0]), 0.9, np.array([4, 4]))
    assert list(both) == [both[0], both[1]] and both[:1][0] == both[0] == Estimate(1.0, 0.0, 2.0, 0.9, 4)
    assert repr(both[1]) == repr(Estimate(2.0, 1.0, 3.0, 0.9, 4))
    with pytest.raises(TypeError):
        list(both[0])
