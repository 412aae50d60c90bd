"""Widths of brackets where three loads lie within 20 % of each other: D, X, D at random, both efforts.

python benchmarks/bench_equal.py [cases] [tight cases]
"""

import sys
import time

import numpy as np
from common import machine

import edgeinfer as ei

SLOT = 0.01


def middle(rng: np.random.Generator, mean: float) -> ei.Transfer | ei.Measured | ei.Exponential:
    """A random stage: a link, measured times of any spread, or exponential ones."""
    kind = rng.integers(3)
    if kind == 0:
        link = ei.RayleighLink(5e6, float(10 ** rng.uniform(0, 2)), 0.0, 0.0, mean * float(10 ** rng.uniform(-2, -1)))
        return ei.Transfer(mean * float(link.mean_rate()), link, "x")
    if kind == 1:
        spread = rng.uniform(0.05, 0.6)
        samples = rng.gamma(spread**-2, spread**2, int(rng.integers(30, 500)))
        return ei.Measured(samples * mean / samples.mean(), "x")
    return ei.Exponential(mean, "x")


def case(seed: int) -> tuple[ei.Pipeline, float, float]:
    """A pipeline, a rate and a deadline that the slowest stage alone violates with a probability of 1e-1 to 1e-9."""
    rng = np.random.default_rng(seed)
    means = rng.uniform(1, 1.2, 3)
    load, chance = rng.uniform(0.3, 0.95), 10 ** -rng.uniform(1, 9)
    stages = [ei.Constant(means[0], "a"), middle(rng, means[1]), ei.Constant(means[2], "b")]
    means = ei.Pipeline(stages).moments()[0]
    rate = load / means.max()
    deadlines = means.sum() * np.geomspace(1, 100, 400)
    late = [
        ei.violation_bracket(ei.Pipeline([stage]), rate, np.maximum(deadlines - means.sum() + mean, 0)).lower
        for stage, mean in zip(stages, means, strict=True)
    ]
    error = np.abs(np.log(np.maximum(np.max(late, axis=0), 1e-300) / chance))
    return ei.Pipeline(stages), rate, float(deadlines[np.argmin(error)])


def study(effort: str, count: int) -> None:
    ratios, times = np.empty(count), np.empty(count)
    for seed in range(count):
        pipeline, rate, deadline = case(seed)
        start = time.perf_counter()
        ends = ei.violation_bracket(pipeline, rate, deadline, effort=effort)
        times[seed] = time.perf_counter() - start
        ratios[seed] = ends.upper / ends.lower
    parts = [np.median(ratios), np.quantile(ratios, 0.9), ratios.max(), np.median(times), times.max()]
    print(
        f"{effort}: {count} cases, upper / lower median {parts[0]:.3f}, 90 % {parts[1]:.3f}, worst {parts[2]:.4g} "
        f"(seed {ratios.argmax()}); time median {parts[3]:.3f} s, worst {parts[4]:.3f} s"
    )


def main() -> None:
    print(machine())
    study("fast", int(sys.argv[1]) if len(sys.argv) > 1 else 200)
    study("tight", int(sys.argv[2]) if len(sys.argv) > 2 else 20)


if __name__ == "__main__":
    main()
