"""Tensors as they cross a link: as they are, or in fewer bits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate

#: Types that floats may cross a link in, the widest first; float32 stands for the tensor's own.
WIRES = ("float32", "float16", "int8")
# Scale and offset go along with int8, as float32.
_HEADER_BITS = 64
_LEVELS = 255


def wire_bits(tensor: Any, wire: str) -> int:
    """Bits of a tensor on the wire; its own where that type would not be shorter, or it holds no floats.

    Examples
    --------
    >>> from edgeinfer.network import Tensor
    >>> [wire_bits(Tensor("h", "float32", (100,), 3200), wire) for wire in WIRES]
    [3200, 1600, 864]
    """
    if tensor.stays or not tensor.dtype.startswith("float") or wire == "float32":
        return int(tensor.bits)
    own = int(tensor.dtype.removeprefix("float"))
    count = tensor.bits // own
    return int(min(tensor.bits, 16 * count if wire == "float16" else 8 * count + _HEADER_BITS))


def narrow(values: NDArray[Any], wire: str) -> tuple[NDArray[Any], float, float]:
    """Floats as they cross in a type of `WIRES`, with the scale and the offset that int8 needs.

    int8: the least value becomes -128 and the greatest 127, in equal steps, each rounded to the nearest. Besides what
    float32 rounds, the error is at most half a step, (greatest - least) / 510.

    Parameters
    ----------
    values : (...) ndarray of floats
    wire : {"float32", "float16", "int8"}

    Raises
    ------
    ValueError
        Values that are not finite, or too large for float16 or for steps in float32: they must cross as they are.

    Examples
    --------
    >>> narrow(np.float32([0, 1, 127.5]), "int8")
    (array([-128, -126,  127], dtype=int8), 0.5, 0.0)
    """
    _validate.choice("wire", wire, WIRES)
    if wire == "float32":
        return values, 1.0, 0.0
    values = _validate.plain("values", values)
    if values.dtype == wire:
        return values, 1.0, 0.0
    least, greatest = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    # The difference of two ends must be finite, too.
    largest = float(np.finfo(np.float16).max if wire == "float16" else np.finfo(np.float32).max / 2)
    if not (np.isfinite(least) and np.isfinite(greatest)) or max(-least, greatest) > largest:
        raise ValueError(f"values in [{least:g}, {greatest:g}]: must be finite and at most {largest:g} for {wire}")
    if wire == "float16":
        return values.astype(np.float16), 1.0, 0.0
    offset = float(np.float32(least))
    # Rounded like the offset, so that both ends have the same numbers.
    scale = float(np.float32((greatest - offset) / _LEVELS))
    if scale <= 0:
        return np.full(values.shape, -128, np.int8), 0.0, offset
    steps = np.rint((values.astype(np.float32) - np.float32(offset)) / np.float32(scale))
    return (np.clip(steps, 0, _LEVELS) - 128).astype(np.int8), scale, offset


def widen(packed: NDArray[Any], scale: float, offset: float, dtype: str) -> NDArray[Any]:
    """The floats of type `dtype` that `narrow` packed.

    Raises
    ------
    ValueError
        A `dtype` that is no type of numbers; a scale or an offset that is no number.

    Examples
    --------
    >>> widen(np.int8([-128, 127]), 0.5, 1.0, "float32")
    array([  1. , 128.5], dtype=float32)
    """
    packed, kind = _validate.plain("packed", packed), _of_numbers("dtype", dtype)
    if packed.dtype != np.int8:
        return packed.astype(kind)
    scale, offset = _validate.scalar("scale", scale), _validate.scalar("offset", offset)
    values = (packed.astype(np.float32) + np.float32(128)) * np.float32(scale) + np.float32(offset)
    return np.asarray(values, kind)


def _of_numbers(name: str, value: Any) -> np.dtype[Any]:
    try:
        # NumPy takes None for float64; types of machine learning, such as bfloat16, are of kind V.
        kind = np.dtype("O" if value is None else value)
    except (TypeError, ValueError, SyntaxError):
        kind = np.dtype("O")
    if kind.kind not in "biuf" and not kind.name.startswith(("bfloat", "float")):
        raise ValueError(f"{name} = {value!r}: must be a type of numbers, such as 'float32'")
    return kind


def crossed(values: NDArray[Any], wire: str) -> NDArray[Any]:
    """What arrives of a tensor that is sent in a type of `WIRES`: as it is where that type cannot hold it.

    Examples
    --------
    >>> crossed(np.float32([2049, 1e5]), "float16"), crossed(np.float32([2049]), "float16")
    (array([  2049., 100000.], dtype=float32), array([2048.], dtype=float32))
    """
    try:
        return widen(*narrow(values, wire), str(values.dtype))
    except ValueError:
        return values


def check_wire(tensors: Mapping[str, Any], wire: Mapping[str, str]) -> dict[str, str]:
    """Wire types by tensor; ValueError for what is no tensor or no type."""
    for name, kind in wire.items():
        if name not in tensors:
            raise ValueError(f"wire[{name!r}]: must be a tensor of the network")
        _validate.choice(f"wire[{name!r}]", kind, WIRES)
    return {name: kind for name, kind in wire.items() if wire_bits(tensors[name], kind) < tensors[name].bits}
