"""Deadlines at the sum of constants, and constant delays: who waits for nobody takes just as long and is not late."""

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


@pytest.mark.parametrize(
    "process",
    [
        ei.Periodic(2.5),
        ei.Erlang(RATE, 3),
        ei.Gamma(RATE, burstiness=2.0),
        ei.MarkovModulated([0.2, 0.8], [[-0.1, 0.1], [0.2, -0.2]]),
    ],
)
def test_constant_delays_move_the_deadline_whatever_the_arrivals(process):
    def stages(first, *between):
        return ei.Pipeline([*first, ei.Constant(0.75, "a"), *between, ei.Exponential(0.5, "b")])

    node, deadlines = ei.Node("edge", 1.0), np.array([1.0, 3.0, 6.0, np.inf])
    still = stages([])
    moved = stages([ei.Delay(ei.Constant(0.25, "first"))], ei.Delay(ei.Compute([0.5, 1.0], node, "between")))
    for method in ("bracket", "union"):
        for i, shift in enumerate((0.75, 1.25)):
            there = ei.violation_bound(moved, process, np.add(deadlines, shift)[:, None], method)[:, i]
            np.testing.assert_allclose(there, ei.violation_bound(still, process, deadlines, method), rtol=1e-12)
    assert (ei.violation_bracket(moved, process, 0.5).lower == 1).all()
    single = moved.element(0)
    bracket = ei.violation_bracket(single, process, 4.0)
    # One interval of 99.9 % each: a false alarm in 250 runs of other seeds.
    rare = ei.rare_violation(single, process, 4.0, rng=1, confidence=0.999)
    run = ei.simulate(single, process, 4.0, jobs=20_000, replications=8, rng=1, confidence=0.999).violation
    assert rare.low <= bracket.upper and bracket.lower <= rare.high
    assert run.low[-1] <= bracket.upper and bracket.lower <= run.high[-1]
    assert ei.deadline_at(single, process, 1e-3) == pytest.approx(ei.deadline_at(still, process, 1e-3) + 0.75, rel=2e-4)


def test_constant_delays_beside_several_servers_and_in_cells_with_other_arrivals():
    several = ei.Compute(2.0, ei.Node("edge", 1.0), "edge", servers=2)
    delay = ei.Delay(ei.Constant(0.5, "delay"))
    for stages in ([several, delay], [delay, several]):
        there = ei.violation_bracket(ei.Pipeline(stages), ei.Erlang(RATE, 2), 4.5)
        here = ei.violation_bracket(ei.Pipeline([several]), ei.Erlang(RATE, 2), 4.0)
        np.testing.assert_allclose([there.lower, there.upper], [here.lower, here.upper], rtol=1e-12)
    own = ei.Pipeline([ei.Exponential(0.5, "a"), delay])
    cell = ei.Cell(ei.Terminals(3, ei.Erlang(RATE, 2), own))
    alone = ei.violation_bracket(own, ei.Erlang(RATE, 2), 4.0)
    assert ei.cell_bracket(cell, 4.0).upper == pytest.approx(alone.upper, rel=1e-12)
    with pytest.raises(ValueError, match="Poisson arrivals only"):
        ei.violation_bracket(ei.Pipeline([ei.Delay(ei.Exponential(0.5, "a"))]), ei.Erlang(RATE, 2), 4.0)
