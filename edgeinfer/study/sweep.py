"""A function of a scenario over a grid of parameters."""

import inspect
import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgeinfer import _identity, _random, _validate
from edgeinfer._extras import need
from edgeinfer._store import Cell, Failure, Store, digest
from edgeinfer._version import __version__
from edgeinfer.study import cells as _cells
from edgeinfer.study.tables import table

_log = logging.getLogger("edgeinfer.study")
#: s between two looks at cells that another process computes.
_PAUSE = 0.05
#: Cells at once on a client that has no workers yet.
_LEAST = 8
Index = tuple[int, ...]


def sweep(
    function: Callable[..., Any],
    scenario: Any,
    axes: Mapping[str, Any],
    *,
    store: str | Path | None = None,
    client: Any = None,
    progress: bool = True,
    seed: int | None = None,
    on_error: str = "raise",
) -> Any:
    """Evaluate a function over a grid of parameters.

    Parameters
    ----------
    function : callable
        function(scenario, **others) -> a number, a string, a time, an array, an Estimate or another dataclass, a pandas
        or xarray object, or a dict of such by name. On a Dask client it must be picklable.
    scenario : Scenario, Cell or None
        What the axes change: each cell of the grid gets `scenario.replace(...)`. Any dataclass with `replace`; None for
        a function of the axes alone, function(**others).
    axes : mapping of str to (n,) array_like
        Names of scenario fields, or of keyword arguments of `function` (any other name). Numbers, strings, booleans or
        times; none twice.
    store : path, optional
        A folder. Finished cells are kept in it, and the same call takes up from there, however the last one ended.
        Several processes may use one at once: each computes cells that no other does, and returns the whole table.
        Axes may have other values than before, in any order, if each shares one with the store; only new cells are
        computed (the log `edgeinfer.study` says which). It belongs to the function's code, the values and the code that
        it refers to, the scenario, the seed and the versions of libraries. Values that the calls themselves change,
        such as a counter or a cache, do not count.
    client : dask.distributed.Client, optional
        Where cells are computed; in this process by default.
    progress : bool
        A bar, on a terminal only.
    seed : int, optional
        If given, `function` gets `rng`, a seed sequence that depends on this and the cell's values alone.
    on_error : {"raise", "mark"}
        What to do when a cell fails: stop, or go on with the others. The same call on a store tries marked cells again.

    Returns
    -------
    xarray.Dataset
        One dimension an axis, then those of the function's values; coordinates carry the scenario's `units`. A
        dataclass or a dict gives a variable for each field or key, anything else "value"; of an Estimate under the key
        "p" these are p, p_low, p_high, ... A `Simulation` comes without its histogram, which has as many bins as its
        times need; of a cell's simulation take a class, `run["terminals"]`. Values with coordinates are joined by
        label, see `tables.table`. With `on_error="mark"`, `failure` is why a cell has no values, "" where it has.

    Raises
    ------
    ValueError
        For a bad axis, a store that belongs to another sweep (naming what differs), an answer that is no value, such as
        None, or cells whose values do not go together.
    ImportError
        Naming the extra, without xarray.

    Examples
    --------
    >>> from edgeinfer import latency, paper
    >>> table = sweep(
    ...     lambda s: latency(s.pipelines()["split"]).total, paper.scenario(), {"prior_steps": [10, 20]}
    ... )
    >>> table["value"].round(3).values
    array([1.057, 1.507])
    >>> sweep(lambda width, height: width * height, None, {"width": [1, 2], "height": [3, 4]})["value"].values
    array([[3, 4],
           [6, 8]])
    """
    need("xarray", "study")
    tqdm = need("tqdm", "study").tqdm
    marks = _validate.choice("on_error", on_error, ("raise", "mark")) == "mark"
    if client is not None:
        _check(client)
    grid = _Grid.of(function, scenario, axes, seed, marks)
    results: _Kept = _Kept(grid)
    if store is not None:
        _validate.path("store", store)
        results = _Stored(grid, store)
    try:
        with tqdm(total=len(grid.indices), disable=None if progress else True) as bar:
            work = results.work(bar.update)
            for index, result in _here(grid, work) if client is None else _on(client, grid, work):
                results.keep(index, result)
                bar.update()
    finally:
        results.close()
    return _assembled(grid, results.all())


@dataclass
class _Grid:
    """The cells of a sweep and what is called in each."""

    function: Callable[..., Any]
    scenario: Any
    axes: dict[str, np.ndarray]
    given: dict[str, list[Any]]
    seeds: np.random.SeedSequence | None
    marks: bool

    @classmethod
    def of(cls, function: Any, scenario: Any, axes: Any, seed: Any, marks: bool) -> "_Grid":
        if not callable(function):
            raise ValueError(f"function = {function!r}: must be callable")
        kind = is_dataclass(scenario) and not isinstance(scenario, type) and hasattr(scenario, "replace")
        if scenario is not None and not kind:
            raise ValueError(
                f"scenario = {_validate.shown(scenario)}: must be a dataclass with `replace`, as paper.scenario() is, "
                "or None for a function of the axes alone"
            )
        if not isinstance(axes, Mapping) or not axes:
            raise ValueError(f"axes = {axes!r}: must name at least one parameter")
        known, units = _fields(scenario), getattr(scenario, "units", {})
        arrays = {
            name: _axis(name, axis, units.get(name), name in units and name in known) for name, axis in axes.items()
        }
        given = {name: _items(axes[name], array) for name, array in arrays.items()}
        seeds = None if seed is None else _random.seed_sequence(seed, "seed")
        if "rng" in arrays and seed is not None:
            raise ValueError("axes['rng']: must not be an axis where `seed` is given, which gives `rng`")
        if marks and "failure" in arrays:
            raise ValueError("axes['failure']: must not be an axis where failures are marked")
        grid = cls(function, scenario, arrays, given, seeds, marks)
        grid._check_arguments()
        return grid

    def _check_arguments(self) -> None:
        try:
            signature = inspect.signature(self.function)
        except (TypeError, ValueError):
            return
        others = self.call(self.indices[0])[1]
        try:
            signature.bind(*_first(self.scenario, {}), **others)
        except TypeError as error:
            raise ValueError(
                f"axes = {', '.join(self.axes)}: must be fields of the scenario, or arguments of the function with "
                f"which"
                f" it can be called ({error})"
            ) from None

    @cached_property
    def fields(self) -> set[str]:
        return _fields(self.scenario)

    @cached_property
    def indices(self) -> list[Index]:
        return list(np.ndindex(*(len(axis) for axis in self.axes.values())))

    def values(self, index: Index) -> dict[str, Any]:
        return {name: axis[i] for (name, axis), i in zip(self.given.items(), index, strict=True)}

    def point(self, index: Index) -> dict[str, Any]:
        """The cell by the labels of its axes: equal numbers are one label, whatever their type."""
        return {name: _label(self.axes[name][i]) for name, i in zip(self.axes, index, strict=True)}

    def call(self, index: Index) -> tuple[dict[str, Any], dict[str, Any]]:
        """Changes of the scenario, and other arguments."""
        values = self.values(index)
        changes = {name: value for name, value in values.items() if name in self.fields}
        others = {name: value for name, value in values.items() if name not in self.fields}
        if self.seeds is not None:
            key = *self.seeds.spawn_key, int(digest(self.point(index)), 16)
            others["rng"] = np.random.SeedSequence(self.seeds.entropy, spawn_key=key)
        return changes, others

    def say(self, index: Index) -> str:
        return f"({', '.join(f'{name} = {value}' for name, value in self.values(index).items())})"

    def job(self, index: Index) -> tuple[Any, ...]:
        return self.function, self.scenario, *self.call(index), self.values(index), self.say(index), self.marks

    def belongs(self) -> dict[str, Any]:
        """All that the cells depend on beside their points."""
        held = self.fields | getattr(self.scenario, "__dict__", {}).keys()
        scenario = {
            name: part
            for field in sorted(held - self.axes.keys())
            for name, part in _identity.parts(f"scenario field {field}", getattr(self.scenario, field)).items()
        }
        return {
            **_identity.parts("function", self.function),
            **_identity.parts("scenario", type(self.scenario)),
            **scenario,
            "seed": None if self.seeds is None else repr(self.seeds),
            "edgeinfer": __version__,
        }


def _fields(scenario: Any) -> set[str]:
    return set() if scenario is None else {field.name for field in fields(scenario)}


def _first(scenario: Any, changes: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the function gets before its other arguments."""
    return () if scenario is None else (scenario.replace(**changes),)


class _Kept:
    """Results in memory."""

    def __init__(self, grid: _Grid) -> None:
        self.grid = grid
        self.results: dict[Index, Cell | Failure] = {}

    def work(self, found: Callable[[], Any]) -> Iterator[Index | None]:
        """Cells to compute; None while others compute all that are left. `found` is called for each that is there."""
        yield from self.grid.indices

    def keep(self, index: Index, result: Cell | Failure) -> None:
        self.results[index] = result

    def close(self) -> None:
        pass

    def all(self) -> dict[Index, Cell | Failure]:
        """By index, in the grid's order."""
        return {index: self.results[index] for index in self.grid.indices}


class _Stored(_Kept):
    """Results in a store that other processes may use as well."""

    def __init__(self, grid: _Grid, path: str | Path) -> None:
        super().__init__(grid)
        labels = {name: [_label(label) for label in axis] for name, axis in grid.axes.items()}
        self.store = Store(path, "sweep", grid.belongs(), labels)
        self.old = {index: self.store.marked(grid.point(index)) for index in grid.indices}
        there = sum(self.store.has(grid.point(index)) for index in grid.indices)
        _log.info("store = %s: %d of %d cells are there; new values: %s", path, there, len(self.old), self.store.added)

    def work(self, found: Callable[[], Any]) -> Iterator[Index | None]:
        waiting = deque(self.grid.indices)
        while waiting:
            for _ in range(len(waiting)):
                index = waiting.popleft()
                point = self.grid.point(index)
                if self.store.has(point) or self.failed(index) is not None:
                    found()
                elif self.store.claim(point):
                    yield index
                else:
                    waiting.append(index)
            if waiting:
                yield None

    def failed(self, index: Index) -> Failure | None:
        """Why a cell has failed, if that was since this sweep began and failures are marked."""
        mark = self.store.marked(self.grid.point(index)) if self.grid.marks else None
        return None if mark is None or mark == self.old[index] else Failure(mark["failure"])

    def keep(self, index: Index, result: Cell | Failure) -> None:
        point = self.grid.point(index)
        if isinstance(result, Cell):
            self.store.put(point, result)
        else:
            self.store.mark(point, result)
        self.store.release(point)

    def close(self) -> None:
        self.store.close()
        self.store.ignore_changes(self.grid.belongs)

    def all(self) -> dict[Index, Cell | Failure]:
        points = {index: self.grid.point(index) for index in self.grid.indices}
        return {
            index: self.store.get(point) if self.store.has(point) else self.failed(index) or self.store.get(point)
            for index, point in points.items()
        }


def _axis(name: str, axis: Any, unit: str | None = None, number: bool = False) -> np.ndarray:
    """Labels of an axis; of a scenario's `number`s durations are taken in s, where that is their unit."""
    name = f"axes[{name!r}]"
    if number and (hasattr(axis, "attrs") or np.ma.is_masked(axis) or np.asarray(axis).dtype.kind not in "biuf"):
        axis = _validate.numbers(name, axis, unit)
    values = _cells.array(name, axis)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{name} of shape {values.shape}: must be one-dimensional and not empty")
    if values.dtype.kind not in "biufUMm":
        raise ValueError(f"{name} of {values.dtype}: must be real numbers, strings, booleans or times")
    if isinstance(axis, list | tuple) and values.dtype.kind in "iuf":
        flags = any(isinstance(item, bool | np.bool_) for item in axis)
        if flags or any(item != value for item, value in zip(axis, values.tolist(), strict=True) if item == item):
            raise ValueError(f"{name} = {axis!r}: must be of one type that holds each value")
    if (values != values).any():
        raise ValueError(f"{name} = {values}: must not be NaN")
    if len(np.unique(values)) != values.size:
        raise ValueError(f"{name} = {values}: must not repeat a value")
    return values


def _items(axis: Any, values: np.ndarray) -> list[Any]:
    """What the function gets: Python's numbers and strings, and times as they were given."""
    if values.dtype.kind in "mM":
        return list(axis if isinstance(axis, list | tuple) else values)
    return values.tolist()


def _label(value: Any) -> Any:
    if value.dtype.kind in "mM":
        kind = "datetime64" if value.dtype.kind == "M" else "timedelta64"
        rounded = value.astype(f"{kind}[us]")
        return [kind, str(rounded if rounded == value else value)]
    label = value.item()
    return int(label) if isinstance(label, float) and label.is_integer() and abs(label) <= 2**53 else label


def _cell(
    function: Any, scenario: Any, changes: Any, others: Any, values: Any, said: str, marks: bool
) -> Cell | Failure:
    try:
        found = _cells.cell(function(*_first(scenario, changes), **others), values)
    except Exception as error:
        if marks:
            return Failure(f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))
        error.add_note(f"in cell {said}")
        raise
    if marks and "failure" in found.values:
        raise ValueError("failure: must not be a result where failures are marked")
    return found


def _here(grid: _Grid, work: Iterator[Index | None]) -> Iterator[tuple[Index, Cell | Failure]]:
    for index in work:
        if index is None:
            time.sleep(_PAUSE)
        else:
            yield index, _cell(*grid.job(index))


def _check(client: Any) -> None:
    distributed = need("distributed", "study")
    if not isinstance(client, distributed.Client) or client.asynchronous:
        raise ValueError(f"client = {client!r}: must be a distributed.Client that is not asynchronous")


def _on(client: Any, grid: _Grid, work: Iterator[Index | None]) -> Iterator[tuple[Index, Cell | Failure]]:
    """A few cells for each thread at a time, so that other processes find some on a store."""
    distributed = need("distributed", "study")
    running: dict[Any, Index] = {}
    ended = False
    try:
        while running or not ended:
            blocked = False
            room = max(_LEAST, 2 * sum(client.nthreads().values()))
            while not (ended or blocked) and len(running) < room:
                index = next(work, ())
                ended, blocked = index == (), index is None
                if index:
                    running[client.submit(_cell, *grid.job(index), pure=False)] = index
            if not running:
                time.sleep(_PAUSE)
                continue
            try:
                wait = 20 * _PAUSE if blocked else None
                done = distributed.wait(list(running), timeout=wait, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                continue
            for future in done:
                yield running.pop(future), _outcome(future, grid.marks)
    finally:
        client.cancel(list(running))


def _outcome(future: Any, marks: bool) -> Cell | Failure:
    # A worker hands failures back as such; what is left is a worker that died, or what does not pickle.
    error = future.exception() if marks else None
    return future.result() if error is None else Failure(f"{type(error).__name__}: {error}")


def _assembled(grid: _Grid, results: Mapping[Index, Cell | Failure]) -> Any:
    units = getattr(grid.scenario, "units", {})
    coords = {
        name: (name, axis, {"units": units[name]} if name in units and axis.dtype.kind not in "mM" else {})
        for name, axis in grid.axes.items()
    }
    found = {index: result for index, result in results.items() if isinstance(result, Cell)}
    dataset = table(coords, found, grid.say)
    if grid.marks:
        texts = [result.text if isinstance(result, Failure) else "" for result in results.values()]
        shape = [len(axis) for axis in grid.axes.values()]
        dataset["failure"] = tuple(grid.axes), np.array(texts, dtype=np.str_).reshape(shape)
    return dataset
