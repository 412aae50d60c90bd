"""Stationary laws of the queues that terminals share: M/G/1, batches. Seconds; rates in 1/s."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgeinfer.cell.lattice import Law, Tail, piecewise_constant
from edgeinfer.delay.constant_servers import STATES, poisson, stationary

Floats = NDArray[np.float64]


def mg_1_wait(
    rate: float,
    upper: Tail,
    lower: Tail,
    mean: float,
    reach: float,
    horizon: Callable[[float], float],
    moment: Callable[[float], float],
) -> tuple[Tail, Tail, float] | None:
    """Both ends of the wait of M/G/1 at times up to a deadline, and its decay rate; None where rounding loses that.

    The wait is a geometric sum of ladder heights of density P(S > u) / E[S]; on a lattice their places are rounded up
    or down, and their masses, by the ends of the service's law at the cells' ends.

    Parameters
    ----------
    rate, mean : float
        With a load below 1.
    upper, lower : callable
        Ends of P(S > u).
    reach : float, s
        From which on the service may be left out of moments.
    horizon : callable
        The last time that matters, s, from the decay rate.
    moment : callable
        At least E[e^{theta S}].
    """
    theta, high = 0.0, 1 / mean
    while rate * (moment(high) - 1) < high:
        theta, high = high, 2 * high
    for _ in range(40):
        middle = (theta + high) / 2
        theta, high = (middle, high) if rate * (moment(middle) - 1) < middle else (theta, middle)
    if theta == 0:
        return None
    points, fine = 4000, 16
    while float(upper(np.array([1.2 * reach]))[0]) < float(upper(np.array([reach]))[0]):
        reach *= 1.2
    step = horizon(theta) / points
    cells = min(int(np.ceil(reach / step)) + 1, points)
    grid: Floats = step / fine * np.arange(cells * fine + 1, dtype=np.float64)
    # What is beyond the lattice passes every point of it.
    far = np.linspace(cells * step, max(reach, cells * step), points + 1)
    ends = []
    for end, tail in ((1, upper), (0, lower)):
        values = rate * step / fine * np.asarray(tail(grid))
        mass = np.zeros(points + 2)
        mass[end : cells + end] = (values[:-1] if end else values[1:]).reshape(cells, fine).sum(axis=1)
        beyond = np.asarray(tail(far))
        later = rate * (far[1] - far[0]) * float(beyond[:-1].sum() if end else beyond[1:].sum())
        above = np.append(np.cumsum(mass[:0:-1])[::-1], 0.0) + later
        wait = np.empty(points + 1)
        for n in range(points + 1):
            # Masses that are rounded up may be more than 1 in all, and what comes of them is cut off at once.
            wait[n] = min((above[n] + mass[1 : n + 1] @ wait[n - 1 :: -1][:n] if n else above[0]) / (1 - mass[0]), 1)
        ends.append(wait)
    place_up = lambda t: np.clip(np.floor(t / step * (1 + 1e-12)), 0, points).astype(int)  # noqa: E731
    place_down = lambda t: np.ceil(np.maximum(t, 0) / step * (1 - 1e-12)).astype(int)  # noqa: E731

    def low(t: Floats) -> Floats:
        at = place_down(np.asarray(t))
        return np.where(np.asarray(t) < 0, 1.0, np.where(at <= points, ends[1][np.minimum(at, points)], 0.0))

    return lambda t: np.where(np.asarray(t) < 0, 1.0, ends[0][place_up(np.asarray(t))]), low, theta


def batch_chain(rate: float, limit: int, fixed: float, each: float) -> Floats:
    """Stationary law of the number left when a batch ends, at a server that takes up to `limit` as soon as it is free.

    Poisson arrivals; a batch of b takes fixed + b each. Of q that are left it takes min(q, limit), of none the next one
    that comes: q' = max(q - limit, 0) + N(its time), N Poisson.

    Raises
    ------
    ValueError
        For a load rate (fixed + limit each) / limit so near to 1, or beyond, that the chain is too long.
    """
    full = fixed + limit * each
    load = rate * full / limit
    # P(q) falls about as e^{-2 q (1 - load) / load}: down to 1e-17.
    states = 4 * limit + 60 + int(20 * load / max(1 - load, 1e-9))
    if load >= 1 or states > STATES:
        raise ValueError(f"load = {load:.6g} at full batches of limit = {limit}: must be lower, for the chain to end")
    chain = np.zeros((states, states))
    for q in range(states):
        left = max(q - limit, 0)
        chain[q, left:] = poisson(rate * (fixed + each * min(max(q, 1), limit)), states - left)
        chain[q, -1] += max(1 - chain[q].sum(), 0.0)
    return stationary(chain)


def erlang_c(offered: float, servers: int) -> float:
    """P(wait > 0) of M/M/c at an offered load below c.

    Examples
    --------
    >>> round(erlang_c(0.7, 1), 12), round(erlang_c(1.0, 2), 12)
    (0.7, 0.333333333333)
    """
    blocked = 1.0
    for c in range(1, servers + 1):
        blocked = offered * blocked / (c + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def periodic_wait(count: int, interval: float, service: float) -> Tail:
    """P(work > x) at any instant of one server to which requests of one constant service come from periodic sources.

    Sources of one interval with independent uniform phases. In units of the service, with D the interval: the work
    passes x if for some n > x exactly n requests come in the last n - x, and not more of the others, n' - n, in what
    is left of the interval, at any time back from there; by the ballot theorem,
    P(work > x) = sum over n > x of C(N, n) p^n (1 - p)^(N - n) (D - N + x) / (D - n + x), p = (n - x) / D
    (Eckberg, IEEE Trans. Commun. 27, 1979).

    Parameters
    ----------
    count : int
        Of sources; count * service < interval.
    interval, service : float, s

    Examples
    --------
    >>> round(float(periodic_wait(1, 4.0, 1.0)(np.array([0.5]))[0]), 12)
    0.125
    """
    if service == 0 or count == 0:
        return lambda t: np.where(np.asarray(t) < 0, 1.0, 0.0)
    length, n = interval / service, np.arange(1, count + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(n))])
    ways = logs[count] - logs[n] - logs[count - n]

    def tail(t: Floats) -> Floats:
        flat, answer = np.ravel(t) / service, []
        for x in np.array_split(flat[:, None], max(len(flat) * count // 1_000_000, 1)):
            part = np.clip((n - x) / length, 0, 1)
            with np.errstate(divide="ignore"):
                weights = np.exp(ways + n * np.log(part) + (count - n) * np.log1p(-part))
            answer.append(np.where(part > 0, weights * (length - count + x) / (length - n + x), 0).sum(axis=1))
        return np.where(np.asarray(t) < 0, 1.0, np.concatenate(answer).reshape(np.shape(t)))

    return tail


def batch_times(rate: float, limit: int, fixed: float, each: float, points: int = 80) -> tuple[Law, Law, Law]:
    """Sojourn times at a batching server for Poisson arrivals: from above, from below; and what the past alone makes.

    It grows with how many are before a request, and with how long the batch that it finds still takes. Of requests that
    come within a `points`-th of a batch, as many are before the last, and as long is left to the first; or the other
    way round. Who comes later makes no longer batch than a full one: the third has a full one for every request.

    Returns
    -------
    Law, Law, Law
        Of the first and the last `upper` alone counts, of the second `lower` alone.
    """
    full = fixed + limit * each
    step = full / (4 * points)
    ends = []
    for upper in (True, False):
        times, chances = _batch_sojourn(rate, limit, fixed, each, points, (1, 0) if upper else (0, 1))
        ends.append(_tail(times, chances, step, upper))
    times, chances = _batch_sojourn(rate, limit, fixed, each, points, (1, 0), True)
    ends.append(_tail(times, chances, step, True))
    return Law(ends[0], ends[0]), Law(ends[1], ends[1]), Law(ends[2], ends[2])


def _tail(times: Floats, chances: Floats, step: float, upper: bool) -> Tail:
    """P(time > t) with times rounded up or down; what is missing of the chances is beyond, or nowhere."""
    place = np.ceil(times / step * (1 - 1e-12)) if upper else np.floor(times / step * (1 + 1e-12))
    mass = np.bincount(place.astype(np.int64), weights=chances)
    beyond = max(1 - float(mass.sum()), 0.0) if upper else 0.0
    above = np.append(np.cumsum(mass[::-1])[::-1][1:], 0.0) * (1 + 1e-9 if upper else 1 - 1e-9) + beyond
    return piecewise_constant(above, step, beyond)


def batch_sojourn(rate: float, limit: int, fixed: float, each: float, points: int = 60) -> tuple[Floats, Floats]:
    """Sojourn times at a batching server for Poisson arrivals, ascending, with their probabilities.

    A request comes at a uniform instant of a batch, chosen by its length, or finds the server idle. Behind j others it
    waits for the rest of that batch and for j // limit full ones; its own has those of the j that are left, itself, and
    who comes until it begins, up to the limit. The instant is one of `points` midpoints: times are exact to the length
    of a batch over twice as many.

    Parameters
    ----------
    rate : float, 1/s
    limit : int
    fixed, each : float, s
        A batch of b takes fixed + b each.
    points : int

    Returns
    -------
    times, probabilities : (n,) ndarray

    Examples
    --------
    >>> times, probabilities = batch_sojourn(10.0, 8, 0.02, 0.0)
    >>> round(float(probabilities.sum()), 9), round(float(times[0]), 9)
    (1.0, 0.02)
    """
    return _batch_sojourn(rate, limit, fixed, each, points, (0.5, 0.5))


def _batch_sojourn(
    rate: float, limit: int, fixed: float, each: float, points: int, within: tuple[float, float], full: bool = False
) -> tuple[Floats, Floats]:
    """As `batch_sojourn`; where in a part of a batch what is before a request, and what is left, are taken."""
    law = batch_chain(rate, limit, fixed, each)
    length = fixed + each * np.arange(limit + 1)
    arrivals = law[0] + rate * (law * length[np.clip(np.arange(len(law)), 1, limit)]).sum()
    values, weights = [np.array([length[limit if full else 1]])], [np.array([law[0] / arrivals])]
    more = np.arange(limit)
    for size in range(1, limit + 1):
        # Those that a batch of this size leaves waiting when it begins.
        waiting = law[size:].copy() if size == limit else law[size : size + 1].copy()
        waiting[0] += law[0] if size == 1 else 0.0
        for part in range(points):
            u, gone = ((part + share) / points * length[size] for share in within)
            before = np.convolve(waiting, poisson(rate * u, 40 + int(rate * u + 12 * np.sqrt(rate * u))))
            before = before[: int(np.flatnonzero(before > 1e-17).max(initial=0)) + 1]
            ahead = np.arange(len(before))
            whole, place = ahead // limit, ahead % limit
            start = length[size] - gone + whole * length[limit]
            if full:
                values.append(start + length[limit])
                weights.append(rate * length[size] / points / arrivals * before)
                continue
            behind = poisson(rate * start, limit)
            # The last that fits stands for all that do not.
            over = np.maximum(1 - np.cumsum(behind, axis=1) + behind, 0)
            chance = np.where(place[:, None] + more == limit - 1, over, behind)
            some = place[:, None] + more < limit
            values.append((start[:, None] + length[np.minimum(place[:, None] + more + 1, limit)])[some])
            weights.append((rate * length[size] / points / arrivals * before[:, None] * chance)[some])
    times, chances = np.concatenate(values), np.concatenate(weights)
    order = np.argsort(times)
    return times[order], chances[order]
