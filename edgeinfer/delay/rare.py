"""Rare violations of a deadline by importance sampling."""

from __future__ import annotations

import warnings
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _core, _random, _validate
from edgeinfer.delay._elements import (
    check_independent,
    core_arrival,
    finish,
    in_time,
    remaining,
    renewal_elements,
    sampled_process,
)
from edgeinfer.delay.composed import shifted
from edgeinfer.delay.errors import AccuracyWarning
from edgeinfer.delay.simulation import check_loads, worker_threads
from edgeinfer.estimates.estimate import Estimate
from edgeinfer.model import ArrivalProcess, Pipeline


def _doubt(answer: dict[str, Any], target: float, single: Pipeline) -> str:
    """Why the estimate may not have its relative error; empty where it has."""
    if answer["unsampled"] >= 0:
        return (
            f"the probability is {answer['value']:.2g} or more: transfers of stage "
            f"{single.stages[answer['unsampled']].name!r} that are rarer than {answer['known']:.2g}, which are not "
            "sampled, may make most of it; `violation_bracket` encloses it"
        )
    if answer["value"] == 0 and np.isinf(answer["relative_error"]):
        return f"{answer['replications']:.6g} replications met no late request; `violation_bracket` encloses it"
    if answer["value"] < np.finfo(float).tiny:
        return f"the probability is {answer['value']:.2g}, below the normal range of a double: it loses digits or is 0"
    if answer["reached"]:
        return ""
    count, error = f"{answer['replications']:.6g} replications", answer["relative_error"]
    if not error <= target:
        return f"{count} did not reach relative_error = {target:g}, but {error:.2g}"
    if answer["replications"] < answer["needed"]:
        return f"{count} are too few for an interval: {np.ceil(answer['needed']):.6g} are needed for such weights"
    return (
        f"the largest of {count} carries {100 * answer['largest_weight_share']:.2g} % of the sum: too few for an "
        f"interval"
    )


def _sampled(
    stages: _core.Stages,
    process: ArrivalProcess,
    arrival_rate: float,
    deadline: float,
    relative_error: float,
    max_replications: float,
    entropy: Any,
    threads: int,
) -> dict[str, Any]:
    """The core's answer; its refusals by name."""
    arrival = core_arrival(process.at_rate(arrival_rate))
    try:
        return _core.rare_violation(stages, arrival, deadline, relative_error, max_replications, entropy, threads)
    except _core.TooLargeError:
        raise ValueError(
            f"rare_violation: arrival_rate = {arrival_rate:g}, deadline = {deadline:g}: delays come from paths of more "
            "than 16384 requests, behind arrivals that depend on each other; violation_bracket bounds them, simulate "
            "shows them"
        ) from None


def rare_violation(
    pipeline: Pipeline,
    arrival_rate: ArrayLike | ArrivalProcess,
    deadline: ArrayLike,
    *,
    relative_error: float = 0.01,
    rng: Any = None,
    threads: int | None = None,
    confidence: float = 0.95,
    max_replications: float = 1e8,
) -> Estimate:
    """Probability that the sojourn time exceeds a deadline, however small, by importance sampling.

    Paths are drawn from a mixture over the ways through the stages, each stage tilted as the gap to the
    deadline asks, and weighed by the inverse density of the whole mixture (`csrc/edgeinfer/rare.h`), so that
    several stages that are equally likely to be late are all seen. Where single transfers rarer than 1e-16 may
    make a job late, as with arrivals more even than Poisson's at light loads, from a mixture over the lengths of
    paths, transfers being followed down to 1e-289 (`csrc/edgeinfer/ways.h`). The work grows with the jobs on a path,
    about ``deadline * arrival_rate / (1 - load)`` at heavy load.

    Parameters
    ----------
    pipeline : Pipeline
        Stages `Measured` with a confidence have their slowest laws: the interval is about the probability with these.
    arrival_rate : (...,) array_like, 1/s, or ArrivalProcess
        Of Poisson arrivals, > 0; or `Poisson`, `Periodic`, `Erlang`, `Hyperexponential`, `Gamma`, `MarkovModulated`
        of at most 16 phases, or `Batch` of any of these, of at most 4096 requests.
    deadline : (...,) array_like, s
        >= 0.
    relative_error : float
        Standard error over value at which to stop, in (0, 1).
    rng, threads : optional
        They are as for `simulate`.
    confidence : float
        The confidence of the interval, in (0, 1).
    max_replications : float
        Most replications, >= 1; kept to exactly. A million end the search for a value below the normal range.

    Returns
    -------
    Estimate
        With `effective_sample_size`. The interval is normal on a logarithmic scale, that of a single
        replication is (0, 1).

    Warns
    -----
    AccuracyWarning
        Where `max_replications` do not reach `relative_error`; where they do, but are fewer than 64 for one
        stage or 128 a stage of several, or than 100 times the squared skewness of the weights, or one weight is
        more than 5 % of their sum, so that the interval cannot be trusted; where the value is below the normal range
        of a double, 2.2e-308; and where transfers over a `FadingLink` that are too rare to be sampled may make most of
        it: below some 1e-285, and of narrow fading, as `Nakagami` of large m, earlier.

    Raises
    ------
    UnstableError
        Where a stage's load is >= 1.
    ValueError
        Bad values by name; behind `MarkovModulated` or `Batch` arrivals where paths of more than 16384 requests count.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> estimate = rare_violation(paper.scenario().pipelines()["split"], 0.35, 20.0, rng=1)
    >>> bool(estimate.low < estimate.value < estimate.high < 1e-9)
    True
    """
    check_independent("rare_violation", pipeline)
    pipeline = shifted(pipeline)
    limit, late = remaining(pipeline, in_time(_validate.real("deadline", deadline, 0, unit="s")))
    target = _validate.scalar("relative_error", relative_error, 0, 1, low_open=True, high_open=True)
    confidence = _validate.scalar("confidence", confidence, 0, 1, low_open=True, high_open=True)
    budget = _validate.scalar("max_replications", max_replications, 1)
    workers = worker_threads(threads)
    shape, walk = renewal_elements(pipeline, sampled_process(arrival_rate), deadline=limit)
    size = int(np.prod(shape))
    owner = np.broadcast_to(np.arange(int(np.prod(pipeline.shape))).reshape(pipeline.shape), shape).ravel()
    certain = np.broadcast_to(late, shape).ravel()
    value, error, effective = np.ones(size), np.zeros(size), np.zeros(size)
    replications = np.zeros(size, dtype=np.int64)
    sequence = _random.seed_sequence(rng)
    for stages, arrival, where, (rates, limits) in walk:
        check_loads("rare_violation", pipeline, _core.service_moments(stages)[0], rates, False)
        for at, element_rate, element_limit in zip(where, rates, limits, strict=True):
            if certain[at]:
                continue
            words = _random.entropy_words(sequence, int(at))
            answer = _sampled(
                stages, arrival, float(element_rate), float(element_limit), target, budget, words, workers
            )
            if doubt := _doubt(answer, target, pipeline.element(int(owner[at]))):
                warnings.warn(
                    f"rare_violation: arrival_rate = {element_rate:g}, deadline = {element_limit:g}: {doubt}",
                    AccuracyWarning,
                    stacklevel=2,
                )
            value[at], error[at] = min(answer["value"], 1.0), answer["relative_error"]
            effective[at], replications[at] = answer["effective_sample_size"], int(answer["replications"])
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    # On a logarithmic scale: weights are skewed to the right, so that values too low look too sure.
    with np.errstate(invalid="ignore", over="ignore"):
        high = np.where(np.isfinite(half), np.minimum(value * np.exp(half), 1), 1)
    # A probability that underflows is below the least double; where nothing was met, nothing is known.
    high[(value == 0) & np.isfinite(error)] = np.nextafter(0, 1)
    return Estimate(
        finish(value, shape),
        finish(value * np.exp(-half), shape),
        finish(high, shape),
        confidence,
        finish(replications, shape),
        finish(effective, shape),
    )
