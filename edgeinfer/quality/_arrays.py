"""Checks of the arrays that metrics take."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate


def finite(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """An array of real numbers, none infinite and none NaN."""
    array = _validate.numbers(name, value)
    if not np.isfinite(array).all():
        where = ", ".join(str(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name}[{where}] is not finite: must be real numbers in (-inf, inf)")
    return array


def pair(
    name: str, value: ArrayLike, other_name: str, other: ArrayLike, least: int = 2
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two sets of vectors of as many features, at least so many in each."""
    x, y = finite(name, value), finite(other_name, other)
    for label, side in ((name, x), (other_name, y)):
        if side.ndim != 2 or side.shape[1] == 0:
            raise ValueError(f"{label} of shape {side.shape}: must be (samples, features)")
        if len(side) < least:
            raise ValueError(f"{label}: {len(side)} samples: must be at least {least}")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{name}: {x.shape[1]} features, {other_name}: {y.shape[1]}: must be as many")
    return x, y
