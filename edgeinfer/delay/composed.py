"""Pipelines with delays, forks and reviews: certified ends from those of their paths, and the program of a simulation.

Notation: W the sojourn time at Poisson arrivals; a path takes one branch of every fork.

Delays. Poisson points that are displaced by independent delays and marked with them are Poisson points with
independent marks. So delays before all queues, and behind all of them, add independently of everything else; a
constant one shifts W wherever it stands.

Forks. Departures keep the order of arrivals on every path, and a join lets a request go when the k-th of n branches
is done, J = the least over sets A of k branches of the largest over A. A queue behind the join has D_n = max over j
<= n of [J_j + S_j + .. + S_n], which commutes with max: for k = n, W is the largest of the paths' own sojourn times
W_1, .., W_n, each of its path as a pipeline of its own. For k < n it is at most that over any A. All W_i are
increasing functions of services and decreasing ones of interarrival times, all independent, hence associated (Esary,
Proschan, Walkup 1967): P(all W_i <= T) >= the product of P(W_i <= T), P(all W_i > T) >= that of P(W_i > T). With p_i
= P(W_i > T) and r = n - k + 1 branches that must be late for a request to be late,
  P(W > T) <= 1 - prod over A of (1 - p_i), A the k least p_i, and <= sum p_i / r (Markov, on the number of late
  ones);
  P(W > T) >= prod over the r largest p_i,
the latter for k < n of the paths up to the join, T less the least services behind it, as what follows the join takes
at least these; and, for the queues behind it alone, as if all else took no time. For k = n and no queue before the
fork, the request's own services in the other branches are independent of W_i, whose path has none of them: with s_j
the probability that those of branch j alone take longer than T (less the least services behind the join),
  P(W > T) >= 1 - (1 - p_i) prod over j other than i of (1 - s_j), for every i.

Reviews. Let a request that needs none take a service of 0 of the reviewer instead of passing it by: it waits, all
others see the same queue. So P(W > T) is at most that of a pipeline whose last service is 0 with probability 1 - p.
From below, (1 - p) P(C > T) + p P(C + B > T), C the time up to the review, B its service, independent of C; or with
that pipeline's own time in place of C + B, which grows with B, so that those who need a review are late there no less
often than all. Where no queue comes before, what they take is the wait of M/G/1 and B, known from both sides.

Independent times Z are added to ends on a grid of Z: P(W + Z > T) = E P(W > T - Z), the ends at the near or the far
side of each cell.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _core, _validate
from edgeinfer.delay._elements import check_pipeline, core_arrival
from edgeinfer.delay.constant_servers import Lagged, faster_twins, has_several_servers, md_c_wait, slower_twin
from edgeinfer.model import (
    ArrivalProcess,
    Compute,
    Constant,
    Delay,
    Fork,
    MarkovModulated,
    Periodic,
    Pipeline,
    Poisson,
    Review,
    Session,
)
from edgeinfer.model.bases import CoreStage, Server, is_single, propagation_of
from edgeinfer.model.composition import law_of

Floats = NDArray[np.float64]

#: How much work ends may be, see `violation_bracket`; in the core's order.
EFFORTS = ("fast", "tight", "light")
#: Cells of the grid over an independent time, and the probability beyond it.
CELLS, BEYOND = {"light": 192, "fast": 768, "tight": 3072}, 1e-13


def is_composed(pipeline: Pipeline) -> bool:
    """Whether a pipeline has stages of other than one server each."""
    return not all(map(is_single, pipeline))


def has_no_lighter(pipeline: Pipeline, arrivals: ArrivalProcess) -> bool:
    """Whether the efforts "light" and "fast" are the same."""
    if is_composed(pipeline):
        return False
    return len(pipeline.stages) == 1 or isinstance(arrivals, Periodic | MarkovModulated)


class Asked(NamedTuple):
    """The rate of Poisson arrivals, 1/s, and the effort."""

    rate: float
    effort: str


class Ends(NamedTuple):
    """Both ends over deadlines, and the formula of each."""

    lower: Floats
    upper: Floats
    lower_method: NDArray[Any]
    upper_method: NDArray[Any]


def named_ends(answer: tuple[Floats, Floats, NDArray[np.uint8], NDArray[np.uint8]]) -> Ends:
    names = np.array(_core.BRACKET_METHODS)
    return Ends(answer[0], answer[1], names[answer[2]], names[answer[3]])


def _certain(value: bool, times: Floats) -> Ends:
    """Times of 0, say: late is what is below."""
    late = np.where(times < 0, 1.0, float(value))
    method = np.full(times.shape, "exact")
    return Ends(late, late, method, method)


def is_constant(stage: Any) -> bool:
    return isinstance(stage, Delay) and isinstance(stage.stage, Constant | Compute)


def shifted(pipeline: Pipeline) -> Pipeline:
    """Constant delays as stages of no time, and what these add behind them: they hold nobody up, whatever comes."""
    if not any(map(is_constant, check_pipeline(pipeline))):
        return pipeline
    return Pipeline(Lagged(0.0, stage.mean(), stage.name) if is_constant(stage) else stage for stage in pipeline)


def _refuse(stage: Any, why: str, way: str) -> ValueError:
    return ValueError(f"{type(stage).__name__} {stage.name!r}: {why}; {way}")


def check_order(stages: Sequence[Any], *, inside: bool = False) -> None:
    """Refuse random delays and reviews where requests that overtake each other would come to a queue.

    Raises
    ------
    ValueError
        Naming the stage, why, and a way on.
    """
    behind: Any = None
    for at, stage in enumerate(stages):
        if isinstance(stage, Delay) and (is_constant(stage) or (not inside and _all_delays(stages[: at + 1]))):
            continue
        if isinstance(stage, Delay):
            behind = behind or stage
            continue
        if behind is not None:
            kind = "random delay between queues" if isinstance(behind, Delay) else "review before a queue"
            raise _refuse(
                behind,
                f"must not be a {kind}: requests overtake each other there, so that {stage.name!r} is not met in order",
                "put it last"
                + (
                    ", or give a Delay a constant time"
                    if inside
                    else ", give a Delay a constant time, or simulate a `Cell`"
                ),
            )
        if isinstance(stage, Fork):
            for branch in stage.branches:
                check_order(branch.stages, inside=True)
                ragged = [s for s in _all_stages(branch) if isinstance(s, Review) or _is_random_delay(s)]
                if ragged and at + 1 < len(stages) and not all(isinstance(s, Delay) for s in stages[at + 1 :]):
                    raise _refuse(
                        ragged[0],
                        f"must not be in a branch of {stage.name!r} before a queue: requests leave it out of order",
                        "put the queue into the branches" + ("" if inside else ", or simulate a `Cell`"),
                    )
        if isinstance(stage, Review):
            behind = stage


def _all_stages(pipeline: Pipeline) -> Iterator[Any]:
    for stage in pipeline:
        yield stage
        if isinstance(stage, Fork):
            for branch in stage.branches:
                yield from _all_stages(branch)


def _is_random_delay(stage: Any) -> bool:
    return isinstance(stage, Delay) and not is_constant(stage)


def _all_delays(stages: Sequence[Any]) -> bool:
    return all(isinstance(stage, Delay) for stage in stages)


def violation_ends(pipeline: Pipeline, rate: float, times: Floats, effort: str = "fast") -> Ends:
    """Ends of P(W > t) of one pipeline at one rate of Poisson arrivals.

    Parameters
    ----------
    pipeline : Pipeline
        Of shape ().
    rate : float, 1/s
    times : (n,) ndarray, s
    effort : {"light", "fast", "tight"}

    Raises
    ------
    ValueError
        For an order of stages that is not known.
    """
    check_order(pipeline.stages)
    if (pipeline.loads(rate) >= 1).any():
        method = np.full(times.shape, "unstable")
        return Ends(np.ones(times.shape), np.ones(times.shape), method, method)
    if has_several_servers(pipeline):
        return _several_servers(pipeline, rate, times, effort)
    return _mixed(list(pipeline.stages), Asked(rate, effort), times)


def best_of(lower: list[tuple[str, Any]], upper: list[tuple[str, Any]]) -> Ends:
    """The largest of lower ends, and the least of upper ones, with their names."""
    low, high = (np.array([values for _, values in ends]) for ends in (lower, upper))
    lower_name, upper_name = (np.array([name for name, _ in ends]) for ends in (lower, upper))
    best, least = low.max(axis=0), high.min(axis=0)
    # Formulas that agree may cross by rounding.
    least = np.maximum(least, np.minimum(best, least * (1 + 1e-12)))
    return Ends(best, least, lower_name[low.argmax(axis=0)], upper_name[high.argmin(axis=0)])


def _several_servers(pipeline: Pipeline, rate: float, times: Floats, effort: str) -> Ends:
    lower = [(name, violation_ends(twin, rate, times, effort).lower) for name, twin in faster_twins(pipeline)]
    upper = [("fast_server", violation_ends(slower_twin(pipeline), rate, times, effort).upper)]
    delays = [stage.stage for stage in pipeline if isinstance(stage, Delay)]
    queues = [stage for stage in pipeline if isinstance(stage, Server)]
    if len(delays) + len(queues) < len(pipeline.stages):
        return best_of(lower, upper)
    for queue in queues:
        # None where the law of the wait takes too many states.
        wait = _md_c_ends(queue, rate) if queue.servers > 1 else None
        if wait is not None:
            alone = one_of_several(queue, list(pipeline), wait, times, effort)
            lower.append(("M/D/c", alone.lower))
            if len(queues) == 1:
                upper.append(("M/D/c", alone.upper))
    one_by_one = partial(added_queues, queues, Poisson(rate))
    upper.append(("added_stage", (_added(one_by_one, delays, times, effort) if delays else one_by_one(times)).upper))
    return best_of(lower, upper)


def _md_c_ends(queue: Server, rate: float) -> Callable[[Floats], Ends] | None:
    try:
        wait = md_c_wait(rate, float(queue.mean()), queue.servers)
    except ValueError:
        return None

    def ends(times: Floats) -> Ends:
        never, method = np.isinf(times), np.full(times.shape, "M/D/c")
        low, high = (np.where(never, 0.0, wait.tail(np.where(never, 0.0, times), end)) for end in (0, 1))
        # The law is right to 1e-10.
        return Ends(low * (1 - 1e-9), np.minimum(high * (1 + 1e-9), 1), method, method)

    return ends


def wait_from_below(queue: Server, arrival: ArrivalProcess, times: Floats) -> Ends:
    """Ends of the wait at a queue of several servers alone, at one process of renewal arrivals."""
    below = _core.several_servers_wait_lower(float(queue.mean()), queue.servers, core_arrival(arrival), times)
    method = np.full(times.shape, "queue")
    return Ends(below, np.ones(times.shape), method, method)


def one_of_several(
    queue: Server, stages: list[Any], wait: Callable[[Floats], Ends], times: Floats, effort: str
) -> Ends:
    """Ends of the wait at one queue that all requests come to, and one time of every stage.

    The path that stays in that queue passes each other stage at a request which its services have no part in.
    """
    others = [stage.stage if isinstance(stage, Delay) else stage for stage in stages if stage is not queue]
    single = [stage for stage in others if stage.servers == 1]
    fixed = [part for stage in single for part in plain_stages(stage) if part[0] == "deterministic"]
    random = [stage for stage in single if stage.core_stages()[0][0] != "deterministic"]
    constant = sum(float(stage.mean()) for stage in (queue, *others) if stage.servers > 1)
    times = times - constant - sum(float(part[1]) for part in fixed)
    return _added(wait, random, times, effort) if random else wait(times)


def added_queues(queues: Sequence[Any], arrival: ArrivalProcess, times: Floats) -> Ends:
    """Upper ends for servers in a row, added one after the other, at one process of renewal arrivals.

    See `csrc/edgeinfer/several_servers.h`; 1 where there is none.
    """
    core: list[CoreStage] = [
        ("deterministic", float(stage.mean())) if stage.servers > 1 else stage.core_stages()[0] for stage in queues
    ]
    servers = np.array([stage.servers for stage in queues], dtype=np.uintp)
    rest = times - sum(map(propagation_of, core))
    above = _core.several_servers_upper(core, servers, core_arrival(arrival), rest)
    method = np.full(times.shape, "added_stage")
    return Ends(np.zeros(times.shape), above, method, method)


def _mixed(stages: list[Any], asked: Asked, times: Floats) -> Ends:
    """Constants and delays at the ends off, the rest, and the delays added."""
    constant = sum(float(stage.stage.mean()) for stage in stages if is_constant(stage))
    stages = [stage for stage in stages if not is_constant(stage)]
    times = times - constant
    delays = [stage.stage for stage in stages if isinstance(stage, Delay)]
    queues = [stage for stage in stages if not isinstance(stage, Delay)]
    if not queues:
        if not delays:
            return _certain(False, times)
        return _sum_ends(delays, times, asked.effort)
    # A queue needs a service that takes time; one of no time holds up nobody.
    if delays and len(queues) == 1 and isinstance(queues[0], Server) and float(queues[0].mean()) > 0:
        others = [part for stage in [queues[0], *delays] for part in plain_stages(stage)]
        size = np.full(times.shape, asked.rate)
        return named_ends(_core.queue_bracket(others[:1], others, size, times))
    if delays:
        return _added(lambda t: _paths([], queues, asked, t), delays, times, asked.effort)
    return _paths([], queues, asked, times)


def plain_stages(stage: Server) -> list[CoreStage]:
    """A stage whose time is only added, with what its link adds behind it as one of its own."""
    parts: list[CoreStage] = []
    for core in stage.core_stages():
        parts.append(core[:2])
        if propagation_of(core):
            parts.append(("deterministic", propagation_of(core)))
    return parts


def _sum_ends(stages: list[Server], times: Floats, effort: str) -> Ends:
    """Of independent times alone."""
    plain = [stage for stage in stages if not isinstance(stage, Session)]
    sessions = [stage for stage in stages if isinstance(stage, Session)]
    laws = ([law_of(tuple(plain))] if plain else []) + [stage.core_stages()[0][1] for stage in sessions]

    def first(t: Floats) -> Ends:
        low, high = laws[0].sf(t)
        method = np.full(t.shape, "delays")
        return Ends(low, high, method, method)

    return reduce(lambda found, law: lambda t: _added_law(found, law, t, effort), laws[1:], first)(times)


def _added(ends: Callable[[Floats], Ends], delays: list[Server], times: Floats, effort: str) -> Ends:
    """Ends of W + Z from those of W, Z the sum of delays."""
    plain = [stage for stage in delays if not isinstance(stage, Session)]
    laws = ([law_of(tuple(plain))] if plain else []) + [
        stage.core_stages()[0][1] for stage in delays if isinstance(stage, Session)
    ]
    return reduce(lambda found, law: lambda t: _added_law(found, law, t, effort), laws, ends)(times)


def _added_law(ends: Callable[[Floats], Ends], law: _core.Compound, times: Floats, effort: str) -> Ends:
    """Ends of W + Z, Z of a law known from both sides: E f(Z), f(z) = P(W > t - z), which grows with z."""
    method = np.full(times.shape, "delays")
    # Times far below 0, before which everything is late, need no places of their own, and inf is met by all.
    late, never = times < 0, np.isinf(times)
    times = np.where(late | never, 0.0, times)
    top = float(law.mean) or 1.0
    while law.sf(np.array([top]))[1][0] > BEYOND:
        top *= 1.25
    step, cells = top / CELLS[effort], np.arange(CELLS[effort] + 1)
    # All deadlines ask for W at the multiples of the step below them, so that near ones ask for the same.
    below = np.minimum(np.maximum(np.floor(times / step)[:, None] - cells, -1) * step, times[:, None])
    at = np.column_stack([times, below])
    edge = times[:, None] - at
    slack = 4 * np.finfo(float).eps * times[:, None]
    low = law.sf((edge + slack).ravel())[0].reshape(edge.shape)
    high = law.sf(np.maximum(edge - slack, 0).ravel())[1].reshape(edge.shape)
    asked, place = np.unique(at, return_inverse=True)
    found, place = ends(asked), place.reshape(at.shape)
    # What is known at one z holds at all that are larger, or smaller.
    near = np.maximum.accumulate(found.lower[place], axis=1)
    far = np.minimum.accumulate(found.upper[place][:, ::-1], axis=1)[:, ::-1]
    bottom = near[:, 0] + (np.diff(near, axis=1) * low[:, 1:]).sum(axis=1)
    above = far[:, 0] + (np.diff(far, axis=1) * high[:, :-1]).sum(axis=1) + (1 - far[:, -1]) * high[:, -1]
    bottom, above = np.clip(bottom * (1 - 1e-12), 0, 1), np.minimum(above * (1 + 1e-12), 1)
    bottom, above = (np.where(never, 0.0, np.where(late, 1.0, part)) for part in (bottom, above))
    return Ends(bottom, above, method, method)


def _chain(stages: list[Any], asked: Asked, times: Floats) -> Ends:
    """Ends of servers in a row, each a stage or what the core takes."""
    if not stages:
        return _certain(False, times)
    core = [stage.core_stages()[0] if isinstance(stage, Server) else stage for stage in stages]
    shift = sum(map(propagation_of, core))
    arrival, effort = core_arrival(Poisson(asked.rate)), EFFORTS.index(asked.effort)
    rates = np.full(times.shape, asked.rate)
    return named_ends(_core.violation_bracket(core, rates, times - shift, arrival, effort))


def _paths(before: list[Any], rest: list[Any], asked: Asked, times: Floats) -> Ends:
    """Ends of servers `before`, and of the rest with its forks and, at its end, a review."""
    if any(isinstance(stage, Delay) for stage in rest):
        return _mixed(before + rest, asked, times)
    for at, stage in enumerate(rest):
        if isinstance(stage, Fork):
            return _fork(before + rest[:at], stage, rest[at + 1 :], asked, times)
        if isinstance(stage, Review):
            return _review(before + rest[:at], stage, asked, times)
    return _chain(before + rest, asked, times)


def review_law(review: Review) -> _core.Compound:
    """The service of a reviewer who takes no time for those that need none."""
    inside = review.stage
    stages, number = (inside.stages, inside.number) if isinstance(inside, Session) else ((inside,), np.ones(1))
    share = float(review.probability)
    return law_of(stages, np.append(1 - share, share * number))


def _review(before: list[Any], review: Review, asked: Asked, times: Floats) -> Ends:
    """Ends where the last of the stages is a review."""
    share, method = float(review.probability), np.full(times.shape, "review")
    served: list[Any] = [("compound", review_law(review))]
    if not before:
        answer = _core.queue_bracket(served, plain_stages(review.stage), np.full(times.shape, asked.rate), times)
        late = named_ends(answer)
        lower, upper = (np.where(times < 0, 1.0, share * part) for part in (late.lower, late.upper))
        return Ends(lower, upper, late.lower_method, late.upper_method)
    without = _paths([], before, asked, times)
    with_it = _added(lambda t: _paths([], before, asked, t), [review.stage], times, asked.effort)
    queue = _chain([*before, *served], asked, times)
    later = np.maximum(with_it.lower, queue.lower)
    lower = np.maximum((1 - share) * without.lower + share * later, without.lower)
    return Ends(lower, np.maximum(queue.upper, lower), method, queue.upper_method)


def _fork(before: list[Any], fork: Fork, tail: list[Any], asked: Asked, times: Floats) -> Ends:
    whole = [_paths(before, [*branch, *tail], asked, times) for branch in fork.branches]
    count, late = len(whole), len(whole) - fork.needed + 1
    upper = np.sort([ends.upper for ends in whole], axis=0)
    with np.errstate(divide="ignore"):
        joint = -np.expm1(np.log1p(-upper[: fork.needed]).sum(axis=0))
    above = np.minimum(np.minimum(joint * (1 + 1e-12), upper.sum(axis=0) / late), 1)
    method = np.full(times.shape, "branches")
    least = sum(_least(stage) for stage in tail)
    if late == 1 and not before:
        # Whichever branch is looked at, the others take at least their own services for this request.
        alone = np.array([_alone(branch, times - least, asked.effort) for branch in fork.branches])
        others = np.array([np.delete(alone, b, axis=0) for b in range(count)])
        each = np.array([ends.lower for ends in whole])
        with np.errstate(divide="ignore"):
            lower = 0.0 - np.expm1(np.log1p(-each) + np.log1p(-others).sum(axis=1)).min(axis=0)
        return Ends(lower * (1 - 1e-12), np.maximum(above, lower), method, method)
    if late == 1 or not tail:
        lower = np.sort([ends.lower for ends in whole], axis=0)[count - late :].prod(axis=0)
        return Ends(lower * (1 - 1e-12), np.maximum(above, lower), method, method)
    parts = [_paths(before, list(branch), asked, times - least).lower for branch in fork.branches]
    behind = _paths([], tail, asked, times)
    lower = np.maximum(np.sort(parts, axis=0)[count - late :].prod(axis=0), behind.lower) * (1 - 1e-12)
    return Ends(lower, np.maximum(above, lower), method, method)


def _alone(branch: Pipeline, times: Floats, effort: str) -> Floats:
    """A lower end of P(own services of a request in a branch > t)."""
    stages = [stage.stage if isinstance(stage, Delay) else stage for stage in branch]
    servers = [stage for stage in stages if isinstance(stage, Server)]
    if len(servers) == len(stages):
        return np.where(times < 0, 1.0, _sum_ends(servers, times, effort).lower)
    return np.where(times < sum(map(_least, branch)), 1.0, 0.0)


def least_service(stage: Server) -> float:
    """The least time that a request keeps the server of a stage, s."""
    return float(_core.service_spans(stage.core_stages())[0, 0])


def _least(stage: Any) -> float:
    """A time that no request takes less than, s."""
    if isinstance(stage, Fork):
        return sorted(sum(map(_least, branch)) for branch in stage.branches)[stage.needed - 1]
    if isinstance(stage, Review):
        return 0.0
    server = stage.stage if isinstance(stage, Delay) else stage
    return least_service(server) + propagation_of(server.core_stages()[0])


def over_family(
    ends: Callable[[Pipeline, float, Floats], Ends],
    pipeline: Pipeline,
    rates: Any,
    deadlines: Any,
    shape: tuple[int, ...],
) -> tuple[Floats, Floats, NDArray[Any], NDArray[Any]]:
    """What `ends` says of each pipeline of a family at its rates and deadlines, flat over `shape`."""
    size = int(np.prod(shape))
    owner = np.broadcast_to(np.arange(int(np.prod(pipeline.shape))).reshape(pipeline.shape), shape).ravel()
    rate, times = _validate.flat(rates, shape), _validate.flat(deadlines, shape)
    whole = np.empty(size), np.empty(size), np.empty(size, dtype="<U24"), np.empty(size, dtype="<U24")
    for index in np.unique(owner):
        single = pipeline.element(int(index)) if pipeline.shape else pipeline
        for value in np.unique(rate[owner == index]):
            at = np.flatnonzero((owner == index) & (rate == value))
            found = ends(single, float(value), times[at])
            for all_of, part in zip(
                whole, (found.lower, found.upper, found.lower_method, found.upper_method), strict=True
            ):
                all_of[at] = part
    return whole
