"""The stations of a cell with their loads: what they need, how long they take to forget, how correlated jobs are."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeinfer import _core, _validate
from edgeinfer.cell.model import Cell, Terminals, needed_at_edge, transfers
from edgeinfer.cell.shared import Band, EdgeNode
from edgeinfer.model import FadingLink, Session, Transfer
from edgeinfer.model.bases import Composed, Server


@dataclass(frozen=True)
class Station:
    """Where requests queue.

    Attributes
    ----------
    name : str
    load : float
    mean, square : float
        Mean service time (s), and squared coefficient of variation.
    servers : int
    arrival : float
        Index of dispersion of the requests that come.
    uses : dict of (int, int) to float
        The class and its stage, and the class's share of the station's requests (of a terminal's own: 1).
    limited : bool
        Needs no load below 1: it refuses requests, or the load is not what decides.
    """

    name: str
    load: float
    mean: float
    square: float
    servers: int
    arrival: float
    uses: dict[tuple[int, int], float]
    limited: bool = False

    @property
    def relaxation(self) -> float:
        """About how long the queue remembers, s."""
        load = min(self.load, 0.9999 if not self.limited else 0.95)
        burst = max(1.0, (self.arrival + self.square) / 2)
        return self.mean * max(1.0, burst / (self.servers * (1 - np.sqrt(load)) ** 2))

    @property
    def queueing(self) -> float:
        """About the probability of a wait, rho^(sqrt(2 c + 2) - 1) (Sakasegawa, Ann. Inst. Statist. Math. 29, 1977)."""
        return float(self.load ** (np.sqrt(2 * self.servers + 2) - 1))

    @property
    def correlation(self) -> float:
        """As `edgeinfer.delay.intervals.dispersion` has it, without the 1, for all requests of the station."""
        load = min(self.load, 0.99)
        return float(2 * load * (self.arrival + self.square) / (1 - load) ** 2)


def moments(stage: Server | Composed) -> tuple[float, float]:
    """Mean and variance of the time of a request that is alone at a stage; of a channel, those of a long time."""
    if isinstance(stage, Server):
        mean, variance = _core.service_moments(stage.core_stages())
        return float(mean[0]), float(variance[0])
    mean, variance = stage.moments()
    return float(mean), float(variance)


def band_link(cell: Cell, kind: Terminals, place: int, transfer: Transfer | None = None) -> Any:
    """The link of a transfer over its band, as if the band were its own; dedicated: over its part."""
    stage, band = transfer or kind.pipeline[place], cell.band(kind, place)
    assert isinstance(stage, Transfer)
    if band is None:
        return stage.link
    assert isinstance(stage.link, FadingLink), "the cell checks it"
    part = band.bandwidth
    if band.scheduler == "dedicated":
        part /= band_terminals(cell, kind, place)
    return FadingLink.from_snr(stage.link.snr, part, band.slot, stage.link.control_overhead, fading=stage.link.fading)


def own_stage(cell: Cell, kind: Terminals, place: int) -> Server | Composed:
    """A stage that a terminal has for itself, its transfers over the links that they have in the cell."""
    stage = kind.pipeline[place]
    if cell.band(kind, place) is None:
        return stage

    def over_band(part: Server) -> Server:
        if isinstance(part, Session):
            return part.map(over_band)
        if not isinstance(part, Transfer):
            return part
        return Transfer(part.bits, band_link(cell, kind, place, part), part.name)

    return stage.map(over_band) if isinstance(stage, Composed) else over_band(stage)


def band_terminals(cell: Cell, kind: Terminals, place: int) -> int:
    """Terminals that use the band of a stage."""
    assert kind.edge_index is not None
    up = place < kind.edge_index
    return sum(
        other.count
        for other in cell.terminals
        if other.edge_index is not None
        and any(
            transfers(s) and k != other.edge_index and (k < other.edge_index) == up
            for k, s in enumerate(other.pipeline)
        )
    )


def stations(cell: Cell) -> list[Station]:
    """Edges, then shared bands, then servers of terminals' own."""
    return [*_edges(cell), *_bands(cell), *_own(cell)]


def loads(cell: Cell) -> dict[str, float]:
    """Load of every edge, shared band and server of a terminal's own, by name.

    A server that a fallback shares is given without the requests that it takes over. At a band the load is that of
    transfers one after the other ("equal_share": at the ergodic rate); "max_rate" and "proportional_fair" carry more,
    so that theirs may pass 1 in a stable cell.

    Parameters
    ----------
    cell : Cell

    Returns
    -------
    dict of str to float

    Examples
    --------
    >>> import edgeinfer as ei
    >>> split = ei.paper.scenario().pipelines()["split"]
    >>> cell = ei.Cell(ei.Terminals(4, 0.2, split, edge="prior"), ei.EdgeNode())
    >>> {name: round(load, 3) for name, load in loads(cell).items()}
    {'edge': 0.722, 'terminals: downlink': 0.016, 'terminals: decode': 0.105}
    """
    _validate.check_kind("cell", cell, Cell)
    return {station.name: station.load for station in stations(cell)}


def edge_shares(cell: Cell, kind: Terminals) -> np.ndarray:
    """Share of a class's requests that goes to each edge; for "least_loaded" in proportion to servers."""
    count = len(cell.edges)
    if cell.assignment == "random":
        return np.full(count, 1 / count)
    if cell.assignment == "least_loaded":
        servers = np.array([edge.servers for edge in cell.edges], dtype=float)
        return servers / servers.sum()
    return np.bincount(nearest(cell, kind), minlength=count) / kind.count


def nearest(cell: Cell, kind: Terminals) -> np.ndarray:
    """Index of each terminal's edge."""
    return np.arange(kind.count) % max(len(cell.edges), 1) if kind.nearest is None else kind.nearest


def _edges(cell: Cell) -> list[Station]:
    answer = []
    for i, edge in enumerate(cell.edges):
        rates, first, second = {}, 0.0, 0.0
        for c, kind in enumerate(cell.terminals):
            if kind.edge_index is None:
                continue
            rate = kind.count * kind.mean_rate * float(edge_shares(cell, kind)[i])
            rate *= kind.visits(kind.edge_index) * needed_at_edge(kind)
            mean, variance = moments(cell.edge_stage(kind, edge))
            rates[c, kind.edge_index] = rate
            first, second = first + rate * mean, second + rate * (variance + mean**2)
        total = sum(rates.values())
        if total == 0:
            continue
        mean, square = _batched(edge, first / total, second / total)
        answer.append(
            Station(
                "edge" if len(cell.edges) == 1 else f"edge {i + 1}",
                total * mean / edge.servers,
                mean,
                square,
                edge.servers,
                _together(cell, rates),
                {use: rate / total for use, rate in rates.items()},
                edge.capacity is not None,
            )
        )
    return answer


def _together(cell: Cell, rates: dict[tuple[int, int], float]) -> float:
    """Index of dispersion of independent streams together, their mean by rate; at least 1, which holds for a while."""
    mean = sum(rate * float(cell.terminals[c].process.index_of_dispersion) for (c, _), rate in rates.items())
    return max(1.0, mean / sum(rates.values()))


def _batched(edge: EdgeNode, mean: float, second: float) -> tuple[float, float]:
    """Time a request at full batches, and squared coefficient of variation."""
    square = second / mean**2 - 1 if mean > 0 else 0.0
    if edge.batch is None:
        return mean, square
    return edge.batch.fixed / edge.batch.limit + mean, square


def _bands(cell: Cell) -> list[Station]:
    answer = []
    for name in ("uplink", "downlink"):
        band = getattr(cell, name)
        if not isinstance(band, Band) or band.scheduler == "dedicated":
            continue
        rates, first, second = {}, 0.0, 0.0
        for c, kind in enumerate(cell.terminals):
            for k, stage in enumerate(kind.pipeline):
                if cell.band(kind, k) is not band or (k < (kind.edge_index or 0)) != (name == "uplink"):
                    continue
                assert isinstance(stage, Transfer)
                link = band_link(cell, kind, k)
                law = link.transfer(stage.bits)
                mean, variance = law.mean(), law.var()
                if band.scheduler == "equal_share":
                    mean = stage.bits / link.mean_rate()
                rate = kind.count * kind.mean_rate * kind.visits(k)
                rates[c, k] = rate
                first, second = first + rate * mean, second + rate * (variance + mean**2)
        if not rates:
            continue
        total = sum(rates.values())
        mean = first / total
        refuses = name == "downlink" and any(edge.capacity is not None for edge in cell.edges)
        free = refuses or band.scheduler in ("max_rate", "proportional_fair")
        shares = {use: rate / total for use, rate in rates.items()}
        answer.append(Station(name, first, mean, second / total / mean**2 - 1, 1, _together(cell, rates), shares, free))
    return answer


def _own(cell: Cell) -> list[Station]:
    answer = []
    for c, kind in enumerate(cell.terminals):
        refuses = any(edge.capacity is not None for edge in cell.edges) and kind.edge_index is not None
        for k in range(len(kind.pipeline)):
            band = cell.band(kind, k)
            if k == kind.edge_index or (band is not None and band.scheduler != "dedicated"):
                continue
            alone = own_stage(cell, kind, k)
            mean, variance = moments(alone)
            square = variance / mean**2 if mean > 0 else 0.0
            work = mean if isinstance(alone, Server) else float(alone.slowest())
            name = f"{kind.name}: {kind.pipeline.labels[k]}"
            load = kind.mean_rate * kind.visits(k) * work
            dispersion = float(kind.process.index_of_dispersion)
            # What stands before an edge that refuses sees all requests; in rounds fewer come back.
            limited = refuses and (k > (kind.edge_index or 0) or (kind.loop is not None and k >= kind.loop[0]))
            answer.append(Station(name, load, mean, square, 1, dispersion, {(c, k): 1.0}, limited))
    return answer
