"""Unloaded latency, and the mean sojourn time of the serial path."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _validate
from edgeinfer.delay._elements import check_pipeline
from edgeinfer.delay.results import Latency
from edgeinfer.model import Pipeline, Transfer


def _means(pipeline: Pipeline, transfer: str) -> tuple[Any, Any]:
    check_pipeline(pipeline)
    _validate.choice("transfer", transfer, ("exact", "ergodic"))
    if transfer == "exact":
        return pipeline.moments()
    plain = [
        (stage.bits / stage.link.mean_rate(), 0.0)
        if isinstance(stage, Transfer)
        else tuple(values[..., 0] for values in Pipeline([stage]).moments())
        for stage in pipeline
    ]
    shape = pipeline.shape
    mean = np.stack([np.broadcast_to(m, shape) for m, _ in plain], axis=-1)
    return mean, np.stack([np.broadcast_to(v, shape) for _, v in plain], axis=-1)


def latency(pipeline: Pipeline, transfer: str = "exact") -> Latency:
    """Mean latency of a lone request: (3) and Table 2 of the paper.

    Parameters
    ----------
    pipeline : Pipeline
    transfer : {"exact", "ergodic"}
        E[X] of the exact law of the transfer time, or the paper's J / E[R], which is below it.

    Returns
    -------
    Latency
        `stages` (..., stages) and `total` (...,), s.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> round(latency(paper.scenario().pipelines()["split"], transfer="ergodic").total, 4)
    1.5055
    """
    mean, _ = _means(pipeline, transfer)
    total = mean.sum(axis=-1)
    return Latency(mean, float(total) if total.ndim == 0 else total)


def mean_sojourn(pipeline: Pipeline, arrival_rate: ArrayLike, transfer: str = "exact") -> Any:
    """Mean sojourn time with serial service: one request occupies the whole path.

    E[W] = lambda E[S^2] / (2 (1 - lambda E[S])) + E[S], Pollaczek-Khinchine; (4) and (5) of the paper.

    Parameters
    ----------
    pipeline : Pipeline
    arrival_rate : (...,) array_like, 1/s
        lambda > 0 of Poisson arrivals.
    transfer : {"exact", "ergodic"}
        Law of the transfer times: exact, or the constant J / E[R].

    Returns
    -------
    float or (...,) ndarray, s
        inf where lambda E[S] >= 1.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> round(mean_sojourn(paper.scenario().pipelines()["split"], 0.35), 3)
    2.349
    >>> mean_sojourn(paper.scenario().pipelines()["split"], 0.7)
    inf
    """
    rate = _validate.positive("arrival_rate", arrival_rate, "1/s")
    mean, variance = _means(pipeline, transfer)
    first, spread = mean.sum(axis=-1), variance.sum(axis=-1)
    _validate.broadcast_shapes(pipeline=pipeline.shape, arrival_rate=np.shape(rate))
    load = rate * first
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(load < 1, rate * (spread + first**2) / (2 * (1 - load)) + first, np.inf)
    return float(value) if value.ndim == 0 else value
