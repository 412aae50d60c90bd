"""`mean_sojourn(service="tandem")` against closed forms, and against simulation at 99.9999 % (false alarms: 6e-6 in
all).
"""

from functools import cache

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer import paper


def fixed(seconds, name="c"):
    return ei.Constant(seconds, name)


def random(mean, name="e"):
    return ei.Exponential(mean, name)


def tandem(stages, rate):
    return ends_of(ei.Pipeline(stages), rate)


@cache
def ends_of(pipeline, rate):
    """An integral over a hundred brackets, which several tests look at."""
    return ei.mean_sojourn(pipeline, rate, service="tandem")


def queue(samples, rate):
    """M/G/1."""
    mean, square = np.mean(samples), np.mean(np.square(samples))
    return mean + rate * square / (2 * (1 - rate * mean))


SLOW, QUICK = np.array([0.3, 0.5, 0.8]), np.array([0.0, 0.3])


@pytest.mark.parametrize(
    ("stages", "rate", "truth"),
    [
        ([random(0.5)], 1.5, 1 / (2 - 1.5)),
        ([ei.Measured(SLOW, "m")], 1.5, queue(SLOW, 1.5)),
        ([random(m, str(m)) for m in (0.5, 0.4, 0.25)], 1.5, 1 / 0.5 + 1 / 1 + 1 / 2.5),
        ([fixed(0.2, "a"), fixed(0.5, "b"), fixed(0.0, "z"), fixed(0.3, "c")], 1.5, 0.5 + queue([0.5], 1.5)),
        ([fixed(0.0, "z"), random(0.5), fixed(0.6)], 1.5, 1 / 0.5 + queue([0.6], 1.5)),
        (
            [random(0.5), fixed(0.3), ei.Measured(SLOW, "m"), ei.Measured(QUICK, "q")],
            1.5,
            2.3 + 0.15 + queue(SLOW, 1.5),
        ),
        ([fixed(0.3), ei.Measured(SLOW, "m"), fixed(0.3, "d")], 0.5, 0.6 + queue(SLOW, 0.5)),
        ([fixed(0.0)], 1.0, 0.0),
    ],
)
def test_exact_where_it_is_known(stages, rate, truth):
    ends = tandem(stages, rate)
    assert ends.method == "exact / exact" and ends.lower == ends.upper
    assert ends.lower == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize(
    ("stages", "rate"),
    [
        ([fixed(0.3), random(0.5)], 1.0),
        ([random(0.5, "first"), fixed(0.3), random(0.5), fixed(0.2, "d")], 0.1),
        ([ei.Measured(SLOW, "m"), fixed(0.5), ei.Measured([0, 0.9], "k")], 0.4),
        ([fixed(0.31), ei.Measured(SLOW, "m"), fixed(0.3, "d")], 1.5),
        ([ei.Measured(QUICK, "q"), fixed(0.4), random(0.1), fixed(0.4, "d")], 1.5),
        (list(paper.scenario().pipelines()["split"]), 0.9),
    ],
)
def test_ends_meet_simulation(stages, rate):
    ends = tandem(stages, rate)
    run = ei.simulate(ei.Pipeline(stages), rate, 1.0, jobs=20_000, replications=32, rng=3, confidence=1 - 1e-6).mean
    assert ends.lower <= run.high[-1] and ends.upper >= run.low[-1] and ends.lower < ends.upper < np.inf
    assert ends.upper <= ei.mean_sojourn(ei.Pipeline(stages), rate)


def test_grid_adds_little_to_the_integral_of_the_bracket():
    # The slowest stage is nearly never overtaken, so that both ends are nearly M/D/1.
    ends = tandem([fixed(1.0), random(1e-3), fixed(1e-3, "d")], 0.9)
    assert ends.upper_method == "integrated"
    assert queue([1.0], 0.9) + 2e-3 <= ends.upper < 1.01 * queue([1.0], 0.9)


@pytest.mark.parametrize(
    "stages", [[fixed(0.5), random(0.3), fixed(0.4, "d")], [fixed(0.5), ei.Fork([random(0.3, "f"), fixed(0.4, "d")])]]
)
def test_more_effort_never_harms(stages):
    light, fast = (ei.mean_sojourn(ei.Pipeline(stages), 0.8, service="tandem", effort=e) for e in ("light", "fast"))
    assert light.lower <= fast.lower <= fast.upper <= light.upper
    with pytest.raises(ValueError, match="effort = 'slow'"):
        ei.mean_sojourn(ei.Pipeline(stages), 0.8, service="tandem", effort="slow")


@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_any_unit_of_time(scale):
    # Rounding moves the cells that the grid divides, a part of the 2e-3 that it may add.
    unit, scaled = tandem([fixed(0.3), random(0.5)], 1.0), tandem([fixed(0.3 * scale), random(0.5 * scale)], 1 / scale)
    assert [scaled.lower, scaled.upper] == pytest.approx([scale * unit.lower, scale * unit.upper], rel=1e-4)


def test_families_broadcast_and_unstable_is_inf():
    pipeline = ei.Pipeline([ei.Exponential([[0.5], [0.25]], "a"), random(0.2, "b")])
    ends = ei.mean_sojourn(pipeline, [1.0, 1.5, 3.0], service="tandem")
    assert ends.lower.shape == ends.upper_method.shape == (2, 3)
    np.testing.assert_allclose(ends.lower, [[1 + 0.25, 2 + 1 / 3.5, np.inf], [1 / 3 + 0.25, 0.4 + 1 / 3.5, 1 + 0.5]])
    assert ends.method[0, 2] == "unstable / unstable" and ends.upper[0, 2] == np.inf
    assert ei.mean_sojourn(pipeline, np.ones((0, 1, 1)), service="tandem").lower.shape == (0, 2, 1)


def test_ergodic_transfers_are_constant():
    pipeline = paper.scenario().pipelines()["split"]
    ends = ei.mean_sojourn(pipeline, 0.5, "ergodic", service="tandem")
    means = ei.latency(pipeline, "ergodic").stages
    assert ends.method == "exact / exact"
    assert ends.lower == pytest.approx(means.sum() - means.max() + queue([means.max()], 0.5))


def test_bad_service_is_refused():
    with pytest.raises(ValueError, match="service = 'parallel'"):
        ei.mean_sojourn(paper.scenario().pipelines()["split"], 0.5, service="parallel")
