import copy
import pickle
import sys

import mpmath
import numpy as np
import pytest
from scipy import integrate, optimize

from edgeinfer import _core

from .conftest import RAYLEIGH, SNR


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


@pytest.mark.parametrize("theta", [-1e9, -1e6])
def test_mgf_far_out_stays_finite(latent, theta):
    value, slope = latent.log_mgf(np.float64(theta))
    # The transfer time lies between 0 and its extent, but for 1e-20.
    assert 0 < value / theta < latent.extent and 0 < slope <= latent.extent


def test_mgf_is_bounded_up_to_its_abscissa(latent):
    thetas = latent.abscissa * np.array([0.9, 0.999999, 1.0, 2.0, 1e6])
    value, slope = latent.log_mgf(thetas)
    assert np.array_equal(np.isinf(value), thetas >= latent.abscissa) and np.array_equal(
        np.isinf(slope), np.isinf(value)
    )
    # The law's tail has no end, and the time's mean under the tilt lies beyond the tables'.
    assert (slope[:2] > latent.extent).all()


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


def composite(edges, order=24):
    """Nodes and weights of Gauss-Legendre rules between ascending edges."""
    node, weight = np.polynomial.legendre.leggauss(order)
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half * (1 + node)).ravel(), (half * weight).ravel()


def rate_law(snr):
    """Density, P(r < x) and P(r >= x) of a slot's rate in units of the bandwidth, and a rate beyond e^-700."""

    def density(x):
        return np.log(2) / snr * np.exp2(x) * np.exp(-np.expm1(np.log(2) * x) / snr)

    def excess(x):
        return np.expm1(np.log(2) * np.clip(x, 0, 1000)) / snr

    return density, lambda x: -np.expm1(-excess(x)), lambda x: np.exp(-excess(x)), np.log1p(700 * snr) / np.log(2)


def second_slot(carry, snr, f):
    """P(r_1 + f r_2 < c) and P(r_1 + f r_2 >= c), integrated over r_2 with the closed form for r_1."""
    density, cdf, sf, end = rate_law(snr)
    rate, weight = composite(min(end, carry / f) * np.linspace(0, 1, 121) ** 2)
    weight = weight * density(rate)
    return weight @ cdf(carry - f * rate), sf(carry / f) + weight @ sf(carry - f * rate)


def inverted(carry, snr, n, f, lower):
    """P(r_1 + .. + r_n + f r_{n+1} < c), or its complement if `lower`, by the trapezoidal rule for the Laplace
    inversion
    along the vertical line through the saddle point: right of 0 for the one, left for the other."""
    density, _, _, end = rate_law(snr)
    rate, weight = composite(end * np.linspace(0, 1, 201) ** 2)
    weight = weight * density(rate)
    sign = -1 if lower else 1

    def log_integrand(z):
        return n * np.log(np.exp(-z * rate) @ weight) + np.log(np.exp(-z * f * rate) @ weight) + z * carry

    saddle = np.exp(
        optimize.minimize_scalar(
            lambda u: log_integrand(sign * np.exp(u)) - u, bounds=(-12, np.log(600 / end) if lower else 12)
        ).x
    )
    peak = log_integrand(sign * saddle)
    tilted = np.exp(-sign * saddle * rate) * weight
    spread = np.sqrt((n + 1) * (tilted @ rate**2 / tilted.sum() - (tilted @ rate / tilted.sum()) ** 2))
    # The nearest aliases, 2 pi / step to either side, are below e^-40 and beyond 12 standard deviations.
    step = 2 * np.pi / max((40 + abs(peak)) / saddle, 12 * spread)
    terms = np.array([np.exp(log_integrand(z) - peak) / (sign * z) for z in sign * saddle + 1j * step * np.arange(400)])
    assert abs(terms[-1]) * 400 < 1e-9 * abs(terms.real.sum())
    return np.exp(peak) * step / np.pi * (terms.real.sum() - terms[0].real / 2)


CARRIES = [1e-12, 1e-6, 1e-4, 1e-2, 0.1, 0.3, 1.0, 3.0, 7.0, 15.0, 30.0]
SNRS_DB = [-40, -30, -20, -10, 0, 10, 20, 30, 40, 50, 60, 75, 90]


def law_of(carry, snr_db):
    return _core.Transfer(carry * 1e5, 10e6, 10 ** (snr_db / 10), 0.01)


@pytest.mark.parametrize("snr_db", SNRS_DB)
def test_two_slots_equal_quadrature(snr_db):
    snr = 10 ** (snr_db / 10)
    for carry in CARRIES:
        if carry > 300 * snr:  # thousands of slots, the first two without a chance
            continue
        law = law_of(carry, snr_db)
        first = np.array([1e-9, 1e-7, 1e-5, 1e-3, 0.1, 0.5, 1.0])
        exact = -np.expm1(-np.expm1(np.minimum(np.log(2) * carry / first, 700)) / snr)
        np.testing.assert_allclose(law.sf(first * 0.01), exact, rtol=1e-12)
        for fraction in [1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.37, 0.6, 0.83, 0.999]:
            time = np.float64((1 + fraction) * 0.01)
            sf, cdf = second_slot(carry, snr, time / 0.01 - 1)
            # Near a slot's start the rounding of the time itself is seen: 2e-16 of 1e-8.
            assert sf < 1e-20 or abs(law.sf(time) / sf - 1) < 1e-7, (carry, fraction)
            assert cdf < 1e-18 or abs(law.cdf(time) / cdf - 1) < 1e-7, (carry, fraction)


@pytest.mark.parametrize("snr_db", [20, 35, 50, 70, 90])
@pytest.mark.parametrize("slots", [1.5, 1.7, 2.0, 2.3])
def test_strong_links_of_two_slots_equal_quadrature(snr_db, slots):
    # Within the second slot the law goes from one end of its tables to the other, double exponentially.
    snr = 10 ** (snr_db / 10)
    carry = slots * _core.mean_rate(1.0, snr, *RAYLEIGH)[0]
    law = law_of(carry, snr_db)
    for fraction in np.linspace(0.02, 0.98, 25):
        time = np.float64((1 + fraction) * 0.01)
        sf, cdf = second_slot(carry, snr, time / 0.01 - 1)
        assert sf < 1e-20 or abs(law.sf(time) / sf - 1) < 1e-7, fraction
        assert cdf < 1e-15 or abs(law.cdf(time) / cdf - 1) < 1e-7, fraction


@pytest.mark.parametrize(
    ("snr_db", "carry"),
    [
        (-20, 1.0),
        (-20, 5.0),
        (0, 2.5),
        (1, 10.486),
        (20, 100.0),
        (40, 200.0),
        (50, 3000.0),
        (60, 200.0),
        (75, 3000.0),
        (90, 300.0),
        (90, 30000.0),
    ],
)
def test_both_tails_equal_laplace_inversions(snr_db, carry):
    law = law_of(carry, snr_db)
    slots = np.arange(5, law.extent / 0.01) + 0.37
    # From 1e-15 the stated accuracy of sf is 1e-7; of cdf 1e-6.
    checked = 0
    for lower, values, tolerance in ((False, law.sf(slots * 0.01), 1e-7), (True, law.cdf(slots * 0.01), 1e-6)):
        for target in (0.1, 1e-6, 1e-12, 1e-15):
            i = np.argmin(np.abs(np.log(np.maximum(values, 1e-300) / target)))
            if not 0.01 < values[i] / target < 100:
                continue
            time = np.float64(slots[i] * 0.01)
            exact = inverted(carry, 10 ** (snr_db / 10), int(slots[i]), time / 0.01 - int(slots[i]), lower)
            assert abs(values[i] / exact - 1) < tolerance, (lower, target)
            checked += 1
    assert checked >= 4


@pytest.mark.parametrize(
    ("snr_db", "carry"), [(-30, 1e-6), (-20, 0.1), (0, 1e-6), (0, 0.01), (20, 1e-3), (20, 0.1), (40, 0.25), (50, 4.0)]
)
def test_moments_and_mgf_of_short_transfers_equal_integrals_of_sf(snr_db, carry):
    law = law_of(carry, snr_db)
    low = np.geomspace(1e-10, 1, 180)
    edges = np.concatenate([[0], *(n + low for n in range(round(law.extent / 0.01)))]) * 0.01
    time, weight = composite(edges)
    sf = law.sf(time)
    mean = weight @ sf
    assert abs(law.mean / mean - 1) < 1e-7
    assert abs(law.variance / (2 * weight @ (time * sf) - mean**2) - 1) < 1e-6
    # Up to where the tail below 1e-20, which the law leaves out, has its say. The MGF is 1 + theta int e^(theta t) sf,
    # or where that cancels, int -theta e^(theta t) cdf and the rest.
    cdf = law.cdf(time)
    for theta in (-30 / mean, -3 / mean, -0.1 / mean, 1 / law.extent, 10 / law.extent, 25 / law.extent):
        growth = np.exp(theta * time) * weight
        if theta > 0:
            exact, moment = 1 + theta * growth @ sf, growth @ ((1 + theta * time) * sf)
        else:
            end = np.exp(theta * law.extent)
            exact = end - theta * growth @ cdf
            moment = law.extent * end - growth @ ((1 + theta * time) * cdf)
        value, slope = law.log_mgf(np.float64(theta))
        # What lies beyond the extent, at most 1e-20, is counted as if it came a slot later.
        end = law.extent + 0.01
        beyond = 1e-20 * np.exp(theta * end)
        assert abs(np.exp(value) / exact - 1) < 1e-6 + beyond / exact, theta
        assert abs(slope * exact / moment - 1) < 1e-6 + beyond * (end / moment + 1 / exact), theta


@pytest.mark.parametrize(
    ("snr_db", "carry"),
    [(-40, 0.05), (-20, 0.1), (0, 0.01), (0, 400.0), (1, 10.486), (20, 0.5), (40, 20.0), (60, 10.0), (90, 20000.0)],
)
def test_law_equals_simulation_slot_by_slot(snr_db, carry):
    # 9 x 9 counts, each off by 5.5 standard deviations with probability below 1e-7: a false alarm below 1e-5.
    count, rng = 200_000 if carry < 50 * np.log2(1 + 10 ** (snr_db / 10)) else 10_000, np.random.default_rng(11)
    left, slots, alive = np.full(count, carry), np.zeros(count), np.arange(count)
    while alive.size:
        rate = np.log2(1 + 10 ** (snr_db / 10) * rng.exponential(size=alive.size))
        slots[alive] += np.minimum(left[alive] / rate, 1)
        left[alive] -= rate
        alive = alive[left[alive] > 0]
    law = law_of(carry, snr_db)
    for time in np.quantile(slots, [0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999]) * 0.01:
        # Fixed before the count: the quantile is rounded so that it does not depend on single draws.
        point = float(f"{time:.2g}")
        p = law.sf(np.float64(point))
        assert abs((slots * 0.01 > point).mean() - p) <= 5.5 * np.sqrt(p * (1 - p) / count) + 1e-12


@pytest.mark.parametrize("snr_db", SNRS_DB)
def test_short_transfers_are_monotone(snr_db):
    for carry in CARRIES:
        if carry > 300 * 10 ** (snr_db / 10):
            continue
        law = law_of(carry, snr_db)
        low = np.geomspace(1e-9, 1, 4000)
        times = np.concatenate([n + low for n in range(round(law.extent / 0.01))]) * 0.01
        sf, cdf = law.sf(times), law.cdf(times)
        # Where slots meet, quadrature errors of 1e-9 show; below 1e-20 the law counts as 0.
        assert (np.diff(sf) <= 1e-9 * sf[1:]).all() and (np.diff(cdf) >= -1e-9 * cdf[1:] - 1e-20).all()
        np.testing.assert_allclose(sf + cdf, 1, atol=1e-14)


def many_slots(snr, carry, n):
    """P(r_1 + .. + r_n < c) to 12 digits: Tricomi's function in 30 digits along the vertical line through the saddle
    point,
    right of 0, or left of it for the complement."""
    with mpmath.workdps(30):
        s, c = mpmath.mpf(snr), mpmath.mpf(carry) * mpmath.log(2)

        def log_integrand(z):
            return n * mpmath.log(mpmath.hyperu(1, 2 - z, 1 / s) / s) + z * c

        density, _, _, end = rate_law(snr)
        rate, weight = composite(end * np.linspace(0, 1, 201) ** 2)
        weight = weight * density(rate)
        mean = weight @ rate
        spread = float(np.sqrt(n * (weight @ rate**2 - mean**2))) * np.log(2)
        # The distance of c in standard deviations, and about as many of the line.
        distance = (n * mean * np.log(2) - float(c)) / spread
        line = (distance + np.sign(distance)) / spread
        peak = log_integrand(mpmath.mpf(line))
        # Aliases of this step lie beyond 14 standard deviations and below e^-40.
        step = 2 * np.pi / max(14 * spread, (40 + distance**2) / abs(line))
        total = mpmath.mpf(0)
        for k in range(1000):
            z = mpmath.mpc(line, step * k)
            term = mpmath.re(mpmath.exp(log_integrand(z) - peak) / z) / (2 if k == 0 else 1)
            total += term
            if abs(term) < 1e-16 * abs(total) and step * k * spread > 6:
                break
        return float(abs(mpmath.exp(peak) * step / mpmath.pi * total)), distance > 0


# Slow: mpmath's work, which tells the sanitizers nothing of the few calls between.
@pytest.mark.slow
@pytest.mark.parametrize("snr_db", [-40, 0, 90])
@pytest.mark.parametrize("slots", [2000, 1_000_000])
def test_many_slots_equal_an_inversion_in_30_digits(snr_db, slots):
    # 1e-7 is the stated accuracy of sf down to 1e-15; of cdf 1e-6.
    snr = 10 ** (snr_db / 10)
    density, _, _, end = rate_law(snr)
    rate, weight = composite(end * np.linspace(0, 1, 201) ** 2)
    mean = (weight * density(rate)) @ rate
    law = law_of(slots * mean, snr_db)
    deviation = np.sqrt(law.variance) / 0.01
    for distance in (-7.5, -2.0, 1.0, 6.0):
        n = round(slots + distance * deviation)
        exact, above = many_slots(snr, law.bits / 1e5, n)
        value, tolerance = (law.sf, 1e-7) if above else (law.cdf, 1e-6)
        assert abs(value(np.float64(n) * 0.01) / exact - 1) < tolerance, distance


@pytest.mark.parametrize(("snr_db", "slots"), [(-40, 72.5), (-30, 1e3), (0, 500.0), (30, 1e5), (60, 400.0), (90, 1e6)])
def test_moments_and_mgf_of_long_transfers_equal_integrals_of_sf(snr_db, slots):
    snr = 10 ** (snr_db / 10)
    law = law_of(slots * _core.mean_rate(1.0, snr, *RAYLEIGH)[0], snr_db)
    deviation = np.sqrt(law.variance)
    # sf is 1 below these slots.
    low, high = np.floor((law.mean - 11 * deviation) / 0.01), np.ceil(law.extent / 0.01)
    edges = np.arange(max(low, 0), high + 1) * 0.01
    time, weight = composite(edges, 8)
    sf = law.sf(time)
    mean = edges[0] + weight @ sf
    # About the mean, since the second moment of 1e6 slots would cancel.
    spread = 2 * weight @ ((time - law.mean) * sf) + (edges[0] - law.mean) ** 2
    assert abs(law.mean / mean - 1) < 1e-9
    assert abs(law.variance / (spread - (mean - law.mean) ** 2) - 1) < 1e-6
    for theta in (-5 / deviation, -0.1 / law.mean, 1 / law.mean, 3 / deviation):
        exact = np.exp(theta * (edges[0] - law.mean)) + theta * weight @ (np.exp(theta * (time - law.mean)) * sf)
        value, slope = law.log_mgf(np.float64(theta))
        # What the sum above loses by cancellation where theta < 0 is counted.
        lost = 1e-12 * np.exp(max(theta * (edges[0] - law.mean), 0)) / abs(exact)
        assert abs(np.exp(value - theta * law.mean) / exact - 1) < 1e-6 + lost, theta
        assert 0 < slope < law.extent


@pytest.mark.parametrize("snr_db", SNRS_DB)
def test_every_number_of_slots_has_a_law(snr_db):
    # Both routes, and where one gives way to the other.
    rate = _core.mean_rate(1.0, 10 ** (snr_db / 10), *RAYLEIGH)[0]
    for slots in [1e-30, 1e-12, 1e-3, 1.0, 30.0, 66.0, 69.0, 71.0, 80.0, 300.0, 500.0, 2e3, 1e5, 1e6, 1e7]:
        law = law_of(slots * rate, snr_db)
        assert law.mean < law.extent and law.variance > 0
        # The fraction of the last slot that is not needed, and E[1 / R] > 1 / E[R].
        assert slots > 1e-3 or law.sf(np.float64(0.01)) < 1
        assert slots < 30 or 0 < law.mean / 0.01 - slots < 1
        times = np.linspace(max(law.mean - 12 * np.sqrt(law.variance), 0), law.extent, 2000)
        sf, cdf = law.sf(times), law.cdf(times)
        # The rounding of long sums, 1e-14 a slot, shows where panels meet.
        slack = 1e-9 + 3e-14 * slots
        assert (np.diff(sf) <= slack * sf[1:]).all() and (np.diff(cdf) >= -slack * cdf[1:] - 1e-20).all()


def test_more_slots_than_are_accurate_are_refused():
    with pytest.raises(_core.CoreError, match="accuracy"):
        law_of(1e6, -30)


def test_laws_pickle_and_copy(latent):
    for law in (latent, law_of(1e-3, 60), law_of(1e4, 10)):
        again = pickle.loads(pickle.dumps(law))
        times = np.linspace(0, law.extent, 50)
        np.testing.assert_array_equal(again.sf(times), law.sf(times))
        assert copy.deepcopy(law) is law and copy.copy(law) is law
        assert (again.bits, again.bandwidth, again.mean_snr, again.slot) == (
            law.bits,
            law.bandwidth,
            law.mean_snr,
            law.slot,
        )
        assert sys.getsizeof(law) < 1e6


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
