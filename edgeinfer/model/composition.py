"""Stages made of other stages: rounds that hold a server, delays that nobody queues for, branches, and reviews."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _core, _validate
from edgeinfer.model.bases import Composed, CoreStage, Server, propagation_of
from edgeinfer.model.pipelines import Pipeline, Transfer

#: Largest distance from 1 of a sum of probabilities.
SUM_ERROR = 1e-9
#: Branches of a fork, at most.
MOST_BRANCHES = 64
#: Points over the law of a join.
_POINTS = 1 << 16


def _server(owner: str, stage: Any) -> Server:
    if not isinstance(stage, Server):
        raise ValueError(
            f"{owner}: {_validate.shown(stage)} must be a stage with one server: Constant, Compute, Transfer, "
            "Exponential, Measured" + ("" if owner.startswith("Session") else " or Session")
        )
    if stage.servers > 1:
        raise ValueError(
            f"{owner}: stage {stage.name!r} has {stage.servers} servers: must have one; put it beside the "
            f"{owner}, as a stage of the pipeline or of a Fork's branch"
        )
    if isinstance(stage, Transfer) and stage.dependent:
        raise ValueError(
            f"{owner}: stage {stage.name!r} goes over a {type(stage.link).__name__}, whose transfers depend on each "
            "other: must be of independent services; use another link, or the transfer as a stage of its own"
        )
    return stage


def law_of(stages: tuple[Server, ...], rounds: Any = (0.0, 1.0)) -> _core.Compound:
    """The law of the time of rounds of single stages, rounds[n] = P(N = n) for n = 0, 1, ..; of one by default.

    A `Session` may be the only stage, for one round.
    """
    parts: list[CoreStage] = []
    for stage in stages:
        core = stage.core_stages()[0]
        if core[0] == "compound" and len(stages) == 1 and tuple(rounds) == (0.0, 1.0):
            # It is such a law already, which the core takes no other into.
            law: _core.Compound = core[1]
            return law
        parts.append(core[:2])
        # Who holds the server holds it while the last bits are under way.
        if propagation_of(core):
            parts.append(("deterministic", propagation_of(core)))
    return _core.Compound(parts, rounds)


@dataclass(frozen=True, eq=False)
class Session(Composed, Server):
    """Rounds of stages that hold one server until the last of a random number of rounds is done.

    One request after the other has the server, first come, first served: draft and verify, or paint and check, with no
    other request between the rounds. The time of N rounds is a sum of N independent rounds, so that for one session the
    bracket is that of an M/G/1 queue with this law (`csrc/edgeinfer/compound.h`); N is independent of the rounds' times
    and of other requests.

    Parameters
    ----------
    stages : sequence of Constant, Compute, Transfer, Exponential, Measured
        Of one round, one after the other.
    rounds : (R,) or (R, 2) array_like
        P(N = n) for n = 1 .. R; or P(N = n, right) and P(N = n, wrong) in two columns, which `timely` and `best_rounds`
        need. Each in [0, 1], their sum 1 to within 1e-9.
    name : str

    Raises
    ------
    ValueError
        For other stages, and probabilities outside their range or of another sum.

    Examples
    --------
    >>> from edgeinfer.model import Constant
    >>> session = Session([Constant(0.4, "paint"), Constant(0.1, "check")], [[0.7, 0.0], [0.2, 0.1]], "painter")
    >>> session.mean(), session.mean_rounds
    (0.65, 1.3)
    >>> session.capped(1).rounds.tolist()
    [[0.7, 0.30000000000000004]]
    """

    stages: tuple[Server, ...]
    rounds: Any
    name: str = "session"

    def __post_init__(self) -> None:
        stages = (self.stages,) if isinstance(self.stages, Server) else _validate.in_order("stages", self.stages)
        if not stages:
            raise ValueError("stages = (): must have at least one stage")
        for stage in stages:
            if isinstance(_server("Session", stage), Session):
                raise ValueError(
                    f"Session: {_validate.shown(stage)}: must not be a Session itself: join both rounds into one pmf"
                )
        object.__setattr__(self, "stages", stages)
        rounds = np.asarray(_validate.real("rounds", self.rounds, 0, 1))
        if rounds.ndim not in (1, 2) or rounds.size == 0 or rounds.shape[1:] not in ((), (2,)):
            raise ValueError(f"rounds of shape {rounds.shape}: must be (R,), or (R, 2) with columns right and wrong")
        if not abs(rounds.sum() - 1) <= SUM_ERROR:
            raise ValueError(f"rounds: their sum = {_validate.digits(rounds.sum())}: must be 1 to within {SUM_ERROR:g}")
        object.__setattr__(self, "rounds", rounds)
        _validate.freeze(self)
        _validate.broadcast_shapes(**{f"stage {k} {s.name}": s.shape for k, s in enumerate(stages)})

    @property
    def shape(self) -> tuple[int, ...]:
        """Broadcast shape of the stages' parameters."""
        return np.broadcast_shapes(*(stage.shape for stage in self.stages))

    @property
    def number(self) -> NDArray[np.float64]:
        """P(N = n) for n = 1 .. R, whatever the outcome."""
        return np.asarray(self.rounds if self.rounds.ndim == 1 else self.rounds.sum(axis=1))

    @property
    def right(self) -> NDArray[np.float64] | None:
        """P(N = n, right) for n = 1 .. R; None where no outcomes are known."""
        return None if self.rounds.ndim == 1 else self.rounds[:, 0]

    @property
    def mean_rounds(self) -> float:
        """E[N]."""
        return float(self.number @ np.arange(1, len(self.rounds) + 1))

    def capped(self, cap: int) -> "Session":
        """The session that stops after `cap` rounds; what would have needed more is then wrong.

        Parameters
        ----------
        cap : int
            >= 1.
        """
        cap = _validate.whole("cap", cap, 1)
        rounds = np.array(self.rounds[:cap])
        # What is left over goes to the last round, as wrong.
        rounds[-1, ...] += 0 if rounds.ndim == 2 else self.rounds[cap:].sum()
        if rounds.ndim == 2:
            rounds[-1, 1] += self.rounds[cap:].sum()
        return Session(self.stages, rounds, self.name)

    def mean(self) -> Any:
        """Mean service time, s: E[N] rounds (Wald), with what links add while the server is held."""
        return self.mean_rounds * sum(stage.mean() + stage.propagation for stage in self.stages)

    def moments(self) -> tuple[Any, Any]:
        """Mean (s) and variance (s^2) of the service time."""
        mean, variance = (part[..., 0] for part in Pipeline([self]).moments())
        return mean, variance

    def slowest(self) -> Any:
        """Mean service time, s: one server does all the rounds."""
        return self.mean()

    @cached_property
    def _laws(self) -> list[CoreStage]:
        number = np.concatenate([[0.0], self.number])
        if not self.shape:
            return [("compound", law_of(self.stages, number))]
        single = [self.element(self.shape, i).stages for i in range(int(np.prod(self.shape)))]
        return [("compound", law_of(stages, number)) for stages in single]

    def core_stages(self) -> list[CoreStage]:
        """The stage as the core takes it, one for each element of `shape`."""
        return self._laws

    @property
    def inner(self) -> tuple[Server, ...]:
        """The stages of a round."""
        return self.stages

    def map(self, function: Callable[[Server], Server]) -> "Session":
        """The session of other stages."""
        return Session(tuple(map(function, self.stages)), self.rounds, self.name)


@dataclass(frozen=True, eq=False)
class Delay(Composed):
    """A stage for which nobody queues: each request takes its time, however many there are.

    A private device, or as many servers as there are requests. Poisson arrivals that independent delays displace are
    Poisson arrivals, independent of the delays, so that a delay before all queues, or behind all of them, adds to the
    sojourn time as an independent time. A constant delay does so everywhere, whatever the arrivals. A random one
    between queues lets requests overtake each other: what is not known there is refused.

    Parameters
    ----------
    stage : Constant, Compute, Transfer, Exponential, Measured, Session
        Whose service time it takes.

    Examples
    --------
    >>> from edgeinfer.model import Exponential
    >>> Delay(Exponential(0.2, "device")).name
    'device'
    """

    stage: Server
    name: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", _server("Delay", self.stage).name)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the stage."""
        return self.stage.shape

    def mean(self) -> Any:
        """Mean time, s."""
        return self.moments()[0]

    def moments(self) -> tuple[Any, Any]:
        """Mean (s) and variance (s^2) of the time."""
        alone = Pipeline([self.stage])
        mean, variance = (part[..., 0] for part in alone.moments())
        return mean + alone.propagation()[..., 0], variance

    def slowest(self) -> Any:
        """Always 0: no server is kept."""
        return np.zeros(self.shape)

    @property
    def inner(self) -> tuple[Server, ...]:
        """The stage."""
        return (self.stage,)

    def map(self, function: Callable[[Server], Server]) -> "Delay":
        """The delay of another stage."""
        return Delay(function(self.stage))


@dataclass(frozen=True, eq=False)
class Review(Composed):
    """A server that a request needs with a probability, independently; who does not need it leaves at once.

    Requests that pass it by overtake those that wait for it, so that only `Delay` may stand behind it.

    Parameters
    ----------
    stage : Constant, Compute, Transfer, Exponential, Measured, Session
        The review.
    probability : (...,) array_like
        That a request needs it, in [0, 1].

    Examples
    --------
    >>> from edgeinfer.model import Constant
    >>> Review(Constant(0.5, "judge"), 0.25).mean()
    0.125
    """

    stage: Server
    probability: Any
    name: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", _server("Review", self.stage).name)
        if Pipeline([self.stage]).propagation().any():
            raise ValueError(
                f"Review {self.name!r}: must not go over a link with a latency; put a Delay of that time behind it"
            )
        object.__setattr__(self, "probability", _validate.real("probability", self.probability, 0, 1))
        _validate.broadcast_shapes(stage=self.stage.shape, probability=np.shape(self.probability))

    @property
    def shape(self) -> tuple[int, ...]:
        """Broadcast shape of the stage and the probability."""
        return np.broadcast_shapes(self.stage.shape, np.shape(self.probability))

    def mean(self) -> Any:
        """Mean time of a request that does not wait, s."""
        return self.probability * self.stage.mean()

    def moments(self) -> tuple[Any, Any]:
        """Mean (s) and variance (s^2) of the time of a request that does not wait."""
        mean, variance = (part[..., 0] for part in Pipeline([self.stage]).moments())
        return self.probability * mean, self.probability * (variance + (1 - self.probability) * mean**2)

    def slowest(self) -> Any:
        """Work that a request brings on average, s."""
        return self.probability * Pipeline([self.stage]).moments()[0][..., 0]

    @property
    def inner(self) -> tuple[Server, ...]:
        """The stage."""
        return (self.stage,)

    def map(self, function: Callable[[Server], Server]) -> "Review":
        """The review by another stage."""
        return Review(function(self.stage), self.probability)

    def element(self, shape: tuple[int, ...], index: int) -> "Review":
        """One review of the family."""
        probability = float(np.broadcast_to(self.probability, shape).reshape(-1)[index])
        return Review(super().element(shape, index).stage, probability)


def _branch(name: str, given: Any) -> Pipeline:
    if isinstance(given, Pipeline):
        return given
    try:
        return Pipeline([given] if isinstance(given, Server | Composed) else given)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


@dataclass(frozen=True, eq=False)
class Fork(Composed):
    """Branches that get every request at the same instant; it goes on when all, any or k of them are done.

    Nobody is cancelled: each branch works for every request to the end.

    Parameters
    ----------
    branches : sequence
        Each a stage, a sequence of stages or a Pipeline; 1 to 64 of them.
    join : {"all", "any"} or int
        How many branches must be done with a request for it to go on.
    name : str

    Raises
    ------
    ValueError

    Examples
    --------
    >>> from edgeinfer.model import Constant, Exponential
    >>> fork = Fork([Constant(1.0, "one"), [Constant(0.5, "two"), Exponential(0.2, "three")]], "all", "vote")
    >>> fork.needed, [branch.names for branch in fork.branches]
    (2, [('one',), ('two', 'three')])
    """

    branches: tuple[Pipeline, ...]
    join: Any = "all"
    name: str = "fork"

    def __post_init__(self) -> None:
        given = _validate.in_order("branches", self.branches)
        if not 1 <= len(given) <= MOST_BRANCHES:
            raise ValueError(f"branches: {len(given)} of them: must be 1 to {MOST_BRANCHES}")
        branches = tuple(_branch(f"branches[{k}]", branch) for k, branch in enumerate(given))
        object.__setattr__(self, "branches", branches)
        if not isinstance(self.join, str) or self.join not in ("all", "any"):
            if isinstance(self.join, str):
                raise ValueError(f"join = {self.join!r}: must be 'all', 'any' or a whole number of branches")
            object.__setattr__(self, "join", _validate.whole("join", self.join, 1))
            if self.join > len(branches):
                raise ValueError(f"join = {self.join}: must be <= {len(branches)}, the number of branches")
        _validate.broadcast_shapes(**{f"branch {k}": branch.shape for k, branch in enumerate(branches)})

    @property
    def needed(self) -> int:
        """Branches that must be done with a request."""
        return int({"all": len(self.branches), "any": 1}.get(self.join, self.join))

    @property
    def shape(self) -> tuple[int, ...]:
        """Broadcast shape of the branches."""
        return np.broadcast_shapes(*(branch.shape for branch in self.branches))

    def mean(self) -> Any:
        """Mean time of a request that is alone, s."""
        return self.moments()[0]

    def moments(self) -> tuple[Any, Any]:
        """Mean (s) and variance (s^2) of the time of a request that is alone, to some 1e-5 of the longest branch.

        From the branches' laws on a lattice.
        """
        if not self.shape:
            return _join_moments(self)
        pairs = [self.element(self.shape, i).moments() for i in range(int(np.prod(self.shape)))]
        return tuple(np.array([pair[m] for pair in pairs]).reshape(self.shape) for m in (0, 1))  # type: ignore[return-value]

    def slowest(self) -> Any:
        """Mean service time of the slowest server of all branches, s."""
        each = [branch.loads(1.0).max(axis=-1) for branch in self.branches]
        return np.max(np.broadcast_arrays(*each), axis=0)

    @property
    def inner(self) -> tuple[Server, ...]:
        """All stages of all branches."""
        return tuple(stage for branch in self.branches for stage in branch.inner)

    def map(self, function: Callable[[Server], Server]) -> "Fork":
        """The fork of other stages."""
        return Fork(tuple(branch.map(function) for branch in self.branches), self.join, self.name)

    def element(self, shape: tuple[int, ...], index: int) -> "Fork":
        """One fork of the family."""
        return Fork(tuple(branch.element_of(shape, index) for branch in self.branches), self.join, self.name)


def _averages(stage: Server, step: float, count: int) -> NDArray[np.float64]:
    """P(service > t) averaged over each step; exact for constants and samples, to the third order else."""
    core = stage.core_stages()[0]
    edge = step * np.arange(count + 1)
    kind, value, shift = core[0], core[1], propagation_of(core)
    if kind in ("deterministic", "samples"):
        times = np.atleast_1d(value) + shift
        # Sum over the samples of what of each lies beyond each point.
        after = np.concatenate([np.cumsum(np.sort(times)[::-1])[::-1], [0.0]])
        first = np.searchsorted(np.sort(times), edge, side="right")
        excess = (after[first] - edge * (times.size - first)) / times.size
        return np.asarray(-np.diff(excess) / step)
    law = law_of((stage,))
    at = np.mean(law.sf(np.ravel([edge[:-1], edge[:-1] + step / 2, edge[1:]])), axis=0).reshape(3, -1)
    return np.asarray((at[0] + 4 * at[1] + at[2]) / 6)


def _masses(stage: Any, step: float, count: int) -> NDArray[np.float64]:
    """Masses at 0, step, .. of the time that a lone request takes; those of single stages keep the mean."""
    if isinstance(stage, Delay):
        return _masses(stage.stage, step, count)
    if isinstance(stage, Review):
        masses = np.asarray(stage.probability * _masses(stage.stage, step, count))
        masses[0] += 1 - stage.probability
        return masses
    if isinstance(stage, Fork):
        late = np.append(1.0, _late([_path(branch, step, count) for branch in stage.branches], stage.needed)[:-1])
        return np.asarray(late - np.append(late[1:], 0.0))
    average = _averages(stage, step, count)
    return np.asarray(np.append(1.0, average[:-1]) - average)


def _path(branch: Pipeline, step: float, count: int) -> NDArray[np.float64]:
    """Masses of the sum over a branch's stages."""
    product: Any = 1.0
    for stage in branch:
        product = product * np.fft.rfft(_masses(stage, step, count), 2 * count)
    return np.fft.irfft(product, 2 * count)[:count]


def _late(branches: list[NDArray[np.float64]], needed: int) -> NDArray[np.float64]:
    """P(fewer than `needed` of independent branches are done) behind each point."""
    below = np.zeros((len(branches) + 1, branches[0].size))
    below[0] = 1
    for masses in branches:
        done = np.clip(np.cumsum(masses), 0, 1)
        below[1:] = below[1:] * (1 - done) + below[:-1] * done
        below[0] *= 1 - done
    return np.asarray(below[:needed].sum(axis=0))


def _longest(stages: Any) -> float:
    """A time that the sum of a branch's stages hardly exceeds, s."""
    total = 0.0
    for stage in stages:
        if isinstance(stage, Fork):
            total += max(_longest(branch) for branch in stage.branches)
            continue
        server = stage.stage if isinstance(stage, Delay | Review) else stage
        mean, variance = (float(part[0]) for part in Pipeline([server]).moments())
        law = law_of((server,))
        end = mean + np.sqrt(variance)
        while end > 0 and law.sf(np.array([end]))[1][0] > 1e-13:
            end *= 1.25
        total += end
    return total


def _join_moments(fork: Fork) -> tuple[float, float]:
    """Mean and variance of the time of a lone request, for which one server is enough."""
    fork = fork.map(lambda stage: replace(stage, servers=1) if stage.servers > 1 else stage)  # type: ignore[type-var]
    end = max(_longest(branch) for branch in fork.branches)
    if end == 0:
        return 0.0, 0.0
    step = end / _POINTS
    late = _late([_path(branch, step, _POINTS + 8) for branch in fork.branches], fork.needed)
    place = np.arange(late.size)
    mean = step * float(late.sum())
    return mean, max(step**2 * float(((2 * place + 1) * late).sum()) - mean**2, 0.0)
