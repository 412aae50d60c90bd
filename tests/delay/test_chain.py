"""The bracket of chains with several random stages: the truth inside, and how wide it is."""

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer import paper

NODE = ei.Node("unit", 1.0)


def deadlines(pipeline, rate, probabilities):
    return ei.deadline_at(pipeline, rate, np.array(probabilities), method="lundberg", tolerance=1e-2)


def beside_the_truth(pipeline, load, probabilities, relative_error=0.02):
    """The bracket, and the truth by importance sampling, in intervals at 1e-6 each side that meet it."""
    times = deadlines(pipeline, load, probabilities)
    bracket = ei.violation_bracket(pipeline, load, times)
    truth = [
        ei.rare_violation(pipeline, load, time, relative_error=relative_error, rng=1, confidence=1 - 2e-6)
        for time in times
    ]
    for low, high, likely in zip(bracket.lower, bracket.upper, truth, strict=True):
        assert low <= likely.high and likely.low <= high
    return bracket, [likely.value for likely in truth]


def hypoexponential(rates, time):
    """P(sum of independent exponentials > time), rates apart."""
    rates = np.asarray(rates)
    weights = [np.prod([b / (b - a) for b in rates if b != a]) for a in rates]
    return float(np.dot(weights, np.exp(-rates * time)))


# Reich: the sojourn times in a tandem of M/M/1 queues are independent and exponential.
@pytest.mark.parametrize(
    ("means", "load"), [((0.5, 1.0), 0.3), ((1.0, 0.3), 0.8), ((0.4, 1.0, 0.6), 0.5), ((0.9, 0.1, 0.4, 1.0), 0.2)]
)
def test_exponential_tandems(means, load):
    pipeline = ei.Pipeline([ei.Exponential(mean, f"stage {k}") for k, mean in enumerate(means)])
    times = deadlines(pipeline, load, [1e-1, 1e-3, 1e-6])
    exact = np.array([hypoexponential(1 / np.array(means) - load, time) for time in times])
    bracket = ei.violation_bracket(pipeline, load, times)
    assert (bracket.lower <= exact * (1 + 1e-9)).all() and (exact <= bracket.upper * (1 + 1e-9)).all()
    assert (bracket.upper <= 1.02 * bracket.lower).all() and set(bracket.upper_method) == {"exponential"}


# The sojourn time in an exponential stage that comes first is exponential, and independent of that in the others, which
# Poisson arrivals feed: the law of several is a sum, by quadrature of the brackets of the rest.
@pytest.mark.parametrize("load", [0.3, 0.7])
def test_an_exponential_stage_that_comes_first(load):
    first, rest = ei.Exponential(0.9, "first"), [ei.Compute(1.0, NODE, "edge"), ei.Exponential(0.3, "device")]
    grid = np.linspace(0, 30 / (1 - load), 801)
    alone = ei.violation_bracket(ei.Pipeline(rest), load, grid)
    times = deadlines(ei.Pipeline([first, *rest]), load, [1e-2, 1e-6])
    both = ei.violation_bracket(ei.Pipeline([first, *rest]), load, times)
    rate = 1 / 0.9 - load
    for time, low, high in zip(times, both.lower, both.upper, strict=True):
        left = np.minimum(grid, time)
        # P(time - left[i + 1] <= first < time - left[i]).
        mass = np.exp(-rate * (time - left[1:])) - np.exp(-rate * (time - left[:-1]))
        assert np.dot(mass, alone.lower[1:]) + np.exp(-rate * time) <= high
        assert low <= np.dot(mass, alone.upper[:-1]) + np.exp(-rate * time)
        assert high <= 1.3 * low


@pytest.mark.parametrize(
    ("means", "load"), [((0.4, 0.9, 1.0, 0.3), 0.9), ((0.4, 1.0, 0.3, 0.5), 0.5), ((0.7, 0.8, 1.0, 0.4), 0.3)]
)
def test_an_exponential_bottleneck_between_others(means, load):
    rng = np.random.default_rng(3)
    link = ei.RayleighLink(1e6, 10, 0, 0, 0.05)
    pipeline = ei.Pipeline(
        [
            ei.Measured(means[0] / 20 * rng.gamma(20, 1, 100), "a"),
            ei.Exponential(means[1], "b"),
            ei.Exponential(means[2], "c"),
            ei.Transfer(link.mean_rate() * means[3], link, "d"),
        ]
    )
    bracket, _ = beside_the_truth(pipeline, load, [1e-5])
    assert bracket.upper[0] <= 1.5 * bracket.lower[0] and bracket.upper_method[0] in ("exponential", "two_stages")


def tilted(name):
    rng = np.random.default_rng(8)
    measured, fast = (ei.Measured(mean / 4 * rng.gamma(4, 1, 80), "m") for mean in (1, 0.7))
    link = ei.RayleighLink(1e6, 5, 0, 0, 0.1)
    transfers = [ei.Transfer(link.mean_rate() * mean, link, f"link {mean}") for mean in (1.0, 0.8)]
    chains = {
        "measured before a link": ([measured, transfers[1]], 0.8, 1.1),
        "first exponential": ([ei.Exponential(0.7, "a"), measured, transfers[1], ei.Exponential(0.5, "d")], 0.6, 1.3),
        "a link between constants": (
            [ei.Compute(0.3, NODE, "a"), transfers[0], ei.Compute(0.6, NODE, "c"), fast],
            0.5,
            1.2,
        ),
        "slow stages behind it": (
            [measured, ei.Exponential(0.5, "b"), ei.Compute(0.4, NODE, "c"), ei.Exponential(0.3, "d"), fast],
            0.6,
            2.0,
        ),
        "nearly as slow a stage before it": (
            [
                ei.Compute(0.78, NODE, "a"),
                ei.Measured(0.48 / 40 * rng.gamma(40, 1, 80), "b"),
                ei.Compute(0.41, NODE, "c"),
                ei.Exponential(0.83, "d"),
            ],
            1.0,
            2.4,
        ),
    }
    return chains[name]


@pytest.mark.parametrize(
    "name",
    [
        "measured before a link",
        "first exponential",
        "a link between constants",
        "slow stages behind it",
        "nearly as slow a stage before it",
    ],
)
def test_a_random_bottleneck_before_others(name):
    stages, load, apart = tilted(name)
    bracket, truth = beside_the_truth(ei.Pipeline(stages), load, [0.5, 1e-5])
    assert bracket.upper_method[1] == "tilted" and bracket.upper[1] <= apart * truth[1]


# Beyond a deadline that far what is left out is bounded by the law itself.
def test_a_far_deadline_behind_stages_nearly_as_slow_as_each_other():
    first, second = ei.RayleighLink(1e6, 22, 0, 0, 0.05), ei.RayleighLink(1e6, 21, 0, 0, 0.01)
    stages = [ei.Transfer(0.98 * first.mean_rate(), first, "a"), ei.Transfer(second.mean_rate(), second, "b")]
    bracket, truth = beside_the_truth(ei.Pipeline(stages), 0.79, [1e-12], 0.05)
    assert bracket.upper_method[0] == "tilted" and bracket.upper[0] <= 1.3 * truth[0] and truth[0] < 1e-14


def test_quick_stages_behind_a_slow_one_that_hold_each_other_up():
    """What is behind it has its own exponents, and it is served by whole services at first."""
    rng = np.random.default_rng(3)
    stages = [
        ei.Measured(0.75 / 400 * rng.gamma(400, 1, 60), "a"),
        ei.Exponential(0.4, "b"),
        ei.Compute(0.58, NODE, "c"),
        ei.Exponential(0.2, "d"),
        ei.Measured(0.6 / 400 * rng.gamma(400, 1, 60), "e"),
    ]
    bracket, truth = beside_the_truth(ei.Pipeline(stages), 1.0, [1e-6])
    assert bracket.upper[0] <= 1.35 * truth[0] and bracket.upper_method[0] == "tilted"


def test_quick_stages_that_a_constant_one_feeds():
    stages = [
        ei.Compute(0.83, NODE, "a"),
        ei.Exponential(0.5, "b"),
        ei.Measured(0.55 / 100 * np.random.default_rng(3).gamma(100, 1, 60), "c"),
    ]
    bracket, truth = beside_the_truth(ei.Pipeline(stages), 1.0, [1e-5])
    assert bracket.upper[0] <= 1.15 * truth[0] and bracket.upper_method[0] == "bottleneck_first"


def test_ends_of_many_stages_as_slow_as_each_other():
    """Their moments at the decay of one are infinite, and paths stay in each of them."""
    slow = ei.RayleighLink(1e6, 10, 0, 0, 0.6)
    stages = [ei.Transfer(slow.mean_rate() * (1 - k / 100), slow, f"stage {k}") for k in range(5)]
    bracket, truth = beside_the_truth(ei.Pipeline(stages), 0.5, [1e-6], 0.05)
    assert bracket.upper[0] <= 12 * truth[0] and bracket.upper_method[0] == "tilted"
    assert bracket.lower[0] >= 0.3 * truth[0] and bracket.lower_method[0] == "two_stages"


def two_stages(name):
    rng = np.random.default_rng(6)
    measured = ei.Measured(0.4 / 3 * rng.gamma(3, 1, 60), "m")
    edge, device = ei.Compute(1.0, NODE, "edge"), ei.Exponential(0.6, "device")
    chains = {
        "exponential, constant, exponential": ([ei.Exponential(1.0, "first"), edge, device], 0.3, 1.15),
        "measured between": ([edge, measured, device], 0.3, 1.25),
    }
    return chains[name]


# Paths of many jobs in either stage count in the truth.
@pytest.mark.parametrize(
    "name",
    ["exponential, constant, exponential", "measured between"],
)
def test_ends_of_two_stages_at_once(name):
    stages, load, apart = two_stages(name)
    bracket, truth = beside_the_truth(ei.Pipeline(stages), load, [0.5, 1e-5])
    assert bracket.lower_method[1] == "two_stages" and truth[1] <= apart * bracket.lower[1]
    assert bracket.upper[1] <= 1.1 * truth[1] and "two_stages" in bracket.upper_method


@pytest.mark.parametrize(
    ("kind", "constant", "load"),
    [("exponential", 1.0, 0.9), ("measured", 1.0, 0.7), ("measured", 0.95, 0.92), ("link", 0.9, 0.85)],
)
def test_ends_of_a_random_stage_behind_a_constant_one(kind, constant, load):
    rng = np.random.default_rng(6)
    link = ei.RayleighLink(1e6, 10, 0, 0, 0.2)
    random = {
        "exponential": ei.Exponential(1.0, "x"),
        "measured": ei.Measured(1 / 5 * rng.gamma(5, 1, 50), "x"),
        "link": ei.Transfer(link.mean_rate(), link, "x"),
    }[kind]
    bracket, _ = beside_the_truth(ei.Pipeline([ei.Compute(constant, NODE, "d"), random]), load, [0.1, 1e-5])
    assert set(bracket.upper_method) == set(bracket.lower_method) == {"constant_first"}
    assert (bracket.upper <= 1.1 * bracket.lower).all()


@pytest.mark.parametrize(("mean", "load", "apart"), [(1.0, 0.75, 1.2), (0.94, 0.9, 1.6)])
def test_ends_of_a_constant_stage_behind_a_random_one(mean, load, apart):
    services = np.random.default_rng(6).gamma(5, 1, 50)
    stages = [ei.Measured(mean * services / services.mean(), "x"), ei.Compute(1.0, NODE, "d")]
    bracket, _ = beside_the_truth(ei.Pipeline(stages), load, [0.1, 1e-5])
    assert set(bracket.upper_method) == set(bracket.lower_method) == {"constant_last"}
    assert (bracket.upper <= apart * bracket.lower).all()


@pytest.mark.parametrize(("first", "last", "apart"), [(0.5, 1.0, 1.2), (1.0, 0.4, 1.1)])
def test_ends_of_a_random_stage_between_constant_ones(first, last, apart):
    services = np.random.default_rng(6).gamma(5, 1, 50)
    random = ei.Measured(0.95 * services / services.mean(), "x")
    pipeline = ei.Pipeline([ei.Compute(first, NODE, "first"), random, ei.Compute(last, NODE, "last")])
    bracket, truth = beside_the_truth(pipeline, 0.8, [0.1, 1e-4])
    assert set(bracket.lower_method) == {"constant_last"}
    assert (np.array(truth) <= apart * bracket.lower).all()
    assert set(bracket.upper_method) == {"constant_last"}
    assert (bracket.upper <= 1.4 * np.array(truth)).all()


# Beside the two slow stages one before them, and one between them.
def test_an_upper_end_of_two_stages_among_others():
    rng = np.random.default_rng(8)
    link = ei.RayleighLink(1e6, 10, 0, 0, 0.05)
    stages = [ei.Measured(mean / 6 * rng.gamma(6, 1, 60), f"stage {mean}") for mean in (0.2, 1.0, 0.1)]
    pipeline = ei.Pipeline([*stages, ei.Transfer(1.1 * link.mean_rate(), link, "link")])
    bracket, truth = beside_the_truth(pipeline, 0.4, [1e-4], relative_error=0.04)
    assert bracket.upper[0] <= 1.6 * truth[0] and bracket.upper_method[0] == "two_stages"


# Its own queue is short, as the measured stage hands over one request at a time.
def test_an_upper_end_of_two_stages_before_another():
    rng = np.random.default_rng(8)
    link = ei.RayleighLink(1e6, 10, 0, 0, 0.05)
    measured = ei.Measured(0.95 / 200 * rng.gamma(200, 1, 60), "measured")
    pipeline = ei.Pipeline([ei.Transfer(link.mean_rate(), link, "link"), measured, ei.Compute(0.4, NODE, "last")])
    bracket, truth = beside_the_truth(pipeline, 0.6, [1e-4], relative_error=0.04)
    assert bracket.upper[0] <= 1.2 * truth[0] and bracket.upper_method[0] == "two_stages"


@pytest.mark.parametrize("load", [0.1, 0.35, 0.6])
def test_an_uplink_before_the_split(load):
    uplink = ei.Transfer(0.2e6, ei.RayleighLink(5e6, 23, -100, 128.1, 0.01), "uplink")
    pipeline = ei.Pipeline([uplink, *paper.scenario().pipelines()["split"]])
    rate = load / pipeline.moments()[0].max()
    times = np.append(deadlines(pipeline, rate, [1e-9]), [2.0, 4.0, 6.0, 8.0])
    bracket = ei.violation_bracket(pipeline, rate, times)
    assert (bracket.upper <= 1.02 * bracket.lower).all()
    assert set(bracket.upper_method) == {"bottleneck_first"} and set(bracket.lower_method) == {"queue"}
    truth = ei.rare_violation(pipeline, rate, times[2], rng=1)
    slack = 2 * (truth.high - truth.low)
    assert bracket.lower[2] - slack <= truth.value <= bracket.upper[2] + slack


@pytest.mark.parametrize("edge", [0.9, 0.4])
def test_measured_edge_and_device_beside_a_link(edge):
    rng = np.random.default_rng(5)
    times = [ei.Measured(mean / 50 * rng.gamma(50, 1, 500), name) for mean, name in ((edge, "edge"), (0.6, "device"))]
    link = ei.Transfer(1.0486e6, ei.RayleighLink(10e6, 31, -100, 128.1, 0.01), "link")
    pipeline = ei.Pipeline([times[0], link, times[1]])
    # There Lundberg's bound is about a hundred times the truth, which is near 1e-6.
    bracket = ei.violation_bracket(pipeline, 0.4, deadlines(pipeline, 0.4, [1e-4]))
    assert bracket.upper[0] <= 1.1 * bracket.lower[0]


def random_chain(rng):
    stages = []
    for k in range(rng.integers(2, 7)):
        mean, name = 10 ** rng.uniform(-1, 0), f"stage {k}"
        kind = rng.integers(4)
        if kind == 0:
            stages.append(ei.Compute(mean, NODE, name))
        elif kind == 1:
            link = ei.RayleighLink(1e6, rng.uniform(0, 25), 0, 0, mean * 10 ** rng.uniform(-2, 0))
            stages.append(ei.Transfer(link.mean_rate() * mean, link, name))
        elif kind == 2:
            stages.append(ei.Exponential(mean, name))
        else:
            shape = rng.uniform(3, 1000)
            stages.append(ei.Measured(mean / shape * rng.gamma(shape, 1, rng.integers(5, 300)), name))
    return ei.Pipeline(stages)


# 8 replications at 2 deadlines of 10 chains: 20 intervals of Student's t at 1e-5 each side, so that a false alarm has a
# probability of 4e-4; the seeds are fixed.
@pytest.mark.parametrize("seed", range(10))
def test_the_truth_lies_inside_at_random_chains(seed):
    rng = np.random.default_rng([4, seed])
    pipeline = random_chain(rng)
    rate = rng.uniform(0.05, 0.8) / pipeline.moments()[0].max()
    simulated = [
        ei.simulate(
            pipeline,
            rate,
            times := np.array([1.5, 2.5]) * pipeline.moments()[0].sum(),
            jobs=20_000,
            replications=1,
            rng=8 * seed + i,
            threads=1,
        ).violation.value[..., -1]
        for i in range(8)
    ]
    mean, error = np.mean(simulated, axis=0), np.std(simulated, axis=0, ddof=1) / np.sqrt(8)
    bracket = ei.violation_bracket(pipeline, rate, times)
    assert (bracket.lower <= mean + 10 * error + 1e-4).all() and (mean - 10 * error <= bracket.upper).all()
    assert (bracket.lower <= bracket.upper).all()


@pytest.mark.parametrize("tiny", [0.01, 1e-6, 1e-300])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_stage_far_faster_than_the_others_changes_little(place, tiny):
    stages = [ei.Compute(1.0, NODE, "edge"), ei.Exponential(0.46, "network")]
    times = np.array([2.0, 5.0, 10.0])
    without = ei.violation_bracket(ei.Pipeline(stages), 0.3, times)
    # More than twelve requests within twelve of its services, which is all it can add, come with less than 1e-12.
    sooner = ei.violation_bracket(ei.Pipeline(stages), 0.3, times - 12 * tiny)
    stages.insert(place, ei.Compute(tiny, NODE, "tiny"))
    among = ei.violation_bracket(ei.Pipeline(stages), 0.3, times)
    assert (among.lower <= among.upper).all() and (among.upper <= 1.15 * among.lower).all()
    assert (without.lower <= among.upper).all()
    assert (among.lower <= sooner.upper + 1e-12).all()


def test_lower_ends_far_beyond_the_longest_services_are_below_bounds_by_moments():
    link = ei.RayleighLink(bandwidth=1e6, tx_power_dbm=10, noise_dbm=0, path_loss_db=0, slot=0.04)
    samples = np.linspace(0.85, 1.1, 40)
    stages = [
        ei.Transfer(3.75e6, link, "up"),
        ei.Compute(1.04, NODE, "a"),
        ei.Measured(samples, "b"),
        ei.Compute(0.99, NODE, "c"),
    ]
    pipeline, times = ei.Pipeline(stages), np.arange(11.5, 14.0, 0.25)
    for rate in (0.002, 0.0064):
        bracket = ei.violation_bracket(pipeline, rate, times)
        moments = ei.violation_bound(pipeline, rate, times, method="union")
        assert (bracket.lower <= bracket.upper).all() and (bracket.lower <= np.minimum(moments, 1)).all()


def test_stages_that_take_no_time_change_nothing():
    stages = [ei.Exponential(0.3, "a"), ei.Compute(0.5, NODE, "b"), ei.Exponential(0.2, "c")]
    idle = ei.Compute(0.0, NODE, "idle")
    plain = ei.violation_bracket(ei.Pipeline(stages), 1.0, [2.0, 5.0])
    more = ei.violation_bracket(ei.Pipeline([idle, stages[0], idle, *stages[1:], idle]), 1.0, [2.0, 5.0])
    np.testing.assert_allclose(more.upper, plain.upper, rtol=1e-9)
    np.testing.assert_allclose(more.lower, plain.lower, rtol=1e-9)


BLOCKS = ei.Transfer(1e5, ei.OutageLink(1e6, 0.05, 0.1), "blocks")
SPREAD = ei.Measured(np.random.default_rng(4).gamma(2.0, 0.05, 50), "spread")


@pytest.mark.parametrize(
    ("stages", "width"),
    [
        ([BLOCKS], 1.05),
        ([ei.Constant(0.05, "a"), BLOCKS], 1.05),
        ([SPREAD, ei.Constant(0.04, "b")], 1.5),
        ([ei.Exponential(0.03, "c"), SPREAD], 1.2),
    ],
)
def test_lower_ends_at_a_load_of_99_hundredths(stages, width):
    pipeline = ei.Pipeline(stages)
    rate = 0.99 / np.ravel(pipeline.moments()[0]).max()
    times = ei.deadline_at(pipeline, rate, [1e-2, 1e-9], method="lundberg", tolerance=1e-3)
    bracket = ei.violation_bracket(pipeline, rate, times)
    # Truth is between these: a lower end that is too large is seen by the width of what is left.
    assert (bracket.lower < bracket.upper).all() and (bracket.upper < width * bracket.lower).all()
