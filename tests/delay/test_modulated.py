"""Markov-modulated arrivals: bracket and bounds against matrix analysis and simulation."""

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer.delay.constant_servers import stationary

#: Quiet and busy times, of index of dispersion 5; phases gone through in turn, so that backwards is not forwards.
PROCESSES = {
    "two phases": ei.MarkovModulated([0.5, 3.0], [[-0.1, 0.1], [0.4, -0.4]]),
    "turns": ei.MarkovModulated([0.0, 1.0, 3.0], [[-0.2, 0.2, 0.0], [0.0, -0.3, 0.3], [0.5, 0.0, -0.5]]),
}


def arrivals_within(process, time, levels):
    """P(n arrivals within a time, phase at its end), (levels, phases, phases), by uniformization."""
    rate = (process.rates - np.diag(process.generator)).max()
    plain = np.eye(process.rates.size) + (process.generator - np.diag(process.rates)) / rate
    counts = np.zeros((levels, *plain.shape))
    power = counts.copy()
    power[0] = np.eye(process.rates.size)
    chance = np.exp(-rate * time)
    for event in range(1, 60):
        counts += chance * power
        chance *= rate * time / event
        later = power @ plain
        later[1:] += power[:-1] @ np.diag(process.rates / rate)
        power = later
    return counts


def constant_tail(process, levels):
    """P(W > (m + 1) s), m = 0, 1, .., of MMPP/D/1 with services of 1 s.

    The number in the system and the phase, seen every second, are a chain of type M/G/1: who was there goes, but for
    the others before it. A request that finds n waits n - 1 seconds and part of one more (Crommelin's argument).
    """
    counts, size = arrivals_within(process, 1.0, levels), process.rates.size
    matrix = np.zeros((levels, size, levels, size))
    for n in range(levels):
        start = max(n - 1, 0)
        matrix[n, :, start:, :] = counts[: levels - start].transpose(1, 0, 2)
    matrix = matrix.reshape(levels * size, -1)
    matrix[:, -size:] += (1 - matrix.sum(axis=1))[:, None] / size
    found = stationary(matrix).reshape(levels, size) @ process.rates / process.mean_rate
    return np.cumsum(found[::-1])[::-1][1:]


def exponential_tail(process, times):
    """P(W > t) of MMPP/M/1 with services of mean 1 s, by the rate matrix of the number in the system (Neuts)."""
    arrive, one = np.diag(process.rates), np.eye(process.rates.size)
    stay = process.generator - arrive - one
    ratio = np.zeros_like(arrive)
    for _ in range(20000):
        ratio = -arrive @ np.linalg.inv(stay + ratio)
    balance = (process.generator - arrive + ratio).T
    balance[-1] = np.linalg.inv(one - ratio).sum(axis=1)
    state = np.linalg.solve(balance, np.eye(len(one))[-1])
    met = np.linalg.solve(one - ratio, process.rates) / process.mean_rate
    # Who finds n there waits for n + 1 services, a Poisson number of which end in t: the sum over n is e^{-(1 - R) t}.
    values, vectors = np.linalg.eig(ratio)
    shares = (state @ vectors) * np.linalg.solve(vectors, met)
    return (np.exp(-np.multiply.outer(times, 1 - values)) @ shares).real


# Of the levels the last one stands for all above it: 1e-10 of the probabilities here.
@pytest.mark.parametrize(
    ("name", "load", "levels"), [("two phases", 0.3, 80), ("two phases", 0.7, 300), ("turns", 0.6, 160)]
)
def test_constant_services_against_matrix_analysis(name, load, levels):
    process = PROCESSES[name].at_rate(load)
    tail, pipeline = constant_tail(process, levels), ei.Pipeline([ei.Constant(1.0, "a")])
    at = np.array([int(np.argmax(tail < level)) for level in (0.3, 1e-3, 1e-6)])
    bracket = ei.violation_bracket(pipeline, process, at + 1.0)
    assert (bracket.lower <= tail[at] * (1 + 1e-8)).all() and (tail[at] <= bracket.upper * (1 + 1e-8)).all()
    assert (bracket.upper <= 1.03 * bracket.lower).all()
    union, lundberg = (ei.violation_bound(pipeline, process, at + 1.0, method) for method in ("union", "lundberg"))
    assert (tail[at] <= lundberg).all() and (lundberg <= union * (1 + 1e-9)).all()
    # Lundberg's bound decays as the tail does.
    assert lundberg[2] / lundberg[1] == pytest.approx(tail[at[2]] / tail[at[1]], rel=1e-3)


@pytest.mark.parametrize(
    ("name", "load", "slower"),
    [
        ("two phases", 0.5, 1),
        ("two phases", 0.9, 1),
        ("turns", 0.7, 1),
        ("two phases", 0.99, 50),
        ("turns", 0.99, 50),
    ],
)
def test_exponential_services_against_matrix_analysis(name, load, slower):
    process, times = PROCESSES[name].at_rate(load), slower * np.array([2.0, 8.0, 30.0, 90.0])
    exact, pipeline = exponential_tail(process, times), ei.Pipeline([ei.Exponential(1.0, "a")])
    bracket = ei.violation_bracket(pipeline, process, times)
    # The rate matrix is known to 1e-12 or so, and its error grows with the number of services.
    assert (bracket.lower <= exact * (1 + 1e-8)).all() and (exact <= bracket.upper * (1 + 1e-8)).all()
    assert (bracket.upper <= (1 + 1e-6) * bracket.lower).all()
    for method in ("union", "lundberg"):
        assert (ei.violation_bound(pipeline, process, times, method) >= exact).all()


@pytest.mark.parametrize(
    ("name", "loads"), [("two phases", (0.5, 0.5)), ("two phases", (0.75, 0.75)), ("turns", (0.6, 0.58))]
)
def test_two_exponential_stages(name, loads):
    """Ends that hold the chance of two stages together: no less than of one, and close to each other."""
    process, times = PROCESSES[name].at_rate(1.0), (10 if loads[0] == 0.75 else 4) * np.array([5.0, 8.0, 20.0])
    stages = [ei.Exponential(loads[0], "a"), ei.Exponential(loads[1], "b")]
    bracket, other = (ei.violation_bracket(ei.Pipeline(order), process, times) for order in (stages, stages[::-1]))
    assert (bracket.upper <= 1.05 * bracket.lower).all() and set(bracket.method) == {"exponential / exponential"}
    np.testing.assert_array_equal([bracket.lower, bracket.upper], [other.lower, other.upper])
    alone = ei.violation_bracket(ei.Pipeline(stages[:1]), process, times)
    assert (alone.lower < bracket.lower).all()
    estimate = ei.rare_violation(ei.Pipeline(stages), process, times[:2], rng=3, relative_error=0.02, confidence=0.9999)
    # Two intervals, six in all: one fails with probability 6e-4 at most.
    assert (estimate.low <= bracket.upper[:2]).all() and (bracket.lower[:2] <= estimate.high).all()


LINK = ei.Transfer(2e6, ei.RayleighLink(10e6, 31, -100, 128.1, 0.01), "link")
CHAINS = {
    "constant bottleneck": ([ei.Constant(0.65, "a"), LINK, ei.Constant(0.45, "b")], 1.05),
    "link bottleneck": ([ei.Constant(0.05, "a"), LINK, ei.Constant(0.06, "b")], 1.2),
    "two random stages": ([ei.Exponential(0.2, "a"), ei.Constant(0.6, "b"), ei.Exponential(0.1, "c")], 1.4),
}


@pytest.mark.parametrize("name", CHAINS)
def test_truth_lies_inside_at_chains(name):
    stages, width = CHAINS[name]
    pipeline, times = ei.Pipeline(stages), np.array([2.0, 5.0])
    process = PROCESSES["two phases"].at_rate(0.6 / pipeline.loads(1.0).max())
    bracket = ei.violation_bracket(pipeline, process, times)
    run = ei.simulate(pipeline, process, times, jobs=20_000, replications=32, rng=5, confidence=0.9999)
    # 6 intervals: one fails with probability 6e-4 at most.
    assert (run.violation.low[:, -1] <= bracket.upper).all() and (bracket.lower <= run.violation.high[:, -1]).all()
    assert (bracket.upper <= width * bracket.lower).all()


BEHIND_BURSTS = {
    "exponential bottleneck": (
        [ei.Constant(0.3, "a"), ei.Exponential(0.6, "b"), ei.Exponential(0.2, "c"), LINK],
        1.6,
    ),
    "measured bottleneck": (
        [ei.Exponential(0.2, "a"), ei.Measured(np.linspace(0.2, 1.0, 40), "b"), ei.Exponential(0.2, "c")],
        2.5,
    ),
    "exponential at the end": (
        [ei.Exponential(0.3, "a"), ei.Measured(np.linspace(0.1, 0.5, 9), "b"), ei.Exponential(0.6, "c")],
        1.9,
    ),
}


def test_more_exponential_stages_than_are_known_at_once():
    process, times = ei.MarkovModulated([2.0, 0.5], [[-0.5, 0.5], [0.2, -0.2]]).at_rate(0.6), [20.0, 45.0]
    pipeline = ei.Pipeline([ei.Exponential(time, name) for time, name in ((0.9, "a"), (1.0, "b"), (0.8, "c"))])
    bracket = ei.violation_bracket(pipeline, process, times)
    sampled = ei.rare_violation(pipeline, process, times, rng=1, relative_error=0.1, confidence=1 - 1e-5)
    assert (sampled.low <= bracket.upper).all() and (bracket.lower <= sampled.high).all()
    # Two at once and a service of the third.
    assert (bracket.lower >= sampled.value / 2).all()


def test_exponential_stages_behind_long_bursts():
    """Bursts of some hundred services and of some thousand, and stages nearly as slow as the slowest."""
    pipeline = ei.Pipeline([ei.Exponential(time, f"stage {time}") for time in (0.95, 1.0, 0.9, 0.85)])
    for slow, time in ((0.001, 66e3), (0.1, 170.0)):
        process = ei.MarkovModulated([0.4, 2.0], slow * np.array([[-0.1, 0.1], [0.2, -0.2]])).at_rate(0.76)
        bracket = ei.violation_bracket(pipeline, process, time)
        assert bracket.upper_method == "exponential" and bracket.upper < 4 * bracket.lower < 2, bracket
    run = ei.simulate(pipeline, process, [time], jobs=20_000, replications=32, rng=5, confidence=0.9999)
    assert run.violation.low[0, -1] <= bracket.upper and bracket.lower <= run.violation.high[0, -1]


def test_exponential_stages_behind_phases_that_are_alike():
    """Poisson arrivals in the guise of two phases: sojourn times are independent and exponential."""
    means = np.array([1.0, 0.9, 0.8, 0.6])
    process = ei.MarkovModulated([0.7 - 1e-9, 0.7 + 1e-9], [[-0.1, 0.1], [0.2, -0.2]])
    decays, times = 1 / means - 0.7, np.array([15.0, 30.0, 60.0])
    shares = [np.prod([b / (b - a) for b in decays if b != a]) for a in decays]
    exact = np.array([np.dot(shares, np.exp(-decays * time)) for time in times])
    bracket = ei.violation_bracket(
        ei.Pipeline([ei.Exponential(mean, f"stage {mean}") for mean in means]), process, times
    )
    assert (bracket.lower <= exact).all() and (exact <= bracket.upper).all()


@pytest.mark.parametrize("name", BEHIND_BURSTS)
def test_phases_with_no_arrivals_are_hyperexponential(name):
    """A Poisson process that is switched on and off has independent times of a hyperexponential law (Kuczura)."""
    stages, width = BEHIND_BURSTS[name]
    pipeline, bursty = ei.Pipeline(stages), ei.Hyperexponential(0.8, 4.0)
    # Rates with balanced means, and from them those of being switched on and off.
    share = (1 + np.sqrt(3 / 5)) / 2
    fast, slow = 2 * share * 0.8, 2 * (1 - share) * 0.8
    busy = share * fast + (1 - share) * slow
    start = fast * slow / busy
    end = fast + slow - busy - start
    process = ei.MarkovModulated([0.0, busy], [[-start, start], [end, -end]])
    assert process.mean_rate == pytest.approx(0.8)
    times = np.array([8.0, 20.0, 40.0])
    bracket = ei.violation_bracket(pipeline, process, times)
    # 9 intervals: one fails with probability 1e-3 at most.
    sampled = ei.rare_violation(pipeline, bursty, times, rng=4, relative_error=0.02, confidence=0.9999)
    assert (sampled.low <= bracket.upper).all() and (bracket.lower <= sampled.high).all()
    assert (bracket.upper <= width * bracket.lower).all(), bracket.upper / bracket.lower


@pytest.mark.parametrize(("name", "width"), [("two phases", 2.1), ("turns", 4.2)])
def test_slowest_stage_behind_others(name, width):
    """Whether phases are monotone, or not, as in turns."""
    pipeline = ei.Pipeline([ei.Constant(0.2, "a"), ei.Exponential(0.3, "b"), ei.Exponential(0.4, "c")])
    process, times = PROCESSES[name], np.array([8.0, 20.0])
    bracket = ei.violation_bracket(pipeline, process, times)
    # 4 intervals: one fails with probability 4e-4 at most.
    sampled = ei.rare_violation(pipeline, process, times, rng=6, relative_error=0.04, confidence=0.9999)
    assert (sampled.low <= bracket.upper).all() and (bracket.lower <= sampled.high).all()
    assert (bracket.upper <= width * bracket.lower).all(), bracket.upper / bracket.lower


def test_phases_of_one_rate_are_poisson():
    process = ei.MarkovModulated([0.6, 0.6, 0.6], np.ones((3, 3)) - 3 * np.eye(3))
    pipeline, times = ei.Pipeline([ei.Constant(0.5, "a"), LINK, ei.Exponential(0.3, "b")]), [3.0, 9.0]
    for method in ("union", "lundberg"):
        bounds = [ei.violation_bound(pipeline, arrivals, times, method, log=True) for arrivals in (process, 0.6)]
        np.testing.assert_allclose(*bounds, rtol=1e-9)
    bracket, exact = (ei.violation_bracket(pipeline, arrivals, times) for arrivals in (process, 0.6))
    assert (bracket.lower <= exact.upper).all() and (exact.lower <= bracket.upper).all()


def test_edges():
    process, pipeline = PROCESSES["two phases"], ei.Pipeline([ei.Constant(0.5, "a"), ei.Exponential(0.2, "b")])
    bracket = ei.violation_bracket(pipeline, process, [0.0, 0.5, np.inf])
    assert bracket.lower[0] == 1 and bracket.lower[1] > 0.99 and (bracket.upper[:2] == 1).all()
    assert bracket.lower[2] == bracket.upper[2] == 0
    far = ei.violation_bracket(pipeline, process, 1e6)
    assert 0 <= far.lower < far.upper < 1e-280
    unstable = ei.violation_bracket(pipeline, process.at_rate(2.0), 5.0)
    assert unstable.lower == unstable.upper == 1 and unstable.upper_method == "unstable"
    nothing = ei.violation_bracket(ei.Pipeline([ei.Constant(0.0, "a")]), process, 0.0)
    assert nothing.lower == nothing.upper == 0
    two = ei.Pipeline([ei.Compute(1.0, ei.Node("edge", 1.0), "c", servers=2)])
    bracket = ei.violation_bracket(two, process, [3.0, 6.0])
    assert (bracket.lower < bracket.upper).all() and (bracket.upper < 1).all()


def test_inverse_problems():
    process, pipeline = PROCESSES["two phases"], ei.Pipeline([ei.Constant(0.5, "a")])
    deadline = ei.deadline_at(pipeline, process, 1e-3, tolerance=0.03)
    assert (
        ei.violation_bound(pipeline, process, deadline) <= 1e-3 < ei.violation_bound(pipeline, process, 0.97 * deadline)
    )
    rate = ei.max_arrival_rate(pipeline, deadline, 1e-3, arrivals=process, method="lundberg")
    assert 0 < rate < process.mean_rate
    assert ei.violation_bound(pipeline, process.at_rate(rate), deadline, "lundberg") <= 1e-3
    bandwidth = ei.min_bandwidth(ei.Pipeline([LINK]), process, 5.0, 1e-3, method="lundberg", tolerance=0.1)
    assert 1e5 < bandwidth < 1e9


def test_what_is_refused():
    process, pipeline = PROCESSES["two phases"], ei.Pipeline([ei.Constant(0.5, "a")])
    many = ei.MarkovModulated(np.arange(17.0), np.ones((17, 17)) - 17 * np.eye(17))
    with pytest.raises(ValueError, match=r"MarkovModulated\(..\): has 17 phases: must have at most 16"):
        ei.violation_bracket(pipeline, many, 1.0)
    for method in ("corrected", "printed"):
        with pytest.raises(
            ValueError, match=rf"MarkovModulated\(..\): must be a rate or Poisson.* for method '{method}'"
        ):
            ei.violation_bound(pipeline, process, 1.0, method)
    with pytest.raises(ValueError, match=r"MarkovModulated\(..\): has 17 phases: must have at most 16"):
        ei.rare_violation(pipeline, many, 1.0)


@pytest.mark.parametrize(
    "stages",
    [
        pytest.param([ei.Constant(0.5, "a")], id="constant"),
        pytest.param([ei.Exponential(0.5, "a")], id="exponential"),
        pytest.param([ei.Constant(0.4, "a"), ei.Exponential(0.3, "b")], id="chain"),
    ],
)
def test_sampled_values_between_the_ends(stages):
    """10 intervals of 99.99 % each way: a chance of 1e-3, and the seed is fixed."""
    pipeline, process = ei.Pipeline(stages), PROCESSES["two phases"].at_rate(1.2)
    times = np.array([1.5, 6.0, 30.0])
    bracket = ei.violation_bracket(pipeline, process, times)
    sampled = ei.rare_violation(pipeline, process, times, rng=1, relative_error=0.03, confidence=0.9999)
    assert (bracket.lower <= sampled.high).all() and (sampled.low <= bracket.upper).all()
    assert 0 < sampled.value[-1] < 1e-3


def test_sampled_deadline():
    """Quiet phases without requests leave a renewal process: sojourn times are exponential, of the root's rate."""
    process = ei.MarkovModulated([2.5, 0.0], [[-0.3, 0.3], [0.2, -0.2]])
    x = 0.5
    for _ in range(1000):
        theta = 2 * (1 - x)
        x = 2.5 * (theta + 0.2) / ((theta + 0.2) * (theta + 2.8) - 0.06)
    pipeline = ei.Pipeline([ei.Exponential(0.5, "a")])
    sampled = ei.deadline_at(pipeline, process, 0.01, method="sampling", rng=1, confidence=0.9999, relative_error=0.05)
    assert sampled.low <= np.log(100) / (2 * (1 - x)) <= sampled.high


def test_no_deadline_below_the_shortest_time_is_met():
    process = ei.MarkovModulated([0.0135, 0.0675], [[-0.0034, 0.0034], [0.0068, -0.0068]])
    node = ei.Node("unit", 1.0)
    stages = [ei.Compute(1.02, node, "a"), ei.Compute(1.09, node, "b"), ei.Measured([0.97, 1.1, 1.33], "c")]
    pipeline = ei.Pipeline([*stages, ei.Measured([0.85, 0.95, 1.1], "d"), ei.Exponential(0.9, "e")])
    bracket = ei.violation_bracket(pipeline, process, [3.0, 3.5, 3.9])
    np.testing.assert_array_equal(bracket.upper, 1)


def test_paths_too_long_to_be_sampled_are_refused():
    slow = ei.MarkovModulated([0.2, 1.6], [[-1e-6, 1e-6], [1e-6, -1e-6]])
    with pytest.raises(ValueError, match=r"arrival_rate = 0.9, deadline = 20: .* 16384 requests"):
        ei.rare_violation(ei.Pipeline([ei.Exponential(1.0, "a")]), slow, 20.0, rng=1)


def test_a_constant_stage_before_a_random_one_that_is_nearly_as_slow() -> None:
    """On the lattice of services behind other stages rounding took most of what a period leaves: 11 times apart."""
    bursts = ei.MarkovModulated([0.1837, 1.367], [[-0.0097, 0.0097], [0.0193, -0.0193]])
    pipeline = ei.Pipeline([ei.Constant(0.983, "edge"), ei.Exponential(0.865, "device")])
    bracket = ei.violation_bracket(pipeline, bursts, 200.0)
    assert 2e-4 < bracket.lower <= bracket.upper < 2 * bracket.lower
