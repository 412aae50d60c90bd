"""Where a sampled violation probability crosses a given one, between certified ends."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeinfer.delay._elements import finish
from edgeinfer.delay.rare import rare_violation
from edgeinfer.estimates.estimate import Estimate
from edgeinfer.model import ArrivalProcess

#: Evaluations of the probability in one search, at most.
_TRIALS = 24
#: Relative distance of ends about the target at which a search ends: nearer to a load of 1 each takes longer.
APART = 1e-5
#: Share of the target from which on a sampled value has to be trusted.
_NEAR = 1e-3


class Sampler:
    """Violation probabilities of one search by importance sampling: all from the same random numbers.

    Parameters
    ----------
    target : float
        The probability to cross.
    options : dict
        `relative_error`, `rng`, `threads`, `confidence` and `max_replications` of `rare_violation`.
    """

    def __init__(self, target: float, options: dict[str, Any]) -> None:
        self.target, self.options = target, options
        self.replications, self.effective = 0, 0.0

    def __call__(self, pipeline: Any, arrivals: ArrivalProcess, deadline: float) -> tuple[float, float]:
        """Log of the probability over the target, and its interval's half width; the probability is 1 if unstable."""
        if pipeline.loads(arrivals.mean_rate).max() >= 1:
            return -float(np.log(self.target)), 0.0
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            answer = rare_violation(pipeline, arrivals, deadline, **self.options)
        # How exact a value is says nothing where it is far from the target.
        if answer.value >= _NEAR * self.target:
            for each in said:
                warnings.warn(each.message, stacklevel=2)
        self.replications, self.effective = int(answer.replications), float(answer.effective_sample_size)
        value = max(float(answer.value), 5e-324)
        return float(np.log(value / self.target)), float(np.log(max(float(answer.high), value) / value))


def crossing(
    sample: Callable[[float], tuple[float, float]], late: float, safe: float, *, logarithmic: bool = False
) -> tuple[float, float, float]:
    """The value and the ends that the sampled probability and its interval give, all between two certified ones.

    Parameters
    ----------
    sample : callable
        Log of the probability over the target at a value, and the half width of its interval.
    late, safe : float
        Values at which the probability is certified to be above the target, and at most it.
    logarithmic : bool
        Search over the logarithm of values, which must be > 0.

    Returns
    -------
    tuple of float
        Value, low, high. The ends move from the value by the half width over the slope of the probability's logarithm.
        Where the probability jumps past the target, the value is the last of the safe ones that were sampled, and the
        ends are the nearest values whose intervals are above the target, and below it.
    """
    there: Callable[[float], float] = np.log if logarithmic else float
    back: Callable[[float], float] = np.exp if logarithmic else float
    ends = [there(late), there(safe)]
    sampled = [sample(late), sample(safe)]
    excess = [found[0] for found in sampled]
    seen = [(place, *found) for place, found in zip(ends, sampled, strict=True)]
    side = 0 if excess[0] <= 0 else 1
    at, (value, half) = ends[side], sampled[side]
    weight, widths = [1.0, 1.0], [np.inf, np.inf]
    for _ in range(_TRIALS if excess[0] > 0 > excess[1] else 0):
        left, right = excess[0] * weight[0], excess[1] * weight[1]
        part = min(max(left / (left - right), 0.02), 0.98)
        # At a jump the chord stays near one end.
        slow = abs(ends[1] - ends[0]) > widths[-2] / 2
        widths.append(abs(ends[1] - ends[0]))
        at = ends[0] + (0.5 if slow else part) * (ends[1] - ends[0])
        value, half = sample(back(at))
        seen.append((at, value, half))
        side = int(value < 0)
        ends[side], excess[side], weight[side] = at, value, 1.0
        weight[1 - side] /= 2
        if abs(value) <= half / 8 or abs(ends[1] - ends[0]) <= APART * (1 if logarithmic else abs(at)):
            break
    least, most = sorted((late, safe))
    if excess[0] > 0 > excess[1] and abs(value) > half:
        at = ends[1]
        above = [there(late), *(place for place, excess_there, width in seen if excess_there > width)]
        below = [there(safe), *(place for place, excess_there, width in seen if -excess_there > width)]
        low, high = sorted(min(places, key=lambda place: abs(place - ends[1])) for places in (above, below))
    elif slope := _slope([point[:2] for point in seen], at, half):
        # A step along the chord to where the probability would be the target.
        at -= value / slope
        low, high = at - half / abs(slope), at + half / abs(slope)
    else:
        return back((there(least) + there(most)) / 2), least, most
    # Cut twice: what goes back may be rounded beyond the ends.
    at, low, high = (back(min(max(x, there(least)), there(most))) for x in (at, low, high))
    at, low, high = (min(max(x, least), most) for x in (at, low, high))
    return at, low, high


def _slope(seen: list[tuple[float, float]], at: float, half: float) -> float:
    """Slope of the logarithm about a value, over a chord long enough to stand out from the noise; 0 where none does."""
    places = sorted(seen, key=lambda point: abs(point[0] - at))
    nearest = places[0]
    for point in places[1:]:
        if abs(point[1] - nearest[1]) > max(2 * half, 1e-6) and point[0] != nearest[0]:
            return (point[1] - nearest[1]) / (point[0] - nearest[0])
    return 0.0


def collect(rows: list[tuple[float, float, float, int, float]], shape: tuple[int, ...], confidence: float) -> Estimate:
    """One estimate of all elements' values, ends, replications and effective sample sizes."""
    value, low, high, replications, effective = np.array(rows, dtype=float).reshape(-1, 5).T
    return Estimate(
        finish(value, shape),
        finish(low, shape),
        finish(high, shape),
        confidence,
        finish(replications.astype(np.int64), shape),
        finish(effective, shape),
    )
