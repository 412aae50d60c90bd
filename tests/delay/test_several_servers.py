"""Several servers of one constant service: Franx's formula in many digits, queues followed by hand, what is refused."""

from heapq import heappop, heappush

import mpmath
import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer.delay.constant_servers import md_c_wait

LINK = ei.RayleighLink.from_snr(2.0, 10e6, 0.01)


def gpus(seconds, servers, name="gpu"):
    return ei.Compute(np.asarray(seconds) * 1e12, ei.Node("gpu", 1e12), name, servers=servers)


def in_system(a, c, size):
    """P(n in the system), n < c + size, of M/D/c: Crommelin's roots, and the equations of the chain in steps of D."""
    coefficients = [mpmath.mpc(1)]
    for k in range(c):
        # The roots of z^c = e^{a (z - 1)} in the unit disc are those of sum_{n < c} p_n (z^c - z^n).
        turn = mpmath.expjpi(mpmath.mpf(2) * k / c)
        root, step = (mpmath.mpc(1), 0) if k == 0 else (turn / 2, 1)
        while abs(step) > mpmath.mpf(10) ** -140:
            power = turn * mpmath.exp(a * (root - 1) / c)
            step = (root - power) / (1 - a / c * power)
            root -= step
        shifted = [mpmath.mpc(0), *coefficients]
        coefficients = [s - root * q for s, q in zip(shifted, [*coefficients, mpmath.mpc(0)], strict=True)]
    law = [-q.real for q in coefficients[:c]]
    scale = (c - a) / sum((c - n) * p for n, p in enumerate(law))
    law = [p * scale for p in law]
    poisson = [mpmath.exp(-a)]
    for k in range(1, size):
        poisson.append(poisson[-1] * a / k)
    law.append(law[0] / poisson[0] - sum(law))
    free = sum(law)
    for k in range(1, size):
        known = free * poisson[k] + sum(law[c + j] * poisson[k - j] for j in range(1, k))
        law.append((law[k] - known) / poisson[0])
    return law


def franx(rate, servers, times):
    """P(W > x) at services of 1."""
    with mpmath.workdps(150):
        size = servers * (int(max(times)) + 1)
        law = in_system(mpmath.mpf(rate), servers, size)
        queue = np.cumsum(np.array(law, dtype=object))[servers:]
        answer = []
        for x in times:
            k = int(x) + 1
            y = mpmath.mpf(rate) * (k - mpmath.mpf(x))
            term, begun = mpmath.exp(-y), mpmath.mpf(0)
            for j in range(k * servers):
                begun += queue[k * servers - 1 - j] * term
                term = term * y / (j + 1)
            answer.append(float(1 - begun))
        return np.array(answer)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.9), (3, 0.5), (16, 0.8), (64, 0.95)])
def test_wait_alone_is_franx_formula(servers, load):
    times = np.array([0.0, 0.25, 0.5, 1.0, 1.75])
    exact = franx(load * servers, servers, times)
    assert 0 < exact[-1] < exact[0] < 1
    np.testing.assert_allclose(md_c_wait(load * servers, 1.0, servers).tail(times), exact, rtol=1e-10)
    if servers > 1:
        bracket = ei.violation_bracket(ei.Pipeline([gpus(1.0, servers)]), load * servers, 1.0 + times)
        np.testing.assert_allclose(bracket.lower, exact, rtol=3e-9)
        np.testing.assert_allclose(bracket.upper, exact, rtol=3e-9)
        assert bracket.lower_method[0] == bracket.upper_method[0] == "M/D/c"


@pytest.mark.parametrize(
    ("servers", "load", "times"),
    [(2, 0.025, [3.2, 6.0, 9.0]), (16, 0.1, [0.0, 0.5, 1.5]), (16, 0.3, [0.9, 1.0, 2.6]), (150, 0.6, [0.0, 0.05])],
)
def test_waits_that_light_loads_make_rare_are_franx_formula(servers, load, times):
    exact = franx(load * servers, servers, times)
    lower, upper = (md_c_wait(load * servers, 1.0, servers).tail(np.array(times), end) for end in (0, 1))
    assert (0 < exact).all() and (lower <= exact * (1 + 1e-10)).all() and (exact * (1 - 1e-10) <= upper).all()
    # 0.4 % apart where the decay, which goes on beyond what is solved for, is not alone yet.
    assert (upper <= 1.005 * lower).all()


def followed(stages, rate, jobs, seed, gaps=None):
    """Sojourn times of (servers, services of all jobs) one behind the other: who waits takes the server free first."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate, jobs) if gaps is None else np.full(jobs, gaps))
    now = arrivals.tolist()
    for servers, draw in stages:
        free, left = [0.0] * servers, []
        for at, service in zip(now, draw(rng, jobs).tolist(), strict=True):
            left.append(max(at, heappop(free)) + service)
            heappush(free, left[-1])
        now = left
    return (np.array(now) - arrivals)[jobs // 10 :]


def constant(seconds):
    return lambda rng, jobs: np.full(jobs, seconds)


CASES = {
    "first": (
        ei.Pipeline([gpus(0.5, 3), ei.Exponential(0.12, "device")]),
        [(3, constant(0.5)), (1, lambda rng, jobs: rng.exponential(0.12, jobs))],
    ),
    "between": (
        ei.Pipeline(
            [ei.Constant(0.1, "a"), ei.Exponential(0.1, "b"), gpus(0.6, 4), ei.Constant(0.12, "c"), gpus(0.3, 2, "d")]
        ),
        [
            (1, constant(0.1)),
            (1, lambda rng, jobs: rng.exponential(0.1, jobs)),
            (4, constant(0.6)),
            (1, constant(0.12)),
            (2, constant(0.3)),
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_chains_beside_a_queue_followed_by_hand(name):
    pipeline, stages = CASES[name]
    deadlines = np.array([0.7, 1.2, 2.0]) + (name == "between")
    by_hand = [followed(stages, 5.0, 8000, seed) for seed in range(12)]
    shares = np.array([[(times > deadline).mean() for times in by_hand] for deadline in deadlines])
    # 4.4 of Student's t at 11 degrees of freedom: one comparison in a thousand seeds.
    half = 4.4 * shares.std(axis=1, ddof=1) / np.sqrt(len(by_hand))
    run = ei.simulate(pipeline, 5.0, deadlines, jobs=10_000, replications=16, rng=1, confidence=0.999)
    assert (run.violation.low[:, -1] < shares.mean(axis=1) + half).all()
    assert (run.violation.high[:, -1] > shares.mean(axis=1) - half).all()
    loads = pipeline.loads(5.0)
    assert (abs(run.utilisation.value[0] / loads - 1) < 0.05).all() and loads.max() < 0.9
    bracket = ei.violation_bracket(pipeline, 5.0, deadlines)
    assert (bracket.lower < run.violation.high[:, -1]).all() and (bracket.upper > run.violation.low[:, -1]).all()
    # Several stages are nearly as busy as the busiest.
    assert (bracket.upper / bracket.lower < (1.95 if name == "first" else 3.3)).all()


def test_one_busy_queue_among_light_stages_is_near_exact():
    """A queue of several servers is followed itself, wherever it stands, at Poisson, Erlang and periodic arrivals."""
    behind = ei.Pipeline([ei.Exponential(0.018, "uplink"), gpus(0.5, 8)])
    before = ei.Pipeline([gpus(0.5, 8), ei.Exponential(0.042, "downlink")])
    for pipeline, process, widest in (
        (behind, ei.Poisson(11.2), 1.13),
        (before, ei.Poisson(4.8), 1.12),
        (behind, ei.Erlang(11.2, 3), 1.2),
        (behind, ei.Periodic(1 / 11.2), 1.1),
    ):
        deadlines = np.array([0.62, 0.7, 0.8])
        ends = ei.violation_bracket(pipeline, process, deadlines)
        run = ei.simulate(pipeline, process, deadlines, jobs=8_000, replications=16, rng=2, confidence=0.999)
        # One set of deadlines in a hundred would be missed by chance: 12 intervals of 0.999.
        assert (ends.lower < run.violation.high[:, -1]).all() and (ends.upper > run.violation.low[:, -1]).all()
        assert (ends.upper / ends.lower < widest).all(), (process, ends)


def test_twins_hold_job_by_job():
    """D'_k <= D_k <= D'_k + (c - 1) d / c on one path, the steps of the proof."""
    rng = np.random.default_rng(3)
    for servers in (2, 5, 9):
        arrivals = np.cumsum(rng.gamma(0.3, 0.4 / 0.3 / servers, 3000))
        left, fast = np.zeros(3000), 0.0
        for k, at in enumerate(arrivals):
            left[k] = max(at, left[k - servers] if k >= servers else 0.0) + 0.35
            fast = max(at, fast) + 0.35 / servers
            assert max(fast, at + 0.35) <= left[k] + 1e-9 and left[k] <= fast + 0.35 * (1 - 1 / servers) + 1e-9


def test_mean_alone_latency_and_family():
    alone = ei.Pipeline([gpus(0.5, 3)])
    mean = ei.mean_sojourn(alone, 4.8, service="tandem")
    run = ei.simulate(alone, 4.8, 1.0, jobs=20_000, replications=16, rng=1, confidence=0.999)
    assert mean.lower == mean.upper and run.mean.low[0] < mean.lower < run.mean.high[0]
    assert ei.latency(alone).total == 0.5 and alone.moments()[1][0] == 0 and alone.loads(4.8)[0] == pytest.approx(0.8)
    single = ei.Pipeline([gpus(0.5, 3), ei.Constant(0.1, "device")])
    mean = ei.mean_sojourn(single, 4.8, service="tandem")
    run = ei.simulate(single, 4.8, 1.0, jobs=20_000, replications=16, rng=1, confidence=0.999)
    assert mean.lower < run.mean.high[-1] and mean.upper > run.mean.low[-1] and mean.upper < 1.6 * mean.lower
    family = ei.Pipeline([gpus([0.5, 0.25], 3), ei.Constant(0.1, "device")])
    ends = ei.violation_bracket(family, 4.8, 1.0)
    single = ei.violation_bracket(single, 4.8, 1.0)
    assert ends.lower[0] == single.lower and ends.upper[0] == single.upper and ends.upper[1] < ends.lower[0]
    unstable = ei.violation_bracket(alone, 6.0, 1.0)
    assert unstable.lower == unstable.upper == 1
    with pytest.raises(ei.UnstableError):
        ei.simulate(alone, 6.0, 1.0, jobs=10)


def test_other_arrivals_forks_and_searches():
    pipeline = ei.Pipeline([gpus(0.5, 3), ei.Constant(0.1, "device")])
    # Renewal arrivals in general take seconds, on the same way.
    run = ei.simulate(pipeline, ei.Periodic(0.2), [0.55, 0.65], jobs=50, replications=1, rng=1)
    ends = ei.violation_bracket(pipeline, ei.Periodic(0.2), [0.55, 0.65])
    assert (ends.lower <= run.violation.value[:, -1]).all() and (ends.upper >= run.violation.value[:, -1]).all()
    assert ends.lower[0] == 1 and run.violation.value[1, -1] == 0
    fork = ei.Pipeline([ei.Fork([[gpus(0.5, 3)], [ei.Constant(0.18, "other")]], "all"), ei.Constant(0.05, "device")])
    run = ei.simulate(fork, 5.0, [0.7, 1.2], jobs=10_000, replications=16, rng=1, confidence=0.999)
    ends = ei.violation_bracket(fork, 5.0, [0.7, 1.2])
    assert (ends.lower < run.violation.high[:, -1]).all() and (ends.upper > run.violation.low[:, -1]).all()
    deadline = ei.deadline_at(ei.Pipeline([gpus(0.5, 3)]), 4.8, 1e-4, tolerance=0.01)
    assert ei.violation_bracket(ei.Pipeline([gpus(0.5, 3)]), 4.8, deadline).upper <= 1e-4
    assert ei.violation_bracket(ei.Pipeline([gpus(0.5, 3)]), 4.8, 0.98 * deadline).lower > 1e-4


def test_what_takes_one_server_only_says_so():
    pipeline = ei.Pipeline([gpus(0.5, 3), ei.Constant(0.1, "device")])
    for call in (
        lambda: ei.violation_bound(pipeline, 1.0, 2.0, "union"),
        lambda: ei.rare_violation(pipeline, 1.0, 2.0),
        lambda: ei.mean_sojourn(pipeline, 1.0),
        lambda: ei.Session([gpus(0.5, 3)], [1.0], "s"),
        lambda: ei.Delay(gpus(0.5, 3)),
        lambda: ei.Review(gpus(0.5, 3), 0.5),
        lambda: ei.Terminals(2, 0.1, pipeline, edge="gpu"),
        lambda: ei.simulate(pipeline, 1.0, 2.0, jobs=10, service="serial"),
    ):
        with pytest.raises(ValueError, match=r"servers"):
            call()
    for servers in (0, 1.5, 1 << 17):
        with pytest.raises(ValueError, match="servers = "):
            gpus(0.5, servers)


def test_no_deadline_is_too_long():
    ends = ei.violation_bracket(ei.Pipeline([gpus(1e-9, 2)]), 1e9, [1e300, np.inf])
    assert (ends.upper == 0).all()
