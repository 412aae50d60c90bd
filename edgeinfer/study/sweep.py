"""A function of a scenario over a grid of parameters."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from edgeinfer import _random, _validate
from edgeinfer._extras import need
from edgeinfer._store import Store, Value


def sweep(
    function: Callable[..., Any],
    scenario: Any,
    axes: Mapping[str, Any],
    *,
    store: str | Path | None = None,
    client: Any = None,
    progress: bool = True,
    seed: int | None = None,
) -> Any:
    """Evaluate a function over a grid of parameters.

    Parameters
    ----------
    function : callable
        function(scenario, **others) -> a number, an array, an xarray.DataArray, or a dict of such by name.
        On a Dask client it must be picklable.
    scenario : Scenario
        What the axes change: each cell gets `scenario.replace(...)`.
    axes : mapping of str to (n,) array_like
        Names of scenario fields, or of keyword arguments of `function` (any other name).
    store : path, optional
        A Zarr store. Finished cells are kept in it, and the same call takes up from there, however the last one
        ended.
    client : dask.distributed.Client, optional
        Where cells are computed; in this process by default.
    progress : bool
        A bar, on a terminal only.
    seed : int, optional
        If given, `function` gets `rng`, a seed sequence that depends on this and the cell alone.

    Returns
    -------
    xarray.Dataset
        One dimension an axis, then those of the function's values; coordinates carry `units`.

    Raises
    ------
    ValueError
        For an empty axis, a store that belongs to another sweep, or cells whose values differ in shape.
    ImportError
        Naming the extra, without xarray (or Zarr, where `store` is given).

    Examples
    --------
    >>> from edgeinfer import latency, paper
    >>> table = sweep(
    ...     lambda s: latency(s.pipelines()["split"]).total, paper.scenario(), {"prior_steps": [10, 20]}
    ... )
    >>> table["value"].round(3).values
    array([1.057, 1.507])
    """
    xarray = need("xarray", "study")
    tqdm = need("tqdm", "study").tqdm
    known = {field.name for field in fields(scenario)}
    units = getattr(scenario, "units", {})
    values = {name: _axis(name, axis, units.get(name) if name in known else "s") for name, axis in axes.items()}
    if not values:
        raise ValueError("axes = {}: must name at least one parameter")
    shape = tuple(len(axis) for axis in values.values())
    cells = list(np.ndindex(*shape))
    cache = Store(store, "sweep", _fingerprint(function, scenario, values, seed), shape) if store is not None else None
    done: dict[tuple[int, ...], dict[str, Value]] = {}
    waiting = []
    for cell in cells:
        if cache is not None and cache.has(cell):
            continue
        waiting.append(cell)

    def arguments(cell: tuple[int, ...]) -> tuple[Any, ...]:
        point = {name: axis[i].item() for (name, axis), i in zip(values.items(), cell, strict=True)}
        here = scenario.replace(**{name: value for name, value in point.items() if name in known})
        others = {name: value for name, value in point.items() if name not in known}
        rng = None if seed is None else _random.seed_sequence(seed)
        if rng is not None:
            others["rng"] = np.random.SeedSequence(rng.entropy, spawn_key=cell)
        return function, here, others

    with tqdm(total=len(cells), initial=len(cells) - len(waiting), disable=None if progress else True) as bar:
        for cell, answer in _run(waiting, arguments, client):
            named = {name: Value.of(xarray, name, value) for name, value in _named(answer).items()}
            if cache is None:
                done[cell] = named
            else:
                cache.put(cell, named)
            bar.update()
    if cache is not None:
        done = {cell: cache.get(cell) for cell in cells}
    return _assemble(xarray, scenario, values, shape, done)


def _axis(name: str, axis: Any, unit: str | None) -> np.ndarray:
    values = np.asarray(axis)
    if values.dtype.kind not in "biufUS" or np.ma.is_masked(axis):
        values = _validate.numbers(f"axes[{name!r}]", axis, unit)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"axes[{name!r}] of shape {values.shape}: must be one-dimensional and not empty")
    if len(np.unique(values)) != values.size:
        raise ValueError(f"axes[{name!r}] = {values}: must not repeat a value")
    return values


def _call(function: Callable[..., Any], scenario: Any, others: dict[str, Any]) -> Any:
    return function(scenario, **others)


def _run(cells: list[Any], arguments: Callable[[Any], Any], client: Any) -> Iterator[tuple[Any, Any]]:
    if client is None:
        for cell in cells:
            yield cell, _call(*arguments(cell))
        return
    distributed = need("distributed", "study")
    futures = {client.submit(_call, *arguments(cell), pure=False): cell for cell in cells}
    try:
        for future in distributed.as_completed(futures):
            yield futures[future], future.result()
    finally:
        client.cancel(list(futures))


def _named(answer: Any) -> dict[str, Any]:
    if isinstance(answer, Mapping):
        return dict(answer)
    return {"value": answer}


def _assemble(xarray: Any, scenario: Any, axes: Any, shape: Any, done: Any) -> Any:
    units = getattr(scenario, "units", {})
    coords = {name: (name, axis, {"units": units.get(name, "1")}) for name, axis in axes.items()}
    dataset = xarray.Dataset(coords=coords)
    first = done[(0,) * len(shape)]
    for name, template in first.items():
        full = np.empty(shape + template.data.shape, dtype=template.data.dtype)
        for cell in itertools.product(*(range(n) for n in shape)):
            value = done[cell].get(name)
            if value is None or value.data.shape != template.data.shape:
                found = None if value is None else value.data.shape
                raise ValueError(f"{name} of cell {cell} has shape {found}: must be {template.data.shape}")
            full[cell] = value.data
        inner = {dim: (dim, values) for dim, values in template.coords.items()}
        dataset = dataset.assign_coords(inner)
        dataset[name] = ((*axes, *template.dims), full, template.attrs)
    return dataset


def _fingerprint(function: Any, scenario: Any, axes: Any, seed: Any) -> str:
    parts = {
        "function": f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}",
        "scenario": {f.name: np.asarray(getattr(scenario, f.name)).tolist() for f in fields(scenario)},
        "axes": {name: axis.tolist() for name, axis in axes.items()},
        "seed": seed,
    }
    return json.dumps(parts, sort_keys=True)
