"""A cell of 100 terminals at one edge beside SimPy and Numba, answers checked; by events; and shared bands."""

import heapq
import resource
import time
from collections.abc import Callable

import numba
import numpy as np
import simpy
from common import machine, report

import edgeinfer as ei

COUNT, RATE, EDGE, LINK, DEVICE = 100, 0.01, 0.7, 0.1, 0.5
STAGES = ei.Pipeline([ei.Constant(EDGE, "edge"), ei.Exponential(LINK, "link"), ei.Constant(DEVICE, "device")])
CELL = ei.Cell(ei.Terminals(COUNT, RATE, STAGES, edge="edge"), ei.EdgeNode())
#: Pollaczek and Khinchine's wait at the edge, and the services; own queues add below 0.5 % to it.
EXACT = COUNT * RATE * EDGE**2 / (2 * (1 - COUNT * RATE * EDGE)) + EDGE + LINK + DEVICE


def best(call: Callable[[], object], repeat: int = 3) -> float:
    """Least processor time of `repeat` calls, s: each runs on one core, whatever else the machine does."""
    times = []
    for _ in range(repeat):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def by_simpy(jobs: int) -> float:
    """Mean sojourn time; a terminal is a process, and so is each request."""
    rng = np.random.default_rng(1)
    environment = simpy.Environment()
    edge = simpy.Resource(environment)
    own = [(simpy.Resource(environment), simpy.Resource(environment)) for _ in range(COUNT)]
    total, number = 0.0, 0

    def request(terminal: int) -> object:
        nonlocal total, number
        arrived = environment.now
        link, device = own[terminal]
        for server, service in ((edge, EDGE), (link, LINK * rng.standard_exponential()), (device, DEVICE)):
            with server.request() as turn:
                yield turn
                yield environment.timeout(service)
        total, number = total + environment.now - arrived, number + 1

    def source(terminal: int) -> object:
        while True:
            yield environment.timeout(rng.standard_exponential() / RATE)
            environment.process(request(terminal))

    for terminal in range(COUNT):
        environment.process(source(terminal))
    environment.run(until=jobs / (COUNT * RATE))
    return total / number


@numba.njit
def by_numba(jobs, count, rate, edge, link, device):
    """Mean sojourn time by a heap of events (time, kind, terminal, arrival), with queues at every server."""
    # Numba's own generator, which its compiled loops call without a Python object.
    np.random.seed(1)  # noqa: NPY002
    events = [(np.random.exponential() / rate, 0, i, 0.0) for i in range(count)]  # noqa: NPY002
    heapq.heapify(events)
    free = np.zeros((3, count))
    total, number = 0.0, 0
    while number < jobs:
        now, kind, terminal, arrived = heapq.heappop(events)
        if kind == 3:
            total += now - arrived
            number += 1
            continue
        if kind == 0:
            heapq.heappush(events, (now + np.random.exponential() / rate, 0, terminal, 0.0))  # noqa: NPY002
            arrived = now
        server = 0 if kind == 0 else terminal
        service = edge if kind == 0 else (link * np.random.exponential() if kind == 1 else device)  # noqa: NPY002
        free[kind, server] = max(now, free[kind, server]) + service
        heapq.heappush(events, (free[kind, server], kind + 1, terminal, arrived))
    return total / number


@numba.njit
def by_numba_without_events(jobs, count, rate, edge, link, device):
    """Mean sojourn time by the same idea as ours: one Poisson stream, servers that are free from a time on."""
    np.random.seed(1)  # noqa: NPY002
    free, links, devices = 0.0, np.zeros(count), np.zeros(count)
    born, total = 0.0, 0.0
    for _ in range(jobs):
        born += np.random.exponential() / (count * rate)  # noqa: NPY002
        terminal = np.random.randint(count)  # noqa: NPY002
        free = max(born, free) + edge
        links[terminal] = max(free, links[terminal]) + link * np.random.exponential()  # noqa: NPY002
        devices[terminal] = max(links[terminal], devices[terminal]) + device
        total += devices[terminal] - born
    return total / jobs


def ours(cell: ei.Cell, jobs: int) -> object:
    return ei.simulate_cell(cell, 5.0, jobs=jobs, replications=1, rng=1, threads=1)


def bands() -> None:
    link = ei.RayleighLink.from_snr(2.0, 10e6, 0.01)
    for bits, rate, jobs, words in (
        (1e5, 0.95, 300_000, "a few active"),
        (1e6, 0.33, 30_000, "all of 100 active in most slots"),
    ):
        stages = ei.Pipeline([ei.Constant(1e-4, "edge"), ei.Transfer(bits, link, "down")])
        for scheduler in ("round_robin", "equal_share", "proportional_fair", "max_rate"):
            cell = ei.Cell(
                ei.Terminals(COUNT, rate, stages, edge="edge"), ei.EdgeNode(), downlink=ei.Band(10e6, scheduler)
            )
            if bits > 1e5 and scheduler in ("round_robin", "equal_share"):
                continue  # these do not carry it
            start = time.process_time()
            run = ei.simulate_cell(cell, jobs=jobs, replications=1, rng=1, threads=1, warmup=100.0)
            spent = time.process_time() - start
            slots = run.bands["downlink"].slots
            print(f"{scheduler}, {words}: {run.visits / spent:.3g} visits/s, {slots / spent:.3g} slots/s")


def main() -> None:
    print(machine())
    jobs, small = 2_000_000, 20_000
    answer = ours(CELL, jobs)["terminals"].mean.value[-1]
    for value, size in (
        (answer, jobs),
        (by_simpy(small), small),
        (by_numba(jobs, COUNT, RATE, EDGE, LINK, DEVICE), jobs),
        (by_numba_without_events(jobs, COUNT, RATE, EDGE, LINK, DEVICE), jobs),
    ):
        assert abs(value / EXACT - 1) < 8 / np.sqrt(size), (value, EXACT)
    report(
        "FIFO edge, 100 terminals",
        "ns a stage visit",
        best(lambda: ours(CELL, jobs)) / (3 * jobs) * 1e9,
        {
            "SimPy": best(lambda: by_simpy(small), 2) / (3 * small) * 1e9,
            "Numba": best(lambda: by_numba(jobs, COUNT, RATE, EDGE, LINK, DEVICE)) / (3 * jobs) * 1e9,
            "Numba without events, the mean alone": best(
                lambda: by_numba_without_events(jobs, COUNT, RATE, EDGE, LINK, DEVICE)
            )
            / (3 * jobs)
            * 1e9,
        },
        "100 ns; 1000 x SimPy, 20 x Numba",
    )
    # Equal priorities are served as they come, but their scheduler needs events.
    events = CELL.replace(edges=ei.EdgeNode(scheduler="priority"))
    print(f"the same by events: {best(lambda: ours(events, jobs)) / (3 * jobs) * 1e9:.3g} ns a stage visit")
    many = ei.Cell(ei.Terminals(100_000, 1e-5, STAGES, edge="edge"), ei.EdgeNode())
    print(f"1e5 terminals: {best(lambda: ours(many, jobs), 2) / (3 * jobs) * 1e9:.3g} ns a stage visit")
    print(f"peak memory of all of this: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    bands()


if __name__ == "__main__":
    main()
