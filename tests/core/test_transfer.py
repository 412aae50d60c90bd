import mpmath
import numpy as np
import pytest
from scipy import integrate

from edgeinfer import _core

from .conftest import SNR


def bromwich(bits, bandwidth, snr, slot, time):
    """P(R_1 + .. + R_n + f R_{n+1} < J / slot), by inverting the Laplace transform along a saddle-point line."""
    n, f = divmod(time / slot, 1)
    n = int(n)
    carry = bits / (bandwidth * slot) * np.log(2)  # in nats: r = log(1 + s g)
    s = mpmath.mpf(snr)

    def log_transform(z):
        total = n * mpmath.log(mpmath.hyperu(1, 2 - z, 1 / s) / s)
        if f > 1e-12:
            total += mpmath.log(mpmath.hyperu(1, 2 - z * f, 1 / s) / s)
        return total

    with mpmath.workdps(20):
        c = mpmath.findroot(
            lambda z: mpmath.diff(log_transform, z) + carry - 1 / z, (1.0, 6.0), solver="secant", tol=1e-6
        )

        def integrand(y):
            z = c + 1j * y
            return mpmath.re(mpmath.exp(log_transform(z) + z * carry) / z)

        scale = 1 / mpmath.sqrt(mpmath.diff(log_transform, c, 2) + 1 / c**2)
        return float(mpmath.quad(integrand, [0, 2 * scale, 4 * scale, 8 * scale, 16 * scale]) / mpmath.pi)


@pytest.mark.parametrize("time", [0.115, 0.2, 0.2837])
def test_sf_equals_a_laplace_inversion(latent, time):
    exact = bromwich(1.0486e6, 10e6, SNR, 0.01, time)
    assert abs(latent.sf(np.float64(time)) / exact - 1) < 1e-6


def test_moments_equal_integrals_of_sf(latent):
    def sf(t):
        return float(latent.sf(t))

    points = np.arange(0.0, 0.5, 0.01)
    mean = sum(integrate.quad(sf, a, a + 0.01, epsabs=1e-13)[0] for a in points)
    second = sum(integrate.quad(lambda t: 2 * t * sf(t), a, a + 0.01, epsabs=1e-13)[0] for a in points)
    assert abs(latent.mean / mean - 1) < 1e-6
    assert abs(latent.variance / (second - mean**2) - 1) < 1e-5


@pytest.mark.parametrize("theta", [-30.0, -1.0, 3.0, 20.0])
def test_mgf_equals_an_integral_of_sf(latent, theta):
    points = np.arange(0.0, 0.6, 0.01)
    rest = sum(
        integrate.quad(lambda t: theta * np.exp(theta * t) * float(latent.sf(t)), a, a + 0.01, epsabs=1e-12)[0]
        for a in points
    )
    value, slope = latent.log_mgf(np.float64(theta))
    assert abs(np.exp(value) / (1 + rest) - 1) < 1e-6
    step = 1e-4
    high, low = (latent.log_mgf(np.float64(theta + d))[0] for d in (step, -step))
    assert abs(slope / ((high - low) / (2 * step)) - 1) < 1e-5


@pytest.mark.parametrize("theta", [-1e9, -1e6, 1e6, 1e9])
def test_mgf_far_out_stays_finite(latent, theta):
    value, slope = latent.log_mgf(np.float64(theta))
    # The transfer time lies between 0 and its extent, so its cumulant lies between 0 and theta extent.
    assert 0 < value / theta < latent.extent and 0 < slope <= latent.extent


def test_first_slot_is_closed_form():
    law = _core.Transfer(1e4, 10e6, 2.0, 0.01)
    times = np.array([0.001, 0.004, 0.009])
    exact = -np.expm1(-np.expm1(np.log(2) * 1e4 / 10e6 / times) / 2.0)
    np.testing.assert_allclose(law.sf(times), exact, rtol=1e-9)


def test_sf_is_monotone_and_complements_cdf(latent):
    times = np.linspace(0, 0.6, 4001)
    sf = latent.sf(times)
    assert (np.diff(sf) <= 1e-15).all() and sf[0] == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(sf + latent.cdf(times), 1, atol=1e-12)


def test_edges(latent):
    assert latent.sf(np.float64(np.inf)) == 0 and latent.cdf(np.float64(np.inf)) == 1
    assert latent.sf(np.float64(-1.0)) == pytest.approx(1)
    assert np.isnan(latent.sf(np.float64(np.nan)))
    assert latent.sf(np.empty(0)).shape == (0,)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_bad_parameters(index, value):
    parameters = [1e6, 10e6, 2.0, 0.01]
    parameters[index] = value
    with pytest.raises(ValueError):
        _core.Transfer(*parameters)


def test_read_only_and_non_contiguous_input(latent):
    times = np.linspace(0, 0.2, 10)[::2]
    times.flags.writeable = False
    np.testing.assert_array_equal(latent.sf(times), [latent.sf(np.float64(t)) for t in times])
