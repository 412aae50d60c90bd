"""The frame of what is measured in runs: each is kept when it is done, and a call that was stopped takes up there."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeinfer._extras import need
from edgeinfer._store import Cell, Store, Value
from edgeinfer._version import __version__
from edgeinfer.network.machine import machine
from edgeinfer.paper.measured import store

Point = Mapping[str, Any]


def made_here() -> dict[str, str]:
    """What all that is measured depends on beside its settings: a folder may go to another machine, or outlive a
    version.
    """
    return {"edgeinfer": __version__, "processor": machine()["processor"]}


class Runs:
    """Runs by what names them.

    Parameters
    ----------
    kept : Store
    done : callable
        Called after each run, found or made.
    """

    def __init__(self, kept: Store, done: Callable[[], Any]) -> None:
        self._kept, self._done = kept, done

    def one(self, point: Point, make: Callable[[], Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
        """What a run gives, made unless it is kept."""
        return self.together([point], lambda: [make()])[0]

    def together(
        self, points: Sequence[Point], make: Callable[[], Iterable[Mapping[str, Any]]]
    ) -> list[dict[str, NDArray[Any]]]:
        """What runs of the same processes give: all are made anew, one after the other, unless all are kept."""
        if all(map(self._kept.has, points)):
            for _ in points:
                self._done()
        else:
            for point, values in zip(points, make(), strict=True):
                self._kept.put(point, Cell({name: Value([], value) for name, value in values.items()}))
                self._done()
        return [{name: value.data for name, value in self._kept.get(point).values.items()} for point in points]


@contextmanager
def runs(
    name: str, out: str | Path, about: Mapping[str, Any], total: int, *, stored: str | Path | None, progress: bool
) -> Iterator[Runs]:
    """The runs of a measurement.

    Parameters
    ----------
    name : str
        Of the measurement.
    out : path
        The folder of its file.
    about : mapping
        What its runs depend on, as values of JSON.
    total : int
        How many there are.
    stored : path, optional
        A folder of finished runs, from which the same call takes up; `out`/.measure/`name` by default, which is
        removed at the end.
    progress : bool
        A bar over runs, on a terminal only.

    Raises
    ------
    ValueError
        If the folder holds runs of something else.
    """
    folder = Path(stored) if stored else Path(out) / ".measure" / name
    bar = need("tqdm", "paper").tqdm(
        total=total, disable=None if progress else True, unit="run", desc=name.replace("_", " ")
    )
    kept = Store(folder, f"measurement of {name}", {**about, **made_here()})
    with kept.locked(), bar:
        yield Runs(kept, bar.update)
    if not stored:
        shutil.rmtree(folder)


def write(
    name: str, out: str | Path, variables: Mapping[str, Any], coordinates: Mapping[str, Any], about: Mapping[str, Any]
) -> Path:
    """Write what was measured here and now into `out`: its path."""
    xarray = need("xarray", "paper")
    return store.write(xarray.Dataset(variables, coordinates, {**about, **machine()}), Path(out) / f"{name}.nc")
