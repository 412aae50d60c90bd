"""What a function answers in a cell of a sweep, as named arrays."""

import datetime
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer._store import Cell, Value

#: What goes together, by NumPy's kind.
GROUPS = {"b": "number", "i": "number", "u": "number", "f": "number", "c": "number"}
GROUPS |= {"U": "str", "S": "bytes", "M": "time", "m": "duration"}
_MUST = "must be numbers, strings or times, or arrays of such"


def cell(answer: Any, point: Mapping[str, Any]) -> Cell:
    """An answer as named arrays with dimensions and coordinates.

    Parameters
    ----------
    answer : number, str, array_like, Estimate, dataclass, mapping, pandas or xarray object
        A dataclass or a mapping gives a variable for each field or key; one inside another has its name before them,
        with "_" between, and a field `value` has that name alone. Anything else is the variable "value".
    point : mapping of str to value
        The cell's place on each axis; coordinates of the answer by these names must agree.

    Raises
    ------
    ValueError
        For what is no value, such as None, by its name; for names that an axis or two results have; for coordinates
        that disagree.
    """
    found = _Answer()
    found.take("", answer)
    values, attrs = found.values, found.attrs()
    if not values:
        raise ValueError("the function's answer is empty: must hold at least one value")
    for name, label in point.items():
        value = values.get(name)
        if value is not None and value.coordinate and not value.dims and value.data == np.asarray(label):
            del values[name]
        elif value is not None or any(name in other.dims for other in values.values()):
            raise ValueError(f"{name}: is an axis at {label!r}, must not be another result, dimension or coordinate")
    free = {dim for value in values.values() for dim in value.dims}
    for name in free & values.keys():
        if values[name].dims != (name,):
            raise ValueError(f"{name}: is a result and a dimension of another, must be one of them")
    return Cell(values, attrs)


def array(name: str, value: Any) -> np.ndarray:
    """`value` as an array of numbers, strings, times or durations; ValueError naming what is none, or mixes them."""
    if np.ma.is_masked(value):
        raise ValueError(f"{name}: must not have masked entries")
    try:
        data = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: {_MUST} ({error})") from None
    if isinstance(value, list | tuple) or data.dtype.kind in "OT":
        leaves = np.array(value, dtype=object).ravel().tolist()
        groups = {_group(name, leaf) for leaf in leaves}
        if len(groups) > 1:
            raise ValueError(f"{name} = {value!r}: must be of one type, not {' and '.join(sorted(groups))}")
        to: Any = (
            {"str": np.str_, "time": "datetime64", "duration": "timedelta64"}.get(groups.pop()) if groups else None
        )
        leaves = [_exact(leaf) for leaf in leaves]
        if data.dtype.kind in "OT":
            data = np.array(leaves, dtype=to).reshape(data.shape)
        if data.dtype.kind in "mM":
            for leaf in leaves:
                within(name, np.asarray(leaf, to), data.dtype)
    if data.dtype.kind not in GROUPS:
        raise ValueError(f"{name} = {value!r} of type {type(value).__qualname__}: {_MUST}")
    return data


def _exact(leaf: Any) -> Any:
    """NumPy's own for a time or a duration of pandas, whose nanoseconds NumPy would leave out."""
    convert = getattr(leaf, "to_datetime64", None) or getattr(leaf, "to_timedelta64", None)
    return leaf if convert is None else convert()


def within(name: str, times: np.ndarray, kind: np.dtype[Any]) -> None:
    """ValueError where times or durations have other values in a type of a finer unit, which NumPy wraps in silence."""
    if kind.kind in "mM" and (times.astype(kind).astype(times.dtype) != times)[~np.isnat(times)].any():
        raise ValueError(f"{name} = {times}: must be within the range of {kind}, the finest unit that others have")


def _group(name: str, leaf: Any) -> str:
    if isinstance(leaf, datetime.timedelta | np.timedelta64):
        return "duration"
    if isinstance(leaf, datetime.datetime) and leaf.tzinfo is not None:
        raise ValueError(f"{name} = {leaf!r}: must be a time without a zone")
    if isinstance(leaf, datetime.date | np.datetime64):
        return "time"
    for kinds, group in (
        ((bool, int, float, complex, np.number, np.bool_), "number"),
        ((str,), "str"),
        ((bytes,), "bytes"),
    ):
        if isinstance(leaf, kinds):
            return group
    raise ValueError(f"{name} = {leaf!r} of type {type(leaf).__qualname__}: {_MUST}")


class _Answer:
    """The leaves of an answer, by name."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.tables: list[Any] = []

    def take(self, name: str, value: Any) -> None:
        if isinstance(value, tuple) and hasattr(value, "_asdict"):
            value = value._asdict()
        if hasattr(value, "to_xarray"):
            value = value.to_xarray()
        if is_dataclass(value) and not isinstance(value, type):
            for key in fields(value):
                item = getattr(value, key.name)
                if key.metadata.get("swept", True) and (item is not None or key.default is not None):
                    self.take(name if name and key.name == "value" else _join(name, key.name), item)
        elif isinstance(value, Mapping) and not hasattr(value, "data_vars"):
            for key, item in value.items():
                if not isinstance(key, str) or not key:
                    raise ValueError(f"key {key!r} of {name or 'the answer'}: must be a name")
                self.take(_join(name, key), item)
        elif hasattr(value, "data_vars"):
            self.table(value.rename({key: _join(name, str(key)) for key in value.data_vars}))
        elif hasattr(value, "to_dataset"):
            self.table(value.to_dataset(name=name or "value"))
        else:
            name = name or "value"
            data = array(name, value)
            self.unique([name])
            self.values[name] = Value([f"{name}_{i}" for i in range(data.ndim)], data)

    def table(self, table: Any) -> None:
        self.unique(table.data_vars)
        self.tables.append(table)

    def unique(self, names: Iterable[Any]) -> None:
        for name in names:
            if name in self.values or any(name in table.data_vars for table in self.tables):
                raise ValueError(f"{name}: is in the answer twice")

    def attrs(self) -> dict[str, Any]:
        """Join what came from xarray, by label; its attributes."""
        if not self.tables:
            return {}
        xarray = need("xarray", "study")
        merged = xarray.merge(self.tables, join="outer", compat="equals", combine_attrs="drop_conflicts")
        for name, variable in merged.variables.items():
            if not isinstance(name, str) or not all(isinstance(dim, str) for dim in variable.dims):
                raise ValueError(f"{name!r} over {variable.dims}: names must be strings")
            if name in merged.indexes and merged.indexes[name].nlevels > 1:
                raise ValueError(f"{name}: must have one level of labels (reset_index gives that)")
            data = array(name, variable.values)
            self.values[name] = Value(variable.dims, data, _attributes(name, variable.attrs), name in merged.coords)
        return _attributes("the answer", merged.attrs)


def _join(name: str, key: str) -> str:
    return f"{name}_{key}" if name else key


def _attributes(name: str, attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes as JSON keeps them."""
    try:
        return json.loads(json.dumps({str(key): value for key, value in attrs.items()}, default=_plain))
    except TypeError as error:
        raise ValueError(f"attributes of {name}: must be numbers, strings or lists of such ({error})") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"not {type(value).__qualname__}")
