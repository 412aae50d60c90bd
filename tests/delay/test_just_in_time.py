"""Deadlines that are the sum of constants: a request that waits for nobody takes just as long and is not late."""

import itertools

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer.delay.constant_servers import md_c_wait

# Their sums in floating point depend on the order, and lie on either side of the decimal sum.
TIMES = [(0.31, 0.09, 0.07), (0.86, 0.08, 0.74), (0.33, 0.45, 0.08), (0.34, 0.51, 0.9), (0.27, 0.81, 0.93)]
RATE = 0.4


def chain(times, queued, servers):
    first = ei.Compute(times[0], ei.Node("edge", 1.0), "edge", servers=servers)
    later = [ei.Constant(time, f"later{i}") for i, time in enumerate(times[1:])]
    return ei.Pipeline([first, *(one if waits else ei.Delay(one) for one, waits in zip(later, queued, strict=True))])


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("servers", [1, 2, 3])
def test_probability_at_the_sum_is_that_of_a_wait(times, servers):
    for queued in itertools.product([True, False], repeat=2):
        pipeline = chain(times, queued, servers)
        for deadline in {sum(times), sum(reversed(times)), round(sum(times), 2)}:
            bracket = ei.violation_bracket(pipeline, RATE, deadline)
            later = ei.violation_bracket(pipeline, RATE, deadline * (1 + 1e-9))
            assert bracket.lower <= bracket.upper
            np.testing.assert_allclose([bracket.lower, bracket.upper], [later.lower, later.upper], rtol=1e-6)
            run = ei.simulate(pipeline, RATE, [deadline, deadline * (1 + 1e-9)], jobs=500, replications=2, rng=1)
            assert run.violation.value[0, -1] == run.violation.value[1, -1] < 0.5
        if not any(queued):
            exact = md_c_wait(RATE, times[0], servers).tail(np.array([0.0]))[0] if servers > 1 else RATE * times[0]
            np.testing.assert_allclose([bracket.lower, bracket.upper], exact, rtol=1e-6)


@pytest.mark.parametrize("times", TIMES)
def test_rare_events_and_cells_count_alike(times):
    pipeline = ei.Pipeline([ei.Constant(time, f"stage{i}") for i, time in enumerate(times)])
    deadlines = sum(times) * np.array([1, 1 + 1e-9])
    rare = ei.rare_violation(pipeline, RATE, deadlines[0], rng=1)
    assert rare.low <= RATE * max(times) <= rare.high  # one seed a case: false alarms 5 % each, none at these seeds
    cell = ei.Cell(ei.Terminals(3, RATE / 3, pipeline, edge="stage0"), ei.EdgeNode())
    late = ei.simulate_cell(cell, deadlines, jobs=2_000, replications=2, rng=1)["terminals"].violation.value[:, -1]
    bracket = ei.cell_bracket(cell, deadlines)
    assert late[0] == late[1] < 0.5
    np.testing.assert_allclose(bracket.lower[0], bracket.lower[1], rtol=1e-6)
    np.testing.assert_allclose(bracket.upper[0], bracket.upper[1], rtol=1e-6)
    assert ei.violation_bound(pipeline, RATE, deadlines[0], "union") == pytest.approx(
        ei.violation_bound(pipeline, RATE, deadlines[1], "union"), rel=1e-6
    )
