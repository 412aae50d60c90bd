"""Features of images or texts from any ONNX network."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.network.sessions import open_session, session_options


class Extractor:
    """A network that turns images, or token ids, into features.

    Parameters
    ----------
    path : path
        An ONNX file with one input.
    layers : sequence of str, optional
        Tensors within the graph to give instead of the first output, such as those of `convolution_inputs`; needs the
        `onnx` package.
    value_range : (float, float)
        What the network takes for 0 and 255 of an image.
    batch : int
        Images a run, >= 1.
    threads : int, optional
        Of ONNX Runtime; its own choice by default.

    Attributes
    ----------
    digest : str
        SHA-256 of the file.

    Raises
    ------
    ValueError
        For a file that is not such a network, or layers that it does not have.
    ImportError
        Naming the extra, without onnxruntime (or onnx, where `layers` are given).
    """

    def __init__(
        self,
        path: str | Path,
        layers: Sequence[str] | None = None,
        *,
        value_range: tuple[float, float] = (-1.0, 1.0),
        batch: int = 64,
        threads: int | None = None,
    ) -> None:
        self.batch = _validate.whole("batch", batch, 1)
        low, high = value_range
        self._scale = np.float32((high - low) / 255), np.float32(low)
        content = Path(path).read_bytes()
        self.digest = hashlib.sha256(content).hexdigest()
        options = session_options(threads=threads, extra="quality")
        if layers is not None:
            content = _with_outputs(content, path, layers)
        self._session = open_session(content, f"path = {path}: is not a network", options)
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise ValueError(f"path = {path}: has {len(inputs)} inputs: must have one")
        self._input = inputs[0]
        self.outputs = tuple(layers) if layers is not None else (self._session.get_outputs()[0].name,)

    def __call__(self, images: ArrayLike) -> NDArray[np.float32]:
        """Features of the first layer, (n, ...).

        Parameters
        ----------
        images : (n, height, width, 3) array_like of uint8, or (n, ...) array_like as the network takes it
        """
        return self.layers(images)[0]

    def layers(self, images: ArrayLike) -> list[NDArray[np.float32]]:
        """Features of every layer, (n, ...) each; arguments as for a call."""
        array = _validate.plain("images", images)
        if array.ndim == 0 or len(array) == 0:
            raise ValueError(f"images of shape {array.shape}: must hold at least one")
        pixels = array.dtype == np.uint8 and array.ndim == 4
        parts = []
        for start in range(0, len(array), self.batch):
            part = array[start : start + self.batch]
            if pixels:
                scale, shift = self._scale
                part = part.transpose(0, 3, 1, 2).astype(np.float32) * scale + shift
            else:
                part = part.astype(np.int64 if "int64" in self._input.type else np.float32)
            if not _fits(part.shape, self._input.shape):
                raise ValueError(f"images: {part.shape} as the network takes them: must be {self._input.shape}")
            parts.append(self._session.run(list(self.outputs), {self._input.name: part}))
        return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _fits(shape: tuple[int, ...], allowed: list[Any]) -> bool:
    return len(shape) == len(allowed) and all(
        not isinstance(size, int) or size == actual for size, actual in zip(allowed[1:], shape[1:], strict=True)
    )


def _with_outputs(content: bytes, path: Any, layers: Sequence[str]) -> bytes:
    onnx = need("onnx", "quality")
    model = onnx.load_model_from_string(content)
    known = {name for node in model.graph.node for name in node.output}
    for name in layers:
        if name not in known:
            raise ValueError(f"layers: {path} has no tensor {name!r}")
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in layers)
    return model.SerializeToString()


def convolution_inputs(path: str | Path) -> tuple[str, ...]:
    """What the convolutions of an ONNX network take, but for the first: its feature maps, from fine to coarse.

    Parameters
    ----------
    path : path

    Returns
    -------
    tuple of str
        Names for `Extractor`'s `layers`, each once.

    Raises
    ------
    ValueError
        Where there are fewer than two convolutions.
    """
    onnx = need("onnx", "quality")
    graph = onnx.load_model(str(path), load_external_data=False).graph
    given = {value.name for value in graph.input}
    names = [node.input[0] for node in graph.node if node.op_type == "Conv"]
    maps = tuple(dict.fromkeys(name for name in names if name not in given))
    if not maps:
        raise ValueError(f"path = {path}: {len(names)} convolutions: must have a second one")
    return maps


def haar_detail(images: ArrayLike, order: int = 2) -> NDArray[np.float64]:
    """How much detail images have at the scale of two pixels: means of the Haar coefficients of the finest level.

    Features for FID and KID that see just what plain upsampling by two cannot make up, whatever the images show. Of
    order 2, root mean squares, they follow edges; of order 1, mean absolutes, faint texture in flat areas counts as
    well.

    Parameters
    ----------
    images : (n, height, width, channels) array_like of uint8
        Even sides.
    order : 1 or 2

    Returns
    -------
    (n, 3 channels) ndarray
        Of differences along rows, along columns and along both, for each channel, in levels.

    Raises
    ------
    ValueError
        For another shape, type or order, naming it.

    Examples
    --------
    >>> stripes = np.tile(np.uint8([0, 8, 0, 0]), (1, 4, 1))[..., None]
    >>> haar_detail(stripes, 1)
    array([[4., 0., 0.]])
    >>> haar_detail(stripes).round(3)
    array([[5.657, 0.   , 0.   ]])
    """
    if order not in (1, 2):
        raise ValueError(f"order = {order!r}: must be 1 or 2")
    array = _validate.plain("images", images)
    if array.ndim != 4 or array.dtype != np.uint8 or array.shape[1] % 2 or array.shape[2] % 2 or not array.size:
        raise ValueError(
            f"images of shape {array.shape} and type {array.dtype}: must be (n, height, width, channels) uint8, "
            f"sides even"
        )
    n, height, width, channels = array.shape
    blocks = array.reshape(n, height // 2, 2, width // 2, 2, channels).astype(np.float32) / 2
    above, below = blocks[:, :, 0], blocks[:, :, 1]
    left, right = above[:, :, :, 0] + below[:, :, :, 0], above[:, :, :, 1] + below[:, :, :, 1]
    upper, lower = above[:, :, :, 0] + above[:, :, :, 1], below[:, :, :, 0] + below[:, :, :, 1]
    across = above[:, :, :, 0] - above[:, :, :, 1] - below[:, :, :, 0] + below[:, :, :, 1]
    bands = [
        (np.abs(band) ** order).mean((1, 2), dtype=np.float64) ** (1 / order)
        for band in (left - right, upper - lower, across)
    ]
    return np.concatenate(bands, axis=1)
