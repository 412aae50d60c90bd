"""Delays, forks, sessions and reviews: the truth inside the ends, closed forms, and what is refused."""

import os

import numpy as np
import pytest

import edgeinfer as ei

FUZZ = os.environ.get("EDGEINFER_FUZZ") == "1"
#: A false alarm in one of some 2,000 intervals has a probability of 2e-5; seeds are fixed.
CONFIDENCE = 1 - 1e-8


def exponentials(*means):
    return [ei.Exponential(mean, f"s{k}") for k, mean in enumerate(means)]


def inside(pipeline, rate, times, seed=1, jobs=20_000, replications=16):
    """The ends hold what is simulated; they are handed on."""
    bracket = ei.violation_bracket(pipeline, rate, times)
    run = ei.simulate(
        pipeline, rate, times, jobs=jobs, replications=replications, rng=seed, threads=1, confidence=CONFIDENCE
    )
    found = run.violation
    assert (bracket.lower <= bracket.upper).all()
    assert (bracket.lower <= found.high[..., -1]).all() and (found.low[..., -1] <= bracket.upper).all()
    return bracket, run


# Poisson points that independent delays displace are Poisson: an M/M/1 sojourn time and an exponential one are added.
@pytest.mark.parametrize("ahead", [False, True])
def test_a_delay_at_either_end_of_a_queue(ahead):
    queue, delay = ei.Exponential(0.5, "queue"), ei.Delay(ei.Exponential(0.7, "device"))
    pipeline = ei.Pipeline([delay, queue] if ahead else [queue, delay])
    times = np.array([0.5, 2.0, 6.0, 12.0])
    a, b = 1.0, 1 / 0.7
    exact = (b * np.exp(-a * times) - a * np.exp(-b * times)) / (b - a)
    bracket, _ = inside(pipeline, 1.0, times)
    assert (bracket.lower <= exact).all() and (exact <= bracket.upper).all()
    assert (bracket.upper <= 1.02 * bracket.lower).all()
    assert ei.mean_sojourn(pipeline, 1.0, service="tandem").upper == pytest.approx(1.7)


def test_delays_add_behind_any_chain():
    chain, delay = exponentials(0.5, 0.3), ei.Delay(ei.Exponential(0.2, "device"))
    times = np.array([2.0, 5.0])
    # Reich: two independent exponentials of rates 1 and 1 / 0.3 - 1, and the delay's.
    rates = np.array([1.0, 1 / 0.3 - 1, 5.0])
    weights = [np.prod([b / (b - a) for b in rates if b != a]) for a in rates]
    exact = np.array([np.dot(weights, np.exp(-rates * time)) for time in times])
    bracket, _ = inside(ei.Pipeline([*chain, delay]), 1.0, times)
    assert (bracket.lower <= exact).all() and (exact <= bracket.upper).all()


def test_constant_delays_shift_wherever_they_stand():
    plain = ei.violation_bracket(ei.Pipeline(exponentials(0.5, 0.3)), 1.0, [1.0, 3.0])
    a, b = exponentials(0.5, 0.3)
    for stages in ([ei.Delay(ei.Constant(0.5, "d")), a, b], [a, ei.Delay(ei.Constant(0.5, "d")), b]):
        shifted = ei.violation_bracket(ei.Pipeline(stages), 1.0, [1.5, 3.5])
        np.testing.assert_array_equal(shifted.upper, plain.upper)
        np.testing.assert_array_equal(shifted.lower, plain.lower)


def test_constant_delays_shift_branches_with_reviews_and_forks_of_their_own():
    a, b = exponentials(0.5, 0.3)
    wait = ei.Delay(ei.Constant(0.5, "d"))
    for late in ([ei.Review(b, 0.5)], [ei.Fork([a, b], "any", "inner")], [a, ei.Fork([b, a], "all", "inner"), b]):
        plain, shifted = (
            ei.violation_bracket(ei.Pipeline([ei.Fork([stages, stages], "all")]), 1.0, times)
            for stages, times in ((late, [0.25, 1.0, 3.0]), ([wait, *late], [0.75, 1.5, 3.5]))
        )
        np.testing.assert_allclose(shifted.upper, plain.upper, rtol=1e-12)
        np.testing.assert_allclose(shifted.lower, plain.lower, rtol=1e-12)


def test_random_delays_behind_a_review_in_a_branch_count():
    stages = [ei.Review(ei.Exponential(0.3, "review"), 0.4), ei.Delay(ei.Exponential(0.7, "device"))]
    times = np.array([0.5, 2.0, 6.0])
    plain, forked = (ei.violation_bracket(ei.Pipeline(each), 1.0, times) for each in (stages, [ei.Fork([stages])]))
    np.testing.assert_allclose(forked.lower, plain.lower, rtol=1e-9)
    np.testing.assert_allclose(forked.upper, plain.upper, rtol=1e-9)
    # A lower end of its own: who needs no review has the delay alone.
    assert (forked.upper > 0.6 * np.exp(-times / 0.7)).all()
    inside(ei.Pipeline([ei.Fork([stages, [ei.Constant(0.5, "other")]], "all"), stages[1]]), 1.0, times)


# A join that waits for all, one branch of which takes no time, is the other branch.
def test_means_of_joins_with_delays_and_latencies():
    queue, nothing = ei.Exponential(0.1, "queue"), ei.Constant(0.0, "nothing")
    far = ei.Transfer(1e5, ei.ConstantLink(1e6, latency=100.0), "far")
    for branch, behind, exact in (
        ([queue, ei.Delay(ei.Exponential(3.0, "device"))], [], 1 / 9 + 3.0),
        ([queue, ei.Delay(ei.Constant(10.0, "constant"))], [], 1 / 9 + 10.0),
        ([queue, ei.Delay(far)], [], 1 / 9 + 100.1),
        ([queue], [ei.Review(ei.Exponential(0.1, "review"), 0.0), ei.Delay(far)], 1 / 9 + 100.1),
    ):
        pipeline = ei.Pipeline([ei.Fork([branch, [nothing]], "all"), *behind])
        ends = ei.mean_sojourn(pipeline, 1.0, service="tandem", effort="light")
        assert ends.lower <= exact <= ends.upper < 1.03 * ends.lower
    ends = ei.mean_sojourn(ei.Pipeline([far, ei.Review(queue, 0.0)]), 1.0, service="tandem", effort="light")
    exact = 100.1 + 0.1**2 / (2 * (1 - 0.1))
    assert ends.lower <= exact <= ends.upper < 1.001 * ends.lower


def test_delays_alone():
    bracket, _ = inside(ei.Pipeline([ei.Delay(ei.Exponential(1.0, "a")), ei.Delay(ei.Constant(1.0, "b"))]), 3.0, [2.0])
    assert bracket.lower[0] <= np.exp(-1) <= bracket.upper[0] <= 1.01 * bracket.lower[0]


# Flatto and Hahn (SIAM J. Appl. Math. 44, 1984): two M/M/1 branches.
@pytest.mark.parametrize("load", [0.3, 0.8])
def test_two_exponential_branches(load):
    pipeline = ei.Pipeline([ei.Fork(exponentials(1.0, 1.0))])
    exact = (12 - load) / (8 * (1 - load))
    run = ei.simulate(pipeline, load, 5.0, jobs=100_000, replications=16, rng=2, threads=1, confidence=CONFIDENCE)
    assert run.mean.low[0] < exact < run.mean.high[0]
    assert run.mean.high[0] < 1.1 * run.mean.low[0]
    ends = ei.mean_sojourn(pipeline, load, service="tandem")
    assert ends.lower < exact < ends.upper < 1.6 * ends.lower


def test_one_branch_is_its_pipeline():
    stages = exponentials(0.5, 0.3)
    plain, forked = ei.Pipeline(stages), ei.Pipeline([ei.Fork([stages])])
    times = [1.0, 3.0, 9.0, 37.0, 90.0]
    one, other = (ei.violation_bracket(pipeline, 1.0, times) for pipeline in (plain, forked))
    np.testing.assert_allclose(one.upper, other.upper, rtol=1e-10)
    np.testing.assert_allclose(one.lower, other.lower, rtol=1e-10)
    runs = [ei.simulate(p, 1.0, times, jobs=5_000, replications=2, rng=1) for p in (plain, forked)]
    np.testing.assert_array_equal(runs[0].violation.value[:, -1], runs[1].violation.value[:, 0])
    assert ei.mean_sojourn(forked, 1.0, service="tandem").upper == ei.mean_sojourn(plain, 1.0, service="tandem").upper
    assert ei.latency(forked).total == pytest.approx(0.8, rel=1e-4)


@pytest.mark.parametrize("rounds", [[1.0], [[0.6, 0.4]]])
def test_one_round_is_its_stage(rounds):
    stage = ei.Measured(np.random.default_rng(3).gamma(4, 0.1, 300), "gpu")
    times = [0.5, 1.5, 4.0]
    one = ei.violation_bracket(ei.Pipeline([stage]), 1.5, times)
    other = ei.violation_bracket(ei.Pipeline([ei.Session([stage], rounds)]), 1.5, times)
    np.testing.assert_allclose(one.upper, other.upper, rtol=0.02)
    np.testing.assert_allclose(one.lower, other.lower, rtol=0.02)
    assert (one.lower <= other.upper).all() and (other.lower <= one.upper).all()
    assert ei.mean_sojourn(ei.Pipeline([stage]), 1.5) == pytest.approx(
        ei.mean_sojourn(ei.Pipeline([ei.Session([stage], rounds)]), 1.5), rel=1e-12
    )


# Geometric rounds of exponential stages are one exponential stage: M/M/1 in closed form (Takacs' feedback queue where a
# request keeps the server).
def test_geometric_rounds():
    rounds = 0.5 ** np.arange(1, 41)
    rounds[-1] *= 2
    session = ei.Session([ei.Exponential(0.25, "round")], rounds, "session")
    times = np.array([1.0, 4.0, 10.0, 14.0])
    bracket = ei.violation_bracket(ei.Pipeline([session]), 1.0, times)
    exact = np.exp(-times)
    assert (bracket.lower <= exact).all() and (exact <= bracket.upper).all()
    assert (bracket.upper <= 1.05 * bracket.lower).all()
    estimate = ei.rare_violation(ei.Pipeline([session]), 1.0, 14.0, rng=1, relative_error=0.02)
    assert abs(estimate.value / exact[-1] - 1) < 0.1


def test_wald_and_pollaczek_khinchine():
    stages = [ei.Exponential(0.2, "paint"), ei.Constant(0.1, "check")]
    session = ei.Session(stages, [[0.5, 0.0], [0.3, 0.2]], "painter")
    pipeline = ei.Pipeline([session])
    mean, variance = (float(part[0]) for part in pipeline.moments())
    assert mean == pytest.approx(1.5 * 0.3) and mean == pytest.approx(session.mean())
    assert variance == pytest.approx(1.5 * 0.04 + 0.25 * 0.09)
    _, run = inside(pipeline, 1.5, [1.0, 3.0])
    exact = mean + 1.5 * (variance + mean**2) / (2 * (1 - 1.5 * mean))
    assert run.mean.low[0, 0] < exact < run.mean.high[0, 0]
    assert ei.mean_sojourn(pipeline, 1.5) == pytest.approx(exact)


def random_stage(rng, mean, name):
    kind = rng.integers(4)
    if kind == 0:
        return ei.Constant(mean, name)
    if kind == 1:
        return ei.Exponential(mean, name)
    if kind == 2:
        samples = rng.gamma(rng.uniform(1, 20), size=rng.integers(2, 60))
        return ei.Measured(samples * (mean / samples.mean()), name)
    rounds = rng.dirichlet(np.ones(rng.integers(1, 5)))
    share = mean / float(rounds @ np.arange(1, len(rounds) + 1))
    return ei.Session([ei.Exponential(0.4 * share, "a"), ei.Constant(0.6 * share, "b")], rounds, name)


def random_fork(rng, depth=0):
    branches = []
    for b in range(rng.integers(2, 4)):
        stages = [random_stage(rng, 10 ** rng.uniform(-0.5, 0), f"b{b}s{k}") for k in range(rng.integers(1, 3))]
        if depth == 0 and rng.random() < 0.15:
            stages[-1] = random_fork(rng, 1)
        branches.append(stages)
    return ei.Fork(
        branches, rng.choice(["all", "any"]) if rng.random() < 0.7 else int(rng.integers(1, len(branches) + 1))
    )


def random_composed(seed):
    """A fork, alone or with something before, behind or at the end, and a rate."""
    rng = np.random.default_rng([11, seed])
    stages = [random_fork(rng)]
    if rng.random() < 0.4:
        stages.insert(0, random_stage(rng, 10 ** rng.uniform(-0.7, 0), "head"))
    if rng.random() < 0.4:
        stages.append(random_stage(rng, 10 ** rng.uniform(-0.7, 0), "tail"))
    if rng.random() < 0.3:
        stages.append(ei.Review(random_stage(rng, 1.0, "review"), rng.uniform(0, 1)))
    pipeline = ei.Pipeline(stages)
    return pipeline, float(rng.uniform(0.1, 0.8) / pipeline.loads(1.0).max())


@pytest.mark.parametrize("first", range(0, 200 if FUZZ else 4, 2))
def test_the_truth_lies_inside_at_random(first):
    for seed in range(first, first + 2):
        pipeline, rate = random_composed(seed)
        mean = float(pipeline.moments()[0].sum())
        inside(pipeline, rate, mean * np.array([0.5, 1.5, 3.0, 6.0]), seed, *((200_000, 32) if FUZZ else (5_000, 16)))


def test_forks_of_three_hold_the_truth():
    for seed in range(400 if FUZZ else 12):
        rng = np.random.default_rng([12, seed])
        stages = [random_stage(rng, 10 ** rng.uniform(-0.5, 0), f"s{k}") for k in range(3)]
        pipeline = ei.Pipeline([ei.Fork(stages, ["all", "any", 2][seed % 3])])
        rate = float(rng.uniform(0.1, 0.8) / pipeline.loads(1.0).max())
        times = float(pipeline.moments()[0].sum()) * np.array([1.0, 3.0, 6.0])
        inside(pipeline, rate, times, seed, *((1_000_000, 32) if FUZZ else (5_000, 16)))


def test_a_review_that_all_or_none_need():
    stages = exponentials(0.4, 0.3)
    times = [1.0, 3.0]
    for share, plain in ((1.0, stages), (0.0, stages[:1])):
        reviewed = ei.Pipeline([stages[0], ei.Review(stages[1], share)])
        bracket, run = inside(reviewed, 1.0, times)
        expected = ei.violation_bracket(ei.Pipeline(plain), 1.0, times)
        np.testing.assert_allclose(bracket.upper, expected.upper, rtol=0.05)
        np.testing.assert_allclose(bracket.lower, expected.lower, rtol=0.05)
        same = ei.simulate(ei.Pipeline(plain), 1.0, times, jobs=20_000, replications=16, rng=9)
        assert abs(run.mean.value[0, -1] / same.mean.value[0, -1] - 1) < 0.03


# Services of 0 change no wait: that of M/M/1 at the rate of those who need a review, whose sojourn time is exponential.
@pytest.mark.parametrize(("share", "rate", "mean"), [(0.5, 1.0, 0.3), (0.1, 3.0, 0.9), (0.01, 50.0, 1.0)])
def test_a_review_alone_is_one_queue(share, rate, mean):
    times = np.array([0.0, 0.1, 1.0, 3.0, 10.0])
    exact = share * np.exp(-(1 / mean - share * rate) * times)
    bracket = ei.violation_bracket(ei.Pipeline([ei.Review(ei.Exponential(mean, "judge"), share)]), rate, times)
    assert (bracket.lower <= exact).all() and (exact <= bracket.upper).all()
    assert (bracket.upper < 1.02 * bracket.lower).all()


# Who needs no review leaves at the join, and does not wait for those that do.
def test_who_passes_the_review_by_does_not_wait():
    pipeline = ei.Pipeline([ei.Constant(0.1, "paint"), ei.Review(ei.Constant(1.5, "judge"), 0.5)])
    run = ei.simulate(pipeline, 1.0, [0.5], jobs=50_000, replications=16, rng=1)
    # Few wait more than 0.4 s for the painter; half go on to the judge and are late.
    assert 0.49 < run.violation.value[0, 1] < 0.51
    assert run.utilisation.value[0, 1] == pytest.approx(0.75, abs=0.01)


def test_families_broadcast():
    means = np.array([[0.2], [0.4]])
    fork = ei.Fork([ei.Exponential(means, "a"), ei.Constant(0.3, "b")])
    pipeline = ei.Pipeline([fork, ei.Delay(ei.Constant([0.1, 0.2, 0.3], "d"))])
    assert pipeline.shape == (2, 3)
    bracket = ei.violation_bracket(pipeline, 1.0, 2.0)
    one = ei.Pipeline([ei.Fork([ei.Exponential(0.4, "a"), ei.Constant(0.3, "b")]), ei.Delay(ei.Constant(0.2, "d"))])
    assert bracket.upper.shape == (2, 3) and bracket.upper[1, 1] == ei.violation_bracket(one, 1.0, 2.0).upper
    assert ei.latency(pipeline).stages.shape == (2, 3, 2)
    assert ei.simulate(pipeline, 1.0, [[[2.0]], [[3.0]]], jobs=100, replications=2).violation.value.shape == (
        2,
        2,
        3,
        2,
    )


def test_unstable_and_idle():
    pipeline = ei.Pipeline([ei.Fork(exponentials(1.0, 0.1), "any"), ei.Delay(ei.Exponential(9.0, "device"))])
    bracket = ei.violation_bracket(pipeline, 1.5, 3.0)
    assert bracket.lower == bracket.upper == 1 and bracket.method == "unstable / unstable"
    assert ei.mean_sojourn(pipeline, 1.5, service="tandem").upper == np.inf
    with pytest.raises(ei.UnstableError):
        ei.simulate(pipeline, 1.5, 3.0, jobs=10)
    # A delay has no load.
    assert ei.violation_bracket(pipeline, 0.9, 3.0).upper < 1


def test_inverse_problems():
    fork = ei.Pipeline([ei.Fork(exponentials(0.3, 0.4)), ei.Delay(ei.Exponential(0.1, "device"))])
    deadline = ei.deadline_at(fork, 1.0, 1e-2)
    assert ei.violation_bound(fork, 1.0, deadline) <= 1e-2 < ei.violation_bound(fork, 1.0, 0.99 * deadline)
    rate = ei.max_arrival_rate(fork, 3.0, 1e-2, tolerance=0.01)
    assert ei.violation_bound(fork, rate, 3.0) <= 1e-2
    link = ei.RayleighLink(1e6, 20, -80, 100, 0.01)
    session = ei.Session([ei.Constant(0.1, "draft"), ei.Transfer(1e5, link, "uplink")], [0.5, 0.5])
    bandwidth = ei.min_bandwidth(ei.Pipeline([session]), 0.5, 2.0, 1e-2, tolerance=0.05)
    assert 1e4 < bandwidth < 1e6
    assert ei.max_arrival_rate(ei.Pipeline([ei.Delay(ei.Constant(0.5, "d"))]), 1.0, 0.1) == np.inf
    assert ei.max_arrival_rate(ei.Pipeline([ei.Delay(ei.Constant(2.0, "d"))]), 1.0, 0.1) == 0


@pytest.mark.parametrize(
    ("stages", "text"),
    [
        (
            [*exponentials(0.1), ei.Delay(ei.Exponential(0.1, "d")), *exponentials(0.1)],
            "Delay 'd': must not be a random",
        ),
        ([ei.Review(ei.Constant(0.1, "r"), 0.5), *exponentials(0.1)], "Review 'r': must not be a review before"),
        ([ei.Fork([[ei.Delay(ei.Exponential(0.1, "d")), *exponentials(0.1)]])], "Delay 'd': must not be a random"),
        ([ei.Fork([[*exponentials(0.1), ei.Delay(ei.Exponential(0.1, "d"))]]), *exponentials(0.2)], "of 'fork' before"),
    ],
)
def test_overtaking_before_a_queue_is_refused(stages, text):
    for ask in (
        lambda p: ei.violation_bracket(p, 1.0, 1.0),
        lambda p: ei.simulate(p, 1.0, 1.0, jobs=10),
        lambda p: ei.mean_sojourn(p, 1.0, service="tandem"),
    ):
        with pytest.raises(ValueError, match=text):
            ask(ei.Pipeline(stages))


def test_what_is_not_known_is_refused_by_name():
    fork = ei.Pipeline([ei.Fork(exponentials(0.3, 0.4))])
    with pytest.raises(ValueError, match="'fork' is a Fork"):
        ei.violation_bound(fork, 1.0, 1.0, "union")
    with pytest.raises(ValueError, match="'fork' is a Fork"):
        ei.rare_violation(fork, 1.0, 1.0)
    with pytest.raises(ValueError, match="service = 'serial'"):
        ei.mean_sojourn(fork, 1.0)
    with pytest.raises(ValueError, match="service = 'serial'"):
        ei.simulate(fork, 1.0, 1.0, service="serial", jobs=10)
    with pytest.raises(ValueError, match="wall_clock"):
        ei.simulate(fork, 1.0, 1.0, link="wall_clock", jobs=10)
    with pytest.raises(ValueError, match="Periodic"):
        ei.violation_bracket(fork, ei.Periodic(1.0), 1.0)
    with pytest.raises(ValueError, match="displaces"):
        ei.simulate(
            ei.Pipeline([ei.Delay(ei.Exponential(0.1, "d")), *exponentials(0.2)]), ei.Periodic(1.0), 1.0, jobs=10
        )
    assert ei.simulate(fork, ei.Periodic(1.0), 1.0, jobs=100, replications=2).violation.value.shape == (1,)


def test_a_stage_of_no_time_beside_a_delay():
    """As several servers before a fork have one in their place; it was refused as an argument outside its range."""
    delay, times = ei.model.Delay(ei.Exponential(0.3, "user")), np.array([0.5, 3.0])
    ends = ei.violation_bracket(ei.Pipeline([ei.Constant(0.0, "none"), delay]), 1.0, times)
    truth = np.exp(-times / 0.3)
    assert (ends.lower <= truth).all() and (truth <= ends.upper).all() and (ends.upper < 1.1 * ends.lower).all()
    servers = ei.Compute(1.0, ei.Node("edge", 1.0), "gpu", servers=2)
    fork = ei.model.Fork([[ei.Constant(0.3, "a")], [delay]], "all", "both")
    mean = ei.mean_sojourn(ei.Pipeline([servers, fork]), 1.2, service="tandem")
    assert 1.3 < mean.lower <= mean.upper
