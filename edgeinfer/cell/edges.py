"""The time at an edge to which requests come as they arise, or behind delays.

Several servers, first come first served, each service at most s: let U be the work that they have, and c V that of one
server as fast as all of them, c their number. U - c V does not grow while all are busy, and U <= (c - 1) s while one is
not; nor is U < c V ever. A request waits while all are busy with what was there before it, U / c at most; and the work
of one of them is never more than s beyond another's, so that its wait is (U - (c - 1) s) / c at least:
V - (c - 1) s / c <= wait <= V + (c - 1) s / c. Of constant services V is an upper end itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _core
from edgeinfer.cell.behind import Gaps, Shared
from edgeinfer.cell.lattice import Law, Tail, stage_law
from edgeinfer.cell.model import Cell, Terminals, needed_at_edge
from edgeinfer.cell.queues import batch_times, erlang_c, mg_1_wait, periodic_wait
from edgeinfer.cell.shared import EdgeNode
from edgeinfer.cell.stations import edge_shares
from edgeinfer.delay import violation_bracket
from edgeinfer.delay.composed import is_constant, least_service
from edgeinfer.delay.constant_servers import md_c_decay, md_c_wait
from edgeinfer.model import Constant, Delay, Periodic, Pipeline, Poisson
from edgeinfer.model.bases import CoreStage, Server

Floats = NDArray[np.float64]
#: How far what is computed goes on behind the deadline, in decay times of the wait.
BEYOND = 12.0
#: Of an exponential time of mean 1, rounded down.
QUANTILES = -np.log1p(-np.arange(8) / 8)


def served_at(cell: Cell, kind: Terminals, edge: EdgeNode) -> Server:
    """What the edge serves for a request, with the time that every batch takes where batches are of one."""
    stage: Server = cell.edge_stage(kind, edge)
    if edge.batch is not None and edge.batch.limit == 1 and _is(stage, "deterministic"):
        return Constant(edge.batch.fixed + float(stage.mean()), stage.name)
    return stage


def _is(stage: Server, law: str) -> bool:
    return bool(stage.core_stages()[0][0] == law)


def edge_time(cell: Cell, kind: Terminals, place: int, deadline: float, own: bool = True) -> tuple[Shared, str] | None:
    """The time of a class at one of the edges where it is known, and how; with the terminal's own requests or not."""
    kinds, counts = users(cell, place)
    if not in_order(cell, kinds, cell.edges[place]):
        return None
    rates = [each.mean_rate * count for each, count in zip(kinds, counts, strict=True)]
    if not own:
        rates = [rate - each.mean_rate * (each is kind) for rate, each in zip(rates, kinds, strict=True)]
    # Nothing comes of a class whose only terminal is left out.
    some = [k for k, rate in enumerate(rates) if rate]
    stages = [served_at(cell, kinds[k], cell.edges[place]) for k in some]
    node = _Node([rates[k] for k in some], stages, cell.edges[place], kind.mean_rate, deadline)
    one_edge = cell.assignment == "nearest" or len(cell.edges) == 1
    if _poisson(kinds):
        found = node.poisson()
        # Requests of a terminal may pass each other where they take different edges.
        return found if found is None or one_edge else (replace(found[0], gaps=None, ordered=False), found[1])
    intervals = {float(each.process.interval) for each in kinds if isinstance(each.process, Periodic)}
    same = all(isinstance(each.process, Periodic) for each in kinds) and len(intervals) == 1
    before = [stage for each in kinds for stage in each.pipeline.stages[: each.edge_index]]
    if same and one_edge and own and all(isinstance(stage, Delay) and is_constant(stage) for stage in before):
        return node.periodic(intervals.pop(), round(sum(counts)))
    return None


def users(cell: Cell, place: int) -> tuple[list[Terminals], list[float]]:
    """Classes that come to an edge, and how many terminals' requests of each."""
    shares = [(kind, float(edge_shares(cell, kind)[place])) for kind in cell.terminals if kind.edge_index is not None]
    return [kind for kind, share in shares if share > 0], [kind.count * share for kind, share in shares if share > 0]


def in_order(cell: Cell, kinds: list[Terminals], edge: EdgeNode) -> bool:
    """Whether an edge serves in the order of coming, each request once, and knows who comes."""
    return (
        (
            edge.scheduler == "fifo"
            or (edge.scheduler == "priority" and len({kind.priority for kind in kinds}) == 1)
            or (
                edge.scheduler == "edf"
                and len({kind.deadline for kind in kinds}) == 1
                and all(kind.edge_index == 0 for kind in kinds)
            )
        )
        and all(kind.loop is None and needed_at_edge(kind) == 1 for kind in kinds)
        and (len(cell.edges) == 1 or cell.assignment != "least_loaded")
    )


def _poisson(kinds: list[Terminals]) -> bool:
    """Whether requests come to the edge as a Poisson process."""
    return all(
        isinstance(kind.process, Poisson)
        and all(isinstance(stage, Delay) for stage in kind.pipeline.stages[: kind.edge_index])
        for kind in kinds
    )


def own_wait(stage: Server, rate: float, deadline: float) -> Law | None:
    """The wait in a server of a terminal's own for Poisson requests."""
    found = _Node([rate], [stage], EdgeNode(), rate, deadline).poisson()
    return None if found is None else found[0].wait


def hurried(
    cell: Cell, place: int, share: float, deadline: float
) -> tuple[float, Shared, list[tuple[float, Law]]] | None:
    """An edge of Poisson requests if all rates were greater, by a share of what stability leaves.

    Returns
    -------
    float, Shared, list
        By how much greater, relatively; the wait; and each class's rate then, and its service. None where the wait is
        not known.
    """
    kinds, counts = users(cell, place)
    stages = [served_at(cell, each, cell.edges[place]) for each in kinds]
    rates = [each.mean_rate * count for each, count in zip(kinds, counts, strict=True)]
    load = sum(rate * float(stage.mean()) for rate, stage in zip(rates, stages, strict=True))
    if not 0 < load < 1:
        return None
    more = share * (1 / load - 1)
    faster = [rate * (1 + more) for rate in rates]
    found = _Node(faster, stages, cell.edges[place], 0.0, deadline).poisson()
    return None if found is None else (more, found[0], list(zip(faster, map(stage_law, stages), strict=True)))


def queue_at(cell: Cell, kind: Terminals, place: int) -> tuple[CoreStage, float] | None:
    """Service and rate at an edge that is M/G/1 with one law for all."""
    edge, (kinds, counts) = cell.edges[place], users(cell, place)
    batched = edge.batch is not None and (edge.batch.limit > 1 or edge.batch.fixed > 0)
    if edge.servers > 1 or batched or not (in_order(cell, kinds, edge) and _poisson(kinds)):
        return None
    services = [served_at(cell, each, edge).core_stages()[0][:2] for each in kinds]
    if any(kind != services[0][0] or not np.array_equal(value, services[0][1]) for kind, value in services):
        return None
    return services[0], sum(each.mean_rate * count for each, count in zip(kinds, counts, strict=True))


@dataclass(frozen=True)
class _Node:
    """An edge that serves in the order of coming: rates and services of its classes, and the rate of one terminal."""

    rates: Sequence[float]
    stages: Sequence[Server]
    edge: EdgeNode
    own: float
    deadline: float

    @property
    def rate(self) -> float:
        return float(sum(self.rates))

    @property
    def constant(self) -> float | None:
        """The service, where it is one constant for all."""
        return self._one("deterministic")

    def _one(self, law: str) -> float | None:
        """The mean service, where it is of that law and the same for all."""
        means = {float(stage.mean()) for stage in self.stages}
        return means.pop() if len(means) == 1 and all(_is(stage, law) for stage in self.stages) else None

    def poisson(self) -> tuple[Shared, str] | None:
        servers, batch = self.edge.servers, self.edge.batch
        if self.rate <= 0:
            return Shared(Law(_none, _none), 1.0, lambda theta: 1.0), "M/D/c"
        if batch is not None and batch.limit > 1:
            return self._batches() if servers == 1 and batch.wait == 0 and self.constant is not None else None
        if batch is not None and batch.fixed > 0 and self.constant is None:
            return None
        if self.constant is not None:
            return self._constant(self.constant), "M/D/c"
        mean = self._one("exponential")
        if mean is not None:
            decay, waits = servers / mean - self.rate, erlang_c(self.rate * mean, servers)
            tail: Tail = lambda t: np.where(np.asarray(t) < 0, 1.0, waits * np.exp(-decay * np.maximum(t, 0)))  # noqa: E731
            gaps = self._gaps(lambda n: (mean * QUANTILES).tolist()) if servers == 1 else None
            moment = _moment(waits, decay)
            return Shared(Law(tail, tail), decay, moment, gaps=gaps, ordered=servers == 1), "M/M/c"
        return self._general()

    def periodic(self, interval: float, count: int) -> tuple[Shared, str] | None:
        service = self.constant
        if service is None or self.edge.servers > 1 or (self.edge.batch is not None and self.edge.batch.limit > 1):
            return None
        tail = periodic_wait(count - 1, interval, service)
        # A hair to both sides, so that what falls on a point of the lattice is not missed by rounding.
        law = Law(lambda t: tail(t * (1 - 1e-12)) * (1 + 1e-9), lambda t: tail(t * (1 + 1e-12)) * (1 - 1e-9))
        return Shared(law, 20 / interval, lambda theta: np.inf, period=interval), "N*D/D/1"

    def _gaps(self, least: Callable[[int], Sequence[float]]) -> Gaps:
        return Gaps(self.own, max(self.rate - self.own, 0.0), least)

    def _constant(self, service: float) -> Shared:
        servers, rate = self.edge.servers, self.rate
        gaps = self._gaps(lambda n: [(n + 1) // servers * service])
        if service == 0:
            return Shared(Law(_none, _none), rate, lambda theta: 1.0, gaps=gaps)
        if servers > 1:
            try:
                queue = _many(rate, service, servers)
            except ValueError:
                wait, decay = _one_server(rate, service / servers)
                later = service * (1 - 1 / servers)
                law = Law(wait, lambda t: _late(wait, t, later))
                return Shared(law, decay, _moment(1.0, decay), gaps=gaps)
            decay = md_c_decay(rate, service, servers)
            return Shared(Law(queue.tail, partial(queue.tail, end=0)), decay, _moment(1.0, decay), gaps=gaps)
        wait, decay = _one_server(rate, service)
        return Shared(Law(wait, wait), decay, _moment(1.0, decay), gaps=gaps)

    def _general(self) -> tuple[Shared, str] | None:
        servers = self.edge.servers
        laws = [stage_law(stage) for stage in self.stages]
        most = max(float(_core.service_spans(stage.core_stages())[0, 1]) for stage in self.stages)
        if servers > 1 and not np.isfinite(most):
            return None
        shares = np.array(self.rates) / self.rate
        mean = float(shares @ [float(stage.mean()) for stage in self.stages])
        found = mg_1_wait(
            self.rate,
            lambda t: sum(s * law.upper(servers * t) for s, law in zip(shares, laws, strict=True)),
            lambda t: sum(s * law.lower(servers * t) for s, law in zip(shares, laws, strict=True)),
            mean / servers,
            max(law.reach for law in laws) / servers,
            lambda decay: self.deadline + BEYOND / decay,
            lambda theta: float(sum(s * law.moment(theta / servers) for s, law in zip(shares, laws, strict=True))),
        )
        if found is None:
            return None
        upper, lower, decay = found
        if servers == 1:
            least = min(least_service(stage) for stage in self.stages)
            gaps = self._gaps(lambda n: [(n + 1) * least])
            return Shared(Law(upper, lower), decay, _moment(1.0, decay), gaps=gaps), "M/G/1"
        slack = (servers - 1) / servers * most
        law = Law(
            lambda t: np.where(np.asarray(t) < slack, 1.0, upper(np.asarray(t) - slack)),
            lambda t: _late(lower, t, slack),
        )
        moment = _moment(1.0, decay)
        return Shared(law, decay, lambda theta: moment(theta) * np.exp(theta * slack), ordered=False), "M/G/c"

    def _batches(self) -> tuple[Shared, str] | None:
        batch, each = self.edge.batch, self.constant
        assert batch is not None and each is not None
        full = batch.fixed + batch.limit * each
        if full == 0:
            return None
        try:
            upper, lower, later = _batch_times(self.rate, batch.limit, batch.fixed, each)
        except ValueError:
            return None
        decay = md_c_decay(self.rate, full, batch.limit)
        return Shared(Law(upper.upper, lower.lower), decay, later.moment, complete=True, later=later), "batches"


_many, _batch_times = lru_cache(8)(md_c_wait), lru_cache(8)(batch_times)


def _none(t: Floats) -> Floats:
    """No time at all."""
    return np.where(np.asarray(t) < 0, 1.0, 0.0)


def _late(lower: Tail, t: Floats, slack: float) -> Floats:
    return np.where(np.asarray(t) < 0, 1.0, lower(np.maximum(t, 0) + slack))


def _moment(waits: float, decay: float) -> Callable[[float], float]:
    """Of a time that passes t with probability at most `waits` e^{-decay t}."""

    def moment(theta: float) -> float:
        return 1 + waits * theta / (decay - theta) if theta < decay else np.inf

    return moment


def _one_server(rate: float, service: float) -> tuple[Tail, float]:
    """The wait of M/D/1 and its decay rate."""
    one = Pipeline([Constant(service, "edge")])

    def wait(t: Floats) -> Floats:
        return np.asarray(violation_bracket(one, rate, np.maximum(t, 0) + service).upper)

    return wait, md_c_decay(rate, service, 1)
