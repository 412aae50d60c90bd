"""Requests that come back for another round: feedback beside Takács and Jackson, outcomes beside sums of services.

Intervals are of 99.9 %, seeds are fixed.
"""

import math

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer import model
from edgeinfer.cell import Cell, EdgeNode, Terminals, loads, simulate_cell

#: P(N = n) for n = 1 .. 60, geometric but for 1e-18: after each round, another with probability 1/2.
GEOMETRIC = np.append(0.5 ** np.arange(1, 60), 0.5**59)


def run(cell, deadlines=(), jobs=20_000, seed=1, **options):
    options = {"replications": 4, "threads": 1, "confidence": 0.999} | options
    return simulate_cell(cell, deadlines, jobs=jobs, rng=seed, **options)


def holds(estimate, truth, index=...):
    low, high = np.asarray(estimate.low)[index], np.asarray(estimate.high)[index]
    return bool(np.all((low <= truth) & (truth <= high)))


def feedback_moments(rate, moments, again):
    """First and second moments of the time in M/G/1 with Bernoulli feedback (Takács, Bell Syst. Tech. J. 42, 1963).

    From pass to pass: of the n before the tagged request when it ends a pass, each takes a service, and is there again
    with probability p; so is who comes meanwhile. All moments up to the second of the time T so far and of n
    follow linearly from those of the pass before. The first pass meets the queue of a random instant: a service whose
    past and rest have the moments E a = E y = b2 / 2 b, E a^2 = E y^2 = b3 / 3 b, E a y = b3 / 6 b, and that began with
    a number whose generating function is pi z (1 - z) / (f(z) - z), f(z) = (q + p z) E e^{-rate (1 - z) S}.

    moments: b, b2, b3 = E S, E S^2, E S^3; again: p.
    """
    b, b2, b3 = moments
    p, q, busy = again, 1 - again, rate * b / (1 - again)
    # In x = z - 1: f = 1 + f1 x + f2 x^2 + f3 x^3, so that G is (1 + x) / (1 - c2 x - c3 x^2) with G(0) = 1.
    e1, e2, e3 = rate * b, rate**2 * b2 / 2, rate**3 * b3 / 6
    f1, f2, f3 = e1 + p, e2 + p * e1, e3 + p * e2
    c2, c3 = f2 / (1 - f1), f3 / (1 - f1)
    first, factorial = 1 + c2, 2 * (c2 + c2**2 + c3)
    begun, begun2 = first, factorial + first  # E n, E n^2 when a service begins
    age, ages, both = b2 / (2 * b), b3 / (3 * b), b3 / (6 * b)
    # j = begun - 1 + Poisson(rate a) wait behind the one in service, for its rest y.
    j = begun - 1 + rate * age
    j2 = begun2 - 2 * begun + 1 + 2 * (begun - 1) * rate * age + rate * age + rate**2 * ages
    yj = (begun - 1) * age + rate * both

    def after(n, n2, rest, rest2, rest_n, back):
        """E T, E T^2, E n', E n'^2, E T n' of a pass behind n whole services, ours and a rest; n + back may return."""
        d, d2 = rest + (n + 1) * b, rest2 + 2 * b * (rest_n + rest) + (n + 1) * b2 + (n2 + n) * b**2
        m, m2 = n + back, n2 + 2 * back * n + back  # back is 0 or 1
        dm = rest_n + back * rest + b * (n2 + n + back * (n + 1))
        return (
            d,
            d2,
            rate * d + p * m,
            rate**2 * d2 + rate * d + 2 * rate * p * dm + p**2 * m2 + p * q * m,
            (rate * d2 + p * dm),
        )

    none, some = after(0, 0, 0, 0, 0, 0), after(j, j2, age, ages, yj, 1)
    t, tt, n, nn, tn = ((1 - busy) * x + busy * y for x, y in zip(none, some, strict=True))
    total, square, left = 0.0, 0.0, 1.0
    while left > 1e-16:
        total, square, left = total + left * q * t, square + left * q * tt, left * p
        d, d2, n_, nn_, dn = after(n, nn, 0, 0, 0, 0)
        td, t_n = b * (tn + t), rate * b * (tn + t) + p * tn
        t, tt, n, nn, tn = t + d, tt + 2 * td + d2, n_, nn_, t_n + dn
    return total, square


def second_moment(answer):
    """Of the sojourn time, from the histogram: its bins are a 64th of an octave."""
    counts, middle = answer.histogram[-1], (answer.bin_edges[1:] + answer.bin_edges[:-1]) / 2
    return float(counts @ middle**2 / counts.sum())


@pytest.mark.parametrize(
    ("stage", "moments"),
    [(ei.Exponential(0.2, "gpu"), (0.2, 0.08, 0.048)), (ei.Constant(0.2, "gpu"), (0.2, 0.04, 0.008))],
)
def test_feedback_has_the_moments_of_takacs(stage, moments):
    rate, again = 1.5, 0.5
    mean, square = feedback_moments(rate, moments, again)
    b, b2 = moments[:2]
    closed = (2 * b * (1 - rate * b) + rate * b2) / (2 * (1 - again - rate * b))
    assert mean == pytest.approx(closed, rel=1e-12)
    kind = Terminals(10, rate / 10, ei.Pipeline([stage]), edge=0, rounds=GEOMETRIC)
    cell = Cell(kind, EdgeNode())
    assert loads(cell)["edge"] == pytest.approx(0.6)
    answers = [run(cell, jobs=30_000, seed=seed)["terminals"] for seed in range(8)]
    assert all(holds(answer.mean, closed) for answer in answers)
    squares = np.array([second_moment(answer) for answer in answers])
    # Student's t of 7 degrees of freedom at 99.9 %.
    assert abs(squares.mean() - square) < 5.41 * squares.std(ddof=1) / math.sqrt(8)
    assert squares.std(ddof=1) < 0.05 * square
    # All waits of a request, before one stage and with one service a round.
    assert holds(answers[0].stage_waiting, closed - 2 * b, 0)


def test_rounds_through_a_network_of_jackson():
    """Exponential services, each first come, first served: every queue is M/M/1 at the rate that passes it."""
    stages = [
        ei.Exponential(0.1, "a"),
        ei.Exponential(0.3, "draft"),
        ei.Exponential(0.05, "gpu"),
        ei.Exponential(0.2, "c"),
    ]
    kind = Terminals(4, 0.8, ei.Pipeline(stages), edge="gpu", rounds=GEOMETRIC, repeated=("draft", "gpu"))
    assert [kind.visits(k) for k in range(4)] == pytest.approx([1, 2, 2, 1])
    cell = Cell(kind, EdgeNode())
    assert loads(cell) == pytest.approx(
        {"edge": 0.32, "terminals: a": 0.08, "terminals: draft": 0.48, "terminals: c": 0.16}
    )
    answer = run(cell, jobs=40_000)["terminals"]
    times = [
        often / (1 / mean - rate) for often, mean, rate in ((1, 0.1, 0.8), (2, 0.3, 1.6), (2, 0.05, 6.4), (1, 0.2, 0.8))
    ]
    assert holds(answer.mean[-1], sum(times)) and holds(answer.mean[0], times[0])
    services = np.array([0.1, 0.6, 0.1, 0.2])
    assert holds(answer.stage_waiting[:4], np.array(times) - services)
    assert holds(answer.utilisation[:4], np.array([0.08, 0.48, 0.32, 0.16]))
    assert holds(answer.throughput, 3.2)


def test_right_and_on_time_where_nobody_waits():
    """P(right, W <= T) = sum over n of P(n, right) P(n services take at most T)."""
    rounds = np.array([[0.5, 0.0], [0.2, 0.1], [0.05, 0.15]])
    cell = Cell(Terminals(5, 0.4, ei.Pipeline([ei.Exponential(0.5, "gpu")]), edge=0, rounds=rounds), EdgeNode(60))
    limits = np.array([0.3, 1.0, 3.0, np.inf])
    answer = run(cell, limits)["terminals"]
    with np.errstate(invalid="ignore"):
        scaled = np.where(np.isinf(limits), 1e9, limits) / 0.5
    on_time = [1 - np.exp(-scaled) * sum(scaled**i / math.factorial(i) for i in range(n)) for n in (1, 2, 3)]
    assert holds(answer.timely, rounds[:, 0] @ np.array(on_time))
    assert answer.timely.value.shape == limits.shape
    # A queue makes fewer of them timely, and no answer more right.
    busy = Cell(Terminals(5, 0.2, ei.Pipeline([ei.Exponential(0.5, "gpu")]), edge=0, rounds=rounds), EdgeNode(1))
    late = run(busy, limits)["terminals"]
    assert late.timely.high[1] < answer.timely.low[1] and holds(late.timely, 0.75, 3)
    plain = Terminals(5, 0.2, ei.Pipeline([ei.Exponential(0.5, "gpu")]), edge=0, rounds=[1.0])
    assert run(Cell(plain, EdgeNode()), jobs=500)["terminals"].timely is None


def test_one_round_is_no_round():
    """The same bits, but for the numbers that are drawn for it: equal intervals."""
    stages = ei.Pipeline([ei.Exponential(0.1, "a"), ei.Constant(0.3, "gpu")])
    answers = [
        run(Cell(Terminals(4, 0.5, stages, edge="gpu", **more), EdgeNode()), [0.8])["terminals"]
        for more in ({}, {"rounds": [1.0]})
    ]
    assert np.all(answers[0].mean.low <= answers[1].mean.high) and np.all(answers[1].mean.low <= answers[0].mean.high)


def test_rounds_over_bands_batches_and_several_servers():
    link = ei.RayleighLink.from_snr(2.0, 10e6, 0.01)
    stages = [ei.Transfer(2e5, link, "up"), ei.Constant(0.01, "gpu"), ei.Transfer(2e5, link, "down")]
    kinds = [
        Terminals(4, 0.5, ei.Pipeline(stages), edge="gpu", rounds=[0.5, 0.5], name="twice"),
        Terminals(4, 0.5, ei.Pipeline(stages), edge="gpu", name="once"),
    ]
    edge = EdgeNode(2, batch=ei.Batching(4, 0.01, 0.02))
    for band in (None, ei.Band(20e6, "equal_share"), ei.Band(20e6, "round_robin")):
        cell = Cell(kinds, edge, band, band)
        answers = [run(cell, jobs=3_000, threads=threads) for threads in (1, 3)]
        assert np.array_equal(answers[0]["twice"].mean.value, answers[1]["twice"].mean.value)
        ours, other = answers[0]["twice"], answers[0]["once"]
        assert holds(answers[0].edges[0].rate, 4 * 0.5 * 1.5 + 4 * 0.5)
        # A request that comes as often as not again takes half as long again, on the same way.
        assert 1.3 < float(ours.mean.value[-1] / other.mean.value[-1]) < 1.7


def test_what_is_known_of_rounds():
    kind = Terminals(4, 0.5, ei.Pipeline([ei.Constant(0.1, "gpu")]), edge=0, rounds=[0.5, 0.5])
    bracket = ei.cell_bracket(Cell(kind, EdgeNode()), [0.05, 0.3])
    assert bracket.lower[0] > 1 - 1e-8 and (bracket.upper == 1).all() and bracket.method[1] == "alone / trivial"
    held = Terminals(4, 0.5, ei.Pipeline([model.Session([ei.Constant(0.1, "gpu")], [0.5, 0.5], "s")]), edge=0)
    assert ei.cell_bracket(Cell(held, EdgeNode()), 0.3).upper < 0.5


def test_refused_by_name():
    pipeline = ei.Pipeline([ei.Constant(0.1, "a"), ei.Constant(0.1, "gpu")])
    for options, message in (
        ({"rounds": [0.5, 0.4]}, r"rounds: their sum = 0\.9"),
        ({"rounds": [1.5]}, r"rounds\[0\] = 1\.5: must be in"),
        ({"rounds": np.ones((2, 3)) / 6}, r"rounds of shape \(2, 3\): must be"),
        ({"repeated": ("a", "gpu")}, r"repeated = \('a', 'gpu'\): must be None where no rounds"),
        ({"rounds": [1.0], "repeated": ("gpu", "a")}, r"must name the first stage first"),
        ({"rounds": [1.0], "repeated": ("b", "a")}, r"repeated = 'b': must be the name of one stage"),
        ({"rounds": [1.0], "repeated": (0,)}, r"must be two stages"),
        ({"rounds": [[0.5, 0.5]], "fallback": pipeline}, r"rounds of two columns: must be of one where"),
    ):
        with pytest.raises(ValueError, match=message):
            Terminals(2, 0.5, pipeline, edge="gpu", **options)
    with pytest.raises(ei.UnstableError, match=r"edge 1\.2"):
        simulate_cell(Cell(Terminals(2, 3.0, pipeline, edge="gpu", rounds=[0.0, 1.0]), EdgeNode()))
