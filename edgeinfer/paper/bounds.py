"""Bounds that a figure shows where they are defined, and who is the best by certified ends."""

from typing import Any

import numpy as np

from edgeinfer.delay import violation_bound
from edgeinfer.model import Pipeline


def bound_or_missing(pipeline: Pipeline, rate: Any, deadlines: Any, method: str, slot: float | None = None) -> Any:
    """`violation_bound`; NaN where the method does not take a pipeline of such stages."""
    try:
        return violation_bound(pipeline, rate, deadlines, method, slot=slot)
    except ValueError:
        return np.full(np.shape(deadlines), np.nan)


def certified_best(names: Any, lower: Any, upper: Any) -> Any:
    """The name whose upper end is below all others' lower ends.

    Parameters
    ----------
    names : (n,) sequence of str
    lower, upper : (n, ...) array_like

    Returns
    -------
    (...,) ndarray of str
        "none" where nobody is certified to be the best.

    Examples
    --------
    >>> certified_best(["split", "edge_only"], [[0.1, 0.1], [0.3, 0.15]], [[0.2, 0.2], [0.4, 0.5]]).tolist()
    ['split', 'none']
    """
    lower, upper = np.asarray(lower), np.asarray(upper)
    best = upper.argmin(axis=0)
    others = np.arange(len(lower)).reshape(-1, *[1] * best.ndim) != best
    sure = upper.min(axis=0) < np.where(others, lower, np.inf).min(axis=0)
    return np.where(sure, np.array(list(names))[best], "none")
