"""Finished cells of a long computation on disk, so that it takes up where it stopped, however it stopped."""

import json
from typing import Any

import numpy as np

from edgeinfer._extras import need


class Value:
    """One named result of a cell: dimensions, numbers, coordinates, attributes."""

    def __init__(self, dims: Any, data: Any, coords: Any, attrs: Any) -> None:
        self.dims, self.data, self.coords, self.attrs = tuple(dims), np.asarray(data), coords, attrs

    @classmethod
    def of(cls, xarray: Any, name: str, value: Any) -> "Value":
        if isinstance(value, xarray.DataArray):
            coords = {dim: np.asarray(value[dim]).tolist() for dim in value.dims if dim in value.coords}
            return cls(value.dims, value.values, coords, dict(value.attrs))
        data = np.asarray(value)
        return cls([f"{name}_{i}" for i in range(data.ndim)], data, {}, {})

    def header(self) -> dict[str, Any]:
        return {"dims": list(self.dims), "coords": self.coords, "attrs": self.attrs}


class Store:
    """Finished cells in a Zarr group: one chunk a cell, and a flag that is set last, so that a cell is whole or not
    there."""

    def __init__(self, path: Any, kind: str, fingerprint: str, shape: tuple[int, ...]) -> None:
        zarr = need("zarr", "study")
        key = f"edgeinfer_{kind}"
        self.group = zarr.open_group(str(path), mode="a")
        found = self.group.attrs.get(key)
        if found is not None and found != fingerprint:
            raise ValueError(f"store = {path}: holds another {kind}; give another path, or remove it")
        if found is None and len(list(self.group.keys())):
            raise ValueError(f"store = {path}: is not empty and holds no {kind} of edgeinfer")
        if found is None:
            self.group.attrs[key] = fingerprint
        if "done" not in self.group:
            self.group.create_array("done", shape=shape, chunks=(1,) * len(shape), dtype="uint8", fill_value=0)
        self.shape = shape
        self.flags = np.asarray(self.group["done"][...])

    def has(self, cell: tuple[int, ...]) -> bool:
        return bool(self.flags[cell])

    def put(self, cell: tuple[int, ...], named: dict[str, Value]) -> None:
        for name, value in named.items():
            key = f"value_{name}"
            if key not in self.group:
                shape = self.shape + value.data.shape
                chunks = (1,) * len(self.shape) + tuple(max(n, 1) for n in value.data.shape)
                header = {"header": json.dumps(value.header())}
                self.group.create_array(key, shape=shape, chunks=chunks, dtype=value.data.dtype, attributes=header)
            array = self.group[key]
            if array.shape != self.shape + value.data.shape:
                expected = array.shape[len(self.shape) :]
                raise ValueError(f"{name} of cell {cell} has shape {value.data.shape}: must be {expected}")
            array[cell] = value.data
        self.group["done"][cell] = 1

    def get(self, cell: tuple[int, ...]) -> dict[str, Value]:
        answer = {}
        for key in sorted(self.group.keys()):
            if key.startswith("value_"):
                header = json.loads(self.group[key].attrs["header"])
                answer[key.removeprefix("value_")] = Value(
                    header["dims"], self.group[key][cell], header["coords"], header["attrs"]
                )
        return answer
