"""Codecs for what crosses a cut: channels chosen, PCA, an autoencoder, quantised and entropy-coded, as real bytes."""

import io
import json
import math
import threading
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer._files import replacing
from edgeinfer.bridge.codec.quantisers import Quantiser
from edgeinfer.bridge.codec.steps import PCA, Autoencoder, Channels, CodecStep, finite_array

FORMAT = 1
#: Of one member of a codec's file.
_LARGEST_MEMBER = 1 << 28
_ZSTD_LEVEL = 19
_made = threading.local()


@dataclass(frozen=True, eq=False)
class Codec(_validate.Value):
    """A tensor as bytes and back.

    Each step is applied to what the one before gives, then the quantiser's indices are packed at its bits a value
    (float32 without a quantiser). With `entropy` the message is zstd's frame instead wherever that is shorter; the two
    are told apart by their length, so that no bit is spent on it. Messages have no checksum: of damaged ones only those
    that break the format are refused.

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
    >>> from edgeinfer.bridge.codec.quantisers import uniform
    >>> x = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 2, 2)
    >>> codec = Codec((2, 2, 2), [], uniform(x[None], 4))
    >>> len(codec.encode(x)), bool(np.abs(codec.decode(codec.encode(x)) - x).max() < 1 / 32)
    (4, True)
    """

    shape: tuple[int, ...]
    steps: Sequence[CodecStep] = ()
    quantiser: Quantiser | None = None
    entropy: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.shape, Sequence) or len(self.shape) != 3:
            raise ValueError(f"shape = {self.shape!r}: must be (channels, height, width)")
        shape = tuple(_validate.whole(f"shape[{i}]", size, 1) for i, size in enumerate(self.shape))
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "steps", tuple(self.steps))
        for number, step in enumerate(self.steps):
            if not isinstance(step, CodecStep):
                raise ValueError(f"steps[{number}] = {step!r}: must be a Channels, PCA or Autoencoder")
            if step.input != shape:
                raise ValueError(f"steps[{number}]: takes {step.input}: must take {shape}, what comes before it")
            shape = step.output
        object.__setattr__(self, "code", shape)
        if self.quantiser is not None and self.quantiser.groups != shape[0]:
            raise ValueError(f"quantiser has {self.quantiser.groups} groups: must have {shape[0]}")

    @property
    def fixed_bits(self) -> int:
        """The bits of a message without entropy coding: the most one may take."""
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


def _step(number: int, entry: Any, arrays: Mapping[str, Any], archive: zipfile.ZipFile) -> CodecStep:
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
    """One a thread: it is costly to make, and two threads must not share it."""
    if not hasattr(_made, "compressor"):
        zstandard = need("zstandard", "bridge")
        _made.compressor = zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters.from_level(
                _ZSTD_LEVEL,
                format=zstandard.FORMAT_ZSTD1_MAGICLESS,
                write_content_size=False,
                write_checksum=False,
                write_dict_id=False,
            )
        )
    return _made.compressor


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


def fit_codec(
    features: ArrayLike,
    steps: Sequence[CodecStep] = (),
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
        It is as in `Codec`.

    Examples
    --------
    >>> from edgeinfer.bridge import fit_pca, lloyd_max
    >>> x = np.random.default_rng(0).normal(size=(50, 4, 2, 2))
    >>> fit_codec(x, [fit_pca(x, 3)], lloyd_max, 2).fixed_bits
    8
    """
    x = finite_array("features", features, 4)
    codec = Codec(x.shape[1:], steps, None, entropy)
    if quantiser is None:
        return codec
    y = np.asarray(x)
    for step in codec.steps:
        y = step.forward(y)
    return Codec(codec.shape, codec.steps, quantiser(y, bits), entropy)
