"""Steps of a codec before its quantiser: channels selected, principal components, a trained autoencoder."""

import io
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.network.files import Part
from edgeinfer.network.graphs import count_flops
from edgeinfer.network.sessions import open_session, session_options


def finite_array(name: str, value: ArrayLike, ndim: int) -> NDArray[np.float32]:
    limit = float(np.finfo(np.float32).max)
    array = np.asarray(_validate.real(name, value, -limit, limit)).astype(np.float32)
    if array.ndim != ndim or not array.size:
        raise ValueError(f"{name} of shape {array.shape}: must have {ndim} axes and not be empty")
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Channels(_validate.Value):
    """Some channels cross, the others become a constant map on the other side.

    Parameters
    ----------
    kept : (k,) array_like of int
        Channels, each once.
    fill : (channels, height, width) array_like
        What stands for the others: their mean over training data.
    """

    kept: Any
    fill: Any
    kind: ClassVar[str] = "channels"

    def __post_init__(self) -> None:
        fill = finite_array("fill", self.fill, 3)
        kept = np.sort(np.atleast_1d(_validate.real("kept", self.kept, 0, len(fill) - 1)))
        if kept.ndim != 1 or not kept.size or (kept % 1).any() or (np.diff(kept) == 0).any():
            raise ValueError(f"kept = {self.kept!r}: must be channels of 0 .. {len(fill) - 1}, each once")
        object.__setattr__(self, "kept", kept.astype(np.int64))
        object.__setattr__(self, "fill", fill)
        super().__post_init__()

    @property
    def input(self) -> tuple[int, ...]:
        """Shape before."""
        return self.fill.shape

    @property
    def output(self) -> tuple[int, ...]:
        """Shape after."""
        return (len(self.kept), *self.fill.shape[1:])

    @property
    def flops(self) -> tuple[int, int]:
        """Before and behind the cut: none."""
        return 0, 0

    def forward(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, *input) to (n, *output)."""
        return x[:, self.kept]

    def backward(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, *output) to (n, *input)."""
        x = np.repeat(self.fill[None], len(y), 0)
        x[:, self.kept] = y
        return x

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What the file keeps."""
        return {"kept": self.kept, "fill": self.fill}


def select_channels(features: ArrayLike, importance: ArrayLike, keep: int) -> Channels:
    """The `keep` most important channels; the mean of the training `features` (n, channels, ...) for the others.

    Examples
    --------
    >>> select_channels(np.ones((5, 3, 2, 2)), [0.2, 0.5, 0.3], 2).kept
    array([1, 2])
    """
    x = finite_array("features", features, 4)
    order = np.argsort(-np.asarray(_validate.real("importance", importance)), kind="stable")
    if order.shape != x.shape[1:2]:
        raise ValueError(f"importance of shape {order.shape}: must be {x.shape[1:2]}")
    if _validate.whole("keep", keep, 1) > len(order):
        raise ValueError(f"keep = {keep}: must be at most {len(order)}, the channels")
    return Channels(order[:keep], x.mean(0, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class PCA(_validate.Value):
    """Principal components: a tensor as its first coefficients about the mean.

    Parameters
    ----------
    mean : (channels, height, width) array_like
    components : (k, channels * height * width) array_like
        Orthonormal rows.
    """

    mean: Any
    components: Any
    kind: ClassVar[str] = "pca"

    def __post_init__(self) -> None:
        mean, components = finite_array("mean", self.mean, 3), finite_array("components", self.components, 2)
        if components.shape[1] != mean.size or len(components) > mean.size:
            raise ValueError(f"components of shape {components.shape}: must be (at most {mean.size}, {mean.size})")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "components", components)
        super().__post_init__()

    @property
    def input(self) -> tuple[int, ...]:
        """Shape before."""
        return self.mean.shape

    @property
    def output(self) -> tuple[int, ...]:
        """Shape after."""
        return (len(self.components),)

    @property
    def flops(self) -> tuple[int, int]:
        """Of one tensor before and behind the cut, FLOP, two a multiply-add."""
        return 2 * self.components.size, 2 * self.components.size

    def forward(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, *input) to (n, k)."""
        return (x - self.mean).reshape(len(x), -1) @ self.components.T

    def backward(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, k) to (n, *input)."""
        return (y @ self.components).reshape(-1, *self.mean.shape) + self.mean

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What the file keeps."""
        return {"mean": self.mean, "components": self.components}


def fit_pca(features: ArrayLike, components: int) -> PCA:
    """The first principal components of training features (n, channels, height, width), n > components.

    Each component's largest entry is positive, which settles its sign.
    """
    x = finite_array("features", features, 4)
    limit = min(len(x) - 1, math.prod(x.shape[1:]))
    if _validate.whole("components", components, 1) > limit:
        raise ValueError(f"components = {components}: must be at most {limit} for features of shape {x.shape}")
    mean = x.mean(0, dtype=np.float64)
    rows = np.linalg.svd((x - mean).reshape(len(x), -1), full_matrices=False)[2][:components]
    largest = np.take_along_axis(rows, np.abs(rows).argmax(1)[:, None], 1)
    return PCA(mean, rows * np.sign(largest))


@dataclass(frozen=True, eq=False)
class Autoencoder(_validate.Value):
    """A trained autoencoder: two ONNX networks of one input and one output each.

    Parameters
    ----------
    input : tuple of int
        Channels, height, width of the tensor.
    output : tuple of int
        Shape of the code.
    encoder, decoder : bytes
        ONNX files.
    """

    input: tuple[int, ...]
    output: tuple[int, ...]
    encoder: bytes
    decoder: bytes
    kind: ClassVar[str] = "autoencoder"

    def __post_init__(self) -> None:
        for name in ("input", "output"):
            sizes = tuple(_validate.whole(f"{name}[{i}]", size, 1) for i, size in enumerate(getattr(self, name)))
            object.__setattr__(self, name, sizes)

    @cached_property
    def _sessions(self) -> dict[str, Any]:
        return {}

    def _run(self, name: str, x: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
        try:
            if name not in self._sessions:
                self._sessions[name] = open_session(getattr(self, name), name, session_options())
            session = self._sessions[name]
            y = session.run(None, {session.get_inputs()[0].name: x})[0]
        except Exception as error:  # each failure of ONNX Runtime has a type of its own
            raise ValueError(f"{name}: ONNX Runtime cannot run it: {error}") from error
        if y.shape[1:] != shape:
            raise ValueError(f"{name}: output of shape {y.shape}: must be (n, {', '.join(map(str, shape))})")
        return y

    @cached_property
    def flops(self) -> tuple[int, int]:
        """Of one tensor before and behind the cut, FLOP, as `count_flops` counts."""
        onnx = need("onnx", "bridge")

        def cost(file: bytes, shape: tuple[int, ...]) -> int:
            name = onnx.load_model(io.BytesIO(file)).graph.input[0].name
            return count_flops(io.BytesIO(file), {name: (1, *shape)})

        return cost(self.encoder, self.input), cost(self.decoder, self.output)

    def forward(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, *input) to (n, *output)."""
        return self._run("encoder", x, self.output)

    def backward(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, *output) to (n, *input)."""
        return self._run("decoder", y, self.input)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What the file keeps in arrays: nothing, the networks are files of their own."""
        return {}


def read_autoencoder(encoder: Part, decoder: Part) -> Autoencoder:
    """An autoencoder from two parts of a model's folder, as `ExitManifest.autoencoders` names them."""
    shapes = []
    for part in (encoder, decoder):
        if len(part.inputs) != 1:
            raise ValueError(f"{part.name}/model.onnx: must have one input")
        sizes = next(iter(part.inputs.values())).shape[1:]
        if None in sizes:
            raise ValueError(f"{part.name}/model.onnx: shape of its input must be fixed but for the batch")
        shapes.append(tuple(size for size in sizes if size is not None))
    return Autoencoder(shapes[0], shapes[1], encoder.path.read_bytes(), decoder.path.read_bytes())


CodecStep = Channels | PCA | Autoencoder
