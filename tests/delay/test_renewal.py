"""Renewal arrivals: bounds, importance sampling and inverse problems against exact laws."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

import edgeinfer as ei

MU = 1 / 0.7
QUEUE = ei.Pipeline([ei.Exponential(0.7, "a")])
#: Each with the Laplace transform of its interarrival time, of mean 1 s.
PROCESSES = {
    "poisson": (ei.Poisson(1.0), lambda q: 1 / (1 + q)),
    "periodic": (ei.Periodic(1.0), lambda q: np.exp(-q)),
    "erlang": (ei.Erlang(1.0, 4), lambda q: (4 / (4 + q)) ** 4),
    "gamma, even": (ei.Gamma(1.0, 0.3), lambda q: (1 + 0.3 * q) ** (-1 / 0.3)),
    "gamma, bursty": (ei.Gamma(1.0, 5.0), lambda q: (1 + 5 * q) ** -0.2),
    # Balanced means: probabilities (1 +- sqrt(3 / 5)) / 2, rates twice these.
    "hyperexponential": (
        ei.Hyperexponential(1.0, 4.0),
        lambda q: sum(p * 2 * p / (2 * p + q) for p in (1 + np.array([1, -1]) * 0.6**0.5) / 2),
    ),
}


def decay(transform, mu=MU):
    """GI/M/1: the sojourn time is exponential of rate mu (1 - s), s = E exp(-mu (1 - s) t)."""
    root = 0.5
    for _ in range(3000):
        root = transform(mu * (1 - root))
    return mu * (1 - root)


@pytest.mark.parametrize("name", PROCESSES)
def test_exponential_services(name):
    process, transform = PROCESSES[name]
    rate, times = decay(transform), np.array([2.0, 10.0, 40.0])
    exact = np.exp(-rate * times)
    # Lundberg's bound has the exact decay, and the factor M(theta) = mu / (mu - theta).
    lundberg = ei.violation_bound(QUEUE, process, times, "lundberg", log=True)
    np.testing.assert_allclose(lundberg, np.minimum(0, -rate * times + np.log(MU / (MU - rate))), atol=1e-5)
    assert (ei.violation_bound(QUEUE, process, times, "union") >= exact).all()
    # 18 intervals: one fails with probability 2e-3 at most.
    sampled = ei.rare_violation(QUEUE, process, times, rng=1, confidence=0.9999)
    assert (sampled.low <= exact).all() and (exact <= sampled.high).all()


@pytest.mark.parametrize("name", ["poisson", "periodic", "erlang", "gamma, even", "gamma, bursty", "hyperexponential"])
def test_bracket_of_exponential_services(name):
    process, transform = PROCESSES[name]
    # At a load of 0.5.
    rate, probabilities = decay(transform, 2.0), np.array([0.5, 1e-1, 1e-3, 1e-6, 1e-9, 1e-30])
    bracket = ei.violation_bracket(ei.Pipeline([ei.Exponential(0.5, "a")]), process, -np.log(probabilities) / rate)
    # The root of `decay` is right to some 1e-15.
    assert (bracket.lower <= probabilities).all() and (probabilities <= bracket.upper).all()
    assert (bracket.upper <= (1 + 1e-9) * bracket.lower).all() and set(bracket.lower_method) == {"exponential"}
    assert (np.diff(bracket.lower) <= 0).all() and (np.diff(bracket.upper) <= 0).all()


def tandem_sf(times, gap, deadlines, most):
    """P(W > deadline) of exponential servers, by the chain of the numbers of jobs there, `most` together at most.

    `gap` takes the generator of departures to the transition matrix over the time between two arrivals.
    """
    places = [jobs for jobs in np.ndindex(*[most + 1] * len(times)) if sum(jobs) <= most]
    index = {jobs: i for i, jobs in enumerate(places)}
    generator, more = np.zeros((len(places), len(places))), np.zeros((len(places), len(places)))
    for i, jobs in enumerate(places):
        for k in np.flatnonzero(jobs):
            after = list(jobs)
            after[k] -= 1
            if k + 1 < len(times):
                after[k + 1] += 1
            generator[i, index[tuple(after)]] = 1 / times[k]
        more[i, index.get((jobs[0] + 1, *jobs[1:]), i)] = 1
    generator -= np.diag(generator.sum(1))
    step, found = more @ gap(generator), np.full(len(places), 1 / len(places))
    for _ in range(200):
        found = found @ step
    # A request leaves with the last one of those that are there when it comes, if no more come.
    return np.array([1 - (found @ more @ scipy.linalg.expm(generator * time))[0] for time in deadlines])


def phase(rate):
    return lambda generator: np.linalg.inv(np.eye(len(generator)) - generator / rate)


GAPS = {
    "periodic": scipy.linalg.expm,
    "erlang": lambda generator: np.linalg.matrix_power(phase(4)(generator), 4),
    "hyperexponential": lambda generator: sum(
        p * phase(2 * p)(generator) for p in (1 + np.array([1, -1]) * 0.6**0.5) / 2
    ),
}


TANDEMS = [(0.35, 0.35), (0.4, 0.2), (0.2, 0.35), (0.25, 0.25, 0.25), (0.25, 0.2, 0.25), (0.2, 0.22, 0.25)]


@pytest.mark.parametrize(
    ("name", "times"),
    [(name, times) for name in GAPS for times in TANDEMS] + [("periodic", (0.2, 0.25, 0.2, 0.24))],
)
def test_exponential_stages(name, times):
    deadlines, most = np.array([0.1, 0.3, 1.0, 3.0, 6.0]), {2: 18, 3: 11, 4: 8}[len(times)]
    exact = tandem_sf(times, GAPS[name], deadlines, most)
    pipeline = ei.Pipeline([ei.Exponential(time, str(k)) for k, time in enumerate(times)])
    bracket = ei.violation_bracket(pipeline, PROCESSES[name][0], deadlines)
    # Of s^n that n jobs are at a stage, some more at later ones.
    mu = 1 / max(times)
    left = 1e-12 + 100 * (1 - decay(PROCESSES[name][1], mu) / mu) ** most
    assert (bracket.lower <= exact + left).all() and (exact - left <= bracket.upper).all()
    width = [1.3, 1.3, 1.3, 1.03, 1.002] if name != "periodic" else 1
    assert (bracket.upper <= (width + np.array(1e-8)) * bracket.lower).all(), bracket.upper / bracket.lower
    assert set(bracket.upper_method[3:]) == {"exponential"}


@pytest.mark.parametrize("name", ["periodic", "erlang", "gamma, bursty", "hyperexponential"])
def test_two_exponential_stages_nearly_as_slow_as_each_other(name):
    process = PROCESSES[name][0]
    stages = [ei.Exponential(0.85, "a"), ei.Exponential(0.9, "b")]
    for extra in [], [ei.Constant(0.3, "c")], [ei.Exponential(0.3, "c"), ei.Measured([0.1, 0.2, 0.5], "d")]:
        pipeline = ei.Pipeline([*stages, *extra])
        times = ei.deadline_at(pipeline, process, [1e-3, 1e-8], method="lundberg", tolerance=1e-3)
        bracket = ei.violation_bracket(pipeline, process, times)
        # 24 intervals: one fails with probability 3e-4 at most.
        sampled = ei.rare_violation(pipeline, process, times, rng=5, relative_error=0.1, confidence=1 - 1e-5)
        assert (sampled.low <= bracket.upper).all() and (bracket.lower <= sampled.high).all()
        assert (bracket.upper <= 1.1 * bracket.lower).all(), bracket.upper / bracket.lower


@pytest.mark.parametrize(
    ("name", "width"), [("periodic", 1 + 1e-8), ("erlang", 1.01), ("gamma, bursty", 4), ("hyperexponential", 2)]
)
def test_exponential_stages_as_slow_as_each_other(name, width):
    process = PROCESSES[name][0]
    pipeline = ei.Pipeline([ei.Exponential(0.8, stage) for stage in ("abc" if name != "periodic" else "abcde")])
    times = ei.deadline_at(pipeline, process, [1e-3, 1e-8], method="lundberg", tolerance=1e-3)
    bracket = ei.violation_bracket(pipeline, process, times)
    # Eight intervals: one fails with probability 8e-5 at most.
    sampled = ei.rare_violation(pipeline, process, times, rng=5, relative_error=0.2, confidence=1 - 1e-5)
    assert (bracket.lower <= sampled.high).all() and (sampled.low <= bracket.upper).all()
    assert (bracket.upper <= [width, min(width, 1.3)] * bracket.lower).all(), bracket.upper / bracket.lower
    assert set(bracket.upper_method) | set(bracket.lower_method) == {"exponential"}


@pytest.mark.parametrize(
    ("more", "above", "below"),
    [([ei.Exponential(0.7, "d")], 6, 10), ([ei.Constant(0.3, "d"), ei.Exponential(0.2, "e")], 1.4, 1.3)],
)
def test_more_stages_than_are_known_at_once(more, above, below):
    pipeline = ei.Pipeline([*(ei.Exponential(0.7, stage) for stage in "abc"), *more])
    process = PROCESSES["erlang"][0]
    times = ei.deadline_at(pipeline, process, [1e-3, 1e-6], method="lundberg", tolerance=1e-3)
    bracket = ei.violation_bracket(pipeline, process, times, effort="light")
    # Four intervals: one fails with probability 4e-5 at most.
    sampled = ei.rare_violation(pipeline, process, times, rng=5, relative_error=0.1, confidence=1 - 1e-5)
    assert (bracket.lower <= sampled.high).all() and (sampled.low <= bracket.upper).all()
    # The slopes of the law of three stages are taken to be what they are at its far end.
    assert (bracket.upper <= above * sampled.value).all(), bracket.upper / sampled.value
    assert (sampled.value <= below * bracket.lower).all(), bracket.lower / sampled.value


@pytest.mark.parametrize("rate", [5e-4, 2e-3])
@pytest.mark.parametrize("shape", [ei.Erlang(1.0, 4), ei.Gamma(1.0, 0.3), ei.Periodic(1.0)])
def test_requests_that_seldom_meet(shape, rate):
    link = ei.RayleighLink(1e6, 10, 0, 0, 0.2)
    radio = ei.Transfer(link.mean_rate(), link, "radio")
    times = np.array([1.4, 2.2, 3.0])
    # One queue behind Poisson arrivals has a bracket of its own; here they meet with 1e-15.
    alone = ei.violation_bracket(ei.Pipeline([radio]), 1e-15, times)
    bracket = ei.violation_bracket(ei.Pipeline([radio]), shape.at_rate(rate), times)
    assert (bracket.lower <= alone.upper).all() and (alone.lower <= bracket.upper).all()
    assert (bracket.upper <= 1.01 * bracket.lower).all() and (np.diff(bracket.upper) <= 0).all()
    chain = ei.Pipeline([ei.Compute(0.5, ei.Node("edge", 1.0), "edge"), radio, ei.Exponential(0.3, "network")])
    several = ei.violation_bracket(chain, shape.at_rate(rate), times + 1)
    assert (several.upper <= 1.1 * several.lower).all()
    run = ei.simulate(chain, shape.at_rate(rate), times + 1, jobs=20_000, replications=8, rng=1, confidence=1 - 1e-9)
    assert (run.violation.low[:, -1] <= several.upper).all() and (several.lower <= run.violation.high[:, -1]).all()


@pytest.mark.parametrize("process", [ei.Hyperexponential(0.9, 4.0), ei.Gamma(0.9, 5.0)])
def test_bracket_of_bursty_arrivals_at_a_heavy_load(process):
    transform = {name: entry[1] for name, entry in PROCESSES.items()}[
        "gamma, bursty" if isinstance(process, ei.Gamma) else "hyperexponential"
    ]
    # Services of mean 1 and 0.9 requests a second: times in units of those between arrivals.
    rate, probabilities = 0.9 * decay(transform, 1 / 0.9), np.array([0.5, 1e-1, 1e-3, 1e-6])
    bracket = ei.violation_bracket(ei.Pipeline([ei.Exponential(1.0, "a")]), process, -np.log(probabilities) / rate)
    assert (bracket.lower <= probabilities * (1 + 1e-9)).all()
    assert (probabilities <= bracket.upper * (1 + 1e-9)).all()
    assert (bracket.upper <= (1 + 1e-9) * bracket.lower).all()


# Moments of all paths count thousands of jobs at which one may change its stage: 60 to 4000 times the truth.
@pytest.mark.parametrize(
    ("process", "loads", "apart"),
    [(ei.Hyperexponential(1.0, 14.0), [0.95, 0.9], 2), (ei.Gamma(1.0, 12.0), [0.85, 0.9, 0.88], 30)],
)
def test_measured_stages_nearly_as_slow_as_each_other_behind_bursts(process, loads, apart):
    times = np.linspace(0.6, 1.4, 5)
    pipeline = ei.Pipeline([ei.Measured(load * times, f"stage {k}") for k, load in enumerate(loads)])
    deadline = ei.deadline_at(pipeline, process, 1e-3, method="lundberg", tolerance=1e-2)
    bracket = ei.violation_bracket(pipeline, process, deadline, effort="light")
    likely = ei.rare_violation(pipeline, process, deadline, relative_error=0.3, rng=1, confidence=1 - 2e-6)
    assert bracket.lower <= likely.high and likely.low <= bracket.upper <= apart * likely.high
    assert bracket.upper_method == "blocks"


CHAINS = {
    # The first stage decays about as slowly as the second one.
    "two slow stages": (
        [ei.Exponential(0.2, "a"), ei.Constant(0.6, "b"), ei.Measured(np.linspace(0.1, 0.5, 9), "c")],
        ei.Erlang(1.0, 3),
        10,
    ),
    "exponential bottleneck first": ([ei.Exponential(0.6, "a"), ei.Constant(0.5, "b")], ei.Erlang(1.0, 4), 1.03),
    "exponential bottleneck behind others": (
        [ei.Constant(0.4, "a"), ei.Exponential(0.7, "b"), ei.Constant(0.5, "c"), ei.Exponential(0.2, "d")],
        ei.Hyperexponential(1.0, 2.0),
        2,
    ),
    "frames": ([ei.Exponential(0.3, "a"), ei.Exponential(0.7, "b"), ei.Constant(0.6, "c")], ei.Periodic(1.0), 2),
    "random bottleneck": ([ei.Constant(0.3, "a"), ei.Exponential(0.5, "b")], ei.Gamma(1.0, 2.0), 1.5),
    "measured bottleneck before others": (
        [ei.Constant(0.3, "a"), ei.Measured(np.linspace(0.2, 1.0, 40), "b"), ei.Exponential(0.2, "c")],
        ei.Gamma(0.7, 5.0),
        2,
    ),
    "slowest behind others": (
        [ei.Exponential(0.36, "a"), ei.Measured([0.3, 0.5, 0.6], "b"), ei.Exponential(0.65, "c")],
        ei.Gamma(0.8, 5.0),
        2.7,
    ),
    "constant behind bursts": ([ei.Constant(1.0, "a")], ei.Gamma(0.7, 9.0), 1.05),
    "constant stages": ([ei.Constant(0.3, "a"), ei.Constant(0.6, "b")], ei.Hyperexponential(1.0, 2.0), 1.15),
}


@pytest.mark.parametrize("name", CHAINS)
def test_truth_lies_inside_at_chains(name):
    stages, process, width = CHAINS[name]
    pipeline, times = ei.Pipeline(stages), np.array([3.0, 8.0])
    bracket = ei.violation_bracket(pipeline, process, times)
    # 18 intervals: one fails with probability 2e-3 at most.
    sampled = ei.rare_violation(pipeline, process, times, rng=4, relative_error=0.02, confidence=0.9999)
    assert (sampled.low <= bracket.upper).all() and (bracket.lower <= sampled.high).all()
    assert (bracket.upper <= width * bracket.lower).all(), bracket.upper / bracket.lower


def test_even_arrivals_at_light_loads():
    """Beyond all measured times a request is late by those before it: paths of two and of three, far rarer."""
    times, deadlines = np.linspace(0.05, 0.15, 40), np.array([0.17, 0.2, 0.24])
    bracket = ei.violation_bracket(ei.Pipeline([ei.Measured(times, "a")]), ei.Gamma(1.0, 0.3), deadlines)
    two = times[:, None] + times
    gap, gaps = scipy.stats.gamma(1 / 0.3, scale=0.3), scipy.stats.gamma(2 / 0.3, scale=0.3)
    by_two = np.array([gap.cdf(two - d).mean() for d in deadlines])
    by_three = np.array([gaps.cdf(two[:, :, None] + times - d).mean() for d in deadlines])
    # One more request is some twenty times rarer.
    assert (bracket.upper >= by_two).all() and (bracket.lower <= by_two + 1.2 * by_three).all()
    assert (bracket.upper <= 1.06 * bracket.lower).all()
    # A lattice on which Chernoff's bound has no exponent near its end.
    link = ei.Transfer(4e4, ei.RayleighLink(1e6, 9.0, 0, 0, 0.002), "link")
    chain = ei.Pipeline([link, ei.Exponential(0.1, "b")])
    bracket = ei.violation_bracket(chain, ei.Gamma(1.0, 0.3), [0.8, 1.8])
    assert (bracket.upper <= 1.1 * bracket.lower).all()


@pytest.mark.parametrize("process", [ei.Gamma(0.9, 5.0), ei.Hyperexponential(0.9, 4.0)])
def test_links_before_a_busy_constant_stage_behind_bursts(process):
    radio = ei.RayleighLink(1e6, 10, 0, 0, 0.1)
    link = ei.Transfer(0.3 * radio.mean_rate(), radio, "radio")
    chain = ei.Pipeline(
        [ei.Constant(0.4, "encode"), link, ei.Constant(1.0, "edge"), ei.Measured([0.3, 0.5, 0.8], "head")]
    )
    times = ei.deadline_at(chain, process, [1e-3, 1e-9], method="lundberg", tolerance=1e-3)
    bracket = ei.violation_bracket(chain, process, times)
    assert (bracket.upper <= 1.03 * bracket.lower).all(), bracket.upper / bracket.lower
    # Four intervals: one fails with probability 4e-5 at most.
    sampled = ei.rare_violation(chain, process, times, rng=2, relative_error=0.03, confidence=1 - 1e-5)
    assert (sampled.low <= bracket.upper).all() and (bracket.lower <= sampled.high).all()


def test_ends_meet_at_a_load_of_999_thousandths():
    link = ei.RayleighLink(1e6, 9.0, 0, 0, 0.2)
    transfer = ei.Transfer(0.999 * link.mean_rate(), link, "b")
    probabilities = [1e-1, 1e-3, 1e-7]
    for stage in (ei.Measured(np.linspace(0.5, 1.498, 31), "a"), transfer, ei.Constant(0.999, "c")):
        queue = ei.Pipeline([stage])
        rate = 0.999 / float(queue.moments()[0][0])
        # Erlang's law of one phase is Poisson's, behind which the law is known.
        times = ei.deadline_at(queue, rate, probabilities)
        exact, ends = (
            ei.violation_bracket(queue, process, times) for process in (ei.Poisson(rate), ei.Erlang(rate, 1))
        )
        assert (exact.upper < 1.3 * exact.lower).all()
        assert (ends.lower <= exact.upper).all() and (exact.lower <= ends.upper).all()
        if isinstance(stage, ei.Measured):
            # Stages that are no slower than its shortest time never hold a request up.
            chain = ei.Pipeline([ei.Constant(0.3, "d"), stage, ei.Constant(0.4, "e")])
            wide = ei.violation_bracket(chain, ei.Erlang(rate, 1), times + 0.7 * (1 + 1e-12))
            assert (wide.lower <= exact.upper).all() and (exact.lower <= wide.upper * (1 + 1e-6)).all()
            assert (wide.upper < 1.1 * wide.lower).all(), wide.upper / wide.lower
        # A link's moments are known to 1e-5 of their logarithm.
        assert (ends.upper < (1.5 if stage is transfer else 1.1) * ends.lower).all(), ends.upper / ends.lower


def test_repeated_blocks_at_a_load_of_97_hundredths():
    queue = ei.Pipeline([ei.Transfer(1e5, ei.OutageLink(1e6, 0.6, 0.2), "a")])
    rate = 0.97 / float(queue.moments()[0][0])
    # Phases of one rate tell nothing apart: those arrivals are Poisson.
    phases = ei.MarkovModulated([1.0, 1.0], [[-1.0, 1.0], [1.0, -1.0]])
    for process in (ei.Periodic(1.0), ei.Gamma(1.0, 0.2), ei.Erlang(1.0, 1), phases):
        process = process.at_rate(rate)
        times = ei.deadline_at(queue, process, [1e-2, 1e-9], method="lundberg", tolerance=1e-3)
        ends = ei.violation_bracket(queue, process, times)
        assert (ends.upper < 1.2 * ends.lower).all(), (process, ends.upper / ends.lower)
        as_known = ei.Poisson(rate) if isinstance(process, ei.MarkovModulated) else process
        sampled = ei.rare_violation(queue, as_known, times, rng=3, relative_error=0.1, confidence=1 - 1e-5)
        # Eight intervals: one fails with probability 8e-5 at most.
        assert (sampled.low <= ends.upper).all() and (ends.lower <= sampled.high).all()


def test_frames_before_a_light_stage():
    frames, services = ei.Periodic(1.0), 0.7 + 0.5 * np.random.default_rng(3).beta(2, 2, 30)
    pipeline = ei.Pipeline([ei.Measured(services, "a"), ei.Constant(0.5, "b")])
    times = ei.deadline_at(pipeline, frames, [1e-1, 1e-3, 1e-6], method="lundberg", tolerance=1e-3)
    ends = ei.violation_bracket(pipeline, frames, times)
    # 3 intervals: one fails with probability 3e-4 at most.
    sampled = ei.rare_violation(pipeline, frames, times, rng=6, relative_error=0.02, confidence=0.9999)
    assert (sampled.low <= ends.upper).all() and (ends.lower <= sampled.high).all()
    assert (ends.upper < 1.06 * ends.lower).all(), ends.upper / ends.lower
    # No request waits for the one before it: none takes longer than 0.8 + 0.5.
    short = ei.Pipeline([ei.Measured(services - 0.4, "a"), ei.Constant(0.5, "b")])
    ends = ei.violation_bracket(short, frames, [1.1, 1.3001])
    assert ends.lower[0] > 0 and ends.upper[1] == 0


def test_inverse_problems_keep_the_shape():
    process, transform = PROCESSES["erlang"]
    bound = MU / (MU - decay(transform))
    deadline = ei.deadline_at(QUEUE, process, 1e-6, method="lundberg")
    assert deadline == pytest.approx(np.log(bound * 1e6) / decay(transform), rel=2e-4)
    times = ei.deadline_at(QUEUE, process, 1e-6, method="sampling", rng=1, confidence=0.9999)
    assert times.low <= np.log(1e6) / decay(transform) <= times.high
    # The rate's own value is of no account, its shape is.
    rates = [ei.max_arrival_rate(QUEUE, 20.0, 1e-6, arrivals=ei.Erlang(r, 4), method="lundberg") for r in (0.1, 5.0)]
    assert rates[0] == rates[1]
    assert ei.violation_bound(QUEUE, ei.Erlang(rates[0], 4), 20.0, "lundberg") <= 1e-6
    assert ei.violation_bound(QUEUE, ei.Erlang(1.001 * rates[0], 4), 20.0, "lundberg") > 1e-6
    shapes = ei.max_arrival_rate(QUEUE, 20.0, 1e-6, arrivals=ei.Gamma(1.0, [0.25, 1.0, 4.0]), method="lundberg")
    assert shapes[0] == pytest.approx(rates[0], rel=1e-6) and (np.diff(shapes) < 0).all()
    assert shapes[1] == pytest.approx(ei.max_arrival_rate(QUEUE, 20.0, 1e-6, method="lundberg"), rel=1e-12)


def test_processes_change_speed_as_a_whole():
    processes = [entry[0] for entry in PROCESSES.values()]
    processes += [
        ei.MarkovModulated([0.2, 2.0], [[-0.1, 0.1], [0.2, -0.2]]),
        ei.Batch(ei.Erlang(1.0, 2), [0.5, 0.5]),
        ei.Recorded([0.0, 1.0, 1.5, 4.0]),
    ]
    for process in processes:
        faster = process.at_rate(3.0)
        assert type(faster) is type(process)
        assert faster.mean_rate == pytest.approx(3.0, rel=1e-12)
        assert faster.index_of_dispersion == pytest.approx(process.index_of_dispersion, rel=1e-9)
        for bad in (0.0, -1.0, np.nan):
            with pytest.raises(ValueError, match="rate"):
                process.at_rate(bad)


def test_families_broadcast_and_elements_stand_alone():
    process, times = ei.Gamma([[0.5], [1.0]], [0.5, 1.0, 2.0]), 6.0
    bounds = ei.violation_bound(QUEUE, process, times, "lundberg")
    sampled = ei.rare_violation(QUEUE, process, times, rng=2, relative_error=0.05)
    assert bounds.shape == sampled.value.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            alone = ei.Gamma([0.5, 1.0][i], [0.5, 1.0, 2.0][j])
            assert bounds[i, j] == ei.violation_bound(QUEUE, alone, times, "lundberg")
    np.testing.assert_allclose(bounds[:, 1], ei.violation_bound(QUEUE, [0.5, 1.0], times, "lundberg"), rtol=1e-6)


SAMPLES = np.random.default_rng(7).gamma(50, 0.01, 300)
LINK = ei.Transfer(1e6, ei.RayleighLink(10e6, 31, -100, 128.1, 0.01), "link")
#: Stages of which some never wait by themselves, and deadlines.
FRAMES = {
    "all end within the period": (
        [ei.Constant(0.3, "a"), ei.Measured(SAMPLES, "b"), ei.Constant(0.9, "c")],
        [1.72, 1.78],
    ),
    "the last one waits": ([ei.Measured(SAMPLES, "a"), ei.Exponential(0.4, "b")], [2.0, 6.0]),
    "the first one waits": ([ei.Exponential(0.4, "a"), ei.Constant(0.6, "b"), LINK], [2.0, 6.0]),
}


@pytest.mark.parametrize("name", FRAMES)
def test_importance_sampling_of_frames(name):
    stages, times = FRAMES[name]
    pipeline, process = ei.Pipeline(stages), ei.Periodic(1.0)
    bracket = ei.violation_bracket(pipeline, process, times)
    # 6 intervals: one fails with probability 6e-4 at most.
    sampled = ei.rare_violation(pipeline, process, times, rng=3, relative_error=0.02, confidence=0.9999)
    assert (sampled.low <= bracket.upper).all() and (bracket.lower <= sampled.high).all()


def test_constant_stages_never_wait_for_frames():
    pipeline = ei.Pipeline([ei.Constant(0.5, "a"), ei.Constant(0.75, "b")])
    for method in ("union", "lundberg"):
        assert ei.violation_bound(pipeline, ei.Periodic(1.0), [1.0, 1.25, 1.26], method).tolist() == [1, 1, 0]
    assert ei.rare_violation(pipeline, ei.Periodic(1.0), 1.2, rng=1).value == 1
    with pytest.raises(ei.UnstableError):
        ei.rare_violation(pipeline, ei.Periodic(0.75), 1.2)


def test_constant_stages_to_the_end_of_what_is_followed():
    pipeline, process = ei.Pipeline([ei.Constant(0.986, "a")]), ei.Erlang(0.3, 4)
    times = [6.3, 6.8, 7.2]
    bracket = ei.violation_bracket(pipeline, process, times)
    for time, low, high in zip(times, bracket.lower, bracket.upper, strict=True):
        sampled = ei.rare_violation(pipeline, process, time, relative_error=0.01, rng=1, confidence=1 - 1e-6)
        assert low <= sampled.high and sampled.low <= high


@pytest.mark.parametrize(("mean", "constant"), [(0.78, 0.95), (0.9, 0.9), (0.6, 0.99)])
def test_frames_over_a_link_before_a_constant_stage(mean, constant):
    link = ei.RayleighLink(bandwidth=1e6, tx_power_dbm=10, noise_dbm=0, path_loss_db=0, slot=0.2 * mean)
    stages = [
        ei.Constant(0.3, "camera"),
        ei.Transfer(link.mean_rate() * mean, link, "up"),
        ei.Constant(constant, "edge"),
    ]
    pipeline, process = ei.Pipeline(stages), ei.Periodic(1.0)
    times = ei.deadline_at(pipeline, process, [1e-2, 1e-5], method="lundberg", tolerance=1e-2)
    bracket = ei.violation_bracket(pipeline, process, times)
    assert (bracket.upper <= 1.25 * bracket.lower).all()
    for time, low, high in zip(times, bracket.lower, bracket.upper, strict=True):
        sampled = ei.rare_violation(pipeline, process, time, relative_error=0.02, rng=1, confidence=1 - 1e-6)
        assert low <= sampled.high and sampled.low <= high


@pytest.mark.parametrize(("fading", "slot"), [(ei.BestOf(3), 0.07), (ei.Rayleigh(), 0.02), (ei.Rician(4), 0.2)])
@pytest.mark.parametrize("load", [0.7, 0.95])
def test_frames_over_a_steady_link(fading, slot, load):
    """Services vary little, and the law falls far faster than the lattice is long."""
    link = ei.FadingLink.from_snr(10.0, 1e6, slot, fading=fading)
    pipeline, process = ei.Pipeline([ei.Transfer(link.mean_rate(), link, "up")]), ei.Periodic(1 / load)
    times = ei.deadline_at(pipeline, process, [1e-2, 1e-5, 1e-9], method="lundberg", tolerance=1e-2)
    bracket = ei.violation_bracket(pipeline, process, times)
    assert (bracket.upper <= 1.25 * bracket.lower).all()
    # 18 intervals: one fails with a probability of 2e-5 at most.
    for time, low, high in zip(times, bracket.lower, bracket.upper, strict=True):
        sampled = ei.rare_violation(pipeline, process, time, relative_error=0.02, rng=1, confidence=1 - 1e-6)
        assert low <= sampled.high and sampled.low <= high


def nearly_constant(stage, mean):
    if stage == "link":
        link = ei.FadingLink.from_snr(10.0, 1e6, 0.1 * mean, fading=ei.BestOf(8))
    elif stage == "combined":
        link = ei.FadingLink.from_snr(10.0, 1e6, 0.1 * mean, fading=ei.MaximalRatio(16, ei.Nakagami(4)))
    else:
        samples = np.random.default_rng(3).gamma(stage**-2, 1, 400)
        return ei.Measured(samples / samples.mean() * mean, str(stage))
    return ei.Transfer(link.mean_rate() * mean, link, stage)


@pytest.mark.parametrize(
    ("stages", "late", "load", "apart"),
    [
        ([("link", 1.0)], [0.1, 1e-3, 1e-6, 1e-9], 0.975, 1.1),
        ([(0.03, 1.0)], [0.1, 1e-3, 1e-6, 1e-9], 0.975, 1.1),
        ([(0.01, 1.0)], [0.1, 1e-3, 1e-6, 1e-9], 0.98, 1.6),
        ([("combined", 1.0)], [0.1, 1e-3, 1e-6], 0.97, 1.1),
        ([(0.03, 0.6), ("combined", 1.0)], [1e-3], 0.98, 1.2),
    ],
)
def test_frames_of_nearly_constant_services_at_a_heavy_load(stages, late, load, apart):
    """Far from zero beside how much they vary."""
    pipeline = ei.Pipeline([nearly_constant(*stage) for stage in stages])
    process = ei.Periodic(float(pipeline.moments()[0].max()) / load)
    times = ei.deadline_at(pipeline, process, late, method="lundberg", tolerance=1e-2)
    bracket = ei.violation_bracket(pipeline, process, times)
    assert (bracket.upper <= apart * bracket.lower).all()
    for time, low, high in zip(times, bracket.lower, bracket.upper, strict=True):
        sampled = ei.rare_violation(pipeline, process, time, relative_error=0.02, rng=1, confidence=1 - 1e-6)
        assert low <= sampled.high and sampled.low <= high


def test_frames_over_a_narrow_link():
    """What one transfer takes, for two that meet would have to be long beyond all measure."""
    link = ei.FadingLink.from_snr(10.0, 1e6, 0.1, fading=ei.MaximalRatio(16, ei.Nakagami(4)))
    pipeline = ei.Pipeline([ei.Transfer(link.mean_rate(), link, "up")])
    times = ei.deadline_at(pipeline, ei.Periodic(1.1), [0.1, 1e-3, 1e-6], method="lundberg", tolerance=1e-2)
    bracket = ei.violation_bracket(pipeline, ei.Periodic(1.1), times)
    alone = ei.violation_bracket(pipeline, ei.Periodic(10.0), times)
    assert (bracket.lower[:2] > 1e-7).all() and (bracket.upper <= 1.001 * bracket.lower).all()
    np.testing.assert_allclose(bracket.lower, alone.lower, rtol=1e-5)


@pytest.mark.parametrize("tenths", [(3, 5, 7, 10, 12), (4, 4, 4, 13, 13), (2, 2, 2, 17, 17)])
def test_a_few_service_times_behind_frames(tenths):
    """On their common grid the waiting time is a Markov chain of few states."""
    size = 400
    waiting = np.zeros(size)
    waiting[0] = 1
    for _ in range(4000):
        sojourn = sum(np.concatenate([np.zeros(time), waiting[:-time]]) for time in tenths) / len(tenths)
        waiting = np.concatenate([[sojourn[:11].sum()], sojourn[11:], np.zeros(10)])
    law = np.cumsum(sojourn[::-1])[::-1]
    pipeline = ei.Pipeline([ei.Measured(np.array(tenths) / 10, "a")])
    points = [p for p in range(max(tenths) + 1, 120, 7) if law[p] > 1e-10]
    bracket = ei.violation_bracket(pipeline, ei.Periodic(1.0), (np.array(points) - 0.5) / 10)
    assert (bracket.lower <= law[points] * (1 + 1e-9)).all() and (law[points] * (1 - 1e-9) <= bracket.upper).all()
    assert (bracket.upper <= 1.01 * bracket.lower).all()


def law_behind_frames(first, second, count):
    """P(sojourn time in two stages > j / 4) behind a frame a second, services multiples of 1 / 4 s: the chain of the
    times up to and with the first and the second stage, of `count` values each, from no wait on, until it stays."""
    state = np.zeros((count, count))
    state[0, 0] = 1
    place = np.arange(count)
    waited = np.maximum(place - 4, 0)
    for _ in range(400):
        found = np.zeros_like(state)
        np.add.at(found, np.ix_(waited, waited), state)  # what is left of both at the next frame
        behind = np.zeros_like(state)
        for service in first:
            behind[service:] += found[: count - service] / len(first)
        # The second stage begins when both are done with.
        begun = np.tril(behind)
        upper = np.triu(behind, 1)
        start = upper + np.diag(begun.sum(axis=1))
        state = np.zeros_like(state)
        for service in second:
            state[:, service:] += start[:, : count - service] / len(second)
    return 1 - np.cumsum(state.sum(axis=0))


# What a path has in either stage counts. Between two of the chain's places the truth stays, ends fall. All times may
# be so much longer.
@pytest.mark.parametrize("longer", [0, 10])
def test_two_random_stages_behind_frames(longer):
    first, second = (1, 3, 6), (2, 2, 5, 5)
    pipeline = ei.Pipeline([ei.Measured(longer + np.array(s) / 4, name) for s, name in ((first, "a"), (second, "b"))])
    places = np.array([10, 30])
    # 400 frames, and delays below 27.5 s, leave out less than 1e-7 of it.
    exact = law_behind_frames(first, second, 110)[places]
    times = 2 * longer + np.add.outer([1e-9, 0.24], places / 4)
    bracket = ei.violation_bracket(pipeline, ei.Periodic(1.0 + longer), times)
    assert (bracket.lower <= exact * (1 + 1e-6)).all() and (exact * (1 - 1e-6) <= bracket.upper).all()
    assert set(bracket.upper_method.ravel()) == set(bracket.lower_method[0]) == {"two_stages"}
    assert (exact <= 1.02 * bracket.lower[0]).all() and (bracket.upper[1] <= 1.05 * exact).all()


# Of nearly equal stages, by importance sampling.
@pytest.mark.parametrize("process", [ei.Erlang(0.8, 4), ei.Gamma(0.7, 0.4)])
def test_two_random_stages_behind_even_arrivals(process):
    rng = np.random.default_rng(3)
    pipeline = ei.Pipeline([ei.Measured(rng.gamma(5, 0.2, 40), "first"), ei.Exponential(0.95, "second")])
    time = ei.deadline_at(pipeline, process, 1e-3, method="lundberg", tolerance=1e-2)
    bracket = ei.violation_bracket(pipeline, process, time)
    # One of four fails with probability 1e-4 at most.
    sampled = ei.rare_violation(pipeline, process, time, rng=1, relative_error=0.03, confidence=0.9999)
    assert bracket.lower <= sampled.high and sampled.low <= bracket.upper
    assert bracket.upper <= 1.4 * bracket.lower and bracket.upper_method == "two_stages"
