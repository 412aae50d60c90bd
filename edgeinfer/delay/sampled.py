"""Where a sampled violation probability crosses a given one, between certified ends."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeinfer.delay._elements import finish
from edgeinfer.delay.bounds import violation_bracket
from edgeinfer.delay.errors import AccuracyWarning
from edgeinfer.delay.rare import rare_violation
from edgeinfer.estimates.estimate import Estimate
from edgeinfer.model import ArrivalProcess, Pipeline

#: Evaluations of the probability in one search, at most.
_TRIALS = 24
#: Relative distance of ends about the target at which a search ends: nearer to a load of 1 each takes longer.
_APART = 1e-5
#: Share of the target from which on a sampled value has to be trusted.
_NEAR = 1e-3
#: Halvings between a value that is certified and one that is not, at most, and the relative distance that is enough.
_HALVINGS, _CLOSE = 40, 1e-6
#: Jobs on a path times replications that a sampled value may take, about: some seconds to a minute.
_MOST_JOBS = 1e9


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
        if abs(value) <= half / 8 or abs(ends[1] - ends[0]) <= _APART * (1 if logarithmic else abs(at)):
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


@dataclass(frozen=True)
class Search:
    """Where a pipeline's probability crosses a target: `at` gives pipeline, arrivals and deadline at a value.

    Certified ends are those of light brackets: sampling tells more.
    """

    at: Callable[..., tuple[Pipeline, ArrivalProcess, float]]
    given: tuple[Any, ...]
    target: float

    def side(self, value: float) -> int:
        """1 where requests are late too often for certain, -1 where they are not for certain, else 0."""
        found = violation_bracket(*self.at(value, *self.given), effort="light")
        return int(found.lower > self.target) - int(found.upper <= self.target)

    def row(self, late: float, safe: float, options: dict[str, Any], *, logarithmic: bool = True) -> tuple[Any, ...]:
        """The crossing between a value that is late for certain and one that is safe, as `collect` takes it."""
        late, safe, middle = self._halved(late, safe)
        paths = max(self._path(late), self._path(safe))
        if paths > _MOST_JOBS * options["relative_error"] ** 2:
            return self._certified(late, safe, middle, paths)
        sampler = Sampler(self.target, options)
        found = crossing(lambda value: sampler(*self.at(value, *self.given)), late, safe, logarithmic=logarithmic)
        return (*found, sampler.replications, sampler.effective)

    def _halved(self, late: float, safe: float) -> tuple[float, float, float]:
        """Nearer ends of both kinds, and a value between them of which neither is certain."""
        middle = late + (safe - late) / 2
        for _ in range(_HALVINGS):
            side = self.side(middle)
            if side == 0 or abs(safe - late) <= _CLOSE * abs(safe):
                break
            late, safe = (middle, safe) if side > 0 else (late, middle)
            middle = late + (safe - late) / 2
        return late, safe, middle

    def _path(self, value: float) -> float:
        """About the jobs on the path to a late one, which sampling follows; 0 where a stage is unstable."""
        pipeline, arrivals, deadline = self.at(value, *self.given)
        load = float(pipeline.loads(arrivals.mean_rate).max())
        return deadline * arrivals.mean_rate / (1 - load) if load < 1 else 0.0

    def _certified(self, late: float, safe: float, middle: float, paths: float) -> tuple[Any, ...]:
        """The interval that brackets leave, in the place of a sampled one."""
        for _ in range(_HALVINGS):
            near = [end + (middle - end) / 2 for end in (late, safe)]
            sides = [self.side(value) for value in near]
            late, safe = (near[0] if sides[0] > 0 else late), (near[1] if sides[1] < 0 else safe)
            if sides[0] <= 0 and sides[1] >= 0:
                break
        if abs(safe - late) > _APART * abs(safe):
            warnings.warn(
                f"method = 'sampling': delays come from paths of some {paths:.2g} requests, too long to be sampled to "
                "this relative_error: the interval is the one that brackets certify",
                AccuracyWarning,
                stacklevel=5,
            )
        return (late + (safe - late) / 2, *sorted((late, safe)), 0, 0.0)


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
