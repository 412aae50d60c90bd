"""Scalar quantisers: uniform and Lloyd-Max, one row of levels for each channel or coefficient."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate

LARGEST_BITS = 8
_ROUNDS = 100


@dataclass(frozen=True, eq=False)
class Quantiser(_validate.Value):
    """Rounds each value to the nearest level of its group; the group is the value's index on the first axis.

    Parameters
    ----------
    levels : (groups, 2^bits) array_like
        In ascending order, finite in float32; bits in 1 .. 8.

    Examples
    --------
    >>> q = Quantiser([[-0.75, -0.25, 0.25, 0.75]])
    >>> q.bits, q.indices([[0.1, -9, 0]]), q.values(np.array([[2, 0]], np.uint8))
    (2, array([[2, 0, 1]], dtype=uint8), array([[ 0.25, -0.75]], dtype=float32))
    """

    levels: Any

    def __post_init__(self) -> None:
        limit = float(np.finfo(np.float32).max)
        levels = np.asarray(_validate.real("levels", self.levels, -limit, limit)).astype(np.float32)
        if levels.ndim != 2 or not levels.shape[0] or levels.shape[1] not in _SIZES:
            raise ValueError(f"levels of shape {levels.shape}: must be (groups >= 1, 2, 4, .. or {_SIZES[-1]})")
        if (np.diff(levels) < 0).any():
            raise ValueError("levels: must be in ascending order")
        levels.flags.writeable = False
        object.__setattr__(self, "levels", levels)
        # Midpoints of float32 are exact enough in float64 to lie strictly between: a level is its own nearest one.
        wide = levels.astype(np.float64)
        object.__setattr__(self, "_bounds", (wide[:, 1:] + wide[:, :-1]) / 2)
        super().__post_init__()

    @property
    def groups(self) -> int:
        """Rows of levels."""
        return int(self.levels.shape[0])

    @property
    def bits(self) -> int:
        """Of one value."""
        return _SIZES.index(self.levels.shape[1]) + 1

    def indices(self, values: ArrayLike) -> NDArray[np.uint8]:
        """Index of the nearest level, the lower one at a tie.

        Parameters
        ----------
        values : (groups, ...) array_like
            Not NaN; beyond the outer levels they become these.
        """
        array = _validate.plain("values", values).astype(np.float32, copy=False)
        if array.ndim < 1 or array.shape[0] != self.groups:
            raise ValueError(f"values of shape {array.shape}: must have {self.groups} groups on the first axis")
        if np.isnan(array).any():
            raise ValueError("values: must not be NaN")
        cells: NDArray[np.float64] = self._bounds  # type: ignore[attr-defined]
        if cells.shape[1] <= _FEW_BOUNDS:  # counted for all groups at once
            cells = cells.reshape(*cells.shape, *[1] * (array.ndim - 1))
            return np.asarray((cells < array[:, None]).sum(1, dtype=np.uint8))
        rows = [np.searchsorted(bounds, row) for bounds, row in zip(cells, array, strict=True)]
        return np.array(rows, np.uint8).reshape(array.shape)

    def values(self, indices: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The levels that indices name, of their shape."""
        array = np.asarray(indices)
        if array.ndim < 1 or array.shape[0] != self.groups or array.dtype != np.uint8:
            raise ValueError(f"indices of type {array.dtype}, shape {array.shape}: must be uint8, {self.groups} groups")
        if array.size and array.max() >= self.levels.shape[1]:
            raise ValueError(f"indices: {array.max()}: must be below {self.levels.shape[1]}")
        return np.array([row[index] for row, index in zip(self.levels, array, strict=True)], np.float32)


_FEW_BOUNDS = 16
_SIZES = tuple(2**bits for bits in range(1, LARGEST_BITS + 1))


def uniform(samples: ArrayLike, bits: int) -> Quantiser:
    """Equal cells between each group's least and largest sample, levels at their middles.

    Within the samples' range the error is at most half a cell, (largest - least) / 2^(bits + 1).

    Parameters
    ----------
    samples : (n, groups, ...) array_like
        Finite in float32, n >= 1.
    bits : int
        1 .. 8.

    Examples
    --------
    >>> uniform([[0.0], [8.0]], 2).levels
    array([[1., 3., 5., 7.]], dtype=float32)
    """
    rows = _rows(samples)
    size = 2 ** _bits(bits)
    low, high = rows.min(1, keepdims=True), rows.max(1, keepdims=True)
    return Quantiser(low + (high - low) * (np.arange(size) + 0.5) / size)


def lloyd_max(samples: ArrayLike, bits: int) -> Quantiser:
    """Levels of least squared error on the samples, by Lloyd's iteration from the uniform quantiser: never worse than
    it.

    Parameters
    ----------
    samples, bits
        They are as for `uniform`.

    Examples
    --------
    >>> lloyd_max([[0.0], [0.1], [7.0], [9.0]], 1).levels
    array([[0.05, 8.  ]], dtype=float32)
    """
    rows = np.sort(_rows(samples))
    start = uniform(samples, bits).levels.astype(np.float64)
    return Quantiser(np.stack([_lloyd(row, levels) for row, levels in zip(rows, start, strict=True)]))


def _lloyd(ordered: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float64]:
    sums = np.concatenate([[0.0], np.cumsum(ordered - ordered[0])])
    ends = np.empty(len(start) + 1, np.int64)
    ends[0], ends[-1] = 0, len(ordered)

    def fill(levels: NDArray[np.float64]) -> None:
        ends[1:-1] = ordered.searchsorted((levels[1:] + levels[:-1]) / 2, side="right")

    def error(levels: NDArray[np.float64]) -> float:
        fill(levels)
        return float(((ordered - np.repeat(levels, np.diff(ends))) ** 2).sum())

    levels = start
    for _ in range(_ROUNDS):
        fill(levels)
        counts = ends[1:] - ends[:-1]
        # A cell without samples keeps its level; levels are float32 in use.
        centres = ordered[0] + (sums[ends[1:]] - sums[ends[:-1]]) / np.maximum(counts, 1)
        centres = np.sort(np.where(counts > 0, centres, levels).astype(np.float32).astype(np.float64))
        if np.array_equal(centres, levels):
            break
        levels = centres
    # Each round lowers the error, but for rounding.
    return levels if error(levels) <= error(start) else start


def _rows(samples: ArrayLike) -> NDArray[np.float64]:
    limit = float(np.finfo(np.float32).max) / 4
    array = np.asarray(_validate.real("samples", samples, -limit, limit))
    if array.ndim < 2 or not array.size:
        raise ValueError(f"samples of shape {array.shape}: must be (n >= 1, groups >= 1, ...), not empty")
    # Values are float32 in use.
    return np.moveaxis(array.astype(np.float32).astype(np.float64), 1, 0).reshape(array.shape[1], -1)


def _bits(bits: int) -> int:
    return _validate.whole("bits", bits, 1, LARGEST_BITS)
