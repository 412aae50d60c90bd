"""Codecs for what crosses a cut: channels chosen, PCA, an autoencoder, quantised and entropy-coded, as real bytes."""

import io
import json
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer._files import replacing
from edgeinfer.bridge.channels import IMPORTANCES, importance
from edgeinfer.bridge.exits import ExitNetwork
from edgeinfer.bridge.quantisers import Quantiser, lloyd_max, uniform
from edgeinfer.estimates import Estimate, proportions
from edgeinfer.network.files import Part
from edgeinfer.network.graphs import count_flops
from edgeinfer.network.sessions import open_session, session_options

FORMAT = 1
#: Of one member of a codec's file.
_LARGEST_MEMBER = 1 << 28
_ZSTD_LEVEL = 19
_PCA_SIZES = (8, 16, 24, 32, 48, 64)


def _finite(name: str, value: ArrayLike, ndim: int) -> NDArray[np.float32]:
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
        fill = _finite("fill", self.fill, 3)
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
    x = _finite("features", features, 4)
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
        mean, components = _finite("mean", self.mean, 3), _finite("components", self.components, 2)
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
    x = _finite("features", features, 4)
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


Step = Channels | PCA | Autoencoder


@dataclass(frozen=True, eq=False)
class Codec(_validate.Value):
    """A tensor as bytes and back.

    Each step is applied to what the one before gives, then the quantiser's indices are packed at its bits a value (float32
    without a quantiser). With `entropy` the message is zstd's frame instead wherever that is shorter; the two are told
    apart by their length, so that no bit is spent on it. Messages have no checksum: of damaged ones only those that
    break the format are refused.

    Parameters
    ----------
    shape : tuple of int
        Channels, height, width of the tensor.
    steps : sequence of Channels, PCA or Autoencoder
    quantiser : Quantiser, optional
        Its groups are the first axis of what the last step gives.
    entropy : bool
        Needs the library zstandard.

    Examples
    --------
    >>> from edgeinfer.bridge.quantisers import uniform
    >>> x = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 2, 2)
    >>> codec = Codec((2, 2, 2), [], uniform(x[None], 4))
    >>> len(codec.encode(x)), bool(np.abs(codec.decode(codec.encode(x)) - x).max() < 1 / 32)
    (4, True)
    """

    shape: tuple[int, ...]
    steps: Sequence[Step] = ()
    quantiser: Quantiser | None = None
    entropy: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.shape, Sequence) or len(self.shape) != 3:
            raise ValueError(f"shape = {self.shape!r}: must be (channels, height, width)")
        shape = tuple(_validate.whole(f"shape[{i}]", size, 1) for i, size in enumerate(self.shape))
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "steps", tuple(self.steps))
        for number, step in enumerate(self.steps):
            if not isinstance(step, Step):
                raise ValueError(f"steps[{number}] = {step!r}: must be a Channels, PCA or Autoencoder")
            if step.input != shape:
                raise ValueError(f"steps[{number}]: takes {step.input}: must take {shape}, what comes before it")
            shape = step.output
        object.__setattr__(self, "code", shape)
        if self.quantiser is not None and self.quantiser.groups != shape[0]:
            raise ValueError(f"quantiser has {self.quantiser.groups} groups: must have {shape[0]}")

    @property
    def fixed_bits(self) -> int:
        """Of a message without entropy coding: the most one may take, bit."""
        width = 32 if self.quantiser is None else self.quantiser.bits
        return 8 * math.ceil(math.prod(self.code) * width / 8)  # type: ignore[attr-defined]

    @property
    def flops(self) -> tuple[int, int]:
        """Of encoding and of decoding one tensor, FLOP: the steps' products; rounding and zstd are not counted."""
        pairs = [step.flops for step in self.steps]
        return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)

    def encode(self, tensor: ArrayLike) -> bytes:
        """The message of one tensor of `shape`; ValueError for another shape or values that are not finite."""
        x = _validate.plain("tensor", tensor).astype(np.float32, copy=False)
        if x.shape != self.shape:
            raise ValueError(f"tensor of shape {x.shape}: must be {self.shape}")
        if not np.isfinite(x).all():
            raise ValueError("tensor: must be finite")
        y = x[None]
        for step in self.steps:
            y = step.forward(y)
        if self.quantiser is None:
            plain = packed = y.astype("<f4").tobytes()
        else:
            indices = self.quantiser.indices(y[0]).reshape(-1)
            plain, packed = indices.tobytes(), _pack(indices, self.quantiser.bits)
        if self.entropy:
            squeezed = _compressor().compress(plain)
            if len(squeezed) < len(packed):
                return squeezed
        return packed

    def decode(self, message: bytes) -> NDArray[np.float32]:
        """The tensor of a message.

        Raises
        ------
        ValueError
            Where no `encode` of this codec writes such a message.
        """
        size = math.prod(self.code)  # type: ignore[attr-defined]
        message = bytes(message)
        packed = len(message) == self.fixed_bits // 8
        if not packed and not (self.entropy and len(message) < self.fixed_bits // 8):
            raise ValueError(f"message of {len(message)} bytes: must have {self.fixed_bits // 8}")
        plain = message
        if not packed:
            plain = _decompress(message, size if self.quantiser is not None else 4 * size)
        if self.quantiser is None:
            y = np.frombuffer(plain, "<f4").astype(np.float32)
            if not np.isfinite(y).all():
                raise ValueError("message: holds values that are not finite")
            y = y.reshape(self.code)  # type: ignore[attr-defined]
        else:
            indices = _unpack(plain, size, self.quantiser.bits) if packed else np.frombuffer(plain, np.uint8)
            y = self.quantiser.values(indices.reshape(self.code))  # type: ignore[attr-defined]
        y = y[None]
        for step in reversed(self.steps):
            y = step.backward(y)
        return y[0]

    def save(self, path: str | Path) -> None:
        """Write one file, atomically: a zip of codec.json, arrays.npz and the ONNX files."""
        arrays: dict[str, NDArray[Any]] = {}
        steps = []
        files: dict[str, bytes] = {}
        for number, step in enumerate(self.steps):
            entry: dict[str, Any] = {"kind": step.kind}
            arrays |= {f"{number}_{name}": array for name, array in step.arrays().items()}
            if isinstance(step, Autoencoder):
                entry |= {"input": list(step.input), "output": list(step.output)}
                files |= {f"{number}_encoder.onnx": step.encoder, f"{number}_decoder.onnx": step.decoder}
            steps.append(entry)
        if self.quantiser is not None:
            arrays["levels"] = self.quantiser.levels
        head = {"format": FORMAT, "shape": list(self.shape), "steps": steps, "entropy": bool(self.entropy)}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)  # type: ignore[arg-type]
        files |= {"codec.json": json.dumps(head, indent=1).encode(), "arrays.npz": buffer.getvalue()}
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                # A fixed date, so that the same codec gives the same bytes.
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)

    @classmethod
    def load(cls, path: str | Path) -> "Codec":
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            Naming the file and what is wrong with it.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    if member.file_size > _LARGEST_MEMBER:
                        raise ValueError(
                            f"{member.filename} of {member.file_size} bytes: must be at most {_LARGEST_MEMBER}"
                        )
                head = json.loads(archive.read("codec.json"))
                if not isinstance(head, dict) or head.get("format") != FORMAT:
                    raise ValueError(f"format: must be {FORMAT}")
                with np.load(io.BytesIO(archive.read("arrays.npz")), allow_pickle=False) as stored:
                    arrays = dict(stored)
                steps = [_step(number, entry, arrays, archive) for number, entry in enumerate(head["steps"])]
            quantiser = Quantiser(arrays["levels"]) if "levels" in arrays else None
            return cls(tuple(head["shape"]), steps, quantiser, head["entropy"] is True)
        except Exception as error:  # zip, zlib, NumPy and JSON each have types of their own for a damaged file
            raise ValueError(f"{path}: not a codec: {error!r}") from error


def _step(number: int, entry: Any, arrays: Mapping[str, Any], archive: zipfile.ZipFile) -> Step:
    kind = entry["kind"]
    if kind == "channels":
        return Channels(arrays[f"{number}_kept"], arrays[f"{number}_fill"])
    if kind == "pca":
        return PCA(arrays[f"{number}_mean"], arrays[f"{number}_components"])
    if kind == "autoencoder":
        files = (archive.read(f"{number}_{side}.onnx") for side in ("encoder", "decoder"))
        return Autoencoder(tuple(entry["input"]), tuple(entry["output"]), *files)
    raise ValueError(f"steps[{number}].kind = {kind!r}: must be 'channels', 'pca' or 'autoencoder'")


def _pack(indices: NDArray[np.uint8], bits: int) -> bytes:
    planes = (indices[:, None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(planes).tobytes()


def _unpack(message: bytes, size: int, bits: int) -> NDArray[np.uint8]:
    flat = np.unpackbits(np.frombuffer(message, np.uint8))
    if flat[size * bits :].any():
        raise ValueError("message: the bits that fill its last byte must be 0")
    return flat[: size * bits].reshape(size, bits) @ (1 << np.arange(bits)).astype(np.uint8)


def _compressor() -> Any:
    zstandard = need("zstandard", "bridge")
    return zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            _ZSTD_LEVEL,
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
            write_content_size=False,
            write_checksum=False,
            write_dict_id=False,
        )
    )


def _decompress(message: bytes, size: int) -> bytes:
    """The `size` bytes that a frame holds; nothing larger is allocated, whatever the frame says of itself."""
    zstandard = need("zstandard", "bridge")
    kind = zstandard.FORMAT_ZSTD1_MAGICLESS
    try:
        stated = zstandard.get_frame_parameters(message, format=kind).content_size
        if stated not in (zstandard.CONTENTSIZE_UNKNOWN, size):
            raise ValueError(f"message holds {stated} bytes: must hold {size}")
        reader = zstandard.ZstdDecompressor(format=kind)
        plain = reader.decompress(message, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"message of {len(message)} bytes: not zstd: {error}") from error
    if len(plain) != size:
        raise ValueError(f"message holds {len(plain)} bytes: must hold {size}")
    return plain


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
    """A point from messages' lengths in byte and from which inputs were answered rightly, with and without the codec."""
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
    features, y = network.features(images, cut), _validate.plain("labels", labels)
    untouched = network.finish(features, cut).argmax(1) == y
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

    The points are the pixels packed as they are, lossless; for each quality a JPEG file; and of that file the scan alone,
    as if both sides agreed on all headers and tables beforehand.

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
    x, y = _validate.plain("images", images).astype(np.float32, copy=False), _validate.plain("labels", labels)
    steps = _validate.whole("levels", levels, 2) - 1
    if steps > 255 or x.ndim != 4 or x.shape[1] != 1 or np.abs(x * steps - np.rint(x * steps)).max() > 1e-3:
        raise ValueError(f"levels = {levels}: images must be of one channel and of so many levels, at most 256")

    def right(pixels: NDArray[Any]) -> NDArray[np.bool_]:
        return network.probabilities(pixels)[-1].argmax(1) == y

    untouched = right(x)
    packed = math.ceil(math.prod(x.shape[1:]) * math.ceil(math.log2(levels)) / 8)
    points = [rate_point("pixels", np.full(len(x), packed), untouched, untouched)]
    for quality in qualities:
        if _validate.whole("quality", quality, 1) > 95:
            raise ValueError(f"quality = {quality}: must be at most 95")
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


def fit_codec(
    features: ArrayLike,
    steps: Sequence[Step] = (),
    quantiser: Callable[[ArrayLike, int], Quantiser] | None = None,
    bits: int = 8,
    *,
    entropy: bool = False,
) -> Codec:
    """A codec whose quantiser is fitted to what its steps give on training features.

    Parameters
    ----------
    features : (n, channels, height, width) array_like
    steps : sequence of Channels, PCA or Autoencoder
    quantiser : `uniform` or `lloyd_max`, optional
        float32 crosses where left out.
    bits : int
        Of one value, 1 .. 8.
    entropy : bool
        As in `Codec`.

    Examples
    --------
    >>> from edgeinfer.bridge.quantisers import lloyd_max
    >>> x = np.random.default_rng(0).normal(size=(50, 4, 2, 2))
    >>> fit_codec(x, [fit_pca(x, 3)], lloyd_max, 2).fixed_bits
    8
    """
    x = _finite("features", features, 4)
    codec = Codec(x.shape[1:], steps, None, entropy)
    if quantiser is None:
        return codec
    y = np.asarray(x)
    for step in codec.steps:
        y = step.forward(y)
    return Codec(codec.shape, codec.steps, quantiser(y, bits), entropy)


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
    transforms: dict[str, list[Step]] = {f"plain {x[0].size}": []}
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
