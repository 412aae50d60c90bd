"""Checks of flags and labels, which must not lack any."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate


def complete(name: str, value: Any, what: str) -> NDArray[Any]:
    """`value` as an array of any type, none of whose entries is masked or NaN.

    Examples
    --------
    >>> complete("groups", [0.0, np.nan], "a label for each item")
    Traceback (most recent call last):
    ...
    ValueError: groups[1] = nan: must be a label for each item; fill it, or leave it out
    """
    _validate.refuse_masked(name, value, what)
    array = np.asarray(value)
    lacking = np.vectorize(_lacks, otypes=[bool])(array) if array.dtype.kind == "O" else np.asarray(array != array)
    if lacking.any():
        index = tuple(int(i) for i in np.argwhere(lacking)[0])
        raise ValueError(f"{name}{list(index) or ''} = {array[index]}: must be {what}; fill it, or leave it out")
    return array


def _lacks(item: Any) -> bool:
    """Whether an object stands for a value that is not there: None, NaN, NA, whose comparisons are no booleans."""
    same = item == item
    return item is None or not (isinstance(same, bool | np.bool_) and bool(same))
