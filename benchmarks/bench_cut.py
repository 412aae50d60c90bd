"""Time of the best cut over graphs of growing size, beside what it may take and networkx' minimum cut on the same
network.
"""

import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from edgeinfer.bridge.cutting.problem import read_problem

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from bridge import networks

from edgeinfer import Node, RayleighLink
from edgeinfer.bridge import cut

LIMITS = {1000: 2.0, 5000: 10.0}
LINK = RayleighLink(1e8, 31, -100, 128.1, 1e-3)


def timed(function, repetitions=3):
    """Median time and the last answer."""
    times = []
    for _ in range(repetitions):
        start = perf_counter()
        answer = function()
        times.append(perf_counter() - start)
    return float(np.median(times)), answer


def rival(graph, nodes):
    """networkx on the same capacities, built beforehand; None where it is not installed."""
    try:
        import networkx
    except ImportError:
        return None
    problem = read_problem(graph, nodes["device"], nodes["edge"], LINK, None, None)
    network = networkx.DiGraph()
    for tail, head, capacity in zip(problem.tail, problem.head, problem.base, strict=True):
        old = network.get_edge_data(tail, head, {"capacity": 0.0})["capacity"]
        network.add_edge(tail, head, capacity=old + capacity)
    time, value = timed(lambda: networkx.minimum_cut_value(network, 0, 1), 1)
    return time, value


def main():
    for count, limit in LIMITS.items():
        graph = networks.random_graph(np.random.default_rng(count), count)
        # So fast that the best cut lies within.
        nodes = {"device": Node("device", 3e7 * count), "edge": Node("edge", 3e9 * count)}
        time, best = timed(lambda graph=graph, nodes=nodes: cut(graph, link=LINK, **nodes))
        slow, fast = timed(lambda graph=graph, nodes=nodes: cut(graph, link=LINK, objective="throughput", **nodes), 1)
        other = rival(graph, nodes)
        print(
            f"{count} operations: latency {time:.3f} s (may take {limit:g} s), {sum(1 - p for p in best.places)} on "
            f"the device"
        )
        if other:
            print(f"  networkx' minimum cut alone {other[0]:.3f} s, value off by {abs(other[1] / best.value - 1):.1e}")
        print(f"  throughput {slow:.3f} s, {fast.value:.6g} of at most {fast.bound:.6g} requests/s")


if __name__ == "__main__":
    main()
