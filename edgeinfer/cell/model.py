"""What a cell is: classes of terminals, edge nodes with schedulers and batches, shared bands."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.delay.simulation import process_of
from edgeinfer.model import ArrivalProcess, Compute, Constant, FadingLink, Node, Pipeline, Transfer

NODE_SCHEDULERS = ("fifo", "priority", "edf", "processor_sharing")
BAND_SCHEDULERS = ("dedicated", "equal_share", "round_robin", "edf", "proportional_fair", "max_rate")
ASSIGNMENTS = ("nearest", "random", "least_loaded")


@dataclass(frozen=True)
class Batching:
    """Requests that a server takes at once.

    A server that is free takes what waits, in the scheduler's order, up to `limit`. While fewer wait, it holds back
    until the next in order has waited `wait`. A batch takes `fixed` and each request's own time on top.

    Parameters
    ----------
    limit : int
        Requests a batch at most, >= 1.
    wait : float, s
        >= 0; 0 starts whatever waits.
    fixed : float, s
        Time of a batch beside that of its requests, >= 0.
    each : float, s, optional
        Time of every request in a batch, >= 0, in place of that of its edge stage.

    Examples
    --------
    >>> batch = Batching(8, fixed=0.02, each=0.005)
    >>> round(batch.fixed + 8 * batch.each, 3)
    0.06
    """

    limit: int
    wait: float = 0.0
    fixed: float = 0.0
    each: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", _validate.whole("limit", self.limit, 1))
        object.__setattr__(self, "wait", _validate.scalar("wait", self.wait, 0, unit="s"))
        object.__setattr__(self, "fixed", _validate.scalar("fixed", self.fixed, 0, unit="s"))
        if self.each is not None:
            object.__setattr__(self, "each", _validate.scalar("each", self.each, 0, unit="s"))


@dataclass(frozen=True)
class EdgeNode:
    """An edge node that terminals share.

    Parameters
    ----------
    servers : int
        Requests, or batches, that it serves at once, >= 1.
    scheduler : {"fifo", "priority", "edf", "processor_sharing"}
        First come first served; the lowest `Terminals.priority` first; the earliest arrival plus
        `Terminals.deadline` first, the three without preemption; or every request gets an equal share of the servers,
        at most one server's worth.
    batch : Batching, optional
        Not with "processor_sharing".
    flops : float, FLOP/s, optional
        Of each server, > 0: in place of the node that a `Compute` stage names. Edge stages must then be `Compute`.
    capacity : int, optional
        Requests waiting or in service at most, >= 1; by default any number. What comes to a full node is lost, or
        takes its terminals' fallback.
    busy_power, idle_power : float, W
        Of each server, >= 0.

    Examples
    --------
    >>> EdgeNode(2, "edf").servers
    2
    """

    servers: int = 1
    scheduler: str = "fifo"
    batch: Batching | None = None
    flops: float | None = None
    capacity: int | None = None
    busy_power: float = 0.0
    idle_power: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "servers", _validate.whole("servers", self.servers, 1))
        _validate.choice("scheduler", self.scheduler, NODE_SCHEDULERS)
        if self.batch is not None and not isinstance(self.batch, Batching):
            raise ValueError(f"batch = {self.batch!r}: must be a Batching or None")
        if self.batch is not None and self.scheduler == "processor_sharing":
            raise ValueError("batch: must be None with scheduler 'processor_sharing', which serves all at once")
        if self.flops is not None:
            object.__setattr__(self, "flops", _validate.scalar("flops", _validate.positive("flops", self.flops)))
        if self.capacity is not None:
            object.__setattr__(self, "capacity", _validate.whole("capacity", self.capacity, 1))
        for name in ("busy_power", "idle_power"):
            object.__setattr__(self, name, _validate.scalar(name, getattr(self, name), 0, unit="W"))


@dataclass(frozen=True)
class Band:
    """A band that terminals share for what they send, or for what is sent to them.

    Mean SNR and fading of each terminal's link are kept; its bandwidth and slot are the band's. Gains are independent
    from slot to slot and from terminal to terminal.

    Parameters
    ----------
    bandwidth : float, Hz
        > 0.
    scheduler : str
        "dedicated": every terminal that uses the band has the same part of it for itself, active or not.
        "equal_share": terminals with something to send divide the band from moment to moment, by `Terminals.weight`.
        Others give one terminal a slot at a time: "round_robin" in turn, "edf" to the earliest deadline, "max_rate" to
        the best rate, "proportional_fair" to the best weight times rate over its average rate.
    slot : float, s
        > 0.
    averaging : float
        Slots over which "proportional_fair" averages a rate, exponentially; > 1.

    Examples
    --------
    >>> Band(20e6, "round_robin", 0.01).scheduler
    'round_robin'
    """

    bandwidth: float
    scheduler: str = "equal_share"
    slot: float = 0.01
    averaging: float = 100.0

    def __post_init__(self) -> None:
        bandwidth = _validate.scalar("bandwidth", self.bandwidth, 0, low_open=True, unit="Hz")
        object.__setattr__(self, "bandwidth", bandwidth)
        _validate.choice("scheduler", self.scheduler, BAND_SCHEDULERS)
        object.__setattr__(self, "slot", _validate.scalar("slot", self.slot, 0, low_open=True, unit="s"))
        object.__setattr__(self, "averaging", _validate.scalar("averaging", self.averaging, 1, low_open=True))


@dataclass(frozen=True, eq=False)
class Terminals(_validate.Value):
    """Terminals of one kind, each with arrivals and with links and a device of its own.

    Parameters
    ----------
    count : int
        >= 1.
    arrival_rate : float, 1/s, or ArrivalProcess
        Of each terminal: the mean rate of Poisson arrivals, > 0; or any other process of one element, `Periodic`,
        `Erlang`, `Hyperexponential`, `Gamma`, `MarkovModulated`, `Batch`, `Recorded`. Terminals follow it independently
        of each other, stationary from the start: periodic ones at random phases, records from random points in time.
    pipeline : Pipeline
        Stages of a request, of shape (). What is not on the edge is a FIFO server that each terminal has for itself.
    edge : str or int, optional
        Name, or place from 0, of the stage that the cell's edge serves; None for requests that never go there.
        Transfers before it are uplinks, those behind it downlinks.
    name : str
    arrival : {"poisson", "deterministic", "erlang", "hyperexponential"}
        The process, where `arrival_rate` is a rate.
    arrival_shape : float, optional
        It is as for `simulate`.
    priority : float
        The lower the sooner, at "priority" nodes.
    weight : float
        At bands "equal_share" and "proportional_fair", > 0.
    deadline : float, s
        That "edf" goes by, > 0; may be inf.
    fallback : Pipeline, optional
        Stages on the terminal that a request takes which a full node refuses; without, it is lost. A `Compute` on a
        node that the pipeline names, too, shares that server.
    nearest : (count,) array_like of int, optional
        Index of the nearest edge of each terminal; by default they are spread evenly.
    busy_power, idle_power : float, W
        Of each of the terminal's compute servers, >= 0.

    Attributes
    ----------
    process : ArrivalProcess
        The arrivals of each terminal.
    edge_index : int or None
        Place of the stage that the edge serves.

    Examples
    --------
    >>> from edgeinfer import model, paper
    >>> split = paper.scenario().pipelines()["split"]
    >>> Terminals(4, 0.2, split, edge="prior").edge_index
    0
    >>> Terminals(4, model.Gamma(0.2, burstiness=5.0), split, edge="prior").mean_rate
    0.2
    """

    count: int
    arrival_rate: float | ArrivalProcess
    pipeline: Pipeline
    edge: str | int | None = None
    name: str = "terminals"
    arrival: str = "poisson"
    arrival_shape: float | None = None
    priority: float = 0.0
    weight: float = 1.0
    deadline: float = np.inf
    fallback: Pipeline | None = None
    nearest: Any = None
    busy_power: float = 0.0
    idle_power: float = 0.0
    process: ArrivalProcess = field(init=False, repr=False, compare=False)
    edge_index: int | None = field(init=False, default=None, compare=False)

    def __post_init__(self) -> None:
        values: dict[str, Any] = {"count": _validate.whole("count", self.count, 1)}
        rate = self.arrival_rate
        if not isinstance(rate, ArrivalProcess):
            values["arrival_rate"] = rate = _validate.scalar("arrival_rate", rate, 0, low_open=True, unit="1/s")
        elif rate.shape != ():
            raise ValueError(
                f"arrival_rate = {type(rate).__name__}(..) of shape {rate.shape}: must be one process, of shape (); "
                "make a class of each"
            )
        values["process"] = process_of(rate, self.arrival, self.arrival_shape)
        for name in ("pipeline", "fallback"):
            value = getattr(self, name)
            if isinstance(value, Pipeline) and value.shape == ():
                _check_links(name, value)
            elif name == "pipeline" or value is not None:
                raise ValueError(f"{name} = {value!r}: must be a Pipeline of shape ()")
        values["edge_index"] = _edge_index(self.pipeline, self.edge)
        if self.fallback is not None and self.edge is None:
            raise ValueError("fallback: must be None where edge is None, as no node refuses these requests")
        values["priority"] = _validate.scalar("priority", self.priority)
        values["weight"] = _validate.scalar("weight", self.weight, 0, low_open=True)
        values["deadline"] = _validate.scalar("deadline", self.deadline, 0, low_open=True, infinite=True, unit="s")
        for name in ("busy_power", "idle_power"):
            values[name] = _validate.scalar(name, getattr(self, name), 0, unit="W")
        if self.nearest is not None:
            values["nearest"] = _places("nearest", self.nearest, values["count"])
        for name, value in values.items():
            object.__setattr__(self, name, value)
        _validate.freeze(self)

    @property
    def mean_rate(self) -> float:
        """Mean requests a second of each terminal."""
        return float(self.process.mean_rate)


def _check_links(name: str, pipeline: Pipeline) -> None:
    for stage in pipeline:
        if isinstance(stage, Transfer) and stage.dependent:
            raise ValueError(
                f"{name}: stage {stage.name!r} goes over a {type(stage.link).__name__}: must be a FadingLink or "
                "ConstantLink in a cell; `simulate` takes it"
            )
        if isinstance(stage, Transfer) and np.any(stage.propagation > 0):
            raise ValueError(
                f"{name}: stage {stage.name!r} goes over a link of latency = {stage.propagation!r}: must be 0 in a "
                "cell; take it off the deadline"
            )


def _edge_index(pipeline: Pipeline, edge: Any) -> int | None:
    if edge is None:
        return None
    if isinstance(edge, str):
        places = [k for k, name in enumerate(pipeline.names) if name == edge]
        if len(places) != 1:
            raise ValueError(
                f"edge = {edge!r}: must be the name of one stage of {', '.join(map(repr, pipeline.names))}"
            )
        index = places[0]
    else:
        index = _validate.whole("edge", edge, 0)
        if index >= len(pipeline):
            raise ValueError(f"edge = {index}: must be < {len(pipeline)}, the number of stages")
    if isinstance(pipeline[index], Transfer):
        raise ValueError(f"edge = {edge!r}: is a transfer: must be a stage that a node serves")
    return index


def _places(name: str, value: Any, count: int) -> NDArray[np.uint32]:
    array = np.asarray(_validate.real(name, value, 0, 2**32 - 2))
    if array.shape != (count,) or (array != np.floor(array)).any():
        raise ValueError(f"{name} of shape {array.shape}: must be {count} whole numbers, one for each terminal")
    return array.astype(np.uint32)


@dataclass(frozen=True, eq=False)
class Cell(_validate.Value):
    """Terminals that share edge nodes and bands.

    Parameters
    ----------
    terminals : Terminals or sequence of Terminals
        Of different names.
    edges : EdgeNode or sequence of EdgeNode
        None are needed where no terminals name an edge stage.
    uplink, downlink : Band, optional
        By default each terminal's links are its own.
    assignment : {"nearest", "random", "least_loaded"}
        Which of several edges a request goes to: its terminal's nearest; one at random, each request anew; the one
        with the fewest requests a server, when it comes.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> split = paper.scenario().pipelines()["split"]
    >>> Cell(Terminals(4, 0.2, split, edge="prior"), EdgeNode(servers=2)).terminals[0].count
    4
    """

    terminals: tuple[Terminals, ...]
    edges: tuple[EdgeNode, ...] = ()
    uplink: Band | None = None
    downlink: Band | None = None
    assignment: str = "nearest"

    def __post_init__(self) -> None:
        terminals = _several("terminals", self.terminals, Terminals)
        edges = _several("edges", self.edges, EdgeNode)
        object.__setattr__(self, "terminals", terminals)
        object.__setattr__(self, "edges", edges)
        _validate.choice("assignment", self.assignment, ASSIGNMENTS)
        for name in ("uplink", "downlink"):
            if not isinstance(getattr(self, name), Band | None):
                raise ValueError(f"{name} = {getattr(self, name)!r}: must be a Band or None")
        if not terminals:
            raise ValueError("terminals = (): must have at least one class")
        names = [kind.name for kind in terminals]
        if len(set(names)) < len(names):
            raise ValueError(f"terminals of names {', '.join(map(repr, names))}: must differ")
        for kind in terminals:
            if kind.edge_index is not None and not edges:
                raise ValueError(f"edges = (): must have at least one, for edge = {kind.edge!r} of {kind.name!r}")
            if kind.nearest is not None and int(kind.nearest.max()) >= len(edges):
                raise ValueError(f"nearest of {kind.name!r}: must be < {len(edges)}, the number of edges")
            for edge in edges:
                self.edge_stage(kind, edge)
            for k, stage in enumerate(kind.pipeline):
                link = stage.link if isinstance(stage, Transfer) else None
                if self.band(kind, k) is not None and not isinstance(link, FadingLink):
                    raise ValueError(
                        f"terminals {kind.name!r}: stage {stage.name!r} shares a band: must go over a FadingLink, not "
                        f"a {type(link).__name__}"
                    )

    def replace(self, **changes: Any) -> "Cell":
        """A cell with some of the fields changed."""
        return replace(self, **changes)

    def with_count(self, count: int, name: str | None = None) -> "Cell":
        """The cell with another number of terminals of one class, or of the only one.

        Their nearest edges are spread evenly.

        Examples
        --------
        >>> from edgeinfer import paper
        >>> kind = Terminals(4, 0.2, paper.scenario().pipelines()["device_only"])
        >>> Cell(kind).with_count(9).terminals[0].count
        9
        """
        index = self.class_index(name)
        kinds = list(self.terminals)
        kinds[index] = replace(kinds[index], count=count, nearest=None)
        return self.replace(terminals=tuple(kinds))

    def class_index(self, name: str | None) -> int:
        """Place of the class of a name; of the only one for None."""
        names = [kind.name for kind in self.terminals]
        if name is None and len(names) > 1:
            raise ValueError(f"name = None: must be one of {', '.join(map(repr, names))}")
        return 0 if name is None else names.index(_validate.choice("name", name, tuple(names)))

    def band(self, kind: Terminals, place: int) -> Band | None:
        """The band that a stage's transfer uses; None for a link of the terminal's own, or no transfer."""
        if kind.edge_index is None or not isinstance(kind.pipeline[place], Transfer):
            return None
        return self.uplink if place < kind.edge_index else self.downlink

    def edge_stage(self, kind: Terminals, edge: EdgeNode) -> Any:
        """The stage of a class that an edge serves, as it is there; None without one."""
        if kind.edge_index is None:
            return None
        stage = kind.pipeline[kind.edge_index]
        if edge.batch is not None and edge.batch.each is not None:
            return Constant(edge.batch.each, stage.name)
        if edge.flops is None:
            return stage
        if not isinstance(stage, Compute):
            raise ValueError(
                f"flops = {edge.flops:g}: must be None, as stage {stage.name!r} of {kind.name!r} has no work"
            )
        return Compute(stage.work, Node(stage.node.name, edge.flops), stage.name)


def _several(name: str, value: Any, kind: type) -> tuple[Any, ...]:
    items = (value,) if isinstance(value, kind) else tuple(value) if isinstance(value, Iterable) else (value,)
    for item in items:
        if not isinstance(item, kind):
            raise ValueError(f"{name}: {item!r} must be {kind.__name__}")
    return items
