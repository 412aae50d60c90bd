"""Laws of a slot's rate and of transfers over links of every fading, beside quadrature and inversion from scratch."""

import mpmath
import numpy as np
import pytest
from scipy import optimize, stats

from edgeinfer import _core

#: Shape, mixing, scale, users.
GAINS = {
    "one-sided Gaussian": (0.5, 0.0, 2.0, 1.0),
    "Nakagami 1.5": (1.5, 0.0, 1 / 1.5, 1.0),
    "Nakagami 4": (4.0, 0.0, 0.25, 1.0),
    "Nakagami 60.5": (60.5, 0.0, 1 / 60.5, 1.0),
    "Rician 3": (1.0, 3.0, 0.25, 1.0),
    "Rician 100": (1.0, 100.0, 1 / 101, 1.0),
    "four Rician branches": (4.0, 12.0, 0.25, 1.0),
    "best of 8": (1.0, 0.0, 1.0, 8.0),
    "best of 3, Nakagami 0.7": (0.7, 0.0, 1 / 0.7, 3.0),
}
EACH = pytest.mark.parametrize("gain", GAINS.values(), ids=GAINS)


def gain_density(gain, y):
    """Of g / scale in mpmath; the Poisson mixture of the gamma law is Bessel's function."""
    shape, mixing, _, users = map(mpmath.mpf, gain)
    if mixing:
        return (
            mpmath.exp(-mixing - y)
            * (y / mixing) ** ((shape - 1) / 2)
            * mpmath.besseli(shape - 1, 2 * mpmath.sqrt(mixing * y))
        )
    density = y ** (shape - 1) * mpmath.exp(-y) / mpmath.gamma(shape)
    return density * users * mpmath.gammainc(shape, 0, y, regularized=True) ** (users - 1)


def expected(gain, function):
    """E of a function of g / scale to 50 digits: over log y, on which the integrand falls exponentially at one end and
    doubly so at the other."""
    shape, mixing, _, users = gain
    with mpmath.workdps(50):
        middle = float(shape + mixing)
        spread = (shape + 2 * mixing) ** 0.5
        low, high = -130 / (shape * users), np.log(middle + 25 * spread + 130)
        if middle > 30:
            low = np.log(max(middle - 20 * spread, 1e-8)) if mixing == 0 or middle > 20 * spread else -30.0
        pieces = np.linspace(low, high, 13)
        return mpmath.quad(
            lambda u: function(mpmath.exp(u)) * gain_density(gain, mpmath.exp(u)) * mpmath.exp(u), pieces
        )


# Slow: mpmath's work, which tells the sanitizers nothing of the few calls between.
@pytest.mark.slow
@EACH
def test_mean_rate_and_slot_mgf_equal_50_digit_quadrature(gain):
    snr = 300.0 if gain[0] > 1 or gain[1] else 0.05
    step = mpmath.mpf(snr) * mpmath.mpf(gain[2])
    exact = expected(gain, lambda y: mpmath.log1p(step * y) / mpmath.log(2))
    rate, status = _core.mean_rate(1.0, snr, *gain)
    assert status == 0
    assert abs(rate / float(exact) - 1) < 1e-10
    exact = expected(gain, lambda y: (1 + step * y) ** -2.3)
    value, status = _core.log_slot_mgf(2.3, snr, *gain)
    assert status == 0
    assert abs(value - float(mpmath.log(exact))) < 1e-10


@pytest.mark.parametrize(
    ("m", "snr", "a"), [(0.5, 2.0, 30.0), (2.5, 100.0, 0.7), (40.0, 1000.0, 100.0), (40.0, 8000.0, 500.0)]
)
def test_nakagami_mgf_equals_tricomis_function(m, snr, a):
    with mpmath.workdps(50):
        b = mpmath.mpf(m) / snr
        exact = mpmath.log(b**m * mpmath.hyperu(m, m + 1 - a, b))
    assert abs(_core.log_slot_mgf(a, snr, m, 0.0, 1 / m, 1.0)[0] - float(exact)) < 1e-10


def test_two_branches_of_one_sided_gaussian_fading_are_rayleigh_of_twice_the_snr(entropy):
    gain = (1.0, 0.0, 2.0, 1.0)
    assert _core.mean_rate(1.0, 3.0, *gain)[0] == _core.mean_rate(1.0, 6.0, 1.0, 0.0, 1.0, 1.0)[0]
    assert _core.log_slot_mgf(2.3, 3.0, *gain)[0] == _core.log_slot_mgf(2.3, 6.0, 1.0, 0.0, 1.0, 1.0)[0]
    drawn = _core.sample_rate(100, 1.0, 3.0, gain, entropy)
    np.testing.assert_array_equal(drawn, _core.sample_rate(100, 1.0, 6.0, (1.0, 0.0, 1.0, 1.0), entropy))


@pytest.mark.parametrize("x", [1e-40, 1e-160, 1e-240])
@pytest.mark.parametrize("mixing", [5e-324, 1e-5, 1.0, 50.0])
def test_small_rician_gains_have_their_probability(x, mixing):
    """e^-K y (1 + O(K y)), y = (1 + K) x, also where y^2 and 1 / K are beyond the range of double."""
    below, above, _ = _core.gain_law(x, 1.0, mixing, 1 / (1 + mixing), 1.0)
    assert below == pytest.approx(np.exp(-mixing) * (1 + mixing) * x, rel=1e-12)
    assert above == 1


def test_a_line_of_sight_of_next_to_no_power_leaves_the_mean_rate():
    rate, status = _core.mean_rate(1e6, 2.0, 1.0, 5e-324, 1.0, 1.0)
    assert status == 0
    assert rate == pytest.approx(_core.mean_rate(1e6, 2.0, 1.0, 0.0, 1.0, 1.0)[0], rel=1e-11)


@pytest.mark.parametrize("users", [1.0, 5.0, 20.0])
def test_mean_rate_of_the_best_user_equals_its_alternating_sum(users):
    with mpmath.workdps(50):
        snr = mpmath.mpf(3)
        exact = sum(
            (-1) ** (i + 1) * mpmath.binomial(users, i) * mpmath.exp(i / snr) * mpmath.e1(i / snr)
            for i in range(1, int(users) + 1)
        ) / mpmath.log(2)
    assert abs(_core.mean_rate(1.0, 3.0, 1.0, 0.0, 1.0, users)[0] / float(exact) - 1) < 1e-11


@pytest.mark.parametrize(
    "wrong", [(0.0, 0, 1, 1), (np.nan, 0, 1, 1), (1, -1, 1, 1), (1.5, 1, 1, 1), (1, 0, 0, 1), (1, 0, 1, 1.5)]
)
def test_gains_outside_their_range_give_a_status(wrong):
    assert _core.mean_rate(1.0, 1.0, *map(float, wrong))[1] != 0
    with pytest.raises(ValueError, match="outside its range"):
        _core.Transfer(1e6, 1e7, 1.0, 0.01, tuple(map(float, wrong)))


def rate_law(gain, snr):
    """Density, cdf and survival function of a slot's rate in units of the bandwidth, and a rate beyond e^-80."""
    shape, mixing, scale, users = gain
    law = stats.ncx2(2 * shape, 2 * mixing, scale=scale / 2) if mixing else stats.gamma(shape, scale=scale)

    def of(r):
        return np.expm1(np.log(2) * np.clip(r, 0, 100)) / snr

    def density(r):
        slope = np.log(2) * np.exp2(r) / snr
        return slope * law.pdf(of(r)) * (users * law.cdf(of(r)) ** (users - 1) if users > 1 else 1)

    def sf(r):
        above = np.minimum(law.sf(of(r)), 1 - 1e-16)
        return -np.expm1(users * np.log1p(-above))

    end = optimize.brentq(lambda r: law.logsf(of(r)) + 80 if law.sf(of(r)) > 0 else -1, 0, 60)
    return density, lambda r: law.cdf(of(r)) ** users, sf, end


def flattened(low, high, k=10, panels=60):
    """Composite Gauss-Legendre between two ends at which the integrand may go like a broken power."""
    node, weight = np.polynomial.legendre.leggauss(24)
    edges = np.linspace(0, 1, panels + 1)
    half = np.diff(edges)[:, None] / 2
    t = (edges[:-1, None] + half * (1 + node)).ravel()
    weight = (half * weight).ravel()
    law = stats.beta(k, k)
    return low + (high - low) * law.cdf(t), (high - low) * law.pdf(t) * weight


@EACH
@pytest.mark.parametrize("snr", [0.01, 2.0, 3000.0])
def test_two_slots_equal_quadrature(gain, snr):
    density, cdf, sf, end = rate_law(gain, snr)
    mean = _core.mean_rate(1.0, snr, *gain)[0]
    checked = 0
    for carry in np.array([1e-6, 1e-2, 0.3, 1.0, 1.7, 3.0]) * mean:
        law = _core.Transfer(carry * 1e5, 1e7, snr, 0.01, gain)
        first = np.array([1e-3, 0.1, 0.5, 1.0])
        np.testing.assert_allclose(law.sf(first * 0.01), cdf(carry / first), rtol=1e-9, atol=1e-25)
        for fraction in (1e-4, 0.03, 0.2, 0.6, 0.95):
            time = np.float64((1 + fraction) * 0.01)
            fraction = time / 0.01 - 1
            rate, weight = flattened(0, min(end, carry / fraction))
            weight = weight * density(rate)
            below = weight @ cdf(carry - fraction * rate)
            above = sf(carry / fraction) + weight @ sf(carry - fraction * rate)
            # To what the doubles of the comparison's own law allow in its tails.
            assert below < 1e-12 or abs(law.sf(time) / below - 1) < 1e-7, (carry, fraction)
            assert above < 1e-12 or abs(law.cdf(time) / above - 1) < 1e-7, (carry, fraction)
            checked += 1e-12 < below < 1 - 1e-12
    assert checked >= 3


def inverted(gain, snr, carry, n, f, lower):
    """P(r_1 + .. + r_n + f r_{n+1} < c), or its complement if `lower`, by the trapezoidal rule for the Laplace
    inversion along the vertical line through the saddle point."""
    density, _, _, end = rate_law(gain, snr)
    rate, weight = flattened(0, end, panels=100)
    weight = weight * density(rate)
    rate, weight = rate[weight > 1e-100], weight[weight > 1e-100]
    sign = -1 if lower else 1

    def log_moment(z):
        parts = np.log(weight) - z * rate
        top = parts.real.max()
        return top + np.log(np.exp(parts - top).sum())

    def exponent(z):
        return n * log_moment(z) + log_moment(f * z) + z * carry

    saddle = np.exp(
        optimize.minimize_scalar(
            lambda u: exponent(sign * np.exp(u)) - u, bounds=(-8, np.log(600 / end) if lower else 10), method="bounded"
        ).x
    )
    peak = exponent(sign * saddle)
    tilted = np.exp(-sign * saddle * rate - log_moment(sign * saddle)) * weight
    spread = np.sqrt((n + 1) * (tilted @ rate**2 / tilted.sum() - (tilted @ rate / tilted.sum()) ** 2))
    step = 2 * np.pi / max((40 + abs(peak)) / saddle, 12 * spread)
    terms = np.array([np.exp(exponent(z) - peak) / (sign * z) for z in sign * saddle + 1j * step * np.arange(400)])
    assert abs(terms[-1]) * 400 < 1e-8 * abs(terms.real.sum())
    return np.exp(peak) * step / np.pi * (terms.real.sum() - terms[0].real / 2)


@EACH
@pytest.mark.parametrize(("snr", "slots"), [(2.0, 12.0), (1000.0, 25.0), (0.05, 400.0)])
def test_both_tails_equal_laplace_inversions(gain, snr, slots):
    carry = slots * _core.mean_rate(1.0, snr, *gain)[0]
    law = _core.Transfer(carry * 1e5, 1e7, snr, 0.01, gain)
    assert law.mean == pytest.approx(slots * 0.01, rel=0.2)
    times = np.arange(1, law.extent / 0.01) + 0.37
    checked = 0
    for lower, values, tolerance in ((False, law.sf(times * 0.01), 1e-7), (True, law.cdf(times * 0.01), 1e-6)):
        for target in (0.1, 1e-6, 1e-11):
            i = np.argmin(np.abs(np.log(np.maximum(values, 1e-300) / target)))
            if times[i] < 12 / min(gain[0] * gain[3], 1):  # fewer slots' transforms die out too slowly for the rule
                continue
            time = np.float64(times[i] * 0.01)
            exact = inverted(gain, snr, carry, int(times[i]), time / 0.01 - int(times[i]), lower)
            assert exact < 1e-12 or abs(values[i] / exact - 1) < tolerance, (lower, target)
            checked += 1
    assert checked >= 1 or gain[0] < 1


@pytest.mark.parametrize("shape", [0.5, 1.0, 1.5, 2.0, 4.0, 5.0, 9.0, 13.0])
@pytest.mark.parametrize("slots", [1.0, 10.0])
def test_whole_slots_of_little_power_are_gamma_laws(shape, slots):
    # log2(1 + s g) is s g / ln 2 but for s of itself.
    snr = 1e-12
    law = _core.Transfer(slots * snr / np.log(2), 1.0, snr, 1.0, (shape, 0.0, 1 / shape, 1.0))
    n = np.arange(1, int(law.extent) - 1, dtype=float)
    exact = stats.gamma(n * shape).cdf(slots * shape)
    n, exact = n[exact > 1e-15], exact[exact > 1e-15]
    np.testing.assert_allclose(law.sf(n), exact, rtol=1e-7)


@pytest.mark.parametrize(
    ("gain", "snr", "slots"),
    [
        ((256.0, 0.0, 0.25, 1.0), 0.86, 15.5),
        ((11.03, 0.0, 1 / 11.03, 100.0), 423.4, 9.9),
        ((50.0, 0.0, 0.02, 1.0), 1e6, 12.0),
        ((934.0, 0.0, 1 / 934.0, 1.0), 7e4, 40.0),
        ((5.0, 0.0, 0.2, 1.0), 1.0, 50.0),
        ((1.0, 0.0, 1.0, 5.0), 0.1, 12.0),
        ((0.5, 0.0, 2.0, 1.0), 1e-4, 90.0),
    ],
)
def test_laws_that_are_narrow_or_long_equal_laplace_inversions(gain, snr, slots):
    mean = _core.mean_rate(1.0, snr, *gain)[0]
    law = _core.Transfer(slots * mean, 1.0, snr, 1.0, gain)
    times = np.linspace(0, law.extent, 3001)
    sf, cdf = law.sf(times), law.cdf(times)
    assert (np.diff(sf) <= 1e-9 * sf[1:] + 1e-20).all()
    assert (np.diff(cdf) >= -1e-9 * cdf[1:] - 1e-20).all()
    # Wald's identity: the whole slots of a transfer carry its bits, and the last one more.
    assert slots * (1 - 1e-9) <= law.mean <= slots + 1
    for target in (0.3, 1e-4, 1e-9):
        time = times[np.argmax(sf < target)]
        exact = inverted(gain, snr, slots * mean, int(time), time - int(time), False)
        assert abs(law.sf(time) / exact - 1) < 1e-6


@EACH
def test_slots_drawn_one_by_one_follow_the_law(gain, entropy):
    # Kolmogorov's statistic beyond 2.23 has probability 1e-4, for each of 27 comparisons.
    def distance(sample, cdf):
        u = np.sort(cdf(sample))
        n = len(u)
        return n**0.5 * max(np.max(np.arange(1, n + 1) / n - u), np.max(u - np.arange(n) / n))

    rates = _core.sample_rate(20_000, 1.0, 2.0, gain, entropy)
    assert distance(rates, rate_law(gain, 2.0)[1]) < 2.23
    mean = _core.mean_rate(1.0, 2.0, *gain)[0]
    for slots in (0.6, 4.3):
        law = _core.Transfer(slots * mean * 1e5, 1e7, 2.0, 0.01, gain)
        for kind in ("slots", "table"):
            assert distance(_core.sample_service(("transfer", law), 20_000, kind, entropy), law.cdf) < 2.23


@EACH
def test_laws_are_monotone_and_their_moments_integrals(gain):
    mean = _core.mean_rate(1.0, 2.0, *gain)[0]
    for slots in (0.4, 2.6):
        law = _core.Transfer(slots * mean * 1e5, 1e7, 2.0, 0.01, gain)
        node, weight = np.polynomial.legendre.leggauss(24)
        low = np.geomspace(1e-9, 1, 120)
        edges = np.concatenate([[0], *(n + low for n in range(round(law.extent / 0.01)))]) * 0.01
        half = np.diff(edges)[:, None] / 2
        time, weight = (edges[:-1, None] + half * (1 + node)).ravel(), (half * weight).ravel()
        sf = law.sf(time)
        assert (np.diff(sf) <= 1e-9 * sf[1:] + 1e-20).all()
        first = weight @ sf
        assert abs(law.mean / first - 1) < 1e-7
        assert abs(law.variance / (2 * weight @ (time * sf) - first**2) - 1) < 1e-6
