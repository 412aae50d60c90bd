import os
import warnings

import numpy as np
import pytest
from scipy.linalg import expm

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


def test_what_never_happens_ends_the_search():
    """Evenly spaced requests that are done before the next one comes are never late."""
    with pytest.warns(ei.AccuracyWarning, match="the probability is 0"):
        estimate = ei.rare_violation(ei.Pipeline([ei.Constant(0.1, "service")]), ei.Periodic(1.0), 0.5, rng=1)
    assert estimate.value == 0 and estimate.replications < 5e6


@pytest.mark.parametrize("deadline", [0.0, 1e-3, 0.59])
def test_certain_violations(deadline):
    node = ei.Node("unit", 1.0)
    pipeline = ei.Pipeline([ei.Compute(0.0, node, "none"), ei.Compute(0.6, node, "a"), ei.Exponential(0.1, "b")])
    assert ei.rare_violation(pipeline, 0.5, deadline, rng=1).value == pytest.approx(1, abs=1e-12)


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


def test_transfers_too_rare_to_be_sampled_are_told():
    """40 slots of Rician fading on 10 slots' mean work: 3e-41 by tilting a slot's rate, below what is sampled."""
    link = ei.FadingLink.from_snr(5.0, 1e6, 0.1, fading=ei.Rician(3.0))
    pipeline = ei.Pipeline([ei.Transfer(link.mean_rate(), link, "t")])
    late = 4 * pipeline.moments()[0].sum()
    with pytest.warns(ei.AccuracyWarning, match="'t' that are rarer than 1e-15"):
        ei.rare_violation(pipeline, ei.Periodic(1 / 0.6), late, relative_error=0.3, rng=1, threads=1)
    ei.rare_violation(pipeline, 0.6, 10 * late, relative_error=0.3, rng=1, threads=1)
