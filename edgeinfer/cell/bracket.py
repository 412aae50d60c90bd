"""Certified ends of a cell's violation probability.

A class whose requests come to an edge first finds there a Poisson stream of all classes, so that the law of its time C
at the edge, waiting and service, is known: M/G/1 by its ladder heights, M/D/c by the number in the queue. Behind
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

Behind queues of the terminals' own, `edgeinfer.cell.before` has an upper end.

A `Delay` before the edge, of any law, leaves Poisson arrivals Poisson and is independent of them, so that it adds to
the sojourn time as an independent time; so does one behind all queues, and a constant one anywhere. Latencies of links
come off the deadline.

On a lattice over [-L, U], T <= U, services are rounded up and interarrival times down, or the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _core, _validate
from edgeinfer.cell.before import queued_before
from edgeinfer.cell.behind import Shared, exponent, in_turn, served
from edgeinfer.cell.edges import BEYOND, edge_time, own_wait, queue_at, served_at
from edgeinfer.cell.lattice import Lattice, Law, stage_law
from edgeinfer.cell.model import Cell, Terminals, needed_at_edge
from edgeinfer.cell.shared import EdgeNode
from edgeinfer.cell.stations import band_link, band_terminals, edge_shares, own_stage, stations
from edgeinfer.delay import Bracket, Guarantee, violation_bracket
from edgeinfer.delay._elements import check_independent, finish, in_time
from edgeinfer.delay.bounds import bands
from edgeinfer.delay.composed import check_order, is_composed, is_constant, least_service, shifted
from edgeinfer.model import Constant, Delay, Pipeline, Poisson, Review, Transfer
from edgeinfer.model.bases import Server
from edgeinfer.model.composition import law_of

Floats = NDArray[np.float64]


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


#: Steps of a lattice over the least deadline.
FINEST = 6_000
#: Ends nearer than by this factor are not made nearer.
NEAR = 1.02


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
    slowest : Server or None
        The own server behind the edge that takes longest on average.
    cores : list or None
        Services and delays as the core takes them; None: it does not know them all.
    """

    below: list[Law]
    queues: list[Law] | None
    delays: list[Law]
    latency: float
    slowest: Server | None = None
    cores: list[Any] | None = None


def _own(cell: Cell, kind: Terminals) -> _Own:
    own = _Own([], [], [], 0.0, cores=[])
    last = max((k for k, stage in enumerate(kind.pipeline) if not isinstance(stage, Delay)), default=-1)
    for k in range(len(kind.pipeline)):
        if k == kind.edge_index:
            continue
        band = cell.band(kind, k)
        if band is not None and band.scheduler != "dedicated":
            alone, busy = _band_law(cell, kind, k)
            own.below.append(alone)
            own.queues = None if busy is None or own.queues is None else [*own.queues, busy]
            own.cores = None
            continue
        mine = own_stage(cell, kind, k)
        if isinstance(mine, Delay):
            own.delays.append(stage_law(mine))
            own.cores = None if own.cores is None else [*own.cores, ("compound", law_of((mine.stage,)))]
            if not (is_constant(mine) or k > last or k < (kind.edge_index or 0)):
                own.queues = None
        elif is_composed(Pipeline([mine])) or (isinstance(mine, Transfer) and mine.dependent):
            # Its requests leave it out of order, or its times depend: it counts as nothing below.
            own.queues = own.cores = None
        else:
            assert isinstance(mine, Server)
            own.latency += float(mine.propagation) if isinstance(mine, Transfer) else 0.0
            own.below.append(stage_law(mine))
            own.cores = None if own.cores is None else [*own.cores, mine.core_stages()[0][:2]]
            if k > (kind.edge_index or 0) and (own.slowest is None or mine.mean() > own.slowest.mean()):
                own.slowest = mine
            if k > (kind.edge_index or 0):
                own.queues = None if own.queues is None else [*own.queues, own.below[-1]]
    return own


def _one(cell: Cell, kind: Terminals, deadline: float) -> tuple[float, float, str, str]:
    """Both ends and their methods for one class of a stable cell."""
    if np.isinf(deadline):
        return 0.0, 0.0, "exact", "exact"
    mine = _own(cell, kind)
    deadline -= mine.latency
    if deadline < 0:
        return 1.0, 1.0, "exact", "exact"
    shares = edge_shares(cell, kind) if kind.edge_index is not None else np.ones(1)
    found = [(_at(cell, kind, mine, i, deadline), float(share)) for i, share in enumerate(shares) if share > 0]
    low, high = sum(share * ends[0] for ends, share in found), sum(share * ends[1] for ends, share in found)
    # One end that is unknown makes all of it unknown.
    below, above = (" or ".join(dict.fromkeys(names)) for names in zip(*(ends[2:] for ends, _ in found), strict=True))
    return low, min(high, 1.0), below, "trivial" if "trivial" in above else above


def _at(cell: Cell, kind: Terminals, mine: _Own, place: int, deadline: float) -> tuple[float, float, str, str]:
    """The same at one of the edges."""
    edge = cell.edges[place] if kind.edge_index is not None else None
    found = edge_time(cell, kind, place, deadline) if edge is not None else None
    own = stage_law(served_at(cell, kind, edge)) if edge is not None else None
    shared, name = found if found is not None else (None, "alone")
    how, before = name, None
    if shared is None and edge is not None and mine.queues is not None and deadline > 0:
        before = queued_before(cell, kind, place, deadline)
    if before is not None:
        shared, how = before[0], "queues before"
    queues = mine.queues or []
    longest = max((law.reach for law in [*mine.below, *mine.delays, own] if law is not None), default=0.0)
    beyond = 0.0 if shared is None else BEYOND / shared.decay
    if shared is not None and queues and not shared.period:
        beyond = BEYOND / exponent(shared.decay, queues, kind.mean_rate)
    # A far shorter deadline has no lattice of its own: being later than a longer one, and certainly late, are its ends.
    least = max(beyond / FINEST, longest * 1e-9)
    short, deadline = deadline < least, max(deadline, least)
    lattice = Lattice(deadline, beyond, max(longest, sum(law.reach for law in queues)))
    low = lattice.start(shared.wait.lower if shared is not None else lambda t: 0 * t)
    lower = _with_own(cell, kind, mine, lattice, place, shared, low)
    exact = _itself(cell, kind, mine, place, deadline) if shared is not None else (0.0, 1.0)
    lower = max(lower, exact[0])
    if short or shared is None or own is None or edge is None or mine.queues is None or (queues and not shared.ordered):
        return lower, 1.0, name, "trivial"
    late = mine if before is None else replace(mine, delays=[*mine.delays, *before[1]])
    ends = [
        (min(high, np.inf if more is None else exact[1] + more), by)
        for high, more, by in _upper(cell, kind, late, lattice, shared, own, edge, how)
    ]
    best, method = min(ends)
    if queues and best > NEAR * lower:
        lower = max(lower, _slowest(cell, kind, mine, lattice, place, shared))
    return lower, max(min(best, 1.0), lower), name, method


def _slowest(cell: Cell, kind: Terminals, mine: _Own, lattice: Lattice, place: int, shared: Shared) -> float:
    """The lower end with the wait in the terminal's slowest server.

    With i the request from which on that server is always busy, W is at least the wait there, and what request i
    takes at the edge, in which nothing of this terminal's own requests counts but its service.
    """
    if shared.complete or shared.period or mine.slowest is None:
        return 0.0
    deadline = float(lattice.points[lattice.deadline])
    others = edge_time(cell, kind, place, deadline, own=False)
    alone = own_wait(mine.slowest, kind.mean_rate, deadline)
    if others is None or alone is None:
        return 0.0
    low = lattice.add(lattice.start(others[0].wait.lower), alone, False)
    return _with_own(cell, kind, mine, lattice, place, shared, low)


def _with_own(
    cell: Cell, kind: Terminals, mine: _Own, lattice: Lattice, place: int, shared: Shared | None, low: Floats
) -> float:
    """The lower end with services from that of waits; without what is known of the wait, of a request alone."""
    if kind.edge_index is not None and not (shared is not None and shared.complete):
        edge, need = cell.edges[place], needed_at_edge(kind)
        least = [stage_law(served_at(cell, kind, edge))]
        if edge.batch is not None and edge.batch.limit > 1:
            least.append(stage_law(Constant(edge.batch.fixed, "batch")))
        passed = low
        for law in least:
            low = lattice.add(low, law, False)
        # Who does not need the edge takes none of them.
        low = need * low + (1 - need) * passed
    for law in [*mine.below, *mine.delays]:
        low = lattice.add(low, law, False)
    return float(np.clip(low[lattice.deadline], 0, 1))


def _itself(cell: Cell, kind: Terminals, mine: _Own, place: int, deadline: float) -> tuple[float, float]:
    """Ends of P(its wait at the edge and its own services pass the deadline), where the core knows that queue."""
    queue = queue_at(cell, kind, place)
    if queue is None or mine.cores is None:
        return 0.0, 1.0
    service, rate = queue
    times = np.array([deadline])
    others = [service, *mine.cores]
    low, high, _, _ = _core.queue_bracket([service], others, np.array([rate]), times)
    return float(low[0]), float(high[0])


def _upper(
    cell: Cell, kind: Terminals, mine: _Own, lattice: Lattice, shared: Shared, own: Law, edge: EdgeNode, name: str
) -> Iterator[tuple[float, float | None, str]]:
    """Upper ends at the deadline, what others than the request add to them, and how."""
    queues = mine.queues or []
    least = 0.0 if shared.complete or edge.servers > 1 else least_service(served_at(cell, kind, edge))
    # Requests of periodic terminals leave as far apart as they come.
    apart = shared.period or least
    if queues and apart > 0:
        time, none_waits = in_turn(lattice, queues, apart)
        end = lattice.add(lattice.start(shared.wait.upper), own, True)
        for law in [lattice.law(time), *mine.delays]:
            end = lattice.add(end, law, True)
        how = name if shared.period else f"{name}, bottleneck first"
        yield float(end[lattice.deadline]), 0.0 if none_waits else None, how
        if none_waits:
            return
    if not shared.period or not queues:
        for high, more in served(lattice, shared, own, queues, mine.delays, kind.mean_rate):
            yield high, more, name


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
        Both 1 where a load is >= 1; a `Guarantee` where a stage is `Measured` with a confidence.
        Methods: "M/D/c", "M/M/c", "M/G/1", "M/G/c" (services that have a longest) and
        "batches" (one server that starts at once, constant times) for the wait at an edge to which Poisson requests
        come first, or behind a `Delay`, in the order of coming ("fifo", or all of one priority or deadline), and
        "N*D/D/1" for `Periodic` ones of one interval and one constant service; with the terminals' own servers behind
        it, "bottleneck first" or not (for a band "equal_share" or "round_robin": nobody else there, or all others
        always); of several edges "nearest" or "random" the mean, with all their methods. "queues before" for an upper
        end behind own servers, such as an uplink, at one server, several times the truth, more for uplinks that are
        long beside the service at the edge (`benchmarks/bench_cell_before.py`). "pipeline" for a terminal that shares
        nothing, by `violation_bracket`, with Poisson or other renewal arrivals, and for lower ends as if it were the
        only one. Elsewhere "alone", a request in an empty cell for one round, without its reviews and forks, and
        "trivial", 1: there `simulate_cell` answers.

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
    _validate.check_kind("cell", cell, Cell)
    limits = np.asarray(_validate.real("deadline", deadline, 0, infinite=True, unit="s"))
    kind = cell.terminals[cell.class_index(name)]
    if any(edge.capacity is not None for edge in cell.edges):
        raise ValueError("capacity: must be None, as no certified ends of edges that refuse are known; simulate_cell")
    confidence = max(1 - sum(1 - each.pipeline.confidence for each in cell.terminals), 0.0)
    if confidence < 1:
        fast, slow = (cell_bracket(each, limits, kind.name) for each in _bands(cell))
        return Guarantee.between(fast, slow, confidence)
    cell = replace(cell, terminals=tuple(map(_without_idle, cell.terminals)))
    kind = cell.terminals[cell.class_index(kind.name)]
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
        rows = [_one(cell, kind, float(limit)) for limit in in_time(limits).ravel()]
        lone = _private(cell, kind, lone=True) if any(row[2] == "alone" for row in rows) else None
        if lone is not None:
            # Others only hold up a terminal whose requests keep their order.
            least = violation_bracket(lone, process, limits.ravel(), effort="light").lower
            rows = [
                (min(low, row[1]), row[1], "pipeline", row[3]) if row[2] == "alone" and low > row[0] else row
                for low, row in zip(least.tolist(), rows, strict=True)
            ]
    columns = [np.array([row[i] for row in rows]) for i in range(4)]
    return Bracket(*(finish(column, limits.shape) for column in columns))


def _bands(cell: Cell) -> Iterator[Cell]:
    """The cells of the fastest and of the slowest laws of what is measured with a confidence."""
    for laws in zip(*(bands(kind.pipeline) for kind in cell.terminals), strict=True):
        pairs = zip(cell.terminals, laws, strict=True)
        yield replace(cell, terminals=tuple(replace(kind, pipeline=pipeline) for kind, pipeline in pairs))


def _without_idle(kind: Terminals) -> Terminals:
    """A class without its own stages that take no time, in which nobody ever waits."""
    kept = [k for k, stage in enumerate(kind.pipeline) if k == kind.edge_index or not _is_idle(stage)]
    if kind.loop is not None or not 0 < len(kept) < len(kind.pipeline):
        return kind
    edge = None if kind.edge_index is None else kept.index(kind.edge_index)
    return replace(kind, pipeline=Pipeline([kind.pipeline[k] for k in kept]), edge=edge)


def _is_idle(stage: Any) -> bool:
    server = stage.stage if isinstance(stage, Delay) else stage
    return isinstance(server, Server) and not isinstance(server, Transfer) and float(server.mean()) == 0


def _private(cell: Cell, kind: Terminals, lone: bool = False) -> Pipeline | None:
    """The pipeline that each terminal of a class is, where it shares nothing with others; or that it would be if there
    were none, where no request may overtake another.
    """
    if kind.loop is not None or any(
        (band := cell.band(kind, k)) is not None and band.scheduler != "dedicated" for k in range(len(kind.pipeline))
    ):
        return None
    stages: list[Any] = [own_stage(cell, kind, k) for k in range(len(kind.pipeline))]
    if kind.edge_index is not None:
        edge = cell.edges[0]
        users = sum(other.count for other in cell.terminals if other.edge_index is not None)
        if (users > 1 and not lone) or len(cell.edges) > 1 or edge.servers > 1 or edge.batch:
            return None
        if edge.scheduler == "processor_sharing" or (lone and edge.scheduler != "fifo"):
            return None
        # Behind random delays the deadline that comes first is not that of the request which does.
        if edge.scheduler == "edf" and not all(
            isinstance(s, Server) or is_constant(s) for s in stages[: kind.edge_index]
        ):
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
    if lone and is_composed(pipeline):
        return None
    known = isinstance(kind.process, Poisson) or (kind.process.renewal and not is_composed(shifted(pipeline)))
    return pipeline if known else None
