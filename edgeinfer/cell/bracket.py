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

A `Delay` before the edge, of any law, leaves Poisson arrivals Poisson and is independent of them, so that it adds to
the sojourn time as an independent time; so does one behind all queues, and a constant one anywhere. Latencies of links
come off the deadline.

On a lattice over [-L, U], T <= U, services are rounded up and interarrival times down, or the other way round.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _core, _validate
from edgeinfer.cell.lattice import Lattice, Law, Tail, stage_law
from edgeinfer.cell.model import Cell, Terminals, needed_at_edge
from edgeinfer.cell.queues import mg_1_wait
from edgeinfer.cell.shared import EdgeNode
from edgeinfer.cell.stations import band_link, band_terminals, own_stage, stations
from edgeinfer.delay import Bracket, violation_bracket
from edgeinfer.delay._elements import check_independent, finish
from edgeinfer.delay.composed import check_order, is_composed, is_constant
from edgeinfer.delay.constant_servers import md_c_decay, md_c_wait
from edgeinfer.model import Constant, Delay, Pipeline, Poisson, Review, Transfer

Floats = NDArray[np.float64]
#: Terms of a sum over requests that are summed one by one.
TERMS = 40
#: How far the lattice goes on behind the deadline, in decay times of the wait.
BEYOND = 12.0


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
    known = all(
        isinstance(kind.process, Poisson)
        and kind.loop is None
        and needed_at_edge(kind) == 1
        and all(isinstance(stage, Delay) for stage in kind.pipeline.stages[: kind.edge_index])
        for kind in kinds
    )
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


@dataclass
class _Own:
    """What a class has beside the edge.

    Attributes
    ----------
    below : list of Law
        Of times that every request takes at least.
    queues : list of Law or None
        Of the servers behind the edge; None: nothing is known.
    delays : list of Law
        That add to the sojourn time independently.
    latency : float, s
    """

    below: list[Law]
    queues: list[Law] | None
    delays: list[Law]
    latency: float


def _own(cell: Cell, kind: Terminals) -> _Own:
    own = _Own([], [], [], 0.0)
    last = max((k for k, stage in enumerate(kind.pipeline) if not isinstance(stage, Delay)), default=-1)
    for k in range(len(kind.pipeline)):
        if k == kind.edge_index:
            continue
        band = cell.band(kind, k)
        if band is not None and band.scheduler != "dedicated":
            alone, busy = _band_law(cell, kind, k)
            own.below.append(alone)
            own.queues = None if busy is None or own.queues is None else [*own.queues, busy]
            continue
        mine = own_stage(cell, kind, k)
        if isinstance(mine, Delay):
            own.delays.append(stage_law(mine))
            if not (is_constant(mine) or k > last or k < (kind.edge_index or 0)):
                own.queues = None
        elif is_composed(Pipeline([mine])) or (isinstance(mine, Transfer) and mine.dependent):
            # Its requests leave it out of order, or its times depend: it counts as nothing below.
            own.queues = None
        else:
            own.latency += float(mine.propagation) if isinstance(mine, Transfer) else 0.0
            own.below.append(stage_law(mine))
            own.queues = None if own.queues is None else [*own.queues, own.below[-1]]
    return own


def _one(cell: Cell, kind: Terminals, deadline: float) -> tuple[float, float, str, str]:
    """Both ends and their methods for one class of a stable cell."""
    if np.isinf(deadline):
        return 0.0, 0.0, "exact", "exact"
    edge = cell.edges[0] if kind.edge_index is not None else None
    mine = _own(cell, kind)
    deadline -= mine.latency
    if deadline < 0:
        return 1.0, 1.0, "exact", "exact"
    own = stage_law(cell.edge_stage(kind, edge)) if edge is not None else None
    found = _edge_wait(cell, edge, deadline) if edge is not None and len(cell.edges) == 1 else None
    laws = [law for law in [*mine.below, *(mine.queues or []), *mine.delays, own] if law is not None]
    shared, name = found if found is not None else (None, "alone")
    beyond = BEYOND / shared.decay if shared is not None else 0.0
    lattice = Lattice(max(deadline, 1e-9), beyond, max((law.reach for law in laws), default=0.0))
    # Without what is known of the wait: the request alone.
    low = lattice.start(shared.wait.lower if shared is not None else lambda t: 0 * t)
    if own is not None and edge is not None:
        least = [own] if edge.batch is None else [own, stage_law(Constant(edge.batch.fixed, "batch"))]
        for law in least:
            need = needed_at_edge(kind)
            low = need * lattice.add(low, law, False) + (1 - need) * low if need < 1 else lattice.add(low, law, False)
    for law in [*mine.below, *mine.delays]:
        low = lattice.add(low, law, False)
    lower = float(np.clip(low[lattice.deadline], 0, 1))
    # Weights, a share of a band and turns are for terminals that all stay.
    if shared is None or own is None or mine.queues is None:
        return lower, 1.0, name, "trivial"
    wait = lattice.add(lattice.start(shared.wait.upper), own, True)
    high = _served(
        lattice,
        wait,
        mine.queues,
        _Feed(rate=kind.mean_rate),
        lambda t: shared.moment(t) * own.moment(t),
        shared.decay,
    )
    ends = [(high, name)]
    least_time = _least(cell.edge_stage(kind, edge)) if edge is not None and edge.servers == 1 else 0.0
    if mine.queues and least_time > 0:
        empty = lattice.start(lambda t: 0 * t)
        last = _served(lattice, empty, mine.queues, _Feed(period=least_time), lambda t: 1.0, 20 / least_time)
        last = last[lattice.below :]
        behind = Law(lambda t: last[np.minimum((t / lattice.step * (1 + 1e-12)).astype(int), len(last) - 1)], own.lower)
        ends.append((lattice.add(wait, behind, True), f"{name}, bottleneck first"))
    for law in mine.delays:
        ends = [(lattice.add(end, law, True), how) for end, how in ends]
    best, method = min(((float(end[lattice.deadline]), how) for end, how in ends), key=lambda pair: pair[0])
    return lower, max(min(best, 1.0), lower), name, method


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
        come first, or behind a `Delay`, first come first served, with the terminals' own servers behind it, "bottleneck
        first" or not (for a band "equal_share" or "round_robin": nobody else there, or all others always); "pipeline"
        for a terminal that shares nothing, by `violation_bracket`, with Poisson or other renewal arrivals; elsewhere
        "alone", a request in an empty cell for one round, without its reviews and forks, and "trivial", 1.

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
    process = kind.mean_rate if isinstance(kind.process, Poisson) else kind.process
    if unstable:
        rows = [(1.0, 1.0, "unstable", "unstable")] * limits.size
    elif pipeline is not None:
        ends = violation_bracket(pipeline, process, limits.ravel())
        rows = [(low, high, "pipeline", "pipeline") for low, high in zip(ends.lower, ends.upper, strict=True)]
    else:
        rows = [_one(cell, kind, float(limit)) for limit in limits.ravel()]
    columns = [np.array([row[i] for row in rows]) for i in range(4)]
    return Bracket(*(finish(column, limits.shape) for column in columns))


def _private(cell: Cell, kind: Terminals) -> Pipeline | None:
    """The pipeline that each terminal of a class is, where it shares nothing with others."""
    if kind.loop is not None or any(
        (band := cell.band(kind, k)) is not None and band.scheduler != "dedicated" for k in range(len(kind.pipeline))
    ):
        return None
    stages: list[Any] = [own_stage(cell, kind, k) for k in range(len(kind.pipeline))]
    if kind.edge_index is not None:
        edge = cell.edges[0]
        users = sum(other.count for other in cell.terminals if other.edge_index is not None)
        if users > 1 or len(cell.edges) > 1 or edge.servers > 1 or edge.scheduler == "processor_sharing" or edge.batch:
            return None
        served = cell.edge_stage(kind, edge)
        need = needed_at_edge(kind)
        stages[kind.edge_index] = served if need == 1 else Review(served, need)
    pipeline = Pipeline(stages)
    try:
        check_order(pipeline.stages)
        check_independent("cell_bracket", pipeline)
    except ValueError:
        return None
    known = isinstance(kind.process, Poisson) or (kind.process.renewal and not is_composed(pipeline))
    return pipeline if known else None
