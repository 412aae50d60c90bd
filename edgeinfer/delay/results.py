"""What the analysis answers with."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _core, _validate
from edgeinfer.delay.errors import AccuracyWarning
from edgeinfer.delay.intervals import beta_interval, effective_size
from edgeinfer.estimates.estimate import Estimate


@dataclass(frozen=True, eq=False)
class Latency(_validate.Value):
    """Unloaded mean latency: `stages` (..., stages) and `total` (...,), s."""

    stages: Any
    total: Any


@dataclass(frozen=True, eq=False)
class Bracket(_validate.Elementwise):
    """A certified pair, lower <= truth <= upper.

    The truth is P(sojourn time > deadline) for `violation_bracket`, and the mean sojourn time (s) of a tandem for
    `mean_sojourn`.

    Attributes
    ----------
    lower, upper : (...,) ndarray
    lower_method, upper_method : (...,) ndarray of str
        The formula behind each end: csrc/edgeinfer/bracket.h and `edgeinfer.delay.tandem` derive them.

    Examples
    --------
    >>> Bracket([0.1, 0.2], [0.3, 0.4], ["exact", "chain"], ["exact", "union"])[1]
    Bracket(lower=0.2, upper=0.4, lower_method='chain', upper_method='union')
    """

    lower: Any
    upper: Any
    lower_method: Any
    upper_method: Any

    @property
    def method(self) -> Any:
        """'lower formula / upper formula' for each element."""
        pairs = np.char.add(np.char.add(np.asarray(self.lower_method), " / "), np.asarray(self.upper_method))
        return str(pairs) if pairs.ndim == 0 else pairs


@dataclass(frozen=True, eq=False)
class Guarantee(Bracket):
    """A pair of ends that measured samples guarantee with a confidence: lower <= truth <= upper.

    Unlike a certified `Bracket`, it may fail: with probability at most 1 - confidence over the samples, on the
    assumption that they are independent draws of the law behind them.

    Attributes
    ----------
    confidence : float
        Of both ends, all deadlines and all arrival rates at once.
    """

    confidence: float

    @classmethod
    def between(cls, low: Bracket, high: Bracket, confidence: float, **more: Any) -> Self:
        """The lower end of one bracket and the upper end of another.

        Parameters
        ----------
        low, high : Bracket
            For the two laws at the ends of a band.
        confidence : float
            Of the band, in (0, 1).
        **more
            Further attributes of the kind of guarantee.

        Returns
        -------
        Guarantee
        """
        return cls(low.lower, high.upper, low.lower_method, high.upper_method, confidence=confidence, **more)


@dataclass(frozen=True, eq=False)
class Simulation(_validate.Value):
    """Outcome of `simulate`; the last axis is the stage, before it the broadcast of the arguments.

    Attributes
    ----------
    mean, violation : Estimate
        Mean (s) of the sojourn time up to and with each stage, and probability that it is above the deadline.
    stage_waiting : Estimate
        Mean wait before each stage, s (serial service: all of it before the first).
    utilisation : Estimate
        Fraction of time that each stage serves.
    warmup : ndarray of int
        Jobs left out at the start of every replication.
    jobs : int
        Jobs that count in every replication.
    histogram : (..., stages, bins) ndarray of int
        Numbers of sojourn times up to and with each stage in each bin, of every 16th job of all replications
        (every job, where a replication has fewer).
    bin_edges : (bins + 1,) ndarray, s
        Ends of the bins, 64 to each doubling of the time; the first bin of all, [0, 3.5e-310), holds the times of 0.
    dispersion : (..., stages) ndarray
        Jobs that tell as much of a small probability as one independent job, as theory expects.
    """

    mean: Estimate
    violation: Estimate
    stage_waiting: Estimate
    utilisation: Estimate
    warmup: NDArray[np.int64]
    jobs: int
    # As many bins as the run's times need, so that a sweep has no dimension for them.
    histogram: NDArray[np.uint64] = field(repr=False, metadata={"swept": False})
    bin_edges: NDArray[np.float64] = field(repr=False, metadata={"swept": False})
    dispersion: NDArray[np.float64] = field(repr=False)

    def quantile(self, p: ArrayLike) -> NDArray[np.float64]:
        """Quantiles of the sojourn time up to and with each stage.

        Parameters
        ----------
        p : (...,) array_like
            In [0, 1).

        Returns
        -------
        (shape of p, ..., stages) ndarray, s
            From the histogram, linear within its bins. Deadlines of one run have the same quantiles.

        Warns
        -----
        AccuracyWarning
            Where the histogram has so few times that none need be longer, so that `quantile_interval` has no upper end.

        Examples
        --------
        >>> import edgeinfer as ei
        >>> run = ei.simulate(ei.Pipeline([ei.Exponential(0.5, "server")]), 1.0, 3.0, jobs=20_000, rng=1)
        >>> run.quantile([0.5, 0.99]).round(1)
        array([[0.7],
               [4.6]])
        """
        p = np.asarray(_validate.real("p", p, 0, 1, high_open=True))
        # Fewer than the dispersion leaves: what even independent times do not tell.
        number = int(self.histogram.sum(axis=-1).min())
        unknown = p**number > (1 - self._confidence(None)) / 2
        if unknown.any():
            warnings.warn(
                f"quantile: p = {_validate.digits(p[unknown].min())}: must be lower for {number} samples, of which "
                "this takes about the longest; `rare_violation` and `deadline_at` reach such probabilities",
                AccuracyWarning,
                stacklevel=2,
            )
        return self._quantile(p)

    def _quantile(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        total = self.histogram.sum(axis=-1, dtype=np.float64)
        answers = []
        for probability in p.ravel():
            at, cumulative = self._place(np.full(total.shape, probability))
            weight = np.take_along_axis(self.histogram, at[..., None], axis=-1)[..., 0].astype(np.float64) / total
            edge = self.bin_edges
            inside = edge[at + 1] - (edge[at + 1] - edge[at]) * (cumulative - probability) / weight
            answers.append(np.where(edge[at] > 0, inside, 0.0))
        return np.array(answers).reshape(*p.shape, *total.shape)

    def quantile_interval(self, p: ArrayLike, confidence: float | None = None) -> Estimate:
        """Quantiles as `quantile` gives them, with their intervals.

        The interval of the probability at the quantile, for as many independent jobs as the dispersion leaves, is
        carried over to times (Woodruff, J. Amer. Statist. Assoc. 47, 1952) and widened to whole bins. Where too few
        jobs were followed to have an end, that is 0 or inf.

        Parameters
        ----------
        p : (...,) array_like
            In [0, 1).
        confidence : float, optional
            In (0, 1); by default that of the run.

        Returns
        -------
        Estimate, s
            Of shape (shape of p, ..., stages).

        Examples
        --------
        >>> import edgeinfer as ei
        >>> run = ei.simulate(ei.Pipeline([ei.Exponential(0.5, "server")]), 1.0, 3.0, jobs=20_000, rng=1)
        >>> median = run.quantile_interval(0.5)
        >>> bool(median.low[0] < np.log(2) < median.high[0])
        True
        """
        p = np.asarray(_validate.real("p", p, 0, 1, high_open=True))
        value = self._quantile(p)
        p = np.broadcast_to(np.reshape(p, (*np.shape(p), *[1] * self.histogram[..., 0].ndim)), value.shape)
        confidence, size = self._confidence(confidence), self._sizes(1 - p)
        below = beta_interval(p * size, size, confidence)
        tail = (1 - confidence) / 2
        low, high = np.empty(value.shape), np.empty(value.shape)
        for i in np.ndindex(value.shape[: value.ndim - self.histogram.ndim + 1]):
            low[i] = self.bin_edges[self._place(below[0][i])[0]]
            high[i] = self.bin_edges[self._place(np.minimum(below[1][i], 1 - 2.0**-53))[0] + 1]
        low = np.where((1 - p) ** size > tail, 0.0, np.minimum(low, value))
        high = np.where(p**size > tail, np.inf, np.maximum(high, value))
        return Estimate(value, low, high, confidence, self._replications(value.shape))

    def ccdf(self, t: ArrayLike, confidence: float | None = None) -> Estimate:
        """P(sojourn time > t) up to and with each stage, from the histogram.

        Deadlines given to `simulate` are counted in every job, without bins: `violation` is the better answer there.

        Parameters
        ----------
        t : (...,) array_like, s
            >= 0.
        confidence : float, optional
            In (0, 1); by default that of the run.

        Returns
        -------
        Estimate
            Of shape (shape of t, ..., stages); linear within a bin, the interval widened to whole bins.

        Examples
        --------
        >>> import edgeinfer as ei
        >>> run = ei.simulate(ei.Pipeline([ei.Exponential(0.5, "server")]), 1.0, 3.0, jobs=20_000, rng=1)
        >>> tail = run.ccdf([1.0, 2.0])
        >>> tail.value.shape, bool((tail.low[:, 0] < np.exp([-1, -2])).all())
        ((2, 1), True)
        """
        t = np.asarray(_validate.real("t", t, 0, infinite=True))
        confidence = self._confidence(confidence)
        counts = self.histogram
        total = counts.sum(axis=-1, dtype=np.float64)
        # Jobs in the bins from each on, and none behind the last.
        tails = (
            np.concatenate([np.cumsum(counts[..., ::-1], axis=-1)[..., ::-1], 0 * counts[..., :1]], axis=-1)
            / (total[..., None])
        )
        edge, last = self.bin_edges, counts.shape[-1]
        at = np.clip(np.searchsorted(edge, t, side="right") - 1, 0, last - 1)
        fraction = (np.clip(t, edge[at], edge[at + 1]) - edge[at]) / (edge[at + 1] - edge[at])
        # A time of 0 is not above 0, though it lies in the first bin.
        fraction = np.where(edge[at] > 0, fraction, 1)
        at, fraction = np.where(t >= edge[-1], last, at), np.where(t >= edge[-1], 0, fraction)
        outer, inner = tails[..., at], tails[..., np.minimum(at + (fraction > 0), last)]
        value = outer + (inner - outer) * fraction
        parts = [
            np.moveaxis(part, range(total.ndim), range(t.ndim, t.ndim + total.ndim)) for part in (inner, value, outer)
        ]
        sizes = [self._sizes(part) for part in parts]
        low = beta_interval(parts[0] * sizes[0], sizes[0], confidence)[0]
        high = beta_interval(parts[2] * sizes[2], sizes[2], confidence)[1]
        return Estimate(parts[1], low, high, confidence, self._replications(parts[1].shape))

    def _confidence(self, confidence: float | None) -> float:
        if confidence is None:
            return self.mean.confidence
        return _validate.scalar("confidence", confidence, 0, 1, low_open=True, high_open=True)

    def _replications(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        return np.full(shape, np.ravel(self.mean.replications)[0])

    def _stride(self) -> int:
        """Jobs from one that is entered in the histogram to the next."""
        return _core.EI_HISTOGRAM_STRIDE if self.jobs >= _core.EI_HISTOGRAM_STRIDE else 1

    def _sizes(self, share: NDArray[np.float64]) -> NDArray[np.float64]:
        """Independent jobs that the histogram is worth where a `share` of the times is longer, (..., stages)."""
        total = self.histogram.sum(axis=-1, dtype=np.float64)
        # Correlations fall with the distance of jobs, so that those of every 16th add up to at most a 16th.
        spread = 1 + (self.dispersion - 1) / self._stride()
        return effective_size(share, total, int(np.ravel(self.mean.replications)[0]), spread)

    def _place(self, probability: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """The first bin at whose end more than `probability` (..., stages) of the jobs are, and how many are."""
        counts = self.histogram.astype(np.float64)
        cumulative = np.cumsum(counts, axis=-1) / counts.sum(axis=-1, keepdims=True)
        at = np.argmax(cumulative > probability[..., None], axis=-1)
        return at, np.take_along_axis(cumulative, at[..., None], axis=-1)[..., 0]
