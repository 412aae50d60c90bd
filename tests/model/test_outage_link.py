"""Blocks repeated until they get through beside SciPy's negative binomial, a queue followed by hand, other laws."""

import pickle

import numpy as np
import pytest
from scipy import integrate, special, stats

import edgeinfer as ei

LINK = ei.OutageLink(10e6, 0.2, 0.01)


@pytest.mark.parametrize("blocks", [1, 2, 7, 300])
@pytest.mark.parametrize("outage", [0.0, 2.0**-20, 0.2, 0.9])
def test_law_is_the_negative_binomial(blocks, outage):
    law = ei.OutageLink(10e6, outage, 0.01).transfer(blocks * 1e5)
    rival = stats.nbinom(blocks, 1 - outage)
    slots = np.unique(np.concatenate([blocks - 1 + np.arange(8), blocks / (1 - outage) * np.array([0.9, 1, 1.5, 3])]))
    slots = np.floor(slots[slots >= blocks - 1])
    # SciPy's incomplete beta function is right to some 1e-12.
    np.testing.assert_allclose(law.sf((slots + 0.5) * 0.01), rival.sf(slots - blocks), rtol=1e-10, atol=1e-280)
    np.testing.assert_allclose(law.cdf((slots + 0.5) * 0.01), rival.cdf(slots - blocks), rtol=1e-10, atol=1e-280)
    assert law.mean() == pytest.approx(0.01 * (blocks + rival.mean()), rel=1e-13)
    assert law.var() == pytest.approx(1e-4 * rival.var(), rel=1e-11, abs=1e-22)
    for theta in (-100.0 / blocks, min(-50 * np.log(max(outage, 1e-6)), 100 / blocks)):
        power = np.exp(theta * 0.01)
        log = blocks * (np.log1p(-outage) + np.log(power) - np.log1p(-outage * power))
        assert np.log(law.mgf(theta)) == pytest.approx(log, rel=1e-12, abs=1e-12)
    assert outage == 0 or law.mgf(1.001 * -np.log(outage) / 0.01) == np.inf


def test_last_block_is_filled_up_and_rounding_makes_none():
    np.testing.assert_allclose(LINK.transfer([1.0, 1e5, 1.000001e5, 3e5]).mean(), 0.0125 * np.array([1, 1, 2, 3]))
    # 0.1 + 0.2 is above 0.3 as doubles are.
    assert ei.OutageLink(0.3, 0.0, 1.0).transfer(0.1 + 0.2).mean() == 1.0
    family = ei.OutageLink([10e6, 20e6], [[0.0], [0.5]], 0.01).transfer(2e5)
    np.testing.assert_allclose(family.mean(), [[0.02, 0.01], [0.04, 0.02]])


@pytest.mark.parametrize("fading", [ei.Rayleigh(), ei.Nakagami([0.5, 3.0]), ei.Rician(4.0), ei.BestOf(5)])
def test_outage_of_a_fading_channel(fading):
    channel = ei.FadingLink.from_snr(2.0, 10e6, 0.01, control_overhead=0.1, fading=fading)
    link = ei.OutageLink.from_rate(channel, 12e6)
    # Rates of independent slots: 4.4 standard errors of 1e5 of them, a chance of 1e-5.
    for index in np.ndindex(link.shape):
        one = ei.FadingLink.from_snr(
            2.0, 10e6, 0.01, 0.1, fading=ei.Nakagami(fading.m[index]) if link.shape else fading
        )
        outage = np.asarray(link.outage)[index]
        assert abs((one.sample_rate(100_000, 1) < 12e6).mean() - outage) < 4.4 * np.sqrt(outage / 100_000)
    back = ei.OutageLink.from_outage(channel, link.outage)
    np.testing.assert_allclose(back.rate, 12e6, rtol=1e-11)


def test_outages_far_out():
    """P(g <= x) ~ (1 + K) e^-K x of Rician fading, and s x / ln 2 = R / B, where both are small."""
    channel = ei.FadingLink.from_snr(2.0, 10e6, 0.01, fading=ei.Rician([1e-3, 1.0, 10.0]))
    ratio = 10e6 / np.log(2) * 2.0 * np.exp(channel.fading.k_factor) / (1 + channel.fading.k_factor)
    for outage in (1e-100, 1e-160, 1e-240):
        np.testing.assert_allclose(ei.OutageLink.from_outage(channel, outage).rate / outage, ratio, rtol=1e-11)


def test_best_rate():
    channel = ei.RayleighLink.from_snr([1e-2, 2.0, 1e4], 10e6, 0.01)
    best = ei.OutageLink.max_throughput(channel)
    np.testing.assert_allclose(best.rate, 10e6 * special.lambertw(channel.snr).real / np.log(2), rtol=1e-12)
    for fading in (ei.Nakagami(0.5), ei.Rician(6.0), ei.MaximalRatio(4), ei.BestOf(20, ei.Nakagami(0.7))):
        channel = ei.FadingLink.from_snr(3.0, 1.0, 0.01, fading=fading)
        best = ei.OutageLink.max_throughput(channel)
        rates = best.rate * np.linspace(0.05, 4, 400)
        assert best.mean_rate() >= ei.OutageLink.from_rate(channel, rates).mean_rate().max()
        # Near the best rate the throughput is flat.
        near = ei.OutageLink.from_rate(channel, best.rate * np.array([0.999, 1.001])).mean_rate()
        assert (near < best.mean_rate()).all() and (near > best.mean_rate() * (1 - 1e-4)).all()


def followed(link, bits, constant, rate, jobs, seed):
    """Sojourn times of a transfer and a constant stage, slot by slot."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate, jobs))
    slots = int(np.ceil(bits / (link.rate * link.slot))) + rng.negative_binomial(
        np.ceil(bits / (link.rate * link.slot)), 1 - link.outage, jobs
    )
    free = left = 0.0
    times = np.empty(jobs)
    for i, (arrival, count) in enumerate(zip(arrivals.tolist(), slots.tolist(), strict=True)):
        free = max(free, arrival) + count * link.slot
        left = max(left, free) + constant
        times[i] = left - arrival
    return times[jobs // 10 :]


PIPELINE = ei.Pipeline([ei.Transfer(4.5e5, LINK, "uplink"), ei.Constant(0.05, "gpu")])


def test_simulation_sampling_and_bracket_agree_with_a_queue_followed_by_hand():
    by_hand = [followed(LINK, 4.5e5, 0.05, 10.0, 4000, seed) for seed in range(12)]
    shares = np.array([[(times > deadline).mean() for times in by_hand] for deadline in (0.15, 0.25)])
    # 4.4 of Student's t at 11 degrees of freedom: one comparison in a thousand seeds.
    half = 4.4 * shares.std(axis=1, ddof=1) / np.sqrt(len(by_hand))
    bracket = ei.violation_bracket(PIPELINE, 10.0, [0.15, 0.25])
    assert (bracket.lower < shares.mean(axis=1) + half).all() and (bracket.upper > shares.mean(axis=1) - half).all()
    for mode in ("table", "slots", "wall_clock"):
        run = ei.simulate(PIPELINE, 10.0, [0.15, 0.25], jobs=5000, replications=16, rng=1, confidence=0.999, link=mode)
        assert (run.violation.low[:, -1] < bracket.upper).all() and (run.violation.high[:, -1] > bracket.lower).all()
    deadlines = np.array([0.6, 1.2])
    bracket = ei.violation_bracket(PIPELINE, 10.0, deadlines)
    rare = ei.rare_violation(PIPELINE, 10.0, deadlines, rng=1, relative_error=0.02, confidence=0.999)
    assert (rare.low < bracket.upper).all() and (rare.high > bracket.lower).all()
    assert (bracket.upper / bracket.lower < 1.5).all() and bracket.upper[1] < 1e-6
    for method in ("union", "lundberg", "corrected"):
        assert (ei.violation_bound(PIPELINE, 10.0, deadlines, method) > bracket.lower).all()


def test_alone_it_is_an_m_g_1_queue():
    alone, rate = PIPELINE[:1], 10.0
    law = LINK.transfer(4.5e5)
    mean = rate * (law.var() + law.mean() ** 2) / 2 / (1 - rate * law.mean()) + law.mean()
    assert ei.mean_sojourn(alone, rate) == pytest.approx(mean, rel=1e-12)
    tandem = ei.mean_sojourn(alone, rate, service="tandem")
    assert tandem.lower == tandem.upper == pytest.approx(mean, rel=1e-12)
    # Not where a sojourn without a wait may end, at whole slots: there both sides are in the bracket.
    grid = np.linspace(0.0025, 3.0025, 601)
    bracket = ei.violation_bracket(alone, rate, grid)
    # The mean is the integral of the tail, which falls from a point to the next.
    assert integrate.trapezoid(bracket.lower, grid) - 0.005 < mean < integrate.trapezoid(bracket.upper, grid) + 0.0075
    assert (bracket.upper[bracket.upper > 1e-9] / bracket.lower[bracket.upper > 1e-9]).max() < 1.05


def test_wherever_a_link_may_be():
    deadline = ei.deadline_at(PIPELINE, 10.0, 1e-4, tolerance=0.1)
    assert ei.violation_bracket(PIPELINE, 10.0, deadline).upper <= 1e-4
    assert ei.max_arrival_rate(PIPELINE, deadline, 1e-4, tolerance=0.1) > 8.0
    with pytest.raises(ValueError, match=r"'uplink' goes over a link that has no bandwidth to choose, OutageLink\("):
        ei.min_bandwidth(PIPELINE, 10.0, deadline, 1e-4)
    # Without outages it is a constant.
    sure = ei.Pipeline([ei.Transfer(4.5e5, ei.OutageLink(10e6, 0.0, 0.01), "uplink"), ei.Constant(0.05, "gpu")])
    constant = ei.Pipeline([ei.Constant(0.05, "uplink"), ei.Constant(0.05, "gpu")])
    ends = [ei.violation_bracket(pipeline, 10.0, [0.15, 0.4]) for pipeline in (sure, constant)]
    np.testing.assert_allclose(ends[0].lower, ends[1].lower, rtol=0.02)
    np.testing.assert_allclose(ends[0].upper, ends[1].upper, rtol=0.02)
    assert sure.moments()[1][0] == 0
    # Rounds of a session, a delay, renewal arrivals, a family.
    session = ei.Pipeline([ei.Session(PIPELINE.stages, [0.7, 0.3], "rounds"), ei.Delay(PIPELINE[0])])
    ends = ei.violation_bracket(session, 3.0, [0.5, 1.0])
    assert (ends.upper / ends.lower < 1.1).all()
    run = ei.simulate(session, 3.0, [0.5, 1.0], jobs=5000, replications=16, rng=2, confidence=0.999)
    assert (run.violation.low[:, -1] < ends.upper).all() and (run.violation.high[:, -1] > ends.lower).all()
    assert (
        ei.violation_bracket(PIPELINE, ei.Periodic(0.1), 0.25).upper < ei.violation_bracket(PIPELINE, 10.0, 0.25).lower
    )
    family = ei.Pipeline([ei.Transfer(4.5e5, ei.OutageLink([10e6, 20e6], 0.2, 0.01), "up"), ei.Constant(0.05, "gpu")])
    assert ei.violation_bracket(family, 10.0, 0.25).upper[0] == ei.violation_bracket(PIPELINE, 10.0, 0.25).upper


def test_in_a_cell():
    pipeline = ei.Pipeline([*PIPELINE, ei.Transfer(1e5, LINK, "downlink")])
    cell = ei.Cell(ei.Terminals(4, 1.0, pipeline, edge="gpu"), ei.EdgeNode())
    run = ei.simulate_cell(cell, 0.3, jobs=20_000, rng=1)["terminals"]
    behind = ei.Cell(ei.Terminals(4, 1.0, pipeline[1:], edge="gpu"), ei.EdgeNode())
    ends = ei.cell_bracket(behind, 0.12)
    found = ei.simulate_cell(behind, 0.12, jobs=20_000, rng=2, confidence=0.999)["terminals"].violation
    assert found.low[-1] < ends.upper and found.high[-1] > ends.lower and 0 < run.violation.value[-1] < 0.2


def test_identity_and_bad_values():
    twin = pickle.loads(pickle.dumps(LINK))
    assert twin == LINK and hash(twin) == hash(LINK) and ei.OutageLink(10e6, 0.3, 0.01) != LINK
    law = pickle.loads(pickle.dumps(LINK.transfer([1e5, 3e5])))
    np.testing.assert_array_equal(law.sf(0.035), LINK.transfer([1e5, 3e5]).sf(0.035))
    for values, message in (
        ((0.0, 0.1, 0.01), r"rate = 0: must be in \(0"),
        ((1e6, 1.5, 0.01), r"outage = 1.5: must be in \[0, 1\]"),
        ((1e6, 0.1, -1.0), "slot = -1: must"),
    ):
        with pytest.raises(ValueError, match=message):
            ei.OutageLink(*values)
    with pytest.raises(ValueError, match=r"bits = 1e\+09: 10000 blocks at outage = 0.995: must be"):
        ei.OutageLink(10e6, 0.995, 0.01).transfer(1e9)
    with pytest.raises(ValueError, match="link = 3: must be a FadingLink"):
        ei.OutageLink.from_rate(3, 1.0)
    with pytest.raises(ValueError, match=r"outage = 0: must be in \[1e-250, 1\)"):
        ei.OutageLink.from_outage(ei.RayleighLink.from_snr(1.0, 1e6, 0.01), 0.0)
    weak = ei.FadingLink.from_snr(1.0, 1e6, 0.01, fading=ei.Nakagami([0.5, 1.0]))
    with pytest.raises(ValueError, match=r"outage = 1e-160: must be at least 3.*e-151 of Nakagami"):
        ei.OutageLink.from_outage(weak, 1e-160)


def test_population_in_deep_shadow_is_unstable():
    def terminal(loss):
        channel = ei.RayleighLink(10e6, 23, -95, loss, 0.01)
        return ei.Pipeline([ei.Transfer(1e6, ei.OutageLink.from_rate(channel, 5e6), "uplink")])

    street = ei.path_loss.power_law(400.0, 3.5e9, exponent=3.2, shadowing=8.0)
    found = ei.population_bracket(terminal, ei.Population(street), 1.0, 1.0, tolerance=0.3)
    assert 0 < found.unstable < found.lower < found.upper < 1
