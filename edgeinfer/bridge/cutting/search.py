"""Where to cut: the best cut for an objective, the candidates, the best for each rate, and cuts of a chain."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.bridge.cutting.cuts import Cut
from edgeinfer.bridge.cutting.problem import Problem, read_problem
from edgeinfer.model import Node, Pipeline
from edgeinfer.model.pipelines import Link

OBJECTIVES = ("latency", "throughput", "violation")


#: (pipeline, arrival rate, deadline) -> an upper bound on the violation probability, or an object with `upper`.
UpperBound = Callable[[Pipeline, float, float], Any]


# A branch whose bound is this close to the best cut, relatively, is not followed.
_TOLERANCE = 1e-9


# Weights of one stage against another that candidates are sought with.
_RATIOS = 2.0 ** np.arange(-6, 7, 2)


def cut(
    model: Any,
    *,
    device: Node,
    edge: Node | Sequence[Node],
    link: Link | Sequence[Link],
    downlink: Link | Sequence[Link] | None = None,
    objective: str = "latency",
    deadline: float | None = None,
    arrival_rate: float | None = None,
    bracket: UpperBound | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    transfer: str = "ergodic",
    solves: int | None = None,
) -> Cut:
    """The best cut of a network between a device, where its input arises, and one or several edge nodes.

    An operation runs on one node of the chain, never before what it reads; a tensor crosses each link at most once,
    whoever reads it; weights never cross, nor does a tensor that `stays`. A minimum cut finds the best of *all* such
    divisions for every objective that is a sum over operations and tensors: with n nodes, each operation has n - 1
    vertices "it runs at place h or before", an edge of infinite capacity for each implication (at h implies at h + 1; a
    reader at h implies its writer at h), and the cost of operation v at place j as the capacity between its vertices j
    and j - 1. A tensor of b bits costs b / E[R] on link h where its writer is at h or before and one of its readers is
    not: one more vertex a hop for a tensor of several readers. Each term is a capacity from a true to a false vertex,
    so finite cuts and divisions correspond one to one, cost for cost.

    latency: with transfer="ergodic" a transfer takes b / E[R], as in the paper: `value` is the minimum, and `bound`
    equals it. The exact mean of a transfer is larger, by a part of a slot, and not additive in the bits; with
    transfer="exact", `value` is the exact mean latency of the best of the minimiser and of the divisions with all
    operations on one node, and `bound` is still the minimum with b / E[R], below the mean latency of every cut.
    throughput: one over the slowest stage's time, b / E[R] for a transfer. Exact by branch and bound, the bounds
    from minimum cuts of weighted sums of the stages; NP-hard in general, so that it stops after `solves` minimum
    cuts, and `bound` says how far any cut could go.
    violation: the least upper bound on P(sojourn time > deadline) among `candidates`, but for those whose transfer's
    law the bracket refuses (it raises what it raised where that is all of them). The bound comes as `bracket`,
    because the bridge knows the model alone: give it `edgeinfer.violation_bracket`.

    Parameters
    ----------
    model : path, onnx.ModelProto, Graph or NetworkProfile
        With a profile the times are the measured ones, scaled by the nodes' FLOP/s; otherwise FLOP over FLOP/s, where
        what `count_flops` does not count costs nothing. A model with operations whose FLOP are unknown is measured,
        with a warning.
    device : Node
    edge : Node or sequence of Node
        Several: a chain, the nearest first.
    link : FadingLink, ConstantLink, OutageLink, MarkovLink or TraceLink, or sequence of them
        To each edge node from the node before; without a latency of its own.
    downlink : as link, optional
        Where the outputs must come back to the device: from each edge node to the node before.
    objective : {"latency", "throughput", "violation"}
    deadline : float, s, optional
        For "violation", >= 0.
    arrival_rate : float, 1/s, optional
        Of Poisson arrivals, for "violation", > 0.
    bracket : callable, optional
        For "violation": bracket(pipeline, arrival_rate, deadline) gives an upper bound, or an object whose `upper` is.
    shapes : mapping, optional
        It is as for `read_graph`.
    transfer : {"ergodic", "exact"}
        Time of a transfer, for "latency". The exact law takes the core seconds for some thousand slots, and is refused
        for bits far below or beyond what a slot carries.
    solves : int, optional
        Most minimum cuts for "throughput", >= 1; 200 where left out, fewer beyond a thousand operations.

    Returns
    -------
    Cut

    Raises
    ------
    ValueError
        Naming the argument: nodes or links that are arrays, numbers of nodes and links that do not fit, a link of
        zero rate; and as `read_graph`.

    Examples
    --------
    >>> from edgeinfer import Node, RayleighLink
    >>> from edgeinfer.bridge import Graph, Operation, Tensor
    >>> tensors = {"x": Tensor("x", "uint8", (1000,), 8000), "h": Tensor("h", "uint8", (10,), 80)}
    >>> tensors["y"] = Tensor("y", "uint8", (1,), 8)
    >>> first = Operation(0, "reduce", "Conv", ("x",), ("h",), 10**6, 0)
    >>> second = Operation(1, "classify", "Gemm", ("h",), ("y",), 10**8, 0)
    >>> graph = Graph("two", "", (first, second), tensors, ("x",), ("y",))
    >>> link = RayleighLink(1e5, 31, -100, 128.1, 1e-3)
    >>> best = cut(graph, device=Node("device", 1e9), edge=Node("edge", 1e11), link=link)
    >>> best.places, best.crossing, best.bits
    ((0, 1), (('h',),), (80,))
    """
    _validate.choice("objective", objective, OBJECTIVES)
    _validate.choice("transfer", transfer, ("ergodic", "exact"))
    problem = read_problem(model, device, edge, link, downlink, shapes)
    if objective == "latency":
        places = problem.solve(np.ones(problem.stages))
        floor = float(problem.costs(places).sum())
        if transfer == "ergodic":
            return problem.cut(places, objective, floor, floor)
        value = np.inf
        for least, option in sorted((float(problem.costs(p).sum()), p) for p in {places, *problem.extremes()}):
            # A mean latency is never below b / E[R]'s; the law of a far longer transfer is not asked for.
            if least < value and (mean := problem.cut(option, objective).latency) < value:
                value, places = mean, option
        return problem.cut(places, objective, value, floor)
    if objective == "throughput":
        usual = min(200, 1 + 200_000 // len(problem.graph.operations))
        places, worst, least = _slowest_stage(
            problem, usual if solves is None else _validate.whole("solves", solves, 1)
        )
        return problem.cut(places, objective, 1 / worst if worst else np.inf, 1 / least if least else np.inf)
    if deadline is None or arrival_rate is None or bracket is None:
        missing = "deadline" if deadline is None else "arrival_rate" if arrival_rate is None else "bracket"
        raise ValueError(f"{missing} = None: objective 'violation' needs one; bracket is edgeinfer.violation_bracket")
    deadline = _validate.scalar("deadline", deadline, 0, unit="s")
    arrival_rate = _validate.scalar("arrival_rate", arrival_rate, 0, low_open=True, unit="1/s")
    rated, refused = [], None
    for candidate in _candidates(problem):
        costs = problem.costs(candidate.places)
        upper: Any = 1.0
        if costs.max() * arrival_rate < 1:
            try:
                answer = bracket(candidate.pipeline(), arrival_rate, deadline)
            except ValueError as error:
                refused = error
                continue
            upper = getattr(answer, "upper", answer)
        rated.append((float(upper), float(costs.sum()), candidate.places))
    if not rated:
        assert refused is not None
        raise refused
    value, _, places = min(rated)
    return problem.cut(places, objective, value)


def candidates(
    model: Any,
    *,
    device: Node,
    edge: Node | Sequence[Node],
    link: Link | Sequence[Link],
    downlink: Link | Sequence[Link] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> tuple[Cut, ...]:
    """Cuts worth comparing by what is not a sum of stages, ascending by latency (b / E[R] for transfers).

    The minimisers of weighted sums of the stages' times over a grid of weights, and the prefixes of the order of the
    operations; of them those that no other of them beats in latency, slowest stage and time on the links at once.

    Parameters
    ----------
    model, device, edge, link, downlink, shapes
        They are as for `cut`.

    Examples
    --------
    >>> from edgeinfer import Node, RayleighLink
    >>> from edgeinfer.network import light_model
    >>> device, edge, link = Node("device", 5e9), Node("edge", 500e9), RayleighLink(5e6, 23, -100, 105, 0.005)
    >>> [round(each.value, 2) for each in candidates(light_model("squeezenet"), device=device, edge=edge, link=link)]
    [0.07, 0.07, 0.08, 0.14]
    """
    return tuple(_candidates(read_problem(model, device, edge, link, downlink, shapes)))


@dataclass(frozen=True, eq=False)
class BestCuts(_validate.Frozen):
    """The cut of least latency for every rate of the link, as `best_cuts` finds them.

    Attributes
    ----------
    cuts : tuple of Cut
        From what is best on the slowest link (all on the device) to what is best on the fastest; `value` and `bound`
        are left out (NaN), since they depend on the rate.
    rates : (m - 1,) ndarray, bit/s
        Ascending: the mean rate of the link from which on the next cut is the best.
    """

    cuts: tuple[Cut, ...]
    rates: NDArray[np.float64]

    def at(self, rate: float) -> Cut:
        """The best cut where the link's mean rate is `rate`, bit/s, >= 0."""
        return self.cuts[int(np.searchsorted(self.rates, _validate.scalar("rate", rate, 0, unit="bit/s"), "right"))]


def best_cuts(
    model: Any,
    *,
    device: Node,
    edge: Node | Sequence[Node],
    link: Link | Sequence[Link],
    downlink: Link | Sequence[Link] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    among: Sequence[Sequence[int]] | None = None,
) -> BestCuts:
    """The best cut for latency at every rate of the link, so that a change of the rate needs no search.

    Transfers take b / E[R]. A division's latency is its computing time plus 1 / rate times a constant: a line. The
    least latency over 1 / rate is the lower envelope of the lines of all divisions, found exactly: a minimum cut where
    two lines of the envelope meet gives a line below their crossing, or proves that there is none.

    Parameters
    ----------
    model, device, edge, link, downlink, shapes
        As for `cut`. Where there are several links, their rates change in proportion; `BestCuts.rates` is the first
        one's.
    among : sequence of sequences of int, optional
        `Cut.places` of valid cuts: only the best of these, where not every cut can be had.

    Returns
    -------
    BestCuts

    Examples
    --------
    >>> from edgeinfer import Node, RayleighLink
    >>> from edgeinfer.bridge import light_path, read_graph
    >>> graph, link = read_graph(light_path("squeezenet")), RayleighLink.from_snr(2.0, 1e6, 1e-3)
    >>> found = best_cuts(graph, device=Node("device", 1e9), edge=Node("edge", 1e11), link=link)
    >>> [option.places.count(0) for option in found.cuts]
    [66, 34, 19, 4, 0]
    """
    problem = read_problem(model, device, edge, link, downlink, shapes)
    computing = len(problem.nodes)

    def line(places: tuple[int, ...]) -> tuple[float, float]:
        costs = problem.costs(places)
        return float(costs[:computing].sum()), float(costs[computing:].sum())

    def best(slowness: float) -> tuple[int, ...]:
        return problem.solve(np.r_[np.ones(computing), np.full(problem.stages - computing, slowness)])

    if among is not None:
        lines = {places: line(places) for places in map(tuple, among)}
        if not lines:
            raise ValueError("among = []: must be at least one cut")
        return _envelope(problem, lines)
    slowest, fastest = problem.extremes()[0], best(0.0)
    lines = {slowest: line(slowest), fastest: line(fastest)}
    stack = [(fastest, slowest)]
    while stack:
        left, right = stack.pop()
        (time, bits), (more_time, less_bits) = lines[left], lines[right]
        if not (bits > less_bits and more_time > time):
            continue
        crossing = (more_time - time) / (bits - less_bits)
        middle = best(crossing)
        lines[middle] = line(middle)
        if lines[middle][0] + crossing * lines[middle][1] < (time + crossing * bits) * (1 - _TOLERANCE):
            stack += [(left, middle), (middle, right)]
    return _envelope(problem, lines)


def _envelope(problem: "Problem", lines: Mapping[tuple[int, ...], tuple[float, float]]) -> BestCuts:
    """Of lines (time, slope over 1 / rate) those that are the lowest somewhere, from the steepest to the flattest."""
    envelope: list[tuple[tuple[int, ...], float]] = []
    for places in sorted(lines, key=lambda places: (-lines[places][1], lines[places][0])):
        time, bits = lines[places]
        since = 0.0
        while envelope:
            last, begun = envelope[-1]
            more, steeper = time - lines[last][0], lines[last][1] - bits
            since = more / steeper if steeper else np.inf
            if more > 0 and since > begun:
                break
            envelope.pop()
            since = 0.0
        if since < np.inf:
            envelope.append((places, since))
    ordered = envelope[::-1]
    rates = [problem.rates[0] / since for _, since in ordered[:-1]]
    return BestCuts(tuple(problem.cut(places, "latency") for places, _ in ordered), np.array(rates))


def chain_cuts(
    model: Any,
    *,
    device: Node,
    edge: Node,
    link: Link,
    downlink: Link | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    single: bool = False,
) -> tuple[Cut, ...]:
    """Cuts after a prefix of the order of the operations: what a search along a chain of layers knows.

    Parameters
    ----------
    model, device, edge, link, downlink, shapes
        As for `cut`, one edge node.
    single : bool
        Only those where a single tensor crosses, or none: cuts between layers of a chain, as Neurosurgeon's.

    Returns
    -------
    tuple of Cut
        From none to all on the device.

    Examples
    --------
    >>> from edgeinfer import Node, RayleighLink
    >>> from edgeinfer.network import light_model
    >>> device, edge, link = Node("device", 5e9), Node("edge", 500e9), RayleighLink(5e6, 23, -100, 105, 0.005)
    >>> cuts = chain_cuts(light_model("squeezenet"), device=device, edge=edge, link=link, single=True)
    >>> len(cuts), round(min(each.value for each in cuts), 3)
    (35, 0.068)
    """
    problem = read_problem(model, device, edge, link, downlink, shapes)
    if len(problem.nodes) != 2:
        raise ValueError(f"edge = {edge!r}: must be one node")
    costs, tensors, allowed = problem.prefixes()
    lengths = np.flatnonzero(allowed & (tensors <= 1) if single else allowed)
    return tuple(problem.cut(problem.prefix(int(k)), "latency", float(costs[k].sum())) for k in lengths)


def _slowest_stage(problem: Problem, solves: int) -> tuple[tuple[int, ...], float, float]:
    """Places with the least slowest stage, its time, and a lower bound on it.

    For weights w >= 0 that sum to one, max_i c_i >= w . c, whose minimum over all divisions is a minimum cut. Cutting
    planes raise the bound over w until the weights are the best ones; where the minimisers they met disagree on an
    operation, its places are divided in two and both parts are bounded likewise.
    """
    count, stages = len(problem.graph.operations), problem.stages
    best_places, best = min(
        ((places, float(problem.costs(places).max())) for places in problem.extremes()), key=lambda pair: pair[1]
    )
    everywhere = np.zeros(count, np.int64), np.full(count, len(problem.links))
    heap: list[tuple[float, int, Any, Any]] = [(0.0, 0, *everywhere)]
    ties, spent, open_bound = 0, 0, np.inf
    while heap and heap[0][0] < best * (1 - _TOLERANCE):
        if spent >= solves:
            open_bound = heap[0][0]
            break
        bound, _, low, high = heapq.heappop(heap)
        weights = np.full(stages, 1 / stages)
        met: dict[tuple[int, ...], NDArray[np.float64]] = {}
        while spent < solves:
            places = problem.solve(weights, low, high)
            spent += 1
            costs = problem.costs(places)
            bound = max(bound, float(weights @ costs))
            if costs.max() < best:
                best_places, best = places, float(costs.max())
            if places in met or bound >= best * (1 - _TOLERANCE):
                break
            met[places] = costs
            weights, ceiling = _best_weights(np.array(list(met.values())))
            if ceiling <= bound * (1 + _TOLERANCE):
                break
        if bound >= best * (1 - _TOLERANCE):
            continue
        options = np.array([*met, places])
        spread = options.max(axis=0) - options.min(axis=0)
        if spread.any():
            differ = np.flatnonzero(spread)
            at = differ[len(differ) // 2]
            middle = int(options[:, at].min() + options[:, at].max()) // 2
        else:
            # Stopped before a second minimiser was met.
            free = np.flatnonzero(low < high)
            if not free.size:
                continue
            at = free[len(free) // 2]
            middle = int(low[at])
        below, above = high.copy(), low.copy()
        below[at], above[at] = middle, middle + 1
        heapq.heappush(heap, (bound, ties + 1, low, below))
        heapq.heappush(heap, (bound, ties + 2, above, high))
        ties += 2
    return best_places, best, min(open_bound, best)


def _best_weights(costs: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Weights on the simplex that maximise the least w . c over the rows, and that maximum."""
    rows, stages = costs.shape
    scale = costs.max() or 1.0
    answer = need("scipy.optimize", "bridge").linprog(
        np.r_[np.zeros(stages), -1.0],
        A_ub=np.c_[-costs / scale, np.ones(rows)],
        b_ub=np.zeros(rows),
        A_eq=np.r_[np.ones(stages), 0.0][None],
        b_eq=[1.0],
        bounds=[(0, None)] * stages + [(None, None)],
    )
    weights = np.maximum(answer.x[:-1], 0)
    weights /= weights.sum()
    return weights, float((costs @ weights).min())


def _candidates(problem: Problem) -> list[Cut]:
    stages = problem.stages
    found = {places: problem.costs(places) for places in problem.extremes()}
    scale = np.maximum.reduce(list(found.values()))
    scale[scale == 0] = 1.0
    first, *others = np.eye(stages)
    directions = [np.ones(stages) / stages]
    for other in others:
        directions += [first + ratio * other for ratio in _RATIOS]
    for ratio in _RATIOS:
        for other in others:
            directions.append(np.ones(stages) / stages + ratio * other)
    for weights in (np.ones(stages), *(direction / scale for direction in directions)):
        places = problem.solve(weights)
        found.setdefault(places, problem.costs(places))
    every, _, allowed = problem.prefixes()
    for length in np.flatnonzero(allowed):
        found.setdefault(problem.prefix(int(length)), every[length])
    costs = np.array(list(found.values()))
    marks = np.column_stack([costs.sum(axis=1), costs.max(axis=1), costs[:, len(problem.nodes) :].sum(axis=1)])
    kept = []
    for places, mark in zip(found, marks, strict=True):
        if not ((marks <= mark).all(axis=1) & (marks < mark).any(axis=1)).any():
            kept.append((float(mark[0]), places))
    return [problem.cut(places, "latency", total) for total, places in sorted(kept)]
