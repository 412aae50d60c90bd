"""Forward simulation of pipelines."""

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _core, _random, _validate
from edgeinfer.delay._elements import elements
from edgeinfer.delay.errors import UnstableError
from edgeinfer.delay.results import Estimate, Simulation, interval
from edgeinfer.model import Pipeline

ARRIVALS = ("poisson", "deterministic", "erlang", "hyperexponential")


def _threads(threads: int | None) -> int:
    return len(os.sched_getaffinity(0)) if threads is None else _validate.whole("threads", threads, 1)


def _arrival(kind: str, rate: float, shape: float | None) -> tuple[Any, tuple[float, ...]]:
    if kind == "erlang":
        return kind, (rate, float(_validate.whole("arrival_shape", 2 if shape is None else shape, 1)))
    if kind == "hyperexponential":
        square = _validate.scalar("arrival_shape", 4.0 if shape is None else shape, 1)
        # Balanced means: each phase carries half of the mean interarrival time.
        first = (1 + np.sqrt((square - 1) / (square + 1))) / 2
        return kind, (first, 2 * first * rate, 2 * (1 - first) * rate)
    return kind, (rate,)


def _check_loads(function: str, pipeline: Pipeline, stages: _core.Stages, rates: Any, serial: bool) -> Any:
    means = _core.service_moments(stages)[0]
    loads = {"serial path": means.sum()} if serial else dict(zip(pipeline.names, means, strict=True))
    largest = max(loads.values())
    if (rates * largest >= 1).any():
        rate = float(rates[rates * largest >= 1][0])
        raise UnstableError(function, rate, {name: rate * load for name, load in loads.items()})
    return largest


def simulate(
    pipeline: Pipeline,
    arrival_rate: ArrayLike,
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
    arrival_rate : (...,) array_like, 1/s
        Mean rate of the arrivals, > 0.
    deadlines : (...,) array_like, s
        >= 0. Deadlines of one pipeline and rate share one run.
    jobs, replications : int
        Jobs a replication after the warm-up, and independent replications, >= 1 each.
    service : {"tandem", "serial"}
        Stages work on different requests at once, or one request occupies the whole path.
    rng : optional
        What `numpy.random.default_rng` takes. Equal seeds give equal bits for any `threads`.
    threads : int, optional
        By default the cores that the process may use.
    arrival : {"poisson", "deterministic", "erlang", "hyperexponential"}
        Renewal process of the arrivals.
    arrival_shape : float, optional
        Phases of "erlang" (2 by default), or squared coefficient of variation >= 1 of "hyperexponential"
        with balanced means (4 by default).
    link : {"table", "slots", "wall_clock"}
        Transfer times from their tabulated exact law; slot by slot, each transfer from a fresh slot on; or
        slot by slot on one wall-clock grid of slots.
    warmup : int, optional
        Jobs left out at the start of a replication; by default 20 / (1 - sqrt(load))^2, 20 relaxation times.
    confidence : float
        Of the intervals, in (0, 1).

    Returns
    -------
    Simulation

    Raises
    ------
    UnstableError
        Where a stage's load (serial: the path's) is >= 1.
    ValueError

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
    rate = _validate.positive("arrival_rate", arrival_rate, "1/s")
    limit = _validate.real("deadlines", deadlines, 0, infinite=True, unit="s")
    jobs, replications = _validate.whole("jobs", jobs, 1), _validate.whole("replications", replications, 1)
    _validate.choice("service", service, ("tandem", "serial"))
    _validate.choice("arrival", arrival, ARRIVALS)
    _validate.choice("link", link, ("table", "slots", "wall_clock"))
    confidence = _validate.scalar("confidence", confidence, 0, 1, low_open=True, high_open=True)
    workers = _threads(threads)
    if warmup is not None:
        warmup = _validate.whole("warmup", warmup, 0)
    shape, walk = elements(pipeline, arrival_rate=rate, deadlines=limit)
    size, width = int(np.prod(shape)), len(pipeline)
    samples = {name: np.empty((replications, size, width)) for name in ("sojourn", "violations", "waiting", "busy")}
    histogram = np.zeros((size, width, 0), dtype=np.uint64)
    warmups = np.empty(size, dtype=np.int64)
    sequence = _random.seed_sequence(rng)
    task = 0
    for stages, where, (rates, limits) in walk:
        largest = _check_loads("simulate", pipeline, stages, rates, service == "serial")
        for value in np.unique(rates):
            at = where[rates == value]
            skipped = warmup
            if skipped is None:
                skipped = int(np.ceil(20 / (1 - np.sqrt(value * largest)) ** 2))
            answer = _core.simulate(
                stages,
                _arrival(arrival, float(value), arrival_shape),
                limits[rates == value],
                jobs,
                skipped,
                replications,
                service,  # type: ignore[arg-type]
                link,  # type: ignore[arg-type]
                _random.entropy_words(sequence, task),
                workers,
            )
            task += 1
            samples["violations"][:, at] = answer["violations"]
            for name in ("sojourn", "waiting", "busy"):
                samples[name][:, at] = answer[name][:, None, :]
            if not histogram.shape[-1]:
                histogram = np.zeros((size, *answer["histogram"].shape), dtype=np.uint64)
            histogram[at] = answer["histogram"]
            warmups[at] = skipped
    full = (replications, *shape, width)
    parts = {name: interval(values.reshape(full), confidence) for name, values in samples.items()}
    violation = parts["violations"]
    # Where no replication saw a violation: one sees some with a probability >= the mean of its fraction.
    unseen = 1 - ((1 - confidence) / 2) ** (1 / replications)
    high = np.where(violation.value == 0, unseen, np.minimum(violation.high, 1))
    violation = Estimate(violation.value, violation.low, high, confidence, violation.replications)
    return Simulation(
        parts["sojourn"],
        violation,
        parts["waiting"],
        parts["busy"],
        warmups.reshape(shape),
        histogram.reshape(*shape, width, histogram.shape[-1]),
    )
