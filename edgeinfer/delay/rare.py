"""Rare violations of a deadline by importance sampling."""

import warnings
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _core, _random, _validate
from edgeinfer.delay._elements import elements, finish
from edgeinfer.delay.errors import AccuracyWarning
from edgeinfer.delay.results import Estimate
from edgeinfer.delay.simulation import _check_loads, _threads
from edgeinfer.model import Pipeline


def rare_violation(
    pipeline: Pipeline,
    arrival_rate: ArrayLike,
    deadline: ArrayLike,
    *,
    relative_error: float = 0.01,
    rng: Any = None,
    threads: int | None = None,
    confidence: float = 0.95,
    max_replications: float = 1e8,
) -> Estimate:
    """Probability that the sojourn time exceeds a deadline, however small, by importance sampling.

    Parameters
    ----------
    pipeline : Pipeline
    arrival_rate : (...,) array_like, 1/s
        Of Poisson arrivals, > 0.
    deadline : (...,) array_like, s
        >= 0.
    relative_error : float
        Standard error over value at which to stop, in (0, 1).
    rng, threads : optional
        As for `simulate`.
    confidence : float
        Of the interval, in (0, 1).
    max_replications : float
        An `AccuracyWarning` where these do not reach `relative_error`.

    Returns
    -------
    Estimate
        With `effective_sample_size`.

    Raises
    ------
    UnstableError
        Where a stage's load is >= 1.
    ValueError

    Examples
    --------
    >>> from edgeinfer import paper
    >>> estimate = rare_violation(paper.scenario().pipelines()["split"], 0.35, 20.0, rng=1)
    >>> bool(estimate.low < estimate.value < estimate.high < 1e-9)
    True
    """
    rate = _validate.positive("arrival_rate", arrival_rate, "1/s")
    limit = _validate.real("deadline", deadline, 0, unit="s")
    target = _validate.scalar("relative_error", relative_error, 0, 1, low_open=True, high_open=True)
    confidence = _validate.scalar("confidence", confidence, 0, 1, low_open=True, high_open=True)
    budget = _validate.scalar("max_replications", max_replications, 1)
    workers = _threads(threads)
    shape, walk = elements(pipeline, arrival_rate=rate, deadline=limit)
    size = int(np.prod(shape))
    value, error, effective = np.empty(size), np.empty(size), np.empty(size)
    replications = np.empty(size, dtype=np.int64)
    sequence = _random.seed_sequence(rng)
    for stages, where, (rates, limits) in walk:
        _check_loads("rare_violation", pipeline, stages, rates, False)
        for at, element_rate, element_limit in zip(where, rates, limits, strict=True):
            answer = _core.rare_violation(
                stages,
                float(element_rate),
                float(element_limit),
                target,
                budget,
                _random.entropy_words(sequence, int(at)),
                workers,
            )
            if not answer["reached"]:
                warnings.warn(
                    f"rare_violation: deadline = {element_limit:g}: {answer['replications']:.3g} "
                    f"replications did not reach relative_error = {target:g}",
                    AccuracyWarning,
                    stacklevel=2,
                )
            value[at], error[at] = answer["value"], answer["standard_error"]
            effective[at], replications[at] = answer["effective_sample_size"], int(answer["replications"])
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return Estimate(
        finish(value, shape),
        finish(np.maximum(value - half, 0), shape),
        finish(np.minimum(value + half, 1), shape),
        confidence,
        finish(replications, shape),
        finish(effective, shape),
    )
