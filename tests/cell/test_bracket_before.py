"""Upper ends behind terminals' own queues, beside the exact law of exponential ones and simulation (99.9 %)."""

import numpy as np
import pytest
from scipy import stats

import edgeinfer as ei
from edgeinfer.cell import before
from edgeinfer.cell.lattice import stage_law

LINK = ei.RayleighLink.from_snr(2.0, 10e6, 0.01)
GPU = ei.Constant(0.05, "gpu")


def exact(count, rate, up, gpu, limits):
    """Of a Jackson network: no request overtakes another, so that its times at both queues are independent."""
    first, second = 1 / up - rate, 1 / gpu - count * rate
    return (first * np.exp(-second * limits) - second * np.exp(-first * limits)) / (first - second)


@pytest.mark.parametrize(
    ("count", "rate", "up", "gpu"),
    [(2, 1.0, 0.2, 0.1), (10, 1.0, 0.02, 0.05), (40, 0.2, 0.3, 0.1), (5, 0.02, 0.4, 0.1)],
)
def test_exponential_queues_have_their_law(count, rate, up, gpu):
    limits = np.array([0.1, 0.5, 1.0, 2.0, 4.0, 8.0])
    pipeline = ei.Pipeline([ei.Exponential(up, "up"), ei.Exponential(gpu, "gpu")])
    bracket = ei.cell_bracket(ei.Cell(ei.Terminals(count, rate, pipeline, edge="gpu"), ei.EdgeNode()), limits)
    truth = exact(count, rate, up, gpu, limits)
    assert (bracket.lower <= truth).all() and (truth <= bracket.upper).all()
    assert (bracket.upper[truth > 1e-3] < 100 * truth[truth > 1e-3]).all() and bracket.upper[-1] < 0.01
    assert bracket.method[2] == "pipeline / queues before"
    lone = ei.violation_bracket(pipeline, rate, limits, effort="light").lower
    assert (bracket.lower >= np.minimum(lone, bracket.upper)).all()


def hypoexponential(rates, limits):
    """P(a sum of exponential times of different rates > t)."""
    return sum(
        np.prod([b / (b - a) for b in rates if b != a]) * np.exp(-a * np.asarray(limits, np.float64)) for a in rates
    )


@pytest.mark.parametrize(("ups", "most"), [([0.05], [5, 60]), ([0.05, 0.03], [12, 130])])
def test_queues_before_a_fast_edge(ups, most):
    """What requests that are held up have in common is their work at the edge, not the time for which they are."""
    stages = [ei.Exponential(mean, f"up{k}") for k, mean in enumerate(ups)]
    pipeline = ei.Pipeline([*stages, ei.Exponential(0.001, "gpu")])
    bracket = ei.cell_bracket(ei.Cell(ei.Terminals(20, 2.0, pipeline, edge="gpu"), ei.EdgeNode()), [0.5, 1.0])
    truth = hypoexponential([*(1 / mean - 2.0 for mean in ups), 1 / 0.001 - 40.0], [0.5, 1.0])
    # As if the terminal were the only one, which at a fast edge it nearly is.
    assert (0.97 * truth <= bracket.lower).all() and (bracket.lower <= truth).all()
    assert (truth <= bracket.upper).all() and (bracket.upper < most * truth).all()


def test_a_terminal_whose_queues_could_not_be_one_server():
    """Nothing is known then of how long it is held up; of others of its class there are none who would be."""
    chain = [ei.Exponential(0.6, "up0"), ei.Exponential(0.6, "up1"), ei.Exponential(0.01, "gpu")]
    kinds = [
        ei.Terminals(1, 1.0, ei.Pipeline(chain), edge="gpu", name="alone"),
        ei.Terminals(3, 1.0, ei.Pipeline(chain[2:]), edge="gpu", name="others"),
    ]
    limits = np.array([0.1, 2.0, 20.0])
    bracket = ei.cell_bracket(ei.Cell(kinds, ei.EdgeNode()), limits, "alone")
    rates = [1 / 0.6 - 1.0, (1 / 0.6 - 1.0) * (1 + 1e-6), 1 / 0.01 - 4.0]
    truth = hypoexponential(rates, limits)
    assert (bracket.lower <= truth * (1 + 1e-5)).all() and (truth * (1 - 1e-5) <= bracket.upper).all()
    assert (bracket.upper <= 1).all()


@pytest.mark.parametrize("rate", [3.0, 300.0, 1e5])
def test_gathered_work_is_rounded_up(rate):
    """Services a hair below 10 steps: P(more than k steps) is that of more than k / 10 Poisson requests."""
    times = np.linspace(0, 1, before.STEPS + 1)
    mass, beyond = before._gathered([(rate, stage_law(ei.Constant(0.01999, "gpu")))], times, 4)
    truth = stats.poisson.sf(np.arange(len(times)) // 10, 4 * times[1] * rate)
    # Of 1e5 a second e^{-800} are none, which is no number.
    near = (truth > 1e-9) & (rate < 1e5)
    assert (truth <= beyond * (1 + 1e-12)).all() and (beyond[near] <= 1.01 * truth[near]).all() and (mass >= 0).all()


KINDS = [
    ei.Terminals(5, 1.0, ei.Pipeline([ei.Exponential(0.05, "up"), GPU]), edge="gpu", name="up"),
    ei.Terminals(4, 0.8, ei.Pipeline([ei.Delay(ei.Exponential(0.1, "user")), GPU]), edge="gpu", name="none"),
    ei.Terminals(3, 0.5, ei.Pipeline([ei.Constant(0.1, "a"), ei.Exponential(0.02, "gpu")]), edge="gpu", name="two"),
]
CONSTANT = ei.Transfer(1e5, ei.ConstantLink(1e6, latency=0.1), "up")


@pytest.mark.parametrize(
    ("kinds", "edges", "limits"),
    [
        (KINDS, ei.EdgeNode(), [0.4, 0.8]),
        (
            ei.Terminals(
                8,
                1.0,
                ei.Pipeline([ei.Constant(0.05, "a"), ei.Transfer(5e5, LINK, "up"), GPU, ei.Constant(0.04, "b")]),
                edge="gpu",
            ),
            ei.EdgeNode(),
            [0.4, 0.7],
        ),
        (ei.Terminals(9, 0.8, ei.Pipeline([CONSTANT, GPU]), edge="gpu"), [ei.EdgeNode(), ei.EdgeNode()], [0.4, 0.6]),
    ],
)
def test_simulated_cells_are_below(kinds, edges, limits):
    cell = ei.Cell(kinds, edges)
    run = ei.simulate_cell(cell, limits, jobs=40_000, replications=4, rng=1, threads=1, confidence=0.999)
    for kind in cell.terminals:
        bracket, violation = ei.cell_bracket(cell, limits, kind.name), run[kind.name].violation
        assert (violation.low[:, -1] <= bracket.upper).all() and (bracket.lower <= violation.high[:, -1]).all()
        assert bracket.upper[-1] < 0.2


def test_excess_over_a_time():
    """M/M/1: P(J > t) = e^{-a t} and P(w > t) = rho e^{-a t}, a = 1 / mean - rate."""
    rate, mean, times = 2.0, 0.2, np.linspace(0, 3, before.STEPS + 1)
    kind = ei.Terminals(3, rate, ei.Pipeline([ei.Exponential(mean, "up"), GPU]), edge="gpu")
    found = before._before(ei.Cell(kind, ei.EdgeNode()), kind, times)
    late = np.exp(-(1 / mean - rate) * times)
    for ours, theirs in (
        (found.wait, rate * mean * late),
        (found.wait_excess, rate * mean * late / (1 / mean - rate)),
        (found.excess, late / (1 / mean - rate)),
    ):
        # Left ends of steps of 0.006 s make e^{0.018} of it, and a bound on what lies beyond 6 s some e^{-12} more.
        assert (theirs <= ours * (1 + 1e-9)).all() and (ours <= 1.02 * theirs + 5e-5).all()


def stage_is_chained(stage):
    return isinstance(stage, ei.Transfer) and isinstance(stage.link, ei.MarkovLink)


def test_where_none_is_known_the_end_is_one():
    for process, stage, edge in (
        (ei.Periodic(1.0), ei.Exponential(0.05, "up"), ei.EdgeNode()),
        (1.0, ei.Transfer(1e5, ei.MarkovLink([1e7], [[1.0]], 0.01), "up"), ei.EdgeNode()),
        (1.0, ei.Exponential(0.05, "up"), ei.EdgeNode(2)),
        (1.0, ei.Exponential(0.05, "up"), ei.EdgeNode(1, "processor_sharing")),
        (1.0, ei.Exponential(0.05, "up"), ei.EdgeNode(batch=ei.Batching(4, fixed=0.05))),
    ):
        cell = ei.Cell(ei.Terminals(3, process, ei.Pipeline([stage, GPU]), edge="gpu"), edge)
        bracket = ei.cell_bracket(cell, 2.0)
        assert bracket.upper == 1 and bracket.upper_method == "trivial"
        assert bracket.lower_method == (
            "pipeline" if edge == ei.EdgeNode() and not stage_is_chained(stage) else "alone"
        )


def delayed(*stages):
    """Two classes at one edge, one of them behind an uplink of its own among other stages."""
    plain = ei.Terminals(3, 0.8, ei.Pipeline([ei.Constant(0.1, "f"), ei.Constant(0.03, "p")]), edge="f", name="plain")
    uplink = ei.Transfer(2e5, ei.RayleighLink(5e6, 23, -100, 105, 0.005), "up")
    chain = [uplink if stage == "up" else stage for stage in stages]
    behind = ei.Terminals(3, 0.8, ei.Pipeline([*chain, ei.Constant(0.15, "g")]), edge="g", name="behind")
    return ei.Cell((plain, behind), ei.EdgeNode())


def test_stages_that_take_no_time_are_none():
    """One before the uplink, or behind the edge, left no upper end, and no terminals."""
    wanted = ei.cell_bracket(delayed("up"), 2.0, "behind")
    none, empty = ei.Delay(ei.Constant(0.0, "none")), ei.Constant(0.0, "empty")
    assert wanted.upper < 1
    for stages in ((none, "up"), (empty, "up", none)):
        assert ei.cell_bracket(delayed(*stages), 2.0, "behind") == wanted
    gpu = ei.Exponential(0.3, "gpu")
    ends = [
        ei.cell_bracket(ei.Cell(ei.Terminals(5, 0.7, ei.Pipeline(stages), edge="gpu"), ei.EdgeNode(2)), 3.0)
        for stages in ([gpu], [gpu, empty])
    ]
    assert ends[0] == ends[1] and ends[0].upper < 1
    alone = ei.Cell(ei.Terminals(1, 0.1, ei.Pipeline([empty])), ei.EdgeNode())
    assert ei.cell_bracket(alone, 1.0).upper == 0


def test_delays_about_queues_before_the_edge_are_added():
    fixed, spread = ei.Delay(ei.Constant(0.3, "wait")), ei.Delay(ei.Exponential(0.2, "spread"))
    shifted = ei.cell_bracket(delayed("up"), 0.9, "behind")
    for stages in ((fixed, "up"), ("up", fixed)):
        assert ei.cell_bracket(delayed(*stages), 1.2, "behind").upper == pytest.approx(shifted.upper, rel=0.05)
    cell = delayed(spread, fixed, "up", fixed)
    run = ei.simulate_cell(cell, 1.5, jobs=20_000, replications=4, rng=1, threads=1, confidence=0.999)
    for name in ("plain", "behind"):
        ends, late = ei.cell_bracket(cell, 1.5, name), run[name].violation[..., -1]
        assert ends.lower <= late.high and late.low <= ends.upper < 1
