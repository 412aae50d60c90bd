"""How much a cell carries: terminals, servers, bandwidth, batches for a violation probability.

A search asks of one number after another whether every class keeps P(late) at most the target: yes or no where the
certified ends or, by simulation, the interval decide; undecided else. Answers hold the last sure yes, the first sure no
and a best guess between them.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeinfer import _random, _validate
from edgeinfer.cell.bracket import cell_bracket
from edgeinfer.cell.model import Cell
from edgeinfer.cell.results import CellSimulation
from edgeinfer.cell.shared import Band, Batching
from edgeinfer.cell.simulation import simulate_cell
from edgeinfer.delay import UnstableError
from edgeinfer.estimates.estimate import Estimate

_log = logging.getLogger("edgeinfer.cell")
METHODS = ("bracket", "simulation")
OPTIONS = ("jobs", "replications", "rng", "threads", "warmup", "confidence")
#: Simulations of one cell, each four times as long as the last.
_RUNS = 3


@dataclass(frozen=True)
class Carried:
    """The answer of a search.

    Attributes
    ----------
    value : int or float
        By "bracket" the certified end; by "simulation" where the estimate crosses the target.
    low, high : int or float
        Between them lies what is not decided: certified ends, or those that intervals of the simulation give, each of
        which misses with probability 1 - confidence.
    method : {"bracket", "simulation"}
    """

    value: Any
    low: Any
    high: Any
    method: str


def check_options(method: str, options: dict[str, Any]) -> None:
    """Refuse what `simulate_cell` does not take, or what nothing takes where nothing is simulated."""
    if method == "bracket" and options:
        raise ValueError(f"{', '.join(options)}: must be left out with method 'bracket'")
    if unknown := [name for name in options if name not in OPTIONS]:
        raise ValueError(f"{', '.join(unknown)}: must be options of simulate_cell, {', '.join(OPTIONS)}")


def late(run: Any, name: str) -> Estimate:
    """P(a request is lost, or answered after the first deadline), from a `CellSimulation`."""
    kind = run[name]
    violation = kind.violation[..., -1]
    if np.ndim(violation.value):
        violation = violation[0]
    lost = kind.loss

    def both(end: str) -> Any:
        loss = getattr(lost, end)
        return np.asarray(loss + (1 - loss) * getattr(violation, end))

    return Estimate(both("value"), both("low"), both("high"), lost.confidence, violation.replications)


def simulated(cell: Cell, deadline: float, **options: Any) -> CellSimulation | None:
    """A run of `simulate_cell`; None where the cell is unstable, or a queue grows without end."""
    try:
        return simulate_cell(cell, deadline, **options)
    except UnstableError:
        return None
    except ValueError as error:
        if "a queue grows" in str(error):
            return None
        raise


class _Search:
    """Whether cells of a family keep a target."""

    def __init__(
        self,
        function: str,
        family: Callable[[Any], Cell],
        deadline: Any,
        probability: Any,
        method: str,
        options: dict[str, Any],
    ) -> None:
        self.function, self.family = function, family
        self.deadline = _validate.scalar("deadline", deadline, 0, low_open=True, unit="s")
        self.probability = _validate.scalar("probability", probability, 0, 1, low_open=True, high_open=True)
        self.method = _validate.choice("method", method, METHODS)
        check_options(method, options)
        self.options = {"jobs": 20_000, "replications": 8} | options
        # All trials from the same random numbers.
        self.options["rng"] = _random.seed_sequence(self.options.get("rng"))
        self._known: dict[Any, tuple[int, bool]] = {}

    def verdict(self, x: Any) -> tuple[int, bool]:
        """1 surely kept, -1 surely not, 0 undecided; and the best guess whether it is kept."""
        if x not in self._known:
            self._known[x] = self._decide(self.family(x))
            _log.info("%s: %g is %s", self.function, x, ("undecided", "enough", "not enough")[self._known[x][0]])
        return self._known[x]

    def _decide(self, cell: Cell) -> tuple[int, bool]:
        refuses = any(edge.capacity is not None for edge in cell.edges)
        if self.method == "bracket" or not refuses:
            ends = [cell_bracket(cell, self.deadline, kind.name) for kind in cell.terminals]
            if max(end.lower for end in ends) > self.probability:
                return -1, False
            if max(end.upper for end in ends) <= self.probability:
                return 1, True
            if self.method == "bracket":
                return 0, False
        jobs, options = self.options["jobs"], {k: v for k, v in self.options.items() if k != "jobs"}
        for _ in range(_RUNS):
            run = simulated(cell, self.deadline, jobs=jobs, **options)
            if run is None:
                return -1, False
            found = [late(run, kind.name) for kind in cell.terminals]
            if max(each.high for each in found) <= self.probability:
                return 1, True
            if max(each.low for each in found) > self.probability:
                return -1, False
            jobs *= 4
        return 0, max(each.value for each in found) <= self.probability

    def until(self, first: Any, most: Any, factor: int, otherwise: str) -> Any:
        """The first of `first`, `factor` times that, and so on up to `most`, itself among them, that surely keeps."""
        x = first
        while self.verdict(x)[0] <= 0:
            if x >= most:
                raise ValueError(otherwise)
            x = min(factor * x, most)
        return x

    def boundary(self, good: Any, bad: Any, keeps: Callable[[Any], bool], middle: Callable[[Any, Any], Any]) -> Any:
        """The last x towards `bad` that keeps, from one that does; `middle` gives None where it is exact enough."""
        # What has been asked before costs nothing.
        for x in sorted(self._known, key=lambda x: abs(x - good)):
            if min(good, bad) < x < max(good, bad):
                if not keeps(x):
                    bad = x
                    break
                good = x
        while (x := middle(good, bad)) is not None:
            good, bad = (x, bad) if keeps(x) else (good, x)
        return good

    def three(self, good: Any, bad: Any, middle: Callable[[Any, Any], Any]) -> tuple[Any, Any, Any]:
        """The last sure yes, the last that is no sure no, and the last best guess."""
        low = self.boundary(good, bad, lambda x: self.verdict(x)[0] > 0, middle)
        high = self.boundary(low, bad, lambda x: self.verdict(x)[0] >= 0, middle)
        value = self.boundary(low, high, lambda x: self.verdict(x)[1], middle) if low != high else low
        if low != high and self.verdict(high)[1]:
            value = high
        return low, high, low if self.method == "bracket" else value


def _whole(good: int, bad: int) -> int | None:
    return (good + bad) // 2 if abs(good - bad) > 1 else None


def max_terminals(
    cell: Cell,
    deadline: float,
    probability: float,
    *,
    name: str | None = None,
    method: str = "bracket",
    most: int = 1_000_000,
    **options: Any,
) -> Carried:
    """The largest number of terminals of a class with P(sojourn time > deadline) at most a probability in every class.

    Parameters
    ----------
    cell : Cell
    deadline : float, s
        > 0.
    probability : float
        In (0, 1). A lost request counts as late.
    name : str, optional
        The name of the class whose number is searched; may be left out where there is one.
    method : {"bracket", "simulation"}
        By certified ends alone; or, where these do not decide, by simulation. With stages `Measured` with a confidence
        the ends are those of a `Guarantee`, and what is simulated has their slowest laws.
    most : int
        Numbers beyond are not tried.
    **options
        For "simulation": `jobs` (20 000 at first, up to 16 times as many where the interval does not decide),
        `replications`, `rng`, `threads`, `confidence` of `simulate_cell`.

    Returns
    -------
    Carried
        0 where not even one terminal keeps it.

    Examples
    --------
    >>> import edgeinfer as ei
    >>> split = ei.paper.scenario().pipelines()["split"]
    >>> cell = ei.Cell(ei.Terminals(1, 0.02, split, edge="prior"), ei.EdgeNode(servers=1))
    >>> found = ei.max_terminals(cell, 6.0, 1e-3)
    >>> found.low <= found.value <= found.high <= 55
    True
    """
    _check(cell)
    cell.class_index(name)
    most = _validate.whole("most", most, 1)
    search = _Search("max_terminals", lambda n: cell.with_count(n, name), deadline, probability, method, options)
    bad = 1
    while bad <= most and search.verdict(bad)[0] >= 0:
        bad *= 2
    low, high, value = search.three(0, min(bad, most + 1), _whole)
    return Carried(value, low, high, method)


def min_servers(
    cell: Cell,
    deadline: float,
    probability: float,
    *,
    edge: int = 0,
    method: str = "bracket",
    most: int = 1024,
    **options: Any,
) -> Carried:
    """The least number of servers of an edge with P(sojourn time > deadline) at most a probability in every class.

    Parameters
    ----------
    cell, deadline, probability, method, options
        They are as for `max_terminals`.
    edge : int
        Which of the cell's edges.
    most : int
        Numbers beyond are not tried.

    Returns
    -------
    Carried
        `high` is the last sure yes here, and `low` the least number that is no sure no.

    Raises
    ------
    ValueError
        Also where `most` servers do not do.

    Examples
    --------
    >>> import edgeinfer as ei
    >>> split = ei.paper.scenario().pipelines()["split"]
    >>> cell = ei.Cell(ei.Terminals(100, 0.02, split, edge="prior"), ei.EdgeNode())
    >>> ei.cell.min_servers(cell, 6.0, 1e-3).value
    3
    """
    _check(cell)
    place = _validate.whole("edge", edge, 0)
    if place >= len(cell.edges):
        raise ValueError(f"edge = {place}: must be < {len(cell.edges)}, the number of edges")

    def family(count: int) -> Cell:
        edges = list(cell.edges)
        edges[place] = replace(edges[place], servers=count)
        return cell.replace(edges=tuple(edges))

    most = _validate.whole("most", most, 1)
    search = _Search("min_servers", family, deadline, probability, method, options)
    good = search.until(1, most, 2, f"most = {most}: must be more, or {_beyond(method)} any number of servers")
    low, high, value = search.three(good, 0, _whole)
    return Carried(value, high, low, method)


def min_bandwidth(
    cell: Cell,
    deadline: float,
    probability: float,
    *,
    band: str = "downlink",
    method: str = "bracket",
    tolerance: float = 0.01,
    most: float = 1e12,
    **options: Any,
) -> Carried:
    """The least bandwidth of a band, Hz, with P(sojourn time > deadline) at most a probability in every class.

    Parameters
    ----------
    cell, deadline, probability, method, options
        They are as for `max_terminals`.
    band : {"uplink", "downlink"}
        Which the cell must have.
    tolerance : float
        Relative, of the answer; in (0, 1).
    most : float, Hz
        Beyond which is not tried.

    Returns
    -------
    Carried
        `high` is the last sure yes here, and `low` the least bandwidth that is no sure no.

    Raises
    ------
    ValueError
        Also where `most` does not do.

    Examples
    --------
    >>> import edgeinfer as ei
    >>> users = ei.Terminals(10, 0.02, ei.paper.scenario().pipelines()["split"], edge="prior")
    >>> cell = ei.Cell(users, ei.EdgeNode(), downlink=ei.Band(10e6, "equal_share", 0.01))
    >>> print(f"{ei.cell.min_bandwidth(cell, 6.0, 1e-3).value / 1e6:.1f} MHz")
    4.1 MHz
    """
    _check(cell)
    _validate.choice("band", band, ("uplink", "downlink"))
    kept = getattr(cell, band)
    if not isinstance(kept, Band):
        raise ValueError(
            f"band = {band!r}: must be one that the cell has; `edgeinfer.min_bandwidth` chooses a terminal's own links"
        )
    uses = ((kind, k) for kind in cell.terminals for k in range(len(kind.pipeline)) if cell.band(kind, k) is not None)
    if not any((k < (kind.edge_index or 0)) == (band == "uplink") for kind, k in uses):
        raise ValueError(f"band = {band!r}: must be one over which some terminals send")
    tolerance = _validate.scalar("tolerance", tolerance, 0, 1, low_open=True, high_open=True)

    def family(bandwidth: float) -> Cell:
        return cell.replace(**{band: replace(kept, bandwidth=bandwidth)})

    def middle(good: float, bad: float) -> float | None:
        between = float(np.sqrt(good * bad))
        return between if good / bad > 1 + tolerance and bad < between < good else None

    most = _validate.scalar("most", most, 0, low_open=True, infinite=True, unit="Hz")
    search = _Search("min_bandwidth", family, deadline, probability, method, options)
    bad = min(float(kept.bandwidth), most)
    good = search.until(bad, most, 4, f"most = {most:g}: must be more, or {_beyond(method)} any bandwidth")
    while search.verdict(bad)[0] >= 0:
        bad /= 4
    low, high, value = search.three(good, bad, middle)
    return Carried(value, high, low, method)


def best_batch(
    cell: Cell, deadline: float, limits: Any, waits: Any = (0.0,), *, edge: int = 0, **options: Any
) -> tuple[Batching, dict[tuple[int, float], Estimate]]:
    """The batch limit and wait with the least P(late) in the class that is late most, by simulation.

    Parameters
    ----------
    cell : Cell
        The edge must have a `Batching`, whose other values stay.
    deadline : float, s
    limits : sequence of int
    waits : sequence of float, s
    edge : int
    **options
        Of `simulate_cell`; all trials are from the same random numbers.

    Returns
    -------
    Batching, dict
        The best one, and P(late) for each (limit, wait); 1 where a cell is unstable.

    Examples
    --------
    >>> import edgeinfer as ei
    >>> users = ei.Terminals(10, 1.0, ei.Pipeline([ei.Constant(0.1, "infer")]), edge="infer")
    >>> cell = ei.Cell(users, ei.EdgeNode(1, "fifo", ei.Batching(1, fixed=0.1, each=0.05)))
    >>> best, late = ei.cell.best_batch(cell, 0.6, [1, 4, 8], jobs=2000, rng=1)
    >>> print(best.limit, {limit: float(each.value.round(2)) for (limit, _), each in late.items()})
    8 {1: 1.0, 4: 0.11, 8: 0.08}
    """
    _check(cell)
    place = _validate.whole("edge", edge, 0)
    batch = cell.edges[place].batch if place < len(cell.edges) else None
    if batch is None:
        raise ValueError(f"edge = {place}: must be an edge with a Batching")
    check_options("simulation", options)
    deadline = _validate.scalar("deadline", deadline, 0, infinite=True, unit="s")
    limits = [_validate.whole(f"limits[{k}]", limit, 1) for k, limit in enumerate(_validate.in_order("limits", limits))]
    waits = [
        _validate.scalar(f"waits[{k}]", wait, 0, unit="s") for k, wait in enumerate(_validate.in_order("waits", waits))
    ]
    for name, values in (("limits", limits), ("waits", waits)):
        if not values:
            raise ValueError(f"{name} = []: must have at least one value")
    sequence = _random.seed_sequence(options.pop("rng", None))
    found: dict[tuple[int, float], Estimate] = {}
    for limit in limits:
        for wait in waits:
            edges = list(cell.edges)
            edges[place] = replace(edges[place], batch=replace(batch, limit=limit, wait=wait))
            trial = cell.replace(edges=tuple(edges))
            run = simulated(trial, deadline, rng=sequence, **options)
            if run is None:
                found[limit, wait] = Estimate(np.asarray(1.0), np.asarray(1.0), np.asarray(1.0), 1.0, np.asarray(0))
                continue
            found[limit, wait] = max((late(run, kind.name) for kind in cell.terminals), key=lambda e: float(e.value))
    best = min(found, key=lambda key: float(found[key].value))
    return replace(batch, limit=best[0], wait=best[1]), found


def _beyond(method: str) -> str:
    if method == "simulation":
        return "the target is beyond"
    return "method 'simulation', since cell_bracket does not certify the target for"


def _check(cell: Any) -> None:
    _validate.check_kind("cell", cell, Cell)
