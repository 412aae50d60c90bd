"""Confidence intervals by resampling independent units: items, or groups of items that belong together."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _labels, _random, _validate
from edgeinfer.estimates.estimate import Estimate

#: Units drawn at once, at least one resample of them.
BLOCK = 1 << 18
#: The ends of an interval are then known to a hundredth of its width.
MOST_RESAMPLES = 1_000_000


def settings(confidence: Any, resamples: Any) -> tuple[float, int]:
    """Both checked: confidence in (0, 1), resamples a whole number, 0 to `MOST_RESAMPLES`."""
    confidence = _validate.scalar("confidence", confidence, 0, 1, low_open=True, high_open=True)
    return confidence, _validate.whole("resamples", resamples, 0, MOST_RESAMPLES)


def units(name: str, labels: Any, count: int) -> tuple[NDArray[np.int64], int]:
    """Unit of each of `count` items, 0.., and how many there are: each its own if `labels` is None."""
    if labels is None:
        return np.arange(count), count
    labels = _labels.complete(name, labels, "a label for each item")
    if labels.shape != (count,):
        raise ValueError(f"{name} of shape {labels.shape}: must be ({count},), a label for each item")
    names, index = np.unique(labels, return_inverse=True)
    return index.reshape(-1), names.size


def multiplicities(rng: np.random.Generator, count: int, times: int) -> NDArray[np.float64]:
    """How often each of `count` units is drawn when `count` are drawn with replacement, in each of `times` rows."""
    drawn = rng.integers(count, size=(times, count)) + count * np.arange(times)[:, None]
    return np.bincount(drawn.reshape(-1), minlength=times * count).reshape(times, count).astype(np.float64)


def generator(rng: Any, name: str = "rng") -> np.random.Generator:
    """A generator for what `numpy.random.default_rng` takes."""
    return np.random.default_rng(_random.seed_sequence(rng, name))


def estimate(
    value: float,
    replicates: NDArray[np.float64],
    confidence: float,
    count: int,
    *,
    low: float = -np.inf,
    high: float = np.inf,
) -> Estimate:
    """Percentile interval of the replicates, within [low, high]; all of it without replicates."""
    if replicates.size == 0:
        ends = np.array([low, high])
    else:
        tail = (1 - confidence) / 2
        ends = np.clip(np.quantile(replicates, [tail, 1 - tail]), low, high)
    return Estimate(value, float(ends[0]), float(ends[1]), confidence, count)


def mean(
    scores: NDArray[np.float64],
    groups: Any,
    confidence: Any,
    resamples: Any,
    rng: Any,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    transform: Callable[[Any], Any] = lambda mean: mean,
) -> Estimate:
    """`transform` of the mean of scores, with units drawn whole."""
    confidence, resamples = settings(confidence, resamples)
    unit, count = units("groups", groups, scores.size)
    if count < 2:
        raise ValueError(f"{scores.size} scores in {count} independent units: must be at least 2 units")
    sums, sizes = np.bincount(unit, scores, count), np.bincount(unit, minlength=count).astype(np.float64)
    source = generator(rng)
    means = np.empty(resamples)
    step = max(1, BLOCK // count)
    for first in range(0, resamples, step):
        last = min(first + step, resamples)
        drawn = multiplicities(source, count, last - first)
        means[first:last] = (drawn @ sums) / (drawn @ sizes)
    value = float(transform(scores.mean()))
    return estimate(value, np.asarray(transform(means)), confidence, count, low=low, high=high)
