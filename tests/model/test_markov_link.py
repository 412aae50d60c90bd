"""Links with a memory beside linear solves, sums over all ways through the states, and a queue followed by hand."""

from bisect import bisect_left
from itertools import islice, product

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer.model import chains

CHAIN = np.array([[0.8, 0.2, 0.0], [0.3, 0.4, 0.3], [0.0, 0.5, 0.5]])
SLOT = 0.01


def solved_mean(link, carry):
    """E[X] in slots of whole `carry` over whole rates, from one equation for each state and what is left."""
    rates, count = link.rates.astype(int), link.rates.size
    matrix, right = np.eye(count * carry), np.ones(count * carry)
    for state, left in product(range(count), range(1, carry + 1)):
        row = state * carry + left - 1
        if rates[state] >= left:
            right[row] = left / rates[state]
        else:
            matrix[row, np.arange(count) * carry + left - rates[state] - 1] -= link.transition[state]
    return link.stationary @ np.linalg.solve(matrix, right).reshape(count, carry)[:, -1]


@pytest.mark.parametrize("carry", [1, 3, 17, 100])
@pytest.mark.parametrize(
    "link",
    [
        ei.MarkovLink.gilbert_elliott(5.0, 1.0, 0.1, 0.3, SLOT),
        ei.MarkovLink.gilbert_elliott(3.0, 0.0, 0.02, 0.05, SLOT),
        ei.MarkovLink([7.0, 3.0, 0.0], CHAIN, SLOT),
    ],
)
def test_mean_equals_a_linear_solve(link, carry):
    assert link.transfer(carry * SLOT).mean() == pytest.approx(SLOT * solved_mean(link, carry), rel=1e-9)


@pytest.mark.parametrize("carry", [0.5, 9.7, 14.0])
def test_law_equals_the_sum_over_all_paths(carry):
    link = ei.MarkovLink([7.0, 3.3, 0.0], CHAIN, 1.0)
    law, slots = link.transfer(carry), 8
    times = np.array([0.05, 0.3, 1.0, 1.5, 2.0, 2.75, 3.4, 5.0, 7.9])
    states = np.array(list(product(range(3), repeat=slots)))
    chance = link.stationary[states[:, 0]] * np.prod(CHAIN[states[:, :-1], states[:, 1:]], axis=1)
    done = np.cumsum(np.pad(link.rates[states], ((0, 0), (1, 0))), axis=1)
    # What times leave to be carried, linear within slots.
    whole = times.astype(int)
    carried = done[:, whole] + (times - whole) * (done[:, whole + 1] - done[:, whole])
    above = chance @ (carried < carry * (1 - 1e-12))
    np.testing.assert_allclose(law.sf(times), above, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(law.cdf(times), 1 - above, rtol=1e-12, atol=1e-14)


def test_moments_transform_and_samples_are_those_of_the_law():
    law = ei.MarkovLink([7.0, 3.3, 0.0], CHAIN, 1.0).transfer([9.7, 20.0])
    grid = np.linspace(0, 200, 400_001)
    tail = law.sf(grid[:, None])
    assert law.mean() == pytest.approx(np.trapezoid(tail, grid, axis=0), rel=1e-4)
    assert law.var() + law.mean() ** 2 == pytest.approx(np.trapezoid(2 * grid[:, None] * tail, grid, axis=0), rel=1e-4)
    assert law.mgf(-0.1) == pytest.approx(
        1 - 0.1 * np.trapezoid(np.exp(-0.1 * grid)[:, None] * tail, grid, axis=0), rel=1e-4
    )
    samples = law.sample(40_000, 1)
    # Five standard errors.
    assert (abs(samples.mean(axis=0) - law.mean()) < 5 * np.sqrt(law.var() / 40_000)).all()


def test_many_states_on_a_lattice(monkeypatch):
    link = ei.MarkovLink.from_doppler(ei.RayleighLink(10e6, 31, -100, 128.1, 0.01), 5.0, 6)
    exact = link.transfer(1.1e6)
    times = exact.mean() * np.array([0.7, 1.0, 1.5, 2.0, 3.0])
    low, high, weight = chains._on_lattice(link.rates, link.transition, link.stationary, 1.1e6 / 0.01)
    lattice = ei.TransferMixture([(low * 0.01, high * 0.01, weight)], ())
    assert lattice.mean() == pytest.approx(exact.mean(), rel=1e-5)
    # An atom is spread over the points about it, and larger for a time right beside it.
    np.testing.assert_allclose(lattice.sf(times), exact.sf(times), rtol=5e-3)
    monkeypatch.setattr(chains, "MOST_SUMS", 100)
    np.testing.assert_array_equal(
        chains.transfer_parts(link.rates, link.transition, link.stationary, 1.1e6 / 0.01)[2], weight
    )


def test_stationary_law_and_spread():
    link = ei.MarkovLink.gilbert_elliott(10.0, 2.0, 0.1, 0.3, SLOT)
    np.testing.assert_allclose(link.stationary, [0.75, 0.25])
    # Var (1 + r) / (1 - r) a slot, r = 1 - 0.1 - 0.3 the correlation from a slot to the next.
    assert link.spread() == pytest.approx(SLOT * 64 * 0.1875 * 1.6 / 0.4)
    rates = np.fromiter(islice(link.path(3), 200_000), float)
    assert rates.mean() == pytest.approx(8.0, abs=5 * np.sqrt(link.spread() / SLOT / 200_000))
    good = rates == 10
    # A mean stay of 10 slots in the good state.
    assert good.sum() / (good[:-1] & ~good[1:]).sum() == pytest.approx(10, rel=0.05)


def test_doppler_chain_crosses_levels_as_often_as_jakes_fading():
    fading = ei.RayleighLink(10e6, 31, -100, 128.1, 0.01)
    for states, doppler in ((2, 20.0), (8, 5.0), (32, 0.7)):
        link = ei.MarkovLink.from_doppler(fading, doppler, states, 0.005)
        np.testing.assert_allclose(link.stationary, np.full(states, 1 / states), rtol=1e-9)
        assert link.mean_rate() == pytest.approx(fading.mean_rate(), rel=1e-9)
        assert (np.diff(link.rates) > 0).all()
        levels = -np.log1p(-np.arange(1, states) / states)
        rate = np.sqrt(2 * np.pi * levels) * doppler * np.exp(-levels)
        np.testing.assert_allclose(np.diag(link.transition, 1) / states / 0.005, rate, rtol=1e-9)
    # The second of two states by quadrature: the mean rate above the median gain.
    gain = np.linspace(np.log(2), 60, 2_000_001)
    mean = 2 * np.trapezoid(np.exp(-gain) * 10e6 * np.log2(1 + fading.snr * gain), gain)
    assert ei.MarkovLink.from_doppler(fading, 1.0, 2).rates[1] == pytest.approx(mean, rel=1e-8)


def followed(link, bits, constant, rate, jobs, seed):
    """Sojourn times of a constant stage and a transfer, by the bits that the slots have carried."""
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, jobs)).tolist()
    rates = list(islice(link.path(seed), int(arrivals[-1] / link.slot * 1.5) + 10_000))
    done = np.concatenate([[0.0], np.cumsum(rates) * link.slot]).tolist()
    free, left, sojourn = 0.0, 0.0, []
    for arrival in arrivals:
        left = max(arrival, left) + constant
        start = max(left, free)
        now = int(start / link.slot)
        needed = done[now] + rates[now] * (start - now * link.slot) + bits
        at = bisect_left(done, needed) - 1
        free = at * link.slot + (needed - done[at]) / rates[at]
        sojourn.append(free - arrival)
    return np.array(sojourn[jobs // 10 :])


def test_simulation_carries_the_state_on():
    link = ei.MarkovLink.gilbert_elliott(10e6, 0.0, 0.1, 0.2, 0.01)
    pipeline = ei.Pipeline([ei.Constant(0.02, "encode"), ei.Transfer(2e5, link, "uplink")])
    by_hand = [followed(link, 2e5, 0.02, 15.0, 5000, seed) for seed in range(12)]
    shares = np.array([[(times > deadline).mean() for times in by_hand] for deadline in (0.1, 0.3)])
    # 4.4 of Student's t at 11 degrees of freedom: one comparison in a thousand seeds.
    half = 4.4 * shares.std(axis=1, ddof=1) / np.sqrt(len(by_hand))
    for mode in ("table", "wall_clock"):
        options = {"jobs": 5000, "replications": 16, "rng": 1, "confidence": 0.999}
        run = ei.simulate(pipeline, 15.0, [0.1, 0.3], link=mode, **options)
        assert (run.violation.low[:, -1] < shares.mean(axis=1) + half).all()
        assert (run.violation.high[:, -1] > shares.mean(axis=1) - half).all()
    # Independent transfers would be another queue: each as likely to begin in the bad state, not behind one that ended.
    apart = ei.Pipeline([ei.Constant(0.02, "encode"), ei.Measured(link.transfer(2e5).sample(20_000, 1), "uplink")])
    lone = ei.simulate(apart, 15.0, [0.1, 0.3], jobs=5000, replications=16, rng=1)
    assert run.violation.high[1, -1] < lone.violation.low[1, -1] / 2


def test_one_state_is_a_constant_link():
    link = ei.MarkovLink([1e6], [[1.0]], 0.01)
    assert link.transfer(7.3e4).mean() == pytest.approx(0.073) and link.transfer(7.3e4).var() == 0
    assert link.spread() == 0
    runs = [
        ei.simulate(ei.Pipeline([ei.Transfer(5e5, one, "x")]), 1.2, 1.0, jobs=20_000, replications=16, rng=2)
        for one in (link, ei.ConstantLink(1e6))
    ]
    assert runs[0].violation.low < runs[1].violation.high and runs[1].violation.low < runs[0].violation.high
    assert abs(runs[0].utilisation.value - 0.6) < 0.01


def test_load_is_that_of_bits():
    link = ei.MarkovLink.gilbert_elliott(10e6, 0.0, 0.1, 0.1, 0.01)
    pipeline = ei.Pipeline([ei.Transfer(1e5, link, "x")])
    # E[X] begins half the time in the bad state, where 10 slots pass: queued transfers mostly do not.
    assert ei.latency(pipeline).total > 1 / 45
    run = ei.simulate(pipeline, 45.0, 1.0, jobs=2000, replications=16, rng=1)
    assert 0.8 < run.utilisation.value[0] < 1
    with pytest.raises(ei.UnstableError, match=r"x 1\.02"):
        ei.simulate(pipeline, 51.0, 1.0, jobs=100)


def test_equal_seeds_give_equal_bits_for_any_threads():
    link = ei.MarkovLink.gilbert_elliott(10e6, 0.0, 0.1, 0.1, 0.01)
    pipeline = ei.Pipeline([ei.Transfer([1e5, 2e5], link, "x")])
    one, two = (ei.simulate(pipeline, 10.0, 0.1, jobs=500, replications=40, rng=7, threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one.mean.value, two.mean.value)
    assert pipeline.element(1)[0].link is link


PATH = ei.Pipeline([ei.Transfer(1e5, ei.MarkovLink.gilbert_elliott(1e7, 0.0, 0.1, 0.1, 0.01), "radio")])


@pytest.mark.parametrize(
    "call",
    [
        lambda: ei.violation_bracket(PATH, 1.0, 1.0),
        lambda: ei.violation_bracket(PATH, ei.Periodic(1.0), 1.0),
        lambda: ei.violation_bound(PATH, 1.0, 1.0, "union"),
        lambda: ei.rare_violation(PATH, 1.0, 1.0),
        lambda: ei.deadline_at(PATH, 1.0, 0.1),
        lambda: ei.max_arrival_rate(PATH, 1.0, 0.1, method="sampling"),
        lambda: ei.min_bandwidth(PATH, 1.0, 1.0, 0.1),
        lambda: ei.mean_sojourn(PATH, 1.0),
    ],
)
def test_what_is_proved_for_independent_services_refuses_it(call):
    with pytest.raises(ValueError, match=r"stage 'radio' goes over a MarkovLink.*`simulate` takes it"):
        call()


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: ei.MarkovLink([1.0, -1.0], np.eye(2), 0.1), r"rates\[1\] = -1"),
        (lambda: ei.MarkovLink([0.0, 0.0], np.full((2, 2), 0.5), 0.1), "one at least > 0"),
        (lambda: ei.MarkovLink([1.0, 2.0], np.eye(2), 0.1), "every state be reached"),
        (lambda: ei.MarkovLink([1.0, 2.0], [[0.5, 0.4], [0.5, 0.5]], 0.1), "add up to 1"),
        (lambda: ei.MarkovLink([1.0, 2.0], [[1.0]], 0.1), r"shape \(1, 1\)"),
        (lambda: ei.MarkovLink([1.0], [[1.0]], 0.0), "slot = 0"),
        (lambda: ei.MarkovLink([1e200], [[1.0]], 1.0), r"rates\[0\] = 1e\+200: must be in \[0, 1e\+60\]"),
        (lambda: ei.MarkovLink.gilbert_elliott(1.0, 0.0, 0.0, 0.1, 0.1), "good_to_bad = 0"),
        (lambda: ei.MarkovLink.from_doppler(ei.RayleighLink.from_snr(1.0, 1e6, 0.01), 100.0), "slot = 0.01: must be"),
        (lambda: ei.MarkovLink.from_doppler(ei.ConstantLink(1.0), 1.0), "of Rayleigh fading"),
    ],
)
def test_bad_input_is_named(build, text):
    with pytest.raises(ValueError, match=text):
        build()


def test_a_law_that_does_not_end_is_refused(monkeypatch):
    monkeypatch.setattr(chains, "MOST_SLOTS", 100)
    with pytest.raises(ValueError, match="bits = 9: transition: more than 1e-20 is left after 100 slots"):
        ei.MarkovLink.gilbert_elliott(1.0, 0.0, 0.5, 0.01, 1.0).transfer(9.0)
