"""A population's bracket beside Gauss-Hermite sums over its terminals, one by one."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

import edgeinfer as ei


def terminal(loss):
    """A deterministic uplink whose rate falls tenfold with every 20 dB, so that each terminal's law is quick."""
    return ei.Pipeline([ei.Exponential(0.01 * 10 ** (np.asarray(loss) / 20 - 4), "uplink")])


def late(loss, rate, deadline):
    """M/M/1."""
    service = 0.01 * 10 ** (loss / 20 - 4)
    return np.where(rate * service < 1, np.exp(-(1 / service - rate) * deadline), 1.0)


LOSS = ei.path_loss.PathLoss([80.0, 90.0], [95.0, 110.0], [0.7, 0.2], 4.0, 8.0)


def mixed(deadline, rate=5.0):
    """The mean over terminals on a fine grid, and the unstable share."""
    loss = np.linspace(0, 220, 400_001)
    density = sum(
        weight * share * stats.norm.pdf(loss, median, spread)
        for weight, los, nlos, seen in ((0.25, 80, 95, 0.7), (0.75, 90, 110, 0.2))
        for share, median, spread in ((seen, los, 4.0), (1 - seen, nlos, 8.0))
    )
    unstable = density * (late(loss, rate, 0.0) * 0 + (rate * 0.01 * 10 ** (loss / 20 - 4) >= 1))
    return np.trapezoid(density * late(loss, rate, deadline), loss), np.trapezoid(unstable, loss)


def test_bracket_contains_the_mean_over_terminals():
    population = ei.Population(LOSS, [1, 3])
    answer = ei.population_bracket(terminal, population, 5.0, [0.05, 3.0], tolerance=0.2)
    for at, deadline in enumerate((0.05, 3.0)):
        truth, unstable = mixed(deadline)
        assert answer.lower[at] <= truth * (1 + 1e-5) and truth * (1 - 1e-5) <= answer.upper[at]
        assert answer.upper[at] < 1.23 * answer.lower[at]
        # The loss of the limit is known to 0.001 dB.
        assert answer.unstable == pytest.approx(unstable, rel=1e-3)
    assert answer.unstable < answer.lower[1]


@pytest.mark.parametrize(
    "late", [ei.model.Delay(ei.Constant(0.3, "user")), ei.Compute(0.3, ei.Node("edge", 1.0), "gpu", servers=4)]
)
def test_long_times_that_keep_no_server_busy_are_stable(late):
    """Of more than the time between two requests: every terminal counted as unstable, and both ends were 1."""
    population = ei.Population(LOSS, [1, 3])
    answer = ei.population_bracket(lambda loss: ei.Pipeline([*terminal(loss), late]), population, 5.0, 3.3)
    assert answer.unstable == pytest.approx(mixed(3.0)[1], rel=1e-3)
    alone = ei.population_bracket(terminal, population, 5.0, 3.0)
    # Hardly a request waits for one of four servers for long.
    assert alone.lower <= answer.upper and answer.lower <= alone.upper * 1.05


def test_several_populations_are_each_their_own():
    """Both ends within the tolerance of each alone, so that the answers overlap."""
    several = [ei.Population(ei.path_loss.uma(distance, 2e9)) for distance in (100.0, 500.0, 2000.0)]
    answer = ei.population_bracket(terminal, several, 5.0, [0.05, 3.0], tolerance=0.2)
    assert answer.lower.shape == (2, 3) and answer.unstable.shape == (3,)
    for at, population in enumerate(several):
        alone = ei.population_bracket(terminal, population, 5.0, [0.05, 3.0], tolerance=0.2)
        assert (answer.lower[:, at] <= alone.upper).all() and (alone.lower <= answer.upper[:, at]).all()
        assert (answer.upper[:, at] <= 1.23 * answer.lower[:, at]).all()
        assert answer.unstable[at] == pytest.approx(alone.unstable, rel=2e-3)
        one = answer[1, at]
        assert (one.lower, one.upper, one.unstable) == (answer.lower[1, at], answer.upper[1, at], answer.unstable[at])
    assert (answer[0].unstable == answer.unstable).all() and type(alone[0].unstable) is float


def test_light_ends_stay_where_little_depends_on_them(monkeypatch):
    """M/M/1 tails between ends of known widths, by effort, in the place of a bracket's."""
    asked = {"light": [], "fast": []}

    def ends(pipeline, rate, deadline, *, effort):
        loss = 20 * (np.log10(pipeline.moments()[0][..., 0] / 0.01) + 4)
        asked[effort].extend(loss)
        truth, apart = late(loss, rate, deadline), {"light": 1.6, "fast": 1.2}[effort]
        return SimpleNamespace(lower=truth / apart, upper=np.minimum(truth * apart, 1))

    monkeypatch.setattr(sys.modules[ei.population_bracket.__module__], "violation_bracket", ends)
    answer = ei.population_bracket(
        lambda loss: ei.Pipeline([*terminal(loss), ei.Constant(0.001, "server")]), ei.Population(LOSS, [1, 3]), 0.2, 3.0
    )
    truth, unstable = mixed(3.0, 0.2)
    # As wide as the ends at single losses by effort "fast", and what the tolerance allows.
    assert truth / 1.2 / 1.1 < answer.lower < truth * (1 + 1e-5) < 1.2 * 1.1 * truth > answer.upper > truth
    assert unstable < answer.lower
    assert 0 < len(asked["fast"]) < 200 and 0 < len(asked["light"]) < 50
    # Hardly a terminal of a small loss is late.
    assert min(asked["light"]) < 60 < 90 < min(asked["fast"])


def test_mixing_outside_is_not_the_median_terminal():
    population = ei.Population(ei.path_loss.PathLoss(90.0, 90.0, 1.0, 6.0, 6.0))
    lone = ei.violation_bracket(terminal(90.0), 5.0, 0.5)
    assert ei.population_bracket(terminal, population, 5.0, 0.5, tolerance=1.5).lower > 100 * lone.upper


def test_without_shadows_it_is_the_terminals_own():
    sure = ei.Population(ei.path_loss.PathLoss(90.0, 200.0, 1.0, 0.0, 5.0))
    lone = ei.violation_bracket(terminal(90.0), 5.0, 0.1)
    answer = ei.population_bracket(terminal, sure, 5.0, 0.1, tolerance=1e-3)
    assert answer.lower == pytest.approx(lone.lower, rel=1e-6) and answer.upper == pytest.approx(lone.upper, rel=1e-6)
    assert answer.unstable == 0
    lost = ei.Population(ei.path_loss.PathLoss(90.0, 200.0, 0.9, 0.0, 0.0))
    half = ei.population_bracket(terminal, lost, 5.0, 0.1)
    assert half.unstable == pytest.approx(0.1) and half.lower == pytest.approx(0.1 + 0.9 * lone.lower, rel=1e-6)


def test_measured_stages_have_a_law_for_either_end_and_for_the_unstable_share():
    times = np.random.default_rng(1).gamma(50, 0.0004, 200)
    safe = ei.Measured(times, "gpu", confidence=0.9, longest=1.0)
    population, deadlines = ei.Population(LOSS, [1, 3]), [0.1, 3.0]

    def answer(stage, rate):
        return ei.population_bracket(
            lambda loss: ei.Pipeline([*terminal(loss), stage]), population, rate, deadlines, tolerance=0.3
        )

    # At 12 1/s the slowest law is unstable by itself: all of its terminals counted for the lower end, which was 1.
    for rate in (2.0, 12.0):
        found = answer(safe, rate)
        fast, plain, slow = (answer(s, rate) for s in (safe.fastest(), ei.Measured(times, "gpu"), safe.slowest()))
        assert type(found) is ei.PopulationGuarantee and found.confidence == pytest.approx(0.9)
        assert (found.lower == fast.lower).all() and (found.upper == slow.upper).all()
        assert (found.lower < plain.upper).all() and (plain.lower < found.upper).all()
        assert found.unstable == slow.unstable and type(plain) is ei.PopulationBracket
        assert found[1] == ei.PopulationGuarantee(
            found.lower[1], found.upper[1], "population", "population", found.confidence, found.unstable
        )
    assert slow.unstable > 0.99 and fast.unstable <= plain.unstable and plain.upper[0] < 0.8
    with pytest.raises(ValueError, match=r"confidence of 0\.9, those of another one of 0\.8: must be `Measured`"):
        ei.population_bracket(
            lambda loss: ei.Pipeline([*terminal(loss), safe if np.min(loss) < 90 else replace(safe, confidence=0.8)]),
            population,
            2.0,
            1.0,
        )


def test_shares_of_losses():
    population = ei.Population(LOSS, [1, 3])
    expected = 0.25 * (0.7 * stats.norm.sf(100, 80, 4) + 0.3 * stats.norm.sf(100, 95, 8))
    expected += 0.75 * (0.2 * stats.norm.sf(100, 90, 4) + 0.8 * stats.norm.sf(100, 110, 8))
    assert population.above(100.0) == pytest.approx(expected, rel=1e-12)
    losses = population.losses()
    assert population.above(losses[0]) > 1 - 1e-12 and population.above(losses[-1]) < 1e-12


def test_bad_input_is_named():
    population = ei.Population(LOSS)
    with pytest.raises(ValueError, match="a larger loss makes a request less likely to be late"):
        ei.population_bracket(lambda loss: terminal(200 - np.asarray(loss)), population, 0.01, 0.1)
    with pytest.raises(ValueError, match="population = 3: must be a Population"):
        ei.population_bracket(terminal, 3, 1.0, 0.1)
    with pytest.raises(ValueError, match="tolerance = 0"):
        ei.population_bracket(terminal, population, 1.0, 0.1, tolerance=0)
    with pytest.raises(ValueError, match="weights: must have one at least > 0"):
        ei.Population(LOSS, 0.0)
    with pytest.raises(ValueError, match="loss = 90"):
        ei.Population(90.0)


@pytest.mark.parametrize("snr", [0.5, 2.0])
def test_finite_blocklength_rate_beside_the_converse(snr):
    """The meta-converse of the complex Gaussian channel under equal power (Polyanskiy, Poor, Verdu, theorem 41)."""
    error, missing = 1e-3, []
    for length in (50, 100, 300):
        n = 2 * length
        # Sum of squares under the code's law and under that of noise of variance 1 + s, which is non-central, too.
        threshold = stats.ncx2.ppf(1 - error, n, n / snr)
        bits = -stats.ncx2.logcdf(threshold / (1 + snr), n, n * (1 + snr) / snr) / np.log(2)
        missing.append(bits - length * ei.finite_blocklength_rate(snr, length, error))
    # What the expansion leaves out does not grow with the block.
    assert 0 < min(missing) and max(missing) < 6 and max(missing) - min(missing) < 0.5


def test_finite_blocklength_rate_broadcasts_and_refuses():
    rates = ei.finite_blocklength_rate([[1.0], [2.0]], [100, 1e9], 0.5)
    assert rates.shape == (2, 2) and rates[1, 1] == pytest.approx(np.log2(3), rel=1e-6)
    # So little power that sqrt(V / n) Q^-1(e) is above C, which it is for all s below some n e.
    assert not np.any(ei.finite_blocklength_rate([1e-6, 1e-17, 1e-300], [1, 500, 500], [1e-9, 1e-3, 1e-3]))
    for arguments in ((0.0, 100, 0.1), (1.0, 0.5, 0.1), (1.0, 100, 1.0)):
        with pytest.raises(ValueError, match=r"must be in"):
            ei.finite_blocklength_rate(*arguments)
