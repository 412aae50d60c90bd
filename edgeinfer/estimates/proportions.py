"""Estimates for what is counted on a test set: proportions, paired differences of them, and means."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _core, _labels, _validate
from edgeinfer.estimates import bootstrap
from edgeinfer.estimates.estimate import Estimate


def proportion(hits: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Share of hits with Wilson's score interval.

    Parameters
    ----------
    hits : (n,) array_like of bool
        n >= 1, independent.
    confidence : float
        In (0, 1).

    Examples
    --------
    >>> found = proportion([True] * 90 + [False] * 10)
    >>> found.value, round(found.low, 4), round(found.high, 4)
    (0.9, 0.8256, 0.9448)
    """
    hit = _flags("hits", hits)
    return _wilson(float(hit.mean()), hit.size, confidence)


def largest_share(hits: int, total: int, confidence: float = 0.95) -> float:
    """One-sided upper end of Clopper and Pearson's interval: at most this share hits, with at least that confidence.

    Parameters
    ----------
    hits, total : int
        Of `total` >= 1 independent trials, 0 <= hits <= total.
    confidence : float
        In (0, 1).

    Examples
    --------
    >>> round(largest_share(0, 299), 4), largest_share(3, 3)
    (0.01, 1.0)
    """
    total, hits = _validate.whole("total", total, 1), _validate.whole("hits", hits, 0)
    if hits > total:
        raise ValueError(f"hits = {hits}: must be at most total = {total}")
    confidence = _validate.scalar("confidence", confidence, 0, 1, low_open=True, high_open=True)
    return 1.0 if hits == total else float(_core.beta_quantile(confidence, hits + 1.0, float(total - hits)))


def _wilson(share: float, n: int, confidence: float) -> Estimate:
    z = _normal(confidence)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At a share of 0 or 1 the interval ends there; rounding must not leave it out.
    return Estimate(share, min(float(centre - half), share), max(float(centre + half), share), confidence, n)


def paired_difference(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Share of hits of `first` less that of `second` on the same inputs, with the interval of Bonett and Price (2012).

    Wald's interval with one discordant pair of each kind added: it holds where hardly any pair is discordant too. The
    ends are cut to -1 and 1, and hold the value between them.

    Parameters
    ----------
    first, second : (n,) array_like of bool
        n >= 1.
    confidence : float
        In (0, 1).

    Examples
    --------
    >>> found = paired_difference([True] * 100, [True] * 98 + [False] * 2)
    >>> found.value, round(found.low, 4), round(found.high, 4)
    (0.02, -0.0186, 0.0578)
    """
    one, other = _flags("first", first), _flags("second", second)
    if one.shape != other.shape:
        raise ValueError(f"second of shape {other.shape}: must be {one.shape}, as first")
    gained, lost = int((one & ~other).sum()), int((~one & other).sum())
    up, down = (gained + 1) / (one.size + 2), (lost + 1) / (one.size + 2)
    half = _normal(confidence) * np.sqrt((up + down - (up - down) ** 2) / (one.size + 2))
    value = (gained - lost) / one.size
    # The pairs added draw both ends towards 0, past the value where nearly all pairs are discordant.
    low, high = max(min(float(up - down - half), value), -1.0), min(max(float(up - down + half), value), 1.0)
    return Estimate(value, low, high, confidence, one.size)


def mean(values: ArrayLike, confidence: float = 0.95, *, resamples: int = 2000, seed: int = 0) -> Estimate:
    """Mean with the percentile bootstrap's interval.

    Parameters
    ----------
    values : (n,) array_like
        n >= 2, independent.
    confidence : float
        In (0, 1).
    resamples : int
        1 to 10^6.
    seed : int
        The seed of the resampling.

    Examples
    --------
    >>> found = mean([2.0, 2.0, 2.0])
    >>> found.value, found.low, found.high, found.replications
    (2.0, 2.0, 2.0, 3)
    """
    array = np.atleast_1d(_validate.real("values", values))
    if array.ndim != 1 or array.size < 2:
        raise ValueError(f"values of shape {array.shape}: must be one-dimensional, at least 2 values")
    resamples = _validate.whole("resamples", resamples, 1, bootstrap.MOST_RESAMPLES)
    return bootstrap.mean(array, None, confidence, resamples, _validate.whole("seed", seed, 0))


def _flags(name: str, values: Any) -> np.ndarray:
    array = _labels.complete(name, values, "true or false")
    if array.dtype != bool or array.ndim != 1 or not array.size:
        raise ValueError(f"{name} of type {array.dtype} and shape {array.shape}: must be a row of at least one bool")
    return array


def _normal(confidence: float) -> float:
    return NormalDist().inv_cdf(
        (1 + _validate.scalar("confidence", confidence, 0, 1, low_open=True, high_open=True)) / 2
    )
