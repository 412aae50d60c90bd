"""A cell as the core takes it."""

from typing import Any

import numpy as np

from edgeinfer import _core
from edgeinfer.cell.model import Cell, EdgeNode, Terminals
from edgeinfer.cell.stations import band_link, nearest
from edgeinfer.model import Compute, Transfer

#: (place, server or band, service)
CoreStage = tuple[str, int, int]


class Translation:
    """The arguments of `_core.simulate_cell` for a cell, and the names of its rows.

    Attributes
    ----------
    services : Stages
    classes, nodes, bands : tuple
    labels : list of tuple of str
        For each class: stages, fallback's stages, "end".
    servers : list of list of int
        For each class and row its own server; -1 elsewhere.
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
        self.classes = tuple(self._class(kind) for kind in cell.terminals)
        self.services = _core.Stages(self._services or [("deterministic", 0.0)])

    def _service(self, stages: list[Any]) -> int:
        """Index of the first of services that follow each other; the same for the same ones."""
        key = tuple((kind, value if isinstance(value, float) else id(value)) for kind, value in stages)
        if key not in self._known:
            self._known[key] = len(self._services)
            self._services.extend(stages)
        return self._known[key]

    def _own(self, stage: Any, link: Any, servers: list[int]) -> CoreStage:
        services = stage.core_stages() if link is None else Transfer(stage.bits, link, stage.name).core_stages()
        servers.append(max(servers, default=-1) + 1)
        return "own", servers[-1], self._service(services)

    def _stage(self, kind: Terminals, place: int, servers: list[int]) -> CoreStage:
        cell, stage = self.cell, kind.pipeline[place]
        if place == kind.edge_index:
            servers.append(-1)
            laws = [cell.edge_stage(kind, edge).core_stages()[0] for edge in cell.edges]
            return "node", 0, self._service(laws)
        band = cell.band(kind, place)
        if band is None or band.scheduler == "dedicated":
            return self._own(stage, band_link(cell, kind, place) if isinstance(stage, Transfer) else None, servers)
        assert isinstance(stage, Transfer)
        servers.append(-1)
        law = Transfer(stage.bits, band_link(cell, kind, place), stage.name).core_stages()
        name = "uplink" if place < (kind.edge_index or 0) else "downlink"
        return "band", self.band_names.index(name), self._service(law)

    def _class(self, kind: Terminals) -> tuple[Any, ...]:
        servers: list[int] = []
        main = tuple(self._stage(kind, k, servers) for k in range(len(kind.pipeline)))
        nodes = {
            stage.node: servers[k]
            for k, stage in enumerate(kind.pipeline)
            if isinstance(stage, Compute) and servers[k] >= 0
        }
        fallback = []
        for stage in kind.fallback or ():
            shared = nodes.get(stage.node) if isinstance(stage, Compute) else None
            if shared is None:
                fallback.append(self._own(stage, stage.link if isinstance(stage, Transfer) else None, servers))
                continue
            servers.append(shared)
            fallback.append(("own", shared, self._service(stage.core_stages())))
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
        count = max(servers, default=-1) + 1
        return kind.count, arrival, main, tuple(fallback), count, kind.priority, kind.weight, kind.deadline, at


def _node(edge: EdgeNode) -> tuple[Any, ...]:
    batch = edge.batch
    limit, wait, fixed = (batch.limit, batch.wait, batch.fixed) if batch is not None else (1, 0.0, 0.0)
    return edge.servers, edge.scheduler, limit, wait, fixed, edge.capacity or 0
