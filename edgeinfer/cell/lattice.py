"""Survival functions from both sides on a lattice, and what services and interarrival times make of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _core
from edgeinfer.model import Delay
from edgeinfer.model.composition import law_of

Floats = NDArray[np.float64]
Tail = Callable[[Floats], Floats]
#: Points of the lattice from 0 on; where a service's tail ends; what the sums' rounding may add.
POINTS, END, ROUNDING = 3000, 1e-13, 1e-9
#: Relative error of a moment's logarithm, at most.
MOMENT = 1e-5
#: Relative; equal times count as equal.
HAIR = 1e-11


def piecewise_constant(values: Floats, step: float, beyond: float, after: bool = False) -> Tail:
    """The value at a lattice's point before a time, or after it; 1 below 0, and `beyond` behind the last point."""

    def at(t: Floats) -> Floats:
        places = np.maximum(t, 0) / step
        # A hair, so that points of the lattice are not taken for what is beside them by rounding.
        place = (np.ceil(places * (1 - 1e-12)) if after else np.floor(places * (1 + 1e-12))).astype(np.int64)
        inside = np.where(place < len(values), values[np.minimum(place, len(values) - 1)], beyond)
        return np.where(np.asarray(t) < 0, 1.0, inside)

    return at


@dataclass(frozen=True)
class Law:
    """A time from both sides: P(X > t) at most `upper` and at least `lower`.

    `constant` is its value if that is always the same; `parts` are independent times of which it is the sum;
    `log_moment` is at least log E[e^{theta X}], where its tail has no end.
    """

    upper: Tail
    lower: Tail
    constant: float | None = None
    parts: "tuple[Law, ...]" = ()
    log_moment: Callable[[float], float] | None = None

    @cached_property
    def reach(self) -> float:
        """A time that is passed with less than END, s, or with not much more."""
        if self.parts:
            return sum(part.reach for part in self.parts)
        high = 1e-6
        while high > 1e-290 and float(self.upper(np.array([high]))[0]) <= END:
            high /= 16
        while float(self.upper(np.array([high]))[0]) > END:
            high *= 1.2
        return high

    @cached_property
    def _masses(self) -> tuple[Floats, Floats]:
        edges = np.linspace(0, self.reach, 4001)
        return -np.diff(np.minimum(self.upper(edges), 1), prepend=1, append=0), np.append(edges, edges[-1])

    def moment(self, theta: float) -> float:
        """At least E[e^{theta X}], without `log_moment` but for what lies beyond `reach`."""
        if self.parts:
            return float(np.prod([part.moment(theta) for part in self.parts]))
        with np.errstate(over="ignore", invalid="ignore"):
            if self.log_moment is not None:
                value = float(np.exp(self.log_moment(theta))) * (1 + ROUNDING)
            else:
                mass, place = self._masses
                value = float((mass * np.exp(theta * place)).sum()) * (1 + ROUNDING)
        return value if np.isfinite(value) else np.inf


def stage_law(stage: Any) -> Law:
    """The law of a stage's service time, or of a delay with what its link adds."""
    kind: str
    value: Any
    if isinstance(stage, Delay):
        kind, value = "compound", law_of((stage.stage,))
    else:
        kind, value = stage.core_stages()[0][:2]

    def log_moment(theta: float) -> float:
        return float(_core.service_log_mgf([(kind, value)], np.array([theta]))[0]) * (1 + MOMENT)

    if kind == "compound":
        upper: Tail = lambda t: np.where(t < 0, 1, _end(value, 1, t))  # noqa: E731
        return Law(upper, lambda t: np.where(t < 0, 1, _end(value, 0, t)), log_moment=log_moment)
    if kind == "transfer":
        error = 1e-5
        return Law(
            lambda t: np.where(t < 0, 1, np.minimum(value.sf(np.maximum(t, 0)) * (1 + error) + 1e-20, 1)),
            lambda t: np.where(t < 0, 1, value.sf(np.maximum(t, 0)) * (1 - error)),
            log_moment=log_moment,
        )
    if kind == "exponential":
        tail: Tail = lambda t: np.exp(-np.maximum(t, 0) / value)  # noqa: E731
        return Law(tail, tail, log_moment=log_moment)
    if kind == "repetition":
        # An error of 1e-9 is far beyond that of the law, and a hair keeps its atoms from rounding away.
        slots = stage.law()
        return Law(
            lambda t: np.minimum(slots.sf(np.asarray(t) * (1 - 1e-12)) * (1 + 1e-9), 1),
            lambda t: slots.sf(np.asarray(t) * (1 + 1e-12)) * (1 - 1e-9),
            log_moment=log_moment,
        )
    samples = np.array([value]) if kind == "deterministic" else value
    # A hair to the safe side, so that an atom on a point of the lattice is not missed by rounding.
    up = samples * (1 + 1e-12)
    return Law(
        lambda t: 1 - np.searchsorted(up, t, side="right") / len(up),
        lambda t: 1 - np.searchsorted(samples * (1 - 1e-12), t, side="right") / len(up),
        float(samples[0]) if kind == "deterministic" else None,
    )


def _end(law: Any, end: int, times: Floats) -> Floats:
    """The lower (0) or the upper (1) end of a compound's tail."""
    return np.asarray(law.sf(np.maximum(np.ravel(times), 0))[end].reshape(np.shape(times)))


class Lattice:
    """Points from -L by T to U, T among them, and what is done to survival functions on them.

    Parameters
    ----------
    deadline, beyond, reach : float, s
        T, at least U - T, and at least L.
    """

    def __init__(self, deadline: float, beyond: float, reach: float) -> None:
        coarse = (deadline + beyond) / POINTS
        inside = max(int(np.ceil(deadline / coarse)), 1)
        self.step = deadline / inside
        self.below = min(int(np.ceil(reach / self.step)) + 1, POINTS)
        self.deadline = self.below + inside
        self.points = self.step * np.arange(-self.below, inside + int(np.ceil(beyond / self.step)) + 1)

    def start(self, tail: Tail) -> Floats:
        """A survival function on the points."""
        return np.where(self.points < 0, 1.0, tail(np.maximum(self.points, 0)))

    def add(self, before: Floats, law: Law, upper: bool) -> Floats:
        """P(Y + B > t) from that of Y, where B is a service; Y counts as beyond what lies below the lattice."""
        count = len(before)
        tail = np.clip((law.upper if upper else law.lower)(self.step * np.arange(count + 1, dtype=np.float64)), 0, 1)
        mass = -np.diff(tail)
        if upper:
            kernel = np.concatenate([[1 - tail[0]], mass])[:count]
            # What is cut off is beyond every point.
            return np.minimum(self._sum(before, kernel) + tail[:count], 1) * (1 + ROUNDING)
        kernel = mass
        kernel[0] += 1 - tail[0]
        rest = np.where(self.points >= 0, tail[np.clip(np.arange(count) + 1, 0, count)], 0)
        return np.maximum(self._sum(before, kernel) + rest, 0) * (1 - ROUNDING)

    @staticmethod
    def _sum(before: Floats, kernel: Floats) -> Floats:
        some = np.flatnonzero(kernel)
        if not some.size:
            return np.zeros_like(before)
        first, last = int(some[0]), int(some[-1]) + 1
        part = np.convolve(before, kernel[first:last])[: len(before) - first]
        return np.concatenate([np.zeros(first), part])

    def longer(self, before: Floats, law: Law, gap: float) -> float:
        """At least P(Y + B > T, B > gap) from that of Y."""
        gap, place = gap * (1 + HAIR), self.deadline
        tail = np.clip(law.upper(np.maximum(self.step * np.arange(-1, place + 1), gap)), 0, 1)
        kernel = -np.diff(tail)
        return float(kernel @ before[place::-1] + max(tail[-1], 0)) * (1 + ROUNDING)

    def shorter(self, before: Floats, law: Law, gap: float) -> float:
        """At most P(Y + gap > T, B > gap) from that of Y."""
        share = float(law.lower(np.array([gap * (1 + HAIR)]))[0])
        return max(share, 0.0) * float(before[max(self.deadline - int(gap / self.step), 0)]) * (1 - ROUNDING)

    def law(self, total: Floats) -> Law:
        """A survival function on the points from 0 on as a law: both of its ends, of which it is one."""
        values = total[self.below :]
        upper = piecewise_constant(values, self.step, float(values[-1]))
        return Law(upper, piecewise_constant(values, self.step, 0.0, after=True))

    def take(self, before: Floats, rate: float, upper: bool = True) -> Floats:
        """At least P(Y - E > t), E exponential, rounded down, beyond the lattice as at its end; or at most, there 0."""
        if not upper:
            before = np.append(before[1:], 0.0)
        keep, answer, later = np.exp(-rate * self.step), np.empty_like(before), float(before[-1])
        # In blocks within which the powers of `keep` do not underflow.
        block = max(int(300 / max(rate * self.step, 1e-300)) if rate * self.step > 0.1 else 3000, 1)
        for end in range(len(before), 0, -block):
            begin = max(end - block, 0)
            powers = keep ** np.arange(end - begin)
            sums = np.cumsum((powers * before[begin:end])[::-1])[::-1]
            answer[begin:end] = (1 - keep) * sums / powers + later * keep ** np.arange(end - begin, 0, -1)
            later = float(answer[begin])
        return answer * (1 + ROUNDING if upper else 1 - ROUNDING)
