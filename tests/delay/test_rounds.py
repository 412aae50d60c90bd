"""Right and on time: against a recursion written out, Monte Carlo over rounds, caps, and what is refused."""

import numpy as np
import pytest

import edgeinfer as ei

ROUNDS = [[0.6, 0.02], [0.2, 0.02], [0.05, 0.11]]


def lindley(rng, jobs, rate, rounds, draw):
    """Waits and services of an M/G/1 queue, and whether each answer is right; `draw` gives times of rounds."""
    table = np.asarray(rounds)
    outcome = rng.choice(table.size, jobs, p=table.ravel() / table.sum())
    number, right = outcome // 2 + 1, outcome % 2 == 0
    times = draw(rng, (jobs, len(table)))
    service = np.where(np.arange(len(table)) < number[:, None], times, 0).sum(axis=1)
    walk = np.concatenate([[0.0], np.cumsum(service[:-1] - rng.exponential(1 / rate, jobs - 1))])
    return walk - np.minimum.accumulate(walk), service, right


# 4 batches of independent queues a case; 5 standard errors at 3 times and 4 cases: a chance of some 1e-5 by the
# normal law, 1e-2 by Student's of 15 degrees of freedom at worst, and the seeds are fixed.
@pytest.mark.parametrize("rate", [0.5, 1.2])
@pytest.mark.parametrize("delayed", [False, True])
def test_simulation_lies_inside(rate, delayed):
    stages = [ei.Exponential(0.3, "paint"), ei.Constant(0.05, "check")]
    session = ei.Session(stages, ROUNDS, "painter")
    delay = [ei.Delay(ei.Exponential(0.4, "device"))] if delayed else []
    times = np.array([0.5, 1.0, 3.0])
    bracket = ei.timely(ei.Pipeline([session, *delay]), rate, times)
    assert (bracket.upper <= 1.02 * bracket.lower).all()
    shares = []
    for seed in range(16):
        rng = np.random.default_rng([seed, int(10 * rate)])
        wait, service, right = lindley(rng, 40_000, rate, ROUNDS, lambda rng, size: rng.exponential(0.3, size) + 0.05)
        sojourn = wait + service + (rng.exponential(0.4, service.size) if delayed else 0)
        shares.append([(right & (sojourn <= time))[1_000:].mean() for time in times])
    mean, error = np.mean(shares, axis=0), np.std(shares, axis=0, ddof=1) / 4
    assert (bracket.lower <= mean + 5 * error).all() and (mean - 5 * error <= bracket.upper).all()
    assert (error < 2e-3).all()


def test_a_chain_behind_the_session_holds_the_truth():
    session = ei.Session([ei.Constant(0.3, "paint")], ROUNDS, "painter")
    pipeline = ei.Pipeline([session, ei.Exponential(0.2, "downlink")])
    times = np.array([0.5, 1.5, 4.0])
    bracket = ei.timely(pipeline, 1.0, times)
    shares = []
    for seed in range(16):
        rng = np.random.default_rng([77, seed])
        table = np.asarray(ROUNDS)
        outcome = rng.choice(6, 20_000, p=table.ravel())
        services = 0.3 * (outcome // 2 + 1)
        arrivals, free, late = np.cumsum(rng.exponential(1.0, 20_000)), [0.0, 0.0], []
        for arrival, first, second in zip(arrivals, services, rng.exponential(0.2, 20_000), strict=True):
            free[0] = max(arrival, free[0]) + first
            free[1] = max(free) + second
            late.append(free[1] - arrival)
        good = (outcome % 2 == 0) & (np.array(late) <= times[:, None])
        shares.append(good[:, 500:].mean(axis=1))
    mean, error = np.mean(shares, axis=0), np.std(shares, axis=0, ddof=1) / 4
    assert (bracket.lower <= mean + 5 * error).all() and (mean - 5 * error <= bracket.upper).all()


def test_limits():
    session = ei.Session([ei.Exponential(0.3, "paint")], ROUNDS, "painter")
    pipeline = ei.Pipeline([session])
    right = np.asarray(ROUNDS)[:, 0].sum()
    ends = ei.timely(pipeline, 0.8, [0.0, 1e3, np.inf])
    np.testing.assert_allclose(ends.upper, [0, right, right], atol=1e-3)
    np.testing.assert_allclose(ends.lower, [0, right, right], atol=1e-3)
    assert ei.timely(pipeline, 5.0, 1.0).upper == 0
    never = ei.Session([ei.Exponential(0.3, "paint")], [[0.0, 1.0]])
    assert ei.timely(ei.Pipeline([never]), 1.0, 9.0).upper == 0
    # Always right is P(W <= T).
    always = ei.Session([ei.Exponential(0.5, "paint")], [[1.0, 0.0]])
    ends = ei.timely(ei.Pipeline([always]), 1.0, 2.0)
    assert ends.lower <= 1 - np.exp(-2.0) <= ends.upper <= ends.lower * 1.01


def test_in_a_branch_and_as_a_delay():
    session = ei.Session([ei.Exponential(0.3, "paint")], ROUNDS, "painter")
    forked = ei.timely(ei.Pipeline([ei.Fork([session, ei.Constant(0.1, "other")])]), 0.8, 2.0)
    alone = ei.timely(ei.Pipeline([session]), 0.8, 2.0)
    assert forked.lower <= alone.upper and alone.lower <= forked.upper + 1e-9
    delayed = ei.timely(ei.Pipeline([ei.Delay(session)]), 0.8, [0.3, 1.0])
    # One, two or three exponential rounds and nobody who waits.
    x = np.array([0.3, 1.0]) / 0.3
    tails = np.exp(-x) * np.array([np.ones(2), 1 + x, 1 + x + x**2 / 2])
    exact = np.asarray(ROUNDS)[:, 0] @ (1 - tails)
    assert (delayed.lower <= exact).all() and (exact <= delayed.upper).all()
    assert (delayed.upper - delayed.lower < 0.1).all()


def test_best_rounds():
    session = ei.Session([ei.Exponential(0.5, "paint")], [[0.7, 0.0], [0.15, 0.0], [0.05, 0.1]], "painter")
    pipeline = ei.Pipeline([session])
    best = ei.best_rounds(pipeline, [[0.2], [1.3]], [4.0, 20.0])
    assert best.cap.shape == (2, 2) and best.timely.lower.shape == (2, 2, 3)
    for cap in (1, 2, 3):
        one = ei.timely(ei.Pipeline([session.capped(cap)]), [[0.2], [1.3]], [4.0, 20.0])
        np.testing.assert_array_equal(one.lower, best.timely.lower[..., cap - 1])
    assert best.cap[0].tolist() == [3, 3] and best.cap[1, 0] == 1 and best.certain.all()
    # No cap is the session itself.
    assert session.capped(7).rounds.tolist() == session.rounds.tolist()


def test_caps_that_light_ends_exclude_keep_them():
    session = ei.Session([ei.Constant(0.3, "paint")], [[0.6, 0.02], [0.2, 0.18]], "painter")
    downlink = ei.Exponential(0.2, "downlink")
    best = ei.best_rounds(ei.Pipeline([session, downlink]), 1.2, 3.0)
    assert best.cap == 2 and best.certain
    once = ei.timely(ei.Pipeline([session.capped(1), downlink]), 1.2, 3.0, effort="light")
    assert once.upper < best.timely.lower[1]
    assert (best.timely.lower[0], best.timely.upper[0]) == (once.lower, once.upper)


def test_families():
    session = ei.Session([ei.Exponential([0.2, 0.4], "paint")], ROUNDS)
    pipeline = ei.Pipeline([session, ei.Delay(ei.Constant([[0.1], [0.2]], "d"))])
    ends = ei.timely(pipeline, 1.0, 2.0)
    single = ei.Pipeline([ei.Session([ei.Exponential(0.4, "paint")], ROUNDS), ei.Delay(ei.Constant(0.2, "d"))])
    assert ends.lower.shape == (2, 2) and ends.lower[1, 1] == ei.timely(single, 1.0, 2.0).lower
    assert ei.violation_bracket(ei.Pipeline([session]), 1.0, 2.0).upper.shape == (2,)
    assert ei.simulate(ei.Pipeline([session]), 1.0, 2.0, jobs=50, replications=2).violation.value.shape == (2, 1)


@pytest.mark.parametrize(
    ("rounds", "text"),
    [
        ([0.5, 0.4], "their sum = 0.9"),
        ([1.5, -0.5], r"rounds\[0\] = 1.5"),
        ([], "rounds of shape"),
        ([[0.5, 0.3, 0.2]], "rounds of shape"),
        ("x", "rounds"),
    ],
)
def test_wrong_rounds(rounds, text):
    with pytest.raises(ValueError, match=text):
        ei.Session([ei.Constant(0.1, "a")], rounds)


def test_what_is_refused():
    plain = ei.Session([ei.Constant(0.1, "a")], [1.0])
    judged = ei.Session([ei.Constant(0.1, "a")], [[0.9, 0.1]])
    with pytest.raises(ValueError, match="0 sessions with outcomes"):
        ei.timely(ei.Pipeline([plain]), 1.0, 1.0)
    with pytest.raises(ValueError, match="2 sessions with outcomes"):
        ei.best_rounds(ei.Pipeline([judged, judged]), 1.0, 1.0)
    with pytest.raises(ValueError, match="Review 'session'"):
        ei.timely(ei.Pipeline([judged, ei.Review(judged, 0.5)]), 1.0, 1.0)
    with pytest.raises(ValueError, match="must not be a Session itself"):
        ei.Session([plain], [1.0])
    with pytest.raises(ValueError, match="must be a stage with one server"):
        ei.Session([ei.Delay(ei.Constant(0.1, "d"))], [1.0])
    with pytest.raises(ValueError, match="cap = 0"):
        judged.capped(0)
    with pytest.raises(ValueError, match="pipeline = 3"):
        ei.timely(3, 1.0, 1.0)
    for function in (ei.timely, ei.best_rounds):
        with pytest.raises(ValueError, match="effort = 'little'"):
            function(ei.Pipeline([judged]), 1.0, 1.0, effort="little")
    with pytest.raises(ValueError, match="Periodic"):
        ei.timely(ei.Pipeline([judged]), ei.Periodic(1.0), 1.0)
