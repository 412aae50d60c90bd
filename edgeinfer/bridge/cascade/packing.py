"""Latents as they cross the wire."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.bridge.cascade.manifest import WIRE_BITS

_LARGEST = 1e30


_FLOAT16_LARGEST = float(np.finfo(np.float16).max)


def pack(latent: NDArray[np.float32], dtype: str, range: tuple[float, float] | None = None) -> NDArray[Any]:
    """A latent as it crosses the wire.

    Parameters
    ----------
    latent : (...) ndarray, float32
        Finite.
    dtype : "float32", "float16" or "uint8"
    range : tuple of float, optional
        Interval that uint8 maps to 0 .. 255 in equal steps, rounding to the nearest; values beyond it are clipped.

    Returns
    -------
    (...) ndarray of `dtype`

    Examples
    --------
    >>> pack(np.array([-1, 0.002, 1.5], np.float32), "uint8", (-1, 1))
    array([  0, 128, 255], dtype=uint8)
    """
    _validate.choice("dtype", dtype, tuple(WIRE_BITS))
    latent = float32_array("latent", latent)
    if not np.isfinite(latent).all():
        raise ValueError("latent: must be finite")
    if dtype == "float16" and np.abs(latent).max(initial=0) > _FLOAT16_LARGEST:
        raise ValueError(f"latent = {np.abs(latent).max():g}: must be at most {_FLOAT16_LARGEST:g} for float16")
    if dtype != "uint8":
        return latent.astype(dtype)
    low, high = _interval(range)
    scaled = np.clip(latent, low, high)
    scaled -= np.float32(low)
    scaled *= np.float32(255 / (high - low))
    return np.rint(scaled, out=scaled).astype(np.uint8)


def unpack(packed: NDArray[Any], range: tuple[float, float] | None = None) -> NDArray[np.float32]:
    """The latent that `pack` packed, float32; exact for float32, to half a step for float16 and uint8.

    Parameters
    ----------
    packed : (...) ndarray, float32, float16 or uint8
    range : tuple of float, optional
        As `pack` was given; needed for uint8.

    Examples
    --------
    >>> unpack(np.array([0, 255], np.uint8), (-1, 1))
    array([-1.,  1.], dtype=float32)
    """
    packed = _validate.plain("packed", packed)
    _validate.choice("type of packed", packed.dtype.name, tuple(WIRE_BITS))
    latent = packed.astype(np.float32)
    if packed.dtype == np.uint8:
        low, high = _interval(range)
        latent *= np.float32((high - low) / 255)
        latent += np.float32(low)
    elif not np.isfinite(latent).all():
        raise ValueError("packed: must be finite")
    return latent


def _interval(value: Any) -> tuple[float, float]:
    if value is None:
        raise ValueError("range = None: uint8 needs the interval (low, high) that it quantises")
    interval = np.atleast_1d(_validate.real("range", value, -_LARGEST, _LARGEST))
    # float32 must tell the 256 levels apart.
    if interval.shape != (2,) or interval[1] - interval[0] < max(1e-4 * np.abs(interval).max(), 1 / _LARGEST):
        raise ValueError(f"range = {value!r}: must be (low, high) with low < high, 1e-4 of the larger apart")
    return float(interval[0]), float(interval[1])


def float32_array(name: str, value: Any) -> NDArray[np.float32]:
    array = np.asarray(value)
    if array.dtype != np.float32:
        raise ValueError(f"{name} of type {array.dtype}: must be float32")
    return array
