"""Several servers of one constant service d behind one queue. Seconds; rates in 1/s.

First come, first served, jobs leave in the order in which they came, and the k-th takes the server that the one c
before it had: D_k = max(A_k, D_{k-c}) + d = max over j >= 0 of A_{k-jc} + (j + 1) d, A and D the instants of coming and
leaving. One server of d / c has D'_k = max over i >= 0 of A_{k-i} + (i + 1) d / c. As A does not fall,
  D_k <= D'_k + (c - 1) d / c, since j = i / c makes each of the terms of D_k one of these,
  D_k >= D'_k, since with j = floor(i / c), A_{k-jc} >= A_{k-i} and (j + 1) d >= (i + 1) d / c,
  D_k >= A_k + d.
What follows leaves no earlier for what comes later, so that P(W > T) of a pipeline lies between those of its twins,
whatever the arrivals and the other stages: the servers in place of one of d / c, with nothing or (c - 1) d / c behind
it, and, from below, of a delay of d.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer.model import Pipeline
from edgeinfer.model.bases import CoreStage, Server

Floats = NDArray[np.float64]
#: States of a chain at most: its solution takes seconds beyond.
STATES = 1200
#: States that take some hundredths of a second.
EASY = 300


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
    return np.asarray(law / law.sum())


def poisson(mean: ArrayLike, count: int) -> Floats:
    """P(N = 0), .., P(N = count - 1), on a last axis behind those of the mean.

    Examples
    --------
    >>> poisson(0.0, 2)
    array([1., 0.])
    """
    means, n = np.asarray(mean, np.float64)[..., None], np.arange(count)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count)))])
    law = np.exp(n * np.log(np.where(means > 0, means, 1.0)) - means - logs)
    return np.asarray(np.where(means > 0, law, n == 0), np.float64)


@dataclass(frozen=True)
class ConstantQueue:
    """The wait of M/D/c, first come first served.

    Let y = k D - x for the least k with y > 0. A request that comes at time 0 has begun by time x if at -y at most
    c k - 1 are before it in the queue, counted with those that come in between: in every D, each server begins once
    while somebody waits. So P(W > x) = sum_j P(N(y) = j) P(Q > c k - 1 - j), N Poisson, Q the stationary queue (Franx,
    Oper. Res. Letters 29, 2001).

    Each server sees every c-th request, so W is the largest sum of a walk of steps D less an Erlang time. Tilted by
    theta, the decay, h(x) = e^{theta x} P(W > x) is the mean of h at what is left of x when the walk first is less than
    L below it: with steps of at most D, h lies beyond L between its ends over the D before L. There, with z = 1 + theta
    / rate, h(k D - y) = z E g(c k - 1 - J) for g(i) = z^i P(Q > i) and J Poisson of mean rate y z.

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

    def tail(self, times: Floats, end: int = 1) -> Floats:
        """P(W > x), x in s, any shape; 1 below 0; beyond what was solved for its lower end, 0, or upper end, 1."""
        times = np.asarray(times, dtype=np.float64)
        flat = times.ravel()
        if self.service == 0:
            return np.asarray(np.where(times < 0, 1.0, 0.0))
        answer = np.full_like(flat, float(end))
        answer[flat < 0] = 1
        most = len(self.queue) // self.servers
        with np.errstate(over="ignore"):
            number = np.floor(np.clip(flat / self.service, -1, most + 1)).astype(np.int64) + 1
        for k in np.unique(number[(flat >= 0) & (number <= most + 1)]).tolist():
            some = (number == k) & (flat >= 0)
            answer[some] = self._within(flat[some], k, end)
        beyond = (flat >= 0) & (number > most)
        if beyond.any():
            with np.errstate(over="ignore"):
                decaying = self._beyond(most)[end] * np.exp(-self.decay * flat[beyond])
            answer[beyond] = (np.maximum, np.minimum)[end](answer[beyond], decaying)
        return answer.reshape(times.shape)

    def _beyond(self, most: int) -> tuple[float, float]:
        """Both ends of e^{decay x} P(W > x) from that multiple of the service on."""
        z = 1 + self.decay / self.rate
        # Powers of z are to stay within the range of double.
        size = self.servers * min(most, int(600 / (self.servers * np.log(z))))
        between = _between(self.rate * z * self.service)
        places = np.arange(min(size - between, -1), size)
        scaled = z**places * np.where(places < 0, 1.0, self.queue[np.maximum(places, 0)])
        last = scaled[-between:]
        lower, upper = z * last.min(), z * (last.max() + 1e-13 * max(scaled.max(), 1.0))
        return float(lower) * (1 - 1e-12), float(upper) * (1 + 1e-12)

    def _within(self, times: Floats, k: int, end: int) -> Floats:
        """At times with the k-th multiple of the service next."""
        size, means = self.servers * k, self.rate * (k * self.service - times)
        most = float(means.max(initial=0.0))
        weights = poisson(means, size + 60 + int(most + 12 * np.sqrt(most)))
        # A longer queue than those that were solved for is no more likely than the last of them.
        queue = np.append(self.queue[:size], np.full(max(size - len(self.queue), 0), end * self.queue[-1]))
        return np.asarray(weights[:, :size] @ queue[::-1] + weights[:, size:].sum(axis=1))


def _between(mean: float) -> int:
    """The least number that a Poisson number reaches with a probability below 1e-13."""
    law = poisson(mean, int(mean + 12 * np.sqrt(mean)) + 60)
    return int(np.argmax(np.cumsum(law[::-1])[::-1] < 1e-13))


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
    solved = min(int(np.ceil(46 / each)), 800)
    # The decay is not alone there behind light loads, whose chains are short: what costs little is solved for, too.
    near = min(2 * _between((rate + decay) * service) + servers, int(600 / each), EASY - servers - left_out)
    solved = max(solved, near)
    states = servers + left_out + solved
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


@dataclass(frozen=True, eq=False)
class Lagged(Server):
    """A constant service, and a constant delay behind it."""

    seconds: Any
    lag: Any
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Broadcast shape of both times."""
        return np.broadcast_shapes(np.shape(self.seconds), np.shape(self.lag))

    @property
    def propagation(self) -> Any:  # type: ignore[override]
        """The delay, s."""
        return self.lag

    def mean(self) -> Any:
        """The service, s."""
        return self.seconds

    def core_stages(self) -> list[CoreStage]:
        """The stage as the core takes it, one for each element of `shape`."""
        pairs = zip(
            *(np.broadcast_to(part, self.shape).ravel().tolist() for part in (self.seconds, self.lag)), strict=True
        )
        return [("deterministic", service, lag) for service, lag in pairs]


def _several(pipeline: Pipeline) -> list[Server]:
    return [stage for stage in pipeline.inner if stage.servers > 1]


def has_several_servers(pipeline: Pipeline) -> bool:
    """Whether some queue has more than one server."""
    return bool(_several(pipeline))


def slower_twin(pipeline: Pipeline) -> Pipeline:
    """A pipeline of single servers that is nowhere faster."""

    def twin(stage: Server) -> Server:
        if stage.servers == 1:
            return stage
        return Lagged(stage.mean() / stage.servers, stage.mean() * (1 - 1 / stage.servers), stage.name)

    return pipeline.map(twin)


def faster_twins(pipeline: Pipeline) -> Iterator[tuple[str, Pipeline]]:
    """Pipelines of single servers that are nowhere slower, and what is done to their queues of several."""
    several = _several(pipeline)

    def twin(stage: Server, *queues: Server) -> Server:
        if stage.servers == 1:
            return stage
        if any(stage is queue for queue in queues):
            return Lagged(stage.mean() / stage.servers, 0.0, stage.name)
        return Lagged(0.0, stage.mean(), stage.name)

    yield "fast_server", pipeline.map(lambda stage: twin(stage, *several))
    yield "own_server", pipeline.map(twin)
    for one in several if len(several) > 1 else ():
        yield "fast_server", pipeline.map(lambda stage, one=one: twin(stage, one))  # type: ignore[misc]
