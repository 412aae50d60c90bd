"""Deadlines, rates and bandwidths at which the sampled probability is as asked."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer import paper
from edgeinfer.delay import AccuracyWarning, sampled

QUEUE = ei.Pipeline([ei.Exponential(1.0, "server")])


@pytest.mark.parametrize(("load", "probability"), [(0.5, 1e-3), (0.1, 0.5), (0.3, 1e-30)])
def test_an_exponential_queue_has_both_in_closed_form(load, probability):
    """Nominal 95 %: 12 or more of 24 miss with a chance below 1e-9 a case, were the intervals' coverage 85 %."""
    deadline = -math.log(probability) / (1 - load)
    covered = 0
    for seed in range(12):
        found = ei.deadline_at(QUEUE, load, probability, method="sampling", relative_error=0.05, rng=seed)
        rate = ei.max_arrival_rate(QUEUE, deadline, probability, method="sampling", relative_error=0.05, rng=seed)
        assert found.low <= found.value <= found.high and rate.low <= rate.value <= rate.high
        covered += (found.low <= deadline <= found.high) + (rate.low <= load <= rate.high)
    assert covered > 12


def test_several_stages():
    """Exponential sojourn times of one rate: Erlang's law. Then a stage between where the bracket is wide."""
    pipeline = ei.Pipeline([ei.Exponential(0.4, name) for name in "abc"])
    found = ei.deadline_at(pipeline, 1.0, 1e-6, method="sampling", rng=1)
    x = 1.5 * found.value
    assert math.exp(-x) * (1 + x + x * x / 2) == pytest.approx(1e-6, rel=0.05)
    assert found.high <= ei.deadline_at(pipeline, 1.0, 1e-6, effort="light")
    first, second, _ = pipeline
    pipeline = ei.Pipeline([first, ei.Measured([0.1, 0.4, 0.7], "m"), second])
    wide = ei.deadline_at(pipeline, 1.0, 1e-6, method="sampling", rng=1)
    two = ei.deadline_at(ei.Pipeline([first, second]), 1.0, 1e-6)
    assert two < wide.low <= wide.high and ei.violation_bracket(pipeline, 1.0, wide.high).upper > 1e-6


def test_paths_too_long_to_sample_leave_what_brackets_certify():
    """Next to a load of one, P(W > T) = exp(-(1 - load) T)."""
    for probability in (1e-3, 1e-30):
        load = 1 + math.log(probability) / 1e6
        rate = ei.max_arrival_rate(QUEUE, 1e6, probability, method="sampling")
        assert rate.low <= load <= rate.high < rate.low + 2e-6 and rate.replications == 0
        assert rate.low < rate.value < rate.high < 1
        deadline = ei.deadline_at(QUEUE, load, probability, method="sampling")
        assert deadline.low <= 1e6 * (1 + 1e-9) and 1e6 * (1 - 1e-9) <= deadline.high < 1.0001 * deadline.low


def test_wide_ends_in_the_place_of_samples_are_warned_of(monkeypatch):
    def wide(*arguments, **options):
        found = ei.violation_bracket(*arguments, **options)
        return SimpleNamespace(lower=found.lower / 1.5, upper=min(1.5 * found.upper, 1.0))

    monkeypatch.setattr(sampled, "violation_bracket", wide)
    with pytest.warns(AccuracyWarning, match="too long to be sampled"):
        rate = ei.max_arrival_rate(QUEUE, 1e4, 1e-3, method="sampling")
    # The probability is within a factor of 1.5 of the target, and the last halvings.
    assert rate.low <= 1 + math.log(1e-3) / 1e4 <= rate.high < rate.low + 4 * math.log(1.5) / 1e4


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("later", [0, 5])
def test_where_the_probability_jumps(seed, later):
    """Frames too far apart to wait: a sum of two measured times, whose law has steps."""
    rng = np.random.default_rng(seed)
    first, second = rng.gamma(4, 0.025, 30), rng.uniform(0.05, 0.15, 20)
    sums = np.sort(np.add.outer(first, second).ravel())
    pipeline = ei.Pipeline([ei.Measured(first, "a"), ei.Measured(second, "b")])
    found = ei.deadline_at(pipeline, ei.Periodic(1.5), (later + 0.5) / 600, method="sampling", rng=seed)
    jump = sums[-1 - later]
    assert found.low <= jump <= found.high
    assert found.value == pytest.approx(jump, rel=1e-4)
    assert found.low == pytest.approx(found.high, rel=1e-4)


def test_frames_that_never_wait_may_come_up_to_a_load_of_one():
    rate = ei.max_arrival_rate(
        ei.Pipeline([ei.Constant(0.1, "a")]), 0.1, 1e-3, arrivals=ei.Periodic(1.0), method="sampling", rng=1
    )
    assert rate.low <= rate.value <= 10 and rate.low == pytest.approx(10, rel=1e-4)


def test_families_bandwidths_and_what_needs_no_search():
    pipelines = paper.scenario().pipelines()
    split = pipelines["split"]
    family = ei.deadline_at(split, 0.35, [1e-2, 1e-4], method="sampling", relative_error=0.1, rng=1)
    assert np.all(family.low <= family.high) and np.all(family.high <= ei.deadline_at(split, 0.35, [1e-2, 1e-4]))
    bandwidth = ei.min_bandwidth(split, 0.35, 4.0, 1e-2, method="sampling", relative_error=0.1, rng=1)
    assert bandwidth.low <= bandwidth.value <= bandwidth.high <= ei.min_bandwidth(split, 0.35, 4.0, 1e-2)
    assert ei.deadline_at(split, 5.0, 1e-3, method="sampling").value == np.inf
    assert ei.max_arrival_rate(split, 0.5, 1e-3, method="sampling").value == 0
    assert ei.max_arrival_rate(ei.Pipeline([ei.Constant(0.0, "a")]), 1.0, 0.1, method="sampling").value == np.inf


def test_the_same_seed_gives_the_same_bits():
    one, two = (ei.deadline_at(QUEUE, 0.5, 1e-4, method="sampling", relative_error=0.1, rng=3) for _ in range(2))
    assert one == two


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="rng = 1: only method = 'sampling'"):
        ei.deadline_at(QUEUE, 0.5, 1e-3, rng=1)
    with pytest.raises(TypeError, match="nonsense"):
        ei.deadline_at(QUEUE, 0.5, 1e-3, nonsense=1)
    with pytest.raises(ValueError, match="relative_error"):
        ei.max_arrival_rate(QUEUE, 5.0, 1e-3, method="sampling", relative_error=2)
