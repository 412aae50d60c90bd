"""A random estimate with its interval: what simulation and measurement both answer with."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeinfer import _validate


@dataclass(frozen=True, eq=False)
class Estimate(_validate.Value):
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
    """

    value: Any
    low: Any
    high: Any
    confidence: float
    replications: Any
    effective_sample_size: Any = None

    def __iter__(self) -> Iterator["Estimate"]:
        """The estimates along the first axis; of one number there are none, TypeError."""
        return (self[index] for index in range(len(np.asarray(self.value))))

    def __getitem__(self, index: Any) -> "Estimate":
        """The estimate of some elements."""
        size = None if self.effective_sample_size is None else np.asarray(self.effective_sample_size)[index]
        return Estimate(
            np.asarray(self.value)[index],
            np.asarray(self.low)[index],
            np.asarray(self.high)[index],
            self.confidence,
            np.asarray(self.replications)[index],
            size,
        )
