"""Intervals for what is counted on a test set: proportions, paired differences of them, and means."""

from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _bootstrap, _validate


class Interval(NamedTuple):
    """A value and the interval about it."""

    value: float
    low: float
    high: float


def proportion(hits: ArrayLike, confidence: float = 0.95) -> Interval:
    """Share of hits with Wilson's score interval.

    Parameters
    ----------
    hits : (n,) array_like of bool
        n >= 1, independent.
    confidence : float
        In (0, 1).

    Examples
    --------
    >>> [round(x, 4) for x in proportion([True] * 90 + [False] * 10)]
    [0.9, 0.8256, 0.9448]
    """
    hit = _flags("hits", hits)
    return _wilson(float(hit.mean()), hit.size, confidence)


def correlated_proportion(hits: ArrayLike, confidence: float = 0.95, *, batches: int = 20) -> Interval:
    """Share of hits in a sequence whose neighbours are alike, as requests in a queue are.

    Wilson's interval with the number of independent trials that would make the share vary as its batch means do; never more
    trials than there are.

    Parameters
    ----------
    hits : (n,) array_like of bool
        In order; n >= batches. Batches should be long beside the time that the sequence remembers.
    confidence : float
        In (0, 1).
    batches : int
        >= 2.

    Examples
    --------
    >>> runs = ([True] * 10 + [False] * 90) * 10
    >>> [round(x, 3) for x in proportion(runs)], [round(x, 3) for x in correlated_proportion(runs)]
    ([0.1, 0.083, 0.12], [0.1, 0.063, 0.154])
    """
    hit, batches = _flags("hits", hits), _validate.whole("batches", batches, 2)
    if hit.size < batches:
        raise ValueError(f"hits: {hit.size}: must be at least one in each of {batches} batches")
    share = float(hit.mean())
    means = np.array([batch.mean() for batch in np.array_split(hit, batches)])
    spread = float(means.var(ddof=1)) / batches
    trials = hit.size if spread == 0 else min(share * (1 - share) / spread, hit.size)
    return _wilson(share, max(trials, 1.0), confidence)


def _wilson(share: float, n: float, confidence: float) -> Interval:
    z = _normal(confidence)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At a share of 0 or 1 the interval ends there; rounding must not leave it out.
    return Interval(share, min(float(centre - half), share), max(float(centre + half), share))


def paired_difference(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Interval:
    """Share of hits of `first` less that of `second` on the same inputs, with the interval of Bonett and Price (2012).

    Wald's interval with one discordant pair of each kind added: it holds where hardly any pair is discordant too.

    Parameters
    ----------
    first, second : (n,) array_like of bool
        n >= 1.
    confidence : float
        In (0, 1).

    Examples
    --------
    >>> [round(x, 4) for x in paired_difference([True] * 100, [True] * 98 + [False] * 2)]
    [0.02, -0.0186, 0.0578]
    """
    one, other = _flags("first", first), _flags("second", second)
    if one.shape != other.shape:
        raise ValueError(f"second of shape {other.shape}: must be {one.shape}, as first")
    gained, lost = int((one & ~other).sum()), int((~one & other).sum())
    up, down = (gained + 1) / (one.size + 2), (lost + 1) / (one.size + 2)
    half = _normal(confidence) * np.sqrt((up + down - (up - down) ** 2) / (one.size + 2))
    return Interval((gained - lost) / one.size, float(up - down - half), float(up - down + half))


def mean(values: ArrayLike, confidence: float = 0.95, *, resamples: int = 2000, seed: int = 0) -> Interval:
    """Mean with the percentile bootstrap's interval.

    Parameters
    ----------
    values : (n,) array_like
        n >= 2, independent.
    confidence : float
        In (0, 1).
    resamples : int
        >= 1.
    seed : int
        Of the resampling.

    Examples
    --------
    >>> mean([2.0, 2.0, 2.0])
    Interval(value=2.0, low=2.0, high=2.0)
    """
    array = np.atleast_1d(_validate.real("values", values))
    if array.ndim != 1 or array.size < 2:
        raise ValueError(f"values of shape {array.shape}: must be one-dimensional, at least 2 values")
    resamples = _validate.whole("resamples", resamples, 1)
    found = _bootstrap.mean(array, None, confidence, resamples, _validate.whole("seed", seed, 0))
    return Interval(found.value, found.low, found.high)


def _flags(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype != bool or array.ndim != 1 or not array.size:
        raise ValueError(f"{name} of type {array.dtype} and shape {array.shape}: must be a row of at least one bool")
    return array


def _normal(confidence: float) -> float:
    return NormalDist().inv_cdf(
        (1 + _validate.scalar("confidence", confidence, 0, 1, low_open=True, high_open=True)) / 2
    )
