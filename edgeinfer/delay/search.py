"""Searches for where a bound of the violation probability meets a target: what they answer was asked for itself.

A call of the bracket takes many deadlines for little more than one, but each rate anew. Upper ends need not fall with
the deadline from one range to the next, so that a search ends where one deadline is certified and the one before it is
not; no answer rests on monotony.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: Lower and upper ends at (n,) times, by an effort.
Ends = Callable[[Floats, str], tuple[Floats, Floats]]

#: Both ends at one value.
Bound = Callable[[float], tuple[float, float]]

#: Of an interval, at a call of a bound on slots, and of any other.
FEW_SECTIONS, SECTIONS = 16, 64
FURTHEST = 1e300


def largest(bounds: Sequence[Bound], target: float, full: float, tolerance: float, least: float = 0.0) -> float:
    """Largest x in (0, full), to `tolerance`, at which the last bound, which grows, is no larger than the target.

    Parameters
    ----------
    bounds : sequence of callable
        Lower and upper ends at an x. Those before the last are quicker and looser: they say where to begin, how steeply
        the last one rises, and where it cannot hold as a lower end is above the target.
    target, full, tolerance : float
    least : float
        0 is the answer where none above it holds.
    """
    found, slope, first = 0.0, 0.0, full
    for bound in bounds:
        loose = tolerance if bound is bounds[-1] else max(tolerance, 1e-2)
        found, slope, full = _climb(bound, target, found, slope, full, loose, max(least, 1e-10 * first))
    return found


def _climb(
    bound: Bound, target: float, x: float, slope: float, full: float, tolerance: float, least: float
) -> tuple[float, float, float]:
    """The largest x, the slope of the bound's logarithm there, 0 if not known, and what no bound is kept at."""
    low, high, below, above, late = 0.0, full, -np.inf, np.inf, full
    widths = [np.inf, np.inf]
    x = x or full / 2
    while True:
        lower, value = bound(x)
        excess = float(np.log(value) - np.log(target)) if value > 0 else -np.inf
        late = min(late, x) if lower > target else late
        if value <= target:
            if low > 0 and np.isfinite(below) and excess > below:
                slope = (excess - below) / (x - low)
            low, below = x, min(excess, -1e-300)
        else:
            high, above = x, max(excess, 1e-300)
        enough = tolerance * max(low, least)
        if high - low <= enough or (low == 0 and high <= least):
            break
        x = _between((low, high), (below, above), slope, enough, high - low <= widths[-2] / 2)
        x = max(x, least) if low > 0 or high > full / 16 else max(high / 1024, least)
        if not low < x < high:
            break
        widths.append(high - low)
    rise = (above - below) / (high - low) if low > 0 and np.isfinite(above - below) else 0.0
    return low, rise, late


def _between(
    ends: tuple[float, float], excess: tuple[float, float], slope: float, enough: float, is_near: bool
) -> float:
    """Where to ask next of a bound that grows: where its logarithm meets the target on a line, or the middle."""
    (low, high), (below, above) = ends, excess
    middle = np.sqrt(low * high) if high > 4 * low > 0 else (low + high) / 2
    if np.isfinite(above - below):
        crossing = low + (high - low) * below / (below - above)
        # And a little towards the end that is further away, so that both come near.
        guess = crossing + 0.4 * enough * (1 if crossing - low < high - crossing else -1)
        return guess if is_near and low < guess < high else float(middle)
    guess = low - below / slope + 0.4 * enough if slope > 0 and np.isfinite(below) else high
    return guess if low < guess < high else float(middle)


@dataclass
class _Crossing:
    """Deadlines about the least one that is certified, and the logarithms of the upper ends there over the target."""

    target: float
    low: float = 0.0
    high: float = np.inf
    over: float = np.inf
    under: float = -np.inf
    late: float = -np.inf
    straight: bool = True

    def take(self, times: Floats, lower: Floats, upper: Floats) -> None:
        """Ends at times between `low` and `high` in ascending order; `late` is too short whatever the effort."""
        with np.errstate(divide="ignore"):
            excess = np.log(upper) - np.log(self.target)
        kept, late = upper <= self.target, times[lower > self.target]
        first = int(np.argmax(kept)) if kept.any() else times.size
        if first < times.size:
            self.high, self.under = float(times[first]), min(float(excess[first]), -1e-300)
        if first > 0:
            self.low, self.over = float(times[first - 1]), max(float(excess[first - 1]), 1e-300)
        self.late = float(np.max(late, initial=self.late))

    def between(self, tolerance: float, sections: int) -> Floats:
        """Times at which to ask next; none where the interval has no more doubles."""
        width, enough = self.high - self.low, tolerance * self.high
        if self.straight and width > sections * enough and np.isfinite(self.over - self.under):
            # Where logarithms on a line meet the target: near there all that may be the answer, else ever fewer.
            at = self.low + width * self.over / (self.over - self.under)
            near = 0.9 * tolerance * at * np.arange(1, sections // 2)
            steps = np.append(near, near[-1] * 1.5 ** np.arange(1, np.log(width / near[-1]) / np.log(1.5)))
            times = at + np.append(steps, np.append(-steps, 0))
        else:
            count = int(min(sections, np.ceil(width / enough) + 1))
            times = np.linspace(self.low, self.high, count + 1)
        self.straight = not self.straight
        times = np.unique(times)
        return times[(times > self.low) & (times < self.high)]


def shortest(
    ends: Ends,
    scale: float,
    target: float,
    tolerance: float,
    efforts: tuple[str, ...] = ("fast",),
    *,
    most: int = 256,
    slotted: bool = False,
) -> float:
    """The least deadline whose upper end is at most a target, or up to `tolerance` of itself more; inf: there is none.

    Parameters
    ----------
    ends : callable
        Both ends at times in ascending order, by an effort.
    scale : float, s
        About the mean latency.
    target, tolerance : float
    efforts : tuple of str
        The last one is that of the answer, those before it are lighter and say where to look.
    most : int
        Times that take less together than a second call of the last effort.
    slotted : bool
        Whether each time costs as much as the first.
    """
    found = _Crossing(target)
    start = np.append(0.0, 2 * scale if slotted else scale * 2.0 ** (np.arange(-12, 21) / 4))
    for effort in efforts[:-1]:
        _enclose(found, ends, effort, start, slotted)
        if found.high == np.inf:
            continue
        shorter = max(found.late, 0.0)
        if _sections(shorter, found.high, tolerance) > SECTIONS:
            times = np.linspace(shorter, found.high, SECTIONS + 1)[1:-1]
            found.take(times, *ends(times, effort))
            shorter = max(found.late, 0.0)
        count = _sections(shorter, found.high, tolerance)
        count = int(count if count <= most else SECTIONS)
        start = np.linspace(shorter, found.high, count + 1)[int(found.late >= 0) :]
        found = _Crossing(target, low=shorter, late=found.late)
    _enclose(found, ends, efforts[-1], start, slotted)
    while found.high - found.low > tolerance * found.high and np.isfinite(found.high):
        times = found.between(tolerance, FEW_SECTIONS if slotted else SECTIONS)
        if times.size == 0:
            break
        found.take(times, *ends(times, efforts[-1]))
    return found.high


def _sections(low: float, high: float, tolerance: float) -> float:
    """Into which an interval is to be cut, if the answer is in its upper half or `low` is."""
    return float(np.ceil((high - low) / max(low, high / 2) / (0.9 * tolerance))) + 1 if high > 0 else 1.0


def _enclose(found: _Crossing, ends: Ends, effort: str, times: Floats, slotted: bool) -> None:
    """Asks at ever longer times, until one is certified."""
    furthest = 1e6 * float(times[-1]) if slotted else FURTHEST
    while True:
        found.take(times, *ends(times, effort))
        if np.isfinite(found.high) or not 0 < times[-1] < furthest:
            return
        times = times[-1] * 2.0 ** np.arange(1, 2 if slotted else 17)
