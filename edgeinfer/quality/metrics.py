"""FID, KID, CLIP score, LPIPS, PSNR and attribute accuracy, each with a bootstrap interval."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer.estimates import bootstrap
from edgeinfer.estimates.estimate import Estimate


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
    x, y = _pair("real", real, "generated", generated)
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
        As for `fid`.

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
    x, y = _pair("real", real, "generated", generated)
    confidence, resamples = bootstrap.settings(confidence, resamples)
    subsets = _validate.whole("subsets", subsets, 0)
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


def clip_score(
    image_embeddings: ArrayLike,
    text_embeddings: ArrayLike,
    *,
    clip: str = "mean",
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    rng: Any = None,
) -> Estimate:
    """CLIP score: the mean of 100 cos(image, text) over pairs of embeddings, not below 0.

    Parameters
    ----------
    image_embeddings, text_embeddings : (n, e) array_like
        Row i of one belongs to row i of the other; of any length but 0.
    clip : {"mean", "pairs"}
        What is clipped at 0: the mean, as torchmetrics does, or each pair, as the paper's Table 1 says.
    groups : (n,) array_like, optional
        Labels of pairs that are drawn together, such as the caption.
    confidence, resamples, rng
        As for `fid`.

    Returns
    -------
    Estimate
        In [0, 100].

    Examples
    --------
    >>> float(round(clip_score([[1.0, 0.0], [1.0, 1.0]], [[2.0, 0.0], [1.0, 0.0]], rng=1).value, 3))
    85.355
    """
    scores = clip_scores(image_embeddings, text_embeddings)
    _validate.choice("clip", clip, ("mean", "pairs"))
    if clip == "pairs":
        scores = np.maximum(scores, 0)
    return bootstrap.mean(
        scores, groups, confidence, resamples, rng, low=0.0, high=100.0, transform=lambda mean: np.maximum(mean, 0)
    )


def clip_scores(image_embeddings: ArrayLike, text_embeddings: ArrayLike) -> NDArray[np.float64]:
    """100 cos(image, text) of each pair, unclipped; arguments as for `clip_score`.

    Examples
    --------
    >>> clip_scores([[1.0, 0.0]], [[-2.0, 0.0]])
    array([-100.])
    """
    x, y = _pair("image_embeddings", image_embeddings, "text_embeddings", text_embeddings, least=1)
    if len(x) != len(y):
        raise ValueError(f"image_embeddings: {len(x)} rows, text_embeddings: {len(y)}: must be as many")
    lengths = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    for name, length in zip(("image_embeddings", "text_embeddings"), lengths, strict=True):
        if not length.all():
            raise ValueError(f"{name}[{int(np.argmin(length))}] is zero: must have a direction")
    return 100 * np.einsum("ij,ij->i", x, y) / (lengths[0] * lengths[1])


def lpips(
    features: Sequence[ArrayLike],
    references: Sequence[ArrayLike],
    weights: Sequence[ArrayLike] | None = None,
    *,
    epsilon: float = 1e-8,
    inside: bool = True,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    rng: Any = None,
) -> Estimate:
    """Learned perceptual image patch similarity of pairs of images, from the features of several layers.

    The mean over pairs of sum_l mean_hw sum_c w_lc (u_lchw - u'_lchw)^2, u the features divided by their norm over the
    channels at each place.

    Parameters
    ----------
    features, references : sequence of (n, c_l, h_l, w_l) array_like
        One array a layer; image i of one is compared with image i of the other.
    weights : sequence of (c_l,) array_like, optional
        >= 0. They multiply the squares, as in the published code; the paper's w_l, within the norm, are their roots.
        By default 1: no learned weights, which exist for a few networks (AlexNet, VGG, SqueezeNet) only.
    epsilon : float
        > 0; keeps places without features finite.
    inside : bool
        Whether the norm is sqrt(sum u^2 + epsilon), as in torchmetrics (epsilon 1e-8), or sqrt(sum u^2) + epsilon, as
        in lpips and torch-fidelity (epsilon 1e-10).
    groups, confidence, resamples, rng
        As for `clip_score`.

    Returns
    -------
    Estimate
        >= 0.

    Examples
    --------
    >>> layer = np.arange(24.0).reshape(2, 3, 2, 2)
    >>> float(lpips([layer], [layer], rng=1).value)
    0.0
    """
    scores = lpips_scores(features, references, weights, epsilon=epsilon, inside=inside)
    return bootstrap.mean(scores, groups, confidence, resamples, rng, low=0.0)


def lpips_scores(
    features: Sequence[ArrayLike],
    references: Sequence[ArrayLike],
    weights: Sequence[ArrayLike] | None = None,
    *,
    epsilon: float = 1e-8,
    inside: bool = True,
) -> NDArray[np.float64]:
    """LPIPS of each pair; arguments as for `lpips`."""
    epsilon = _validate.scalar("epsilon", epsilon, 0, low_open=True)
    if len(features) == 0 or len(features) != len(references):
        raise ValueError(f"features: {len(features)} layers, references: {len(references)}: must be as many, >= 1")
    if weights is not None and len(weights) != len(features):
        raise ValueError(f"weights: {len(weights)} layers: must be {len(features)}")
    total: Any = 0.0
    images = 0
    for k, (one, other) in enumerate(zip(features, references, strict=True)):
        a, b = _finite(f"features[{k}]", one), _finite(f"references[{k}]", other)
        if a.ndim != 4 or a.size == 0 or a.shape != b.shape:
            raise ValueError(f"features[{k}] of shape {a.shape}, references[{k}] {b.shape}: must be one (n, c, h, w)")
        images = len(a) if k == 0 else images
        if len(a) != images:
            raise ValueError(f"features[{k}]: {len(a)} images, features[0]: {images}: must be as many")
        w = np.ones(a.shape[1]) if weights is None else _validate.real(f"weights[{k}]", weights[k], 0)
        if np.shape(w) != (a.shape[1],):
            raise ValueError(f"weights[{k}] of shape {np.shape(w)}: must be ({a.shape[1]},)")
        squares = (_unit(a, epsilon, inside) - _unit(b, epsilon, inside)) ** 2
        total = total + np.einsum("nchw,c->n", squares, w) / (a.shape[2] * a.shape[3])
    return total


def _unit(x: NDArray[np.float64], epsilon: float, inside: bool) -> NDArray[np.float64]:
    squares = (x**2).sum(axis=1, keepdims=True)
    return x / (np.sqrt(squares + epsilon) if inside else np.sqrt(squares) + epsilon)


def mean_score(
    scores: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    rng: Any = None,
) -> Estimate:
    """Mean of scores of any kind, such as differences of two images' scores.

    Parameters
    ----------
    scores : (n,) array_like
        Finite.
    groups, confidence, resamples, rng
        As for `clip_score`.

    Returns
    -------
    Estimate

    Examples
    --------
    >>> float(mean_score([1.0, 2.0, 3.0], rng=1).value)
    2.0
    """
    values = _finite("scores", scores)
    if values.ndim != 1:
        raise ValueError(f"scores of shape {values.shape}: must be (n,)")
    return bootstrap.mean(values, groups, confidence, resamples, rng)


def psnr(
    images: ArrayLike,
    references: ArrayLike,
    *,
    data_range: float = 255.0,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    rng: Any = None,
) -> Estimate:
    """Peak signal-to-noise ratio, the mean over pairs of 10 log10(data_range^2 / mean squared error), dB.

    Parameters
    ----------
    images, references : (n, ...) array_like
        Of one shape.
    data_range : float
        > 0: between the least and the greatest value a pixel may have.
    groups, confidence, resamples, rng
        As for `clip_score`.

    Returns
    -------
    Estimate
        dB.

    Raises
    ------
    ValueError
        For shapes that do not fit, or a pair that is equal: its ratio is infinite.

    Examples
    --------
    >>> black = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    >>> float(round(psnr(black + 1, black, rng=1).value, 2))
    48.13
    """
    scores = psnr_scores(images, references, data_range=data_range)
    if np.isinf(scores).any():
        raise ValueError(f"images[{int(np.argmax(scores))}] equals its reference: the mean ratio is infinite")
    return bootstrap.mean(scores, groups, confidence, resamples, rng)


def psnr_scores(images: ArrayLike, references: ArrayLike, *, data_range: float = 255.0) -> NDArray[np.float64]:
    """PSNR of each pair, dB, inf where it is equal; arguments as for `psnr`."""
    a, b = _finite("images", images), _finite("references", references)
    if a.ndim < 2 or a.size == 0 or a.shape != b.shape:
        raise ValueError(f"images of shape {a.shape}, references {b.shape}: must be one (n, ...), not empty")
    data_range = _validate.scalar("data_range", data_range, 0, low_open=True)
    error = ((a - b) ** 2).reshape(len(a), -1).mean(axis=1)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(data_range**2 / error)


def attribute_accuracy(
    logits: Mapping[str, ArrayLike],
    labels: Mapping[str, ArrayLike],
    *,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    rng: Any = None,
) -> Estimate:
    """Share of images all of whose attributes a checker reads as they should be.

    Parameters
    ----------
    logits : mapping of str to (n, classes) array_like
        The checker's heads; those without labels are not looked at.
    labels : mapping of str to (n,) array_like of int
        Class of each head, or -1 where the caption leaves it open.
    groups, confidence, resamples, rng
        As for `clip_score`.

    Returns
    -------
    Estimate
        In [0, 1]. Where all images are right, or all wrong, a bootstrap knows no width: the interval is the value.

    Examples
    --------
    >>> logits = {"shape": [[2.0, 0.0], [0.0, 1.0]], "colour": [[0.0, 1.0], [0.0, 1.0]]}
    >>> float(attribute_accuracy(logits, {"shape": [0, 1], "colour": [1, 0]}, rng=1).value)
    0.5
    """
    right = attributes_right(logits, labels).astype(np.float64)
    return bootstrap.mean(right, groups, confidence, resamples, rng, low=0.0, high=1.0)


def attributes_right(logits: Mapping[str, ArrayLike], labels: Mapping[str, ArrayLike]) -> NDArray[np.bool_]:
    """Whether all attributes of each image are right; arguments as for `attribute_accuracy`."""
    if not labels:
        raise ValueError("labels = {}: must name at least one head")
    right: Any = True
    for head, label in labels.items():
        if head not in logits:
            raise ValueError(f"labels: {head!r} must be one of {', '.join(map(repr, logits))}")
        scores, wanted = _finite(f"logits[{head!r}]", logits[head]), _validate.plain(f"labels[{head!r}]", label)
        if scores.ndim != 2 or wanted.shape != scores.shape[:1]:
            raise ValueError(
                f"logits[{head!r}] of shape {scores.shape}, labels {wanted.shape}: must be (n, classes) and (n,)"
            )
        if not np.issubdtype(wanted.dtype, np.integer) or wanted.min() < -1 or wanted.max() >= scores.shape[1]:
            raise ValueError(f"labels[{head!r}]: must be whole numbers in [-1, {scores.shape[1] - 1}]")
        if np.ndim(right) and len(right) != len(wanted):
            raise ValueError(f"labels[{head!r}]: {len(wanted)} images, others have {len(right)}: must be as many")
        right = right & ((wanted == -1) | (scores.argmax(axis=1) == wanted))
    return right


def _finite(name: str, value: ArrayLike) -> NDArray[np.float64]:
    array = _validate.numbers(name, value)
    if not np.isfinite(array).all():
        where = ", ".join(str(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name}[{where}] is not finite: must be real numbers in (-inf, inf)")
    return array


def _pair(
    name: str, value: ArrayLike, other_name: str, other: ArrayLike, least: int = 2
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = _finite(name, value), _finite(other_name, other)
    for label, side in ((name, x), (other_name, y)):
        if side.ndim != 2 or side.shape[1] == 0:
            raise ValueError(f"{label} of shape {side.shape}: must be (samples, features)")
        if len(side) < least:
            raise ValueError(f"{label}: {len(side)} samples: must be at least {least}")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{name}: {x.shape[1]} features, {other_name}: {y.shape[1]}: must be as many")
    return x, y


def _draws(
    x: NDArray[np.float64], y: NDArray[np.float64], groups: Any, resamples: int, rng: Any
) -> tuple[Iterator[tuple[Any, Any]], int]:
    """Multiplicities of both sides' items, (replicates, n) and (replicates, m) a chunk; and the independent units
    of the side that has fewer."""
    source = bootstrap.generator(rng)
    independent = count = min(len(x), len(y))
    unit = np.arange(0)
    if groups is not None:
        first, second = (np.asarray(side) for side in groups)
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
                drawn = np.concatenate([bootstrap.multiplicities(source, len(side)) for side in (x, y)])
            else:
                drawn = bootstrap.multiplicities(source, count)[unit]
            if min(np.count_nonzero(drawn[: len(x)]), np.count_nonzero(drawn[len(x) :])) > 1:
                return drawn

    def chunks() -> Iterator[tuple[Any, Any]]:
        for start in range(0, resamples, 64):
            drawn = np.array([one() for _ in range(min(64, resamples - start))])
            yield drawn[:, : len(x)], drawn[:, len(x) :]

    return chunks(), independent
