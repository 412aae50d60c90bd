"""Forks and sessions beside SimPy and a Numba loop on the same model, answers checked; ends of a session."""

from time import process_time

import numba
import numpy as np
import simpy
from common import best, machine, report

import edgeinfer as ei

# Three hypotheses painted at once, a judge behind them; and rounds of painting and checking.
MEANS, JUDGE = (0.3, 0.35, 0.4), 0.2
FORK = ei.Pipeline(
    [ei.Fork([ei.Exponential(mean, f"painter {k}") for k, mean in enumerate(MEANS)]), ei.Constant(JUDGE, "judge")]
)
ROUNDS = np.array([0.8, 0.15, 0.05])
SESSION = ei.Pipeline([ei.Session([ei.Exponential(0.3, "paint"), ei.Constant(0.1, "check")], ROUNDS, "painter")])


@numba.njit
def numba_fork(jobs, means, judge, seed):
    np.random.seed(seed)  # noqa: NPY002
    free, last, total = np.zeros(len(means)), 0.0, 0.0
    for _ in range(jobs):
        t, joined = np.random.exponential(), 0.0  # noqa: NPY002
        last -= t
        for k in range(len(means)):
            free[k] = max(free[k] - t, 0.0) + np.random.exponential() * means[k]  # noqa: NPY002
            joined = max(joined, free[k])
        last = max(joined, last) + judge
        total += last
    return total / jobs


@numba.njit
def numba_session(jobs, rounds, paint, check, seed):
    np.random.seed(seed)  # noqa: NPY002
    free = total = 0.0
    for _ in range(jobs):
        free = max(free - np.random.exponential(), 0.0)  # noqa: NPY002
        left = np.random.random()  # noqa: NPY002
        for p in rounds:
            free += np.random.exponential() * paint + check  # noqa: NPY002
            left -= p
            if left < 0:
                break
        total += free
    return total / jobs


def simpy_fork(jobs, seed):
    rng, environment, times = np.random.default_rng(seed), simpy.Environment(), []
    painters = [simpy.Resource(environment) for _ in MEANS]
    judge = simpy.Resource(environment)

    def branch(painter, mean):
        with painter.request() as turn:
            yield turn
            yield environment.timeout(mean * rng.standard_exponential())

    def job():
        arrived = environment.now
        parts = zip(painters, MEANS, strict=True)
        yield environment.all_of([environment.process(branch(painter, mean)) for painter, mean in parts])
        with judge.request() as turn:
            yield turn
            yield environment.timeout(JUDGE)
        times.append(environment.now - arrived)

    return by_simpy(environment, jobs, job, rng, times)


def simpy_session(jobs, seed):
    rng, environment, times = np.random.default_rng(seed), simpy.Environment(), []
    server, numbers = simpy.Resource(environment), np.arange(1, len(ROUNDS) + 1)

    def job():
        arrived = environment.now
        with server.request() as turn:
            yield turn
            for _ in range(rng.choice(numbers, p=ROUNDS)):
                yield environment.timeout(0.3 * rng.standard_exponential())
                yield environment.timeout(0.1)
        times.append(environment.now - arrived)

    return by_simpy(environment, jobs, job, rng, times)


def by_simpy(environment, jobs, job, rng, times):
    def source():
        for _ in range(jobs):
            yield environment.timeout(rng.standard_exponential())
            environment.process(job())

    environment.process(source())
    environment.run()
    return float(np.mean(times))


def ours(pipeline, jobs):
    return ei.simulate(pipeline, 1.0, 5.0, jobs=jobs, replications=64, warmup=0, rng=1, threads=1)


def main() -> None:
    print(machine())
    jobs, small, each = 2_000_000, 20_000, 100_000
    cases = {
        "fork of 3 and a judge, a job and branch": (
            FORK,
            len(MEANS),
            lambda n: simpy_fork(n, 1),
            lambda n: numba_fork(n, np.array(MEANS), JUDGE, 1),
        ),
        "session of 1 to 3 rounds, a job": (
            SESSION,
            1,
            lambda n: simpy_session(n, 1),
            lambda n: numba_session(n, ROUNDS, 0.3, 0.1, 1),
        ),
    }
    for name, (pipeline, branches, by, looped) in cases.items():
        mean = float(ours(pipeline, each).mean.value[-1])
        assert abs(looped(jobs) / mean - 1) < 0.03
        assert abs(by(small) / mean - 1) < 0.1
        report(
            name,
            "ns",
            best(lambda p=pipeline: ours(p, each)) / (64 * each * branches) * 1e9,
            {
                "SimPy": best(lambda by=by: by(small), 2) / (small * branches) * 1e9,
                "Numba": best(lambda looped=looped: looped(jobs), 3) / (jobs * branches) * 1e9,
            },
            "<= 12 ns (AVX2), >= 500 x SimPy",
        )
    for rate in (0.6, 1.6):
        deadline = ei.deadline_at(SESSION, rate, 1e-6)
        fresh = ei.Pipeline([ei.Session(SESSION[0].stages, ROUNDS, "painter")])
        begin = process_time()
        bracket = ei.violation_bracket(fresh, rate, deadline)
        print(
            f"session at load {rate * SESSION[0].mean():.2f}, 1e-6: upper/lower {bracket.upper / bracket.lower:.4f} in "
            f"{1e3 * (process_time() - begin):.0f} ms; to reach: <= 1.05 in 50 ms"
        )


if __name__ == "__main__":
    main()
