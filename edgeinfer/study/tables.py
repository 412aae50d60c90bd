"""The cells of a sweep as one table, joined by label."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer._store import Cell, Value
from edgeinfer.study.cells import GROUPS, within

_LACK: dict[str, Any] = {"f": np.nan, "c": np.nan, "M": "NaT", "m": "NaT", "U": "", "S": b""}
#: Above it, float64 does not hold every whole number.
_EXACT = 2**53


def table(
    axes: Mapping[str, tuple[str, np.ndarray, dict[str, str]]],
    cells: Mapping[tuple[int, ...], Cell],
    say: Callable[[tuple[int, ...]], str],
) -> Any:
    """The cells of a grid as one table.

    Parameters
    ----------
    axes : mapping of str to (str, (n,) ndarray, dict)
        Dimension, labels and attributes of each axis.
    cells : mapping of index to Cell
        In the grid's order; those that failed are left out.
    say : callable
        What errors call a cell, by its index.

    Returns
    -------
    xarray.Dataset
        Results over the axes, then over their own dimensions. Where cells have other labels it is over all of them, in
        order. What a cell lacks is NaN, NaT or ""; whole numbers and booleans with lacks are floats.

    Raises
    ------
    ValueError
        Naming a result whose types, dimensions, labels or units do not go together, and the cells.
    """
    return _Table(axes, cells, say).dataset()


class _Table:
    def __init__(self, axes: Any, cells: Any, say: Any) -> None:
        self.axes, self.cells, self.say = axes, cells, say
        self.shape = tuple(len(labels) for _, labels, _ in axes.values())
        self.sizes: dict[str, int] = {}
        self.labels: dict[str, np.ndarray] = {}
        self.places: dict[tuple[str, bytes], Any] = {}
        for dim in dict.fromkeys(dim for cell in cells.values() for v in cell.values.values() for dim in v.dims):
            self.align(dim)

    def dataset(self) -> Any:
        xarray = need("xarray", "study")
        data: dict[str, Any] = {}
        coords: dict[str, Any] = dict(self.axes)
        for name in dict.fromkeys(name for cell in self.cells.values() for name in cell.values):
            having = {index: cell.values[name] for index, cell in self.cells.items() if name in cell.values}
            self.alike(name, {index: "coordinate" if v.coordinate else "result" for index, v in having.items()})
            self.alike(
                name, {index: f"over {', '.join(sorted(v.dims)) or 'no dimension'}" for index, v in having.items()}
            )
            coordinate = next(iter(having.values())).coordinate
            (coords if coordinate else data)[name] = self.variable(name, having, coordinate)
        return xarray.Dataset(data, coords, self.attrs("the table", {i: cell.attrs for i, cell in self.cells.items()}))

    def align(self, dim: str) -> None:
        """Size of a dimension and its labels, over all cells that have it."""
        sizes, labels = {}, {}
        for index, cell in self.cells.items():
            for value in cell.values.values():
                if dim in value.dims:
                    sizes[index] = value.data.shape[value.dims.index(dim)]
            if dim in cell.values:
                labels[index] = cell.values[dim].data
        self.alike(f"dimension {dim}", {index: f"{'with' if index in labels else 'without'} labels" for index in sizes})
        if not labels:
            self.alike(f"dimension {dim}, which has no labels,", {index: f"of size {n}" for index, n in sizes.items()})
            self.sizes[dim] = next(iter(sizes.values()))
            return
        kind = self.type(f"coordinate {dim}", labels, lacks=False)
        # Of one type, since bytes of several say nothing: "ab" has those of "a" and "b".
        labels = {index: own.astype(kind) for index, own in labels.items()}
        distinct = {own.tobytes(): index for index, own in labels.items()}
        first = next(iter(labels.values()))
        if len(distinct) > 1:
            for index in distinct.values():
                own = labels[index]
                if len(np.unique(own)) < len(own) or (own != own).any():
                    raise ValueError(f"coordinate {dim} of cell {self.say(index)}: must not repeat a label or be NaN")
            union = np.unique(np.concatenate([labels[index] for index in distinct.values()]))
            if len(union) > len(first):
                first = union
            at = {label: i for i, label in enumerate(first.tolist())}
            for key, index in distinct.items():
                self.places[dim, key] = [at[label] for label in labels[index].tolist()]
        self.sizes[dim], self.labels[dim] = len(first), first

    def variable(self, name: str, having: dict[Any, Value], coordinate: bool) -> Any:
        attrs = self.attrs(name, {index: value.attrs for index, value in having.items()})
        if name in self.labels:
            return name, self.labels[name], attrs
        dims = next(iter(having.values())).dims
        data = {index: v.data.transpose([v.dims.index(dim) for dim in dims]) for index, v in having.items()}
        inner = tuple(self.sizes[dim] for dim in dims)
        whole = len(having) == len(self.cells) and all(part.shape == inner for part in data.values())
        if coordinate and whole:
            same = self.type(name, data, lacks=False)
            rows = [self.placed(index, part.astype(same), dims) for index, part in data.items()]
            if all(row.tobytes() == rows[0].tobytes() for row in rows):
                return dims, rows[0], attrs
        kind = self.type(name, data, lacks=not whole or len(having) < math.prod(self.shape))
        full = np.full(self.shape + inner, _LACK.get(kind.kind, 0), dtype=kind)
        for index, part in data.items():
            full[index] = self.placed(index, part.astype(kind), dims)
        return (*self.axes, *dims), full, attrs

    def placed(self, index: Any, part: np.ndarray, dims: Sequence[str]) -> np.ndarray:
        """A cell's values where the table has their labels."""
        values = self.cells[index].values
        places = [
            self.places.get((dim, values[dim].data.astype(self.labels[dim].dtype).tobytes())) if dim in values else None
            for dim in dims
        ]
        if not any(place is not None for place in places):
            return part
        full = np.full([self.sizes[dim] for dim in dims], _LACK.get(part.dtype.kind, 0), dtype=part.dtype)
        where = [range(n) if place is None else place for n, place in zip(part.shape, places, strict=True)]
        full[np.ix_(*where)] = part
        return full

    def type(self, name: str, arrays: Mapping[Any, np.ndarray], lacks: bool) -> np.dtype[Any]:
        """A type that holds all values as they are."""
        self.alike(name, {index: f"a {GROUPS[part.dtype.kind]}" for index, part in arrays.items()})
        kind = np.result_type(*{part.dtype for part in arrays.values()})
        if lacks and kind.kind in "biu":
            kind = np.dtype(np.float64)
        if kind.kind in "fc":
            for index, part in arrays.items():
                if part.dtype.kind in "iu" and part.size and max(int(part.max()), -int(part.min())) > _EXACT:
                    raise ValueError(
                        f"{name} of cell {self.say(index)}: must be within 2^53 beside values that are not whole "
                        f"numbers"
                    )
        for index, part in arrays.items():
            within(f"{name} of cell {self.say(index)}", part, kind)
        return kind

    def attrs(self, name: str, attrs: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
        """Attributes that all cells share; units must be."""
        if not attrs:
            return {}
        self.alike(
            name, {index: f"in {own['units']}" if "units" in own else "without units" for index, own in attrs.items()}
        )
        first = next(iter(attrs.values()))
        return {key: value for key, value in first.items() if all(key in a and a[key] == value for a in attrs.values())}

    def alike(self, name: str, said: Mapping[Any, str]) -> None:
        """Refuse a difference between cells, naming one on each side."""
        first = next(iter(said))
        for index, text in said.items():
            if text != said[first]:
                raise ValueError(
                    f"{name}: is {said[first]} in cell {self.say(first)}, {text} in cell {self.say(index)}"
                )
