"""How far apart the bracket's ends are, and how long it takes, over random chains of 2 to 6 stages of every kind.

`python benchmarks/bench_chains.py [--chains N] [--seed S] [--truth SECONDS]`: each chain has a load of 0.05 to 0.95 at
its slowest stage and one deadline, missed with a probability of 1e-1 to 1e-9. For as long as `--truth` lasts,
importance sampling says whether the truth lies inside, and which end is far from it.

With `--arrivals [NAME ...]` chains of 1 to 6 stages, links of every fading law, stand behind arrivals of each kind, one
row of the table a kind; where importance sampling is not sure, simulation says where the truth is, down to 1e-4.
"""

import argparse
import contextlib
import time
import warnings
from dataclasses import dataclass

import numpy as np
from common import machine

import edgeinfer as ei
from edgeinfer.model.bases import Server

NODE = ei.Node("unit", 1.0)
#: Brought to the rate that gives the load.
PROCESSES: dict[str, ei.ArrivalProcess] = {
    "poisson": ei.Poisson(1.0),
    "periodic": ei.Periodic(1.0),
    "erlang:4": ei.Erlang(1.0, 4),
    "hyperexponential:4": ei.Hyperexponential(1.0, 4.0),
    "gamma:0.3": ei.Gamma(1.0, 0.3),
    "gamma:5": ei.Gamma(1.0, 5.0),
    "modulated": ei.MarkovModulated([0.4, 2.0], [[-0.1, 0.1], [0.2, -0.2]]),
}
FADINGS = (ei.Rayleigh(), ei.Nakagami(3.0), ei.Rician(4.0), ei.MaximalRatio(2), ei.BestOf(3))
KINDS = ("constant", "link", "exponential", "measured")
#: Relative error and replications of importance sampling, at most.
ERROR, REPLICATIONS = 0.02, 3e5
#: Least probability that simulation can be asked for.
SIMULATED = 1e-4


def random_stage(rng: np.random.Generator, kind: str, mean: float, name: str, every_fading: bool) -> Server:
    if kind == "constant":
        return ei.Compute(mean, NODE, name)
    if kind == "link" and every_fading:
        link = ei.FadingLink.from_snr(
            10 ** rng.uniform(-0.3, 1.5),
            1e6,
            mean * 10 ** rng.uniform(-2, 0),
            fading=FADINGS[rng.integers(len(FADINGS))],
        )
        return ei.Transfer(link.mean_rate() * mean, link, name)
    if kind == "link":
        link = ei.RayleighLink(1e6, rng.uniform(0, 25), 0, 0, mean * 10 ** rng.uniform(-2, 0))
        return ei.Transfer(link.mean_rate() * mean, link, name)
    if kind == "exponential":
        return ei.Exponential(mean, name)
    shape = rng.uniform(3, 1000)
    return ei.Measured(mean / shape * rng.gamma(shape, 1, rng.integers(5, 300)), name)


@dataclass
class Case:
    """A chain, its deadline, and what its bracket is."""

    number: int
    pipeline: ei.Pipeline
    kinds: list[str]
    loads: np.ndarray
    process: ei.ArrivalProcess
    deadline: float
    lower: float
    upper: float
    method: str
    milliseconds: float

    @property
    def ratio(self) -> float:
        return self.upper / self.lower if self.lower > 0 else np.inf

    @property
    def bottleneck(self) -> int:
        return int(np.argmax(self.loads))

    def line(self) -> str:
        stages = ", ".join(f"{kind} {load:.2f}" for kind, load in zip(self.kinds, self.loads, strict=True))
        return (
            f"chain {self.number}: {self.ratio:.3g} = {self.upper:.3g} / {self.lower:.3g} ({self.method}), "
            f"{self.milliseconds:.0f} ms; loads: {stages}"
        )


def random_case(seed: int, number: int, effort: str, process: ei.ArrivalProcess | None = None) -> Case:
    rng = np.random.default_rng([seed, number])
    count = int(rng.integers(2 if process is None else 1, 7))
    kinds = [KINDS[k] for k in rng.integers(4, size=count)]
    means = 10 ** rng.uniform(-1, 0, count)
    stages = [random_stage(rng, kinds[k], float(means[k]), f"stage {k}", process is not None) for k in range(count)]
    pipeline = ei.Pipeline(stages)
    means = pipeline.moments()[0]
    rate = float(rng.uniform(0.05, 0.95) / means.max())
    arrivals = ei.Poisson(rate) if process is None else process.at_rate(rate)
    # Lundberg's bound is some five times the truth.
    probability = min(5 * 10 ** -rng.uniform(1, 9), 0.7)
    deadline = float(ei.deadline_at(pipeline, arrivals, probability, method="lundberg", tolerance=1e-3))
    start = time.process_time()
    bracket = ei.violation_bracket(pipeline, arrivals, deadline, effort=effort)
    seconds = time.process_time() - start
    method = f"{bracket.lower_method}, {bracket.upper_method}"
    ends = float(bracket.lower), float(bracket.upper)
    return Case(number, pipeline, kinds, rate * means, arrivals, deadline, *ends, method, 1e3 * seconds)


def spread(title: str, cases: list[Case]) -> None:
    if cases:
        ratios = np.array([case.ratio for case in cases])
        low, median, most, worst = np.quantile(ratios, [0.1, 0.5, 0.9, 1.0], method="lower")
        print(
            f"{title:<28} {len(cases):4d}  {low:8.3f} {median:8.3f} {most:8.3g} {worst:8.3g}"
            f"  {np.mean(ratios <= 1.1):5.0%} {np.mean(ratios <= 1.3):5.0%} {np.mean(ratios <= 2):5.0%}"
        )


def table(cases: list[Case]) -> None:
    print(f"{'upper / lower':<28} {'n':>4}  {'10 %':>8} {'median':>8} {'90 %':>8} {'worst':>8}  <=1.1 <=1.3  <=2")
    spread("all", cases)
    for kind in KINDS:
        spread(f"slowest stage: {kind}", [case for case in cases if case.kinds[case.bottleneck] == kind])
    for name, first in (("first", True), ("later", False)):
        spread(f"slowest stage comes {name}", [case for case in cases if (case.bottleneck == 0) == first])
    for low, high in ((0.05, 0.3), (0.3, 0.6), (0.6, 0.8), (0.8, 0.95)):
        spread(f"load {low} to {high}", [case for case in cases if low <= case.loads.max() < high])
    for low, high in ((0.0, 0.5), (0.5, 0.8), (0.8, 0.95), (0.95, 1.0)):
        name = f"second load / first {low} to {high}"
        spread(name, [case for case in cases if low <= np.sort(case.loads)[-2] / case.loads.max() < high])
    for power in range(1, 9):
        inside = [
            case for case in cases if 10.0**-power >= (case.upper * max(case.lower, 0)) ** 0.5 > 10.0 ** (-power - 1)
        ]
        spread(f"probability 1e-{power} to 1e-{power + 1}", inside)
    for count in range(2, 7):
        spread(f"{count} stages", [case for case in cases if len(case.kinds) == count])
    times = np.array([case.milliseconds for case in cases])
    print(f"a call: median {np.median(times):.3g} ms, 90 % {np.quantile(times, 0.9):.3g}, worst {times.max():.3g} ms")


def sampled_truth(case: Case) -> tuple[ei.Estimate, bool]:
    """By importance sampling, and whether it is sure of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ei.AccuracyWarning)
        # An alarm in some 1e4 cases.
        truth = ei.rare_violation(
            case.pipeline,
            case.process,
            case.deadline,
            relative_error=ERROR,
            max_replications=REPLICATIONS,
            confidence=1 - 1e-6,
            rng=case.number,
            threads=1,
        )
    return truth, not caught


def truth_of(case: Case) -> tuple[ei.Estimate, bool]:
    """By importance sampling, or by simulation where that is not sure and the probability large enough."""
    # Behind arrivals that depend on each other paths may be too long to be sampled, which is refused.
    with contextlib.suppress(ValueError):
        truth, sure = sampled_truth(case)
        if sure or case.upper < SIMULATED:
            return truth, sure
    run = ei.simulate(
        case.pipeline, case.process, [case.deadline], jobs=30_000, rng=case.number, threads=1, confidence=1 - 1e-6
    )
    return run.violation[0, -1], case.upper >= SIMULATED


def truths(cases: list[Case], seconds: float) -> None:
    """The truth beside the cases in turn, the widest first."""
    end, sampled, outside, unsure = time.perf_counter() + seconds, 0, 0, 0
    for case in cases:
        if time.perf_counter() > end:
            break
        truth, sure = truth_of(case)
        sampled += 1
        unsure += not sure
        bad = sure and not (truth.low <= case.upper and truth.high >= case.lower)
        outside += bad
        if sampled <= 10 or bad:
            print(
                f"{'OUTSIDE ' if bad else ''}{case.line()}\n    truth {truth.value:.4g}, {'' if sure else 'unsure, '}"
                f"upper / truth {case.upper / max(truth.value, 1e-300):.3g}, "
                f"truth / lower {truth.value / max(case.lower, 1e-300):.3g}"
            )
    print(f"truth inside: {sampled - outside} of {sampled}, {unsure} of which are not sure")


def by_arrivals(names: list[str], chains: int, seed: int, seconds: float) -> None:
    """One row a kind of arrivals, then the truth beside the widest chains."""
    print(f"{'upper / lower':<20} {'n':>4} {'median':>8} {'90 %':>8} {'worst':>8}  median ms {'90 %':>8} {'worst':>8}")
    every = {}
    for name in names:
        cases = every[name] = [random_case(seed, number, "fast", PROCESSES[name]) for number in range(chains)]
        ratios = np.quantile([case.ratio for case in cases], [0.5, 0.9, 1.0], method="lower")
        times = np.quantile([case.milliseconds for case in cases], [0.5, 0.9, 1.0], method="lower")
        print(
            f"{name:<20} {chains:4d} {ratios[0]:8.3f} {ratios[1]:8.3g} {ratios[2]:8.3g}"
            f"     {times[0]:8.0f} {times[1]:8.0f} {times[2]:8.0f}",
            flush=True,
        )
    for name, cases in every.items():
        print(f"--- {name}")
        truths(sorted(cases, key=lambda case: -case.ratio), seconds / len(names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--truth", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--effort", default="fast", choices=("fast", "tight"))
    parser.add_argument("--arrivals", nargs="*", choices=tuple(PROCESSES), metavar="NAME")
    options = parser.parse_args()
    print(machine())
    if options.arrivals is not None:
        return by_arrivals(options.arrivals or list(PROCESSES), options.chains, options.seed, options.truth)
    cases = [random_case(options.seed, number, options.effort) for number in range(options.chains)]
    table(cases)
    truths(sorted(cases, key=lambda case: -case.ratio), options.truth)


if __name__ == "__main__":
    main()
