"""What a cell is: classes of terminals, and what they share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.cell.shared import Band, EdgeNode
from edgeinfer.delay.composed import check_order
from edgeinfer.delay.simulation import process_of
from edgeinfer.model import (
    ArrivalProcess,
    Compute,
    Constant,
    Delay,
    FadingLink,
    Fork,
    Node,
    Pipeline,
    Review,
    Session,
    Transfer,
)
from edgeinfer.model.bases import Composed, Server
from edgeinfer.model.composition import SUM_ERROR

#: Each has a place in memory.
MOST_TERMINALS = 10**7
ASSIGNMENTS = ("nearest", "random", "least_loaded")


@dataclass(frozen=True, eq=False)
class Terminals(_validate.Value):
    """Terminals of one kind, each with arrivals and with links and a device of its own.

    Parameters
    ----------
    count : int
        1 to 10^7.
    arrival_rate : float, 1/s, or ArrivalProcess
        Of each terminal: the mean rate of Poisson arrivals, > 0; or any other process of one element, `Periodic`,
        `Erlang`, `Hyperexponential`, `Gamma`, `MarkovModulated`, `Batch`, `Recorded`. Terminals follow it independently
        of each other, stationary from the start: periodic ones at random phases, records from random points in time.
    pipeline : Pipeline
        Stages of a request, of shape (). What is not on the edge is for each terminal itself: FIFO servers, delays,
        reviews, forks.
    edge : str or int, optional
        Name, or place from 0, of the stage that the cell's edge serves; None, the default, for requests that never go
        there, whose stages nobody shares. A `Session` holds one of its servers for all of its rounds; a `Review` is for
        the requests that need it. Transfers before it are uplinks, those behind it downlinks.
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
    rounds : (R,) or (R, 2) array_like, optional
        P(N = n) that a request passes its repeated stages n = 1 .. R times; or P(N = n, right) and P(N = n, wrong) in
        two columns. For each round it comes back to the first of them as any request that arrives, and so to the end of
        the edge's queue, where a `Session` would keep the server.
    repeated : (str or int, str or int), optional
        The first and the last of the stages that are passed in every round; all by default.

    Attributes
    ----------
    process : ArrivalProcess
        The arrivals of each terminal.
    edge_index : int or None
        Place of the stage that the edge serves.
    loop : (int, int) or None
        Places of the first and the last repeated stage.

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
    rounds: Any = None
    repeated: tuple[str | int, str | int] | None = None
    process: ArrivalProcess = field(init=False, repr=False, compare=False)
    edge_index: int | None = field(init=False, default=None, repr=False, compare=False)
    loop: tuple[int, int] | None = field(init=False, default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        _validate.check_kind("name", self.name, str)
        values: dict[str, Any] = {"count": _validate.whole("count", self.count, 1, MOST_TERMINALS)}
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
                _check_stages(name, value)
            elif name == "pipeline" or value is not None:
                raise ValueError(
                    f"{name} = {_validate.shown(value)}: must be a Pipeline of shape (); make a class of each"
                )
        values["edge_index"] = _edge_index(self.pipeline, self.edge)
        values["rounds"], values["loop"] = self._rounds()
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

    def visits(self, place: int) -> float:
        """How often a request passes a stage, on average."""
        if self.loop is None or not self.loop[0] <= place <= self.loop[1]:
            return 1.0
        number = self.rounds if self.rounds.ndim == 1 else self.rounds.sum(axis=1)
        return float(number @ np.arange(1, len(number) + 1))

    def _rounds(self) -> tuple[Any, tuple[int, int] | None]:
        """Both checked."""
        if self.rounds is None:
            if self.repeated is not None:
                raise ValueError(f"repeated = {self.repeated!r}: must be None where no rounds are given")
            return None, None
        rounds = np.asarray(_validate.real("rounds", self.rounds, 0, 1))
        if rounds.ndim not in (1, 2) or rounds.size == 0 or rounds.shape[1:] not in ((), (2,)):
            raise ValueError(f"rounds of shape {rounds.shape}: must be (R,), or (R, 2) with columns right and wrong")
        if not abs(rounds.sum() - 1) <= SUM_ERROR:
            raise ValueError(f"rounds: their sum = {_validate.digits(rounds.sum())}: must be 1 to within {SUM_ERROR:g}")
        if rounds.ndim == 2 and self.fallback is not None:
            raise ValueError("rounds of two columns: must be of one where there is a fallback, which no round follows")
        ends = (0, len(self.pipeline) - 1) if self.repeated is None else _validate.in_order("repeated", self.repeated)
        if len(ends) != 2:
            raise ValueError(f"repeated = {self.repeated!r}: must be two stages, the first and the last")
        first, last = (_place_of(self.pipeline, "repeated", end) for end in ends)
        if first > last:
            raise ValueError(f"repeated = {self.repeated!r}: must name the first stage first")
        return rounds, (first, last)


def _check_stages(name: str, pipeline: Pipeline) -> None:
    """Refuse several servers, and in branches what would meet servers out of order, or depend on itself."""
    for part in pipeline.inner:
        if part.servers > 1:
            raise ValueError(
                f"{name}: stage {part.name!r} has {part.servers} servers: must have one in a cell, where each stage "
                "is its terminal's own; give an edge's servers as EdgeNode(servers=...)"
            )
    for stage in pipeline:
        if isinstance(stage, Fork):
            for branch in stage.branches:
                check_order(branch.stages, inside=True)
            for part in stage.inner:
                if isinstance(part, Transfer) and part.dependent:
                    raise ValueError(
                        f"{name}: stage {part.name!r} in a branch of {stage.name!r} goes over a "
                        f"{type(part.link).__name__}, whose transfers depend on each other: must be of independent "
                        "services there; use another link, or the transfer as a stage of its own"
                    )


def _place_of(pipeline: Pipeline, name: str, value: Any) -> int:
    """Place of a stage that is named, or given as a place."""
    if isinstance(value, str):
        places = [k for k, label in enumerate(pipeline.names) if label == value]
        if len(places) != 1:
            raise ValueError(
                f"{name} = {value!r}: must be the name of one stage of {', '.join(map(repr, pipeline.names))}"
            )
        return places[0]
    index = _validate.whole(name, value, 0)
    if index >= len(pipeline):
        raise ValueError(f"{name} = {index}: must be < {len(pipeline)}, the number of stages")
    return index


def _edge_index(pipeline: Pipeline, edge: Any) -> int | None:
    if edge is None:
        return None
    index = _place_of(pipeline, "edge", edge)
    stage = pipeline[index]
    if isinstance(stage, Transfer):
        raise ValueError(f"edge = {edge!r}: is a transfer: must be a stage that a node serves")
    if isinstance(stage, Delay | Fork):
        raise ValueError(
            f"edge = {edge!r}: is a {type(stage).__name__}: must be a stage with one server, Constant, Compute, "
            "Exponential, Measured, Session or Review; others may stand before and behind it"
        )
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
        By default each terminal's links are its own. Those of classes without an edge stage always are.
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

    if TYPE_CHECKING:
        # What may be given, beside what is kept.
        def __init__(
            self,
            terminals: Terminals | Sequence[Terminals],
            edges: EdgeNode | Sequence[EdgeNode] = (),
            uplink: Band | None = None,
            downlink: Band | None = None,
            assignment: str = "nearest",
        ) -> None: ...

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
            for k in range(len(kind.pipeline)):
                self._check_bands(kind, k)

    def _check_bands(self, kind: Terminals, place: int) -> None:
        stage, inside = kind.pipeline[place], transfers(kind.pipeline[place])
        owner = f"terminals {kind.name!r}: stage {stage.name!r}"
        if place == kind.edge_index and inside and (self.uplink is not None or self.downlink is not None):
            raise ValueError(
                f"{owner} has the transfer {inside[0].name!r} in it: must have none where the cell has a band, since "
                "it is neither up nor down; use links of the terminals' own"
            )
        band = self.band(kind, place)
        if band is None:
            return
        if band.scheduler != "dedicated" and not isinstance(stage, Transfer):
            raise ValueError(
                f"{owner} has the transfer {inside[0].name!r} in it, which cannot share a band: must be a stage of its "
                "own, or the band 'dedicated'"
            )
        for transfer in inside:
            if not isinstance(transfer.link, FadingLink):
                raise ValueError(
                    f"terminals {kind.name!r}: stage {transfer.name!r} shares a band: must go over a FadingLink, not "
                    f"a {type(transfer.link).__name__}"
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
        """The band that a stage's transfers use; None for links of the terminal's own, or no transfer."""
        if kind.edge_index in (None, place) or not transfers(kind.pipeline[place]):
            return None
        return self.uplink if place < (kind.edge_index or 0) else self.downlink

    def edge_stage(self, kind: Terminals, edge: EdgeNode) -> Any:
        """What an edge serves for a request of a class that needs it, a stage with one server; None without one."""
        if kind.edge_index is None:
            return None
        stage = kind.pipeline[kind.edge_index]
        served = stage.stage if isinstance(stage, Review) else stage
        if edge.batch is not None and edge.batch.each is not None:
            return Constant(edge.batch.each, stage.name)
        if edge.flops is None:
            return served
        parts: tuple[Any, ...] = served.stages if isinstance(served, Session) else (served,)
        if not any(isinstance(part, Compute) for part in parts):
            raise ValueError(
                f"flops = {edge.flops:g}: must be None, as stage {stage.name!r} of {kind.name!r} has no work"
            )
        faster = tuple(
            Compute(part.work, Node(part.node.name, edge.flops), part.name) if isinstance(part, Compute) else part
            for part in parts
        )
        return Session(faster, served.rounds, served.name) if isinstance(served, Session) else faster[0]


def transfers(stage: Server | Composed) -> list[Transfer]:
    """The transfers that a stage is, or is made of."""
    if not isinstance(stage, Composed):
        return [stage] if isinstance(stage, Transfer) else []
    return [transfer for part in stage.inner for transfer in transfers(part)]


def needed_at_edge(kind: Terminals) -> float:
    """Probability that a request that comes to the edge needs it."""
    stage = None if kind.edge_index is None else kind.pipeline[kind.edge_index]
    return float(stage.probability) if isinstance(stage, Review) else 1.0


def _several(name: str, value: Any, kind: type) -> tuple[Any, ...]:
    items = (value,) if isinstance(value, kind) else tuple(value) if isinstance(value, Iterable) else (value,)
    for item in items:
        if not isinstance(item, kind):
            raise ValueError(f"{name}: {item!r} must be {kind.__name__}")
    return items
