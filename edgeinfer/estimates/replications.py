"""Means over independent replications."""

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _core
from edgeinfer.estimates.estimate import Estimate


def student_mean(samples: NDArray[np.float64], confidence: float) -> Estimate:
    """The mean over independent replications and Student's t interval, for values >= 0.

    Parameters
    ----------
    samples : (replications, ...) ndarray
        >= 0.
    confidence : float
        In (0, 1).

    Returns
    -------
    Estimate
        Of shape (...). With one replication the interval is [0, inf).

    Examples
    --------
    >>> found = student_mean(np.array([1.0, 2.0, 3.0]), 0.95)
    >>> float(found.value), float(round(found.high, 3))
    (2.0, 4.484)
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
