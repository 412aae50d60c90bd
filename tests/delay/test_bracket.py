"""The acceptance of the bracket: the truth lies inside at random pipelines of every kind."""

import numpy as np
import pytest

import edgeinfer as ei

NODE = ei.Node("unit", 1.0)


def random_case(seed):
    rng = np.random.default_rng(seed)
    kind = ("split", "edge_only", "device_only", "split", "split")[seed % 5]
    link = ei.RayleighLink(10e6, 31, -100, rng.uniform(124, 132), 0.01)
    bits = 10 ** rng.uniform(5.5, 6.9)
    first, second = link.transfer(bits).mean() * 10 ** rng.uniform(-1, 1.2, 2)
    stages = [ei.Compute(first, NODE, "a")]
    if kind != "device_only":
        stages.append(ei.Transfer(bits, link, "b"))
    if kind == "split":
        stages.append(ei.Compute(second, NODE, "c"))
    pipeline = ei.Pipeline(stages)
    rate = rng.uniform(0.05, 0.95) / pipeline.moments()[0].max()
    deadline = ei.deadline_at(pipeline, rate, 10 ** rng.uniform(-8, -1), method="lundberg", tolerance=1e-2)
    return pipeline, rate, deadline


# 210 cases, each off by more than 4.5 standard errors with probability 7e-6: false alarms below 2e-3 in all, and the
# seeds are fixed.
@pytest.mark.slow
@pytest.mark.parametrize("block", range(7))
def test_the_truth_lies_inside(block):
    for seed in range(30 * block, 30 * block + 30):
        pipeline, rate, deadline = random_case(seed)
        bracket = ei.violation_bracket(pipeline, rate, deadline)
        estimate = ei.rare_violation(pipeline, rate, deadline, relative_error=0.005, rng=seed, max_replications=1e7)
        slack = 4.5 / 1.96 * (estimate.high - estimate.low) / 2
        assert bracket.lower - slack <= estimate.value <= bracket.upper + slack, (seed, bracket, estimate)
        for method in ("union", "lundberg"):
            assert ei.violation_bound(pipeline, rate, deadline, method) >= bracket.lower, (seed, method)
        # Slots of 10 ms make the corrected bound slow for deadlines of minutes.
        if deadline < 60:
            assert ei.violation_bound(pipeline, rate, deadline, "corrected") >= bracket.lower, seed


def slow_link(seed):
    """A link, or measured samples, no faster than its neighbours by more than a tenth; often about as fast."""
    rng = np.random.default_rng([7, seed])
    if seed % 4 == 3:
        samples = rng.gamma(rng.uniform(1, 30), 0.1, rng.integers(3, 40))
        random, mean = ei.Measured(np.sort(samples), "b"), samples.mean()
    else:
        link = ei.RayleighLink(10e6, 31, -100, rng.uniform(124, 132), rng.choice([0.002, 0.01, 0.1]))
        random = ei.Transfer(10 ** rng.uniform(5, 6.9), link, "b")
        mean = link.transfer(random.bits).mean()
    stages = [random]
    for first in [(True, False), (False,), (True,)][seed % 3]:
        low, high = [(0.2, 1), (0.8, 1.1), (0.95, 1.05)][rng.integers(3)]
        neighbour = ei.Compute(mean * rng.uniform(low, high), NODE, "a" if first else "c")
        stages.insert(0 if first else len(stages), neighbour)
    pipeline = ei.Pipeline(stages)
    rate = rng.uniform(0.05, 0.95) / pipeline.moments()[0].max()
    deadline = ei.deadline_at(pipeline, rate, 10 ** rng.uniform(-8, -0.3), method="lundberg", tolerance=1e-2)
    return pipeline, rate, deadline


# 48 cases, each off by more than 4.5 standard errors with probability 7e-6.
@pytest.mark.slow
@pytest.mark.parametrize("block", range(3))
def test_the_truth_lies_inside_with_a_slow_link(block):
    methods = set()
    for seed in range(16 * block, 16 * block + 16):
        pipeline, rate, deadline = slow_link(seed)
        bracket = ei.violation_bracket(pipeline, rate, deadline)
        estimate = ei.rare_violation(pipeline, rate, deadline, relative_error=0.01, rng=seed, max_replications=1e7)
        slack = 4.5 / 1.96 * (estimate.high - estimate.low) / 2
        assert bracket.lower - slack <= estimate.value <= bracket.upper + slack, (seed, bracket, estimate)
        assert ei.violation_bound(pipeline, rate, deadline, "lundberg") >= bracket.lower, seed
        methods.update(str(bracket.method).split(" / "))
    assert {"link", "handover", "first_handover"} <= methods


def test_family_broadcasts():
    link = ei.RayleighLink(10e6, 31, -100, [[125.0], [128.0]], 0.01)
    pipeline = ei.Pipeline([ei.Compute(0.5, NODE, "a"), ei.Transfer(1e6, link, "b")])
    bracket = ei.violation_bracket(pipeline, 1.0, [2.0, 4.0, 8.0])
    assert bracket.lower.shape == (2, 3) and bracket.method.shape == (2, 3)
    single = ei.Pipeline(
        [ei.Compute(0.5, NODE, "a"), ei.Transfer(1e6, ei.RayleighLink(10e6, 31, -100, 128.0, 0.01), "b")]
    )
    assert ei.violation_bracket(single, 1.0, [2.0, 4.0, 8.0]).upper[1] == bracket.upper[1, 1]


def test_several_random_stages_have_a_bracket():
    pipeline = ei.Pipeline([ei.Exponential(0.3, "a"), ei.Exponential(0.4, "b")])
    bracket = ei.violation_bracket(pipeline, 1.0, [2.0, 6.0])
    # Two M/M/1 queues in tandem: the sojourn time is a sum of two independent exponentials.
    a, b = 1 / 0.3 - 1, 1 / 0.4 - 1
    exact = (a * np.exp(-b * np.array([2.0, 6.0])) - b * np.exp(-a * np.array([2.0, 6.0]))) / (a - b)
    assert (bracket.lower <= exact).all() and (exact <= bracket.upper).all()


def test_log_and_infinite_deadline():
    pipeline = ei.Pipeline([ei.Compute(0.5, NODE, "a")])
    assert ei.violation_bound(pipeline, 1.0, np.inf) == 0
    assert ei.violation_bound(pipeline, 1.0, 400.0, "lundberg", log=True) < -400
    assert ei.violation_bound(pipeline, 3.0, 4.0, "union") == 1


def test_printed_fails_and_names_are_checked():
    link = ei.RayleighLink(10e6, 1.0, 0.0, 0.0, 0.5)
    pipeline = ei.Pipeline(
        [ei.Compute(0.651, NODE, "a"), ei.Transfer(1.0486e6, link, "b"), ei.Compute(0.458, NODE, "c")]
    )
    assert ei.violation_bound(pipeline, 1.0, 4.8, "printed") < 1e-3 * ei.violation_bracket(pipeline, 1.0, 4.8).lower
    with pytest.raises(ValueError, match="method = 'x'"):
        ei.violation_bound(pipeline, 1.0, 1.0, "x")
    with pytest.raises(ValueError, match="pipeline"):
        ei.violation_bracket("split", 1.0, 1.0)


# Near-equal loads in both orders of the constant stages. Two intervals of importance sampling at 1 - 1e-7 each: a false
# alarm has a probability of 4e-7, as far as they reach their confidence; the seeds are fixed.
@pytest.mark.parametrize(("before", "after", "load", "deadline"), [(1.1, 1.0, 0.4, 9.0), (1.0, 1.05, 0.3, 7.0)])
def test_the_joint_walk_is_tight_at_near_equal_loads(before, after, load, deadline):
    samples = np.random.default_rng(3).gamma(8, 1 / 8, 60)
    pipeline = ei.Pipeline(
        [ei.Constant(before, "a"), ei.Measured(samples / samples.mean(), "x"), ei.Constant(after, "b")]
    )
    fast = ei.violation_bracket(pipeline, load, deadline)
    tight = ei.violation_bracket(pipeline, load, deadline, effort="tight")
    assert tight.method == "joint / joint"
    assert fast.lower <= tight.lower <= tight.upper <= fast.upper
    # Fast ends are within 1.32 themselves: tight ones cannot be much nearer to each other.
    assert tight.upper <= 1.08 * tight.lower < 0.9 * fast.upper * tight.lower / fast.lower
    truth = ei.rare_violation(pipeline, load, deadline, rng=1, confidence=1 - 1e-7)
    assert tight.lower <= truth.high and truth.low <= tight.upper


# At a load of 0.67 several interarrival times are taken out; the interval's confidence as above.
def test_fast_ends_stay_within_twice_at_near_equal_loads():
    samples = np.random.default_rng(3).gamma(8, 1 / 8, 60)
    pipeline = ei.Pipeline([ei.Constant(1.08, "a"), ei.Measured(samples / samples.mean(), "x"), ei.Constant(0.97, "b")])
    deadlines = np.array([20.0, 20.5, 25.0])
    fast = ei.violation_bracket(pipeline, 0.62, deadlines)
    assert fast.method[0] == "joint / joint" and (fast.upper < 1.9 * fast.lower).all()
    assert ei.violation_bracket(pipeline, 0.62, deadlines[1]).upper == fast.upper[1]
    truth = ei.rare_violation(pipeline, 0.62, deadlines[0], rng=1, confidence=1 - 1e-7)
    assert fast.lower[0] <= truth.high and truth.low <= fast.upper[0]


def test_tight_ends_are_the_same_alone_as_beside_others():
    """Elements that the joint walk settles go on to no other formula."""
    pipeline = ei.Pipeline([ei.Constant(1.1, "a"), ei.Exponential(1.0, "x"), ei.Constant(1.0, "b")])
    deadlines = np.array([3.5, 12.0, 20.0, np.inf])
    ends = ei.violation_bracket(pipeline, 0.4, deadlines, effort="tight")
    assert (ends.upper_method[1:3] == "joint").all() and ends.upper_method[0] != "joint" and ends.upper[3] == 0
    for i, deadline in enumerate(deadlines):
        alone = ei.violation_bracket(pipeline, 0.4, deadline, effort="tight")
        assert (alone.lower, alone.upper) == (ends.lower[i], ends.upper[i])


# First busy periods of more jobs than are followed: as if they never ended, or by waits that fall faster; what is left
# of the deadline grows, falls or stays where it is in them. Ends were 1.5, 6.2 and 3.7 apart. The interval's confidence
# as above.
@pytest.mark.parametrize(
    ("before", "after", "load", "deadline"), [(1.04, 1.0, 0.94, 60.0), (1.0, 1.1, 0.9, 40.0), (1.0, 1.0, 0.9, 60.0)]
)
def test_ends_are_near_at_high_loads_of_all_three_stages(before, after, load, deadline):
    samples = np.random.default_rng(3).gamma(4, 1 / 4, 60)
    pipeline = ei.Pipeline(
        [ei.Constant(before, "a"), ei.Measured(samples / samples.mean(), "x"), ei.Constant(after, "b")]
    )
    rate = load / max(before, after)
    ends = ei.violation_bracket(pipeline, rate, deadline)
    assert ends.method == "joint / joint" and ends.upper < 1.3 * ends.lower
    truth = ei.rare_violation(pipeline, rate, deadline, rng=1, confidence=1 - 1e-7)
    assert ends.lower <= truth.high and truth.low <= ends.upper


def test_effort_is_one_of_two():
    pipeline = ei.Pipeline([ei.Exponential(0.5, "x")])
    assert ei.violation_bracket(pipeline, 1.0, 2.0, effort="tight") == ei.violation_bracket(pipeline, 1.0, 2.0)
    with pytest.raises(ValueError, match="effort"):
        ei.violation_bracket(pipeline, 1.0, 2.0, effort="slow")


def test_what_the_bounds_on_slots_do_not_take_is_named():
    link = ei.RayleighLink.from_snr(2.0, 1e6, 0.1)
    pipeline = ei.Pipeline([ei.Transfer(1e5, link, "air"), ei.Exponential(0.1, "gpu")])
    for method in ("corrected", "printed"):
        with pytest.raises(ValueError, match=f"method = '{method}': must be 'bracket', 'union' or 'lundberg'"):
            ei.violation_bound(pipeline, 1.0, 2.0, method)


def test_ends_do_not_cross_at_the_least_probabilities():
    """Waits too long for the joint walk's lattice were what is left of all waits, so that upper ends near 1e-18 were
    rounding errors: 7e-19 at 20 s, where importance sampling gives 1.13e-18."""
    ends = ei.violation_bracket(ei.paper.scenario().pipelines()["split"], 0.35, [18.0, 19.0, 20.0, 21.0])
    assert (ends.lower <= ends.upper).all() and ends.lower[2] < 1.13e-18 < ends.upper[2]
    assert ends.upper_method[1:].tolist() == ["joint"] * 3 and (ends.upper < 5 * ends.lower).all()
    near = ei.Pipeline([ei.Constant(1.0, "a"), ei.Exponential(0.95, "b"), ei.Constant(1.0, "c")])
    least = ei.violation_bracket(near, 0.5, [1000.0, 1340.0, 1380.0, np.inf], effort="tight").upper
    assert (least[:3] > 0).all() and least[3] == 0


@pytest.mark.parametrize("arrivals", [0.9, ei.Erlang(0.9, 4)])
def test_a_constant_stage_beside_one_that_is_never_faster_is_a_delay(arrivals):
    slow = ei.Measured([0.6, 0.7, 1.4], "slow")
    around = [ei.Compute(0.3, NODE, "a"), ei.Compute(0.5, NODE, "b"), slow, ei.Compute(0.6, NODE, "c")]
    alone = ei.violation_bracket(ei.Pipeline([slow]), arrivals, [3.0, 8.0])
    bracket = ei.violation_bracket(ei.Pipeline(around), arrivals, [4.4, 9.4])
    np.testing.assert_allclose(bracket.lower, alone.lower, rtol=1e-12)
    np.testing.assert_allclose(bracket.upper, alone.upper, rtol=1e-12)
