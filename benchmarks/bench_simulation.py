"""Simulation beside NumPy's Lindley recursion, SimPy, Ciw and a Numba loop, answers checked."""

import ciw
import numba
import numpy as np
import simpy
from common import best, machine, report

import edgeinfer as ei

NODE = ei.Node("unit", 1.0)
LINK = ei.RayleighLink(10e6, 1.0, 0.0, 0.0, 0.01)
BITS, D1, D3 = 1.0486e6, 0.651, 0.458
MD1 = ei.Pipeline([ei.Compute(0.7, NODE, "a")])
SPLIT = ei.Pipeline([ei.Compute(D1, NODE, "a"), ei.Transfer(BITS, LINK, "b"), ei.Compute(D3, NODE, "c")])


def lindley(jobs: int, service: float, rng: np.random.Generator) -> float:
    """Mean wait of an M/D/1 queue: the reflected walk by cumulative sum and running minimum."""
    walk = np.cumsum(service - rng.standard_exponential(jobs))
    return float((walk - np.minimum.accumulate(np.minimum(walk, 0))).mean())


def by_simpy(jobs: int, services: list, seed: int) -> float:
    """Mean sojourn time of a tandem of FIFO servers; `services` gives a service time each call."""
    rng = np.random.default_rng(seed)
    environment = simpy.Environment()
    servers = [simpy.Resource(environment) for _ in services]
    total = 0.0

    def job() -> object:
        nonlocal total
        arrived = environment.now
        for server, service in zip(servers, services, strict=True):
            with server.request() as turn:
                yield turn
                yield environment.timeout(service(rng))
        total += environment.now - arrived

    def source() -> object:
        for _ in range(jobs):
            yield environment.timeout(rng.standard_exponential())
            environment.process(job())

    environment.process(source())
    environment.run()
    return total / jobs


def by_ciw(jobs: int) -> float:
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(rate=1.0)],
        service_distributions=[ciw.dists.Deterministic(value=0.7)],
        number_of_servers=[1],
    )
    simulation = ciw.Simulation(network)
    simulation.simulate_until_max_customers(jobs)
    return float(np.mean([record.waiting_time for record in simulation.get_all_records()]))


@numba.njit
def numba_split(jobs, bits, bandwidth, snr, slot, d1, d3, seed):
    # Numba's own generator, which its compiled loops call without a Python object.
    np.random.seed(seed)  # noqa: NPY002
    a = b = c = total = 0.0
    for _ in range(jobs):
        t = np.random.exponential()  # noqa: NPY002
        a, b, c = max(a - t, 0.0) + d1, b - t, c - t
        need, x = bits / bandwidth, 0.0
        while True:
            r = np.log2(1 + snr * np.random.exponential())  # noqa: NPY002
            if r * slot >= need:
                x += need / r
                break
            need -= r * slot
            x += slot
        b = max(a, b) + x
        c = max(b, c) + d3
        total += c
    return total / jobs


def draw_slots(rng: np.random.Generator) -> float:
    need, x = BITS / LINK.bandwidth, 0.0
    while True:
        r = np.log2(1 + LINK.snr * rng.standard_exponential())
        if r * LINK.slot >= need:
            return x + need / r
        need -= r * LINK.slot
        x += LINK.slot


def ours(pipeline: ei.Pipeline, jobs: int, threads: int, **options: object) -> object:
    # 64 replications, a deadline that all count, no warm-up: jobs x 64 are simulated in all.
    return ei.simulate(pipeline, 1.0, 5.0, jobs=jobs, replications=64, warmup=0, rng=1, threads=threads, **options)


def main() -> None:
    print(machine())
    rng = np.random.default_rng(1)
    # Long enough that setting up a run, tables included, does not count.
    jobs, small, ours_jobs = 2_000_000, 20_000, 20_000_000
    exact = 0.7 * 0.7 / (2 * 0.3)
    assert abs(lindley(jobs, 0.7, rng) / exact - 1) < 0.05
    run = ours(MD1, 100_000, 2)
    assert run.stage_waiting.low[0] - 0.02 < exact < run.stage_waiting.high[0] + 0.02
    report(
        "tandem M/D/1",
        "ns a job",
        best(lambda: ours(MD1, ours_jobs // 64, 1)) / ours_jobs * 1e9,
        {
            "NumPy": best(lambda: lindley(jobs, 0.7, rng)) / jobs * 1e9,
            "SimPy": best(lambda: by_simpy(small, [lambda r: 0.7], 1), 2) / small * 1e9,
            "Ciw": best(lambda: by_ciw(small), 1) / small * 1e9,
            "floor, our exponentials": best(lambda: LINK.sample_rate(jobs, 1)) / jobs * 1e9,
        },
        ">= 7 x NumPy, >= 1000 x SimPy, <= 1.2 ns (AVX-512)",
    )
    truth = 1.82312
    looped = numba_split(jobs, BITS, LINK.bandwidth, LINK.snr, LINK.slot, D1, D3, 1)
    assert abs(looped / truth - 1) < 0.03
    services = [lambda r: D1, draw_slots, lambda r: D3]
    assert abs(by_simpy(100_000, services, 2) / truth - 1) < 0.1
    rivals = {
        "SimPy": best(lambda: by_simpy(small, services, 1), 2) / small * 1e9,
        "Numba": best(lambda: numba_split(jobs, BITS, LINK.bandwidth, LINK.snr, LINK.slot, D1, D3, 1), 3) / jobs * 1e9,
    }
    for link, target in (("slots", ">= 500 x SimPy, >= 4 x Numba"), ("table", ">= 5000 x SimPy, >= 30 x Numba")):
        answer = ours(SPLIT, 100_000, 2, link=link)
        assert abs(answer.mean.value[-1] / truth - 1) < 0.02
        seconds = best(lambda link=link: ours(SPLIT, ours_jobs // 64, 1, link=link), 3)
        report(f"split tandem, {link}", "ns a job", seconds / ours_jobs * 1e9, rivals, target)
        both = best(lambda link=link: ours(SPLIT, ours_jobs // 64, 2, link=link), 3)
        print(f"  two threads: {seconds / both / 2:.2f} of linear scaling; to reach: 0.9")
    image = ei.Transfer(5.2429e6, LINK, "b")
    exponential = ei.Pipeline([ei.Exponential(0.5, name) for name in "abc"])
    cases = {
        "edge": (SPLIT, 1.0, 17.7),
        "device": (ei.Pipeline(SPLIT.stages[::-1]), 1.0, 17.7),
        "three equal stages, load 0.3": (exponential, 0.6, 19.0),
        "three equal stages, load 0.025": (exponential, 0.05, 13.7),
        "link": (ei.Pipeline([ei.Compute(0.3, NODE, "a"), image, ei.Compute(D3, NODE, "c")]), 1.3, 16.0),
    }
    for name, (pipeline, rate, deadline) in cases.items():
        answer = ei.rare_violation(pipeline, rate, deadline, rng=1, threads=1)
        seconds = best(lambda p=pipeline, r=rate, d=deadline: ei.rare_violation(p, r, d, rng=1, threads=1), 3)
        print(f"rare_violation, {name}, 1 % at {answer.value:.2g}: {seconds:.3g} s on one core; to reach: <= 1 s")


if __name__ == "__main__":
    main()
