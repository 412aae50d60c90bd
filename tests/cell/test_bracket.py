"""Certified ends of a cell beside exact laws, the bracket of a pipeline and simulation (intervals of 99.9 %)."""

import math
import warnings

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer.cell.lattice import Lattice, stage_law
from edgeinfer.cell.queues import mg_1_wait
from edgeinfer.delay.constant_servers import md_c_wait, poisson, stationary

SPLIT = ei.paper.scenario().pipelines()["split"]
LINK = ei.RayleighLink.from_snr(2.0, 10e6, 0.01)


def test_the_wait_of_one_server_is_that_of_the_core():
    times = np.array([0.0, 0.3, 1.0, 2.5, 5.0, 10.0, 20.0])
    for load in (0.1, 0.7, 0.95):
        ours = md_c_wait(load / 0.5, 0.5, 1).tail(times)
        exact = ei.violation_bracket(ei.Pipeline([ei.Constant(0.5, "a")]), load / 0.5, times + 0.5).upper
        assert np.allclose(ours, exact, rtol=1e-10, atol=1e-24)


def test_many_servers_against_their_means():
    """The mean queue is the rate times the mean wait, which is the integral of the tail (Little)."""
    queue = md_c_wait(1.8, 1.0, 2)
    grid = np.linspace(0, 60, 6_001)
    tail = queue.tail(grid)
    mean = float(((tail[1:] + tail[:-1]) / 2).sum() * (grid[1] - grid[0]))
    assert mean == pytest.approx(queue.queue.sum() / 1.8, rel=1e-4)
    assert queue.tail(np.array([60.0]))[0] <= np.exp(-queue.decay * 60)


def test_chains_and_counts():
    assert stationary(np.array([[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]])) == pytest.approx([0.25, 0.5, 0.25])
    assert poisson(2.0, 4) == pytest.approx([np.exp(-2) * 2**n / math.factorial(n) for n in range(4)])


def test_general_services_are_bracketed():
    """M/M/1: P(W > t) = load e^{-(mu - rate) t}; and the ends of a mixture of two constants hold its mean."""
    law = stage_law(ei.Exponential(0.5, "a"))
    upper, lower, decay = mg_1_wait(1.4, law.upper, law.lower, 0.5, law.reach, lambda d: 30.0, law.moment)
    times = np.linspace(0, 25, 101)
    exact = 0.7 * np.exp(-0.6 * times)
    assert (lower(times) <= exact).all() and (exact <= upper(times)).all()
    assert decay == pytest.approx(0.6, rel=1e-3) and (upper(times) / lower(times))[:40].max() < 1.12
    # At a light load, services beyond any lattice make most of the moment.
    light = mg_1_wait(0.02, law.upper, law.lower, 0.5, law.reach, lambda d: 30.0, law.moment)[2]
    assert 1.9799 < light <= 1.98
    times = np.linspace(0, 30, 30_001)
    pair = stage_law(ei.Measured([0.2, 0.8], "b"))
    upper, lower, _ = mg_1_wait(1.4, pair.upper, pair.lower, 0.5, pair.reach, lambda d: 30.0, pair.moment)
    mean = 1.4 * (0.04 + 0.64) / 2 / (2 * 0.3)
    assert lower(times[1:]).sum() * 1e-3 < mean < upper(times[:-1]).sum() * 1e-3 < 1.02 * mean


@pytest.mark.parametrize("load", [0.99, 0.9999])
def test_ends_near_a_load_of_1_are_probabilities(load):
    """Masses rounded up grew beyond every number on a long lattice, and a decay rate may be lost in rounding."""
    edge = ei.Measured([0.001, 0.0012, 0.0016], "edge")
    cell = ei.Cell(ei.Terminals(100, load / edge.mean() / 100, ei.Pipeline([edge]), edge="edge"), ei.EdgeNode())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bracket = ei.cell_bracket(cell, [0.05, 1.0, 30.0])
    assert (0 <= bracket.lower).all() and (bracket.lower <= bracket.upper).all() and (bracket.upper <= 1).all()


def test_a_long_service_that_is_rare_counts_beyond_the_lattice():
    short, rare = ei.Measured([1.0, 1.0], "edge"), ei.Measured(np.append(np.ones(999), 1000.0), "edge")
    kinds = [
        ei.Terminals(1, 5e-6, ei.Pipeline([stage]), edge=0, name=name)
        for name, stage in (("short", short), ("rare", rare))
    ]
    x = np.array([4.0, 100.0, 500.0])
    bracket = ei.cell_bracket(ei.Cell(kinds, ei.EdgeNode()), 1 + x, "short")
    # The wait is a geometric sum of what is left of services: one of them passes x, and hardly ever two.
    load = 5e-6 * (short.mean() + rare.mean())
    one = (1 - load) * 5e-6 * (1000 - x) / 1000
    assert (bracket.lower <= one + load**2).all() and (one <= bracket.upper).all()
    assert (bracket.upper <= 1.01 * bracket.lower).all()


def test_far_ends_of_general_services_are_those_of_the_core():
    stage = ei.Measured([0.1, 0.1, 0.3, 0.7], "edge")
    times = np.array([6.0, 11.0, 14.0])
    core = ei.violation_bracket(ei.Pipeline([stage]), 1.2, times)
    cell = ei.cell_bracket(ei.Cell(ei.Terminals(8, 0.15, ei.Pipeline([stage]), edge=0), ei.EdgeNode()), times)
    assert core.upper[-1] < 1e-17
    assert (cell.lower <= core.upper).all() and (core.lower <= cell.upper).all()


def test_lattice_sums_hold_the_truth_between_them():
    """The sum of two exponential times, and an exponential time less another."""
    lattice = Lattice(4.0, 4.0, 30.0)
    law, other = stage_law(ei.Exponential(0.5, "a")), stage_law(ei.Exponential(0.3, "b"))
    t = np.maximum(lattice.points, 0)
    exact = (0.5 * np.exp(-t / 0.5) - 0.3 * np.exp(-t / 0.3)) / 0.2
    ends = [lattice.add(lattice.start(law.upper), other, True), lattice.add(lattice.start(law.lower), other, False)]
    inside = lattice.points >= 0
    assert (ends[1][inside] <= exact[inside]).all() and (exact[inside] <= ends[0][inside] * (1 + 1e-12)).all()
    assert ends[0][lattice.deadline] / ends[1][lattice.deadline] < 1.05
    less = lattice.take(lattice.start(law.upper), 2.0)
    assert (less[inside] >= 0.5 * np.exp(-t / 0.5)[inside] * (1 - 1e-9)).all()


@pytest.mark.parametrize("count", [1, 2, 5, 20, 100])
def test_the_papers_cell_at_any_number_of_terminals(count):
    cell = ei.Cell(ei.Terminals(count, 0.7 / count, SPLIT, edge="prior"), ei.EdgeNode())
    bracket = ei.cell_bracket(cell, [4.0, 6.0, 26.0])
    assert (bracket.upper / bracket.lower < 1.05).all() and bracket.upper[2] < 1e-9
    run = ei.simulate_cell(cell, [4.0, 6.0], jobs=20_000, replications=4, rng=count, threads=1, confidence=0.999)
    violation = run["terminals"].violation
    assert (violation.low[:, -1] <= bracket.upper[:2]).all() and (bracket.lower[:2] <= violation.high[:, -1]).all()


@pytest.mark.parametrize(
    ("edge", "stages", "band"),
    [
        (ei.EdgeNode(3), [ei.Constant(0.4, "gpu"), ei.Exponential(0.1, "b")], None),
        (ei.EdgeNode(1), [ei.Exponential(0.1, "gpu"), ei.Transfer(5e5, LINK, "down"), ei.Constant(0.1, "c")], None),
        (
            ei.EdgeNode(1),
            [ei.Measured([0.05, 0.15], "gpu"), ei.Measured([0.1, 0.4], "b"), ei.Exponential(0.1, "c")],
            None,
        ),
        (ei.EdgeNode(1), [ei.Constant(0.1, "gpu"), ei.Transfer(5e5, LINK, "down")], ei.Band(40e6, "equal_share")),
        (ei.EdgeNode(1), [ei.Constant(0.1, "gpu"), ei.Transfer(5e5, LINK, "down")], ei.Band(40e6, "round_robin")),
        (ei.EdgeNode(1), [ei.Transfer(5e5, LINK, "up"), ei.Constant(0.1, "gpu")], ei.Band(40e6, "max_rate")),
        (ei.EdgeNode(1, "processor_sharing"), [ei.Constant(0.1, "gpu"), ei.Constant(0.1, "c")], None),
        (ei.EdgeNode(2, batch=ei.Batching(4, fixed=0.05)), [ei.Constant(0.1, "gpu")], None),
    ],
)
def test_other_cells_are_bracketed(edge, stages, band):
    cell = ei.Cell(ei.Terminals(6, 1.0, ei.Pipeline(stages), edge="gpu"), edge, band, band)
    limits = [0.3, 0.8, 1.5]
    bracket = ei.cell_bracket(cell, limits)
    run = ei.simulate_cell(cell, limits, jobs=20_000, replications=4, rng=1, threads=1, confidence=0.999)
    violation = run["terminals"].violation
    assert (violation.low[:, -1] <= bracket.upper).all() and (bracket.lower <= violation.high[:, -1]).all()
    assert (np.diff(bracket.upper) <= 0).all() and (np.diff(bracket.lower) <= 0).all()


def test_classes_at_one_edge():
    kinds = [
        ei.Terminals(3, 0.8, ei.Pipeline([ei.Constant(0.1, "gpu"), ei.Constant(0.2, "c")]), edge="gpu", name="short"),
        ei.Terminals(2, 0.6, ei.Pipeline([ei.Constant(0.35, "gpu")]), edge="gpu", name="long"),
        ei.Terminals(2, 0.6, SPLIT[2:], name="alone"),
    ]
    cell = ei.Cell(kinds, ei.EdgeNode())
    run = ei.simulate_cell(cell, [0.6, 1.2], jobs=40_000, replications=4, rng=3, threads=1, confidence=0.999)
    for name in ("short", "long", "alone"):
        bracket, violation = ei.cell_bracket(cell, [0.6, 1.2], name), run[name].violation
        assert (violation.low[:, -1] <= bracket.upper).all() and (bracket.lower <= violation.high[:, -1]).all()
    assert bracket.method[0] == "pipeline / pipeline"


def test_other_arrivals_have_what_holds_for_all():
    chain = ei.Pipeline([ei.Constant(0.1, "gpu"), ei.Constant(0.2, "c")])
    for count, process in (
        (1, ei.model.MarkovModulated([1.0, 2.0], [[-1, 1], [1, -1]])),
        (5, ei.model.Gamma(1.5, 4.0)),
    ):
        cell = ei.Cell(ei.Terminals(count, process, chain, edge="gpu"), ei.EdgeNode())
        bracket = ei.cell_bracket(cell, [0.2, 0.5])
        least = 0 if count == 1 else ei.violation_bracket(chain, process, 0.5, effort="light").lower
        assert bracket.lower == pytest.approx([1, least], abs=1e-8) and list(bracket.upper) == [1, 1]
        assert bracket.method[1] == f"{'alone' if count == 1 else 'pipeline'} / trivial"


def test_a_terminal_that_shares_nothing_is_a_pipeline_whatever_feeds_it():
    chain = ei.Pipeline([ei.Constant(0.1, "gpu"), ei.Exponential(0.2, "c")])
    for process in (ei.model.Periodic(0.5), ei.model.Erlang(2.0, 3)):
        ours = ei.cell_bracket(ei.Cell(ei.Terminals(1, process, chain, edge="gpu"), ei.EdgeNode()), [0.5])
        theirs = ei.violation_bracket(chain, process, [0.5])
        assert (
            ours.upper < 0.5 and np.array_equal(ours.lower, theirs.lower) and np.array_equal(ours.upper, theirs.upper)
        )


def test_refusals_and_ends():
    cell = ei.Cell(ei.Terminals(4, 1.0, SPLIT, edge="prior"), ei.EdgeNode())
    assert ei.cell_bracket(cell, [1.0, np.inf]).method[0] == "unstable / unstable"
    with pytest.raises(ValueError, match="capacity: must be None"):
        ei.cell_bracket(cell.replace(edges=ei.EdgeNode(capacity=3)), 1.0)
    with pytest.raises(ValueError, match="deadline = -1: must be in"):
        ei.cell_bracket(cell, -1.0)
    stable = cell.with_count(1)
    assert ei.cell_bracket(stable, np.inf).upper == 0 and ei.cell_bracket(stable, 0.0).lower == 1


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_deadlines_far_below_the_times(unit):
    pipeline = ei.Pipeline([ei.Constant(unit, "edge"), ei.Exponential(0.3 * unit, "own")])
    cell = ei.Cell(ei.Terminals(3, 0.2 / unit, pipeline, edge="edge"), ei.EdgeNode())
    ends = ei.cell_bracket(cell, np.array([0.0, 1e-200, 1e-6, 3.0]) * unit)
    assert (ends.lower[:3] == 1).all() and (ends.upper[:3] == 1).all()
    assert ends.upper[3] < 1.1 * ends.lower[3] < 0.5
