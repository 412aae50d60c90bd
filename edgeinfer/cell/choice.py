"""Which paradigm each terminal should take: what they settle at, what is best for all, and what lies between."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import comb
from typing import Any

import numpy as np

from edgeinfer import _random, _validate
from edgeinfer.cell.bracket import cell_bracket
from edgeinfer.cell.capacity import METHODS, check_options, late, simulated
from edgeinfer.cell.model import Cell, Terminals

#: Both ends of a probability.
Ends = tuple[float, float]
Counts = tuple[int, ...]


@dataclass(frozen=True)
class Division:
    """Terminals by class, and the probability that a request of a terminal is late, mean over all terminals.

    Attributes
    ----------
    counts : dict of str to int
        Terminals of each class of the cell.
    value, low, high : float
        Ends of the bracket and their middle; or the estimate's.
    certain : bool
        Of an equilibrium: whether the ends leave no doubt that nobody gains by changing.
    """

    counts: dict[str, int]
    value: float
    low: float
    high: float
    certain: bool = True


@dataclass(frozen=True)
class ParadigmChoice:
    """Outcome of `best_paradigms`.

    Attributes
    ----------
    equilibria : tuple of Division
        Those in which, by the values, no terminal gains by changing alone; the worst first. There may be none.
    optimum : Division
        The least mean probability.
    price_of_anarchy, price_low, price_high : float
        Of the worst equilibrium over the optimum, and its ends; nan without an equilibrium.
    method : {"bracket", "simulation"}
    """

    equilibria: tuple[Division, ...]
    optimum: Division
    price_of_anarchy: float
    price_low: float
    price_high: float
    method: str


class _Costs:
    """P(late) of a class, given the terminals of each."""

    def __init__(self, cell: Cell, deadline: float, method: str, options: dict[str, Any]) -> None:
        self.cell, self.deadline, self.method, self.options = cell, deadline, method, options
        self._known: dict[Any, dict[int, tuple[float, float, float]]] = {}

    def __call__(self, index: int, counts: Counts) -> tuple[float, float, float]:
        """Value and both ends."""
        # Who needs no edge shares nothing.
        alone = self.cell.terminals[index].edge_index is None
        key = tuple(
            (1 if i == index else 0) if alone else (n if kind.edge_index is not None else 0)
            for i, (kind, n) in enumerate(zip(self.cell.terminals, counts, strict=True))
        )
        if key not in self._known:
            self._known[key] = self._of_all(key)
        return self._known[key][index]

    def _of_all(self, counts: Counts) -> dict[int, tuple[float, float, float]]:
        present = {i: _counted(self.cell.terminals[i], n) for i, n in enumerate(counts) if n > 0}
        cell = self.cell.replace(terminals=tuple(present.values()))
        if self.method == "bracket":
            ends = {i: cell_bracket(cell, self.deadline, kind.name) for i, kind in present.items()}
            return {i: (float(e.lower + e.upper) / 2, float(e.lower), float(e.upper)) for i, e in ends.items()}
        run = simulated(cell, self.deadline, **self.options)
        if run is None:
            return dict.fromkeys(present, (1.0, 1.0, 1.0))
        found = {i: late(run, kind.name) for i, kind in present.items()}
        return {i: (float(e.value), float(e.low), float(e.high)) for i, e in found.items()}


def _counted(kind: Terminals, count: int) -> Terminals:
    return kind if kind.count == count else replace(kind, count=count, nearest=None)


def _divisions(count: int, parts: int) -> Iterator[Counts]:
    """All ways to divide terminals among classes."""
    if parts == 1:
        yield (count,)
        return
    for first in range(count + 1):
        for rest in _divisions(count - first, parts - 1):
            yield first, *rest


def best_paradigms(
    cell: Cell,
    populations: Mapping[str, tuple[int, Any]],
    deadline: float,
    *,
    method: str = "bracket",
    most: int = 2_000,
    **options: Any,
) -> ParadigmChoice:
    """How many terminals of each population should take each paradigm, if each looks after itself, and for all of them.

    A paradigm is a class of the cell: split at one stage, all on the edge, alone on the device. A terminal minimises
    the probability that its own requests are late; at an equilibrium (Nash) none lowers it by changing its class while
    the others stay. The optimum has the least mean over all terminals of the cell.

    Parameters
    ----------
    cell : Cell
        A class for each paradigm of each population. Numbers of classes of no population stay.
    populations : mapping of str to (int, sequence of str)
        Number of terminals of each population, and the classes that each of them may take, at least one; a class is of
        one population.
    deadline : float, s
        > 0.
    method : {"bracket", "simulation"}
        Probabilities by certified ends or by simulation, in which a lost request is late. All divisions are computed,
        by simulation from the same random numbers.
    most : int
        Divisions at most.
    **options
        For "simulation": `jobs` (20 000), `replications`, `rng`, `threads`, `confidence` of `simulate_cell`.

    Returns
    -------
    ParadigmChoice

    Raises
    ------
    ValueError
        Also where there are more divisions.

    Examples
    --------
    >>> import edgeinfer as ei
    >>> alone = ei.Terminals(1, 0.1, ei.Pipeline([ei.Constant(2.0, "device")]), name="alone")
    >>> split = ei.Terminals(1, 0.1, ei.Pipeline([ei.Constant(1.0, "edge")]), edge="edge", name="split")
    >>> found = best_paradigms(ei.Cell((alone, split), (ei.EdgeNode(),)), {"all": (6, ["alone", "split"])}, 3.0)
    >>> found.equilibria[0].counts, found.optimum.counts
    ({'alone': 0, 'split': 6}, {'alone': 2, 'split': 4})
    """
    _validate.check_kind("cell", cell, Cell)
    deadline = _validate.scalar("deadline", deadline, 0, low_open=True, unit="s")
    _validate.choice("method", method, METHODS)
    check_options(method, options)
    groups = _groups(cell, populations)
    number = int(np.prod([comb(count + len(places) - 1, count) for count, places in groups], dtype=object))
    if number > _validate.whole("most", most, 1):
        raise ValueError(f"most = {most}: must be at least {number}, the divisions of these populations")
    options = {"jobs": 20_000} | options
    options["rng"] = _random.seed_sequence(options.get("rng"))
    costs = _Costs(cell, deadline, method, options)
    states = []
    for parts in product(*(_divisions(count, len(places)) for count, places in groups)):
        counts = [kind.count for kind in cell.terminals]
        for (_, places), part in zip(groups, parts, strict=True):
            for place, n in zip(places, part, strict=True):
                counts[place] = n
        states.append(tuple(counts))
    return _choose(cell, [places for _, places in groups], states, costs, method)


def _groups(cell: Cell, populations: Any) -> list[tuple[int, list[int]]]:
    """Number and places of classes of each population."""
    if not isinstance(populations, Mapping) or not populations:
        raise ValueError(f"populations = {populations!r}: must be a mapping of at least one name to (number, classes)")
    answer: list[tuple[int, list[int]]] = []
    taken: set[int] = set()
    for name, value in populations.items():
        try:
            count, classes = value
            places = [cell.class_index(each) for each in ([classes] if isinstance(classes, str) else classes)]
        except TypeError:
            raise ValueError(f"populations[{name!r}] = {value!r}: must be (number, names of classes)") from None
        if not places or len({*places} | taken) < len(places) + len(taken):
            raise ValueError(f"populations[{name!r}] = {value!r}: must have classes, none of them twice or of another")
        taken |= set(places)
        answer.append((_validate.whole(f"populations[{name!r}]", count, 1), places))
    return answer


def _choose(cell: Cell, groups: list[list[int]], states: list[Counts], costs: _Costs, method: str) -> ParadigmChoice:
    names = [kind.name for kind in cell.terminals]

    def division(counts: Counts, certain: bool) -> Division:
        parts = np.array([n * np.array(costs(i, counts)) for i, n in enumerate(counts) if n > 0])
        value, low, high = (parts.sum(axis=0) / sum(counts)).tolist()
        return Division(dict(zip(names, counts, strict=True)), value, low, high, certain)

    equilibria = []
    for counts in states:
        stays, surely = True, True
        for places in groups:
            for i, j in product(places, places):
                if i == j or counts[i] == 0:
                    continue
                changed = list(counts)
                changed[i] -= 1
                changed[j] += 1
                now, then = costs(i, counts), costs(j, tuple(changed))
                stays = stays and now[0] <= then[0]
                surely = surely and now[2] <= then[1]
        if stays:
            equilibria.append(division(counts, surely))
    equilibria.sort(key=lambda each: -each.value)
    best = min((division(counts, True) for counts in states), key=lambda each: each.value)
    if not equilibria:
        return ParadigmChoice((), best, np.nan, np.nan, np.nan, method)
    worst = equilibria[0]

    def price(above: float, below: float) -> float:
        # Nothing is better than the optimum.
        return max(above / below, 1.0) if below > 0 else 1.0 if above == 0 else np.inf

    ends = price(worst.low, best.high), price(worst.high, best.low)
    return ParadigmChoice(tuple(equilibria), best, price(worst.value, best.value), *ends, method)
