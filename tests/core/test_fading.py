import mpmath
import numpy as np
import pytest

from edgeinfer import _core

from .conftest import RAYLEIGH


@pytest.mark.parametrize("snr", [1e-6, 1e-3, 0.3, 1.0, 1.95, 40.0, 1e4, 1e6])
def test_ergodic_rate_equals_quadrature(snr):
    with mpmath.workdps(30):
        nodes = [0, 0.1 / snr, 1 / snr, 1, 10, 100, mpmath.inf] if snr > 1 else [0, 1, 10, 100, mpmath.inf]
        exact = mpmath.quad(lambda g: mpmath.log1p(snr * g) * mpmath.exp(-g) / mpmath.log(2), sorted(set(nodes)))
    rate, status = _core.mean_rate(1.0, snr, *RAYLEIGH)
    assert status == 0
    assert abs(rate / float(exact) - 1) < 1e-9


@pytest.mark.parametrize("snr", [1e-3, 0.1, 1.95, 100.0, 1e4])
@pytest.mark.parametrize("a", [1e-3, 0.5, 1.0, 2.0, 20.0, 1e3])
def test_slot_mgf_equals_tricomi(a, snr):
    # (1/s) U(1, 2 - a, 1/s) = int (1 + s g)^-a e^-g dg: by quadrature in many digits; U itself is slow for large a.
    with mpmath.workdps(25):
        width = 1 / (1 + a * snr)
        nodes = [0, width, 4 * width, 16 * width, 64 * width, 1, 4, 16, 60]
        exact = mpmath.log(mpmath.quad(lambda g: mpmath.exp(-a * mpmath.log1p(snr * g) - g), sorted(set(nodes))))
    value, status = _core.log_slot_mgf(a, snr, *RAYLEIGH)
    assert status == 0
    assert abs(value - float(exact)) < 1e-10  # an absolute error of the logarithm: a relative one of the MGF


@pytest.mark.parametrize(("a", "snr"), [(0.5, 1.95), (2.5, 10.0), (1.3, 0.5)])
def test_that_quadrature_is_tricomis_function(a, snr):
    exact = mpmath.log(mpmath.hyperu(1, 2 - a, 1 / snr) / snr)
    assert abs(_core.log_slot_mgf(a, snr, *RAYLEIGH)[0] - float(exact)) < 1e-12


@pytest.mark.parametrize("arguments", [(0.0, 1.0), (1.0, 0.0), (np.nan, 1.0), (1.0, np.inf), (-1.0, 1.0), (1.0, -2.0)])
def test_bad_values_give_a_status_and_nan(arguments):
    rate, status = _core.mean_rate(*arguments, *RAYLEIGH)
    assert status != 0 and np.isnan(rate)


def test_loops_over_strides_and_broadcasts():
    grid = np.linspace(0.1, 9, 12)[::3]
    rates, _ = _core.mean_rate(np.array([[1.0], [2.0]]), grid, *RAYLEIGH)
    np.testing.assert_allclose(rates[1], 2 * rates[0])
    assert _core.mean_rate(np.empty(0), 1.0, *RAYLEIGH)[0].shape == (0,)


def test_student_quantile():
    from scipy.stats import t

    p, nu = np.array([0.9, 0.975, 0.995]), np.array([1.0, 5.0, 31.0])
    np.testing.assert_allclose(_core.student_quantile(p, nu), t.ppf(p, nu), rtol=1e-9)
    assert np.isnan(_core.student_quantile(1.0, 3.0))
