"""Certified ends of a cell's violation probability.

A class whose requests come to the one edge first finds there a Poisson stream of all classes, so that the law of its
time C at the edge, waiting and service, is known: M/G/1 by its ladder heights, M/D/c by the number in the queue. Behind
the edge each terminal has servers of its own, fed by its own requests alone, at the rate r. With B_0, B_1, .. the
services of the first of these from the tagged request backwards, S_i the sum of i of the terminal's interarrival times
and A_i = B_0 + .. + B_i - S_i, the time up to and with it is sup_i (A_i + C_i). C_i hangs on what came before request
i, A_i on what came after, so that they are independent, though the C_i are not of each other:

    P(A_0 + C > x) <= P(W > x) <= sum over i >= 0 of P(A_i + C > x),

where the other terms are small for a small load of the terminal's own server. The next server is added likewise, with
the upper end in place of C's law. Terms beyond the last that is summed are bounded by exponential moments,

    sum over i > I of P(A_i + C > x) <= e^{-t x} E[e^{tC}] E[e^{tB}] q^{I+1} / (1 - q),  q = E[e^{tB}] E[e^{-t S_1}].

Bottleneck first: at one server, first come first served, requests of a terminal leave the edge at least m apart, the
least time that one takes there, so that W <= C_0 + Q, where Q, independent of C_0, is the time in the terminal's own
servers when they are fed every m seconds; Q in the same way, with S_i = i m. The better end counts.

On a lattice over [-L, U], T <= U, services are rounded up and interarrival times down, or the other way round.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _core, _validate
from edgeinfer.cell.model import Cell, EdgeNode, Terminals
from edgeinfer.cell.queues import md_c_decay, md_c_wait, mg_1_wait
from edgeinfer.cell.stations import band_link, band_terminals, stations
from edgeinfer.delay import Bracket, violation_bracket
from edgeinfer.delay._elements import finish
from edgeinfer.model import Constant, Pipeline, Poisson, Transfer

Floats = NDArray[np.float64]
Tail = Callable[[Floats], Floats]
#: Points of the lattice from 0 on; where a service's tail ends; what the sums' rounding may add.
POINTS, END, ROUNDING = 3000, 1e-13, 1e-9
#: Terms of a sum over requests that are summed one by one.
TERMS = 40
#: How far the lattice goes on behind the deadline, in decay times of the wait.
BEYOND = 12.0


@dataclass(frozen=True)
class Law:
    """A time from both sides: P(X > t) at most `upper` and at least `lower`."""

    upper: Tail
    lower: Tail

    @cached_property
    def reach(self) -> float:
        """A time that is passed with less than END, s."""
        high = 1e-6
        while float(self.upper(np.array([high]))[0]) > END:
            high *= 1.2
        return high

    @cached_property
    def _masses(self) -> tuple[Floats, Floats]:
        edges = np.linspace(0, self.reach, 4001)
        return -np.diff(np.minimum(self.upper(edges), 1), prepend=1, append=0), np.append(edges, edges[-1])

    def moment(self, theta: float) -> float:
        """At least E[e^{theta X}], but for what lies beyond `reach`."""
        mass, place = self._masses
        with np.errstate(over="ignore", invalid="ignore"):
            value = float((mass * np.exp(theta * place)).sum()) * (1 + ROUNDING)
        return value if np.isfinite(value) else np.inf


def stage_law(stage: Any) -> Law:
    """The law of a stage's service time."""
    kind, value = stage.core_stages()[0]
    if kind == "transfer":
        error = 1e-5
        return Law(
            lambda t: np.where(t < 0, 1, np.minimum(value.sf(np.maximum(t, 0)) * (1 + error) + 1e-20, 1)),
            lambda t: np.where(t < 0, 1, value.sf(np.maximum(t, 0)) * (1 - error)),
        )
    if kind == "exponential":
        tail: Tail = lambda t: np.exp(-np.maximum(t, 0) / value)  # noqa: E731
        return Law(tail, tail)
    if kind == "repetition":
        # An error of 1e-9 is far beyond that of the law, and a hair keeps its atoms from rounding away.
        slots = stage.law()
        return Law(
            lambda t: np.minimum(slots.sf(np.asarray(t) * (1 - 1e-12)) * (1 + 1e-9), 1),
            lambda t: slots.sf(np.asarray(t) * (1 + 1e-12)) * (1 - 1e-9),
        )
    samples = np.array([value]) if kind == "deterministic" else value
    # A hair to the safe side, so that an atom on a point of the lattice is not missed by rounding.
    up = samples * (1 + 1e-12)
    return Law(
        lambda t: 1 - np.searchsorted(up, t, side="right") / len(up),
        lambda t: 1 - np.searchsorted(samples * (1 - 1e-12), t, side="right") / len(up),
    )


class Lattice:
    """Points from -L by T to U, T among them, and what is done to survival functions on them.

    Parameters
    ----------
    deadline, beyond, reach : float, s
        T, at least U - T, and at least L.
    """

    def __init__(self, deadline: float, beyond: float, reach: float) -> None:
        coarse = (deadline + beyond) / POINTS
        inside = max(int(np.ceil(deadline / coarse)), 1)
        self.step = deadline / inside
        self.below = min(int(np.ceil(reach / self.step)) + 1, POINTS)
        self.deadline = self.below + inside
        self.points = self.step * np.arange(-self.below, inside + int(np.ceil(beyond / self.step)) + 1)

    def start(self, tail: Tail) -> Floats:
        """A survival function on the points."""
        return np.where(self.points < 0, 1.0, tail(np.maximum(self.points, 0)))

    def add(self, before: Floats, law: Law, upper: bool) -> Floats:
        """P(Y + B > t) from that of Y, where B is a service; Y counts as beyond what lies below the lattice."""
        count = len(before)
        tail = np.clip((law.upper if upper else law.lower)(self.step * np.arange(count + 1, dtype=np.float64)), 0, 1)
        mass = -np.diff(tail)
        if upper:
            kernel = np.concatenate([[1 - tail[0]], mass])[:count]
            # What is cut off is beyond every point.
            return np.minimum(self._sum(before, kernel) + np.maximum(1 - np.cumsum(kernel), 0), 1) * (1 + ROUNDING)
        kernel = mass
        kernel[0] += 1 - tail[0]
        rest = np.where(self.points >= 0, tail[np.clip(np.arange(count) + 1, 0, count)], 0)
        return np.maximum(self._sum(before, kernel) + rest, 0) * (1 - ROUNDING)

    @staticmethod
    def _sum(before: Floats, kernel: Floats) -> Floats:
        some = np.flatnonzero(kernel)
        if not some.size:
            return np.zeros_like(before)
        first, last = int(some[0]), int(some[-1]) + 1
        part = np.convolve(before, kernel[first:last])[: len(before) - first]
        return np.concatenate([np.zeros(first), part])

    def take(self, before: Floats, rate: float) -> Floats:
        """At least P(Y - E > t), E exponential, rounded down; beyond the lattice as at its end."""
        keep, answer, later = np.exp(-rate * self.step), np.empty_like(before), float(before[-1])
        # In blocks within which the powers of `keep` do not underflow.
        block = max(int(300 / max(rate * self.step, 1e-300)) if rate * self.step > 0.1 else 3000, 1)
        for end in range(len(before), 0, -block):
            begin = max(end - block, 0)
            powers = keep ** np.arange(end - begin)
            sums = np.cumsum((powers * before[begin:end])[::-1])[::-1]
            answer[begin:end] = (1 - keep) * sums / powers + later * keep ** np.arange(end - begin, 0, -1)
            later = float(answer[begin])
        return answer * (1 + ROUNDING)


@dataclass(frozen=True)
class _Feed:
    """Interarrival times at a terminal's own servers: exponential ones, or always the same."""

    rate: float = 0.0
    period: float = 0.0

    def take(self, lattice: Lattice, before: Floats) -> Floats:
        """At least P(Y - t > x)."""
        if not self.period:
            return lattice.take(before, self.rate)
        steps = min(int(np.floor(self.period / lattice.step * (1 + 1e-12))), len(before))
        return np.concatenate([before[steps:], np.full(steps, before[-1])])

    def moment(self, theta: float) -> float:
        """E[e^{-theta t}]."""
        return float(np.exp(-theta * self.period)) if self.period else self.rate / (self.rate + theta)


def _behind(
    lattice: Lattice, before: Floats, law: Law, feed: _Feed, moment: Callable[[float], float], thetas: Floats
) -> tuple[Floats, Callable[[float], float]]:
    """The upper end with one own server more, and a bound of its exponential moments."""
    ratios = {float(t): law.moment(float(t)) * feed.moment(float(t)) for t in thetas}
    good = {t: q for t, q in ratios.items() if q < 1 and np.isfinite(moment(t))}
    term = lattice.add(before, law, True)
    total = term.copy()
    if not good:
        return np.ones_like(total), moment

    def rest(first: int, at: Any) -> Any:
        """The terms from the first on."""
        return np.min(
            [moment(t) * law.moment(t) * q**first / (1 - q) * np.exp(-t * at) for t, q in good.items()], axis=0
        )

    number = 1
    while (
        number < TERMS
        and total[lattice.deadline] < 1
        and rest(number, lattice.points[lattice.deadline]) > 1e-4 * total[lattice.deadline]
    ):
        term = lattice.add(feed.take(lattice, term), law, True)
        total += term
        number += 1
    total += rest(number, lattice.points)

    def after(theta: float) -> float:
        q = ratios.get(theta, 1.0)
        return moment(theta) * law.moment(theta) / (1 - q) if q < 1 else np.inf

    return np.minimum(total, 1), after


@dataclass(frozen=True)
class _Shared:
    """The edge's wait: both ends at times, and a bound of its exponential moments."""

    wait: Law
    decay: float

    def moment(self, theta: float) -> float:
        return self.decay / (self.decay - theta) if theta < self.decay else np.inf


def _constant_wait(rate: float, service: float, servers: int) -> _Shared:
    decay = md_c_decay(rate, service, servers)
    if servers > 1:
        tail: Tail = md_c_wait(rate, service, servers).tail
        return _Shared(Law(tail, tail), decay)
    one = Pipeline([Constant(service, "edge")])

    def wait(t: Floats) -> Floats:
        return np.asarray(violation_bracket(one, rate, np.maximum(t, 0) + service).upper)

    return _Shared(Law(wait, wait), decay)


def _edge_wait(cell: Cell, edge: EdgeNode, deadline: float) -> tuple[_Shared, str] | None:
    """The wait at the edge where it is known, and how."""
    kinds = [kind for kind in cell.terminals if kind.edge_index is not None]
    known = all(not kind.edge_index and isinstance(kind.process, Poisson) for kind in kinds)
    if edge.scheduler != "fifo" or edge.batch is not None or not known:
        return None
    rates = np.array([kind.count * kind.mean_rate for kind in kinds])
    stages = [cell.edge_stage(kind, edge) for kind in kinds]
    laws = [stage_law(stage) for stage in stages]
    means = np.array([float(stage.mean()) for stage in stages])
    constant = all(stage.core_stages()[0][0] == "deterministic" for stage in stages) and len(set(means)) == 1
    if constant:
        return _constant_wait(float(rates.sum()), float(means[0]), edge.servers), "M/D/c"
    if edge.servers > 1:
        return None
    shares = rates / rates.sum()
    upper, lower, decay = mg_1_wait(
        float(rates.sum()),
        lambda t: sum(s * law.upper(t) for s, law in zip(shares, laws, strict=True)),
        lambda t: sum(s * law.lower(t) for s, law in zip(shares, laws, strict=True)),
        float(shares @ means),
        max(law.reach for law in laws),
        lambda decay: deadline + BEYOND / decay,
        lambda theta: float(sum(s * law.moment(theta) for s, law in zip(shares, laws, strict=True))),
    )
    return _Shared(Law(upper, lower), decay), "M/G/1"


def _band_law(cell: Cell, kind: Terminals, place: int) -> tuple[Law, Law | None]:
    """A transfer over a shared band with nobody else there, and with all others always there."""
    band, stage = cell.band(kind, place), kind.pipeline[place]
    assert band is not None and isinstance(stage, Transfer)
    alone = stage_law(Transfer(stage.bits, band_link(cell, kind, place), stage.name))
    if band.scheduler == "round_robin":
        turns = band_terminals(cell, kind, place) * band.slot
        # Of the slots that it needs, each waits for one of everybody else's at most.
        return alone, Law(lambda t: alone.upper(band.slot * np.floor(t / turns * (1 - 1e-12))), alone.lower)
    if band.scheduler != "equal_share":
        return alone, None
    weights = sum(o.weight * o.count for o in cell.terminals if o.edge_index is not None)
    part = band_link(cell, kind, place).at_rate(band_link(cell, kind, place).mean_rate() * kind.weight / weights)
    busy = stage_law(Transfer(stage.bits, part, stage.name))
    # What is left of the slot that the transfer finds is given away: then it begins with a fresh one.
    return alone, Law(lambda t: busy.upper(t - band.slot), alone.lower)


def _own_laws(cell: Cell, kind: Terminals) -> tuple[list[Law], list[Law | None]]:
    """Services of the stages but the edge's from below and from above; None: unbounded."""
    lower: list[Law] = []
    upper: list[Law | None] = []
    for k, stage in enumerate(kind.pipeline):
        if k == kind.edge_index:
            continue
        band = cell.band(kind, k)
        if band is not None and band.scheduler != "dedicated":
            alone, busy = _band_law(cell, kind, k)
            lower.append(alone)
            upper.append(busy)
            continue
        link = band_link(cell, kind, k) if isinstance(stage, Transfer) else None
        law = stage_law(Transfer(stage.bits, link, stage.name) if isinstance(stage, Transfer) and link else stage)
        lower.append(law)
        upper.append(law)
    return lower, upper


def _one(cell: Cell, kind: Terminals, deadline: float) -> tuple[float, float, str, str]:
    """Both ends and their methods for one class of a stable cell."""
    if np.isinf(deadline):
        return 0.0, 0.0, "exact", "exact"
    edge = cell.edges[0] if kind.edge_index is not None else None
    below, above = _own_laws(cell, kind)
    own = stage_law(cell.edge_stage(kind, edge)) if edge is not None else None
    found = _edge_wait(cell, edge, deadline) if edge is not None and len(cell.edges) == 1 else None
    laws = [law for law in [*below, *above, own] if law is not None]
    shared, name = found if found is not None else (None, "alone")
    beyond = BEYOND / shared.decay if shared is not None else 0.0
    lattice = Lattice(max(deadline, 1e-9), beyond, max(law.reach for law in laws))
    # Without what is known of the wait: the request alone.
    low = lattice.start(shared.wait.lower if shared is not None else lambda t: 0 * t)
    if own is not None:
        low = lattice.add(low, own, False)
        if edge is not None and edge.batch is not None and edge.batch.fixed > 0:
            low = lattice.add(low, stage_law(Constant(edge.batch.fixed, "batch")), False)
    for law in below:
        low = lattice.add(low, law, False)
    lower = float(np.clip(low[lattice.deadline], 0, 1))
    # Weights, a share of a band and turns are for terminals that all stay.
    if shared is None or own is None or any(law is None for law in above):
        return lower, 1.0, name, "trivial"
    fronts = [law for law in above if law is not None]
    wait = lattice.add(lattice.start(shared.wait.upper), own, True)
    high = _served(
        lattice, wait, fronts, _Feed(rate=kind.mean_rate), lambda t: shared.moment(t) * own.moment(t), shared.decay
    )
    method = name
    least = _least(cell.edge_stage(kind, edge)) if edge is not None and edge.servers == 1 else 0.0
    if fronts and least > 0:
        empty = lattice.start(lambda t: 0 * t)
        last = _served(lattice, empty, fronts, _Feed(period=least), lambda t: 1.0, 20 / least)[lattice.below :]
        behind = Law(lambda t: last[np.minimum((t / lattice.step * (1 + 1e-12)).astype(int), len(last) - 1)], own.lower)
        other = lattice.add(wait, behind, True)
        if other[lattice.deadline] < high[lattice.deadline]:
            high, method = other, f"{name}, bottleneck first"
    return lower, float(max(min(high[lattice.deadline], 1), lower)), name, method


def _served(
    lattice: Lattice,
    before: Floats,
    laws: list[Law],
    feed: _Feed,
    moment: Callable[[float], float],
    decay: float,
) -> Floats:
    """The upper end with all of a terminal's own servers."""
    thetas = decay * np.array([0.02, 0.1, 0.3, 0.5, 0.7, 0.85])
    for law in laws:
        before, moment = _behind(lattice, before, law, feed, moment, thetas)
    return before


def _least(stage: Any) -> float:
    """The least time that a stage takes, s."""
    return float(_core.service_spans(stage.core_stages())[0, 0])


def cell_bracket(cell: Cell, deadline: ArrayLike, name: str | None = None) -> Bracket:
    """Certified two-sided bracket of the probability that a request's sojourn time exceeds a deadline.

    Parameters
    ----------
    cell : Cell
        Without edges that refuse requests.
    deadline : (...,) array_like, s
        >= 0, may be inf.
    name : str, optional
        The name of the class; may be left out where there is one.

    Returns
    -------
    Bracket
        Both 1 where a load is >= 1. Methods: "M/D/c" and "M/G/1" for the wait at an edge to which Poisson requests
        come first, first come first served, with the terminals' own servers behind it, "bottleneck first" or not (for
        a band "equal_share" or "round_robin": nobody else there, or all others always); "pipeline" for a terminal that
        shares nothing, by `violation_bracket`; elsewhere "alone", a request in an empty cell, and "trivial", 1.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> import edgeinfer as ei
    >>> split = ei.paper.scenario().pipelines()["split"]
    >>> cell = ei.Cell(ei.Terminals(20, 0.05, split, edge="prior"), ei.EdgeNode())
    >>> bracket = ei.cell_bracket(cell, [6.0, 9.0])
    >>> bool((bracket.upper / bracket.lower < 1.1).all()), bracket.method[0][:5]
    (True, 'M/D/c')
    """
    if not isinstance(cell, Cell):
        raise ValueError(f"cell = {cell!r}: must be a Cell")
    limits = np.asarray(_validate.real("deadline", deadline, 0, infinite=True, unit="s"))
    kind = cell.terminals[cell.class_index(name)]
    if any(edge.capacity is not None for edge in cell.edges):
        raise ValueError("capacity: must be None, as no certified ends of edges that refuse are known; simulate_cell")
    unstable = any(station.load >= 1 and not station.limited for station in stations(cell))
    rows: list[tuple[float, float, str, str]] = []
    pipeline = _private(cell, kind)
    if unstable:
        rows = [(1.0, 1.0, "unstable", "unstable")] * limits.size
    elif pipeline is not None:
        ends = violation_bracket(pipeline, kind.mean_rate, limits.ravel())
        rows = [(low, high, "pipeline", "pipeline") for low, high in zip(ends.lower, ends.upper, strict=True)]
    else:
        rows = [_one(cell, kind, float(limit)) for limit in limits.ravel()]
    columns = [np.array([row[i] for row in rows]) for i in range(4)]
    return Bracket(*(finish(column, limits.shape) for column in columns))


def _private(cell: Cell, kind: Terminals) -> Pipeline | None:
    """The pipeline that each terminal of a class is, where it shares nothing with others."""
    if not isinstance(kind.process, Poisson) or any(
        (band := cell.band(kind, k)) is not None and band.scheduler != "dedicated" for k in range(len(kind.pipeline))
    ):
        return None
    stages = []
    for k, stage in enumerate(kind.pipeline):
        link = isinstance(stage, Transfer) and cell.band(kind, k) is not None
        stages.append(Transfer(stage.bits, band_link(cell, kind, k), stage.name) if link else stage)  # type: ignore[union-attr]
    if kind.edge_index is None:
        return Pipeline(stages)
    edge = cell.edges[0]
    users = sum(other.count for other in cell.terminals if other.edge_index is not None)
    if users > 1 or len(cell.edges) > 1 or edge.servers > 1 or edge.scheduler == "processor_sharing" or edge.batch:
        return None
    stages[kind.edge_index] = cell.edge_stage(kind, edge)
    return Pipeline(stages)
