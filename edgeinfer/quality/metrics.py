"""CLIP score, LPIPS, PSNR and attribute accuracy: means of scores of each image, with a bootstrap interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer.estimates import bootstrap
from edgeinfer.estimates.estimate import Estimate
from edgeinfer.quality._arrays import finite, pair


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
        They are as for `fid`.

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
    x, y = pair("image_embeddings", image_embeddings, "text_embeddings", text_embeddings, least=1)
    if len(x) != len(y):
        raise ValueError(f"image_embeddings: {len(x)} rows, text_embeddings: {len(y)}: must be as many")
    # By powers of two, so that no square is beyond the largest double; a direction has no size.
    x, y = (np.ldexp(each, -np.frexp(np.abs(each).max(axis=1, keepdims=True))[1]) for each in (x, y))
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
        They are as for `clip_score`.

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
    """LPIPS of each pair; arguments as for `lpips`.

    Examples
    --------
    >>> layer = np.arange(24.0).reshape(2, 3, 2, 2)
    >>> lpips_scores([layer], [layer[:, ::-1]]).round(3)
    array([1.106, 0.136])
    """
    epsilon = _validate.scalar("epsilon", epsilon, 0, low_open=True)
    features, references = _validate.in_order("features", features), _validate.in_order("references", references)
    weights = None if weights is None else _validate.in_order("weights", weights)
    if len(features) == 0 or len(features) != len(references):
        raise ValueError(f"features: {len(features)} layers, references: {len(references)}: must be as many, >= 1")
    if weights is not None and len(weights) != len(features):
        raise ValueError(f"weights: {len(weights)} layers: must be {len(features)}")
    total: Any = 0.0
    images = 0
    for k, (one, other) in enumerate(zip(features, references, strict=True)):
        a, b = finite(f"features[{k}]", one), finite(f"references[{k}]", other)
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
        They are as for `clip_score`.

    Returns
    -------
    Estimate

    Examples
    --------
    >>> float(mean_score([1.0, 2.0, 3.0], rng=1).value)
    2.0
    """
    values = finite("scores", scores)
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
        They are as for `clip_score`.

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
    """PSNR of each pair, dB, inf where it is equal; arguments as for `psnr`.

    Examples
    --------
    >>> psnr_scores([[[0.0, 255.0]], [[1.0, 1.0]]], [[[0.0, 0.0]], [[1.0, 1.0]]]).round(2)
    array([3.01,  inf])
    """
    a, b = finite("images", images), finite("references", references)
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
        They are as for `clip_score`.

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
    """Whether all attributes of each image are right; arguments as for `attribute_accuracy`.

    Examples
    --------
    >>> attributes_right({"colour": [[2.0, 1.0], [0.0, 3.0]]}, {"colour": [0, 0]})
    array([ True, False])
    """
    _validate.check_kind("logits", logits, Mapping)
    _validate.check_kind("labels", labels, Mapping)
    if not labels:
        raise ValueError("labels = {}: must name at least one head")
    right: Any = True
    for head, label in labels.items():
        if head not in logits:
            raise ValueError(f"labels: {head!r} must be one of {', '.join(map(repr, logits))}")
        scores, wanted = finite(f"logits[{head!r}]", logits[head]), _validate.plain(f"labels[{head!r}]", label)
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
