"""Checks of arguments: what passes is a float or a read-only float64 array, what fails names itself."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def real(
    name: str,
    value: ArrayLike,
    low: float = -np.inf,
    high: float = np.inf,
    *,
    low_open: bool = False,
    high_open: bool = False,
    infinite: bool = False,
) -> Any:
    """`value` as a float (shape ()) or a read-only float64 array, every element within the range.

    Raises
    ------
    ValueError
        Naming the parameter, its first bad value and the range.

    Examples
    --------
    >>> real("load", 0.5, 0, 1)
    0.5
    >>> real("load", [0.5, 1.5], 0, 1)
    Traceback (most recent call last):
    ...
    ValueError: load[1] = 1.5: must be in [0, 1]
    """
    bounds = ("(" if low_open or np.isinf(low) else "[") + f"{low:g}, {high:g}"
    bounds += ")" if high_open or np.isinf(high) else "]"
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} = {value!r}: must be real numbers in {bounds}") from error
    good = (array > low if low_open else array >= low) & (array < high if high_open else array <= high)
    if not infinite:
        good &= np.isfinite(array)
    if not good.all():
        index = tuple(int(i) for i in np.argwhere(~good)[0])
        where = f"[{', '.join(map(str, index))}]" if index else ""
        raise ValueError(f"{name}{where} = {array[index]:.17g}: must be in {bounds}")
    if array.ndim == 0:
        return float(array)
    array.flags.writeable = False
    return array


def positive(name: str, value: ArrayLike) -> Any:
    """`real` on (0, inf)."""
    return real(name, value, 0, low_open=True)


def scalar(name: str, value: Any, low: float = -np.inf, high: float = np.inf, *, low_open: bool = False) -> float:
    """`real` of one number.

    Examples
    --------
    >>> scalar("slowdown", [1.0, 2.0], 0)
    Traceback (most recent call last):
    ...
    ValueError: slowdown = [1.0, 2.0]: must be one number
    """
    number = real(name, value, low, high, low_open=low_open)
    if not isinstance(number, float):
        raise ValueError(f"{name} = {value!r}: must be one number")
    return number


def whole(name: str, value: Any, low: int) -> int:
    """`value` as an int >= low.

    Examples
    --------
    >>> whole("jobs", 0, 1)
    Traceback (most recent call last):
    ...
    ValueError: jobs = 0: must be a whole number >= 1
    """
    try:
        if not isinstance(value, bool) and int(value) == value and value >= low:
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{name} = {value!r}: must be a whole number >= {low}")


def choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """`value` if it is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} = {value!r}: must be one of {', '.join(map(repr, choices))}")
    return value


def broadcast_shapes(**shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Common shape; the error names the parameters.

    Examples
    --------
    >>> broadcast_shapes(arrival_rate=(2,), deadline=(3,))
    Traceback (most recent call last):
    ...
    ValueError: shapes do not broadcast: arrival_rate (2,), deadline (3,)
    """
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        text = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"shapes do not broadcast: {text}") from None


class Value:
    """Equality by fields for frozen dataclasses whose fields may be arrays."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        mine, theirs = vars(self), vars(other)
        return mine.keys() == theirs.keys() and all(_same(mine[name], theirs[name]) for name in mine)

    def __hash__(self) -> int:
        return hash((type(self), *(_key(value) for value in vars(self).values())))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return bool(a == b)


def _key(value: Any) -> Any:
    return (value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def flat(value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """`value` broadcast to `shape` and made one-dimensional."""
    return np.ascontiguousarray(np.broadcast_to(np.asarray(value, dtype=np.float64), shape)).reshape(-1)
