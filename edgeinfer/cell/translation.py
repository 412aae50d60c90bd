"""A cell as the core takes it."""

from typing import Any

import numpy as np

from edgeinfer import _core
from edgeinfer.cell.model import Cell, Terminals, needed_at_edge
from edgeinfer.cell.shared import EdgeNode
from edgeinfer.cell.stations import band_link, nearest, own_stage
from edgeinfer.delay.programs import Node, compile_stages
from edgeinfer.model import Compute, Delay, Fork, Pipeline, Session, Transfer
from edgeinfer.model.bases import CoreStage as Service
from edgeinfer.model.bases import Server, propagation_of
from edgeinfer.model.composition import law_of

#: As `_core.simulate_cell` takes it: (place, server or band, service), and latency, skip and parts where there are any.
CoreStage = tuple[str, int, int] | tuple[str, int, int, float, float, tuple[Any, ...]]


class Translation:
    """The arguments of `_core.simulate_cell` for a cell, and the names of its rows.

    Attributes
    ----------
    services : Stages
    classes, nodes, bands : tuple
    labels : list of tuple of str
        For each class: stages, fallback's stages, "end".
    servers : list of list of int
        For each class and row the first of its own servers; -1 at edges and bands, and where there is none.
    server_counts : list of int
        Own servers of a terminal of each class.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._services: list[Any] = []
        self._known: dict[Any, int] = {}
        bands = {"uplink": cell.uplink, "downlink": cell.downlink}
        shared = {name: band for name, band in bands.items() if band is not None and band.scheduler != "dedicated"}
        self.bands = tuple((band.scheduler, band.slot, band.averaging) for band in shared.values())
        self.band_names = list(shared)
        self.nodes = tuple(_node(edge) for edge in cell.edges)
        self.labels: list[tuple[str, ...]] = []
        self.servers: list[list[int]] = []
        self.server_counts: list[int] = []
        self.classes = tuple(self._class(kind) for kind in cell.terminals)
        self.services = _core.Stages(self._services or [("deterministic", 0.0)])

    def _service(self, stages: list[Any]) -> int:
        """Index of the first of services that follow each other; the same for the same ones."""
        key = tuple((kind, value if isinstance(value, float) else id(value)) for kind, value in stages)
        if key not in self._known:
            self._known[key] = len(self._services)
            self._services.extend(stages)
        return self._known[key]

    def _own(self, stage: Any, first: int) -> tuple[CoreStage, int]:
        """A stage of the terminal's own whose servers begin at `first`, and how many it has."""
        if isinstance(stage, Server):
            service = stage.core_stages()[0]
            core: CoreStage = ("own", first, self._service([service[:2]]))
            return (*core, propagation_of(service), 0.0, ()) if propagation_of(service) else core, 1
        if isinstance(stage, Delay):
            service = stage.stage.core_stages()[0]
            late = propagation_of(service)
            return ("delay", 0, self._service([("compound", law_of((stage.stage,))) if late else service])), 0
        services: list[Service] = []
        nodes: list[Node] = []
        compile_stages([stage], services, nodes)
        parts, server = [], first
        for kind, place, count, needed, probability in nodes:
            # Only these three have a service; "server" and "review" have a server, too.
            at = self._service([services[place]]) if kind in ("server", "delay", "review") else 0
            parts.append((kind, server, at, count, needed, probability))
            server += kind in ("server", "review")
        return ("parts", 0, 0, 0.0, 0.0, tuple(parts)), server - first

    def _shared(self, kind: Terminals, place: int) -> CoreStage:
        """The stage that an edge or a shared band serves."""
        cell = self.cell
        if place == kind.edge_index:
            laws = [cell.edge_stage(kind, edge).core_stages()[0][:2] for edge in cell.edges]
            core: CoreStage = ("node", 0, self._service(laws))
            skip = 1 - needed_at_edge(kind)
            return (*core, 0.0, skip, ()) if skip else core
        stage = kind.pipeline[place]
        assert isinstance(stage, Transfer)
        law = Transfer(stage.bits, band_link(cell, kind, place), stage.name).core_stages()
        name = "uplink" if place < (kind.edge_index or 0) else "downlink"
        return "band", self.band_names.index(name), self._service(law)

    def _class(self, kind: Terminals) -> tuple[Any, ...]:
        main: list[CoreStage] = []
        fallback: list[CoreStage] = []
        servers: list[int] = []
        count = 0
        for place in range(len(kind.pipeline)):
            band = self.cell.band(kind, place)
            if place == kind.edge_index or (band is not None and band.scheduler != "dedicated"):
                main.append(self._shared(kind, place))
                servers.append(-1)
                continue
            stage, number = self._own(own_stage(self.cell, kind, place), count)
            main.append(stage)
            servers.append(count if number else -1)
            count += number
        for step in kind.fallback or ():
            shared = _shared_server(kind, step, servers)
            stage, number = self._own(step, count if shared is None else shared)
            fallback.append(stage)
            servers.append(shared if shared is not None else count if number else -1)
            count += number if shared is None else 0
        self.server_counts.append(count)
        labels = [
            *kind.pipeline.labels,
            *(f"fallback {name}" for name in (kind.fallback.labels if kind.fallback else ())),
        ]
        self.labels.append((*labels, "end"))
        self.servers.append(servers)
        at = (
            nearest(self.cell, kind).astype(np.uint32)
            if len(self.cell.edges) > 1 and kind.edge_index is not None
            else None
        )
        arrival = kind.process._core(kind.process._rows()[0])
        own = kind.count, arrival, tuple(main), tuple(fallback), count
        return *own, kind.priority, kind.weight, kind.deadline, at, _loop(kind)


def _shared_server(kind: Terminals, step: Any, servers: list[int]) -> int | None:
    """The server of the pipeline that a stage of the fallback shares, since both are on one node."""
    if not isinstance(step, Compute):
        return None
    for place, stage in enumerate(kind.pipeline):
        inside = Pipeline([stage]).inner
        inside = sum((part.stages if isinstance(part, Session) else (part,) for part in inside), ())
        if place == kind.edge_index or not any(isinstance(s, Compute) and s.node == step.node for s in inside):
            continue
        if isinstance(stage, Fork | Delay):
            raise ValueError(
                f"fallback: stage {step.name!r} is on the node of a part of {stage.name!r}, a {type(stage).__name__}: "
                "must be on a node of its own, or on that of a stage with one server"
            )
        return servers[place]
    return None


def _loop(kind: Terminals) -> tuple[Any, ...] | None:
    if kind.loop is None:
        return None
    if kind.rounds.ndim == 1:
        return *kind.loop, kind.rounds, None
    number = kind.rounds.sum(axis=1)
    return *kind.loop, number, np.minimum(kind.rounds[:, 0] / np.where(number > 0, number, 1), 1)


def _node(edge: EdgeNode) -> tuple[Any, ...]:
    batch = edge.batch
    limit, wait, fixed = (batch.limit, batch.wait, batch.fixed) if batch is not None else (1, 0.0, 0.0)
    return edge.servers, edge.scheduler, limit, wait, fixed, edge.capacity or 0
