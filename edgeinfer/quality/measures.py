"""What a quality surface can be of: a score of each image, or a distance of all images from real ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer.estimates.estimate import Estimate
from edgeinfer.quality import distances, metrics
from edgeinfer.quality.extractors import Extractor


@dataclass(frozen=True)
class ImageMeasure:
    """A score of each image; a surface has its mean.

    Attributes
    ----------
    name : str
        The name of the surface's variable.
    score : callable
        score(images, index) -> (n,) array: images (n, height, width, 3) uint8, index (n,) the number of each one's
        caption.
    units : str
    better : {"higher", "lower"}
    low, high : float
        Range of the mean, to which it and its interval are clipped.
    identity : str
        What it depends on (files, references): part of what a store belongs to.
    """

    name: str
    score: Callable[[NDArray[np.uint8], NDArray[np.int64]], NDArray[np.float64]]
    units: str = "1"
    better: str = "higher"
    low: float = -np.inf
    high: float = np.inf
    identity: str = ""


@dataclass(frozen=True)
class SetMeasure:
    """A distance of all generated images from real ones.

    Attributes
    ----------
    name, units, better, identity
        They are as for `ImageMeasure`.
    features : callable
        features(images) -> (n, d) array.
    distance : callable
        distance(features, captions, confidence, resamples, rng) -> Estimate; captions (n,) are the units to draw.
    """

    name: str
    features: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    distance: Callable[..., Estimate]
    units: str = "1"
    better: str = "lower"
    identity: str = ""


def clip_measure(image: Extractor, text_embeddings: ArrayLike, name: str = "clip") -> ImageMeasure:
    """CLIP score of images by `image`; `text_embeddings` (captions, e) are of the captions in order."""
    texts = _validate.numbers("text_embeddings", text_embeddings)
    return ImageMeasure(
        name,
        lambda images, index: metrics.clip_scores(image(images), texts[index]),
        low=0.0,
        high=100.0,
        identity=f"{image.digest} {_digest(texts)}",
    )


def attribute_measure(
    checker: Extractor, heads: Mapping[str, int], labels: Mapping[str, ArrayLike], name: str = "attributes"
) -> ImageMeasure:
    """Share of images all of whose attributes are as asked.

    Parameters
    ----------
    checker : Extractor
        Gives the logits of all heads side by side.
    heads : mapping of str to int
        Classes of each head, in the order of the logits.
    labels : mapping of str to (captions,) array_like of int
        Class that each caption asks for, -1 where it asks for none. Heads without labels are not looked at.
    name : str
    """
    wanted = {head: _validate.plain(f"labels[{head!r}]", label).astype(np.int64) for head, label in labels.items()}
    ends = np.cumsum(list(heads.values()))

    def score(images: NDArray[np.uint8], index: NDArray[np.int64]) -> NDArray[np.float64]:
        logits = checker(images)
        if logits.ndim != 2 or logits.shape[1] != ends[-1]:
            raise ValueError(f"heads: {ends[-1]} classes in all: the checker gives {logits.shape[1:]}")
        parts = dict(zip(heads, np.split(logits, ends[:-1], axis=1), strict=True))
        return metrics.attributes_right(parts, {head: label[index] for head, label in wanted.items()}).astype(float)

    identity = f"{checker.digest} {dict(heads)} {[(head, _digest(label)) for head, label in wanted.items()]}"
    return ImageMeasure(name, score, low=0.0, high=1.0, identity=identity)


def lpips_measure(
    layers: Extractor, references: ArrayLike, weights: Sequence[ArrayLike] | None = None, name: str = "lpips"
) -> ImageMeasure:
    """LPIPS to the real image of each caption; arguments as for `lpips`, references (captions, h, w, 3) uint8."""
    real = _images("references", references)

    def score(images: NDArray[np.uint8], index: NDArray[np.int64]) -> NDArray[np.float64]:
        which, place = np.unique(index, return_inverse=True)
        references = [layer[place] for layer in layers.layers(real[which])]
        return metrics.lpips_scores(layers.layers(images), references, weights)

    identity = f"{layers.digest} {layers.outputs} {_digest(real)} {[_digest(np.asarray(w)) for w in weights or ()]}"
    return ImageMeasure(name, score, better="lower", low=0.0, identity=identity)


def psnr_measure(references: ArrayLike, name: str = "psnr") -> ImageMeasure:
    """PSNR to the real image of each caption, dB; references (captions, h, w, 3) uint8."""
    real = _images("references", references)
    return ImageMeasure(
        name, lambda images, index: metrics.psnr_scores(images, real[index]), "dB", identity=_digest(real)
    )


Features = Callable[[NDArray[np.uint8]], NDArray[Any]]


def fid_measure(
    extractor: Features, references: ArrayLike, name: str = "fid", *, singular: str = "error"
) -> SetMeasure:
    """FID to real images (m, h, w, 3) uint8, each of them a unit of its own; by an `Extractor` or `haar_detail`."""
    return _set_measure(name, distances.fid, extractor, references, {"singular": singular})


def kid_measure(
    extractor: Features, references: ArrayLike, name: str = "kid", *, subsets: int = 100, subset_size: int = 1000
) -> SetMeasure:
    """KID to real images (m, h, w, 3) uint8, each of them a unit of its own; by an `Extractor` or `haar_detail`."""
    return _set_measure(name, distances.kid, extractor, references, {"subsets": subsets, "subset_size": subset_size})


def _set_measure(
    name: str, metric: Any, extractor: Features, references: ArrayLike, options: dict[str, Any]
) -> SetMeasure:
    images = _images("references", references)
    real = extractor(images)

    def distance(features: Any, captions: Any, confidence: float, resamples: int, rng: Any) -> Estimate:
        groups = -1 - np.arange(len(real)), captions
        return metric(real, features, groups=groups, confidence=confidence, resamples=resamples, rng=rng, **options)

    # For a plain function the measure's name stands.
    by = getattr(extractor, "digest", name)
    return SetMeasure(name, extractor, distance, identity=f"{by} {_digest(images)} {options}")


def _images(name: str, value: ArrayLike) -> NDArray[np.uint8]:
    images = _validate.plain(name, value)
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or len(images) == 0:
        raise ValueError(f"{name} of shape {images.shape} and type {images.dtype}: must be (n, h, w, 3) uint8, n >= 1")
    return images


def _digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
