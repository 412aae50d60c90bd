"""Certified ends at edges of each kind, beside exact laws computed by other means and simulation (99.9 %)."""

import warnings

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer.cell import Batching
from edgeinfer.cell.edges import edge_time
from edgeinfer.cell.queues import batch_sojourn, batch_times, erlang_c, periodic_wait

LINK = ei.RayleighLink.from_snr(2.0, 10e6, 0.01)
GPU, SLOW = ei.Constant(0.2, "gpu"), ei.Constant(0.1, "c")


def cell_of(stages, edges, count=6, rate=1.0, assignment="nearest", **options):
    kind = ei.Terminals(count, rate, ei.Pipeline(stages), edge="gpu", **options)
    return ei.Cell(kind, edges, assignment=assignment)


@pytest.mark.parametrize(
    ("cell", "limits", "method"),
    [
        (cell_of([ei.Exponential(0.4, "gpu")], ei.EdgeNode(3)), [0.5, 2.0], "M/M/c / M/M/c"),
        (cell_of([ei.Exponential(0.1, "gpu"), SLOW], ei.EdgeNode()), [0.5, 1.0], "M/M/c / M/M/c"),
        (cell_of([ei.Measured([0.1, 0.3, 0.5], "gpu")], ei.EdgeNode(3)), [0.6, 1.0], "M/G/c / M/G/c"),
        (
            cell_of([GPU], [ei.EdgeNode(), ei.EdgeNode(2)], assignment="random"),
            [0.3, 0.5],
            "M/D/c / M/D/c",
        ),
        (
            cell_of([GPU, SLOW], [ei.EdgeNode(), ei.EdgeNode(2)]),
            [0.35, 0.5],
            "M/D/c / M/D/c, bottleneck first or M/D/c",
        ),
        (cell_of([GPU, SLOW], [ei.EdgeNode()] * 2, assignment="random"), [0.5], "M/D/c / trivial"),
        (cell_of([GPU], [ei.EdgeNode()] * 2, assignment="least_loaded"), [0.5], "alone / trivial"),
        (cell_of([ei.Constant(0.1, "gpu")], ei.EdgeNode(1, "priority"), priority=3.0), [0.2, 0.5], "M/D/c / M/D/c"),
        (cell_of([ei.Constant(0.1, "gpu")], ei.EdgeNode(1, "edf"), deadline=2.0), [0.2, 0.5], "M/D/c / M/D/c"),
        (
            # Behind random delays it serves in another order than they come in, even for a terminal alone.
            cell_of(
                [ei.Delay(ei.Exponential(3.0, "a")), ei.Exponential(1.0, "gpu")],
                ei.EdgeNode(1, "edf"),
                1,
                0.7,
                deadline=2.0,
            ),
            [6.0, 20.0],
            "alone / trivial",
        ),
        (cell_of([ei.Constant(0.04, "gpu")], ei.EdgeNode(4), 99), [0.2, 1.0], "M/D/c / M/D/c"),
        (cell_of([ei.Constant(0.0, "gpu"), SLOW], ei.EdgeNode()), [0.05, 0.15], "M/D/c / M/D/c"),
        (
            cell_of([ei.Constant(0.02, "gpu"), ei.Constant(0.5, "c")], ei.EdgeNode(), 30, 0.1),
            [0.7, 1.05],
            "M/D/c / M/D/c",
        ),
        (cell_of([ei.Constant(0.01, "gpu")], ei.EdgeNode(batch=Batching(1, fixed=0.05))), [0.08, 0.2], "M/D/c / M/D/c"),
        (
            cell_of(
                [ei.Delay(ei.Exponential(0.01, "a")), ei.Constant(0.01, "gpu"), ei.Transfer(2e4, LINK, "d")],
                ei.EdgeNode(batch=Batching(8, fixed=0.05)),
                40,
            ),
            [0.15, 0.25],
            "batches / batches",
        ),
        (
            # Who passes the edge by takes neither its own service there nor what every batch takes.
            cell_of([ei.Review(GPU, 0.6)], ei.EdgeNode(batch=Batching(4, fixed=0.1)), 1),
            [0.0, 0.15, 0.25],
            "alone / trivial",
        ),
        (cell_of([GPU], ei.EdgeNode(batch=Batching(4, wait=0.1)), 3), [0.4], "alone / trivial"),
    ],
)
def test_edges_of_each_kind(cell, limits, method):
    bracket = ei.cell_bracket(cell, limits)
    assert set(bracket.method) == {method}
    run = ei.simulate_cell(cell, limits, jobs=20_000, replications=4, rng=1, threads=1, confidence=0.999)
    violation = run["terminals"].violation
    assert (violation.low[:, -1] <= bracket.upper).all() and (bracket.lower <= violation.high[:, -1]).all()


def test_the_only_terminal_of_a_class_beside_others():
    """Without it nothing comes of its class, whose services have no exponential moment where those of others do."""
    chain = ei.Pipeline([ei.Exponential(0.26, "gpu"), ei.Constant(0.34, "c")])
    others = ei.Pipeline([ei.Measured([0.13, 0.26, 0.39], "gpu")])
    kinds = [
        ei.Terminals(1, 0.5, chain, edge="gpu", name="alone"),
        ei.Terminals(2, 0.5, others, edge="gpu", name="others"),
    ]
    cell, limits = ei.Cell(kinds, ei.EdgeNode()), [0.5, 1.0, 2.0]
    bracket = ei.cell_bracket(cell, limits, "alone")
    run = ei.simulate_cell(cell, limits, jobs=20_000, replications=4, rng=1, threads=1, confidence=0.999)
    violation = run["alone"].violation
    assert (violation.low[:, -1] <= bracket.upper).all() and (bracket.lower <= violation.high[:, -1]).all()


@pytest.mark.parametrize("count", [5, 20, 100])
@pytest.mark.parametrize(
    "stages", [(ei.Constant(0.5, "gpu"), ei.Constant(0.5, "c")), (ei.Exponential(0.5, "gpu"), SLOW)]
)
def test_ends_meet_where_terminals_have_little_to_do(count, stages):
    """At a load of the edge of 0.7, at one in a million."""
    cell = cell_of(stages, ei.EdgeNode(), count, 1.4 / count)
    bracket = ei.cell_bracket(cell, 11.1 if isinstance(stages[0], ei.Constant) else 23.5)
    assert 5e-7 < bracket.lower <= bracket.upper < 2e-6
    assert bracket.upper / bracket.lower < 1.05


def test_one_of_two_servers_waits_as_erlang_has_it():
    offered = 1.5
    assert erlang_c(offered, 2) == pytest.approx(offered**2 / (2 + offered), rel=1e-14)
    cell = cell_of([ei.Exponential(0.25, "gpu")], ei.EdgeNode(2))
    shared, _ = edge_time(cell, cell.terminals[0], 0, 1.0)
    times = np.array([0.0, 0.5, 2.0])
    assert shared.wait.upper(times) == pytest.approx(erlang_c(offered, 2) * np.exp(-2 * times), rel=1e-14)


def test_periodic_sources_make_the_work_that_their_phases_make():
    """Two sources by hand; and seven by phases drawn at random, within four standard errors."""
    assert periodic_wait(1, 2.5, 0.5)(np.array([0.0, 0.1, 0.4])) == pytest.approx([0.2, 0.16, 0.04], rel=1e-13)
    two = periodic_wait(2, 5.0, 1.0)(np.array([1.5]))  # Both in 1/2, of which the first is then in the last 1/2.
    assert two == pytest.approx([0.5**2 / 25], rel=1e-13)
    draws = np.sort(np.random.default_rng(5).random((200_000, 7)), axis=1)
    work = np.max(np.arange(1, 8) * 0.125 - draws, axis=1)
    times = np.array([0.05, 0.2, 0.4])
    exact = periodic_wait(7, 1.0, 0.125)(times)
    seen = (work > times[:, None]).mean(axis=1)
    assert (abs(seen - exact) < 4 * np.sqrt(exact * (1 - exact) / 200_000)).all()
    assert periodic_wait(3, 1.0, 0.0)(times).max() == 0 and periodic_wait(0, 1.0, 0.1)(times).max() == 0


def test_periodic_terminals_at_one_edge_have_their_exact_law_and_leave_as_they_come():
    process = ei.model.Periodic(1.0)
    own = [ei.Delay(ei.Constant(0.05, "d")), ei.Constant(0.1, "gpu"), ei.Constant(0.3, "c"), ei.Constant(0.2, "e")]
    excess = np.array([0.05, 0.2, 0.4])
    exact = periodic_wait(7, 1.0, 0.1)(excess)
    for stages, rest in ((own[1:2], 0.1), (own, 0.65)):
        bracket = ei.cell_bracket(cell_of(stages, ei.EdgeNode(), 8, process), excess + rest)
        assert set(bracket.method) == {"N*D/D/1 / N*D/D/1"}
        assert (bracket.lower <= exact).all() and (exact <= bracket.upper).all()
        assert (bracket.upper / bracket.lower < 1.2).all()
    other = ei.cell_bracket(cell_of(own[1:2], ei.EdgeNode(2), 8, process), 0.2)
    assert other.method == "alone / trivial"


@pytest.mark.parametrize(("limit", "fixed", "each"), [(2, 0.05, 0.02), (8, 0.1, 0.01)])
def test_batches_are_bracketed(limit, fixed, each):
    rate = 0.7 * limit / (fixed + limit * each)
    upper, lower, later = batch_times(rate, limit, fixed, each)
    times, chances = batch_sojourn(rate, limit, fixed, each, points=600)
    limits = np.linspace(0.5, 6, 12) * (fixed + limit * each)
    middle = np.array([chances[times > t].sum() for t in limits])
    fuzzy = 1e-3 * (fixed + limit * each)
    low, high = (np.array([chances[times > t + s].sum() for t in limits]) for s in (fuzzy, -fuzzy))
    assert (lower.lower(limits) <= high).all() and (low <= upper.upper(limits)).all()
    assert (upper.upper(limits) <= later.upper(limits) * (1 + 1e-9)).all()
    some = middle > 1e-9
    assert (upper.upper(limits) / lower.lower(limits))[some].max() < 1.4


def test_deadlines_far_beyond_all_delays_warn_of_nothing():
    stages = ei.Pipeline([ei.Constant(0.02, "edge"), ei.Exponential(0.01, "own")])
    cell = ei.Cell(ei.Terminals(20, 0.5, stages, edge="edge"), ei.EdgeNode())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bracket = ei.cell_bracket(cell, [1e4, 1e300])
    assert (bracket.upper < 1e-300).all()
