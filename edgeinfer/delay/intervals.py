"""Confidence intervals for simulated queues, whose successive jobs are correlated.

A replication is cut into batches that are long against the correlation, so that sums over batches are nearly
independent, however few the replications (batch means: Law, Simulation Modeling and Analysis). Where events are few,
or a replication is shorter than the correlation, the variance between batches says little. It is therefore pooled with
what heavy-traffic theory expects, as in moderated t statistics (Smyth, Stat. Appl. Genet. Mol. Biol. 3, 2004): the
theory counts for `TRUST` degrees of freedom, the measured variance for those that its own scatter leaves it.
"""

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _core

Floats = NDArray[np.float64]

#: Degrees of freedom of the variance that theory expects, beside those of the measured one.
TRUST = 10.0
#: Batches over all replications at which the variance between them is known well enough.
BATCHES = 32
#: Shortest batch, as a multiple of the dispersion.
LENGTH = 4


def dispersion(loads: Floats, service: Floats, arrival: float) -> Floats:
    """Variance of the number of jobs above a high level, over that of as many independent jobs.

    1 + 2 load (c_a^2 + c_s^2) / (1 - load)^2 for one queue, the sum of the correlations: exact for M/M/1 (the walk of
    waiting times seen from a job above the level, by a change of measure) and the diffusion limit for others. Counts
    over finite runs scatter about it (M/M/1 at load 0.9: 470 was measured against 361). Queues in tandem are taken to
    add as independent ones would, in the root of the sum of squares.

    Parameters
    ----------
    loads, service : (stages,) ndarray
        Loads, and squared coefficients of variation of the service times.
    arrival : float
        Squared coefficient of variation of the interarrival times.

    Returns
    -------
    (stages,) ndarray
        For the sojourn time up to and with each stage.

    Examples
    --------
    >>> dispersion(np.array([0.5]), np.array([1.0]), 1.0)
    array([9.])
    """
    each = 2 * loads * (arrival + service) / (1 - loads) ** 2
    return 1 + np.sqrt(np.cumsum(each**2))


def batches(jobs: int, replications: int, largest: float) -> int:
    """Batches for each replication: at least `BATCHES` in all, if they can be long against the dispersion.

    Examples
    --------
    >>> batches(100_000, 1, 9.0), batches(100_000, 8, 9.0), batches(100, 1, 9.0), batches(100, 32, 9.0)
    (32, 4, 2, 1)
    """
    number = 1
    # The core cuts at multiples of 32 jobs.
    while number * replications < BATCHES and jobs >= 2 * number * max(LENGTH * largest, 32):
        number *= 2
    return number


def _pooled(residual: Floats, scale: Floats, expected: Floats, trust: float = TRUST) -> tuple[Floats, Floats]:
    """Variance of a sum over batches over `scale`, pooled with the expected one, and its degrees of freedom."""
    count = len(residual)
    if count == 1:
        return expected, np.full(expected.shape, TRUST)
    largest = np.abs(residual).max(axis=0)
    unit = residual / np.where(largest > 0, largest, 1)
    square, fourth = (unit**2).sum(axis=0), (unit**4).sum(axis=0)
    measured = count / (count - 1) * square * largest / scale * largest
    with np.errstate(invalid="ignore", divide="ignore"):
        # The variance of a sum of squares by the squares' own: N clusters of events count for about 2 N.
        seen = np.fmin(2 * square**2 / (fourth - square**2 / count), count - 1.0)
    return (trust * expected + seen * measured) / (trust + seen), trust + seen


def _student(confidence: float, freedom: Floats) -> Floats:
    quantile: Floats = _core.student_quantile((1 + confidence) / 2, freedom)
    return quantile


def beta_interval(events: Floats, size: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Interval of Clopper and Pearson for `events` of `size`, which need not be whole."""
    tail = (1 - confidence) / 2
    rest = np.maximum(size - events, 0)
    low = _core.beta_quantile(tail, np.maximum(events, 1e-300), rest + 1)
    high = _core.beta_quantile(1 - tail, events + 1, np.maximum(rest, 1e-300))
    return np.where(events > 0, low, 0.0), np.where(rest > 0, high, 1.0)


def effective_size(share: Floats, total: float | Floats, replications: int, spread: Floats) -> Floats:
    """Independent jobs that tell as much of a probability near `share` as `total` jobs of the dispersion `spread`.

    The correlation of a frequent event is weaker: the excess of the dispersion over 1 falls with 1 - share. A
    replication counts for at least one job.
    """
    centre = (share * total + 2 * spread) / (total + 4 * spread)
    return np.clip(total / (1 + (spread - 1) * (1 - centre)), np.minimum(replications, total), total)


def proportion(
    counts: Floats, jobs: Floats, replications: int, spread: Floats, confidence: float, trust: float = TRUST
) -> tuple[Floats, Floats]:
    """Interval for a probability from counts over batches.

    The interval of Clopper and Pearson at the effective number of jobs, narrowed for the degrees of freedom as Korn and
    Graubard do (Survey Methodology 24, 1998). Where no job is above the deadline, or every job is, the effective number
    is the theory's alone and the open end is at -log((1 - confidence) / 2) over it: 3.7 at 95 %.

    Parameters
    ----------
    counts : (batches, ...) ndarray
        Events in each batch of every replication.
    jobs : (batches,) ndarray
    replications : int
    spread : (...,) ndarray
        `dispersion`.
    confidence : float
    trust : float
        As for `positive_mean`.

    Returns
    -------
    low, high : (...,) ndarray
    """
    total = float(jobs.sum())
    share = counts.sum(axis=0) / total
    expected = total / effective_size(share, total, replications, np.broadcast_to(spread, share.shape))
    some = (share > 0) & (share < 1)
    scale = np.where(some, share * (1 - share) * total, 1)
    effect, freedom = _pooled(counts - share * jobs.reshape(-1, *[1] * share.ndim), scale, expected, trust)
    effect = np.clip(np.where(some, effect, expected), 1, max(total / replications, 1))
    narrower = np.where(some, _student(confidence, np.full((), 1e9)) / _student(confidence, freedom), 1)
    size = total / effect * narrower**2
    return beta_interval(share * size, size, confidence)


def positive_mean(
    sums: Floats, weights: Floats, expected: Floats, confidence: float, trust: float = TRUST
) -> tuple[Floats, Floats]:
    """Interval for the ratio of sums to weights over batches, both >= 0.

    Sums of waiting times are skewed at high load, like gamma variables; the cube root of these is nearly normal (Wilson
    and Hilferty), so that the ends are mean / (1 - v/9 +- t sqrt(v) / 3)^3 for a relative variance v of the mean.

    Parameters
    ----------
    sums : (batches, ...) ndarray
    weights : (batches,) ndarray
    expected : (...,) ndarray
        Relative variance that theory expects of the mean.
    confidence : float
    trust : float
        Degrees of freedom of that, beside the variance between batches; 0 where theory knows too little.

    Returns
    -------
    low, high : (...,) ndarray
        Both 0 where all sums are.
    """
    total = weights.sum()
    mean = sums.sum(axis=0) / total
    scale = np.where(mean > 0, mean, 1) * total
    relative = (sums - mean * weights.reshape(-1, *[1] * mean.ndim)) / scale
    variance, freedom = _pooled(relative, np.ones_like(mean), expected, trust)
    half, middle = _student(confidence, freedom) * np.sqrt(variance) / 3, 1 - variance / 9
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        low = np.where(middle + half > 0, mean / (middle + half) ** 3, 0)
        high = np.where(mean > 0, np.where(middle > half, mean / (middle - half) ** 3, np.inf), 0)
    return low, high
