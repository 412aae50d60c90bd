"""Shares of dependent requests: independent groups of them, cycles of a queue say, drawn whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _labels, _validate
from edgeinfer.estimates.bootstrap import BLOCK, MOST_RESAMPLES, generator
from edgeinfer.estimates.estimate import Estimate


def cycles(arrivals: ArrayLike, sojourn: ArrayLike) -> NDArray[np.int64]:
    """Number of each request's cycle, from 0: a request that comes after all before it have left begins one.

    A queue that empties forgets what was before, so that cycles are independent where arrivals are Poisson.

    Parameters
    ----------
    arrivals : (n,) array_like, s
        Ascending; n >= 1.
    sojourn : (n,) array_like, s
        From each arrival to its end; what is not finite counts as 0, as of a request that failed.

    Examples
    --------
    >>> cycles([0.0, 1.0, 5.0, 5.5], [2.0, 3.0, 0.2, 1.0])
    array([0, 0, 1, 2])
    """
    times = np.asarray(_validate.real("arrivals", arrivals, unit="s"))
    lasting = _validate.numbers("sojourn", sojourn, "s")
    if times.shape != lasting.shape or times.ndim != 1 or not times.size:
        raise ValueError(
            f"arrivals, sojourn of shape {times.shape}, {lasting.shape}: must be one row each, of one size"
        )
    if (np.diff(times) < 0).any():
        raise ValueError(f"arrivals = {_validate.shown(times)}: must ascend; sort the requests by them")
    left = np.maximum.accumulate(times + np.where(np.isfinite(lasting), lasting, 0.0))
    return np.cumsum(np.concatenate([[False], times[1:] >= left[:-1]]))


def shares(
    hits: ArrayLike, groups: ArrayLike, confidence: float = 0.95, *, resamples: int = 2000, seed: Any = 0
) -> Estimate:
    """Shares of hits among requests that depend on one another within their groups, and not across them.

    Groups are drawn whole, with replacement (the percentile bootstrap of a ratio of sums). The intervals of all columns
    hold together with the confidence, each with its part of what is left of it. Where no group differs from another a
    bootstrap knows no width: then the exact limit for that many independent groups stands. One group alone tells
    nothing, and its interval is [0, 1]; below some twenty the intervals are a little short.

    Parameters
    ----------
    hits : (n,) or (n, k) array_like of bool
        Of n requests, in k events, n >= 1.
    groups : (n,) array_like of int
        Number of each request's group, 0 .. m - 1.
    confidence : float
        In (0, 1).
    resamples : int
        1 to 10^6.
    seed : int or SeedSequence
        The seed of the resampling.

    Returns
    -------
    Estimate
        Of floats, or (k,) ndarrays; `replications` counts the groups.

    Examples
    --------
    >>> runs = np.array(([True] * 10 + [False] * 90) * 10)
    >>> found = shares(runs[:500], np.arange(500) // 25)
    >>> [round(float(x), 3) for x in (found.value, found.low, found.high)]
    [0.1, 0.04, 0.18]
    """
    hit = _labels.complete("hits", hits, "true or false")
    number = _labels.complete("groups", groups, "the number of a group")
    if hit.dtype != bool or hit.ndim not in (1, 2) or not hit.size:
        raise ValueError(f"hits of type {hit.dtype} and shape {hit.shape}: must be (n,) or (n, k) of bool, n >= 1")
    if number.shape != hit.shape[:1] or number.dtype.kind not in "iu" or number.min() < 0:
        raise ValueError(f"groups of type {number.dtype} and shape {number.shape}: must be ({len(hit)},), whole, >= 0")
    confidence = _validate.scalar("confidence", confidence, 0, 1, low_open=True, high_open=True)
    resamples = _validate.whole("resamples", resamples, 1, MOST_RESAMPLES)
    columns = hit.reshape(len(hit), -1)
    count, events = int(number.max()) + 1, columns.shape[1]
    if len(np.unique(number)) < count:
        raise ValueError(f"groups: must have a request in each of 0 .. {count - 1}")
    sums = np.zeros((count, 1 + events))
    np.add.at(sums, number, np.column_stack([np.ones(len(columns)), columns]))
    source, chances, drawn = generator(seed, "seed"), np.full(count, 1 / count), np.empty((resamples, 1 + events))
    step = max(1, BLOCK // count)
    for first in range(0, resamples, step):
        part = drawn[first : first + step]
        part[:] = source.multinomial(count, chances, size=len(part)) @ sums
    tail = (1 - confidence) / events / 2
    share = columns.mean(axis=0)
    low, high = np.quantile(drawn[:, 1:] / drawn[:, :1], [tail, 1 - tail], axis=0)
    low[share == 1], high[share == 0] = tail ** (1 / count), 1 - tail ** (1 / count)
    if count == 1:
        low[:], high[:] = 0.0, 1.0
    shape = hit.shape[1:]
    value, low, high = (np.asarray(x).reshape(shape)[()] for x in (share, low, high))
    return Estimate(value, low, high, confidence, np.full(shape, count)[()])
