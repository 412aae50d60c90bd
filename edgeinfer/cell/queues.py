"""Stationary laws of the queues that terminals share: M/D/c, M/G/1, batches. Seconds; rates in 1/s."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Tail = Callable[[Floats], Floats]
#: States of a chain at most: its solution takes seconds beyond.
STATES = 1200


def stationary(chain: Floats) -> Floats:
    """Stationary law of a finite Markov chain by elimination without subtraction, every entry to relative accuracy.

    Grassmann, Taksar, Heyman (Oper. Res. 33, 1985).

    Parameters
    ----------
    chain : (n, n) ndarray
        Transition probabilities; its diagonal is not used.

    Examples
    --------
    >>> stationary(np.array([[0.5, 0.5], [0.25, 0.75]]))
    array([0.33333333, 0.66666667])
    """
    p = np.array(chain, dtype=np.float64)
    for k in range(len(p) - 1, 0, -1):
        p[:k, k] /= p[k, :k].sum()
        p[:k, :k] += np.outer(p[:k, k], p[k, :k])
    law = np.zeros(len(p))
    law[0] = 1
    for k in range(1, len(p)):
        law[k] = law[:k] @ p[:k, k]
    return law / law.sum()


def poisson(mean: float, count: int) -> Floats:
    """P(N = 0), .., P(N = count - 1).

    Examples
    --------
    >>> poisson(0.0, 2)
    array([1., 0.])
    """
    if mean == 0:
        return np.eye(1, count)[0]
    n = np.arange(count)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count)))])
    return np.exp(n * np.log(mean) - mean - logs)


@dataclass(frozen=True)
class ConstantQueue:
    """The wait of M/D/c, first come first served.

    Let y = k D - x for the least k with y > 0. A request that comes at time 0 has begun by time x if at -y at most
    c k - 1 are before it in the queue, counted with those that come in between: in every D, each server begins once
    while somebody waits. So P(W > x) = sum_j P(N(y) = j) P(Q > c k - 1 - j), N Poisson, Q the stationary queue (Franx,
    Oper. Res. Letters 29, 2001).

    Attributes
    ----------
    rate, service : float
    servers : int
    queue : ndarray
        P(Q > i).
    decay : float, 1/s
        P(W > x) <= e^{-decay x}.
    """

    rate: float
    service: float
    servers: int
    queue: Floats
    decay: float

    def tail(self, times: Floats) -> Floats:
        """P(W > x), x in s, any shape; 1 below 0."""
        times = np.asarray(times, dtype=np.float64)
        return np.array([self._tail(float(x)) for x in times.ravel()]).reshape(times.shape)

    def _tail(self, x: float) -> float:
        if x < 0 or self.service == 0:
            return float(x < 0)
        k = int(np.floor(x / self.service)) + 1
        size = self.servers * k
        if size > len(self.queue):
            # Beyond the queues that were solved for: the decay goes on.
            last = self.service * (len(self.queue) // self.servers - 1)
            return float(self._tail(last) * np.exp(-self.decay * (x - last)))
        mean = self.rate * (k * self.service - x)
        weights = poisson(mean, size + 60 + int(mean + 12 * np.sqrt(mean)))
        return float(weights[:size] @ self.queue[size - 1 :: -1][:size] + weights[size:].sum())


def md_c_wait(rate: float, service: float, servers: int) -> ConstantQueue:
    """The wait of M/D/c with a load below 1.

    Examples
    --------
    >>> queue = md_c_wait(0.7, 1.0, 1)
    >>> round(float(queue.tail(np.array([0.0]))[0]), 12)
    0.7
    """
    load = rate * service / servers
    if service == 0:
        return ConstantQueue(rate, service, servers, np.zeros(1), np.inf)
    decay = md_c_decay(rate, service, servers)
    each = np.log1p(decay / rate)
    # The last states feel the end of the chain: its part of an error falls with each by e^-each, and 25 / each of them
    # are left out; those before reach down to 1e-20 where the chain is short enough.
    left_out = int(np.ceil(25 / each))
    states = servers + left_out + min(int(np.ceil(46 / each)), 800)
    if states > STATES:
        raise ValueError(
            f"load = {load:.6g} of {servers} servers: must be lower for M/D/c, {states} states are too many"
        )
    mean = rate * service
    arrivals = poisson(mean, states + 60 + int(mean + 12 * np.sqrt(mean)))
    # P(N >= i), summed from the small end.
    more = np.cumsum(arrivals[::-1])[::-1]
    chain = np.zeros((states, states))
    for i in range(states):
        left = max(i - servers, 0)
        chain[i, left:] = arrivals[: states - left]
        chain[i, -1] = more[states - left - 1]
    law = stationary(chain)
    above = np.concatenate([np.cumsum(law[::-1])[::-1][1:], [0.0]])  # P(X > i)
    return ConstantQueue(rate, service, servers, above[servers : states - left_out], decay)


def md_c_decay(rate: float, service: float, servers: int) -> float:
    """theta > 0 with e^{theta D} (rate / (rate + theta))^c = 1: each server sees every c-th request."""
    low, high = 0.0, 1.0 / service
    while high * service - servers * np.log1p(high / rate) < 0:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if middle * service - servers * np.log1p(middle / rate) < 0 else (low, middle)
    return low


def mg_1_wait(
    rate: float,
    upper: Tail,
    lower: Tail,
    mean: float,
    reach: float,
    horizon: Callable[[float], float],
    moment: Callable[[float], float],
) -> tuple[Tail, Tail, float]:
    """Both ends of the wait of M/G/1 at times up to a deadline, and its decay rate.

    The wait is a geometric sum of ladder heights of density P(S > u) / E[S]; on a lattice their places are rounded up
    or down, and their masses, by the ends of the service's law at the cells' ends.

    Parameters
    ----------
    rate, mean : float
        With a load below 1.
    upper, lower : callable
        Ends of P(S > u).
    reach : float, s
        Beyond which the service does not count.
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
    points, fine = 4000, 16
    step = horizon(theta) / points
    cells = min(int(np.ceil(reach / step)) + 1, points)
    grid: Floats = step / fine * np.arange(cells * fine + 1, dtype=np.float64)
    ends = []
    for end, tail in ((1, upper), (0, lower)):
        values = rate * step / fine * np.asarray(tail(grid))
        mass = np.zeros(points + 2)
        mass[end : cells + end] = (values[:-1] if end else values[1:]).reshape(cells, fine).sum(axis=1)
        total = min(mass.sum(), rate * mean) if not end else mass.sum()
        above = np.maximum(total - np.cumsum(mass), 0)
        wait = np.empty(points + 1)
        for n in range(points + 1):
            wait[n] = (above[n] + mass[1 : n + 1] @ wait[n - 1 :: -1][:n] if n else above[0]) / (1 - mass[0])
        ends.append(np.minimum(wait, 1))
    place_up = lambda t: np.clip(np.floor(t / step * (1 + 1e-12)), 0, points).astype(int)  # noqa: E731
    place_down = lambda t: np.ceil(np.maximum(t, 0) / step * (1 - 1e-12)).astype(int)  # noqa: E731

    def low(t: Floats) -> Floats:
        at = place_down(np.asarray(t))
        return np.where(np.asarray(t) < 0, 1.0, np.where(at <= points, ends[1][np.minimum(at, points)], 0.0))

    return lambda t: np.where(np.asarray(t) < 0, 1.0, ends[0][place_up(np.asarray(t))]), low, theta
