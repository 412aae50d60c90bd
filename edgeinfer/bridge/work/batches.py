"""Requests of one cut that run together, where the network allows it."""

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.bridge.cutting.parts import Session
from edgeinfer.bridge.cutting.sessions import CutSessions

# Rows that run together may be rounded otherwise than alone, by sums in another order.
_TOLERANCE = 1e-3
Tensors = Mapping[str, NDArray[Any]]


class Batches:
    """Runs requests of one cut as one, their tensors behind one another along the first axis.

    A cut allows it where the file leaves that axis free and every tensor at the cut has as many rows as the inputs.
    That rows do not depend on one another is found with the first requests that come together: they run alone, too, and
    where that gives something else, requests of that cut run one by one from then on.

    Parameters
    ----------
    sessions : CutSessions
    limit : int
        Rows that may run together, in multiples of those that the network was read with. >= 1.

    Attributes
    ----------
    limit : int
    rows : frozenset of str
        Tensors with as many rows as the inputs; none with a limit of 1, or where the network does not allow it.
    """

    def __init__(self, sessions: CutSessions, limit: int) -> None:
        self.limit = _validate.whole("batch", limit, 1)
        self.rows = sessions.batched() if limit > 1 else frozenset()
        self._graph = sessions.graph
        self._independent: WeakKeyDictionary[Session, bool] = WeakKeyDictionary()

    def allow(self, names: Sequence[str]) -> bool:
        """Whether a cut at these tensors may run in batches."""
        return bool(names) and self.rows.issuperset(names)

    def size(self, names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> int:
        """Requests that tensors of these shapes stand for; ValueError where that is none, or too many."""
        counts = set()
        for name, shape in zip(names, shapes, strict=True):
            known = self._graph.tensors[name].shape
            count, rest = divmod(shape[0], known[0]) if len(shape) == len(known) else (0, 0)
            if rest or not 1 <= count <= self.limit or shape[1:] != known[1:]:
                shown = f"[{known[0]} to {known[0] * self.limit}, {', '.join(map(str, known[1:]))}]"
                raise ValueError(f"input {name!r} of shape {list(shape)[:8]}: must be {shown}")
            counts.add(count)
        if len(counts) != 1:
            raise ValueError(f"inputs {', '.join(map(repr, names))}: must have equally many rows")
        return counts.pop()

    def run(
        self, session: Session, feeds: Sequence[Tensors], sizes: Sequence[int]
    ) -> list[tuple[dict[str, Any], float]]:
        """What the session gives for each of the requests, and the time that it took, s."""
        if len(feeds) == 1 or not self._independent.get(session, True):
            return [session.run(each) for each in feeds]
        groups, room = [[0]], self.limit - sizes[0]
        for number, size in enumerate(sizes[1:], 1):
            if size > room:
                groups.append([])
                room = self.limit
            groups[-1].append(number)
            room -= size
        results: list[tuple[dict[str, Any], float]] = []
        for group in groups:
            merged = {name: np.concatenate([feeds[i][name] for i in group]) for name in session.inputs}
            outputs, seconds = session.run(merged)
            ends = np.cumsum([sizes[i] for i in group])[:-1]
            parts = {
                name: np.split(value, ends * (len(value) // sum(sizes[i] for i in group)))
                for name, value in outputs.items()
            }
            results += [({name: parts[name][k] for name in parts}, seconds) for k in range(len(group))]
        if session not in self._independent:
            alone = [session.run(each) for each in feeds]
            self._independent[session] = all(_same(one[0], other[0]) for one, other in zip(alone, results, strict=True))
            return alone
        return results


def _same(one: Tensors, other: Tensors) -> bool:
    for name, value in one.items():
        if value.shape != other[name].shape:
            return False
        if value.dtype.kind != "f":
            if not np.array_equal(value, other[name]):
                return False
        elif not np.allclose(value, other[name], rtol=0, atol=_TOLERANCE * (np.abs(value).max(initial=0) or 1.0)):
            return False
    return True
