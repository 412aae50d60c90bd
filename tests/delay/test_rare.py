import os
import warnings

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.optimize import minimize_scalar
from scipy.stats import ncx2

import edgeinfer as ei

FULL = os.environ.get("EDGEINFER_FUZZ") == "1"


def tail(rates, deadline):
    """P(sum of independent exponentials > deadline): a chain through the stages, by its matrix exponential."""
    generator = np.diag(-np.asarray(rates)) + np.diag(rates[:-1], 1)
    return expm(generator * deadline)[0].sum()


def deadline_of(rates, probability):
    low, high = 0.0, 60 * len(rates) / min(rates)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(rates, middle) > probability else (low, middle)
    return high


def tandem(stages, kind, load):
    """Service rates of a tandem, and the arrival rate with this load of the slowest stage."""
    step = {"equal": 0.0, "near": 0.03, "apart": 0.7}[kind]
    services = 1 + step * np.arange(stages)
    return (services if stages % 2 else services[::-1]), load


def coverage(stages, kind, load, probability, relative_error, runs):
    services, rate = tandem(stages, kind, load)
    # Jackson: the sojourn times of a job are independent and exponential with rates mu - lambda.
    rates = services - rate
    deadline = deadline_of(rates, probability)
    truth = tail(rates, deadline)
    pipeline = ei.Pipeline([ei.Exponential(1 / mu, f"s{k}") for k, mu in enumerate(services)])
    answers = [
        ei.rare_violation(pipeline, rate, deadline, relative_error=relative_error, rng=seed) for seed in range(runs)
    ]
    return sum(answer.low <= truth <= answer.high for answer in answers)


@pytest.mark.parametrize("stages", [2, 3, 5])
@pytest.mark.parametrize("kind", ["equal", "near", "apart"])
@pytest.mark.parametrize(("load", "probability"), [(0.02, 1e-10), (0.02, 1e-2), (0.4, 1e-6)])
def test_exponential_tandems(stages, kind, load, probability):
    # Fewer than 32 of 40 with probability 2e-4 at a coverage of 95 %, 27 times: 0.5 %; the seeds are fixed.
    assert coverage(stages, kind, load, probability, 0.1, 40) >= 32


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="EDGEINFER_FUZZ=1")
@pytest.mark.parametrize("stages", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["equal", "near", "apart"])
@pytest.mark.parametrize("load", [0.02, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("probability", [1e-2, 1e-5, 1e-10])
def test_exponential_tandems_cover(stages, kind, load, probability):
    # Fewer than 178 of 200 with probability 4e-4 at a coverage of 95 %, 144 times: 6 %.
    assert coverage(stages, kind, load, probability, 0.05, 200) >= 178


@pytest.mark.parametrize("most", [1, 10, 63, 1000])
def test_max_replications_is_kept_and_said(most):
    pipeline = ei.Pipeline([ei.Exponential(0.5, "a"), ei.Exponential(0.5, "b")])
    with pytest.warns(ei.AccuracyWarning, match="replications"):
        answer = ei.rare_violation(pipeline, 0.05, 12.0, rng=1, max_replications=most)
    assert answer.replications == most
    assert most > 1 or (answer.low, answer.high) == (0, 1)


def test_few_replications_warn_at_any_relative_error():
    pipeline = ei.Pipeline([ei.Exponential(0.5, "a"), ei.Exponential(0.5, "b")])
    with pytest.warns(ei.AccuracyWarning):
        ei.rare_violation(pipeline, 0.05, 12.0, relative_error=0.99, rng=1, max_replications=20)


def test_near_the_end_of_doubles():
    # M/M/1: P(W > T) = e^{-1.95 T}.
    queue = ei.Pipeline([ei.Exponential(0.5, "a")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = ei.rare_violation(queue, 0.05, 360.0, relative_error=0.02, rng=1)
    assert abs(answer.value / np.exp(-1.95 * 360) - 1) < 4 * 0.02
    with pytest.warns(ei.AccuracyWarning, match="normal range"):
        answer = ei.rare_violation(queue, 0.05, 2000.0, rng=1)
    assert answer.value == answer.low == 0 < answer.high


def test_paths_that_climb_nowhere():
    """Requests so far apart that none waits: a measured time and a transfer add up. Replications without a weight had
    passed for an answer: 0, as what underflows."""
    times = np.append(np.full(199, 0.1), 5.0)
    link = ei.FadingLink(1e6, 20, -100, 99, 0.01, fading=ei.MaximalRatio(7, ei.Rayleigh()))
    transfer = ei.Transfer(1e7, link, "downlink")
    pipeline = ei.Pipeline([ei.Measured(times, "edge"), transfer])
    law, grid = link.transfer(transfer.bits), np.linspace(1, 2, 4001) * transfer.mean()
    for share in (1e-3, 1e-6, 1e-10):
        late = float(grid[np.argmax(law.sf(grid) < share)])
        exact = float(law.sf(late)) / 200
        estimate = ei.rare_violation(
            pipeline, ei.Periodic(60.0), late + 5, rng=1, relative_error=0.05, confidence=0.9999
        )
        assert estimate.low < exact < estimate.high


def test_what_never_happens_ends_the_search():
    """Evenly spaced requests that are done before the next one comes are never late."""
    with pytest.warns(ei.AccuracyWarning, match="the probability is 0"):
        estimate = ei.rare_violation(ei.Pipeline([ei.Constant(0.1, "service")]), ei.Periodic(1.0), 0.5, rng=1)
    assert estimate.value == 0 and estimate.replications == 1


@pytest.mark.parametrize("deadline", [0.0, 1e-3, 0.59])
def test_certain_violations(deadline):
    node = ei.Node("unit", 1.0)
    pipeline = ei.Pipeline([ei.Compute(0.0, node, "none"), ei.Compute(0.6, node, "a"), ei.Exponential(0.1, "b")])
    assert ei.rare_violation(pipeline, 0.5, deadline, rng=1).value == pytest.approx(1, abs=1e-12)


def test_every_sojourn_takes_longer_than_nothing():
    """Transfers that are never as long as the time between requests, to within what their law knows."""
    assert ei.rare_violation(rician_transfer()[0], ei.Periodic(3.0), 0.0, rng=1).value == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_deterministic_bottleneck_among_random_stages(place):
    # Against plain simulation: 64 replications give a relative standard error of a few per cent.
    node = ei.Node("unit", 1.0)
    link = ei.RayleighLink(10e6, 1.0, 0.0, 0.0, 0.5)
    stages = [ei.Exponential(0.3, "a"), ei.Transfer(5e6, link, "b")]
    stages.insert(place, ei.Compute(0.7, node, "c"))
    pipeline = ei.Pipeline(stages)
    plain = ei.simulate(pipeline, 1.0, 7.0, jobs=20_000, replications=64, rng=1).violation[-1]
    rare = ei.rare_violation(pipeline, 1.0, 7.0, relative_error=0.02, rng=1)
    spread = np.hypot(plain.high - plain.value, rare.high - rare.value) / 1.96
    assert abs(plain.value - rare.value) < 4 * spread and plain.value > 1e-4


def test_measured_times_in_runs_of_neighbours():
    # More samples than are tilted one by one, and two stages of one law.
    times = np.random.default_rng(1).gamma(3.0, 0.15, 40_000)
    pipeline = ei.Pipeline([ei.Measured(times, "a"), ei.Measured(times, "b")])
    plain = ei.simulate(pipeline, 1.0, 5.0, jobs=20_000, replications=64, rng=1).violation[-1]
    rare = ei.rare_violation(pipeline, 1.0, 5.0, relative_error=0.02, rng=1)
    spread = np.hypot(plain.high - plain.value, rare.high - rare.value) / 1.96
    assert abs(plain.value - rare.value) < 4 * spread and plain.value > 1e-4


def rician_sf(snr, carry, position):
    """P(a transfer takes longer than `position` slots), Rician fading of K = 3.

    The Laplace transform of the sum of rates inverted by the trapezoidal rule along the line through the saddle point.
    """
    nodes, weights = np.polynomial.legendre.leggauss(24)
    edges = np.log2(1 + 60 * snr) * np.linspace(0, 1, 41) ** 2
    rate = (edges[:-1, None] + np.diff(edges)[:, None] / 2 * (1 + nodes)).ravel()
    density = ncx2.pdf((2**rate - 1) / snr * 8, 2, 6) * 8 * np.log(2) * 2**rate / snr
    mass = (np.diff(edges)[:, None] / 2 * weights).ravel() * density
    whole, part = divmod(position, 1)

    def log_transform(z):
        return whole * np.log(np.exp(-z * rate) @ mass) + np.log(np.exp(-z * part * rate) @ mass) + z * carry

    saddle = minimize_scalar(lambda z: log_transform(z) - np.log(z), bounds=(0.1, 1000), method="bounded").x
    peak = log_transform(saddle)
    # The nearest alias is below e^-40.
    step = 2 * np.pi * saddle / (40 + abs(peak))
    line = saddle + 1j * step * np.arange(400)
    terms = np.real([np.exp(log_transform(z) - peak) / z for z in line])
    return np.exp(peak) * step / np.pi * (terms.sum() - terms[0] / 2)


def rician_transfer():
    link = ei.FadingLink.from_snr(5.0, 1e6, 0.1, fading=ei.Rician(3.0))
    return ei.Pipeline([ei.Transfer(link.mean_rate(), link, "t")]), link.mean_rate() / 1e5


def test_single_transfers_that_no_table_has():
    """Requests ten times as far apart as they take: only their own transfer makes them late, 40 slots for 10."""
    pipeline, carry = rician_transfer()
    truth = rician_sf(5.0, carry, 40.25)
    assert 1e-42 < truth < 1e-40
    answers = [
        ei.rare_violation(pipeline, ei.Periodic(10.0), 4.025, relative_error=0.1, rng=seed) for seed in range(20)
    ]
    # Fewer than 15 of 20 with probability 3e-4 at a coverage of 95 %; the seeds are fixed.
    assert sum(answer.low <= truth <= answer.high for answer in answers) >= 15


@pytest.mark.parametrize("process", [ei.Periodic(1 / 0.6), ei.Erlang(0.5, 100)], ids=["periodic", "erlang"])
@pytest.mark.parametrize("stages", [1, 2])
def test_even_arrivals_between_the_ends_of_the_bracket(process, stages):
    pipeline = rician_transfer()[0]
    if stages == 2:
        pipeline = ei.Pipeline([*pipeline.stages, ei.Constant(0.7, "c")])
    late = 3.5 * pipeline.moments()[0].sum()
    bracket = ei.violation_bracket(pipeline, process, late)
    answer = ei.rare_violation(pipeline, process, late, relative_error=0.1, rng=1, confidence=0.9999)
    assert bracket.lower <= answer.high and answer.low <= bracket.upper and answer.value < 1e-20


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="EDGEINFER_FUZZ=1")
@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("others", [(), ("constant",), ("measured",), ("link",), ("link", "constant")])
def test_even_arrivals_cover(load, others):
    """Intervals of 100 seeds against one of a hundred times the work."""
    pipeline = rician_transfer()[0]
    link = ei.FadingLink.from_snr(5.0, 1e6, 0.1, fading=ei.Nakagami(2.0))
    more = {
        "constant": ei.Constant(0.7, "c"),
        "measured": ei.Measured(np.random.default_rng(0).gamma(20, 0.02, 2000), "m"),
        "link": ei.Transfer(0.8 * link.mean_rate(), link, "l"),
    }
    pipeline = ei.Pipeline([*pipeline.stages, *(more[name] for name in others)])
    means = pipeline.moments()[0]
    process, late = ei.Periodic(means.max() / load), 3 * means.sum()
    truth = ei.rare_violation(pipeline, process, late, relative_error=0.01, rng=1000).value
    answers = [ei.rare_violation(pipeline, process, late, relative_error=0.1, rng=seed) for seed in range(100)]
    # Fewer than 84 of 100 with probability 2e-5 at a coverage of 95 %, 15 times.
    assert sum(answer.low <= truth <= answer.high for answer in answers) >= 84


def test_transfers_too_rare_to_be_sampled_are_told():
    """Fading so narrow that twice the mean time asks for rates below the least that the law has."""
    link = ei.FadingLink.from_snr(3.0, 1e6, 0.1, fading=ei.Nakagami(100.0))
    pipeline = ei.Pipeline([ei.Transfer(0.15 * link.mean_rate(), link, "t")])
    with pytest.warns(ei.AccuracyWarning, match="'t' that are rarer than"):
        ei.rare_violation(pipeline, ei.Periodic(10.0), 0.4, relative_error=0.3, rng=1, max_replications=1e4)
    # By Poisson arrivals, many requests make one late.
    pipeline, _ = rician_transfer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ei.rare_violation(pipeline, 0.6, 40.0, relative_error=0.3, rng=1)


@pytest.mark.parametrize("process", [ei.Poisson(0.2), ei.MarkovModulated([0.1, 0.4], [[-0.1, 0.1], [0.2, -0.2]])])
def test_batches_as_simulated(process):
    pipeline = ei.Pipeline([ei.Exponential(1.0, "a"), ei.Constant(0.7, "b")])
    batches, times = ei.Batch(process, [0.5, 0.3, 0.2]), np.array([3.0, 9.0])
    plain = ei.simulate(pipeline, batches, times, jobs=20_000, replications=32, rng=1).violation[..., -1]
    rare = ei.rare_violation(pipeline, batches, times, relative_error=0.02, rng=1)
    spread = np.hypot(plain.high - plain.value, rare.high - rare.value) / 1.96
    # Four standard errors, four times: a chance of 3e-4, and the seeds are fixed.
    assert (np.abs(plain.value - rare.value) < 4 * spread).all() and (plain.value > 1e-3).all()
    with pytest.raises(ValueError, match="batches of 5000 requests: must be at most 4096"):
        ei.rare_violation(pipeline, ei.Batch(process, 5000), 1.0)


@pytest.mark.parametrize("process", [1.0, ei.Hyperexponential(1.0, 3.0)], ids=["poisson", "hyperexponential"])
def test_few_replications_that_are_all_late_are_no_certainty(process):
    """99 of 100 service times are longer than the deadline; the others are late where they wait, one in ten at most."""
    times = np.append(np.full(99, 0.027), 0.01)
    pipeline = ei.Pipeline([ei.Measured(times, "measured")])
    for seed in range(5):
        # An alarm of the five with probability 5e-6.
        answer = ei.rare_violation(pipeline, process, 0.02, relative_error=0.1, rng=seed, confidence=1 - 1e-6)
        assert answer.low <= 0.991 and answer.high >= 0.99


def test_a_narrow_link_behind_frames_ends_though_no_drawn_transfer_takes_longer_than_a_frame():
    link = ei.FadingLink.from_snr(2033.0, 1e6, 0.01, fading=ei.Nakagami(39.2))
    stage = ei.Transfer(40 * link.mean_rate() * link.slot, link, "link")
    pipeline, arrivals = ei.Pipeline([stage]), ei.Periodic(stage.mean() / 0.97)
    deadline = 1.02 * stage.mean()
    bracket = ei.violation_bracket(pipeline, arrivals, deadline)
    found = ei.rare_violation(pipeline, arrivals, deadline, relative_error=0.05, rng=1)
    # Four standard errors of 5 %.
    assert 0.8 * bracket.lower < found.value < 1.2 * bracket.upper


@pytest.mark.parametrize("interval", [1.3, 1.185])
def test_single_services_behind_frames_that_hardly_meet(interval):
    # The longest of 148 stands alone, so that a tilt that is steep for the others draws nothing but it.
    times = np.append(np.linspace(0.9, 1.125, 147), 1.19)
    pipeline, deadlines = ei.Pipeline([ei.Measured(times, "head")]), np.array([1.05, 1.11, 1.122, 1.15])
    exact = (times > deadlines[:, np.newaxis]).mean(axis=1)
    bracket = ei.violation_bracket(pipeline, ei.Periodic(interval), deadlines)
    for seed in range(4):
        # 32 intervals: one fails with probability 4e-4 at most.
        sampled = ei.rare_violation(
            pipeline, ei.Periodic(interval), deadlines, rng=seed, relative_error=0.02, confidence=1 - 1e-5
        )
        assert (sampled.high >= bracket.lower).all() and (sampled.low <= bracket.upper).all()
        assert interval < 1.19 or ((sampled.low <= exact) & (exact <= sampled.high)).all()
