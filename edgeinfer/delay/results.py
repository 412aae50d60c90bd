"""What the analysis answers with."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _core, _validate
from edgeinfer.estimates.estimate import Estimate


@dataclass(frozen=True, eq=False)
class Latency(_validate.Value):
    """Unloaded mean latency: `stages` (..., stages) and `total` (...,), s."""

    stages: Any
    total: Any


@dataclass(frozen=True, eq=False)
class Bracket(_validate.Value):
    """A certified pair lower <= P(sojourn time > deadline) <= upper.

    Attributes
    ----------
    lower, upper : (...,) ndarray
    lower_method, upper_method : (...,) ndarray of str
        The formula behind each end; csrc/edgeinfer/bracket.h derives them.
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
class Simulation(_validate.Frozen):
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
    """

    mean: Estimate
    violation: Estimate
    stage_waiting: Estimate
    utilisation: Estimate
    warmup: NDArray[np.int64]
    histogram: NDArray[np.uint64] = field(repr=False)

    def quantile(self, p: ArrayLike) -> NDArray[np.float64]:
        """Quantiles of the sojourn time up to and with each stage.

        Parameters
        ----------
        p : float or (n,) array_like
            In [0, 1).

        Returns
        -------
        ([n,] ..., stages) ndarray, s
            From a histogram of relative resolution 1/64 over all replications.
        """
        p = _validate.real("p", p, 0, 1, high_open=True)
        counts = self.histogram.astype(np.float64)
        total = counts.sum(axis=-1, keepdims=True)
        cumulative = np.cumsum(counts, axis=-1) / total
        bins = np.arange(counts.shape[-1] + 1)
        octave, part = np.divmod(bins, _core.EI_HISTOGRAM_SUBBINS)
        edge = np.exp2(octave + float(_core.EI_HISTOGRAM_FIRST)) * (1 + part / _core.EI_HISTOGRAM_SUBBINS)
        answers = []
        for probability in np.atleast_1d(p):
            at = np.argmax(cumulative > probability, axis=-1)
            high = np.take_along_axis(cumulative, at[..., None], axis=-1)[..., 0]
            weight = np.take_along_axis(counts / total, at[..., None], axis=-1)[..., 0]
            answers.append(edge[at + 1] - (edge[at + 1] - edge[at]) * (high - probability) / weight)
        result = np.array(answers)
        return result[0] if np.ndim(p) == 0 else result


def interval(samples: NDArray[np.float64], confidence: float) -> Estimate:
    """Student's t interval of a mean over independent replications (first axis), for values >= 0.

    With one replication the interval is [0, inf).
    """
    count = samples.shape[0]
    mean = samples.mean(axis=0)
    alpha = (1 - confidence) / 2
    if count > 1:
        error = samples.std(axis=0, ddof=1) / np.sqrt(count)
        half = float(_core.student_quantile(1 - alpha, count - 1.0)) * error
    else:
        half = np.full_like(mean, np.inf)
    return Estimate(
        mean, np.maximum(mean - half, 0), mean + half, confidence, np.full(mean.shape, count, dtype=np.int64)
    )
