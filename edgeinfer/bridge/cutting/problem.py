"""What a search for a cut works on: costs of operations and tensors, and places as a minimum cut gives them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.bridge.cutting.cuts import _REPETITIONS, Cut, node_times
from edgeinfer.bridge.cutting.mincut import minimum_cut
from edgeinfer.model import Node
from edgeinfer.model.pipelines import LINKS, Link
from edgeinfer.network.graphs import Graph, read_graph
from edgeinfer.network.profiles import NetworkProfile, profile_network


@dataclass(frozen=True, eq=False)
class Problem:
    """Costs of every division, as a network of capacities."""

    network: Graph | NetworkProfile
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    downlinks: tuple[Link, ...]
    times: NDArray[np.float64]
    rates: tuple[float, ...]
    back_rates: tuple[float, ...]
    tail: NDArray[np.int64] = field(init=False)
    head: NDArray[np.int64] = field(init=False)
    stage: NDArray[np.int64] = field(init=False)
    base: NDArray[np.float64] = field(init=False)
    size: int = field(init=False)

    @property
    def graph(self) -> Graph:
        return self.network.graph if isinstance(self.network, NetworkProfile) else self.network

    @property
    def stages(self) -> int:
        """Nodes, then links, then downlinks."""
        return len(self.nodes) + len(self.links) + len(self.downlinks)

    def vertex(self, position: int, place: int) -> int:
        """ "The operation runs at this place or before"."""
        return 2 + position * len(self.links) + place

    def __post_init__(self) -> None:
        graph, last = self.graph, len(self.links)
        count = len(graph.operations)
        edges: list[tuple[int, int, int, float]] = []
        for v in range(count):
            chain = [1, *(self.vertex(v, place) for place in range(last)), 0]
            for place in range(last + 1):
                edges.append((chain[place + 1], chain[place], place, self.times[place, v]))
            edges += [(self.vertex(v, place), self.vertex(v, place + 1), -1, np.inf) for place in range(last - 1)]
        extra = 2 + count * last
        for name, readers in graph.consumers.items():
            bits, writer = graph.uplink_bits[name], graph.origin.get(name)
            for hop in range(last):
                source = 0 if writer is None else self.vertex(writer, hop)
                stage, cost = last + 1 + hop, bits / self.rates[hop]
                sinks = [self.vertex(reader, hop) for reader in readers]
                if name in self.comes_back:
                    # Once for all readers at this place or before.
                    edges += [(sink, extra, -1, np.inf) for sink in sinks]
                    edges.append((extra, source, 2 * last + 1 + hop, graph.tensors[name].bits / self.back_rates[hop]))
                    extra += 1
                elif writer is not None:
                    edges += [(sink, source, -1, np.inf) for sink in sinks]
                if graph.tensors[name].stays:
                    # Where its writer is, at this place or before, its readers are, too.
                    edges += [(source, sink, -1, np.inf) for sink in sinks]
                elif len(sinks) == 1:
                    edges.append((source, sinks[0], stage, cost))
                elif sinks:
                    edges.append((source, extra, stage, cost))
                    edges += [(extra, sink, -1, np.inf) for sink in sinks]
                    extra += 1
        for name in graph.results:
            for hop in range(len(self.downlinks)):
                stage, cost = 2 * last + 1 + hop, graph.tensors[name].bits / self.back_rates[hop]
                if not graph.tensors[name].returns:
                    stage, cost = -1, np.inf
                edges.append((0, self.vertex(graph.producer[name], hop), stage, cost))
        columns = zip(*edges, strict=True)
        for name, column, kind in zip(("tail", "head", "stage", "base"), columns, "iiif", strict=True):
            object.__setattr__(self, name, np.array(column, np.int64 if kind == "i" else np.float64))
        object.__setattr__(self, "size", extra)

    @cached_property
    def comes_back(self) -> frozenset[str]:
        """Inputs that are state and may be read before the node that makes them, where they can come back to it."""
        if not self.downlinks:
            return frozenset()
        tensors = self.graph.tensors
        state = (taken for given, taken in self.graph.state.items() if given in self.graph.producer)
        return frozenset(name for name in state if self.graph.consumers[name] and not tensors[name].stays)

    def solve(
        self, weights: NDArray[np.float64], low: NDArray[np.int64] | None = None, high: NDArray[np.int64] | None = None
    ) -> tuple[int, ...]:
        """Places that minimise the weighted sum of the stages' times, each operation's within [low, high]."""
        last, count = len(self.links), len(self.graph.operations)
        forced = self.stage < 0
        capacity = np.where(forced, np.inf, np.where(forced, 0, self.base) * weights[self.stage])
        tail, head = self.tail, self.head
        first = 2 + last * np.arange(count)
        more: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        if high is not None:
            capped = np.flatnonzero(high < last)
            more.append((np.zeros(len(capped), np.int64), first[capped] + high[capped]))
        if low is not None:
            raised = np.flatnonzero(low > 0)
            more.append((first[raised] + low[raised] - 1, np.ones(len(raised), np.int64)))
        if more:
            tail = np.concatenate([tail, *(pair[0] for pair in more)])
            head = np.concatenate([head, *(pair[1] for pair in more)])
            capacity = np.concatenate([capacity, np.full(len(tail) - len(capacity), np.inf)])
        true = minimum_cut(tail, head, capacity, self.size)
        return tuple((last - true[2 : 2 + count * last].reshape(count, last).sum(axis=1)).tolist())

    def costs(self, places: Sequence[int]) -> NDArray[np.float64]:
        """Time of each stage, b / E[R] for transfers."""
        at = np.array(places)
        times = [self.times[place, at == place].sum() for place in range(len(self.nodes))]
        writers, first, readers, bits = self.read
        start = np.where(writers < 0, 0, at[writers])
        end = np.maximum.reduceat(at[readers], first)
        moved = [bits[(start <= hop) & (hop < end)].sum() / rate for hop, rate in enumerate(self.rates)]
        makers = np.array([self.graph.producer[name] for name in self.graph.results], np.int64)
        results = np.array([self.graph.tensors[name].bits for name in self.graph.results], float)
        back = [results[at[makers] > hop].sum() / rate for hop, rate in enumerate(self.back_rates)]
        for name in self.comes_back:
            to, place = at[list(self.graph.consumers[name])].min(), at[self.graph.origin[name]]
            for hop in range(to, place):
                back[hop] += self.graph.tensors[name].bits / self.back_rates[hop]
        return np.array([*times, *moved, *back])

    @cached_property
    def read(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Tensors that are read: writers (-1: the network's input), starts of their readers, readers, bits."""
        graph = self.graph
        rows = [(graph.origin.get(n, -1), r, graph.uplink_bits[n]) for n, r in graph.consumers.items() if r]
        first = np.cumsum([0, *(len(readers) for _, readers, _ in rows[:-1])])
        readers = np.array([reader for _, readers, _ in rows for reader in readers])
        return np.array([row[0] for row in rows]), first, readers, np.array([row[2] for row in rows], float)

    @cached_property
    def tied(self) -> NDArray[np.int64]:
        """Pairs of operations that must share a place, (k, 2), ascending; -1 stands for the device."""
        graph = self.graph
        pairs = [(graph.origin.get(n, -1), r) for n, t in graph.tensors.items() if t.stays for r in graph.consumers[n]]
        if self.downlinks:
            pairs += [(-1, graph.producer[name]) for name in graph.results if not graph.tensors[name].returns]
        # State that has no way back is read where it is made, or behind.
        state = () if self.downlinks else graph.state.items()
        back = [(r, graph.origin[n]) for _, n in state if n in graph.origin for r in graph.consumers[n]]
        pairs += [(reader, writer) for reader, writer in back if reader < writer]
        return np.sort(np.array(pairs, np.int64).reshape(-1, 2), axis=1)

    def extremes(self) -> list[tuple[int, ...]]:
        """All operations on one node; all on the device first, the others only where nothing that cannot cross
        would.
        """
        alone = [(place,) * len(self.graph.operations) for place in range(len(self.nodes))]
        return alone[:1] if (self.tied[:, 0] < 0).any() else alone

    def prefix(self, length: int) -> tuple[int, ...]:
        """The first operations on the device, the others on the last node."""
        return (0,) * length + (len(self.links),) * (len(self.graph.operations) - length)

    def prefixes(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
        """`costs` of every prefix, (n + 1, stages), how many tensors cross after it, and whether all may, (n + 1,)."""
        graph, count = self.graph, len(self.graph.operations)
        bits, tensors = np.zeros(count + 2), np.zeros(count + 2, np.int64)
        returned = np.zeros(count + 1)
        for name, readers in graph.consumers.items():
            writer = graph.origin.get(name, -1)
            if readers and readers[-1] > writer:
                # It crosses after every prefix with its writer and without its last reader.
                ends = [writer + 1, readers[-1] + 1]
                bits[ends] += np.array([1, -1]) * graph.uplink_bits[name]
                tensors[ends] += [1, -1]
            if name in self.comes_back:
                returned[readers[0] + 1 : writer + 1] += graph.tensors[name].bits
        for name in graph.results:
            returned[: graph.producer[name] + 1] += graph.tensors[name].bits
        first = np.r_[0, np.cumsum(self.times[0])]
        last = np.r_[0, np.cumsum(self.times[-1][::-1])][::-1]
        between = [np.zeros(count + 1)] * (len(self.nodes) - 2)
        crossing = np.cumsum(bits)[:-1]
        moved = [crossing / rate for rate in self.rates] + [returned / rate for rate in self.back_rates]
        parted = np.zeros(count + 2, np.int64)
        for writer, reader in self.tied:
            parted[[writer + 1, reader + 1]] += [1, -1]
        return np.column_stack([first, *between, last, *moved]), np.cumsum(tensors)[:-1], np.cumsum(parted)[:-1] == 0

    def cut(self, places: tuple[int, ...], objective: str, value: float = np.nan, bound: float = np.nan) -> Cut:
        return Cut(self.network, self.nodes, self.links, self.downlinks, places, objective, value, bound)


def read_problem(model: Any, device: Any, edge: Any, link: Any, downlink: Any, shapes: Any) -> Problem:
    edges = tuple(edge) if isinstance(edge, Sequence) else (edge,)
    links = tuple(link) if isinstance(link, Sequence) else (link,)
    back = () if downlink is None else tuple(downlink) if isinstance(downlink, Sequence) else (downlink,)
    nodes = (device, *edges)
    for name, node in (("device", device), *(("edge", node) for node in edges)):
        if not isinstance(node, Node) or np.ndim(node.flops):
            raise ValueError(f"{name} = {node!r}: must be a Node of one rate")
    if not edges:
        raise ValueError("edge = (): must be at least one node")
    if len({node.name for node in nodes}) < len(nodes):
        raise ValueError(f"nodes = {[node.name for node in nodes]}: must have names that differ")
    for name, given in (("link", links), ("downlink", back)):
        if len(given) != len(edges) and (given or name == "link"):
            raise ValueError(f"{name}: {len(given)} given: must be {len(edges)}, one for each edge node")
    if isinstance(model, Graph | NetworkProfile):
        if shapes is not None:
            raise ValueError(f"shapes = {shapes!r}: must be left out, the network's are known")
        network = model
    else:
        network = read_graph(model, shapes)
        if network.flops is None:
            names = ", ".join(map(repr, network.uncounted[:3]))
            warnings.warn(f"{network.name}: FLOP of {names} are unknown: the times are measured here", stacklevel=3)
            network = profile_network(model, shapes, repetitions=_REPETITIONS)
    rates = tuple(_rate("link", given) for given in links)
    back_rates = tuple(_rate("downlink", given) for given in back)
    return Problem(network, nodes, links, back, node_times(network, nodes), rates, back_rates)


def _rate(name: str, link: Any) -> float:
    if not isinstance(link, Link) or link.shape != () or link.latency:
        raise ValueError(f"{name} = {_validate.shown(link)}: must be {LINKS}, a single one without a latency")
    return _validate.scalar(f"mean rate of {name}", link.mean_rate(), 0, low_open=True)
