"""Stages with one queue, and pipelines."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from edgeinfer import _core, _validate
from edgeinfer.model.bases import Composed, CoreStage, Server, is_single, pick
from edgeinfer.model.channels import ConstantLink
from edgeinfer.model.links import FadingLink, TransferTime
from edgeinfer.model.measured import Measured
from edgeinfer.model.mixtures import TransferMixture
from edgeinfer.model.nodes import Node
from edgeinfer.model.outages import OutageLink
from edgeinfer.model.slotted import ChannelLink

#: What a transfer may go over.
Link = FadingLink | ConstantLink | OutageLink | ChannelLink
#: Servers of a stage, at most.
MOST_SERVERS = 1 << 16
LINKS = "a FadingLink, ConstantLink, OutageLink, MarkovLink or TraceLink"


@dataclass(frozen=True, eq=False)
class Compute(Server):
    """`work` FLOP on `node`: a deterministic service time work / node.flops, at each of its servers.

    Several servers take requests from one queue, first come, first served, and leave their order as it is. The bracket
    is exact for such a stage alone and Poisson arrivals (M/D/c), as far as 1200 states of its queue reach; among others
    it is that of one server which is as fast as all together, and hands on what it has done up to (servers - 1) /
    servers of a service later.

    Parameters
    ----------
    work : (...,) array_like, FLOP
        >= 0.
    node : Node
        Each server of it.
    name : str
    servers : int
        In [1, 65536].

    Examples
    --------
    >>> Compute(97.65e12, Node("edge", 150e12), "prior").mean()
    0.651
    """

    work: Any
    node: Node
    name: str
    servers: int = 1

    def __post_init__(self) -> None:
        _validate.check_kind("node", self.node, Node)
        object.__setattr__(self, "servers", _validate.whole("servers", self.servers, 1))
        _validate.real("servers", self.servers, 1, MOST_SERVERS)
        object.__setattr__(self, "work", _validate.real("work", self.work, 0, unit="FLOP"))
        _validate.broadcast_shapes(work=np.shape(self.work), flops=np.shape(self.node.flops))
        with np.errstate(over="ignore"):
            _validate.real("work / flops", self.mean(), 0, unit="s")

    @property
    def shape(self) -> tuple[int, ...]:
        """Broadcast shape of the stage's parameters."""
        return np.broadcast_shapes(np.shape(self.work), np.shape(self.node.flops))

    def mean(self) -> Any:
        """Mean service time, s."""
        return self.work / self.node.flops

    def core_stages(self) -> list[CoreStage]:
        """The stage as the core takes it, one for each element of `shape`; of one server only."""
        if self.servers > 1:
            raise ValueError(
                f"stage {self.name!r}: servers = {self.servers}: must be 1 here; `violation_bracket`, `deadline_at`, "
                "`max_arrival_rate`, `mean_sojourn(service='tandem')` and `simulate` take more"
            )
        return [("deterministic", float(time)) for time in _validate.flat(self.mean(), self.shape)]

    def moments(self) -> tuple[Any, Any]:
        """Mean (s) and variance (s^2) of the service time."""
        return self.mean(), np.zeros(self.shape)

    def slowest(self) -> Any:
        """Mean work (s) that a request brings to each server."""
        return self.mean() / self.servers


@dataclass(frozen=True, eq=False)
class Constant(Server):
    """A service that always takes the same time.

    Parameters
    ----------
    seconds : (...,) array_like, s
        >= 0.
    name : str

    Examples
    --------
    >>> Constant(0.25, "camera").mean()
    0.25
    """

    seconds: Any
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", _validate.real("seconds", self.seconds, 0, unit="s"))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `seconds`."""
        return np.shape(self.seconds)

    def mean(self) -> Any:
        """Mean service time, s."""
        return self.seconds

    def core_stages(self) -> list[CoreStage]:
        """The stage as the core takes it, one for each element of `shape`."""
        return [("deterministic", float(time)) for time in np.ravel(self.seconds)]


@dataclass(frozen=True, eq=False)
class Transfer(Server):
    """`bits` over `link`, which they hold for a time of the law `link.transfer(bits)`.

    Parameters
    ----------
    bits : (...,) array_like, bit
        > 0.
    link : FadingLink, ConstantLink, OutageLink, MarkovLink or TraceLink
        What its `latency` adds behind the service holds up nobody else.
    name : str

    Examples
    --------
    >>> from edgeinfer import RayleighLink
    >>> link = RayleighLink(5e6, tx_power_dbm=23, noise_dbm=-100, path_loss_db=105, slot=0.005)
    >>> round(Transfer(2e5, link, "uplink").mean(), 4)
    0.0079
    """

    bits: Any
    link: Link
    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.link, Link):
            raise ValueError(f"link = {_validate.shown(self.link)}: must be {LINKS}")
        object.__setattr__(self, "bits", _validate.positive("bits", self.bits, "bit"))
        _validate.broadcast_shapes(bits=np.shape(self.bits), link=self.link.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Broadcast shape of the stage's parameters."""
        return np.broadcast_shapes(np.shape(self.bits), self.link.shape)

    @property
    def dependent(self) -> bool:
        """Whether transfers that follow each other depend on each other."""
        return isinstance(self.link, ChannelLink)

    @property
    def propagation(self) -> Any:
        """Time from the end of the service to the other end of the link, s."""
        return self.link.latency

    def law(self) -> TransferTime | TransferMixture:
        """Law of the service time."""
        return self.link.transfer(self.bits)

    def mean(self) -> Any:
        """Mean service time, s."""
        return self.law().mean()

    def core_stages(self) -> list[CoreStage]:
        """The stage as the core takes it, one for each element of `shape`."""
        return self.link.core_stages(self.bits)


@dataclass(frozen=True, eq=False)
class Exponential(Server):
    """An exponential service time: queueing theory's reference case (M/M/1 and its tandems).

    Parameters
    ----------
    mean_time : (...,) array_like, s
        > 0.
    name : str

    Examples
    --------
    >>> import edgeinfer as ei
    >>> queue = ei.Pipeline([ei.Exponential(0.5, "serve")])
    >>> round(ei.violation_bracket(queue, 1.0, 3.0).upper, 4), ei.mean_sojourn(queue, 1.0)  # exp(-3), 1 / (2 - 1)
    (0.0498, 1.0)
    """

    mean_time: Any
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean_time", _validate.positive("mean_time", self.mean_time, "s"))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `mean_time`."""
        return np.shape(self.mean_time)

    def mean(self) -> Any:
        """Mean service time, s."""
        return self.mean_time

    def core_stages(self) -> list[CoreStage]:
        """The stage as the core takes it, one for each element of `shape`."""
        return [("exponential", float(time)) for time in np.ravel(self.mean_time)]


Stage = Server | Composed


@dataclass(frozen=True, eq=False, init=False)
class Pipeline(_validate.Value):
    """Stages that a request passes in order, each a FIFO server.

    Stages' parameters may be arrays: a family of pipelines is one pipeline of arrays.

    Parameters
    ----------
    stages : sequence of Constant, Compute, Transfer, Exponential, Measured, Session, Delay, Fork, Review
        At least one.

    Examples
    --------
    >>> from edgeinfer import RayleighLink
    >>> edge, link = Node("edge", 150e12), RayleighLink(10e6, 31, -100, 128.1, 0.01)
    >>> pipeline = Pipeline([Compute(97.65e12, edge, "prior"), Transfer(1.0486e6, link, "downlink")])
    >>> pipeline.names, pipeline[:1].names, pipeline["prior"].mean()
    (('prior', 'downlink'), ('prior',), 0.651)
    """

    stages: tuple[Stage, ...]

    def __init__(self, stages: Any) -> None:
        stages = _validate.in_order("stages", stages)
        if not stages:
            raise ValueError("stages = (): must have at least one stage")
        for stage in stages:
            if not isinstance(stage, Stage):
                raise ValueError(
                    f"stages: {_validate.shown(stage)} must be a Constant, Compute, Transfer, Exponential, Measured, "
                    "Session, Delay, Fork or Review"
                )
            _validate.check_kind(f"name of a {type(stage).__name__}", stage.name, str)
        object.__setattr__(self, "stages", stages)
        _validate.broadcast_shapes(**{f"stage {k} {s.name}": s.shape for k, s in enumerate(stages)})

    def __len__(self) -> int:
        return len(self.stages)

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    @overload
    def __getitem__(self, index: int | str) -> Stage: ...
    @overload
    def __getitem__(self, index: slice) -> "Pipeline": ...
    def __getitem__(self, index: int | str | slice) -> "Stage | Pipeline":
        """A stage by its place or its name, or a part of the pipeline."""
        if isinstance(index, str):
            if self.names.count(index) != 1:
                raise ValueError(
                    f"stage {index!r}: must be the name of one stage of {', '.join(map(repr, self.names))}"
                )
            index = self.names.index(index)
        return Pipeline(self.stages[index]) if isinstance(index, slice) else self.stages[index]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the stages."""
        return tuple(stage.name for stage in self.stages)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the stages, with the places of those that share one: 'gpu (stage 1)', 'gpu (stage 2)'."""
        names = self.names
        return tuple(f"{name} (stage {k})" if names.count(name) > 1 else name for k, name in enumerate(names, start=1))

    @property
    def shape(self) -> tuple[int, ...]:
        """Broadcast shape of all stages' parameters."""
        return np.broadcast_shapes(*(stage.shape for stage in self.stages))

    def element(self, index: int) -> "Pipeline":
        """One pipeline of the family, all of whose parameters are numbers.

        Parameters
        ----------
        index : int
            Its place in C order over `shape`, 0 <= index < size.

        Returns
        -------
        Pipeline
            Of shape ().

        Raises
        ------
        ValueError
            For a place that the family does not have.

        Examples
        --------
        >>> node = Node("edge", [1e12, 2e12])
        >>> Pipeline([Compute(4e12, node, "prior")]).element(1)[0].mean()
        2.0
        """
        shape = self.shape
        size = int(np.prod(shape))
        index = _validate.whole("index", index, 0)
        if index >= size:
            raise ValueError(f"index = {index}: must be < {size}, the number of pipelines in the family")
        return self.element_of(shape, index)

    def element_of(self, shape: tuple[int, ...], index: int) -> "Pipeline":
        """The same of a pipeline that is part of a larger family, of `shape`."""
        return Pipeline(
            (stage.element(shape, index) if isinstance(stage, Composed) else pick(stage, shape, index))
            if stage.shape
            else stage
            for stage in self.stages
        )

    @property
    def inner(self) -> tuple[Server, ...]:
        """All stages with one server, those that others are made of among them."""
        parts = [stage.inner if isinstance(stage, Composed) else (stage,) for stage in self.stages]
        return tuple(stage for part in parts for stage in part)

    def map(self, function: Callable[[Server], Server]) -> "Pipeline":
        """The pipeline of what `function` makes of each of `inner`."""
        return Pipeline(
            stage.map(function) if isinstance(stage, Composed) else function(stage) for stage in self.stages
        )

    def elements(self) -> list[_core.Stages]:
        """The stages of each pipeline of the family as the core takes them, in C order over `shape`."""
        shape = self.shape
        size = int(np.prod(shape))
        columns = []
        for stage in self.stages:
            core_stages = stage.core_stages()
            index = np.broadcast_to(np.arange(len(core_stages)).reshape(stage.shape), shape).ravel()
            columns.append([core_stages[i] for i in index])
        return [_core.Stages([column[i] for column in columns]) for i in range(size)]

    def propagation(self) -> np.ndarray:
        """Time that the links add behind each stage without holding a server, s, shape (..., stages).

        Examples
        --------
        >>> from edgeinfer import ConstantLink
        >>> Pipeline([Transfer(1e6, ConstantLink(1e8, [0.01, 0.02]), "backhaul"), Constant(0.1, "gpu")]).propagation()
        array([[0.01, 0.  ],
               [0.02, 0.  ]])
        """
        parts = [stage.propagation if isinstance(stage, Server) else 0.0 for stage in self.stages]
        return np.stack([np.broadcast_to(part, self.shape) for part in parts], axis=-1)

    @property
    def confidence(self) -> float:
        """Probability, at least, that all stages' laws lie in their bands (Bonferroni); 1 where no stage has a band."""
        given = [s.confidence for s in self.inner if isinstance(s, Measured) and s.confidence is not None]
        return float(max(1 - sum(1 - confidence for confidence in given), 0))

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (s) and variance (s^2) of each stage's service time, shape (..., stages)."""
        if not all(map(is_single, self.stages)):
            pairs = [
                stage.moments()  # type: ignore[union-attr]
                if not is_single(stage)
                else tuple(part[..., 0] for part in Pipeline([stage]).moments())
                for stage in self.stages
            ]
            means, variances = (
                np.stack([np.broadcast_to(pair[m], self.shape) for pair in pairs], axis=-1) for m in (0, 1)
            )
            return means, variances
        pairs = [_core.service_moments(stages) for stages in self.elements()]
        shape = (*self.shape, len(self))
        mean, variance = (np.array([pair[i] for pair in pairs]).reshape(shape) for i in (0, 1))
        for k, stage in enumerate(self.stages):
            if isinstance(stage, Transfer) and stage.dependent:
                # The core has those of a long time; a lone transfer's are its law's.
                law = stage.law()
                mean[..., k], variance[..., k] = law.mean(), law.var()
        return mean, variance

    def loads(self, arrival_rate: Any) -> np.ndarray:
        """Load of each stage, of the busiest of its servers: the rate times the mean work that a request brings to it.

        Parameters
        ----------
        arrival_rate : (...,) array_like, 1/s
            > 0; broadcasts with the pipeline.

        Returns
        -------
        (..., stages) ndarray

        Examples
        --------
        >>> Pipeline([Constant(0.5, "gpu"), Exponential(0.2, "link")]).loads(1.5)
        array([0.75, 0.3 ])
        """
        rate = np.asarray(_validate.positive("arrival_rate", arrival_rate, "1/s"))
        works = [
            stage.slowest()  # type: ignore[union-attr]
            if not is_single(stage)
            else Pipeline([stage]).moments()[0][..., 0]
            for stage in self.stages
        ]
        with np.errstate(over="ignore"):
            return np.asarray(
                rate[..., None] * np.stack([np.broadcast_to(work, self.shape) for work in works], axis=-1)
            )
