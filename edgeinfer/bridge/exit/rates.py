"""Accuracy over bits of codes at a cut, and what they offload in time."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.bridge.codec.channels import IMPORTANCES, importance
from edgeinfer.bridge.codec.codecs import Codec, fit_codec
from edgeinfer.bridge.codec.quantisers import lloyd_max, uniform
from edgeinfer.bridge.codec.steps import PCA, CodecStep, fit_pca, read_autoencoder, select_channels
from edgeinfer.bridge.exit.network import ExitNetwork
from edgeinfer.bridge.exit.rules import checked_labels
from edgeinfer.estimates import Estimate, proportions

_PCA_SIZES = (8, 16, 24, 32, 48, 64)


@dataclass(frozen=True)
class RatePoint:
    """Accuracy for the bits sent.

    Attributes
    ----------
    name : str
    bits : Estimate
        Mean of a message, counted on the bytes; bootstrap interval.
    largest_bits : int
    accuracy : Estimate
        Wilson's.
    loss : Estimate
        Accuracy of the same network on the untouched input, less this; interval of Bonett and Price on the pairs.
    """

    name: str
    bits: Estimate
    largest_bits: int
    accuracy: Estimate
    loss: Estimate

    def row(self) -> dict[str, Any]:
        """The point as one flat row of a table."""
        row: dict[str, Any] = {"name": self.name, "largest_bits": self.largest_bits}
        for key in ("bits", "accuracy", "loss"):
            value = getattr(self, key)
            row |= {key: value.value, f"{key}_low": value.low, f"{key}_high": value.high}
        return row


def rate_point(
    name: str, lengths: ArrayLike, right: ArrayLike, untouched: ArrayLike, confidence: float = 0.95
) -> RatePoint:
    """A point from messages' lengths in byte and from which inputs were answered rightly, with and without the
    codec.
    """
    bits = 8 * _validate.numbers("lengths", lengths)
    spread = proportions.mean(bits, confidence)
    pairs = proportions.paired_difference(untouched, right, confidence)
    return RatePoint(name, spread, int(bits.max()), proportions.proportion(right, confidence), pairs)


def rate_accuracy(
    network: ExitNetwork, codecs: Mapping[str, Codec], images: ArrayLike, labels: ArrayLike, *, cut: int = 1
) -> list[RatePoint]:
    """Bits and accuracy of each codec at a cut, on held-out images.

    Parameters
    ----------
    network : ExitNetwork
    codecs : mapping of str to Codec
    images, labels : (n, channels, height, width) and (n,) array_like
    cut : int
        Segments before it.
    """
    features = network.features(images, cut)
    answers = network.finish(features, cut)
    y = checked_labels(labels, *answers.shape)
    untouched = answers.argmax(1) == y
    points = []
    for name, codec in codecs.items():
        messages = [codec.encode(x) for x in features]
        restored = np.stack([codec.decode(message) for message in messages])
        right = network.finish(restored, cut).argmax(1) == y
        points.append(rate_point(name, [len(message) for message in messages], right, untouched))
    return points


def offload(
    network: ExitNetwork, images: ArrayLike, labels: ArrayLike, *, levels: int, qualities: Iterable[int] = ()
) -> list[RatePoint]:
    """The baseline: the input itself crosses, and the whole network runs on the other side.

    The points are the pixels packed as they are, lossless; for each quality a JPEG file; and of that file the scan
    alone, as if both sides agreed on all headers and tables beforehand.

    Parameters
    ----------
    network : ExitNetwork
        Of one channel.
    images, labels : (n, 1, height, width) and (n,) array_like
        Pixels are whole multiples of 1 / (levels - 1) in [0, 1].
    levels : int
        Grey levels of the data, 2 .. 256.
    qualities : iterable of int
        Of Pillow's JPEG, 1 .. 95.
    """
    image = need("PIL.Image", "bridge")
    x = _validate.plain("images", images).astype(np.float32, copy=False)
    steps = _validate.whole("levels", levels, 2) - 1
    if steps > 255 or x.ndim != 4 or x.shape[1] != 1 or np.abs(x * steps - np.rint(x * steps)).max() > 1e-3:
        raise ValueError(f"levels = {levels}: images must be of one channel and of so many levels, at most 256")

    answers = network.probabilities(x)[-1]
    y = checked_labels(labels, *answers.shape)

    def right(pixels: NDArray[Any]) -> NDArray[np.bool_]:
        return network.probabilities(pixels)[-1].argmax(1) == y

    untouched = answers.argmax(1) == y
    packed = math.ceil(math.prod(x.shape[1:]) * math.ceil(math.log2(levels)) / 8)
    points = [rate_point("pixels", np.full(len(x), packed), untouched, untouched)]
    for quality in qualities:
        quality = _validate.whole("quality", quality, 1, 95)
        files = []
        for pixels in x:
            buffer = io.BytesIO()
            picture = image.fromarray(np.rint(pixels[0] * 255).astype(np.uint8))
            picture.save(buffer, "JPEG", quality=quality, optimize=False)
            files.append(buffer.getvalue())
        restored = np.stack([np.asarray(image.open(io.BytesIO(file)), np.float32)[None] / 255 for file in files])
        hits = right(restored)
        points.append(rate_point(f"jpeg {quality}", list(map(len, files)), hits, untouched))
        points.append(rate_point(f"jpeg scan {quality}", list(map(_scan, files)), hits, untouched))
    return points


def _scan(file: bytes) -> int:
    """Bytes of a JPEG file's entropy-coded scan."""
    start = file.index(b"\xff\xda")
    return len(file) - start - 2 - int.from_bytes(file[start + 2 : start + 4], "big") - len(b"\xff\xd9")


def fewest_bits(points: Iterable[RatePoint], accuracy_loss: float) -> RatePoint:
    """The point of least mean bits whose loss, at the upper end of its interval, is at most that.

    For choosing on a validation set: the loss itself flatters the best of many. ValueError where no point fits.
    """
    limit = _validate.scalar("accuracy_loss", accuracy_loss, 0, 1)
    fitting = [point for point in points if point.loss.high <= limit]
    if not fitting:
        raise ValueError(f"accuracy_loss = {limit:g}: none of these points surely keeps to it")
    return min(fitting, key=lambda point: (point.bits.value, point.loss.value))


def standard_codecs(
    network: ExitNetwork,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    cut: int = 1,
    bits: Sequence[int] = (1, 2, 3, 4, 6, 8),
) -> dict[str, Codec]:
    """The families of codecs side by side, fitted on training images: for a plot of accuracy over bits.

    Parameters
    ----------
    network : ExitNetwork
    images, labels : (n, channels, height, width) and (n,) array_like
        Training data.
    cut : int
        Segments before it.
    bits : sequence of int
        Of one value.

    Returns
    -------
    dict of str to Codec
        Named "family size quantiser bits[ zstd]": the plain tensor under both quantisers; channels of each importance
        and PCA at several sizes; each autoencoder of the cut that comes with the network.
    """
    x = network.features(images, cut)
    gates = network.gates(images, cut)
    channels = x.shape[1]
    transforms: dict[str, list[CodecStep]] = {f"plain {x[0].size}": []}
    for method in IMPORTANCES:
        weights = importance(x, method, labels=labels, gates=gates)
        for keep in sorted({max(1, channels * eighths // 8) for eighths in (2, 4, 6, 7)}):
            transforms[f"{method} {keep}"] = [select_channels(x, weights, keep)]
    limit = min(len(x) - 1, x[0].size)
    pca = fit_pca(x, min(_PCA_SIZES[-1], limit))
    for size in (size for size in _PCA_SIZES if size <= limit):
        transforms[f"pca {size}"] = [PCA(pca.mean, pca.components[:size])]
    for item in network.manifest.autoencoders:
        if item.cut == cut:
            transforms[f"autoencoder {item.values}"] = [read_autoencoder(item.encoder, item.decoder)]
    codecs = {}
    for name, steps in transforms.items():
        for quantiser in (uniform, lloyd_max):
            for width in bits:
                codec = fit_codec(x, steps, quantiser, width)
                codecs[f"{name} {quantiser.__name__} {width}"] = codec
                codecs[f"{name} {quantiser.__name__} {width} zstd"] = replace(codec, entropy=True)
    return codecs
