"""What a run of processes took, request by request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate


@dataclass(frozen=True, eq=False)
class Run(_validate.Frozen):
    """What a run took.

    Attributes
    ----------
    arrival_rate : float or None, 1/s
        Of Poisson arrivals; None: each request came when the one before had been answered.
    arrivals : (n,) ndarray, s
        When each request came, from the first on.
    stages : tuple of str
    sojourn : (n, stages) ndarray, s
        Time from the arrival to the end of each stage, waiting included; NaN where the request failed before.
    service : (n, stages) ndarray, s
        Time in each stage without waiting; NaN where the stage serves bytes, not requests.
    failures : mapping of int to str
        Reason for each request that failed.
    provenance : mapping
        Settings.
    """

    arrival_rate: float | None
    arrivals: NDArray[np.float64]
    stages: tuple[str, ...]
    sojourn: NDArray[np.float64]
    service: NDArray[np.float64]
    failures: Mapping[int, str]
    provenance: Mapping[str, Any]

    def late(self, deadline: float) -> NDArray[np.bool_]:
        """For each request whether its sojourn time exceeds the deadline, s; one that failed does."""
        return self._beyond(_validate.scalar("deadline", deadline, 0, unit="s"))

    def violation(self, deadlines: Any) -> NDArray[np.float64]:
        """Share of requests whose total sojourn time exceeds each deadline, s; a failed request counts as late."""
        limits = np.atleast_1d(_validate.real("deadlines", deadlines, 0, infinite=True, unit="s"))
        return np.mean(self._beyond(limits[:, None]), axis=1)

    def _beyond(self, limits: Any) -> NDArray[np.bool_]:
        # Of those that failed, NaN, none is in time.
        return ~(self.sojourn[:, -1] <= limits)
