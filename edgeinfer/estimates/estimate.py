"""A random estimate with its interval: what simulation and measurement both answer with."""

from dataclasses import dataclass
from typing import Any

from edgeinfer import _validate


@dataclass(frozen=True, eq=False)
class Estimate(_validate.Elementwise):
    """A random estimate with its confidence interval.

    Attributes
    ----------
    value, low, high : ndarray of one shape
        The estimate, and the ends of the interval that covers the truth with probability `confidence`.
    confidence : float
        In (0, 1).
    replications : ndarray
        Independent replications behind each value, of one shape with it.
    effective_sample_size : ndarray, optional
        (sum w)^2 / sum w^2 where importance sampling was used.

    Examples
    --------
    >>> both = Estimate([0.1, 0.2], [0.0, 0.1], [0.2, 0.3], 0.95, [8, 8])
    >>> both[1]
    Estimate(value=0.2, low=0.1, high=0.3, confidence=0.95, replications=8, effective_sample_size=None)
    """

    value: Any
    low: Any
    high: Any
    confidence: float
    replications: Any
    effective_sample_size: Any = None
