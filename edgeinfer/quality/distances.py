"""FID and KID: distances between two sets of features, each with a bootstrap interval."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _labels, _validate
from edgeinfer.estimates import bootstrap
from edgeinfer.estimates.estimate import Estimate
from edgeinfer.quality._arrays import pair


def fid(
    real: ArrayLike,
    generated: ArrayLike,
    *,
    singular: str = "error",
    bias: str = "keep",
    groups: tuple[ArrayLike, ArrayLike] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    rng: Any = None,
) -> Estimate:
    """Fréchet inception distance of two sets of features.

    |mu_r - mu_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^(1/2)), with covariances of n - 1 degrees of freedom and the trace of
    the root from the eigenvalues of the symmetric S_r^(1/2) S_g S_r^(1/2).

    Parameters
    ----------
    real : (n, d) array_like
    generated : (m, d) array_like
        Features, finite; n, m > d unless singular covariances are allowed.
    singular : {"error", "allow"}
        What to do with a covariance of less than full rank. The distance is defined then too, but too few samples
        bias it upwards.
    bias : {"keep", "remove"}
        The distance of finite samples is above that of their distributions, by much unless n, m >> d^2. "keep" gives
        the value that other packages give, and the interval of the distance of that many samples; "remove" takes the
        bias off both, as the bootstrap estimates it, so that the interval is of the distance of the distributions.
    groups : pair of (n,) and (m,) array_like, optional
        Labels of items that are drawn together, such as the caption; equal labels of the two sides are one unit.
        By default each item is drawn on its own.
    confidence : float
        In (0, 1).
    resamples : int
        Bootstrap replicates; with 0 the interval is [0, inf).
    rng : optional
        What `numpy.random.default_rng` takes.

    Returns
    -------
    Estimate
        >= 0, in squared units of the features.

    Raises
    ------
    ValueError
        For shapes that do not fit, numbers that are not finite, too few samples, or a singular covariance.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> distance = fid(rng.normal(size=(4000, 2)), rng.normal(size=(4000, 2)) + [3, 0], bias="remove", rng=1)
    >>> bool(distance.low < 9 < distance.high)
    True
    """
    x, y = pair("real", real, "generated", generated)
    _validate.choice("singular", singular, ("error", "allow"))
    _validate.choice("bias", bias, ("keep", "remove"))
    confidence, resamples = bootstrap.settings(confidence, resamples)
    if singular == "error":
        _full_rank("real", x)
        _full_rank("generated", y)
    value = _frechet(*_gaussian(x), *_gaussian(y))

    draws, count = _draws(x, y, groups, resamples, rng)
    pairs = ((w, v) for first, second in draws for w, v in zip(first, second, strict=True))
    replicates = np.array([_frechet(*_gaussian(x, w), *_gaussian(y, v)) for w, v in pairs])
    if resamples:
        # Replicates scatter about a mean that has the bias twice; mirrored, about one that has it not.
        shift = replicates.mean() - value
        if bias == "remove":
            value, replicates = max(value - shift, 0.0), 2 * value - replicates
        else:
            replicates = replicates - shift
    elif bias == "remove":
        raise ValueError("resamples = 0: must be >= 1 to remove the bias")
    return bootstrap.estimate(value, replicates, confidence, count, low=0.0)


def _gaussian(x: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> tuple[Any, Any]:
    if weights is None:
        weights = np.ones(len(x))
    total = weights.sum()
    mean = weights @ x / total
    centred = (x - mean) * np.sqrt(weights)[:, None]
    return mean, centred.T @ centred / (total - 1)


def _frechet(mean: Any, covariance: Any, other_mean: Any, other_covariance: Any) -> float:
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    product = root @ other_covariance @ root
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh((product + product.T) / 2), 0)).sum()
    distance = np.sum((mean - other_mean) ** 2) + np.trace(covariance) + np.trace(other_covariance) - 2 * shared
    return max(float(distance), 0.0)


def _full_rank(name: str, x: NDArray[np.float64]) -> None:
    count, dimensions = x.shape
    if count <= dimensions:
        raise ValueError(
            f"{name}: {count} samples of {dimensions} features: must be more samples than features "
            '(or singular="allow")'
        )
    values = np.linalg.eigvalsh(_gaussian(x)[1])
    rank = int(np.sum(values > values[-1] * dimensions * np.finfo(np.float64).eps))
    if rank < dimensions:
        raise ValueError(
            f"{name}: covariance of rank {rank} in {dimensions} dimensions: must have full rank: leave out features "
            'that are constant or depend on others (or singular="allow")'
        )


def kid(
    real: ArrayLike,
    generated: ArrayLike,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    groups: tuple[ArrayLike, ArrayLike] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    rng: Any = None,
) -> Estimate:
    """Kernel inception distance: the unbiased squared maximum mean discrepancy with kernel (x.y / d + 1)^3.

    Parameters
    ----------
    real : (n, d) array_like
    generated : (m, d) array_like
        Features, finite.
    subsets, subset_size : int
        The value is the mean over that many random subsets of that size, drawn without replacement; n, m >=
        subset_size. With subsets = 0 it is the estimate from all samples at once, to which that mean converges.
    groups, confidence, resamples, rng
        They are as for `fid`.

    Returns
    -------
    Estimate
        May be negative, as the estimator is unbiased. The interval is that of the estimate from all samples; a sample
        that is drawn twice is not compared with itself. Memory: 8 (n + m)^2 bytes, unless resamples = 0.

    Raises
    ------
    ValueError
        For shapes that do not fit, numbers that are not finite, or too few samples.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> x, y = rng.normal(size=(300, 4)), rng.normal(size=(300, 4))
    >>> distance = kid(x, y + 1, subset_size=100, rng=1)
    >>> bool(distance.low > 0)
    True
    """
    x, y = pair("real", real, "generated", generated)
    confidence, resamples = bootstrap.settings(confidence, resamples)
    subsets = _validate.whole("subsets", subsets, 0, bootstrap.MOST_RESAMPLES)
    source = bootstrap.generator(rng)
    if subsets:
        size = _validate.whole("subset_size", subset_size, 2)
        for name, side in (("real", x), ("generated", y)):
            if len(side) < size:
                raise ValueError(f"{name}: {len(side)} samples: must be at least subset_size = {size}")
        values = []
        for _ in range(subsets):
            i, j = (source.permutation(len(side))[:size] for side in (x, y))
            values.append(_discrepancy(_kernels(x[i], y[j]), np.ones((1, size)), np.ones((1, size))))
        value = float(np.mean(values))
    draws, count = _draws(x, y, groups, resamples, source)
    if resamples or not subsets:
        kernels = _kernels(x, y)
        centre = float(_discrepancy(kernels, np.ones((1, len(x))), np.ones((1, len(y))))[0])
        if not subsets:
            value = centre
    replicates = [_discrepancy(kernels, *pair) + (value - centre) for pair in draws]
    return bootstrap.estimate(value, np.concatenate([[], *replicates]), confidence, count)


def _kernels(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[Any, Any, Any]:
    return _kernel(x, x), _kernel(x, y), _kernel(y, y)


def _kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    base = x @ y.T / x.shape[1] + 1
    return base * base * base  # several times faster than a power


def _discrepancy(kernels: tuple[Any, Any, Any], weights: Any, others: Any) -> NDArray[np.float64]:
    # One row of weights a replicate; a sample is not paired with itself, however often it was drawn.
    xx, xy, yy = kernels
    across = np.einsum("ri,ri->r", weights @ xy, others) / (weights.sum(axis=1) * others.sum(axis=1))
    return _within(xx, weights) + _within(yy, others) - 2 * across


def _within(kernel: Any, weights: Any) -> NDArray[np.float64]:
    squares = weights**2
    pairs = weights.sum(axis=1) ** 2 - squares.sum(axis=1)
    return (np.einsum("ri,ri->r", weights @ kernel, weights) - squares @ np.diagonal(kernel)) / pairs


def _draws(
    x: NDArray[np.float64], y: NDArray[np.float64], groups: Any, resamples: int, rng: Any
) -> tuple[Iterator[tuple[Any, Any]], int]:
    """Multiplicities of both sides' items, (replicates, n) and (replicates, m) a chunk; and the independent units
    of the side that has fewer."""
    source = bootstrap.generator(rng)
    independent = count = min(len(x), len(y))
    unit = np.arange(0)
    if groups is not None:
        first, second = (_labels.complete("groups", side, "a label for each item") for side in groups)
        if first.shape != (len(x),) or second.shape != (len(y),):
            raise ValueError(f"groups of shapes {first.shape}, {second.shape}: must be ({len(x)},) and ({len(y)},)")
        unit, count = bootstrap.units("groups", np.concatenate([first, second]), len(x) + len(y))
        independent = min(np.unique(first).size, np.unique(second).size)
        if independent < 2:
            raise ValueError("groups: each side must have at least 2 labels")

    def one() -> NDArray[np.float64]:
        # A side of one item that is drawn again and again has no spread, and no pairs.
        while True:
            if groups is None:
                drawn = np.concatenate([bootstrap.multiplicities(source, len(side), 1)[0] for side in (x, y)])
            else:
                drawn = bootstrap.multiplicities(source, count, 1)[0, unit]
            if min(np.count_nonzero(drawn[: len(x)]), np.count_nonzero(drawn[len(x) :])) > 1:
                return drawn

    def chunks() -> Iterator[tuple[Any, Any]]:
        for start in range(0, resamples, 64):
            drawn = np.array([one() for _ in range(min(64, resamples - start))])
            yield drawn[:, : len(x)], drawn[:, len(x) :]

    return chunks(), independent
