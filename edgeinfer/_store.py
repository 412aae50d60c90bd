"""Finished cells of a long computation on disk, so that it takes up where it stopped, however it stopped."""

import fcntl
import hashlib
import io
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeinfer._files import json_object, replacing

_FORMAT = 2
_SAID = 5


@dataclass
class Value:
    """One named result of a cell: dimensions, numbers, attributes, and whether it is a coordinate."""

    dims: Sequence[str]
    data: Any
    attrs: dict[str, Any] = field(default_factory=dict)
    coordinate: bool = False

    def __post_init__(self) -> None:
        self.dims, self.data = tuple(self.dims), np.asarray(self.data)


@dataclass
class Cell:
    """The results of a cell by name, and attributes of them all."""

    values: dict[str, Value]
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass
class Failure:
    """Why a cell has no results."""

    text: str
    traceback: str = ""


def digest(point: Mapping[str, Any]) -> str:
    """128 bits, hexadecimal, that a point's labels give, in whatever order its axes are."""
    return hashlib.sha256(json.dumps(dict(point), sort_keys=True).encode()).hexdigest()[:32]


class Store:
    """Finished cells in a folder, which several processes may use at once.

    A cell is one file, which is there whole or not at all, named by the digest of its point; `store.json` says what the
    cells belong to. Who computes a cell holds a lock on it, which the system takes back when the process ends, however
    it ends.

    Parameters
    ----------
    path : path
        A folder; made if need be.
    kind : str
        What errors call the computation.
    belongs : mapping of str to str, number, list or None
        All that a cell depends on beside its point, by names that errors can show.
    axes : mapping of str to list, optional
        Labels of the points by axis. A store may be asked for other labels than it holds, if each axis has one in
        common.

    Raises
    ------
    ValueError
        Naming what differs, if the folder holds something else.
    OSError
        If the file system has no locks.
    """

    def __init__(
        self, path: str | Path, kind: str, belongs: Mapping[str, Any], axes: Mapping[str, list[Any]] | None = None
    ) -> None:
        if "://" in str(path):
            raise ValueError(f"store = {path}: must be a folder of a local file system")
        self.path, self.kind = Path(path), kind
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"store = {path}: is a file, must be a folder or not there")
        self.manifest = self.path / "store.json"
        self.claims: dict[Path, int] = {}
        self.belongs = dict(belongs)
        asked = {"kind": kind, "format": _FORMAT, "belongs": dict(belongs), "axes": dict(axes or {}), "ignored": []}
        asked = json.loads(json.dumps(asked))
        self.path.mkdir(parents=True, exist_ok=True)
        with self.locked():
            held = self._held()
            if held is not None:
                self._compare(held, asked)
            #: Labels that the store has not been asked for before, by axis.
            self.added = {
                name: [x for x in labels if held is None or x not in held["axes"].get(name, [])]
                for name, labels in asked["axes"].items()
            }
            (self.path / "cells").mkdir(exist_ok=True)
            if held is None:
                self._write(asked)
                return
            if any(self.added.values()):
                self._write(held | {"axes": {name: held["axes"][name] + new for name, new in self.added.items()}})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The store to oneself; others wait."""
        descriptor = _open(self.path / ".lock")
        try:
            _lock(descriptor, self.path, wait=True)
            yield
        finally:
            os.close(descriptor)

    def ignore(self, names: Sequence[str]) -> None:
        """Leave some of `belongs` out when the store is compared from now on."""
        if names:
            with self.locked():
                held = self._held()
                if held is not None:
                    self._write(held | {"ignored": sorted({*held["ignored"], *names})})

    def ignore_changes(self, belongs: Callable[[], Mapping[str, Any]]) -> None:
        """The same of what is no longer as it was, such as a counter of the calls."""
        try:
            now = belongs()
        except ValueError:
            return
        self.ignore([name for name in {**self.belongs, **now} if self.belongs.get(name) != now.get(name)])

    def has(self, point: Mapping[str, Any]) -> bool:
        """Whether a cell is finished."""
        return self._file(point, "npz").exists()

    def claim(self, point: Mapping[str, Any]) -> bool:
        """Take a cell that is not finished to compute it; False if it is, or another process has taken it."""
        path = self._file(point, "lock")
        descriptor = _open(path)
        # Who has finished a cell removes its lock: one that is gone guards nothing.
        if _lock(descriptor, self.path) and os.fstat(descriptor).st_nlink:
            self.claims[path] = descriptor
            if not self.has(point):
                return True
            self.release(point)
            return False
        os.close(descriptor)
        return False

    def release(self, point: Mapping[str, Any]) -> None:
        """Let others take a cell again."""
        path = self._file(point, "lock")
        descriptor = self.claims.pop(path)
        path.unlink(missing_ok=True)
        os.close(descriptor)

    def close(self) -> None:
        """Release all that is claimed."""
        for path in list(self.claims):
            path.unlink(missing_ok=True)
            os.close(self.claims.pop(path))

    def put(self, point: Mapping[str, Any], cell: Cell) -> None:
        """Keep a finished cell."""
        header = {
            "point": dict(point),
            "attrs": cell.attrs,
            "values": [[name, list(v.dims), v.attrs, v.coordinate] for name, v in cell.values.items()],
        }
        buffer = io.BytesIO()
        arrays = {str(i): value.data for i, value in enumerate(cell.values.values())}
        np.savez(buffer, header=np.array(json.dumps(header)), **arrays)
        with replacing(self._file(point, "npz")) as temporary:
            temporary.write_bytes(buffer.getvalue())
        self._file(point, "json").unlink(missing_ok=True)

    def get(self, point: Mapping[str, Any]) -> Cell:
        """A finished cell."""
        path = self._file(point, "npz")
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as found:
                header = json.loads(str(found["header"]))
                arrays = [found[str(i)] for i in range(len(header["values"]))]
            if header["point"] != json.loads(json.dumps(dict(point))):
                raise ValueError(f"is of {header['point']}")
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f"store: {path} is damaged ({error}): remove it, and its cell is computed anew") from error
        values = {
            name: Value(dims, array, attrs, coordinate)
            for (name, dims, attrs, coordinate), array in zip(header["values"], arrays, strict=True)
        }
        return Cell(values, header["attrs"])

    def mark(self, point: Mapping[str, Any], failure: Failure) -> None:
        """Keep why a cell has failed."""
        text = {"point": dict(point), "failure": failure.text, "traceback": failure.traceback, "id": uuid.uuid4().hex}
        with replacing(self._file(point, "json")) as temporary:
            temporary.write_text(json.dumps(text))

    def marked(self, point: Mapping[str, Any]) -> dict[str, Any] | None:
        """What `mark` kept of a cell: `failure`, `traceback`, and an `id` that each mark has of its own."""
        try:
            found = _read(self._file(point, "json"), "remove it")
        except FileNotFoundError:
            return None
        if not isinstance(found.get("failure"), str):
            raise ValueError(f"store: {self._file(point, 'json')} is damaged: remove it")
        return found

    def _file(self, point: Mapping[str, Any], kind: str) -> Path:
        return self.path / "cells" / f"{digest(point)}.{kind}"

    def _held(self) -> dict[str, Any] | None:
        """What the store says of itself; None for an empty folder."""
        if self.manifest.exists():
            held = _read(self.manifest, "give another path, or remove the store")
            if held.get("format") != _FORMAT:
                raise ValueError(
                    f"store = {self.path}: is of format {held.get('format')}, this version of edgeinfer reads"
                    f" {_FORMAT}; give another path, or remove it"
                )
            kinds = {"kind": str, "belongs": dict, "axes": dict, "ignored": list}
            if any(not isinstance(held.get(name), kind) for name, kind in kinds.items()):
                raise ValueError(f"store: {self.manifest} is damaged: give another path, or remove the store")
            return held
        if (self.path / "zarr.json").exists() and "edgeinfer_" in (self.path / "zarr.json").read_text():
            raise ValueError(
                f"store = {self.path}: is of an older edgeinfer, and does not say all that its cells depend on; give"
                " another path, or remove it"
            )
        if any(entry.name != "cells" and not entry.name.startswith(".") for entry in self.path.iterdir()):
            raise ValueError(f"store = {self.path}: is not empty and holds no {self.kind} of edgeinfer")
        return None

    def _write(self, held: Mapping[str, Any]) -> None:
        with replacing(self.manifest) as temporary:
            temporary.write_text(json.dumps(held, indent=1))

    def _compare(self, held: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
        if held["kind"] != self.kind:
            raise ValueError(
                f"store = {self.path}: holds a {held['kind']}, no {self.kind}; give another path, or remove it"
            )
        differ = []
        for name in dict.fromkeys([*held["belongs"], *asked["belongs"]]):
            sides = [side["belongs"][name] if name in side["belongs"] else "nothing" for side in (held, asked)]
            if sides[0] != sides[1] and name not in held["ignored"]:
                digests = all(isinstance(side, str) and side.startswith("#") for side in sides)
                differ.append(
                    f"{name} differs" if digests else f"{name} ({_shown(sides[0])} there, {_shown(sides[1])} here)"
                )
        if held["axes"].keys() != asked["axes"].keys():
            differ = [f"axes ({', '.join(held['axes'])} there, {', '.join(asked['axes'])} here)"]
        elif not differ:
            differ += [
                f"axis {name} shares no value with the store's ({_shown(held['axes'][name])} there, "
                f"{_shown(labels)} here)"
                for name, labels in asked["axes"].items()
                if not any(label in held["axes"][name] for label in labels)
            ]
        if differ:
            more = f", and {len(differ) - _SAID} more" if len(differ) > _SAID else ""
            said = ", ".join(differ[:_SAID])
            raise ValueError(
                f"store = {self.path}: holds another {self.kind}: {said}{more}; give another path, or remove it"
            )


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    if text.startswith("#"):
        return "another"
    return text if len(text) <= 100 else f"{text[:100]}..."


def _read(path: Path, way: str) -> dict[str, Any]:
    """An object of JSON; ValueError naming the file, and a way on, for what is none."""
    try:
        return json_object(path, path.name)
    except ValueError as error:
        raise ValueError(f"store: {path} is damaged ({error}): {way}") from error


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _lock(descriptor: int, path: Path, wait: bool = False) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        raise OSError(error.errno, f"store = {path}: must lie on a file system with locks: {error.strerror}") from error
    return True
