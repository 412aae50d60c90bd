"""Arrival processes: simulation against exact laws, and refusal where proofs need Poisson arrivals."""

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer import paper

MU = 1 / 0.7
QUEUE = ei.Pipeline([ei.Exponential(0.7, "a")])
FIXED = ei.Pipeline([ei.Constant(0.7, "a")])
HYPER = ei.Hyperexponential(1.0, 4.0)
#: Each with the Laplace transform of its interarrival time, of mean 1 s.
RENEWAL = {
    "poisson": (ei.Poisson(1.0), lambda q: 1 / (1 + q)),
    "periodic": (ei.Periodic(1.0), lambda q: np.exp(-q)),
    "erlang": (ei.Erlang(1.0, 4), lambda q: (4 / (4 + q)) ** 4),
    "gamma, even": (ei.Gamma(1.0, 0.3), lambda q: (1 + 0.3 * q) ** (-1 / 0.3)),
    "gamma, bursty": (ei.Gamma(1.0, 5.0), lambda q: (1 + 5 * q) ** -0.2),
    # Balanced means: probabilities (1 +- sqrt(3 / 5)) / 2, rates twice these.
    "hyperexponential": (HYPER, lambda q: sum(p * 2 * p / (2 * p + q) for p in (1 + np.array([1, -1]) * 0.6**0.5) / 2)),
}


@pytest.mark.parametrize("name", RENEWAL)
def test_exponential_services_behind_renewal_arrivals(name):
    process, transform = RENEWAL[name]
    # GI/M/1: the sojourn time is exponential of rate mu (1 - s), s = E exp(-mu (1 - s) t).
    root = 0.5
    for _ in range(3000):
        root = transform(MU * (1 - root))
    times = np.array([0.5, 2.0, 5.0])
    run = ei.simulate(QUEUE, process, times, jobs=20_000, replications=32, rng=1, confidence=0.9999)
    # 18 intervals: one fails with probability 2e-3 at most.
    exact = np.exp(-MU * (1 - root) * times)
    assert (run.violation.low[:, 0] <= exact).all() and (exact <= run.violation.high[:, 0]).all()
    assert run.utilisation.low[0, 0] <= 0.7 <= run.utilisation.high[0, 0]
    assert process.mean_rate == pytest.approx(1.0)


def test_periodic_arrivals_never_wait_for_constant_stages():
    pipeline = ei.Pipeline([ei.Constant(0.7, "a"), ei.Constant(0.9, "b")])
    run = ei.simulate(pipeline, ei.Periodic(1.0), [1.5, 1.7], jobs=200, replications=2, rng=1)
    assert run.mean.value[0] == pytest.approx([0.7, 1.6], rel=1e-12)
    assert (run.violation.value[:, 1] == [1, 0]).all()


def modulated_wait(process, service):
    """Mean wait of MMPP/D/1 by matrix analysis (Fischer and Meier-Hellstern, Performance Evaluation 18, 1993)."""
    q, rates, law = process.generator, process.rates, process.stationary
    total, size = law @ rates, len(rates)
    passage = np.zeros((size, size))
    for _ in range(400):
        exponent = (q - np.diag(rates) + np.diag(rates) @ passage) * service / 64
        power = np.eye(size)
        for term in range(16, 0, -1):
            power = np.eye(size) + exponent @ power / term
        passage = np.linalg.matrix_power(power, 64)
    values, vectors = np.linalg.eig(passage.T)
    idle = np.real(vectors[:, np.argmax(np.real(values))])
    idle /= idle.sum()
    load = total * service
    inner = (1 - load) * idle + service * law * rates
    ahead = np.linalg.solve(q + np.outer(np.ones(size), law), rates)
    virtual = (2 * load + total * service**2 - 2 * service * inner @ ahead) / (2 * (1 - load))
    return (virtual - total * service**2 / 2) / load


def test_markov_modulated_arrivals():
    for rates, generator in (
        ([0.2, 2.0], [[-0.1, 0.1], [0.2, -0.2]]),
        ([0.0, 1.0, 3.0], np.ones((3, 3)) - 3 * np.eye(3)),
    ):
        process = ei.MarkovModulated(rates, generator)
        service = 0.6 / process.mean_rate
        pipeline = ei.Pipeline([ei.Constant(service, "a")])
        run = ei.simulate(pipeline, process, 1.0, jobs=40_000, replications=32, rng=2, confidence=0.9999)
        assert run.stage_waiting.low[0] <= modulated_wait(process, service) <= run.stage_waiting.high[0]
    # One phase is Poisson: the mean is that of M/D/1.
    assert modulated_wait(ei.MarkovModulated([1.0], [[0.0]]), 0.7) == pytest.approx(0.49 / 0.6)


def test_batches():
    # M^X/D/1: the wait of the batch and of those before it within it.
    process, sizes = ei.Batch(ei.Poisson(0.5), [0.5, 0.3, 0.2]), np.array([1, 2, 3])
    mean, square = sizes @ [0.5, 0.3, 0.2], sizes**2 @ [0.5, 0.3, 0.2]
    exact = 0.5 * square * 0.49 / (2 * (1 - 0.35 * mean)) + 0.7 * (square - mean) / (2 * mean)
    run = ei.simulate(FIXED, process, 1.0, jobs=20_000, replications=32, rng=3, confidence=0.9999)
    assert run.stage_waiting.low[0] <= exact <= run.stage_waiting.high[0]
    assert process.mean_rate == pytest.approx(0.85)
    # Three at once, every 3 s: waits 0, d, 2 d.
    run = ei.simulate(FIXED, ei.Batch(ei.Periodic(3.0), 3), 1.0, jobs=300, replications=1, warmup=0, rng=1)
    assert run.stage_waiting.value[0] == pytest.approx(0.7, rel=1e-12)


def test_recorded_arrivals_are_played_as_they_are(tmp_path):
    times = np.array([0.0, 1.0, 1.0, 4.0, 9.0])
    process = ei.Recorded(times)
    assert process.mean_rate == pytest.approx(4 / 9)
    # Intervals 1, 0, 3, 5 round and round: every second job waits for the one with it.
    run = ei.simulate(FIXED, process, 1.0, jobs=400, replications=1, warmup=8, rng=4)
    assert run.stage_waiting.value[0] == pytest.approx(0.7 / 4, rel=1e-12)
    path = tmp_path / "log.csv"
    path.write_text("frame,ms\n" + "".join(f"{i},{1000 * t}\n" for i, t in enumerate(times)))
    assert ei.Recorded.from_csv(path, "ms", unit=1e-3) == process
    with pytest.raises(ValueError, match="column = 's': must be one of"):
        ei.Recorded.from_csv(path, "s")
    path.write_text("ms\n1\nx\n")
    with pytest.raises(ValueError, match=r"line 3: ms = 'x'"):
        ei.Recorded.from_csv(path, "ms")


def test_dispersion_is_that_of_long_counts():
    process = ei.MarkovModulated([0.2, 2.0], [[-0.1, 0.1], [0.2, -0.2]])
    # 1 + 2 p1 p2 (r1 - r2)^2 / (mean (a + b)), the two-phase closed form.
    assert process.index_of_dispersion == pytest.approx(1 + 2 * (2 / 9) * 1.8**2 / (0.8 * 0.3))
    assert ei.Batch(ei.Periodic(1.0), [0.5, 0.5]).index_of_dispersion == pytest.approx(0.25 / 1.5)
    poisson = ei.Recorded(np.cumsum(np.random.default_rng(1).exponential(1.0, 100_000)))
    assert poisson.index_of_dispersion == pytest.approx(1, rel=0.2)


def test_keywords_are_the_processes_they_name():
    pairs = {
        ("deterministic", None): ei.Periodic(2.0),
        ("erlang", 3): ei.Erlang(0.5, 3),
        ("hyperexponential", 3.0): ei.Hyperexponential(0.5, 3.0),
    }
    for (name, shape), process in pairs.items():
        options = {"jobs": 500, "replications": 2, "rng": 5}
        old = ei.simulate(QUEUE, 0.5, 1.0, arrival=name, arrival_shape=shape, **options)
        assert (old.mean.value == ei.simulate(QUEUE, process, 1.0, **options).mean.value).all()
    with pytest.raises(ValueError, match="must be left out where arrival_rate is a process"):
        ei.simulate(QUEUE, ei.Periodic(1.0), 1.0, arrival="erlang")


def test_arrays_of_processes_broadcast_and_elements_do_not_depend_on_each_other():
    process = ei.Gamma([[0.5], [1.0]], [0.5, 1.0, 2.0])
    run = ei.simulate(QUEUE, process, 1.0, jobs=200, replications=2, rng=6)
    assert process.shape == (2, 3) and run.mean.value.shape == (2, 3, 1)
    assert (run.mean.value[0] < run.mean.value[1]).all()
    first = ei.simulate(QUEUE, ei.Gamma(0.5, 0.5), 1.0, jobs=200, replications=2, rng=6)
    assert (first.mean.value == run.mean.value[0, 0]).all()


def test_poisson_stands_everywhere_and_dependent_times_are_refused_by_name():
    pipeline = paper.scenario().pipelines()["split"]
    calls = {
        "bracket": lambda process: ei.violation_bracket(pipeline, process, 6.0).upper,
        "bound": lambda process: ei.violation_bound(pipeline, process, 6.0, "union"),
        "rare": lambda process: ei.rare_violation(pipeline, process, 6.0, rng=1).value,
        "deadline": lambda process: ei.deadline_at(pipeline, process, 1e-3),
        "bandwidth": lambda process: ei.min_bandwidth(pipeline, process, 6.0, 1e-3, tolerance=0.1),
        "mean": lambda process: ei.mean_sojourn(pipeline, process),
    }
    others = [ei.Batch(ei.Poisson(0.2), 2), ei.Recorded([0.0, 1.0, 4.0])]
    modulated = ei.MarkovModulated([0.2, 0.4], [[-1.0, 1.0], [1.0, -1.0]])
    for name, call in calls.items():
        assert call(ei.Poisson(0.35)) == call(0.35)
        for process in [*others, modulated] if name == "mean" else others[name == "rare" :]:
            with pytest.raises(ValueError, match=rf"arrival_rate = {type(process).__name__}\(..\): must be a rate or"):
                call(process)
        if name == "mean":
            with pytest.raises(ValueError, match=r"arrival_rate = Periodic\(..\): must be a rate or Poisson"):
                call(ei.Periodic(3.0))
    for method in ("corrected", "printed"):
        with pytest.raises(ValueError, match=rf"Gamma\(..\): must be a rate or Poisson\(rate\) for method '{method}'"):
            ei.violation_bound(pipeline, ei.Gamma(0.35, 2.0), 6.0, method)
    with pytest.raises(ValueError, match=r"arrivals = Batch\(..\): must be"):
        ei.max_arrival_rate(pipeline, 6.0, 1e-3, arrivals=others[0])


LINK = ei.RayleighLink(10e6, 31, -100, 128.1, 0.01)
SAMPLES = np.random.default_rng(7).gamma(50, 0.01, 300)
#: Stages, interval, deadlines, and how far apart the ends may be.
PERIODIC = {
    "split": (
        [ei.Constant(0.65, "a"), ei.Transfer(1e6, LINK, "b"), ei.Constant(0.45, "c")],
        0.9,
        [1.15, 1.2, 1.3],
        1.1,
    ),
    "link first": ([ei.Transfer(1e6, LINK, "b"), ei.Constant(0.65, "a")], 0.7, [0.7, 0.75, 0.85], 1.1),
    "two links": (
        [ei.Transfer(2e5, LINK, "u"), ei.Constant(0.65, "a"), ei.Transfer(1e6, LINK, "b"), ei.Constant(0.45, "c")],
        0.9,
        [1.2, 1.25, 1.3],
        1.1,
    ),
    "measured": ([ei.Constant(0.3, "a"), ei.Measured(SAMPLES, "b"), ei.Constant(0.7, "c")], 0.75, [1.5, 1.6], 1.1),
    "busy link": (
        [ei.Constant(0.03, "a"), ei.Transfer(2e5, LINK, "b"), ei.Constant(0.036, "c")],
        0.04,
        [0.1, 0.12],
        1.3,
    ),
    "random stages in turn": ([ei.Exponential(0.3, "a"), ei.Measured(SAMPLES, "b")], 1.0, [1.0, 2.0], 3.0),
}


@pytest.mark.parametrize("name", PERIODIC)
def test_periodic_bracket_holds_the_simulation(name):
    stages, interval, deadlines, width = PERIODIC[name]
    pipeline = ei.Pipeline(stages)
    bracket = ei.violation_bracket(pipeline, ei.Periodic(interval), deadlines)
    run = ei.simulate(
        pipeline, ei.Periodic(interval), deadlines, jobs=20_000, replications=32, rng=8, confidence=0.9999
    )
    # 16 intervals: one fails with probability 2e-3 at most.
    assert (bracket.lower <= run.violation.high[:, -1]).all() and (run.violation.low[:, -1] <= bracket.upper).all()
    assert (bracket.lower <= bracket.upper).all() and (bracket.upper <= width * bracket.lower).all()
    assert (np.diff(bracket.lower) <= 0).all() and (np.diff(bracket.upper) <= 0).all()


def test_periodic_bracket_against_exact_laws():
    # D/M/1: sojourn times are exponential of rate mu (1 - s), s = exp(-mu (1 - s)).
    root = 0.5
    for _ in range(3000):
        root = np.exp(-2 * (1 - root))
    times = np.array([0.5, 2.0, 6.0])
    bracket = ei.violation_bracket(ei.Pipeline([ei.Exponential(0.5, "a")]), ei.Periodic(1.0), times)
    exact = np.exp(-2 * (1 - root) * times)
    assert (bracket.lower <= exact).all() and (exact <= bracket.upper).all()
    assert (bracket.upper <= (1 + 1e-9) * bracket.lower).all() and set(bracket.upper_method) == {"exponential"}
    # D/D/1, an unstable stage, and times without end.
    fixed = ei.Pipeline([ei.Constant(0.5, "a"), ei.Constant(0.75, "b")])
    bracket = ei.violation_bracket(fixed, ei.Periodic([[1.0], [0.75]]), [1.0, 1.5, np.inf])
    assert (bracket.lower == [[1, 0, 0], [1, 1, 1]]).all() and (bracket.upper == bracket.lower).all()
    # Links that never exceed the interval do not wait: the law of X alone, to the lattice.
    law = LINK.transfer(1e6)
    bracket = ei.violation_bracket(ei.Pipeline([ei.Transfer(1e6, LINK, "b")]), ei.Periodic(0.9), [0.06, 0.1])
    assert (bracket.lower <= law.sf([0.06, 0.1])).all() and (law.sf([0.06, 0.1]) <= bracket.upper).all()


@pytest.mark.parametrize(("load", "times"), [(0.85, [0.52, 0.71, 0.89]), (0.97, [0.7, 1.2, 2.0])])
def test_a_measured_stage_behind_frames_is_near_exact(load, times):
    pipeline, process = ei.Pipeline([ei.Measured(SAMPLES, "a")]), ei.Periodic(SAMPLES.mean() / load)
    bracket = ei.violation_bracket(pipeline, process, times)
    assert (bracket.upper <= 1.06 * bracket.lower).all()
    # 6 intervals: one fails with probability 6e-4 at most.
    sampled = ei.rare_violation(pipeline, process, times, rng=6, relative_error=0.03, confidence=0.9999)
    assert (sampled.low <= bracket.upper).all() and (bracket.lower <= sampled.high).all()
    rate = ei.max_arrival_rate(pipeline, times[1], bracket.upper[1], arrivals=process, tolerance=0.02)
    assert rate == pytest.approx(process.mean_rate, rel=0.03)


def test_what_is_no_process_is_refused():
    bad = {
        r"interval = 0": lambda: ei.Periodic(0),
        r"phases = 1.5": lambda: ei.Erlang(1.0, 1.5),
        r"burstiness = 0: must be in": lambda: ei.Gamma(1.0, 0),
        r"squared_variation = 0.5": lambda: ei.Hyperexponential(1.0, 0.5),
        r"must let every phase be reached": lambda: ei.MarkovModulated([1.0, 2.0], [[0.0, 0.0], [1.0, -1.0]]),
        r"rows add up to": lambda: ei.MarkovModulated([1.0, 2.0], [[-1.0, 2.0], [1.0, -1.0]]),
        r"generator: shape": lambda: ei.MarkovModulated([1.0], [[-1.0, 1.0], [1.0, -1.0]]),
        r"rates = ": lambda: ei.MarkovModulated([0.0], [[0.0]]),
        r"rates\[0\] = 1e\+308: must be in \[0, 1e\+300\]": lambda: ei.MarkovModulated(
            [1e308, 1], [[-1.0, 1.0], [1.0, -1.0]]
        ),
        r"generator\[0, 0\] = -1e\+308": lambda: ei.MarkovModulated([1.0, 1.0], [[-1e308, 1e308], [1.0, -1.0]]),
        r"sizes = .*add up to 1": lambda: ei.Batch(ei.Poisson(1.0), [0.5, 0.4]),
        r"no Batch": lambda: ei.Batch(ei.Batch(ei.Poisson(1.0), 2), 2),
        r"times\[2\] = 0.5: must be >= times\[1\] = 1; times between .* `numpy.cumsum`": lambda: ei.Recorded(
            [0.0, 1.0, 0.5]
        ),
        r"two or more": lambda: ei.Recorded([0.0]),
        r"span a time": lambda: ei.Recorded([1.0, 1.0]),
    }
    for message, call in bad.items():
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ei.UnstableError):
        ei.simulate(FIXED, ei.Periodic(0.5), 1.0)
