"""The upper end of the wait at an edge behind queues of the terminals' own, such as uplinks.

For the tagged request's wait w_0 before the edge and its wait there, given its services, and every y, j' and eps > 0,

    P(w_0 + wait > c) <= P(w_0 > y) + P(A + V > c - y)
                         + others' r / eps E[(w - j')^+] + r (1 + eps) / eps E[(J - j')^+],

as docs/theory/cells.md proves: V is the wait of an M/G/1 queue with all rates 1 + eps times as large, A the work that
comes to it within j', or j' itself, r a terminal's rate, w its wait before the edge, and J that with its services, less
the least that these take, or more.

E[(J - x)^+] is the integral of P(J > t) from x on, by left ends up to some T, and beyond at most
e^{-theta T} E[e^{theta J}] / theta; held for all services, a terminal's queues are one server, with
E[e^{theta J}] <= m / (1 - q), m = E[e^{theta B}], q = m r / (r + theta).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.cell.behind import SHARES, Shared, exponent
from edgeinfer.cell.edges import hurried, in_order, own_wait, users
from edgeinfer.cell.lattice import HAIR, Law, piecewise_constant, stage_law
from edgeinfer.cell.model import Cell, Terminals
from edgeinfer.cell.stations import own_stage
from edgeinfer.delay import violation_bracket
from edgeinfer.delay.composed import is_composed, is_constant, least_service
from edgeinfer.model import Constant, Delay, Pipeline, Poisson, Transfer

Floats = NDArray[np.float64]
#: Steps of y and j'; and eps, as shares of what stability leaves.
STEPS, SLACKS = 500, (0.03, 0.1, 0.2, 0.35, 0.6)
#: j' between two at which what has gathered at the edge is counted, in steps.
STRIDE = 4
#: Exponents for what lies beyond are sought below this over the mean services.
SHARPEST = 20.0


def queued_before(cell: Cell, kind: Terminals, place: int, deadline: float) -> tuple[Shared, list[Law]] | None:
    """The wait of a class before and at an edge, from above, and its services before; None where none is known."""
    edge, (kinds, counts) = cell.edges[place], users(cell, place)
    one = edge.servers == 1 and (len(cell.edges) == 1 or cell.assignment == "nearest")
    if not one or (edge.batch is not None and edge.batch.limit > 1) or not in_order(cell, kinds, edge):
        return None
    times = np.asarray(deadline / STEPS * np.arange(STEPS + 1), dtype=np.float64)
    found = [_before(cell, each, times) for each in kinds]
    own = next(each for other, each in zip(kinds, found, strict=True) if other is kind)
    if own is None:
        return None
    others, best, decay = np.zeros(STEPS + 1), np.ones(STEPS + 1), np.inf
    for each, count, tails in zip(kinds, counts, found, strict=True):
        if tails is None:
            return None
        if count > (each is kind):
            others += (count - (each is kind)) * each.mean_rate * tails.wait_excess
    for share in SLACKS:
        faster = hurried(cell, place, share, deadline)
        if faster is None:
            return None
        more, wait, services = faster
        broken = (others + kind.mean_rate * (1 + more) * own.excess) / more
        tail = np.minimum(wait.wait.upper(times), 1)
        there, (mass, beyond) = _least_sums(broken, tail), _gathered(services, times, STRIDE)
        for late in broken[::STRIDE]:
            there = np.minimum(there, late + tail)
            tail = np.minimum(np.convolve(mass, tail)[: len(times)] + beyond, 1)
        ends = _least_sums(own.wait, there)
        best, decay = np.minimum(best, ends), min(decay, wait.decay)
    upper = piecewise_constant(best, float(times[1]), float(best[-1]))
    law = Law(upper, lambda t: np.where(np.asarray(t) < 0, 1.0, 0.0))
    return Shared(law, decay, lambda theta: np.inf), own.services


@dataclass(frozen=True)
class _Tails:
    """Of a class before the edge, from above, at times: P(w > t), E[(w - t)^+], E[(J - t)^+]; and its services there.

    J is counted from the least that its services take in all; for several queues that is w, and the services are the
    least.
    """

    wait: Floats
    wait_excess: Floats
    excess: Floats
    services: list[Law]


def _before(cell: Cell, kind: Terminals, times: Floats) -> _Tails | None:
    assert kind.edge_index is not None
    if not isinstance(kind.process, Poisson):
        return None
    # Delays before all queues leave a Poisson process one, and constant ones behind them hold nobody up.
    queue = next((k for k in range(kind.edge_index) if not isinstance(kind.pipeline[k], Delay)), kind.edge_index)
    places = [k for k in range(queue, kind.edge_index) if not is_constant(kind.pipeline[k])]
    if not places:
        return _Tails(0 * times, 0 * times, 0 * times, [])
    stages: list[Any] = [own_stage(cell, kind, k) for k in places]
    shared = any((band := cell.band(kind, k)) is not None and band.scheduler != "dedicated" for k in places)
    if shared or is_composed(Pipeline(stages)) or any(isinstance(s, Transfer) and s.dependent for s in stages):
        return None
    rate, laws = kind.mean_rate, [stage_law(stage) for stage in stages]
    latency = sum(float(stage.propagation) for stage in stages if isinstance(stage, Transfer))
    least = sum(least_service(stage) for stage in stages) * (1 - HAIR)
    # Twice as far, where hardly anything lies beyond.
    far = np.append(times, times[-1] + times[1:])
    sojourn = np.asarray(violation_bracket(Pipeline(stages), rate, far + latency + least, effort="light").upper)
    alone = own_wait(stages[0], rate, float(far[-1])) if len(stages) == 1 else None
    wait = sojourn if alone is None else np.minimum(alone.upper(far), 1)
    beyond, mean = np.inf, max(sum(float(stage.mean()) for stage in stages), 1e-200)
    for theta in exponent(SHARPEST / mean, laws, rate) * SHARES:
        moment = float(np.prod([law.moment(theta) for law in laws]))
        more = moment * rate / (rate + theta)
        if more < 1:
            beyond = min(beyond, float(np.exp(-theta * far[-1])) * moment / (1 - more) / theta)
    size = len(times)
    of_wait, of_all = (times[1] * np.cumsum(tail[::-1])[::-1] + beyond for tail in (wait, sojourn))
    # What stands for the wait in several queues has in it all that services take beyond the least.
    return _Tails(wait[:size], of_wait[:size], of_all[:size], laws if alone else [stage_law(Constant(least, "least"))])


def _gathered(services: list[tuple[float, Law]], times: Floats, steps: int) -> tuple[Floats, Floats]:
    """Work of Poisson requests of `steps` steps, each rounded up to a step: P(it is k steps), and P(it is more)."""
    tails = np.zeros(len(times) + 1)
    for rate, law in services:
        tails += rate * steps * times[1] * np.append(1.0, np.minimum(law.upper(times), 1))
    jumps, places, mass = -np.diff(tails), np.arange(len(times)), np.zeros(len(times))
    mass[0], moved = np.exp(-tails[1]), places * jumps
    for n in places[1:]:
        # Panjer's recursion.
        mass[n] = moved[1 : n + 1] @ mass[n - 1 :: -1] / n
    mass *= 1 + 1e-9
    some, far = jumps > 0, np.inf
    for theta in np.geomspace(1e-3, 10, 30):
        with np.errstate(over="ignore"):
            far = min(far, float(np.exp(jumps[some] @ np.expm1(theta * places[some]) - theta * len(times))))
    return mass, np.append(np.cumsum(mass[:0:-1])[::-1], 0.0) + far + tails[-1]


def _least_sums(first: Floats, second: Floats) -> Floats:
    """At k, the least of first[i] + second[k - i]."""
    return np.array([np.min(first[: k + 1] + second[k::-1]) for k in range(len(first))])
