"""Checks of arguments: what passes is a float or a read-only float64 array, what fails names itself."""

import datetime
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from functools import cached_property
from math import prod
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer._printed import summary


def real(
    name: str,
    value: ArrayLike,
    low: float = -np.inf,
    high: float = np.inf,
    *,
    low_open: bool = False,
    high_open: bool = False,
    infinite: bool = False,
    unit: str | None = None,
) -> Any:
    """`value` as a float (shape ()) or a read-only float64 array, every element within the range.

    Of which `unit` it is: durations are taken where that is "s". See `numbers` for what is refused.

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
    # A number that is inside the range needs no array, which takes ten times as long; ends go the whole way.
    if isinstance(value, float | int) and type(value) in (float, int) and low < value < high and abs(value) < _EXACT:
        return float(value)
    bounds = ("(" if low_open or np.isinf(low) else "[") + f"{low:g}, {high:g}"
    bounds += ")" if high_open or np.isinf(high) else "]"
    array = numbers(name, value, unit, f"real numbers in {bounds}")
    good = (array > low if low_open else array >= low) & (array < high if high_open else array <= high)
    if not infinite:
        good &= np.isfinite(array)
    if not good.all():
        index = tuple(int(i) for i in np.argwhere(~good)[0])
        where = f"[{', '.join(map(str, index))}]" if index else ""
        raise ValueError(f"{name}{where} = {digits(array[index])}: must be in {bounds}")
    if array.ndim == 0:
        return float(array)
    array.flags.writeable = False
    return array


#: Seconds are so many of each smaller unit of NumPy's, and each larger one so many seconds.
_SMALLER = {"ms": 1e3, "us": 1e6, "ns": 1e9, "ps": 1e12, "fs": 1e15, "as": 1e18}
_LARGER = {"s": 1, "m": 60, "h": 3600, "D": 86400, "W": 604800}
_TIMES = (datetime.timedelta, datetime.date, datetime.time)
#: What need not be looked at one by one.
_PLAIN = (float, int, np.float64, np.int64, np.float32)
#: Whole numbers below are doubles, too.
_EXACT = 2**53
#: The least double with all its digits.
_NORMAL = float(np.finfo(np.float64).tiny)


def numbers(name: str, value: Any, unit: str | None = None, what: str = "real numbers") -> NDArray[np.float64]:
    """A new float64 array of what are plain numbers, or durations where `unit` is "s".

    Raises
    ------
    ValueError
        For masked entries, points in time, durations where no time is asked for, quantities of another unit than
        `unit`, complex numbers, booleans, text and other objects; naming the parameter, and the element.

    Examples
    --------
    >>> numbers("deadline", [datetime.timedelta(minutes=1), np.timedelta64(1500, "ms")], "s")
    array([60. ,  1.5])
    >>> numbers("bits", np.timedelta64(4000, "ms"))
    Traceback (most recent call last):
    ...
    ValueError: bits = np.timedelta64(4000,'ms'): is a duration: must be real numbers
    """
    if isinstance(value, list | tuple):
        if all(type(item) in _PLAIN for item in value):
            with suppress(OverflowError):
                return np.array(value, dtype=np.float64)
        parts = [numbers(f"{name}[{i}]", item, unit, what) for i, item in enumerate(value)]
        if len({part.shape for part in parts}) > 1:
            raise ValueError(f"{name}: rows of shapes {sorted({part.shape for part in parts})}: must be of one shape")
        return np.array(parts, dtype=np.float64)
    array = plain(name, value, unit, what)
    if array.dtype.kind == "b":
        raise ValueError(f"{name} = {shown(value)}: is true or false: must be {what}")
    # A number beyond the range of double becomes inf, which the range refuses.
    with np.errstate(over="ignore"):
        return np.array(array, dtype=np.float64)


def plain(name: str, value: Any, unit: str | None = None, what: str = "real numbers") -> NDArray[Any]:
    """As `numbers`, but an array of numbers, or of booleans, keeps its own type and is not copied.

    Examples
    --------
    >>> plain("images", np.ma.masked_equal([1, 2], 2))
    Traceback (most recent call last):
    ...
    ValueError: images[1] is masked: must be real numbers; fill it, or leave it out
    """
    if isinstance(value, list | tuple) and any(not isinstance(item, float | int) for item in value):
        return numbers(name, value, unit, what)
    refuse_masked(name, value, what)
    _refuse_units(name, value, unit, what)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} = {shown(value)}: must be {what} ({error})") from None
    kinds = {
        "M": "is a point in time",
        "c": "is complex",
        "U": "is text",
        "S": "is text",
        "V": "is a record",
    }
    if unit != "s":
        kinds["m"] = "is a duration"
    if array.dtype.kind == "O":
        answer = np.empty(array.shape)
        for index in np.ndindex(array.shape):
            where = f"{name}[{', '.join(map(str, index))}]" if index else name
            answer[index] = _number(where, array[index], unit, what)
        return answer
    if array.dtype.kind in kinds:
        since = "; give the time since another" if array.dtype.kind == "M" and unit == "s" else ""
        raise ValueError(f"{name} = {shown(value)}: {kinds[array.dtype.kind]}: must be {what}{since}")
    return _seconds(name, value, array, what) if array.dtype.kind == "m" else array


def refuse_masked(name: str, value: Any, what: str) -> None:
    """Refuse an array that masks some of its entries."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        index = tuple(int(i) for i in np.argwhere(np.ma.getmaskarray(value))[0])
        where = f"[{', '.join(map(str, index))}]" if index else ""
        raise ValueError(f"{name}{where} is masked: must be {what}; fill it, or leave it out")


def _refuse_units(name: str, value: Any, unit: str | None, what: str) -> None:
    """Quantities in other units than the parameter's; labelled arrays say theirs in their attributes."""
    if getattr(getattr(value, "dtype", None), "kind", "") in ("m", "M") or isinstance(value, _TIMES):
        return
    attributes = getattr(value, "attrs", None)
    if isinstance(attributes, Mapping):
        found = attributes.get("units")
        wrong = found is not None and unit is not None and str(found) not in (unit, "1", "")
    else:
        found = next((u for u in (getattr(value, key, None) for key in ("units", "unit")) if u is not None), None)
        wrong = found is not None and str(found) != unit
    if wrong:
        raise ValueError(f"{name} is in {found}: must be {what}{f', {unit}' if unit else ''}; give plain numbers")


def _seconds(name: str, value: Any, array: NDArray[Any], what: str) -> NDArray[np.float64]:
    unit, count = np.datetime_data(array.dtype)
    if unit not in _SMALLER and unit not in _LARGER:
        kind = "without a unit" if unit == "generic" else f"in units of {unit}, whose length varies"
        raise ValueError(
            f"{name} = {shown(value)}: is a duration {kind}: must be {what}, s, or durations of fixed length"
        )
    if np.isnat(array).any():
        raise ValueError(f"{name} = {shown(value)}: is not a time: must be {what}, s, or durations")
    ticks = array.astype(np.int64).astype(np.float64) * count
    return np.asarray(ticks / _SMALLER[unit] if unit in _SMALLER else ticks * _LARGER[unit])


def _number(name: str, value: Any, unit: str | None, what: str) -> float:
    """An object as a number."""
    if isinstance(value, _TIMES):
        if isinstance(value, datetime.timedelta) and unit == "s":
            return value.total_seconds()
        kind = "is a duration" if isinstance(value, datetime.timedelta) else "is a point in time"
        raise ValueError(f"{name} = {shown(value)}: {kind}: must be {what}")
    if isinstance(value, np.generic | np.ndarray) and np.ndim(value) == 0:
        return float(numbers(name, value, unit, what))
    _refuse_units(name, value, unit, what)
    if isinstance(value, bool) or not (isinstance(value, Real | Decimal) or hasattr(value, "__float__")):
        raise ValueError(f"{name} = {shown(value)}: must be {what}")
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} = {shown(value)}: must be {what}") from None


def digits(value: Any) -> str:
    """A number by the fewest digits that tell it from all others."""
    return repr(float(value)).removesuffix(".0")


def shown(value: Any) -> str:
    """In one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def positive(name: str, value: ArrayLike, unit: str | None = None) -> Any:
    """`real` on (0, inf), but for what is below the normal range: it has few digits, and no inverse.

    Examples
    --------
    >>> positive("bits", 1e-320)
    Traceback (most recent call last):
    ...
    ValueError: bits = 1e-320: must be in [2.22507e-308, inf)
    """
    return real(name, real(name, value, 0, low_open=True, unit=unit), _NORMAL)


def scalar(
    name: str, value: Any, low: float = -np.inf, high: float = np.inf, *, unit: str | None = None, **ends: bool
) -> float:
    """`real` for a single number.

    Examples
    --------
    >>> scalar("confidence", [0.9, 0.95], 0, 1)
    Traceback (most recent call last):
    ...
    ValueError: confidence of shape (2,): must be one number
    """
    answer = real(name, value, low, high, unit=unit, **ends)
    if not isinstance(answer, float):
        raise ValueError(f"{name} of shape {np.shape(answer)}: must be one number")
    return answer


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """`value` as an int >= low, and <= high where there is an end.

    Examples
    --------
    >>> whole("jobs", 0, 1)
    Traceback (most recent call last):
    ...
    ValueError: jobs = 0: must be a whole number >= 1
    >>> whole("resamples", 1e9, 1, 1_000_000)
    Traceback (most recent call last):
    ...
    ValueError: resamples = 1000000000.0: must be a whole number in [1, 1000000]
    """
    what = f"a whole number >= {low}" if high is None else f"a whole number in [{low}, {high}]"
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iu":
        value = value[()]
    if isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64):
        # Not by way of double, which would round what is beyond 2^53.
        number = int(value)
    else:
        found = numbers(name, value, None, what)
        if found.ndim or not found.item().is_integer():
            raise ValueError(f"{name} = {shown(value)}: must be {what}")
        number = int(found.item())
    if number < low or (high is not None and number > high):
        raise ValueError(f"{name} = {shown(value)}: must be {what}")
    return number


def threads(value: Any) -> int:
    """`value` as a number of threads: at most 1024, which no processor has work for.

    Examples
    --------
    >>> threads(0)
    Traceback (most recent call last):
    ...
    ValueError: threads = 0: must be a whole number in [1, 1024]
    """
    return whole("threads", value, 1, 1024)


def sizes(name: str, value: Any, each: int = 1) -> tuple[int, ...]:
    """A shape: a whole number >= 0, or several; of no more places than memory can hold with `each` numbers in one.

    Examples
    --------
    >>> sizes("size", 3), sizes("size", (2, 3))
    ((3,), (2, 3))
    """
    many = isinstance(value, list | tuple) or np.ndim(value) > 0
    found = [(f"{name}[{i}]", size) for i, size in enumerate(value)] if many else [(name, value)]
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (8 * max(each, 1))
    shape = tuple(whole(where, size, 0, most) for where, size in found)
    # Of Python's whole numbers: NumPy's product would wrap round.
    if prod(shape) > most:
        raise ValueError(f"{name} = {shown(value)}: must be of a product in [0, {most}]")
    return shape


def path(name: str, value: Any) -> Path:
    """`value` as a path; a number is none, though the system opens files by numbers."""
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"{name} = {shown(value)}: must be a path")
    return Path(value)


def octets(name: str, value: Any) -> Any:
    """`value` if it is bytes, a bytearray or a view of such."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise ValueError(f"{name} = {shown(value)}: must be bytes")
    return value


def choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """`value` if it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} = {shown(value)}: must be one of {', '.join(map(repr, choices))}")
    return value


def in_order(name: str, value: Any) -> tuple[Any, ...]:
    """The items of a sequence, such as stages, one after the other."""
    try:
        items = iter(value)
    except TypeError:
        raise ValueError(f"{name} = {shown(value)}: must be a sequence, such as a list") from None
    # What a generator raises says more than that it is none.
    return tuple(items)


def check_kind(name: str, value: Any, kind: type) -> None:
    """Refuse what is of another type."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} = {shown(value)}: must be a {kind.__name__}")


def each(name: str, value: Any, kind: type) -> tuple[Any, ...]:
    """The items of a sequence, each of which must be of one type.

    Examples
    --------
    >>> each("captions", ["a", 1], str)
    Traceback (most recent call last):
    ...
    ValueError: captions[1] = 1: must be a str
    """
    items = in_order(name, value)
    for index, item in enumerate(items):
        check_kind(f"{name}[{index}]", item, kind)
    return items


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


class Frozen:
    """A frozen dataclass whose arrays cannot be written to and whose mappings cannot be changed, nor can its
    copies'; what is long is cut short where it is printed.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # The decorator keeps what the class has of its own.
        if "__repr__" not in vars(cls):
            cls.__repr__ = summary  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        freeze(self)

    def __getstate__(self) -> tuple[dict[str, Any], list[str]]:
        views = [name for name, field in vars(self).items() if isinstance(field, MappingProxyType)]
        return vars(self) | {name: dict(vars(self)[name]) for name in views}, views

    def __setstate__(self, state: tuple[dict[str, Any], list[str]]) -> None:
        fields, views = state
        vars(self).update(fields | {name: MappingProxyType(fields[name]) for name in views})
        freeze(self)


class Value(Frozen):
    """Equality by fields for frozen dataclasses whose fields may be arrays."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        mine, theirs = _compared(self), _compared(other)
        return mine.keys() == theirs.keys() and all(_same(mine[name], theirs[name]) for name in mine)

    def __hash__(self) -> int:
        return hash((type(self), *(_key(value) for value in _compared(self).values())))


class Elementwise(Value):
    """A value whose arrays are indexed and iterated over together; what is shaped otherwise than the first stays."""

    def __iter__(self) -> Iterator[Self]:
        """Along the first axis; TypeError where there is none."""
        if not self._first().ndim:
            raise TypeError(
                f"a {type(self).__name__} of one element is no sequence; its parts are {', '.join(vars(self))}; "
                "pandas.DataFrame(vars(many)) is a table of many"
            )
        return (self[index] for index in range(len(self._first())))

    def __getitem__(self, index: Any) -> Self:
        """The same of some elements: numbers where one is left."""
        shape = self._first().shape
        parts = {name: np.asarray(part)[index] for name, part in vars(self).items() if np.shape(part) == shape}
        plain = {name: part if part.ndim else part.item() for name, part in parts.items()}
        return replace(self, **plain)  # type: ignore[type-var]

    def _first(self) -> NDArray[Any]:
        return np.asarray(next(iter(vars(self).values())))


def _compared(value: Any) -> dict[str, Any]:
    """What a value was made of, not what it keeps once that is computed, nor what its class leaves out of
    comparisons.
    """
    kind = type(value)
    aside = {field.name for field in getattr(kind, "__dataclass_fields__", {}).values() if not field.compare}
    return {
        name: part
        for name, part in vars(value).items()
        if name not in aside and not isinstance(getattr(kind, name, None), cached_property)
    }


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray | np.generic) or isinstance(b, np.ndarray | np.generic):
        a, b = np.asarray(a), np.asarray(b)
        # NaN equals itself, so that a copy of a value equals it.
        return bool(a.shape == b.shape and np.all((a == b) | ((a != a) & (b != b))))
    return bool(a == b) or (isinstance(a, float) and isinstance(b, float) and a != a and b != b)


def _key(value: Any) -> Any:
    """Alike for what is `_same`: 0 and -0, integers and floats, text of any width, NaN and NaN, arrays of shape ()
    too.
    """
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in "biuf":
            return np.shape(value), tuple(np.ravel(value).tolist())
        number = np.asarray(value, dtype=np.float64) + 0.0
        return np.shape(number), np.where(np.isnan(number), np.nan, number).tobytes()
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**1000):
        return _key(np.float64(value))
    if isinstance(value, Mapping):
        return frozenset((name, _key(part)) for name, part in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_key, value))
    return ((), (value,)) if isinstance(value, str) else value


def freeze(value: Any) -> None:
    """Make the arrays among the fields of a dataclass read-only: the fields' own views, not what the caller holds."""
    for name, field in vars(value).items():
        if isinstance(field, np.ndarray) and field.flags.writeable:
            view = field.view()
            view.flags.writeable = False
            object.__setattr__(value, name, view)


def flat(value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """`value` broadcast to `shape` and made one-dimensional."""
    return np.ascontiguousarray(np.broadcast_to(np.asarray(value, dtype=np.float64), shape)).reshape(-1)
