"""Arrival processes whose times between arrivals depend on each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _columns, _validate
from edgeinfer.model.arrivals import MOST_PHASES, ArrivalProcess, CoreArrival

MOST_BATCH = 1_000_000
#: 1/s, of what rates of phases may be: the time between arrivals has to be a normal number.
_MOST_RATE = 1e300


@dataclass(frozen=True, eq=False)
class MarkovModulated(ArrivalProcess):
    """Poisson arrivals whose rate follows a Markov chain (MMPP): quiet and busy times.

    `violation_bracket`, `violation_bound` and the inverse functions take up to 16 phases, for pipelines of servers in
    series. Where phases last some ten services, ends of one stage, or of constant ones, are apart by 1.01 to 1.05, and
    those of chains by 1.1 to 1.6 with one or two slowest stages, if there are two phases, or phases that are monotone
    backwards in time (birth and death, say). They are up to orders of magnitude apart where three random stages are
    nearly as busy as each other, where phases last hundreds of services, and behind other phases where an `Exponential`
    or `Measured` stage that has others before it is the slowest. `rare_violation`, of up to 16 phases, has values
    there; `simulate` takes all processes.

    Parameters
    ----------
    rates : (n,) array_like, 1/s
        The rate of arrivals in each phase, n <= 1000, in [0, 1e300], at least one > 0.
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
        rates = np.atleast_1d(np.asarray(_validate.real("rates", self.rates, 0, _MOST_RATE, unit="1/s")))
        changes = _validate.real("generator", self.generator, -_MOST_RATE, _MOST_RATE, unit="1/s")
        generator = np.atleast_2d(np.asarray(changes))
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
        law = stationary_law(away)
        _validate.positive("mean of rates", law @ rates, "1/s")
        for name, value in (("rates", rates), ("generator", away), ("stationary", law)):
            object.__setattr__(self, name, np.ascontiguousarray(value))
            getattr(self, name).flags.writeable = False

    def at_rate(self, rate: ArrayLike) -> MarkovModulated:
        """The same process sped up or slowed down to a mean rate, 1/s, its phases with it."""
        speed = _validate.scalar("rate", rate, 0, low_open=True, unit="1/s") / self.mean_rate
        return MarkovModulated(speed * self.rates, speed * self.generator)

    def _core(self, row: NDArray[np.float64]) -> CoreArrival:
        return "markov_modulated", (self.rates, self.generator, self.stationary)

    def _rate(self, row: NDArray[np.float64]) -> float:
        return float(self.stationary @ self.rates)

    def _dispersion(self, row: NDArray[np.float64]) -> float:
        # 1 + 2 / mean of the rate's covariance with itself over all later times: pi R D r, D the deviation matrix.
        law, mean = self.stationary, self._rate(row)
        # Any multiple of the projection does; one of the generator's own size keeps the digits in every unit of time.
        size = float(np.abs(self.generator).max()) or 1.0
        ahead = np.linalg.solve(size * np.outer(np.ones(law.size), law) - self.generator, self.rates - mean)
        return float(1 + 2 * (law * (self.rates - mean)) @ ahead / mean)


def stationary_law(
    generator: NDArray[np.float64], name: str = "generator", place: str = "phase"
) -> NDArray[np.float64]:
    """The stationary law of a chain of rates or probabilities of leaving one `place` (row) for another (column).

    By elimination without subtraction (Grassmann, Taksar and Heyman), so that small shares keep their digits; the
    diagonal is not looked at.
    """
    work = generator.copy()
    count, law = len(work), np.ones(len(work))
    # Rates so small that others over them are beyond the range of double leave no law.
    with np.errstate(over="ignore", invalid="ignore"):
        for last in range(count - 1, 0, -1):
            leave = work[last, :last].sum()
            if not leave > 0:
                raise ValueError(f"{name}: must let every {place} be reached from every other")
            work[:last, last] /= leave
            work[:last, :last] += np.outer(work[:last, last], work[last, :last])
        for phase in range(1, count):
            law[phase] = law[:phase] @ work[:phase, phase]
        law /= law.sum()
    if not (law > 0).all():
        raise ValueError(f"{name}: must let every {place} be reached from every other")
    return law


@dataclass(frozen=True, eq=False)
class Batch(ArrivalProcess):
    """Requests that come several at once.

    `rare_violation` takes batches of up to 4096 requests of all but `Recorded` processes; `simulate` takes all.

    Parameters
    ----------
    process : Poisson, Periodic, Erlang, Hyperexponential, Gamma, MarkovModulated, Recorded
        The process by which batches come; its rate is that of batches.
    sizes : int or (n,) array_like
        Every batch's size, >= 1; or the probabilities of the sizes 1, 2, .., n, which add up to 1. n <= 1e6.

    Examples
    --------
    >>> from edgeinfer.model import Poisson
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
        if not isinstance(self.sizes, list | tuple) and np.ndim(self.sizes) == 0:
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

    def at_rate(self, rate: ArrayLike) -> Batch:
        """The same process sped up or slowed down to a mean rate of requests, 1/s; batches keep their sizes."""
        mean, _ = self._moments()
        return Batch(self.process.at_rate(_validate.positive("rate", rate, "1/s") / mean), self.sizes)

    def element(self, index: int) -> Batch:
        """The process at a flat index into `shape`, whose parameters are numbers."""
        return Batch(self.process.element(index), self.sizes)

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
        At least two points in time, since any one of them, finite, ascending; equal ones came together. Of dates and
        clock times, ``times - times[0]``.

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
            early, late = map(_validate.digits, times[at : at + 2])
            raise ValueError(
                f"times[{at + 1}] = {late}: must be >= times[{at}] = {early}; times between arrivals become points in "
                "time by `numpy.cumsum`"
            )
        if not (intervals > 0).any() or not np.isfinite(intervals).all():
            raise ValueError("times: must span a time > 0 and finite")
        with np.errstate(over="ignore", divide="ignore"):
            _validate.positive("intervals over the span of times", 1 / intervals.mean(), "1/s")
        for name, value in (("times", times), ("_intervals", intervals)):
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    @classmethod
    def from_csv(cls, path: str | PathLike[str], column: str, unit: float = 1.0) -> Recorded:
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
            Naming the line, or the column: for what is no UTF-8 text of rows that each have a number there.
        """
        unit = _validate.scalar("unit", unit, 0, low_open=True, unit="s")
        return cls(np.array(_columns.numbers_of(path, column)) * unit)

    def at_rate(self, rate: ArrayLike) -> Recorded:
        """The same record played faster or slower, to a mean rate, 1/s."""
        speed = _validate.scalar("rate", rate, 0, low_open=True, unit="1/s") / self.mean_rate
        return Recorded(self.times / speed)

    def _core(self, row: NDArray[np.float64]) -> CoreArrival:
        return "recorded", (self._intervals,)

    def _rate(self, row: NDArray[np.float64]) -> float:
        return 1 / float(self._intervals.mean())

    def _dispersion(self, row: NDArray[np.float64]) -> float:
        """Of sums of up to sqrt(n) intervals, round the record: the largest."""
        # In units of the mean, whose square may be no number.
        intervals = self._intervals / self._intervals.mean()
        count, best = intervals.size, 0.0
        sums = np.concatenate([[0.0], np.cumsum(np.concatenate([intervals, intervals]) - 1)])
        length = 1
        while length <= max(np.sqrt(count), 1):
            part = sums[length : count + length] - sums[:count]
            best = max(best, float((part**2).mean()) / length)
            length *= 2
        return best
