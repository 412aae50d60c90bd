"""Unloaded latency, and mean sojourn times."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _validate
from edgeinfer.delay._elements import check_independent, check_pipeline, finish, poisson_rate
from edgeinfer.delay.bounds import bands
from edgeinfer.delay.composed import EFFORTS, is_composed
from edgeinfer.delay.composed_mean import composed_mean
from edgeinfer.delay.results import Bracket, Guarantee, Latency
from edgeinfer.delay.tandem import tandem_mean
from edgeinfer.model import ArrivalProcess, Constant, ConstantLink, Pipeline, Transfer
from edgeinfer.model.bases import Server


def _means(pipeline: Pipeline, transfer: str) -> tuple[Any, Any]:
    check_pipeline(pipeline)
    _validate.choice("transfer", transfer, ("exact", "ergodic"))
    if transfer == "exact":
        return pipeline.moments()
    return pipeline.map(_ergodic).moments()


def _ergodic(stage: Server) -> Server:
    """A transfer at its mean rate; one of a constant rate stays as it is, with what its link adds."""
    if isinstance(stage, Transfer) and not isinstance(stage.link, ConstantLink):
        return Constant(stage.bits / stage.link.mean_rate(), stage.name)
    return stage


def latency(pipeline: Pipeline, transfer: str = "exact") -> Latency:
    """Mean latency of a lone request: (3) and Table 2 of the paper.

    Parameters
    ----------
    pipeline : Pipeline
        Stages `Measured` with a confidence have the mean of their slowest laws.
    transfer : {"exact", "ergodic"}
        E[X] of the exact law of the transfer time, or the paper's J / E[R], which is below it; to either a link's
        propagation latency is added.

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
    mean = _means(pipeline, transfer)[0] + pipeline.propagation()
    total = mean.sum(axis=-1)
    return Latency(mean, float(total) if total.ndim == 0 else total)


def mean_sojourn(
    pipeline: Pipeline,
    arrival_rate: ArrayLike | ArrivalProcess,
    transfer: str = "exact",
    *,
    service: str = "serial",
    effort: str = "fast",
) -> Any:
    """Mean sojourn time, of the serial path or of the tandem.

    Links' propagation latencies are in it: a serial path is kept for them, too, those of a tandem keep no server.
    Serial: E[W] = lambda E[S^2] / (2 (1 - lambda E[S])) + E[S], Pollaczek-Khinchine; (4) and (5) of the paper. Tandem:
    a certified pair of ends, equal where the mean is known exactly (`edgeinfer.delay.tandem` derives them): for a
    single stage, for exponential stages (the sum of 1 / (mu - lambda)), and, behind such, for stages of which one is
    never faster than any other and comes behind constant ones only.

    Parameters
    ----------
    pipeline : Pipeline
    arrival_rate : (...,) array_like, 1/s
        lambda > 0 of Poisson arrivals.
    transfer : {"exact", "ergodic"}
        Law of the transfer times: exact, or the constant J / E[R].
    service : {"serial", "tandem"}
        One request occupies the whole path, as in the paper's means (the default), or stages work on different requests
        at once, as in bounds, brackets and simulations: ask for "tandem" beside these.
    effort : {"light", "fast", "tight"}
        Of `violation_bracket`, where it is integrated: it is asked once, for some hundred times.

    Returns
    -------
    float or (...,) ndarray, s
        Serial; inf where lambda E[S] >= 1. Of the slowest laws where a stage is `Measured` with a confidence.
    Bracket, s
        Tandem; both ends inf where a stage has lambda E[X] >= 1. The methods are "exact"; "unstable"; "queue" (below:
        all mean services and the longest wait of a stage that had the arrivals to itself); "serial" (above: the serial
        path); "integrated" (P(W > t) of `violation_bracket` over all t, the sums widening either end by 0.2 % or so, by
        0.8 % with effort "light", by 0.05 % with "tight"). A `Guarantee` where a stage is `Measured` with a confidence.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> from edgeinfer import paper
    >>> pipeline = paper.scenario().pipelines()["split"]
    >>> round(mean_sojourn(pipeline, 0.35), 3)
    2.349
    >>> mean_sojourn(pipeline, 0.7)
    inf
    >>> ends = mean_sojourn(pipeline, 0.35, service="tandem")
    >>> ends.lower_method, bool(1.7 < ends.lower < ends.upper < 1.001 * ends.lower)
    ('queue', True)
    """
    check_independent("mean_sojourn", pipeline)
    rate = poisson_rate(arrival_rate)
    _validate.choice("service", service, ("serial", "tandem"))
    _validate.choice("effort", effort, EFFORTS)
    if service == "serial" and is_composed(check_pipeline(pipeline)):
        raise ValueError(
            "service = 'serial': must be 'tandem' for a pipeline with a Delay, Fork, Review or several servers; a "
            "`Session` holds one server for all of its stages"
        )
    if service == "tandem":
        check_pipeline(pipeline)
        shape = _validate.broadcast_shapes(pipeline=pipeline.shape, arrival_rate=np.shape(rate))
        _validate.choice("transfer", transfer, ("exact", "ergodic"))
        if pipeline.confidence < 1:
            fast, slow = (_tandem(each, rate, shape, transfer, effort) for each in bands(pipeline))
            return Guarantee.between(fast, slow, pipeline.confidence)
        return _tandem(pipeline, rate, shape, transfer, effort)
    mean, variance = _means(pipeline, transfer)
    shape = _validate.broadcast_shapes(pipeline=pipeline.shape, arrival_rate=np.shape(rate))
    first, spread = (mean + pipeline.propagation()).sum(axis=-1), variance.sum(axis=-1)
    with np.errstate(over="ignore"):
        load = rate * first
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(load < 1, np.where(load < 1, rate, 0) * (spread + first**2) / (2 * (1 - load)) + first, np.inf)
    return float(value) if value.ndim == 0 else value


def _tandem(pipeline: Pipeline, rate: Any, shape: tuple[int, ...], transfer: str, effort: str) -> Bracket:
    if transfer == "ergodic":
        pipeline = pipeline.map(_ergodic)
    owner = np.broadcast_to(np.arange(int(np.prod(pipeline.shape))).reshape(pipeline.shape), shape).ravel()
    answers = []
    for place, value in zip(owner, _validate.flat(rate, shape), strict=True):
        single = pipeline.element(int(place))
        if is_composed(single):
            answers.append(composed_mean(single, float(value), effort))
        else:
            answers.append(tandem_mean([stage.core_stages()[0] for stage in single], float(value), effort))
    columns = zip(*answers, strict=True) if answers else ([], [], [], [])
    lower, upper, lower_method, upper_method = (np.array(column).reshape(shape) for column in columns)
    # The ends of composed pipelines have it.
    behind = 0.0 if is_composed(pipeline) else pipeline.propagation().sum(axis=-1)
    return Bracket(
        *(finish(np.asarray(part), shape) for part in (lower + behind, upper + behind, lower_method, upper_method))
    )
