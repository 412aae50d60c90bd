"""Quantisers: nearest, idempotent, monotone, within their error bounds, and Lloyd-Max never worse than uniform."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeinfer.bridge import Quantiser, lloyd_max, uniform

values = st.floats(-1e6, 1e6, width=32)
samples = arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 3), st.just(2)), elements=values)
bits = st.integers(1, 8)
fits = st.sampled_from([uniform, lloyd_max])


def rounded(quantiser, groups):
    return quantiser.values(quantiser.indices(groups))


@settings(max_examples=60, deadline=None)
@given(samples, bits, fits)
def test_idempotent_monotone_and_nearest(x, width, fit):
    quantiser = fit(x, width)
    assert quantiser.levels.shape == (x.shape[1], 2**width) and quantiser.bits == width
    groups = np.moveaxis(x, 1, 0)
    once = rounded(quantiser, groups)
    np.testing.assert_array_equal(rounded(quantiser, once), once)
    ordered = np.sort(groups.reshape(len(groups), -1))
    assert (np.diff(rounded(quantiser, ordered)) >= 0).all()
    levels = quantiser.levels.astype(float)
    distance = np.abs(groups.reshape(len(groups), -1, 1) - levels[:, None, :]).min(-1)
    error = np.abs(once.astype(float) - groups).reshape(len(groups), -1)
    np.testing.assert_allclose(error, distance, rtol=1e-12, atol=0)


@settings(max_examples=60, deadline=None)
@given(samples, bits)
def test_uniform_error_is_half_a_cell(x, width):
    groups = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1).astype(float)
    span = np.ptp(groups, axis=1, keepdims=True)
    # Levels are rounded to float32: half a unit in the last place of the largest, or of the subnormal ones.
    bound = span / 2 ** (width + 1) + 2.0**-24 * np.abs(groups).max() + 2.0**-150
    assert (np.abs(rounded(uniform(x, width), groups) - groups) <= bound).all()


@settings(max_examples=60, deadline=None)
@given(samples, bits)
def test_lloyd_max_is_no_worse_than_uniform_on_its_samples(x, width):
    groups = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1).astype(float)
    error = {fit: ((rounded(fit(x, width), groups) - groups) ** 2).sum(1) for fit in (uniform, lloyd_max)}
    assert (error[lloyd_max] <= error[uniform] * (1 + 1e-12)).all()


def test_lloyd_max_of_a_normal_law_is_the_known_one():
    # Max (1960), table I: 4 levels of the standard normal, squared error 0.1175. 2e5 samples: 1 % is > 4 standard
    # errors.
    x = np.random.default_rng(1).normal(size=(200_000, 1, 1))
    quantiser = lloyd_max(x, 2)
    np.testing.assert_allclose(quantiser.levels[0], [-1.510, -0.4528, 0.4528, 1.510], rtol=0.02)
    assert ((rounded(quantiser, x[None, :, 0, 0]) - x[None, :, 0, 0]) ** 2).mean() == pytest.approx(0.1175, rel=0.02)


def test_as_many_levels_as_values_are_exact():
    x = np.array([0.0, 1, 7, 100]).reshape(4, 1, 1)
    assert (rounded(lloyd_max(x, 8), x[None, :, 0, 0]) == x[None, :, 0, 0]).all()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: Quantiser([[0, 1, 2]]), "levels of shape"),
        (lambda: Quantiser([[1, 0]]), "ascending"),
        (lambda: Quantiser([[0, np.nan]]), r"levels\[0, 1\] = nan"),
        (lambda: Quantiser([[0, 1]]).indices([[np.nan]]), "NaN"),
        (lambda: Quantiser([[0, 1]]).indices([[0], [1]]), "1 groups"),
        (lambda: Quantiser([[0, 1]]).values(np.array([[2]], np.uint8)), "below 2"),
        (lambda: Quantiser([[0, 1]]).values(np.array([[0.5]])), "uint8"),
        (lambda: uniform([1.0], 2), "samples of shape"),
        (lambda: uniform([[1.0]], 9), "bits = 9"),
        (lambda: lloyd_max([[np.inf]], 1), "samples"),
    ],
)
def test_bad_input_is_named(call, text):
    with pytest.raises(ValueError, match=text):
        call()
