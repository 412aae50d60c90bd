"""The mean sojourn time of stages that work on different requests at once: exact where known, else certified ends.

Exact: an exponential stage with Poisson arrivals leaves Poisson departures, independent of the times spent in it
(Burke), so that exponential stages in front add 1 / (mu - lambda) each and what follows has Poisson arrivals. Behind
them, let stage m never be faster than any other, and the stages before m be constant. Each path of the sojourn time
(csrc/edgeinfer/bracket.h) grows or stays when it moves jobs to m, so that the times of the others add to the sojourn
time in m alone, an M/G/1 queue.

Ends: the sojourn time is at least that of the path which has all jobs at a stage j; choosing its first job by the
services at j alone leaves the others' means, so that E[W] >= sum of all E[X] + E[wait of an M/G/1 queue with X_j]. It
is at most that of the serial path, which has the services of all paths. Both ends of P(W > t), which fall with t, are
summed on the far and on the near side of each cell of a grid; behind its last point t, P(W > s) <= C exp(-theta s)
(csrc/edgeinfer/bound.h) adds C exp(-theta t) / theta to the upper end.
"""

from typing import Any

import numpy as np

from edgeinfer import _core
from edgeinfer.delay._elements import core_arrival
from edgeinfer.delay.composed import EFFORTS
from edgeinfer.delay.search import Ends, Floats
from edgeinfer.model import Poisson
from edgeinfer.model.bases import CoreStage

#: Of the grid, about: sums over it widen either end by 2 in so many, or less.
POINTS = {"light": 256, "fast": 1024, "tight": 4096}
#: What lies behind the grid's last point, over the sum of the mean services.
TAIL = 1e-5


def _dominant(spans: list[tuple[float, float]]) -> int | None:
    """The stage that is never faster than any other, behind constant ones."""
    for place, (least, _) in enumerate(spans):
        if all(longest <= least for at, (_, longest) in enumerate(spans) if at != place):
            return place
        if spans[place][0] != spans[place][1]:
            break
    return None


def horizon(stages: Any, rate: float, mean: float) -> tuple[float, float]:
    """A time beyond which little is left, and the integral of a bound from there on; (0, inf) without one."""
    times = np.ldexp(mean, np.arange(60))
    best = np.full(times.shape, np.inf)
    for method in ("union", "lundberg"):
        log_bound, theta = _core.violation_bound(stages, np.full(times.shape, rate), times, method, 1.0)
        # Services of no time have a bound of 0, of no exponent.
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            beyond = np.where(theta > 0, np.exp(log_bound) / theta, np.inf)
        best = np.minimum(best, np.where(log_bound == -np.inf, 0.0, beyond))
    small = np.flatnonzero(best <= TAIL * mean)
    at = int(small[0]) if small.size else int(np.argmin(best))
    return (float(times[at]), float(best[at])) if np.isfinite(best[at]) else (0.0, np.inf)


def integrated(bracket: Ends, end: float, tail: float, mean: float, effort: str) -> tuple[float, float]:
    """Lower and upper sums of P(W > t), with the bound on what lies behind the grid.

    Parameters
    ----------
    bracket : callable
        Both ends of P(W > t) at (n,) times, by an effort.
    end, tail : float, s
        Where the grid ends, and what lies beyond.
    mean : float, s
        Of a lone request.
    effort : str
        Of the grid's ends; a light one says how to lay it.
    """
    if end == 0:
        return 0.0, np.inf
    times = np.concatenate([np.linspace(0, min(2 * mean, end), 33)[:-1], np.geomspace(min(2 * mean, end), end, 32)])
    times = np.unique(times)
    # A cell that n others replace loses its drop times its width over n: least in sum for n as these products' roots.
    lost = np.sqrt(np.maximum(-np.diff(np.sum(bracket(times, "light"), axis=0)) * np.diff(times), 0))
    parts = np.ceil(POINTS[effort] * lost / max(lost.sum(), np.finfo(float).tiny)).astype(int) + 1
    at = np.append(0, np.cumsum(parts))
    times = np.unique(np.interp(np.arange(at[-1] + 1), at, times))
    low, high = bracket(times, effort)
    width = np.diff(times)
    # The sums of so few terms round by far less.
    return float(low[1:] @ width) * (1 - 1e-12), (float(high[:-1] @ width) + tail) * (1 + 1e-12)


def _core_ends(stages: Any, rate: float) -> Ends:
    def bracket(times: Floats, effort: str) -> tuple[Floats, Floats]:
        rates, arrival = np.full(times.shape, rate), core_arrival(Poisson(rate))
        return _core.violation_bracket(stages, rates, times, arrival, EFFORTS.index(effort))[:2]

    return bracket


def _wait(rate: float, mean: Any, variance: Any) -> Any:
    load = rate * mean
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(load < 1, rate * (variance + mean**2) / (2 * (1 - load)), np.inf)


def tandem_mean(stages: list[CoreStage], rate: float, effort: str = "fast") -> tuple[float, float, str, str]:
    """Both ends of the mean sojourn time, s, with the formula of each.

    Parameters
    ----------
    stages : list of tuple
        They are as the core takes them; delays behind them are left out.
    rate : float, 1/s
        Of Poisson arrivals.
    effort : str
        Of what is integrated.

    Returns
    -------
    lower, upper : float
        Both inf where a stage is unstable.
    lower_method, upper_method : str
        Both "exact", or both "unstable"; else "queue" or "integrated", and "serial" or "integrated".

    Examples
    --------
    >>> tandem_mean([("exponential", 0.5), ("deterministic", 0.25)], 1.0)[2:]
    ('exact', 'exact')
    >>> tandem_mean([("deterministic", 0.25), ("exponential", 0.5)], 1.0)[2:]
    ('integrated', 'integrated')
    """
    means, variances = _core.service_moments(stages)
    with np.errstate(over="ignore"):
        unstable = (rate * means >= 1).any()
    if unstable:
        return np.inf, np.inf, "unstable", "unstable"
    parts = [
        (stage, mean, variance)
        for stage, mean, variance in zip(stages, means.tolist(), variances.tolist(), strict=True)
        if mean > 0
    ]
    before = 0.0
    while parts and parts[0][0][0] == "exponential":
        mean = parts.pop(0)[1]
        before += mean / (1 - rate * mean)
    if not parts:
        return before, before, "exact", "exact"
    means, variances = np.array([part[1] for part in parts]), np.array([part[2] for part in parts])
    waits, total = _wait(rate, means, variances), float(means.sum())
    place = _dominant([(least, longest) for least, longest in _core.service_spans([part[0] for part in parts])])
    if place is not None:
        value = before + total + float(waits[place])
        return value, value, "exact", "exact"
    queue = total + float(waits.max())
    serial = total + float(_wait(rate, total, variances.sum()))
    core = _core.Stages([part[0] for part in parts])
    low, high = integrated(_core_ends(core, rate), *horizon(core, rate, total), total, effort)
    lower, upper = max((queue, "queue"), (low, "integrated")), min((serial, "serial"), (high, "integrated"))
    return before + lower[0], before + upper[0], lower[1], upper[1]
