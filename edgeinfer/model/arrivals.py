"""Arrival processes: what may stand where an arrival rate stands."""

import csv
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate

#: The kind and the parameters of a process as the core takes them.
CoreArrival = tuple[str, tuple[Any, ...]]
MOST_PHASES, MOST_BATCH = 1000, 1_000_000


class ArrivalProcess(_validate.Value):
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

    def _core(self, row: NDArray[np.float64]) -> CoreArrival:
        raise NotImplementedError

    def _rate(self, row: NDArray[np.float64]) -> float:
        return float(row[0])

    def _dispersion(self, row: NDArray[np.float64]) -> float:
        raise NotImplementedError


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
        Between two arrivals, > 0.

    Examples
    --------
    >>> Periodic(0.04).mean_rate
    25.0
    """

    interval: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", _validate.positive("interval", self.interval, "s"))
        _validate.positive("rate = 1 / interval", 1 / np.asarray(self.interval), "1/s")

    def _arrays(self) -> dict[str, Any]:
        return {"interval": self.interval}

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


@dataclass(frozen=True, eq=False)
class MarkovModulated(ArrivalProcess):
    """Poisson arrivals whose rate follows a Markov chain: quiet and busy times.

    Parameters
    ----------
    rates : (n,) array_like, 1/s
        The rate of arrivals in each phase, n <= 1000, >= 0, at least one > 0.
    generator : (n, n) array_like, 1/s
        Rates of leaving one phase (row) for another (column); rows add up to 0 with the diagonal. Every phase must be
        reached from every other.

    Attributes
    ----------
    stationary : (n,) ndarray
        Share of time in each phase.

    Examples
    --------
    >>> MarkovModulated([1.0, 5.0], [[-0.1, 0.1], [0.3, -0.3]]).mean_rate
    2.0
    """

    rates: Any
    generator: Any
    stationary: Any = field(init=False, repr=False, compare=False)
    renewal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        rates = np.atleast_1d(np.asarray(_validate.real("rates", self.rates, 0, unit="1/s")))
        generator = np.atleast_2d(np.asarray(_validate.real("generator", self.generator, unit="1/s")))
        count = rates.size
        if rates.ndim != 1 or count > MOST_PHASES or not rates.any():
            raise ValueError(f"rates = {self.rates!r}: must be 1 to {MOST_PHASES} numbers, one at least > 0")
        if generator.shape != (count, count):
            raise ValueError(f"generator: shape {generator.shape}: must be {(count, count)}, a row for each rate")
        away = np.where(np.eye(count, dtype=bool), 0, generator)
        if (away < 0).any():
            raise ValueError("generator: must be >= 0 off the diagonal")
        if not np.allclose(generator.sum(axis=1), 0, rtol=0, atol=1e-9 * max(float(np.abs(generator).max()), 1e-300)):
            raise ValueError(f"generator: rows add up to {generator.sum(axis=1).tolist()}: each must add up to 0")
        np.fill_diagonal(away, -away.sum(axis=1))
        for name, value in (("rates", rates), ("generator", away), ("stationary", stationary_law(away))):
            object.__setattr__(self, name, np.ascontiguousarray(value))
            getattr(self, name).flags.writeable = False

    def _core(self, row: NDArray[np.float64]) -> CoreArrival:
        return "markov_modulated", (self.rates, self.generator, self.stationary)

    def _rate(self, row: NDArray[np.float64]) -> float:
        return float(self.stationary @ self.rates)

    def _dispersion(self, row: NDArray[np.float64]) -> float:
        # 1 + 2 / mean of the rate's covariance with itself over all later times: pi R D r, D the deviation matrix.
        law, mean = self.stationary, self._rate(row)
        ahead = np.linalg.solve(np.outer(np.ones(law.size), law) - self.generator, self.rates - mean)
        return float(1 + 2 * (law * (self.rates - mean)) @ ahead / mean)


def stationary_law(
    generator: NDArray[np.float64], name: str = "generator", place: str = "phase"
) -> NDArray[np.float64]:
    """The stationary law of a chain of rates or probabilities of leaving one `place` (row) for another (column).

    By elimination without subtraction (Grassmann, Taksar and Heyman), so that small shares keep their digits; the
    diagonal is not looked at.
    """
    work = generator.copy()
    count = len(work)
    for last in range(count - 1, 0, -1):
        leave = work[last, :last].sum()
        if not leave > 0:
            raise ValueError(f"{name}: must let every {place} be reached from every other")
        work[:last, last] /= leave
        work[:last, :last] += np.outer(work[:last, last], work[last, :last])
    law = np.ones(count)
    for phase in range(1, count):
        law[phase] = law[:phase] @ work[:phase, phase]
    if not (law > 0).all():
        raise ValueError(f"{name}: must let every {place} be reached from every other")
    return np.asarray(law / law.sum())


@dataclass(frozen=True, eq=False)
class Batch(ArrivalProcess):
    """Requests that come several at once.

    Parameters
    ----------
    process : Poisson, Periodic, Erlang, Hyperexponential, Gamma, MarkovModulated, Recorded
        The process by which batches come; its rate is that of batches.
    sizes : int or (n,) array_like
        Every batch's size, >= 1; or the probabilities of the sizes 1, 2, .., n, which add up to 1. n <= 1e6.

    Examples
    --------
    >>> Batch(Poisson(2.0), [0.5, 0.5]).mean_rate
    3.0
    """

    process: ArrivalProcess
    sizes: Any
    _above: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    renewal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.process, ArrivalProcess) or isinstance(self.process, Batch):
            raise ValueError(f"process = {self.process!r}: must be an arrival process, and no Batch")
        if np.ndim(self.sizes) == 0:
            sizes: Any = _validate.whole("sizes", self.sizes, 1)
            if sizes > MOST_BATCH:
                raise ValueError(f"sizes = {sizes}: must be at most {MOST_BATCH}")
            above = np.ones(sizes)
        else:
            sizes = np.asarray(_validate.real("sizes", self.sizes, 0, 1))
            if sizes.ndim != 1 or not 0 < sizes.size <= MOST_BATCH or abs(float(sizes.sum()) - 1) > 1e-9:
                raise ValueError(f"sizes = {self.sizes!r}: must be probabilities of 1, 2, .. that add up to 1")
            # P(size > i), from the small end.
            above = np.cumsum(sizes[::-1])[::-1] / sizes.sum()
            above = np.minimum(above, 1.0)
            above[0] = 1.0
        above.flags.writeable = False
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "_above", above)

    def _arrays(self) -> dict[str, Any]:
        return self.process._arrays()

    def _core(self, row: NDArray[np.float64]) -> CoreArrival:
        return "batch", (self.process._core(row), self._above)

    def _moments(self) -> tuple[float, float]:
        above: NDArray[np.float64] = self._above
        mean = float(above.sum())
        return mean, float((2 * np.arange(above.size) + 1) @ above) - mean**2

    def _rate(self, row: NDArray[np.float64]) -> float:
        return self.process._rate(row) * self._moments()[0]

    def _dispersion(self, row: NDArray[np.float64]) -> float:
        mean, variance = self._moments()
        return mean * self.process._dispersion(row) + variance / mean


@dataclass(frozen=True, eq=False)
class Recorded(ArrivalProcess):
    """Arrivals as they were recorded, round and round.

    Each replication of a simulation begins at an arrival of its own, drawn at random; behind the record's last
    interval its first follows. Replications that are longer than the record see all of it.

    Parameters
    ----------
    times : (n,) array_like, s
        At least two points in time, finite, ascending; equal ones came together.

    Examples
    --------
    >>> Recorded([0.0, 1.0, 1.5, 4.0]).mean_rate
    0.75
    """

    times: Any
    _intervals: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    renewal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        times = np.asarray(_validate.real("times", self.times, unit="s"))
        if times.ndim != 1 or times.size < 2:
            raise ValueError(f"times: shape {times.shape}: must be two or more points in time")
        intervals = np.diff(times)
        if (intervals < 0).any():
            at = int(np.argmax(intervals < 0))
            raise ValueError(f"times[{at + 1}] = {times[at + 1]:.17g}: must be >= times[{at}] = {times[at]:.17g}")
        if not (intervals > 0).any() or not np.isfinite(intervals).all():
            raise ValueError("times: must span a time > 0 and finite")
        for name, value in (("times", times), ("_intervals", intervals)):
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    @classmethod
    def from_csv(cls, path: str | PathLike[str], column: str, unit: float = 1.0) -> "Recorded":
        """Read points in time from a column of a CSV file with a header line.

        Parameters
        ----------
        path : path-like
        column : str
            Its name in the header line.
        unit : float, s
            What one is in the file: 1e-3 for milliseconds. > 0.

        Raises
        ------
        ValueError
            For a column that is not there, or a line that holds no number, naming it.
        """
        unit = _validate.scalar("unit", unit, 0, low_open=True, unit="s")
        times = []
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if column not in (rows.fieldnames or ()):
                raise ValueError(f"column = {column!r}: must be one of {list(rows.fieldnames or ())} in {path}")
            for row in rows:
                try:
                    times.append(float(row[column]))
                except (TypeError, ValueError):
                    raise ValueError(
                        f"{path}, line {rows.line_num}: {column} = {row[column]!r}: must be a number"
                    ) from None
        return cls(np.array(times) * unit)

    def _core(self, row: NDArray[np.float64]) -> CoreArrival:
        return "recorded", (self._intervals,)

    def _rate(self, row: NDArray[np.float64]) -> float:
        return 1 / float(self._intervals.mean())

    def _dispersion(self, row: NDArray[np.float64]) -> float:
        """Of sums of up to sqrt(n) intervals, round the record: the largest."""
        intervals: NDArray[np.float64] = self._intervals
        count, mean, best = intervals.size, float(intervals.mean()), 0.0
        sums = np.concatenate([[0.0], np.cumsum(np.concatenate([intervals, intervals]) - mean)])
        length = 1
        while length <= max(np.sqrt(count), 1):
            part = sums[length : count + length] - sums[:count]
            best = max(best, float((part**2).mean()) / length / mean**2)
            length *= 2
        return best


def arrival_process(value: ArrayLike | ArrivalProcess, name: str = "arrival_rate") -> ArrivalProcess:
    """The process that stands in `value`: Poisson where it is a rate."""
    if isinstance(value, ArrivalProcess):
        return value
    return Poisson(_validate.positive(name, value, "1/s"))
