"""Ratios to rivals that run in the same process, so that numbers of other machines and other days compare."""

import importlib
import subprocess
import sys
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np

import edgeinfer as ei


def best(call: Callable[[], object], number: int = 1, repeat: int = 15) -> float:
    """Seconds a call, the least of some runs."""
    return min(timeit.repeat(call, number=number, repeat=repeat)) / number


class Ratios:
    """How many times as long the rival takes."""

    unit = "times"

    def track_rates_beside_numpy(self) -> float:
        link = ei.paper.scenario().link
        rng = np.random.default_rng(1)
        count = 100_000

        def numpy_rates() -> object:
            return link.bandwidth * np.log2(1 + link.snr * rng.standard_exponential(count))

        return best(numpy_rates) / best(lambda: link.sample_rate(count, rng=rng))

    def track_queue_beside_lindley_in_numpy(self) -> float:
        jobs, load = 200_000, 0.7
        pipeline = ei.Pipeline((ei.Compute(load, ei.Node("server", 1.0), "server"),))
        rng = np.random.default_rng(1)

        def lindley() -> object:
            steps = np.cumsum(load - rng.standard_exponential(jobs))
            return ((steps - np.minimum.accumulate(steps)) > 5.0).mean()

        ours = best(lambda: ei.simulate(pipeline, 1.0, 5.0, jobs=jobs // 16, replications=16, rng=1, threads=1))
        return best(lindley) / ours

    def track_family_beside_scalars(self) -> float:
        """An element of a family of 1,000, beside one call a scalar."""
        pipeline = ei.paper.scenario().pipelines()["split"]
        deadlines = np.linspace(4, 12, 1000)
        family = best(lambda: ei.violation_bound(pipeline, 0.35, deadlines, "union"))
        return best(lambda: ei.violation_bound(pipeline, 0.35, 8.0, "union")) * deadlines.size / family

    def track_import_after_numpy(self) -> float:
        """In fresh processes, so that what one import loads the other does not find."""
        script = (
            "import time; start = time.perf_counter(); import numpy; middle = time.perf_counter(); import edgeinfer\n"
            "print((middle - start) / (time.perf_counter() - middle))"
        )
        return max(float(subprocess.check_output([sys.executable, "-c", script])) for _ in range(5))


class Widths:
    """Upper over lower end of the bracket at 1e-9."""

    unit = "upper / lower"
    params = ("split", "edge_only", "device_only")
    param_names = ("paradigm",)

    def track_width(self, paradigm: str) -> float:
        pipeline = ei.paper.scenario().pipelines()[paradigm]
        rate = 0.35
        bracket = ei.violation_bracket(pipeline, rate, ei.deadline_at(pipeline, rate, 1e-9))
        return float(bracket.upper / bracket.lower)


class Simulation:
    """The rivals of benchmarks/bench_simulation.py, whose answers that script checks."""

    unit = "times"
    timeout = 300
    jobs = 20_000

    def setup(self) -> None:
        sys.path.insert(0, str(Path(__file__).parents[2]))
        self.rivals = importlib.import_module("bench_simulation")

    def teardown(self) -> None:
        sys.path.remove(str(Path(__file__).parents[2]))

    def ratio(self, rival: Callable[[], object], pipeline: ei.Pipeline, **options: object) -> float:
        ours = best(lambda: self.rivals.ours(pipeline, self.jobs, 1, **options), repeat=5) / (64 * self.jobs)
        return best(rival, repeat=3) / self.jobs / ours

    def track_queue_beside_simpy(self) -> float:
        return self.ratio(lambda: self.rivals.by_simpy(self.jobs, [lambda rng: 0.7], 1), self.rivals.MD1)

    def track_queue_beside_ciw(self) -> float:
        return self.ratio(lambda: self.rivals.by_ciw(self.jobs), self.rivals.MD1)

    def track_split_beside_numba(self) -> float:
        """Both slot by slot; the first call compiles."""
        of, link = self.rivals, self.rivals.LINK

        def loop() -> object:
            return of.numba_split(self.jobs, of.BITS, link.bandwidth, link.snr, link.slot, of.D1, of.D3, 1)

        loop()
        return self.ratio(loop, of.SPLIT, link="slots")
