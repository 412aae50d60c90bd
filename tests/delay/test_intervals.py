"""Intervals of `simulate`: coverage, few events, quantiles over all times.

Coverage is measured over seeds that are fixed: a test passes or fails for good. Were the coverage exactly 95 %, 100
runs would cover fewer than 86 times with probability 1.4e-4; nearly every interval here covers at least as often in
truth.
"""

import os

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import poisson

import edgeinfer as ei
import edgeinfer.delay.simulation as simulation
from edgeinfer import _core, paper
from edgeinfer.delay.intervals import batches, beta_interval, dispersion

FUZZ = os.environ.get("EDGEINFER_FUZZ") == "1"
RUNS = 1000 if FUZZ else 100
PROBABILITIES = np.array([0.99, 0.5, 0.1, 1e-2, 1e-3, 1e-4, 1e-5])


def misses(pipeline, rate, deadlines, truths, **effort):
    """How often the ends of each interval lie below and above the truth, over RUNS seeds: {name: (below, above)}."""
    counts = {name: np.zeros((2, *np.shape(truth))) for name, truth in truths.items()}
    for seed in range(RUNS):
        run = ei.simulate(pipeline, rate, deadlines, rng=seed, threads=1, **effort)
        for name, truth in truths.items():
            found = getattr(run, name)[..., -1] if name == "violation" else getattr(run, name)[0, -1]
            counts[name] += np.array([found.high < truth, found.low > truth])
    return counts


def assert_covered(counts, least=0.93):
    # At least `least` of the truth, less three standard deviations of RUNS runs.
    allowed = RUNS * (1 - least) + 3 * np.sqrt(RUNS * least * (1 - least))
    for name, (below, above) in counts.items():
        assert (below + above <= allowed).all(), (name, below, above)


EFFORT = [(1, 20_000), (2, 1000), (8, 1000), (32, 1000)] + ([(1, 1000), (8, 20_000), (32, 20_000)] if FUZZ else [])


@pytest.mark.slow
@pytest.mark.parametrize(("replications", "jobs"), EFFORT)
@pytest.mark.parametrize("load", [0.1, 0.5, 0.7, 0.9, 0.95] if FUZZ else [0.5, 0.9])
def test_mm1_is_covered(load, replications, jobs):
    deadlines = -np.log(PROBABILITIES) * load / (1 - load)
    truths = {
        "violation": PROBABILITIES,
        "mean": load / (1 - load),
        "stage_waiting": load**2 / (1 - load),
        "utilisation": load,
    }
    # A mean of 1000 jobs at load 0.5, or of less, has an interval that covers 91 % of the time.
    counts = misses(
        ei.Pipeline([ei.Exponential(load, "a")]), 1.0, deadlines, truths, jobs=jobs, replications=replications
    )
    assert_covered({"violation": counts.pop("violation")})
    assert_covered(counts, 0.91)


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.1, 0.5, 0.9] if FUZZ else [0.7])
@pytest.mark.parametrize(("replications", "jobs"), EFFORT if FUZZ else [(4, 2000)])
def test_md1_and_the_papers_split_are_covered(load, replications, jobs):
    md1 = ei.Pipeline([ei.Compute(load, ei.Node("n", 1.0), "a")])
    split = paper.scenario().pipelines()["split"]
    for pipeline, rate in ((md1, 1.0), (split, load / 0.651)):
        wanted = np.array([0.1, 1e-2, 1e-3, 1e-4, 1e-5])
        deadlines = ei.deadline_at(pipeline, rate, wanted)
        bracket = ei.violation_bracket(pipeline, rate, deadlines)
        # The truth is known to within the bracket, far closer than the intervals.
        assert (bracket.upper < 1.03 * bracket.lower).all()
        counts = misses(
            pipeline,
            rate,
            deadlines,
            {"violation": (bracket.lower + bracket.upper) / 2},
            jobs=jobs,
            replications=replications,
        )
        assert_covered(counts)


def mdc_wait(load, servers):
    """Mean wait of M/D/c over the service time (Crommelin, P.O. Electr. Eng. J. 25, 1932)."""
    n = np.arange(1, 400)
    work, place = n * load * servers, n * servers
    return (poisson.sf(place - 1, work) - poisson.sf(place, work) / load).sum()


def test_waits_that_are_rarer_than_the_load_are_covered():
    assert mdc_wait(0.5, 1) == pytest.approx(0.5)
    share = brentq(lambda s: s - np.exp(-(1 - s) / 0.1), 1e-9, 0.5)  # of the jobs of D/M/1 wait
    queue, servers = ei.Exponential(0.1, "a"), ei.Compute(3.2, ei.Node("n", 1.0), "a", servers=8)
    for stage, arrivals, wait, effort in (
        (queue, ei.Periodic(1.0), 0.1 * share / (1 - share), {"jobs": 2000, "replications": 8}),
        (servers, 1.0, 3.2 * mdc_wait(0.4, 8), {"jobs": 1000, "replications": 4}),
    ):
        assert_covered(misses(ei.Pipeline([stage]), arrivals, [1.0], {"stage_waiting": wait}, **effort))


def test_frames_over_a_recorded_link_meet_it_in_the_same_way_all_the_time():
    # Six frames pass the record once: a replication keeps its place, and its jobs tell as much as those six.
    rates, bits = np.random.default_rng(1).gamma(2.0, 0.5e6, 60), 0.5e6
    link = ei.TraceLink(rates, 0.1)
    carried = np.concatenate([[0.0], np.cumsum(np.tile(rates, 30)) * 0.1])
    edges = 0.1 * np.arange(carried.size)
    place, times = (np.arange(6000) + 0.5) / 1000, []
    free = place
    for frame in place + np.arange(120.0)[:, None]:
        free = np.interp(np.interp(np.maximum(frame, free), edges, carried) + bits, carried, edges)
        times.append(free - frame)
    times = np.array(times[60:])
    deadlines = np.quantile(times, [0.5, 0.9, 0.99])
    truths = {"violation": (times[..., None] > deadlines).mean(axis=(0, 1)), "mean": times.mean()}
    pipeline = ei.Pipeline([ei.Transfer(bits, link, "link")])
    assert_covered(misses(pipeline, ei.Periodic(1.0), deadlines, truths, jobs=600, replications=16))


@pytest.mark.slow
def test_a_chain_of_equal_queues_is_covered():
    # Four M/M/1 queues at load 0.8: the sojourn time is a sum of four exponentials of mean 4 s.
    stages = ei.Pipeline([ei.Exponential(0.8, str(k)) for k in range(4)])
    deadlines = 4 * np.array([3.6720607, 6.6807830, 10.0451182])  # Erlang quantiles at 1/2, 0.1, 0.01, mean one
    truth = np.exp(-deadlines / 4) * sum((deadlines / 4) ** k / f for k, f in enumerate((1, 1, 2, 6)))
    np.testing.assert_allclose(truth, [0.5, 0.1, 0.01], rtol=1e-6)
    assert_covered(misses(stages, 1.0, deadlines, {"violation": truth}, jobs=3000, replications=4))


def test_the_dispersion_is_that_of_mm1():
    # ((1 + load) / (1 - load))^2. Of 4000 replications the variance of a count is known to about 5 %, clusters
    # included.
    for load in (0.3, 0.6):
        spread = dispersion(np.array([load]), np.array([1.0]), 1.0)[0]
        assert spread == pytest.approx(((1 + load) / (1 - load)) ** 2)
        deadline, jobs, entropy = np.log(1000) * load / (1 - load), 20_000, np.arange(4, dtype=np.uint64)
        answer = _core.simulate(
            [("exponential", load)],
            ("poisson", (1.0,)),
            np.array([deadline]),
            jobs,
            400,
            4000,
            1,
            "tandem",
            "table",
            entropy,
            2,
        )
        measured = answer["violations"].var() / (jobs * 1e-3)
        assert measured == pytest.approx(spread, rel=0.15)


def test_no_event_leaves_three_over_the_effective_number_of_jobs():
    pipeline = paper.scenario().pipelines()["split"]
    run = ei.simulate(pipeline, 0.35, np.linspace(2, 12, 11), jobs=20_000, replications=32, rng=1)
    high, value = run.violation.high, run.violation.value
    none = value[:, -1] == 0
    assert none.sum() >= 4
    spread = run.dispersion[0, -1]
    assert 1 < spread < 5
    np.testing.assert_allclose(high[none, -1], -np.log(0.025) * spread / 640_000, rtol=0.01)
    assert (np.diff(high, axis=0) <= 0).all()


def test_all_late_is_the_complement_of_none():
    queue = ei.Pipeline([ei.Exponential(0.5, "a")])
    run = ei.simulate(queue, 0.01, [0.0, 1e9], jobs=1000, replications=4, rng=1)
    (late, never), (low, _), (_, high) = run.violation.value[:, 0], run.violation.low[:, 0], run.violation.high[:, 0]
    assert (late, never) == (1, 0) and run.violation.high[0, 0] == 1 and run.violation.low[1, 0] == 0
    assert 1 - low == pytest.approx(high, rel=0.02) and high == pytest.approx(3.69 / 4000, rel=0.05)


@pytest.mark.parametrize("replications", [1, 2, 8])
@pytest.mark.parametrize("jobs", [1, 7, 100, 5000])
def test_few_replications_have_sensible_ends(replications, jobs):
    queue = ei.Pipeline(
        [
            ei.Exponential(0.8, "a"),
            ei.Compute(0.0, ei.Node("n", 1.0), "nothing"),
            ei.Compute(0.2, ei.Node("n", 1.0), "b"),
        ]
    )
    widths = []
    for confidence in (0.5, 0.95, 0.999):
        run = ei.simulate(
            queue, 1.0, [0.1, 3.0, 50.0], jobs=jobs, replications=replications, rng=5, confidence=confidence
        )
        for found in (run.mean, run.violation, run.stage_waiting, run.utilisation):
            assert found.confidence == confidence
            assert (found.low <= found.value).all() and (found.value <= found.high).all() and (found.low >= 0).all()
        assert (run.violation.high <= 1).all() and (run.violation.high[2] > 0).all()
        widths.append(run.violation.high - run.violation.low)
    assert (np.diff(widths, axis=0) > -1e-12).all()
    if jobs == 5000:
        assert np.isfinite(run.mean.high).all()


def test_a_wait_that_was_not_seen_has_an_upper_end():
    run = ei.simulate(
        ei.Pipeline([ei.Compute(1e-6, ei.Node("n", 1.0), "a")]), 1.0, 1.0, jobs=1000, replications=4, rng=1
    )
    # The truth is 5e-13 s.
    assert run.stage_waiting.value[0] == 0 and 5e-13 < run.stage_waiting.high[0] < 1e-8
    assert 1e-6 + 5e-13 < run.mean.high[0] < 1.01e-6


def test_beta_interval_is_that_of_clopper_and_pearson():
    # 10 of 100 at 95 %, as tabulated.
    low, high = beta_interval(np.array([0.0, 10.0, 100.0]), np.array(100.0), 0.95)
    np.testing.assert_allclose(low, [0, 0.0490047, 0.9637833], rtol=1e-6)
    np.testing.assert_allclose(high, [0.0362167, 0.1762226, 1], rtol=1e-6)


def test_batches_are_long_against_the_dispersion():
    assert batches(10**9, 1, 1.0) == 32 and batches(10**9, 33, 1.0) == 1 and batches(10**9, 5, 1.0) == 8
    assert batches(1000, 1, 361.0) == 1 and batches(31, 1, 1.0) == 1


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 1e290])
def test_quantiles_at_any_scale(scale):
    run = ei.simulate(
        ei.Pipeline([ei.Exponential(0.5 * scale, "a")]), 1 / scale, scale, jobs=20_000, replications=8, rng=2
    )
    p = np.array([[0.1, 0.5], [0.9, 0.99]])
    truth = -scale * np.log1p(-p)
    found = run.quantile_interval(p)
    assert found.value.shape == (2, 2, 1)
    np.testing.assert_array_equal(found.value, run.quantile(p))
    assert (found.low[..., 0] < truth).all() and (truth < found.high[..., 0]).all()
    np.testing.assert_allclose(found.value[..., 0], truth, rtol=0.1)
    tail = run.ccdf(truth)
    assert (tail.low[..., 0] < 1 - p).all() and (1 - p < tail.high[..., 0]).all()
    assert run.quantile(0.0)[0] == pytest.approx(run.bin_edges[0], rel=0.02) and run.histogram.shape == (
        1,
        run.bin_edges.size - 1,
    )


def test_zero_times_and_the_ends_of_the_law():
    nothing = ei.Pipeline([ei.Compute(0.0, ei.Node("n", 1.0), "a")])
    run = ei.simulate(nothing, 1.0, 0.0, jobs=1600, replications=2, rng=1)
    assert run.quantile(0.5) == 0 and run.quantile_interval(0.5).low == 0 and run.violation.value[0] == 0
    np.testing.assert_array_equal(run.ccdf([0.0, 1.0]).value, [[0], [0]])
    mixed = ei.Pipeline([ei.Measured([0.0, 1e-300, 1.0, 1e3], "a")])
    run = ei.simulate(mixed, 1e-9, 1.0, jobs=16_000, replications=2, rng=1)
    np.testing.assert_allclose(run.quantile([0.1, 0.4, 0.7, 0.9])[:, 0], [0, 1e-300, 1, 1e3], rtol=1 / 64)
    tail = run.ccdf([0.0, 1e-200, 500, 1e4, np.inf])
    np.testing.assert_allclose(tail.value[:, 0], [0.75, 0.5, 0.25, 0, 0], atol=0.05)
    assert (tail.high[:, 0] > 0).all() and (tail.low[3:] == 0).all()
    # 2000 entries tell nothing of a probability of 1e-6.
    far = run.quantile_interval([0.0, 1 - 1e-6])
    assert far.low[0, 0] == 0 and far.high[1, 0] == np.inf
    with pytest.warns(ei.AccuracyWarning, match=r"p = 0\.99999\d*: must be lower for 2000 samples.*rare_violation"):
        assert run.quantile([0.5, 1 - 1e-6])[1, 0] == far.value[1, 0]
    # 2000 independent times have none above this with a chance of 2.5 %; below it there is no warning.
    last = 0.025 ** (1 / 2000)
    run.quantile(last * (1 - 1e-9))
    with pytest.warns(ei.AccuracyWarning):
        run.quantile(last * (1 + 1e-9))


def test_families_share_their_bins():
    pipeline = ei.Pipeline([ei.Exponential([[1e-6], [1.0]], "a"), ei.Compute(1e-7, ei.Node("n", 1.0), "b")])
    run = ei.simulate(pipeline, [0.2, 0.5], [1e-6, 1.0], jobs=3200, replications=2, rng=4)
    assert run.histogram.shape == (2, 2, 2, run.bin_edges.size - 1) and run.dispersion.shape == (2, 2, 2)
    assert (run.histogram.sum(axis=-1) == 400).all()
    assert run.ccdf([[1e-6], [1.0]]).value.shape == (2, 1, 2, 2, 2)
    assert run.quantile_interval([0.2, 0.5, 0.9]).low.shape == (3, 2, 2, 2)
    for bad in (1.0, -0.1, np.nan):
        with pytest.raises(ValueError, match="p = "):
            run.quantile_interval(bad)
    with pytest.raises(ValueError, match=r"t\[0\] = -1"):
        run.ccdf([-1.0])
    with pytest.raises(ValueError, match="confidence = 1"):
        run.ccdf(1.0, confidence=1.0)


@pytest.mark.slow
def test_quantile_and_ccdf_intervals_cover():
    load, p = 0.8, np.array([0.1, 0.5, 0.9, 0.99])
    truth = -np.log1p(-p) * load / (1 - load)
    missed = np.zeros((2, p.size))
    for seed in range(RUNS):
        run = ei.simulate(
            ei.Pipeline([ei.Exponential(load, "a")]), 1.0, 1.0, jobs=4000, replications=4, rng=seed, threads=1
        )
        times, tail = run.quantile_interval(p)[:, 0], run.ccdf(truth)[:, 0]
        missed += [(times.low > truth) | (times.high < truth), (tail.low > 1 - p) | (tail.high < 1 - p)]
    assert_covered({"quantile": (missed[0], 0), "ccdf": (missed[1], 0)})


def test_long_runs_near_a_load_of_one_are_announced(monkeypatch):
    queue = ei.Pipeline([ei.Exponential(1.0, "a")])
    # Short although the load is high: no warning, which would be an error here.
    ei.simulate(queue, 0.995, 1.0, jobs=100, replications=1, warmup=100, rng=1)

    run = simulation._run

    def interrupted(*arguments):
        if arguments[7] > 10**6:
            raise KeyboardInterrupt
        return run(*arguments)

    monkeypatch.setattr(simulation, "_run", interrupted)
    message = r"load = 0\.999999: 8e\+13 jobs of warm-up and 1e\+05 more in each of 32 .* (days|years) of one core"
    with pytest.raises(KeyboardInterrupt), pytest.warns(ei.LongRunWarning, match=message):
        ei.simulate(queue, 0.999999, 1.0, rng=1)
    with pytest.raises(ValueError, match="warmup = None: must be given"):
        ei.simulate(queue, 1 - 1e-12, 1.0, rng=1)
