"""Widths of brackets where three loads lie within 20 % of each other: D, X, D at random, both efforts.

python benchmarks/bench_equal.py [--cases 40] [--first 0] [--effort fast tight] [--list]
"""

import argparse
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


def one(
    seed: int, pipeline: ei.Pipeline, rate: float, deadline: float, effort: str, listed: bool
) -> tuple[float, float]:
    """Ratio of the ends, and the call's processor time, s: it runs on one thread, beside whatever else runs."""
    start = time.process_time()
    ends = ei.violation_bracket(pipeline, rate, deadline, effort=effort)
    spent, ratio = time.process_time() - start, float(ends.upper / ends.lower)
    if listed:
        first, random, last = pipeline.moments()[0]
        print(
            f"  seed {seed} {effort}: {first:.3f}, {type(pipeline[1]).__name__} {random:.3f}, {last:.3f}, load "
            f"{rate * max(first, random, last):.3f}, deadline {deadline:.4g}, upper end {float(ends.upper):.2e}, "
            f"{ends.method}: {ratio:.4g} in {spent:.3f} s",
            flush=True,
        )
    return ratio, spent


def summary(effort: str, ratios: np.ndarray, times: np.ndarray, first: int) -> str:
    return (
        f"{effort}: {ratios.size} cases, upper / lower median {np.median(ratios):.3f}, 90 % "
        f"{np.quantile(ratios, 0.9):.3f}, worst {ratios.max():.4g} (seed {first + ratios.argmax()}), at most 1.1 in "
        f"{np.mean(ratios <= 1.1):.0%}, at most 2 in {np.mean(ratios <= 2):.0%}; processor time median "
        f"{np.median(times):.3f} s, 90 % {np.quantile(times, 0.9):.3f} s, worst {times.max():.3f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=40, help="how many random pipelines (40)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one (0)")
    parser.add_argument("--effort", nargs="+", choices=("fast", "tight"), default=("fast", "tight"))
    parser.add_argument("--list", action="store_true", help="print each case as it is done")
    options = parser.parse_args()
    print(machine())
    found: dict[str, list[tuple[float, float]]] = {effort: [] for effort in options.effort}
    for seed in range(options.first, options.first + options.cases):
        pipeline, rate, deadline = case(seed)
        for effort in options.effort:
            found[effort].append(one(seed, pipeline, rate, deadline, effort, options.list))
    for effort, values in found.items():
        print(summary(effort, *np.array(values).T, options.first))


if __name__ == "__main__":
    main()
