"""Where to cut a network between a device and edge nodes: exact over the whole graph, by minimum cuts."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.model import Compute, Measured, Node, Pipeline, Transfer
from edgeinfer.model.pipelines import Link
from edgeinfer.network.graphs import Graph
from edgeinfer.network.profiles import NetworkProfile

# Of a network that is measured because its FLOP are not known.
_REPETITIONS = 10
_UNITS = {"latency": " s", "throughput": " requests/s"}


@dataclass(frozen=True, eq=False)
class Cut(_validate.Frozen):
    """A network divided among a chain of nodes, the device first.

    Attributes
    ----------
    network : Graph or NetworkProfile
    nodes : tuple of Node
        Along the chain.
    links : tuple of links
        From each node to the next.
    downlinks : tuple of links
        From each node back to the one before; empty where results stay where they arise.
    places : tuple of int
        For each operation the position of its node in the chain; never less than that of what it reads.
    objective : str
    value : float
        What the objective says of this cut: s, requests/s, or a probability. NaN where it was not asked.
    bound : float
        Proven: no cut is better than this. NaN for "violation", where nothing is proven of other cuts.
    """

    network: Graph | NetworkProfile
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    downlinks: tuple[Link, ...]
    places: tuple[int, ...]
    objective: str = "latency"
    value: float = np.nan
    bound: float = np.nan

    def __str__(self) -> str:
        """What each node computes and what crosses, in a line each."""
        counts = np.bincount(self.places, minlength=len(self.nodes))
        said = f" for {self.objective}: {self.value:.4g}{_UNITS.get(self.objective, '')}"
        lines = [f"{self.graph.name} cut{'' if np.isnan(self.value) else said}"]
        for place, (node, time) in enumerate(zip(self.nodes, self.times, strict=True)):
            lines.append(f"  {node.name}: {counts[place]} operations, {time:.4g} s")
            if place < len(self.links):
                names = ", ".join(self.crossing[place]) or "nothing"
                lines.append(f"  link: {names}, {self.bits[place]} bit")
        return "\n".join(lines)

    @property
    def graph(self) -> Graph:
        """The network's graph."""
        return self.network.graph if isinstance(self.network, NetworkProfile) else self.network

    @cached_property
    def division(self) -> "Division":
        """What either half does, between a device and one edge node; ValueError for a longer chain."""
        return divide(self.graph, self.places)

    @cached_property
    def crossing(self) -> tuple[tuple[str, ...], ...]:
        """Tensors that each link carries, each once whoever reads it; state that stays on a node is not among them."""
        hops: list[list[str]] = [[] for _ in self.links]
        for name, readers in self.graph.consumers.items():
            start = self.places[self.graph.origin[name]] if name in self.graph.origin else 0
            for hop in range(start, max((self.places[i] for i in readers), default=start)):
                hops[hop].append(name)
        return tuple(map(tuple, hops))

    @cached_property
    def returning(self) -> tuple[tuple[str, ...], ...]:
        """Outputs of the network that each downlink carries, with state that a node before reads."""
        graph = self.graph
        ways = {name: (0, self.places[graph.producer[name]]) for name in graph.results}
        for given, taken in graph.state.items():
            readers = [self.places[i] for i in graph.consumers[taken]]
            if readers and given in graph.producer:
                ways[given] = min(readers), self.places[graph.producer[given]]
        return tuple(
            tuple(name for name, (to, place) in ways.items() if to <= hop < place) for hop in range(len(self.downlinks))
        )

    @cached_property
    def bits(self) -> tuple[int, ...]:
        """Bits of each link's tensors, as they cross it."""
        return tuple(sum(self.graph.uplink_bits[name] for name in names) for names in self.crossing)

    @cached_property
    def returned_bits(self) -> tuple[int, ...]:
        """Bits of each downlink's tensors."""
        return tuple(sum(self.graph.tensors[name].bits for name in names) for names in self.returning)

    @cached_property
    def times(self) -> tuple[float, ...]:
        """Computing time on each node, s."""
        costs = node_times(self.network, self.nodes)
        places = np.array(self.places)
        return tuple(float(costs[place, places == place].sum()) for place in range(len(self.nodes)))

    def alone(self, node: str) -> "Cut":
        """All operations on one node, over the same links: what the cut is worth beside the device or an edge alone.

        Parameters
        ----------
        node : str
            The name of one of `nodes`.

        Raises
        ------
        ValueError
            Also where a tensor that this asks for cannot cross, or come back.

        Examples
        --------
        >>> from edgeinfer import Node, RayleighLink, latency
        >>> from edgeinfer.bridge import cut
        >>> from edgeinfer.network import light_model
        >>> device, edge, link = Node("device", 5e9), Node("edge", 500e9), RayleighLink(5e6, 23, -100, 105, 0.005)
        >>> best = cut(light_model("squeezenet"), device=device, edge=edge, link=link)
        >>> [round(latency(each.pipeline()).total, 3) for each in (best.alone("device"), best.alone("edge"), best)]
        [0.14, 0.185, 0.068]
        """
        names = tuple(each.name for each in self.nodes)
        place = names.index(_validate.choice("node", node, names))
        found = replace(self, places=(place,) * len(self.places), value=np.nan, bound=np.nan)
        for name in {name for hop in found.crossing for name in hop}:
            if self.graph.tensors[name].stays:
                raise ValueError(f"node = {node!r}: tensor {name!r} cannot cross: {self.graph.tensors[name].stays}")
        for name in {name for hop in found.returning for name in hop}:
            if not self.graph.tensors[name].returns:
                raise ValueError(f"node = {node!r}: output {name!r} cannot come back: {self.graph.tensors[name].stays}")
        return found

    def stages(self) -> Iterator[tuple[str, Any]]:
        """Names and stages a request passes: nodes outwards with the links between, then the downlinks back."""
        samples = isinstance(self.network, NetworkProfile)
        for place, (node, time) in enumerate(zip(self.nodes, self.times, strict=True)):
            if place and self.bits[place - 1]:
                name = f"uplink{place}" if len(self.links) > 1 else "uplink"
                yield name, Transfer(self.bits[place - 1], self.links[place - 1], name)
            if place not in self.places:
                continue
            if samples:
                assert isinstance(self.network, NetworkProfile)
                share = self.network.times[np.array(self.places) == place].sum() / self.network.times.sum()
                yield node.name, Measured(self.network.samples_on(node, float(share)), node.name)
            else:
                yield node.name, Compute(time * node.flops, node, node.name)
        for hop in reversed(range(len(self.downlinks))):
            if self.returned_bits[hop]:
                name = f"downlink{hop + 1}" if len(self.links) > 1 else "downlink"
                yield name, Transfer(self.returned_bits[hop], self.downlinks[hop], name)

    def pipeline(self) -> Pipeline:
        """The cut as a pipeline: measured samples where the network is a profile, else FLOP over FLOP/s."""
        return Pipeline(stage for _, stage in self.stages())

    @cached_property
    def latency(self) -> float:
        """Mean unloaded latency, s, with the exact mean of each transfer."""
        return float(sum(stage.mean() for _, stage in self.stages()))

    @cached_property
    def throughput(self) -> float:
        """Requests per second that the slowest stage lets through: one over its mean time."""
        slowest = max(float(stage.mean()) for _, stage in self.stages())
        return 1 / slowest if slowest else np.inf


def node_times(network: Graph | NetworkProfile, nodes: Sequence[Node]) -> NDArray[np.float64]:
    if isinstance(network, NetworkProfile):
        return np.array([network.times_on(node) for node in nodes])
    if network.flops is None:
        names = ", ".join(map(repr, network.uncounted[:3]))
        raise ValueError(
            f"{network.name}: FLOP of {names}: unknown; give the network's NetworkProfile, whose times are measured"
        )
    work = np.array([operation.flops for operation in network.operations], float)
    return np.array([work / node.flops for node in nodes])


@dataclass(frozen=True, eq=False)
class Division(_validate.Value):
    """What a cut between a device and an edge node asks of either half.

    Attributes
    ----------
    places : tuple of int
        0 for each operation on the device, 1 on the edge node.
    crossing : tuple of str
        Tensors that the edge node needs from the device; none where all results arise on the device.
    computed : tuple of str
        What the device computes of those, and of the network's outputs.
    kept, returned : tuple of str
        The network's outputs that the device computes, and those that the edge node sends back: state among them only
        where the device reads it.
    remembered : tuple of pairs of str
        State that the edge node keeps for the next request: the output, and the input that it becomes.
    """

    places: tuple[int, ...]
    crossing: tuple[str, ...]
    computed: tuple[str, ...]
    kept: tuple[str, ...]
    returned: tuple[str, ...]
    remembered: tuple[tuple[str, str], ...] = ()

    @property
    def needed(self) -> tuple[str, ...]:
        """What the edge node's half reads: what crosses, and the state that it keeps."""
        return (*self.crossing, *(taken for _, taken in self.remembered))

    @property
    def given(self) -> tuple[str, ...]:
        """What the edge node's half gives: what it sends back, and the state that it keeps."""
        return (*self.returned, *(given for given, _ in self.remembered if given not in self.returned))


def between(graph: Graph, given: Collection[str], wanted: Sequence[str]) -> tuple[int, ...]:
    """Positions of the operations that lead from tensors that are given to tensors that are wanted, ascending.

    Raises
    ------
    ValueError
        Naming an input of the network that is needed and not given.

    Examples
    --------
    >>> from edgeinfer.network.graphs import Operation, Tensor
    >>> tensors = {name: Tensor(name, "float32", (1,), 32) for name in "xhy"}
    >>> first = Operation(0, "f", "Relu", ("x",), ("h",), 0, 0)
    >>> second = Operation(1, "g", "Relu", ("h",), ("y",), 0, 0)
    >>> graph = Graph("g", "", (first, second), tensors, ("x",), ("y",))
    >>> between(graph, ["x"], ["y"]), between(graph, ["h"], ["y"])
    ((0, 1), (1,))
    """
    needed: set[int] = set()
    stack = [name for name in wanted if name not in given]
    while stack:
        name = stack.pop()
        if name in graph.constants:
            continue
        if name not in graph.producer:
            raise ValueError(f"tensor {name!r}: must be given, what is wanted depends on it")
        position = graph.producer[name]
        if position not in needed:
            needed.add(position)
            stack += [read for read in graph.operations[position].inputs if read not in given]
    return tuple(sorted(needed))


def furthest(graph: Graph) -> tuple[int, ...]:
    """Places with as much on the edge as can be, where results come back: all but what cannot cross, and leads to it.

    Examples
    --------
    >>> from edgeinfer.network import Graph, Operation, Tensor
    >>> tensors = {name: Tensor(name, "float32", (1,), 32) for name in "hy"}
    >>> tensors["x"] = Tensor("x", "str", (1,), 0, "it is of type str, which no message carries")
    >>> encoder = Operation(0, "f", "LabelEncoder", ("x",), ("h",), 0, 0)
    >>> operations = encoder, Operation(1, "g", "Relu", ("h",), ("y",), 0, 0)
    >>> furthest(Graph("g", "", operations, tensors, ("x",), ("y",)))
    (0, 1)
    """
    stack = [graph.producer[name] for name in graph.results if not graph.tensors[name].returns]
    stack += [reader for name in graph.inputs if graph.tensors[name].stays for reader in graph.consumers[name]]
    here: set[int] = set()
    while stack:
        position = stack.pop()
        if position in here:
            continue
        here.add(position)
        operation = graph.operations[position]
        stack += [graph.producer[name] for name in operation.inputs if name in graph.producer]
        stack += [reader for name in operation.outputs if graph.tensors[name].stays for reader in graph.consumers[name]]
    return tuple(int(position not in here) for position in range(len(graph.operations)))


def divide(graph: Graph, places: Sequence[int]) -> Division:
    """What either half does in a cut; operations whose results nobody reads count for nothing.

    Parameters
    ----------
    graph : Graph
    places : (n,) sequence of int
        0 or 1 for each operation; never less than that of what it reads.
    """
    if len(places) != len(graph.operations) or not {*places} <= {0, 1}:
        raise ValueError(f"places: must be 0 or 1 for each of the {len(graph.operations)} operations of {graph.name!r}")
    on_edge = {name for i, place in enumerate(places) if place for name in graph.operations[i].outputs}
    read = {n: {places[i] for i in graph.consumers[graph.state[n]]} for n in graph.state if n in on_edge}
    remembered = tuple((name, graph.state[name]) for name, where in read.items() if 1 in where)
    returned = tuple(n for n in graph.outputs if n in on_edge and (n not in graph.state or 0 in read[n]))
    before = graph.tensors.keys() - on_edge
    tail = between(graph, before, [*returned, *(name for name, _ in remembered)])
    there = {name for _, name in remembered}
    crossing = dict.fromkeys(n for i in tail for n in graph.operations[i].inputs if n in before and n not in there)
    kept = tuple(name for name in graph.outputs if name not in on_edge)
    if any(places[i] for i in between(graph, graph.inputs, [*crossing, *kept])):
        raise ValueError("places: must never be less than that of what an operation reads")
    for name in crossing:
        if graph.tensors[name].stays:
            raise ValueError(f"places: tensor {name!r} cannot cross: {graph.tensors[name].stays}")
    for name in returned:
        if not graph.tensors[name].returns:
            raise ValueError(f"places: output {name!r} cannot come back: {graph.tensors[name].stays}")
    computed = tuple(dict.fromkeys(name for name in (*crossing, *kept) if name not in graph.inputs))
    return Division(tuple(map(int, places)), tuple(crossing), computed, kept, returned, remembered)
