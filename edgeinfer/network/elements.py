"""Types of a tensor's elements: their names, bits, and which may cross a link."""

import re
from functools import cache
from typing import Any

_NUMPY_NAMES = {"float": "float32", "double": "float64", "string": "str"}
#: Types that may cross a link: those of the Open Inference Protocol that NumPy has, too.
CROSSING = frozenset(
    ["bool", "float16", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
)


def numpy_name(name: str) -> str:
    """NumPy's name of an element type that ONNX names `name`; ONNX's where NumPy has no such type.

    Examples
    --------
    >>> numpy_name("float"), numpy_name("int64"), numpy_name("bfloat16")
    ('float32', 'int64', 'bfloat16')
    """
    return _NUMPY_NAMES.get(name, name)


@cache
def element_name(onnx: Any, element: int) -> str:
    """Name of a TensorProto.DataType; ValueError for a number that is none."""
    try:
        return numpy_name(onnx.TensorProto.DataType.Name(element).lower())
    except ValueError:
        raise ValueError(f"type of a tensor = {element}: must be one that ONNX knows") from None


@cache
def element_bits(dtype: str) -> int:
    """Bits of an element; 0 where elements differ in length.

    Examples
    --------
    >>> [element_bits(name) for name in ("float32", "float8e4m3fn", "int4", "bool", "str")]
    [32, 8, 4, 8, 0]
    """
    if dtype == "bool":
        return 8
    found = re.fullmatch(r"[a-z]+(\d+)\w*", dtype)
    return int(found[1]) if found else 0
