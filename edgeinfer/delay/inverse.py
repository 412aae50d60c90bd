"""Inverse problems: the deadline, the arrival rate or the bandwidth that a violation probability allows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _random, _validate
from edgeinfer.delay._elements import check_independent, elements, finish, process_with_bounds
from edgeinfer.delay.bounds import METHODS, bands, violation_bound, violation_bracket
from edgeinfer.delay.composed import EFFORTS, has_no_lighter, is_composed
from edgeinfer.delay.sampled import Search, collect
from edgeinfer.delay.search import Bound, largest, shortest
from edgeinfer.model import ArrivalProcess, Constant, FadingLink, Pipeline, Transfer
from edgeinfer.model.bases import Server

_log = logging.getLogger("edgeinfer.delay")
_SLOTTED = ("corrected", "printed")
_SAMPLING = "sampling"


def _probability(value: ArrayLike) -> Any:
    return _validate.real("probability", value, 0, 1, low_open=True, high_open=True)


def _sampling(method: str, options: dict[str, Any]) -> dict[str, Any] | None:
    """What `rare_violation` is told where `method` is "sampling", else None."""
    _validate.choice("method", method, (*METHODS, _SAMPLING))
    allowed = ("relative_error", "rng", "threads", "confidence", "max_replications")
    for name in options:
        if name not in allowed:
            raise TypeError(f"unexpected keyword argument {name!r}")
        if method != _SAMPLING:
            raise ValueError(f"{name} = {options[name]!r}: only method = 'sampling' takes it, not {method!r}")
    if method != _SAMPLING:
        return None
    for name, default in (("relative_error", 0.01), ("confidence", 0.95)):
        value = options.get(name, default)
        options[name] = _validate.scalar(name, value, 0, 1, low_open=True, high_open=True)
    # One seed for the whole search, so that neighbouring values see the same random numbers.
    seed = _random.seed_sequence(options.pop("rng", None))
    return {**options, "rng": seed}


def _effort(effort: str, method: str) -> None:
    _validate.choice("effort", effort, EFFORTS)
    if effort != "fast" and method != "bracket":
        raise ValueError(f"effort = {effort!r}: only method = 'bracket' takes it, not {method!r}")


def _singles(pipeline: Pipeline, process: ArrivalProcess, **arguments: Any) -> Any:
    """The common shape, and each element's place, single pipeline and single arrival process with its arguments.

    What is measured with a confidence is of its slowest law: what is certified for it holds for the whole band.
    """
    _, pipeline = bands(pipeline)
    place = np.arange(int(np.prod(process.shape))).reshape(process.shape)
    shape, _ = elements(pipeline, arrival_rate=place, **arguments)
    columns = [_validate.flat(value, shape) for value in arguments.values()]
    owner = np.broadcast_to(np.arange(int(np.prod(pipeline.shape))).reshape(pipeline.shape), shape).ravel()
    places = np.broadcast_to(place, shape).ravel()

    def walk() -> Any:
        for i, (index, at) in enumerate(zip(owner, places, strict=True)):
            _log.info("element %d of %d", i + 1, owner.size)
            yield i, pipeline.element(int(index)), process.element(int(at)), *(float(column[i]) for column in columns)

    return shape, walk()


def deadline_at(
    pipeline: Pipeline,
    arrival_rate: ArrayLike | ArrivalProcess,
    probability: ArrayLike,
    *,
    method: str = "bracket",
    tolerance: float = 1e-4,
    effort: str = "fast",
    **sampling: Any,
) -> Any:
    """Smallest deadline that the bound certifies for a violation probability: a quantile from above.

    Parameters
    ----------
    pipeline : Pipeline
    arrival_rate : (...,) array_like, 1/s, or ArrivalProcess
        Of Poisson arrivals, > 0; or another process, as for `violation_bound`.
    probability : (...,) array_like
        In (0, 1).
    method : str
        A method of `violation_bound`; or "sampling", the deadline at which the probability itself is as given.
    tolerance : float
        Relative, > 0; the answer is rounded up by at most this.
    effort : {"light", "fast", "tight"}
        Of `violation_bracket`, which the answer was asked of. It takes about as long as one bracket of many deadlines,
        and 2 or 3 times as long where "light" is not lighter: for a single stage, and behind `Periodic` and
        `MarkovModulated` arrivals.
    **sampling
        `relative_error`, `rng`, `threads`, `confidence`, `max_replications` of `rare_violation`, with
        `method="sampling"` only.

    Returns
    -------
    float or (...,) ndarray, s; with "sampling" an Estimate
        Of sampling, `low` and `high` are where the interval of the sampled probability crosses the given one, cut
        to what a light bracket certifies. Otherwise
        `violation_bound` at the answer is at most `probability`. Stages that are `Measured` with a confidence have
        their slowest laws, so that the answer does for those behind the samples with `pipeline.confidence`. inf where a
        stage is unstable, and for "corrected" and "printed" where no deadline up to a million times the mean latency is
        certified.

    Warns
    -----
    AccuracyWarning
        Of sampling, as `rare_violation` warns; and where paths of requests to a late one are too long to be sampled, as
        at loads next to one: the interval is then the one that brackets certify, of no replications, which is wide.

    Raises
    ------
    ValueError
        For arguments outside their range, and where the bound of a stable pipeline reaches the probability at
        no deadline within the range of double: loads too near to one for the accuracy of the service law.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> pipeline = paper.scenario().pipelines()["device_only"]
    >>> deadline = deadline_at(pipeline, 0.2, 1e-3)
    >>> bool(violation_bound(pipeline, 0.2, deadline) <= 1e-3)
    True
    """
    check_independent("deadline_at", pipeline)
    _effort(effort, method)
    target, options = _probability(probability), _sampling(method, sampling)
    process = process_with_bounds(arrival_rate)
    if options is not None:
        return _sampled_deadline(pipeline, process, target, options, tolerance)
    tolerance = _validate.scalar("tolerance", tolerance, 0, low_open=True)
    shape, walk = _singles(pipeline, process, probability=target)
    result = np.full(int(np.prod(shape)), np.inf)
    for i, single, arrivals, element_target in walk:
        work = float(single.loads(1.0).max())
        if arrivals.mean_rate * work >= 1:
            continue
        scale = float((single.moments()[0] + single.propagation()).sum())
        efforts = (
            (effort,) if method != "bracket" or has_no_lighter(single, arrivals) else tuple({"light": 0, effort: 0})
        )
        ends, most = partial(_ends, single, arrivals, method), 256 if _has_walks(single) else 2048
        found = shortest(ends, scale, element_target, tolerance, efforts, most=most, slotted=method in _SLOTTED)
        if found == np.inf and method not in _SLOTTED:
            raise ValueError(
                f"probability = {element_target:g}: at a load of {arrivals.mean_rate * work:.15g} the bound "
                f"{method!r} is above it at every deadline; use a smaller arrival_rate or a larger probability"
            )
        result[i] = found
    return finish(result, shape)


def _ends(
    pipeline: Pipeline, arrivals: ArrivalProcess, method: str, times: NDArray[np.float64], effort: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the bracket, or none and a bound, at many deadlines."""
    if method != "bracket":
        return np.zeros(times.shape), np.asarray(violation_bound(pipeline, arrivals, times, method))
    found = violation_bracket(pipeline, arrivals, times, effort=effort)
    _log.info("deadline_at: %d deadlines from %g s to %g s, effort %s", times.size, times.min(), times.max(), effort)
    return np.asarray(found.lower), np.asarray(found.upper)


def _has_walks(pipeline: Pipeline) -> bool:
    """Whether it may be one random stage between constant ones, where a deadline takes some hundredths of a second."""
    return is_composed(pipeline) or sum(stage.core_stages()[0][0] != "deterministic" for stage in pipeline) == 1


def _until(deadline: float, pipeline: Pipeline, arrivals: ArrivalProcess) -> tuple[Pipeline, ArrivalProcess, float]:
    return pipeline, arrivals, deadline


def _faster(
    rate: float, pipeline: Pipeline, arrivals: ArrivalProcess, deadline: float
) -> tuple[Pipeline, ArrivalProcess, float]:
    return pipeline, arrivals.at_rate(rate), deadline


def _wider(
    bandwidth: float, pipeline: Pipeline, arrivals: ArrivalProcess, deadline: float
) -> tuple[Pipeline, ArrivalProcess, float]:
    return _with_bandwidth(pipeline, bandwidth), arrivals, deadline


def _slower(
    slowness: float, pipeline: Pipeline, arrivals: ArrivalProcess, deadline: float
) -> tuple[Pipeline, ArrivalProcess, float] | None:
    """At a bandwidth of 1 / slowness; None where a stage is unstable."""
    tried, rate = _with_bandwidth(pipeline, 1 / slowness), arrivals.mean_rate
    # Transfers that are on average no faster than that may have no law.
    if any(rate * stage.bits >= stage.link.mean_rate() for stage in tried if isinstance(stage, Transfer)):
        return None
    return (tried, arrivals, deadline) if (tried.loads(rate) < 1).all() else None


def _bounds(
    at: Callable[[float], Any], pipeline: Pipeline, arrivals: ArrivalProcess, method: str, effort: str
) -> list[Bound]:
    """Both ends at a value by a method and an effort, those first that say where to look."""

    def bound(method: str, effort: str) -> Bound:
        def ends(value: float) -> tuple[float, float]:
            found = at(value)
            if found is None:
                return 0.0, np.inf
            asked, arriving, deadline = found
            if method != "bracket":
                return 0.0, float(violation_bound(asked, arriving, deadline, method))
            bracket = violation_bracket(asked, arriving, deadline, effort=effort)
            if _log.isEnabledFor(logging.INFO):
                load = asked.loads(arriving.mean_rate).max()
                _log.info("at load %.6g: %g <= P(late) <= %g, effort %s", load, bracket.lower, bracket.upper, effort)
            return float(bracket.lower), float(bracket.upper)

        return ends

    before: list[Bound] = []
    if method == "bracket":
        before += [] if is_composed(pipeline) else [bound("lundberg", "fast")]
        little = effort == "light" or has_no_lighter(pipeline, arrivals) or _has_walks(pipeline)
        before += [] if little else [bound("bracket", "light")]
    return [*before, bound(method, effort)]


def _sampled_deadline(
    pipeline: Pipeline, process: ArrivalProcess, target: Any, options: dict[str, Any], tolerance: float
) -> Any:
    shape, walk = _singles(pipeline, process, probability=target)
    rows = []
    for _, single, arrivals, element_target in walk:
        safe = deadline_at(single, arrivals, element_target, tolerance=tolerance, effort="light")
        if safe in (0, np.inf):
            rows.append((safe, safe, safe, 0, 0.0))
            continue
        search = Search(_until, (single, arrivals), element_target)
        rows.append(search.row(0.0, safe, options, logarithmic=False))
    return collect(rows, shape, options["confidence"])


def max_arrival_rate(
    pipeline: Pipeline,
    deadline: ArrayLike,
    probability: ArrayLike,
    *,
    arrivals: ArrivalProcess | None = None,
    method: str = "bracket",
    tolerance: float = 1e-4,
    effort: str = "fast",
    **sampling: Any,
) -> Any:
    """Largest arrival rate at which the bound certifies P(W > deadline) <= probability.

    Parameters
    ----------
    pipeline : Pipeline
    deadline : (...,) array_like, s
        > 0.
    probability : (...,) array_like
        In (0, 1).
    arrivals : ArrivalProcess, optional
        A process whose shape the arrivals have, as for `deadline_at`, Poisson by default: it is sped up or slowed down
        as a whole (`ArrivalProcess.at_rate`), so that its own rate does not matter.
    method, tolerance, effort, **sampling
        They are as for `deadline_at`; the answer is rounded down, and asked for some four brackets of that effort.

    Returns
    -------
    float or (...,) ndarray, 1/s; with "sampling" an Estimate as `deadline_at` gives
        `violation_bound` at the answer is at most `probability`. 0 where even a lone request misses the
        deadline too often; inf where no stage takes any time.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> pipeline = paper.scenario().pipelines()["device_only"]
    >>> rate = max_arrival_rate(pipeline, 10.0, 1e-3)
    >>> bool(violation_bound(pipeline, rate, 10.0) <= 1e-3 < violation_bound(pipeline, 1.001 * rate, 10.0))
    True
    """
    check_independent("max_arrival_rate", pipeline)
    _effort(effort, method)
    limit, target = _validate.positive("deadline", deadline, "s"), _probability(probability)
    options = _sampling(method, sampling)
    process = process_with_bounds(1.0 if arrivals is None else arrivals, "arrivals")
    if options is not None:
        return _sampled_rate(pipeline, process, limit, target, options, tolerance)
    tolerance = _validate.scalar("tolerance", tolerance, 0, low_open=True)
    shape, walk = _singles(pipeline, process, deadline=limit, probability=target)
    result = np.zeros(int(np.prod(shape)))
    for i, single, shape_of, element_limit, element_target in walk:
        work = float(single.loads(1.0).max())
        if work == 0:
            late = violation_bound(single, 1.0, element_limit, method) > element_target
            result[i] = 0.0 if late else np.inf
            continue

        at = partial(_faster, pipeline=single, arrivals=shape_of, deadline=element_limit)
        bounds = _bounds(at, single, shape_of, method, effort)
        result[i] = largest(bounds, element_target, 1 / work, tolerance)
    return finish(result, shape)


def _sampled_rate(
    pipeline: Pipeline, process: ArrivalProcess, limit: Any, target: Any, options: dict[str, Any], tolerance: float
) -> Any:
    shape, walk = _singles(pipeline, process, deadline=limit, probability=target)
    rows = []
    for _, single, shape_of, element_limit, element_target in walk:
        search = Search(_faster, (single, shape_of, element_limit), element_target)
        certified = partial(max_arrival_rate, arrivals=shape_of, tolerance=tolerance, effort="light")
        safe = certified(single, element_limit, element_target)
        full = np.inf if safe == np.inf else 1 / float(single.loads(1.0).max())
        # Where nothing is certified the search begins at a rate at which requests are alone.
        floor = safe or 1e-6 * full
        if safe == np.inf or (safe == 0 and search.side(floor) > 0):
            rows.append((safe, safe, safe, 0, 0.0))
            continue
        rows.append(search.row(full, floor, options))
    return collect(rows, shape, options["confidence"])


def min_bandwidth(
    pipeline: Pipeline,
    arrival_rate: ArrayLike | ArrivalProcess,
    deadline: ArrayLike,
    probability: ArrayLike,
    *,
    method: str = "bracket",
    tolerance: float = 1e-3,
    effort: str = "fast",
    **sampling: Any,
) -> Any:
    """Smallest bandwidth of the pipeline's links at which the bound certifies the probability.

    All links get this bandwidth; their mean SNR stays, as noise is given over the whole band.

    Parameters
    ----------
    pipeline : Pipeline
        With at least one Transfer.
    arrival_rate, deadline, probability : (...,) array_like
        1/s, or another process, as for `deadline_at`; s; and in (0, 1).
    method, tolerance, effort, **sampling
        They are as for `deadline_at`; the answer is rounded up, and asked for some four brackets of that effort.

    Returns
    -------
    float or (...,) ndarray, Hz; with "sampling" an Estimate as `deadline_at` gives
        `violation_bound` at the answer is at most `probability`. inf where no bandwidth up to 1e12 Hz is
        enough.

    Raises
    ------
    ValueError
        For arguments outside their range, a pipeline without a Transfer, and one over a link without a bandwidth.
    RuntimeError
        Where the law of a transfer time cannot be computed at a bandwidth that has to be tried.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> bandwidth = min_bandwidth(paper.scenario().pipelines()["split"], 0.35, 4.0, 1e-2, tolerance=0.05)
    >>> 1e5 < bandwidth < 1e8
    True
    """
    limit, target = _validate.positive("deadline", deadline, "s"), _probability(probability)
    options = _sampling(method, sampling)
    process = process_with_bounds(arrival_rate)
    tolerance = _validate.scalar("tolerance", tolerance, 0, low_open=True)
    check_independent("min_bandwidth", pipeline)
    _effort(effort, method)
    if not any(isinstance(stage, Transfer) for stage in pipeline.inner):
        raise ValueError("pipeline has no Transfer, so no bandwidth to choose")
    for stage in pipeline.inner:
        if isinstance(stage, Transfer) and not isinstance(stage.link, FadingLink):
            raise ValueError(
                f"pipeline: stage {stage.name!r} goes over a link that has no bandwidth to choose, "
                f"{type(stage.link).__name__}(..): must be a FadingLink; vary the link's own rate instead"
            )
    if options is not None:
        return _sampled_bandwidth(pipeline, process, limit, target, options, tolerance)
    shape, walk = _singles(pipeline, process, deadline=limit, probability=target)
    result = np.full(int(np.prod(shape)), np.inf)
    for i, single, arrivals, element_limit, element_target in walk:
        # Transfers take no time at best, and the mean rate carries them on average.
        if violation_bracket(single.map(_at_once), arrivals, element_limit).lower > element_target:
            continue

        at = partial(_slower, pipeline=single, arrivals=arrivals, deadline=element_limit)
        links: list[Any] = [stage.link for stage in single.inner if isinstance(stage, Transfer)]
        full = 1 / float(max(link.bandwidth for link in links))
        while at(full) is None:
            full /= 4
        while at(full) is not None:
            full *= 4
        found = largest(_bounds(at, single, arrivals, method, effort), element_target, full, tolerance, 1e-12)
        result[i] = 1 / found if found > 0 else np.inf
    return finish(result, shape)


def _sampled_bandwidth(
    pipeline: Pipeline, process: ArrivalProcess, limit: Any, target: Any, options: dict[str, Any], tolerance: float
) -> Any:
    shape, walk = _singles(pipeline, process, deadline=limit, probability=target)
    rows = []
    for _, single, arrivals, element_limit, element_target in walk:
        certified = partial(min_bandwidth, tolerance=tolerance, effort="light")
        safe = certified(single, arrivals, element_limit, element_target)
        if safe == np.inf:
            rows.append((safe, safe, safe, 0, 0.0))
            continue
        search = Search(_wider, (single, arrivals, element_limit), element_target)
        late = safe / 2
        while search.side(late) <= 0:
            late /= 2
        rows.append(search.row(late, safe, options))
    return collect(rows, shape, options["confidence"])


def _at_once(stage: Server) -> Server:
    """A transfer over a link of any bandwidth, which takes no time at best."""
    return Constant(0.0, stage.name) if isinstance(stage, Transfer) else stage


def _with_bandwidth(pipeline: Pipeline, bandwidth: float) -> Pipeline:
    return pipeline.map(
        lambda stage: (
            replace(stage, link=replace(stage.link, bandwidth=bandwidth))
            if isinstance(stage, Transfer) and isinstance(stage.link, FadingLink)
            else stage
        )
    )
