"""Answers that are right and on time: sessions whose rounds end right or wrong, and the best cap on their number.

The wait of a request depends on others' services and on arrivals, not on its own outcome, so that for one session
between delays P(right, W <= T) = sum over n of P(n, right) P(Wq + S_n + delays <= T), S_n the time of n rounds.

In any other pipeline the request's own session enters W through its own service alone, in which W grows. So P(W > T |
right) is at most P(W > T) where every N is drawn from the law with P(N* > n) = max(P(N > n), P(N > n | right)), and at
least that with the smaller of both in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _core, _validate
from edgeinfer.delay._elements import check_pipeline, finish, in_time, poisson_rate
from edgeinfer.delay.bounds import bands
from edgeinfer.delay.composed import EFFORTS, Ends, check_order, named_ends, over_family, plain_stages, violation_ends
from edgeinfer.delay.results import Bracket, Guarantee
from edgeinfer.model import ArrivalProcess, Delay, Fork, Pipeline, Review, Session
from edgeinfer.model.composition import law_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BestRounds(_validate.Value):
    """The cap on a session's rounds that makes P(right and W <= deadline) largest.

    Attributes
    ----------
    cap : (...,) ndarray of int
        Whose lower end is the largest; of equal ones the least.
    certain : (...,) ndarray of bool
        Whether no other cap can be better: its lower end is at least the upper ends of all others.
    timely : Bracket
        P(right and W <= deadline) for the caps 1 .. R on the last axis.
    """

    cap: Any
    certain: Any
    timely: Bracket


def _sessions(stages: Any) -> Iterator[Session]:
    for stage in stages:
        if isinstance(stage, Fork):
            for branch in stage.branches:
                yield from _sessions(branch)
        elif isinstance(stage, Review):
            if isinstance(stage.stage, Session) and stage.stage.right is not None:
                raise ValueError(
                    f"Review {stage.name!r}: must not be a session with outcomes: not every request has one; give the "
                    "outcomes to the session before it"
                )
        else:
            server = stage.stage if isinstance(stage, Delay) else stage
            if isinstance(server, Session) and server.right is not None:
                yield server


def _session(pipeline: Pipeline) -> Session:
    """The one session with outcomes."""
    found = list(_sessions(check_pipeline(pipeline)))
    if len(found) != 1:
        raise ValueError(
            f"pipeline has {len(found)} sessions with outcomes: must have exactly one, whose `rounds` have the columns "
            "P(N = n, right) and P(N = n, wrong)"
        )
    return found[0]


def _with(pipeline: Pipeline, old: Session, new: Session) -> Pipeline:
    """The pipeline with one session in another's place."""
    stages: list[Any] = []
    for stage in pipeline:
        if stage is old:
            stages.append(new)
        elif isinstance(stage, Delay) and stage.stage is old:
            stages.append(Delay(new))
        elif isinstance(stage, Fork):
            branches = tuple(_with(branch, old, new) for branch in stage.branches)
            stages.append(Fork(branches, stage.join, stage.name))
        else:
            stages.append(stage)
    return Pipeline(stages)


def _alone(pipeline: Pipeline, session: Session) -> bool:
    return all(stage is session or isinstance(stage, Delay) for stage in pipeline) and session in pipeline.stages


def _late_if_right(pipeline: Pipeline, session: Session, rate: float, times: Floats, effort: str) -> Ends:
    """Ends of P(W > t | right)."""
    right = session.right
    assert right is not None
    given = right / right.sum()
    if _alone(pipeline, session):
        own = law_of(session.stages, np.append(0.0, given))
        delays = [part for stage in pipeline if isinstance(stage, Delay) for part in plain_stages(stage.stage)]
        size = np.full(times.shape, rate)
        queue = session.core_stages()
        return named_ends(_core.queue_bracket(queue, [("compound", own), *delays], size, times))
    tails = [1 - np.cumsum(law) for law in (session.number / session.number.sum(), given)]
    ends = []
    for choose in (np.minimum, np.maximum):
        law = np.maximum(-np.diff(choose(*tails), prepend=1.0, append=0.0)[:-1], 0)
        chosen = _with(pipeline, session, Session(session.stages, law / law.sum()))
        ends.append(violation_ends(chosen, rate, times, effort))
    return Ends(ends[0].lower, ends[1].upper, ends[0].lower_method, ends[1].upper_method)


def _timely(pipeline: Pipeline, rate: float, times: Floats, effort: str) -> Ends:
    session = _session(pipeline)
    right = session.right
    assert right is not None
    share = float(right.sum())
    method = np.full(times.shape, "unstable")
    if (pipeline.loads(rate) >= 1).any():
        return Ends(np.zeros(times.shape), np.zeros(times.shape), method, method)
    if share == 0:
        method = np.full(times.shape, "exact")
        return Ends(np.zeros(times.shape), np.zeros(times.shape), method, method)
    late = _late_if_right(pipeline, session, rate, times, effort)
    lower, upper = share * (1 - late.upper), share * (1 - late.lower)
    return Ends(np.clip(lower, 0, 1), np.clip(upper, 0, 1), late.upper_method, late.lower_method)


def timely(
    pipeline: Pipeline,
    arrival_rate: ArrayLike | ArrivalProcess,
    deadline: ArrayLike,
    *,
    effort: str = "fast",
) -> Bracket:
    """Certified bracket of the probability that an answer is right and on time.

    Parameters
    ----------
    pipeline : Pipeline
        With one `Session` whose rounds have outcomes. For that session and delays alone the ends are as near as an
        M/G/1 queue's; in other pipelines they are about as far apart as those of `violation_bracket`.
    arrival_rate : (...,) array_like, 1/s
        Of Poisson arrivals, > 0.
    deadline : (...,) array_like, s
        >= 0, may be inf: what is right at last.
    effort : {"light", "fast", "tight"}
        Of `violation_bracket`, for pipelines of more than that session and delays.

    Returns
    -------
    Bracket
        lower <= P(right and W <= deadline) <= upper, W the sojourn time; both 0 where a stage's load is >= 1. A
        `Guarantee` where a stage is `Measured` with a confidence.

    Raises
    ------
    ValueError
        For no session with outcomes, or several, and for pipelines that `violation_bracket` does not take.

    Examples
    --------
    A painter whose picture a checker passes after one, two or three rounds, else the last one is delivered, wrong:

    >>> from edgeinfer.model import Constant, Exponential
    >>> round_of = [Exponential(0.3, "paint"), Constant(0.05, "check")]
    >>> session = Session(round_of, [[0.8, 0.0], [0.12, 0.0], [0.05, 0.03]], "painter")
    >>> ends = timely(Pipeline([session]), 1.0, [1.0, 4.0])
    >>> ends.lower.round(2), bool((ends.upper < 1.01 * ends.lower).all())
    (array([0.72, 0.97]), True)
    """
    check_pipeline(pipeline)
    _validate.choice("effort", effort, EFFORTS)
    rate = poisson_rate(arrival_rate)
    limit = _validate.real("deadline", deadline, 0, infinite=True, unit="s")
    _session(pipeline)
    if pipeline.confidence < 1:
        fast, slow = (timely(each, rate, limit, effort=effort) for each in bands(pipeline))
        return Guarantee.between(slow, fast, pipeline.confidence)
    check_order(pipeline.stages)
    shape = _validate.broadcast_shapes(pipeline=pipeline.shape, arrival_rate=np.shape(rate), deadline=np.shape(limit))
    found = over_family(partial(_timely, effort=effort), pipeline, rate, in_time(limit), shape)
    return Bracket(*(finish(part, shape) for part in found))


def best_rounds(
    pipeline: Pipeline,
    arrival_rate: ArrayLike | ArrivalProcess,
    deadline: ArrayLike,
    *,
    effort: str = "fast",
) -> BestRounds:
    """The cap on the rounds of a session under which most answers are right and on time.

    More rounds make more answers right, and all of them later. A request that needs more rounds than the cap is
    delivered after the last of them, and counts as wrong.

    Parameters
    ----------
    pipeline, arrival_rate, deadline, effort
        They are as for `timely`; caps of which light ends tell that they are not the best keep these ends.

    Returns
    -------
    BestRounds

    Examples
    --------
    >>> from edgeinfer.model import Exponential
    >>> session = Session([Exponential(0.5, "paint")], [[0.7, 0.0], [0.15, 0.0], [0.05, 0.1]], "painter")
    >>> best = best_rounds(Pipeline([session]), [0.2, 1.3], 4.0)
    >>> best.cap, best.certain
    (array([3, 1]), array([ True,  True]))
    """
    session = _session(pipeline)
    _validate.choice("effort", effort, EFFORTS)

    def capped(cap: int, effort: str) -> Bracket:
        return timely(_with(pipeline, session, session.capped(cap)), arrival_rate, deadline, effort=effort)

    caps = range(1, len(session.rounds) + 1)
    first = effort if _alone(pipeline, session) else "light"
    brackets = [capped(cap, first) for cap in caps]
    if first != effort:
        known = np.max([bracket.lower for bracket in brackets], axis=0)
        brackets = [
            capped(cap, effort) if np.any(bracket.upper >= known) else bracket
            for cap, bracket in zip(caps, brackets, strict=True)
        ]
    names = ("lower", "upper", "lower_method", "upper_method")
    columns = [np.stack([np.asarray(getattr(bracket, name)) for bracket in brackets], axis=-1) for name in names]
    kind: Any = Bracket if pipeline.confidence == 1 else partial(Guarantee, confidence=pipeline.confidence)
    over = kind(*columns)
    at = np.argmax(over.lower, axis=-1)
    best = np.take_along_axis(over.lower, at[..., None], axis=-1)
    others = np.where(np.arange(len(brackets)) == at[..., None], 0.0, over.upper)
    certain = np.asarray((others <= best).all(axis=-1))
    return BestRounds(finish(at + 1, at.shape), finish(certain, at.shape), over)
