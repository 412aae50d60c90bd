"""Arrival processes, what may stand where an arrival rate stands: those with independent times between arrivals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate

#: The kind and the parameters of a process as the core takes them.
CoreArrival = tuple[str, tuple[Any, ...]]
MOST_PHASES = 1000


class ArrivalProcess(_validate.Value, ABC):
    """What all arrival processes have.

    Parameters may be arrays, which broadcast: a family of processes is one process of arrays.
    """

    #: Whether the times between arrivals are independent and of one law.
    renewal: ClassVar[bool] = True

    @property
    def mean_rate(self) -> Any:
        """Mean number of requests a second, float or (...,) ndarray."""
        return _finished(np.array([self._rate(row) for row in self._rows()]), self.shape)

    @property
    def index_of_dispersion(self) -> Any:
        """Limit of the variance of the number of requests in a long time over its mean.

        1 for Poisson arrivals, 0 for periodic ones; for renewal processes the squared coefficient of variation of the
        times between arrivals.
        """
        return _finished(np.array([self._dispersion(row) for row in self._rows()]), self.shape)

    def at_rate(self, rate: ArrayLike) -> ArrivalProcess:
        """The same process sped up or slowed down to a mean rate, 1/s: its times times a constant.

        Parameters
        ----------
        rate : (...,) array_like, 1/s
            > 0; a number where the process has no parameter that may be an array.

        Returns
        -------
        ArrivalProcess
            Of the same class and `index_of_dispersion`.

        Examples
        --------
        >>> Periodic(0.04).at_rate(30.0).mean_rate
        30.0
        """
        return replace(self, rate=rate)  # type: ignore[type-var]

    def element(self, index: int) -> ArrivalProcess:
        """The process at a flat index into `shape`, whose parameters are numbers."""
        index = _validate.whole("index", index, 0, int(np.prod(self.shape)) - 1)
        changes = {name: float(_validate.flat(value, self.shape)[index]) for name, value in self._arrays().items()}
        return replace(self, **changes) if changes else self  # type: ignore[type-var]

    @property
    def shape(self) -> tuple[int, ...]:
        """The common shape of the parameters."""
        return _validate.broadcast_shapes(**{name: np.shape(value) for name, value in self._arrays().items()})

    def _arrays(self) -> dict[str, Any]:
        """Parameters that may be arrays."""
        return {}

    def _rows(self) -> NDArray[np.float64]:
        """The parameters of each element, (size, parameters)."""
        columns = [_validate.flat(value, self.shape) for value in self._arrays().values()]
        return np.stack(columns, axis=-1) if columns else np.empty((1, 0))

    @abstractmethod
    def _core(self, row: NDArray[np.float64]) -> CoreArrival:
        """The kind and the parameters of an element."""

    def _rate(self, row: NDArray[np.float64]) -> float:
        return float(row[0])

    @abstractmethod
    def _dispersion(self, row: NDArray[np.float64]) -> float:
        """The index of dispersion of an element."""


def _finished(values: NDArray[np.float64], shape: tuple[int, ...]) -> Any:
    return values.reshape(shape) if shape else float(values[0])


@dataclass(frozen=True, eq=False)
class Poisson(ArrivalProcess):
    """Arrivals that know nothing of each other: what a rate alone stands for.

    Parameters
    ----------
    rate : (...,) array_like, 1/s
        > 0.

    Examples
    --------
    >>> Poisson(0.35).index_of_dispersion
    1.0
    """

    rate: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", _validate.positive("rate", self.rate, "1/s"))

    def _arrays(self) -> dict[str, Any]:
        return {"rate": self.rate}

    def _core(self, row: NDArray[np.float64]) -> CoreArrival:
        return "poisson", (float(row[0]),)

    def _dispersion(self, row: NDArray[np.float64]) -> float:
        return 1.0


@dataclass(frozen=True, eq=False)
class Periodic(ArrivalProcess):
    """Arrivals in equal steps: the frames of a camera, the samples of a sensor.

    Parameters
    ----------
    interval : (...,) array_like, s
        Between two arrivals, > 0: ``1 / 30`` of 30 frames a second, where other processes take a rate.

    Examples
    --------
    >>> Periodic(0.04).mean_rate
    25.0
    """

    interval: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", _validate.positive("interval", self.interval, "s"))
        with np.errstate(over="ignore"):
            rate = 1 / np.asarray(self.interval)
        _validate.positive("rate = 1 / interval", rate, "1/s")

    def _arrays(self) -> dict[str, Any]:
        return {"interval": self.interval}

    def at_rate(self, rate: ArrayLike) -> Periodic:
        """The same process sped up or slowed down to a mean rate, 1/s."""
        with np.errstate(over="ignore"):
            return Periodic(1 / np.asarray(_validate.positive("rate", rate, "1/s")))

    def _core(self, row: NDArray[np.float64]) -> CoreArrival:
        return "deterministic", (1 / float(row[0]),)

    def _rate(self, row: NDArray[np.float64]) -> float:
        return 1 / float(row[0])

    def _dispersion(self, row: NDArray[np.float64]) -> float:
        return 0.0


@dataclass(frozen=True, eq=False)
class Erlang(ArrivalProcess):
    """Times between arrivals that are sums of `phases` equal exponentials: between Poisson and periodic.

    Parameters
    ----------
    rate : (...,) array_like, 1/s
        > 0.
    phases : (...,) array_like
        Whole numbers, 1 to 1000.

    Examples
    --------
    >>> Erlang(2.0, 4).index_of_dispersion
    0.25
    """

    rate: Any
    phases: Any = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", _validate.positive("rate", self.rate, "1/s"))
        phases = _validate.real("phases", self.phases, 1, MOST_PHASES)
        if (np.asarray(phases) != np.floor(phases)).any():
            raise ValueError(f"phases = {self.phases!r}: must be whole numbers")
        object.__setattr__(self, "phases", phases)
        self.shape  # noqa: B018  refuses what does not broadcast

    def _arrays(self) -> dict[str, Any]:
        return {"rate": self.rate, "phases": self.phases}

    def _core(self, row: NDArray[np.float64]) -> CoreArrival:
        return "erlang", (float(row[0]), float(row[1]))

    def _dispersion(self, row: NDArray[np.float64]) -> float:
        return 1 / float(row[1])


@dataclass(frozen=True, eq=False)
class Hyperexponential(ArrivalProcess):
    """Times between arrivals that are short or long exponentials, chosen at random: independent, but uneven.

    Of balanced means: each of the two kinds carries half of the mean time between arrivals.

    Parameters
    ----------
    rate : (...,) array_like, 1/s
        > 0.
    squared_variation : (...,) array_like
        Squared coefficient of variation of the time between arrivals, 1 to 1e6.

    Examples
    --------
    >>> Hyperexponential(2.0, 4.0).mean_rate
    2.0
    """

    rate: Any
    squared_variation: Any = 4.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", _validate.positive("rate", self.rate, "1/s"))
        square = _validate.real("squared_variation", self.squared_variation, 1, 1e6)
        object.__setattr__(self, "squared_variation", square)
        self.shape  # noqa: B018

    def _arrays(self) -> dict[str, Any]:
        return {"rate": self.rate, "squared_variation": self.squared_variation}

    def _core(self, row: NDArray[np.float64]) -> CoreArrival:
        rate, square = float(row[0]), float(row[1])
        first = (1 + np.sqrt((square - 1) / (square + 1))) / 2
        return "hyperexponential", (first, 2 * first * rate, 2 * (1 - first) * rate)

    def _dispersion(self, row: NDArray[np.float64]) -> float:
        return float(row[1])


@dataclass(frozen=True, eq=False)
class Gamma(ArrivalProcess):
    """Times between arrivals of a gamma law, from nearly periodic to very uneven.

    Parameters
    ----------
    rate : (...,) array_like, 1/s
        > 0.
    burstiness : (...,) array_like
        Squared coefficient of variation of the time between arrivals, 1e-6 to 1e3: 1 is Poisson, more is burstier.
        It is the inverse of the gamma's shape; load generators that give the shape have 1 / burstiness.

    Examples
    --------
    >>> Gamma(2.0, burstiness=9.0).index_of_dispersion
    9.0
    """

    rate: Any
    burstiness: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", _validate.positive("rate", self.rate, "1/s"))
        object.__setattr__(self, "burstiness", _validate.real("burstiness", self.burstiness, 1e-6, 1e3))
        self.shape  # noqa: B018

    def _arrays(self) -> dict[str, Any]:
        return {"rate": self.rate, "burstiness": self.burstiness}

    def _core(self, row: NDArray[np.float64]) -> CoreArrival:
        return "gamma", (float(row[0]), float(row[1]))

    def _dispersion(self, row: NDArray[np.float64]) -> float:
        return float(row[1])


def arrival_process(value: ArrayLike | ArrivalProcess, name: str = "arrival_rate") -> ArrivalProcess:
    """The process that stands in `value`: Poisson where it is a rate."""
    if isinstance(value, ArrivalProcess):
        return value
    return Poisson(_validate.positive(name, value, "1/s"))
