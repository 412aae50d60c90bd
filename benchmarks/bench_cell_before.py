"""How far a cell's upper end is above the simulated truth where terminals' own uplinks come before the edge.

`python benchmarks/bench_cell_before.py [--cells 60] [--seed 1]`: each cell has 2 to 40 terminals, an edge of a load of
0.1 to 0.9, uplinks of a hundredth to ten times its service, and a deadline missed with a probability of 1e-1 to 1e-4.
"""

import argparse
import time

import numpy as np
from common import machine

import edgeinfer as ei
from edgeinfer.model.bases import Server

JOBS = 50_000


def stage(rng: np.random.Generator, mean: float, name: str) -> Server:
    kind = rng.integers(4)
    if kind == 0:
        return ei.Exponential(mean, name)
    if kind == 1:
        return ei.Measured(mean / 20 * rng.gamma(20, 1, 100), name)
    if kind == 2:
        link = ei.RayleighLink.from_snr(10.0, 1e6, mean / 10)
        return ei.Transfer(link.mean_rate() * mean, link, name)
    return ei.Constant(mean, name)


def cell_of(rng: np.random.Generator) -> ei.Cell:
    """At the edge a constant or measured service of 1 s; the terminals' own load stays below 0.9."""
    count, load, uplink = int(rng.integers(2, 41)), rng.uniform(0.1, 0.9), float(10 ** rng.uniform(-2, 1))
    edge = ei.Constant(1.0, "edge") if rng.integers(2) else ei.Measured(rng.gamma(20, 1, 100) / 20, "edge")
    rate = min(load / count, 0.9 / uplink)
    pipeline = ei.Pipeline([stage(rng, uplink, "uplink"), edge])
    return ei.Cell(ei.Terminals(count, float(rate), pipeline, edge="edge"), ei.EdgeNode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=60, help="how many random cells (60)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(machine())
    above, below, times = [], [], []
    for number in range(options.cells):
        rng = np.random.default_rng([options.seed, number])
        cell, chance = cell_of(rng), float(10 ** -rng.uniform(1, 4))
        run = ei.simulate_cell(cell, jobs=JOBS, rng=number)["terminals"]
        deadline = float(run.quantile(1 - chance)[-1])
        late = ei.simulate_cell(cell, deadline, jobs=JOBS, rng=number)["terminals"].violation[-1]
        start = time.process_time()
        bracket = ei.cell_bracket(cell, deadline)
        times.append(time.process_time() - start)
        if late.low > bracket.upper or late.high < bracket.lower:
            print(f"OUTSIDE {number}: {late} {bracket}")
        if late.value:
            above.append(float(bracket.upper / late.value))
            below.append(float(bracket.lower / late.value))
    for name, ratios in (("upper / truth", above), ("lower / truth", below)):
        low, median, most, worst = np.quantile(ratios, [0.1, 0.5, 0.9, 1.0], method="lower")
        print(f"{name}: 10 % {low:.3g}, median {median:.3g}, 90 % {most:.3g}, largest {worst:.3g}")
    print(f"a call: median {np.median(times):.2g} s, worst {max(times):.2g} s")


if __name__ == "__main__":
    main()
