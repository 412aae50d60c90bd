"""Forward simulation of pipelines."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _core, _random, _validate
from edgeinfer.delay._elements import check_pipeline, in_time
from edgeinfer.delay.composed import is_composed
from edgeinfer.delay.errors import LongRunWarning, UnstableError
from edgeinfer.delay.intervals import TRUST, batches, dispersion, positive_mean, proportion
from edgeinfer.delay.programs import Program, check_simulated, programs
from edgeinfer.delay.results import Simulation
from edgeinfer.estimates.estimate import Estimate
from edgeinfer.model import (
    ArrivalProcess,
    Batch,
    Erlang,
    FadingLink,
    Hyperexponential,
    Periodic,
    Pipeline,
    Poisson,
    Recorded,
    TraceLink,
    Transfer,
)
from edgeinfer.model.arrivals import arrival_process

ARRIVALS = ("poisson", "deterministic", "erlang", "hyperexponential")
#: From this load on a run that takes longer than LONG seconds is announced.
HEAVY, LONG = 0.99, 10.0
#: So is one with a longer warm-up, jobs.
MANY = 10_000_000
#: A mean wait below this share of one that counts is rounding alone.
_ROUNDING = 1e-9
#: What memory and a counter hold, and more than any interval asks for.
MOST_JOBS, MOST_REPLICATIONS, _MOST_NUMBERS = 10**15, 10**6, 1 << 28


def replication_count(value: Any, numbers: int) -> int:
    """`value` as a number of replications, of whose results each array has so many `numbers` for one of them."""
    return _validate.whole("replications", value, 1, max(1, min(MOST_REPLICATIONS, _MOST_NUMBERS // max(1, numbers))))


def worker_threads(threads: int | None) -> int:
    return len(os.sched_getaffinity(0)) if threads is None else _validate.threads(threads)


def _named(kind: str, rate: Any, shape: float | None) -> ArrivalProcess:
    if kind == "deterministic":
        return Periodic(1 / np.asarray(rate))
    if kind == "erlang":
        return Erlang(rate, _validate.whole("arrival_shape", 2 if shape is None else shape, 1))
    if kind == "hyperexponential":
        return Hyperexponential(rate, _validate.scalar("arrival_shape", 4.0 if shape is None else shape, 1))
    return Poisson(rate)


def process_of(arrival_rate: ArrayLike | ArrivalProcess, kind: str, shape: float | None) -> ArrivalProcess:
    """The process that stands in `arrival_rate`, or that keywords name at that rate."""
    _validate.choice("arrival", kind, ARRIVALS)
    process = arrival_process(arrival_rate)
    if not isinstance(arrival_rate, ArrivalProcess):
        if shape is not None and kind not in ("erlang", "hyperexponential"):
            raise ValueError(
                f"arrival_shape = {shape!r}: must be None for arrival = {kind!r}; 'erlang' and 'hyperexponential' have "
                "one"
            )
        return _named(kind, process.mean_rate, shape)
    if kind != "poisson" or shape is not None:
        raise ValueError(
            f"arrival = {kind!r}, arrival_shape = {shape!r}: must be left out where arrival_rate is a process; "
            f"arrival_rate = {type(arrival_rate).__name__}(..) says it all"
        )
    return process


def check_loads(function: str, pipeline: Pipeline, means: NDArray[np.float64], rates: Any, serial: bool) -> float:
    """The largest mean work of a request; UnstableError where a rate is too high for it."""
    names = ("serial path",) if serial else pipeline.labels
    means = means.sum(keepdims=True) if serial else means
    largest = float(means.max())
    with np.errstate(over="ignore"):
        unstable = rates[rates * largest >= 1]
    if unstable.size:
        rate = float(unstable[0])
        raise UnstableError(
            function, rate, {name: rate * mean for name, mean in zip(names, means.tolist(), strict=True)}
        )
    return largest


@dataclass(frozen=True)
class _Theory:
    """What is known of the queues before they are simulated, (stages,) each; serial: one queue for all stages.

    `behind` is about the mean wait of a job that waits: what is left of a service and what stands before it, less
    between even arrivals; exact for M/G/1 and M/M/c, and within a fifth for GI/M/1.
    """

    means: NDArray[np.float64]
    delays: NDArray[np.float64]
    loads: NDArray[np.float64]
    service: NDArray[np.float64]
    dispersion: NDArray[np.float64]
    arrival: float
    serial: bool
    numbers: NDArray[np.float64]
    behind: NDArray[np.float64]
    trust: float = TRUST


def _theory(program: Program, rate: float, serial: bool, square: float) -> _Theory:
    means, variances = program.means, program.variances
    path = (means + program.delays).sum()
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        service = np.where(means > 0, variances / means**2, 0)
        whole = variances.sum() / path**2 if path > 0 else 0.0
    # Squares of times beyond 1e154 s, or below 1e-154 s, are no numbers: as if exponential.
    service, whole = np.where(np.isfinite(service), service, 1), whole if np.isfinite(whole) else 1.0
    if serial:
        loads = np.full(means.shape, rate * path)
        spread = np.full(means.shape, dispersion(loads[:1], np.array([whole]), square)[0])
        busy, varied = np.full(means.shape, path), whole
    else:
        loads = rate * program.works
        spread = dispersion(loads, service, square)
        busy, varied = program.works, service
    behind = busy * (1 + varied - loads * (1 - min(square, 1.0))) / 2 / (1 - loads)
    return _Theory(means, program.delays, loads, service, spread, square, serial, program.numbers, behind)


def _intervals(
    answer: dict[str, NDArray[Any]], theory: _Theory, jobs: int, replications: int, confidence: float
) -> dict[str, tuple[Any, Any]]:
    """Both ends for each of violations, sojourn, waiting, busy."""
    number = np.tile(np.diff(answer["ends"].astype(np.float64), prepend=0), replications)
    steps = {
        name: np.diff(answer[name], axis=1, prepend=0).reshape(len(number), *answer[name].shape[2:])
        for name in ("violations", "waiting", "busy", "elapsed")
    }
    total = number.sum()
    sojourn = np.cumsum(steps["waiting"] + steps["busy"] + number[:, None] * theory.delays, axis=-1)
    waits, means = steps["waiting"].sum(axis=0) / total, sojourn.sum(axis=0) / total
    with np.errstate(invalid="ignore", divide="ignore"):
        # Who waits at all, by the mean wait: rarer than the load behind even arrivals, and at several servers.
        share = np.minimum(waits / theory.behind, theory.loads)
        waiting = np.where(waits > _ROUNDING * theory.behind, share, theory.loads)
        # Squared coefficient of variation of a wait that is 0 for all others and else exponential.
        square = np.where(theory.loads > 0, (2 - waiting) / waiting, 0)
        shares = np.tril(np.where(means[:, None] > 0, waits / means[:, None], 0))
        service = np.tril(np.where(means[:, None] > 0, theory.means / means[:, None], 0))
    correlated = np.minimum(theory.dispersion, jobs) / total
    expected = shares**2 @ square * correlated + service**2 @ theory.service / total
    most = np.minimum(-np.log((1 - confidence) / 2) * theory.dispersion / total, 1)
    unseen = np.where(waits > 0, 0, theory.behind * most)
    if theory.serial:
        unseen[1:] = 0
    ends = {
        "violations": proportion(
            steps["violations"], number, replications, theory.dispersion, confidence, theory.trust
        ),
        "sojourn": positive_mean(sojourn, number, expected, confidence, theory.trust),
        "waiting": positive_mean(steps["waiting"], number, square * correlated, confidence, theory.trust),
        "busy": positive_mean(
            steps["busy"] / theory.numbers,
            steps["elapsed"],
            (theory.service + theory.arrival) / total,
            confidence,
            theory.trust,
        ),
    }
    ends["sojourn"] = ends["sojourn"][0], ends["sojourn"][1] + np.cumsum(unseen)
    ends["waiting"] = ends["waiting"][0], ends["waiting"][1] + unseen
    ends["busy"] = np.minimum(ends["busy"][0], 1), np.minimum(ends["busy"][1], 1)
    return ends


def _run(
    program: Program,
    arrival: Any,
    deadlines: NDArray[np.float64],
    service: Any,
    link: Any,
    words: NDArray[np.uint64],
    jobs: int,
    warmup: int,
    replications: int,
    cut: int,
    workers: int,
) -> dict[str, NDArray[Any]]:
    return _core.simulate(
        program.servers,
        arrival,
        deadlines,
        jobs,
        warmup,
        replications,
        cut,
        service,
        link,
        words,
        workers,
        program.nodes,
    )


def keeps_place(process: ArrivalProcess) -> bool:
    """Whether a replication's arrivals are in its first ones, so that they meet a clock of slots in the same way."""
    return isinstance(process.process if isinstance(process, Batch) else process, Periodic | Recorded)


def _slotted(pipeline: Pipeline) -> bool:
    return any(isinstance(stage, Transfer) and isinstance(stage.link, FadingLink) for stage in pipeline)


def _unevenness(theory: _Theory, channels: list[bool]) -> float:
    """How much longer relaxation times are than of even arrivals and services, of which these are `channels`."""
    # They grow by half the sum, in slow phases a thousandfold; five of them are enough.
    memory = (theory.arrival + float(theory.service.max())) / 2 * 5 / 20
    return max(float(theory.service[channels].max(initial=1.0)), memory)


def _default_warmup(load: float, unevenness: float = 1.0) -> int:
    """Relaxation times grow with how uneven a service is that depends on the ones before it."""
    jobs = float(np.ceil(20 / (1 - np.sqrt(load)) ** 2) * max(unevenness, 1.0)) if load < 1 else np.inf
    if not jobs < 2**62:
        raise ValueError(
            f"warmup = None: must be given at load = {_validate.digits(load)}, for which 20 relaxation times are "
            "endless"
        )
    return int(jobs)


def _warn_if_long(load: float, jobs: int, warmup: int, replications: int, run: Any) -> None:
    """Time what `run` takes a job, and say how long all of them will."""
    seconds = []
    for count in (1_000, 5_000):
        start = time.perf_counter()
        run(count, 0, min(replications, 16), 1, 1)
        seconds.append(time.perf_counter() - start)
    # Replications go side by side in groups of 16.
    expected = (seconds[1] - seconds[0]) / 4_000 * (float(jobs) + warmup) * -(-replications // 16)
    if expected > LONG:
        size, unit = next(
            (expected / scale, unit)
            for scale, unit in ((3.156e7, "years"), (86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
            if expected >= 2 * scale
        )
        warnings.warn(
            f"simulate: load = {load:.6g}: {warmup:.3g} jobs of warm-up and {jobs:.3g} more in each of {replications} "
            f"replications take about {size:.2g} {unit} of one core",
            LongRunWarning,
            stacklevel=3,
        )


def _joined(parts: list[tuple[Any, NDArray[np.uint64]]], size: int) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
    """The histograms of all calls over the bins that any of them needs, and the edges of these."""
    used = [np.flatnonzero(counts.any(axis=0)) for _, counts in parts]
    first = min((int(bins[0]) for bins in used), default=0)
    last = max((int(bins[-1]) for bins in used), default=0)
    histogram = np.zeros((size, parts[0][1].shape[0] if parts else 1, last + 1 - first), dtype=np.uint64)
    for at, counts in parts:
        histogram[at] = counts[:, first : last + 1]
    bits = np.arange(first, last + 2, dtype=np.int64) << _core.EI_HISTOGRAM_SHIFT
    return histogram, np.minimum(bits, np.array(np.inf).view(np.int64)).view(np.float64)


class _Results:
    """What the calls of the core answer, joined over the elements of a family."""

    def __init__(self, size: int, width: int, jobs: int, replications: int, confidence: float) -> None:
        self.jobs, self.replications, self.confidence = jobs, replications, confidence
        names = ("sojourn", "violations", "waiting", "busy")
        self.samples = {name: np.empty((replications, size, width)) for name in names}
        self.ends = {name: np.empty((2, size, width)) for name in names}
        self.spread = np.empty((size, width))
        self.warmups = np.empty(size, dtype=np.int64)
        self.parts: list[tuple[Any, NDArray[np.uint64]]] = []

    def add(self, at: NDArray[np.intp], answer: dict[str, NDArray[Any]], theory: _Theory, warmup: int) -> None:
        """Take the answer of one pipeline and rate, whose deadlines are those of the elements `at`."""
        whole = {name: answer[name][:, -1] for name in ("violations", "waiting", "busy")}
        self.samples["violations"][:, at] = whole["violations"] / self.jobs
        self.samples["waiting"][:, at] = whole["waiting"][:, None] / self.jobs
        sojourn = np.cumsum((whole["waiting"] + whole["busy"]) / self.jobs + theory.delays, axis=-1)
        self.samples["sojourn"][:, at] = sojourn[:, None]
        self.samples["busy"][:, at] = (whole["busy"] / theory.numbers / answer["elapsed"][:, -1:])[:, None]
        with np.errstate(all="ignore"):
            found = _intervals(answer, theory, self.jobs, self.replications, self.confidence)
        for name, (low, high) in found.items():
            # What overflowed tells nothing.
            self.ends[name][0, at] = np.where(np.isnan(low), 0, low)
            self.ends[name][1, at] = np.where(np.isnan(high), 1 if name in ("violations", "busy") else np.inf, high)
        self.spread[at], self.warmups[at] = theory.dispersion, warmup
        self.parts.append((at, answer["histogram"]))

    def finish(self, full: tuple[int, ...]) -> Simulation:
        """All of it in the shape `full`, (..., stages)."""
        estimates = {}
        for name, (low, high) in self.ends.items():
            value = self.samples[name].mean(axis=0)
            estimates[name] = Estimate(
                value.reshape(full),
                np.minimum(low, value).reshape(full),
                np.maximum(high, value).reshape(full),
                self.confidence,
                np.full(full, self.replications, dtype=np.int64),
            )
        histogram, edges = _joined(self.parts, len(self.warmups))
        return Simulation(
            estimates["sojourn"],
            estimates["violations"],
            estimates["waiting"],
            estimates["busy"],
            self.warmups.reshape(full[:-1]),
            self.jobs,
            histogram.reshape(*full, histogram.shape[-1]),
            edges,
            self.spread.reshape(full),
        )


def simulate(
    pipeline: Pipeline,
    arrival_rate: ArrayLike | ArrivalProcess,
    deadlines: ArrayLike,
    *,
    jobs: int = 100_000,
    replications: int = 32,
    service: str = "tandem",
    rng: Any = None,
    threads: int | None = None,
    arrival: str = "poisson",
    arrival_shape: float | None = None,
    link: str = "table",
    warmup: int | None = None,
    confidence: float = 0.95,
) -> Simulation:
    """Simulate a pipeline in independent replications.

    Parameters
    ----------
    pipeline : Pipeline
        Stages `Measured` with a confidence have their slowest laws.
    arrival_rate : (...,) array_like, 1/s, or ArrivalProcess
        Mean rate of Poisson arrivals, > 0; or any other process: `Periodic`, `Erlang`, `Hyperexponential`, `Gamma`,
        `MarkovModulated`, `Batch`, `Recorded`.
    deadlines : (...,) array_like, s
        >= 0. Deadlines of one pipeline and rate share one run.
    jobs, replications : int
        Jobs a replication after the warm-up, 1 to 10^15, and independent replications, 1 to 10^6; fewer where
        elements and stages are so many that their results would not fit into memory.
    service : {"tandem", "serial"}
        Stages work on different requests at once, or one request occupies the whole path.
    rng : optional
        What `numpy.random.default_rng` takes. Equal seeds give equal bits for any `threads`.
    threads : int, optional
        By default the cores that the process may use.
    arrival : {"poisson", "deterministic", "erlang", "hyperexponential"}
        Renewal process of the arrivals, where `arrival_rate` is a rate.
    arrival_shape : float, optional
        Phases of "erlang" (2 by default), or squared coefficient of variation >= 1 of "hyperexponential"
        with balanced means (4 by default).
    link : {"table", "slots", "wall_clock"}
        Transfer times from their tabulated exact law; slot by slot, each transfer from a fresh slot on; or
        slot by slot on one wall-clock grid of slots. A `MarkovLink` or `TraceLink` is always on the wall clock.
    warmup : int, optional
        Jobs left out at the start of a replication; by default 20 / (1 - sqrt(load))^2, 20 relaxation times, and more
        where arrivals or services are far more uneven than exponential ones: for slow phases of `MarkovModulated`,
        bursts, or a channel's memory.
    confidence : float
        The confidence of the intervals, in (0, 1).

    Returns
    -------
    Simulation

    Warns
    -----
    LongRunWarning
        At a load >= 0.99, or a warm-up of more than 10^7 jobs, before a run that will take more than 10 s of one core.

    Raises
    ------
    UnstableError
        Where a stage's load (serial: the path's) is >= 1; of a channel that is the bits that come over those that it
        carries in a long time.
    ValueError

    Notes
    -----
    Jobs that follow each other are correlated. A probability's interval is that of Clopper and Pearson for the
    effective number of independent jobs (`edgeinfer.delay.intervals`): the variance between batches of jobs, pooled
    with what heavy-traffic theory expects of the loads. Where no job violates, its upper end is 3.7 (at 95 %) over the
    number of jobs a `Simulation.dispersion`. Intervals of means are pooled likewise, and set for a skewed law.

    Measured coverage of 95 % intervals. Probabilities of 0.99 to 1e-5, M/M/1 at loads 0.5 and 0.9, 1 to 32 replications
    of 1000 or 20 000 jobs: at least 94.0 %. Where few events are expected, or few effective jobs, the intervals are
    wider than they need to be (98 to 100 %). Means and waits, M/M/1, M/D/1 and D/M/1 at loads 0.1 to 0.95: mostly 93 to
    99 %; 91.5 % at worst, for one replication of 1000 jobs at load 0.5. Where one job of a
    thousand waits, 85 to 90 %. They cover the stationary law as far as the warm-up reaches it.

    `Periodic` and `Recorded` arrivals meet the slots of a `MarkovLink` or a `TraceLink`, or of links on the wall clock,
    in the same way all through a replication: there intervals come from the scatter between replications alone. More of
    these make them narrower, more jobs do not.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> pipeline = paper.scenario().pipelines()["split"]
    >>> run = simulate(pipeline, 0.35, [2.0, 4.0], jobs=20_000, replications=8, rng=1)
    >>> run.violation.value.shape
    (2, 3)
    >>> bool(run.mean.low[0, 2] < run.mean.value[0, 2] < run.mean.high[0, 2])
    True
    """
    process = process_of(arrival_rate, arrival, arrival_shape)
    limit = in_time(_validate.real("deadlines", deadlines, 0, infinite=True, unit="s"))
    jobs = _validate.whole("jobs", jobs, 1, MOST_JOBS)
    _validate.choice("service", service, ("tandem", "serial"))
    _validate.choice("link", link, ("table", "slots", "wall_clock"))
    confidence = _validate.scalar("confidence", confidence, 0, 1, low_open=True, high_open=True)
    workers = worker_threads(threads)
    if warmup is not None:
        warmup = _validate.whole("warmup", warmup, 0, MOST_JOBS)
    if is_composed(check_pipeline(pipeline)):
        check_simulated(pipeline, isinstance(process, Poisson), service, link)
    # Elements of one process share a run.
    rows, place = np.unique(process._rows(), axis=0, return_inverse=True)
    rate_of = np.array([process._rate(row) for row in rows])
    shape, walk = programs(pipeline, arrival_rate=place.reshape(process.shape), deadlines=limit)
    width, size = len(pipeline), int(np.prod(shape))
    replications = replication_count(replications, size * width)
    results = _Results(size, width, jobs, replications, confidence)
    sequence = _random.seed_sequence(rng)
    channels = [isinstance(stage, Transfer) and stage.dependent for stage in pipeline]
    frozen = keeps_place(process) and (any(channels) or (link == "wall_clock" and _slotted(pipeline)))
    recorded = any(isinstance(stage, Transfer) and isinstance(stage.link, TraceLink) for stage in pipeline)
    for program, where, (places, limits) in walk:
        rates = rate_of[places.astype(np.intp)]
        works = program.works + program.delays if service == "serial" else program.works
        largest = check_loads("simulate", pipeline, works, rates, service == "serial")
        for value in np.unique(places):
            at, row, rate = where[places == value], rows[int(value)], float(rate_of[int(value)])
            load = rate * largest
            with np.errstate(all="ignore"):  # rates and times near the ends of the range of double
                theory = _theory(program, rate, service == "serial", process._dispersion(row))
            skipped = _default_warmup(load, _unevenness(theory, channels)) if warmup is None else warmup
            words = _random.entropy_words(sequence, len(results.parts))
            run = partial(_run, program, process._core(row), limits[places == value], service, link, words)
            if load >= HEAVY or skipped > MANY:
                _warn_if_long(load, jobs, skipped, replications, run)
            cut = batches(jobs, replications, float(theory.dispersion[-1]))
            if frozen:
                cut, theory = 1, replace(theory, trust=0.0)
            if frozen and recorded:
                # A replication tells no more of what its place makes than one job.
                theory = replace(theory, dispersion=np.full(theory.dispersion.shape, float(jobs) * replications))
            results.add(at, run(jobs, skipped, replications, cut, workers), theory, skipped)
    return results.finish((*shape, width))
