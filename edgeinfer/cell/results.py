"""What the simulation of a cell answers with."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.delay.results import Simulation
from edgeinfer.estimates.estimate import Estimate


@dataclass(frozen=True, eq=False)
class Energy(_validate.Value):
    """Mean power, W: `busy` + `idle` + `transmit` = `total`."""

    busy: float
    idle: float
    transmit: float

    @property
    def total(self) -> float:
        """All of it, W."""
        return self.busy + self.idle + self.transmit


@dataclass(frozen=True, eq=False)
class ClassSimulation(Simulation):
    """A class of terminals in a simulated cell. The last axis is the stage: the pipeline's, the fallback's, the end.

    The rows of a stage are of the requests that pass it, those of the end of all that are answered. `stage_waiting` is
    the wait before a stage; under processor sharing and on a shared band the time there beyond the service alone.
    `utilisation` is the share of time that a terminal's own server works for the stage; of an edge, the servers that
    the class keeps busy; of a shared band, the share of time that it has it; of a `Delay`, `Fork` or `Review`, the mean
    number of requests in it beside those that wait, a terminal. At the end all three are 0. A repeated stage's rows are
    of requests that pass it for the last time, `stage_waiting` there of all their waits before it.

    Attributes
    ----------
    names : tuple of str
        The names of the stages.
    throughput : Estimate
        Answers a second of all terminals of the class.
    loss, redirection : Estimate
        Share of the requests that are lost, and that take the fallback.
    peak_age : Estimate
        Mean age, s, of a terminal's newest answer, counted from its request's arrival, just before the answer to a
        newer request; one that comes behind that changes nothing.
    fairness_throughput, fairness_sojourn : float
        Jain's index over the terminals' answers and over their mean sojourn times, in (0, 1], 1 where all are equal;
        mean over the replications; nan where there is no answer.
    energy : Energy
        Mean power of all terminals of the class, and of what sends to them. Parts of a `Session`, `Delay`, `Fork` or
        `Review` are busy, and send, for their mean times, each time that it is passed.
    timely : Estimate or None
        P(right and sojourn time <= deadline), of the shape of the deadlines; None where no outcomes are known.
    """

    names: tuple[str, ...]
    throughput: Estimate
    loss: Estimate
    redirection: Estimate
    peak_age: Estimate
    fairness_throughput: float
    fairness_sojourn: float
    energy: Energy
    timely: Estimate | None = None

    def _stride(self) -> int:
        return 1


@dataclass(frozen=True, eq=False)
class EdgeSimulation(_validate.Value):
    """An edge in a simulated cell.

    Attributes
    ----------
    utilisation : Estimate
        Share of its servers' time that is busy.
    batch_size : Estimate
        Mean number of requests a batch.
    rate : Estimate
        Requests served a second.
    energy : Energy
    """

    utilisation: Estimate
    batch_size: Estimate
    rate: Estimate
    energy: Energy


@dataclass(frozen=True, eq=False)
class BandSimulation(_validate.Value):
    """A shared band in a simulated cell.

    Attributes
    ----------
    utilisation : Estimate
        Share of time that somebody sends.
    slots : int
        Slots followed in the window, all replications together.
    """

    utilisation: Estimate
    slots: int


@dataclass(frozen=True, eq=False)
class CellSimulation(_validate.Value):
    """Outcome of `simulate_cell`.

    Attributes
    ----------
    classes : dict of str to ClassSimulation
    edges : tuple of EdgeSimulation
    bands : dict of str to BandSimulation
        "uplink", "downlink", where they are shared.
    warmup, duration : float, s
        Left out at the start of every replication, and counted after it.
    visits : float
        Passages of a request through a stage that are counted, all replications together; of those through a repeated
        stage the last alone.
    energy : Energy
        Mean power of the whole cell.
    """

    classes: dict[str, ClassSimulation]
    edges: tuple[EdgeSimulation, ...]
    bands: dict[str, BandSimulation]
    warmup: float
    duration: float
    visits: float
    energy: Energy = field(repr=False)

    def __getitem__(self, name: str) -> ClassSimulation:
        """The class of a name; KeyError, with the names that there are, for another."""
        if name not in self.classes:
            raise KeyError(f"name = {name!r}: must be one of {', '.join(map(repr, self.classes))}")
        return self.classes[name]


def jain(total: NDArray[np.float64], squares: NDArray[np.float64], count: Any) -> float:
    """Jain's index (sum x)^2 / (n sum x^2), mean over the first axis; nan where all are 0.

    Examples
    --------
    >>> jain(np.array([2.0]), np.array([2.0]), 2), jain(np.array([1.0]), np.array([1.0]), 2)
    (1.0, 0.5)
    """
    some = squares > 0
    if not some.any():
        return float("nan")
    return float((total[some] ** 2 / (np.broadcast_to(count, total.shape)[some] * squares[some])).mean())
