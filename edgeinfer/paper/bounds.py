"""Bounds that a figure shows where they are defined."""

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
