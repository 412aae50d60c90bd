"""Bounds and certified brackets of the violation probability."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _core, _validate
from edgeinfer.delay._elements import (
    check_independent,
    core_arrival,
    finish,
    in_time,
    poisson_rate,
    process_with_bounds,
    remaining,
    renewal_elements,
)
from edgeinfer.delay.composed import (
    EFFORTS,
    added_queues,
    best_of,
    is_composed,
    one_of_several,
    over_family,
    shifted,
    violation_ends,
    wait_from_below,
)
from edgeinfer.delay.constant_servers import faster_twins, has_several_servers, slower_twin
from edgeinfer.delay.results import Bracket, Guarantee
from edgeinfer.model import ArrivalProcess, FadingLink, Measured, Periodic, Pipeline, Poisson, Transfer
from edgeinfer.model.bases import Server

MOST_SLOTS = 1_000_000
METHODS = ("bracket", "union", "lundberg", "corrected", "printed")


def _limit(deadline: ArrayLike) -> Any:
    return _validate.real("deadline", deadline, 0, infinite=True, unit="s")


def _several_servers(pipeline: Pipeline, process: ArrivalProcess, deadline: ArrayLike, effort: str) -> tuple[Any, Any]:
    """Ends for servers in a row, some of them several of one queue, over a family: each queue alone, and all added."""
    limit = in_time(_limit(deadline))
    shape = _validate.broadcast_shapes(pipeline=pipeline.shape, arrival_rate=process.shape, deadline=np.shape(limit))
    size, times = int(np.prod(shape)), _validate.flat(limit, shape)
    lower, upper = np.zeros(size), np.ones(size)
    owner, kind = (
        np.broadcast_to(np.arange(int(np.prod(part))).reshape(part), shape).ravel()
        for part in (pipeline.shape, process.shape)
    )
    for k, i in np.unique(np.column_stack([owner, kind]), axis=0).tolist():
        some = (owner == k) & (kind == i)
        single, arrival = pipeline.element(k) if pipeline.shape else pipeline, process.element(i)
        upper[some] = added_queues(single.stages, arrival, times[some]).upper
        for queue in single.inner:
            if queue.servers > 1 and float(queue.mean()) > 0:
                wait = partial(wait_from_below, queue, arrival)
                alone = one_of_several(queue, list(single), wait, times[some], effort)
                lower[some] = np.maximum(lower[some], alone.lower)
    return finish(lower, shape), finish(upper, shape)


def _slot(pipeline: Pipeline, method: str, slot: float | None) -> float:
    if slot is not None:
        return _validate.scalar("slot", slot, 0, low_open=True, unit="s")
    links = [stage.link for stage in pipeline if isinstance(stage, Transfer)]
    slots = {float(value) for link in links if isinstance(link, FadingLink) for value in np.ravel(link.slot)}
    if len(slots) > 1:
        raise ValueError(f"slot = None: links have the slots {sorted(slots)} s; method {method!r} needs one")
    return slots.pop() if slots else 0.01


def _grid(pipeline: Pipeline, method: str, slot: float | None, deadline: Any) -> float:
    """The slot of a method that works on slots. Any makes "corrected" a bound, so that a long deadline has fewer."""
    link_slot = _slot(pipeline, method, slot)
    longest = float(np.max(deadline, initial=0.0, where=np.isfinite(deadline)))
    if longest <= MOST_SLOTS * link_slot:
        return link_slot
    if method == "corrected" and slot is None:
        return longest / MOST_SLOTS
    raise ValueError(f"deadline = {longest:g}: must be at most {MOST_SLOTS} slots of {link_slot:g} s for {method!r}")


def _bound(stages: Any, rate: Any, limit: Any, method: str, *rest: Any) -> Any:
    try:
        return _core.violation_bound(stages, rate, limit, method, *rest)
    except ValueError as error:
        if method not in ("corrected", "printed"):
            raise
        random = "random stage" if method == "corrected" else "Transfer, over a FadingLink of that slot"
        raise ValueError(
            f"method = {method!r}: must be 'bracket', 'union' or 'lundberg' for this pipeline: on a grid of slots it "
            f"may have constant stages and one {random} ({error})"
        ) from None


def violation_bound(
    pipeline: Pipeline,
    arrival_rate: ArrayLike | ArrivalProcess,
    deadline: ArrayLike,
    method: str = "bracket",
    *,
    slot: float | None = None,
    log: bool = False,
) -> Any:
    """Upper bound on the probability that the stationary sojourn time exceeds a deadline.

    Parameters
    ----------
    pipeline : Pipeline
    arrival_rate : (...,) array_like, 1/s, or ArrivalProcess
        Of Poisson arrivals, > 0; or a renewal process: `Poisson`, `Periodic`, `Erlang`, `Hyperexponential`, `Gamma`; or
        `MarkovModulated` of at most 16 phases. "corrected" and "printed" take Poisson arrivals only.
    deadline : (...,) array_like, s
        >= 0, may be inf.
    method : {"bracket", "union", "lundberg", "corrected", "printed"}
        The upper end of `violation_bracket`; bounds by moment generating functions; the paper's (7)-(10)
        repaired; or (7)-(12) as printed, which is NOT a bound and is kept for the record.
    slot : float, s, optional
        The grid of "corrected" and "printed", at most 1e6 slots long; by default the link's slot, and for "corrected" a
        longer one where the deadline is beyond that.
    log : bool
        Natural logarithm of the bound, which stays finite down to 1e-300 and below.

    Returns
    -------
    float or (...,) ndarray
        1 where no bound below 1 exists, an unstable queue included.

    Raises
    ------
    ValueError
        For arguments outside their range, or a pipeline or arrivals that `method` does not take.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> pipeline = paper.scenario().pipelines()["split"]
    >>> bounds = violation_bound(pipeline, 0.35, [6.0, 12.0], "union")
    >>> bool(bounds[1] < bounds[0] < 1)
    True
    """
    _validate.choice("method", method, METHODS)
    check_independent("violation_bound", pipeline)
    if method == "bracket":
        upper = violation_bracket(bands(pipeline)[1], arrival_rate, deadline).upper
        with np.errstate(divide="ignore"):
            return np.log(upper) if log else upper
    pipeline, process = shifted(pipeline), process_with_bounds(arrival_rate)
    deadline, late = remaining(pipeline, _limit(deadline))
    if method in ("corrected", "printed") and not isinstance(process, Poisson):
        raise ValueError(
            f"arrival_rate = {type(process).__name__}(..): must be a rate or Poisson(rate) for method {method!r}, "
            "which counts Poisson arrivals in slots; 'bracket', 'union' and 'lundberg' take every renewal process and "
            "MarkovModulated"
        )
    shape, walk = renewal_elements(pipeline, process, deadline=deadline)
    slot = _grid(pipeline, method, slot, deadline) if method in ("corrected", "printed") else 1.0
    result = np.empty(int(np.prod(shape)))
    for stages, arrival, where, (rate, limit) in walk:
        never = np.isinf(limit)
        value, _ = _bound(stages, rate, np.where(never, 0.0, limit), method, slot, core_arrival(arrival))
        with np.errstate(over="ignore"):
            load = rate * _core.service_moments(stages)[0].max()
        result[where] = np.where(never & (load < 1), -np.inf, value)
    result[np.broadcast_to(late, shape).ravel()] = 0.0
    if not log:
        result = np.exp(result)
    return finish(result, shape)


def _end_of_band(end: str, stage: Server) -> Server:
    """The slowest or fastest law of what is measured with a confidence."""
    if isinstance(stage, Measured) and stage.confidence is not None:
        return getattr(stage, end)()  # type: ignore[no-any-return]
    return stage


def bands(pipeline: Pipeline) -> tuple[Pipeline, Pipeline]:
    """The pipelines of the fastest and of the slowest laws of what is measured with a confidence.

    Sojourn times grow with every service, so that laws in order give probabilities and means in order.
    """
    return pipeline.map(partial(_end_of_band, "fastest")), pipeline.map(partial(_end_of_band, "slowest"))


def violation_bracket(
    pipeline: Pipeline, arrival_rate: ArrayLike | ArrivalProcess, deadline: ArrayLike, *, effort: str = "fast"
) -> Bracket:
    """Certified two-sided bracket of the probability that the sojourn time exceeds a deadline.

    Parameters
    ----------
    pipeline : Pipeline
        Any; each shape gets the best pair known for it, and `.method` says which formulas gave the ends.
    arrival_rate : (...,) array_like, 1/s, or ArrivalProcess
        Of Poisson arrivals, > 0; or a renewal process: `Poisson`, `Periodic`, `Erlang`, `Hyperexponential`, `Gamma`; or
        `MarkovModulated` of at most 16 phases. For the last four, ends of one constant stage are apart by 1.01 to
        1.05 at loads from 0.3 to 0.9, between 0.2 and 1e-8; those of one exponential stage meet for renewal processes,
        and with a constant one behind it, of half its load, they are 1.02 times apart.
    deadline : (...,) array_like, s
        >= 0, may be inf. Who takes just as long, up to the rounding of a sum, is not late, here and in simulations.
    effort : {"light", "fast", "tight"}
        "light" leaves out what takes most of the time of two stages and more: ends of three to six stages come in a
        third of the time on average. Half of them are as near, nine of ten up to 1.8 times further apart. Independent
        times (of a `Delay`) are cut into 192, 768 or 3072 cells. "tight" may take a minute for a `Fork`, whose paths
        take it each.
        For one random stage between two constant ones with Poisson arrivals, the two-dimensional walk of
        `csrc/edgeinfer/joint.h` is solved where the other formulas leave the ends more than 1.9 times apart ("fast":
        some tenths of a second for each range of deadlines, up to 6 s where three loads beyond some 0.7 are
        nearly equal), or more than 4 % ("tight": up to some seconds), on finer and finer lattices until the ends are
        within 1.9 times, or 4 %, or the work is at its limit.
        For other chains with two stages that are nearly as slow as each other, "tight" follows both on a lattice twice
        as fine (some eight times the work of that) for the upper end. It changes nothing for other pipelines in series.

    Returns
    -------
    Bracket
        lower <= P(W > deadline) <= upper; both 1 where a stage's load is >= 1. Each element depends on its own
        pipeline, rate and deadline only, and falls with the deadline (where `method` is "joint" or "two_stages", from
        one range of deadlines to the next it need not). Where a stage is `Measured` with a confidence, a `Guarantee`:
        the lower end of the fastest laws of the bands, the upper end of the slowest ones.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> bracket = violation_bracket(paper.scenario().pipelines()["split"], 0.35, [4.0, 8.0, 16.0])
    >>> bool((bracket.lower <= bracket.upper).all()), bool((bracket.upper / bracket.lower < 1.1).all())
    (True, True)
    """
    _validate.choice("effort", effort, EFFORTS)
    check_independent("violation_bracket", pipeline)
    if pipeline.confidence < 1:
        fast, slow = (violation_bracket(each, arrival_rate, deadline, effort=effort) for each in bands(pipeline))
        return Guarantee.between(fast, slow, pipeline.confidence)
    process = process_with_bounds(arrival_rate)
    if not isinstance(process, Poisson):
        pipeline = shifted(pipeline)
        if has_several_servers(pipeline) and all(isinstance(stage, Server) for stage in pipeline):
            return _by_twins(pipeline, process, deadline, effort)
    if is_composed(pipeline):
        rate, limit = poisson_rate(arrival_rate), in_time(_limit(deadline))
        shape = _validate.broadcast_shapes(
            pipeline=pipeline.shape, arrival_rate=np.shape(rate), deadline=np.shape(limit)
        )
        ends = partial(violation_ends, effort=effort)
        return Bracket(*(finish(part, shape) for part in over_family(ends, pipeline, rate, limit, shape)))
    return _single_servers(pipeline, process, deadline, effort)


def _by_twins(pipeline: Pipeline, process: ArrivalProcess, deadline: ArrayLike, effort: str) -> Bracket:
    """Ends of servers in a row, some of them several of one queue, behind other arrivals than Poisson ones."""
    ends = partial(_single_servers, process=process, deadline=deadline)
    # Behind periodic arrivals "light" saves little.
    first = effort if isinstance(process, Periodic) else "light"
    faster = [(name, twin, ends(twin, effort=first)) for name, twin in faster_twins(pipeline)]
    slow = slower_twin(pipeline)
    slower = ends(slow, effort=first)
    below, above = _several_servers(pipeline, process, deadline, effort)
    lower = [*((name, twin_ends.lower) for name, _, twin_ends in faster), ("queue", below)]
    upper = [("fast_server", slower.upper), ("added_stage", above)]
    if effort != first:
        # No effort brings a twin's lower end above its own upper one, nor that below the lower one.
        known = best_of(lower, upper)
        for name, twin, twin_ends in faster:
            if np.any(twin_ends.upper > known.lower):
                lower.append((name, ends(twin, effort=effort).lower))
        if np.any(slower.lower < known.upper):
            upper.append(("fast_server", ends(slow, effort=effort).upper))
    return Bracket(*best_of(lower, upper))


def _single_servers(pipeline: Pipeline, process: ArrivalProcess, deadline: ArrayLike, effort: str) -> Bracket:
    """Ends of a chain of single servers."""
    deadline, late = remaining(pipeline, in_time(_limit(deadline)))
    shape, walk = renewal_elements(pipeline, process, deadline=deadline)
    size = int(np.prod(shape))
    lower, upper = np.empty(size), np.empty(size)
    lower_method, upper_method = np.empty(size, dtype=np.uint8), np.empty(size, dtype=np.uint8)
    for stages, arrival, where, (rate, limit) in walk:
        known = core_arrival(arrival)
        answer = _core.violation_bracket(stages, rate, limit, known, EFFORTS.index(effort))
        lower[where], upper[where], lower_method[where], upper_method[where] = answer
    lower[np.broadcast_to(late, shape).ravel()] = upper[np.broadcast_to(late, shape).ravel()] = 1.0
    names = np.array(_core.BRACKET_METHODS)
    return Bracket(
        finish(lower, shape),
        finish(upper, shape),
        finish(names[lower_method], shape),
        finish(names[upper_method], shape),
    )
