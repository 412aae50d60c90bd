"""The upper end of the time at an edge and in a terminal's own servers behind it.

W = sup over i >= 0 of A_i + C_i, as `edgeinfer.cell.bracket` has it. If i > 0 is the first for which A_i + C_i > x,
then A_{i-1} + C_{i-1} <= x. At an edge that keeps the order, n requests of other terminals between this terminal's i
and i - 1 leave with the latter a time g_n behind the former: C_{i-1} >= C_i - t + g_n, t the time between the two. So
with Y = A_{i-1} + C_i - t, of which B_i is independent, the term of i is at most

    P(Y + B_i > x, Y + g_n <= x) = P(Y + max(B_i, g_n) > x) - P(Y + g_n > x),

nothing where the own server is never slower than the edge. It falls with g_n, which may be random, too. Given n, t is
Erlang of n + 1 phases of the rate of all.

One server that a request holds for all of the terminal's own services lets none leave earlier than they do one after
the other: where they are idle nearly always, it is the better end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.cell.lattice import HAIR, Lattice, Law

Floats = NDArray[np.float64]
Moment = Callable[[float], float]
#: Terms of a sum over requests that are summed one by one; numbers of others between two requests, too.
TERMS, BETWEEN = 40, 200
#: Of the greatest exponent.
SHARES = np.array([0.02, 0.1, 0.3, 0.5, 0.7, 0.85])


@dataclass(frozen=True)
class Feed:
    """Interarrival times at a terminal's own servers: exponential ones, or always the same."""

    rate: float = 0.0
    period: float = 0.0

    def take(self, lattice: Lattice, before: Floats) -> Floats:
        """At least P(Y - t > x)."""
        if not self.period:
            return lattice.take(before, self.rate)
        steps = min(int(np.floor(self.period / lattice.step * (1 + 1e-12))), len(before))
        return np.concatenate([before[steps:], np.full(steps, before[-1])])

    def moment(self, theta: float) -> float:
        """E[e^{-theta t}]."""
        return float(np.exp(-theta * self.period)) if self.period else self.rate / (self.rate + theta)


@dataclass(frozen=True)
class Gaps:
    """How far behind each other two requests of a terminal leave the edge, at least.

    Attributes
    ----------
    own, others : float, 1/s
        Rates of this terminal's requests and of all others'; both Poisson.
    least : callable
        The time, s, where so many of the others come between: values that are equally likely, or less than such.
    """

    own: float
    others: float
    least: Callable[[int], Sequence[float]]

    def excess(self, lattice: Lattice, high: Floats, low: Floats, law: Law, enough: float) -> float:
        """At least P(Y + max(B, g) > T) - P(Y + g > T) from both ends of A + C; `enough` does not matter."""
        total, rate, left = 0.0, self.own + self.others, 1.0
        for n in range(BETWEEN + 1):
            high, low = lattice.take(high, rate), lattice.take(low, rate, upper=False)
            gaps = self.least(n)
            each = [lattice.longer(high, law, gap) for gap in gaps]
            share, longer = left * self.own / rate, float(np.mean(each))
            if left * longer < enough:
                break
            more = [long - lattice.shorter(low, law, gap) for long, gap in zip(each, gaps, strict=True)]
            total += share * float(np.mean(np.maximum(more, 0)))
            left -= share
        # Later ones have more time between, and a longer gap.
        return total + left * longer


@dataclass(frozen=True)
class Shared:
    """The time at an edge.

    Attributes
    ----------
    wait : Law
        Of the time to which a request's own service adds; or of all of it.
    complete : bool
        Whether it is all of it.
    decay : float, 1/s
        Exponential moments of `later` are finite below.
    moment : callable
        At least E[e^{theta W}] for them, W the wait; or all of the time where that is `later`.
    later : Law, optional
        Of all of the time, from above, for what happens before the request comes alone; None: as the first two say.
    gaps : Gaps, optional
        None: nothing is known.
    ordered : bool
        Whether requests leave in the order in which they come.
    period : float, s, optional
        That of the terminal's requests, each of which takes as long as all others: then they leave as they come.
    """

    wait: Law
    decay: float
    moment: Moment
    complete: bool = False
    later: Law | None = None
    gaps: Gaps | None = None
    ordered: bool = True
    period: float = 0.0


def one_more(
    lattice: Lattice,
    first: Floats,
    law: Law,
    feed: Feed,
    moment: Moment,
    thetas: Floats,
    later: Floats | None = None,
    low: Floats | None = None,
    gaps: Gaps | None = None,
) -> tuple[Floats, Floats, float, Moment]:
    """The upper end with one own server more.

    Parameters
    ----------
    first : ndarray
        The upper end up to here, of the request itself.
    moment : callable
    later : ndarray, optional
        That of those before it; by default the same.
    low : ndarray, optional
        The lower end, for gaps.

    Returns
    -------
    itself, more : ndarray
        The upper end for the request itself, and what those before it add to it at most.
    added : float
        The same at the deadline, with gaps.
    after : callable
        At least an exponential moment of both together.
    """
    ratios = {float(t): law.moment(float(t)) * feed.moment(float(t)) for t in thetas}
    good = {t: q for t, q in ratios.items() if q < 1 and np.isfinite(moment(t))}
    itself = lattice.add(first, law, True)
    before, more = itself if later is None else lattice.add(later, law, True), np.zeros_like(itself)
    if not good:
        return itself, np.ones_like(itself), 1.0, moment

    def rest(number: int, at: Any) -> Any:
        """The terms from the number on; inf where that is beyond the range of double, which bounds nothing."""
        with np.errstate(over="ignore"):
            return np.min(
                [moment(t) * law.moment(t) * q**number / (1 - q) * np.exp(-t * at) for t, q in good.items()], axis=0
            )

    number, place, added = 1, lattice.deadline, 0.0
    under = lattice.add(low, law, False) if low is not None else None
    while number < TERMS and added < 1 and rest(number, lattice.points[place]) > 1e-4 * (itself[place] + added):
        term, most = lattice.add(feed.take(lattice, before), law, True), float(itself[place] + added)
        # Terms fall: behind one that does not matter none does.
        if gaps is not None and under is not None and term[place] > 3e-3 * most:
            added += min(gaps.excess(lattice, before, under, law, 1e-3 * most), float(term[place]))
            under = lattice.add(lattice.take(under, feed.rate, upper=False), law, False)
        else:
            under, added = None, added + float(term[place])
        more += term
        before = term
        number += 1
    more += rest(number, lattice.points)
    added += float(rest(number, lattice.points[place]))

    def after(theta: float) -> float:
        q = ratios.get(theta, 1.0)
        return moment(theta) * law.moment(theta) / (1 - q) if q < 1 else np.inf

    return itself, more, added, after


def in_turn(lattice: Lattice, laws: list[Law], apart: float) -> tuple[Floats, bool]:
    """The upper end of the time in servers one after the other to which requests come `apart`; whether none waits."""
    before = lattice.start(lambda t: 0 * t)
    if all(law.constant is not None and law.constant <= apart * (1 + HAIR) for law in laws):
        for law in laws:
            before = lattice.add(before, law, True)
        return before, True
    moment: Moment = lambda t: 1.0  # noqa: E731
    for law in laws:
        itself, more, _, moment = one_more(lattice, before, law, Feed(period=apart), moment, 20 / apart * SHARES)
        before = np.minimum(itself + more, 1)
    return before, False


def served(
    lattice: Lattice, shared: Shared, own: Law, laws: list[Law], delays: list[Law], rate: float
) -> list[tuple[float, float | None]]:
    """Upper ends at the deadline of the time at the edge, whose service is `own`, in own servers, and in delays.

    Each with what those before the request add to what it takes itself, where that is known apart.
    """
    first, low = lattice.start(shared.wait.upper), lattice.start(shared.wait.lower)
    later = None if shared.later is None else lattice.start(shared.later.upper)
    for law in delays if shared.complete else [own, *delays]:
        first, low = lattice.add(first, law, True), lattice.add(low, law, False)
    for law in delays:
        later = None if later is None else lattice.add(later, law, True)
    place = lattice.deadline
    if not laws:
        return [(float(first[place]), 0.0)]

    def moment(theta: float) -> float:
        rest = [*delays, own] if shared.later is None else delays
        return shared.moment(theta) * float(np.prod([law.moment(theta) for law in rest]))

    feed, together = Feed(rate=rate), held(lattice, laws)
    thetas = exponent(shared.decay, laws, rate) * SHARES
    itself, _, added, _ = one_more(lattice, first, together, feed, moment, thetas, later, low, shared.gaps)
    answer: list[tuple[float, float | None]] = [(float(itself[place]) + added, added)]
    if len(laws) > 1:
        itself, more, _, moments = one_more(lattice, first, laws[0], feed, moment, thetas, later)
        for law in laws[1:]:
            itself, more, _, moments = one_more(lattice, np.minimum(itself + more, 1), law, feed, moments, thetas)
        answer.append((float(itself[place] + more[place]), None))
    return answer


def exponent(decay: float, laws: list[Law], rate: float) -> float:
    """Up to where exponential moments exist, both of the time at the edge and of what own servers add to it, 1/s."""
    together, feed, high = Law(laws[0].upper, laws[0].lower, parts=tuple(laws)), Feed(rate=rate), decay
    for _ in range(60):
        if together.moment(high) * feed.moment(high) < 1:
            break
        high *= 0.8
    return high


def held(lattice: Lattice, laws: list[Law]) -> Law:
    """The sum of services."""
    if len(laws) == 1:
        return laws[0]
    ends = []
    for upper in (False, True):
        total = lattice.start(lambda t: 0 * t)
        for law in laws:
            total = lattice.add(total, law, upper)
        ends.append(lattice.law(total))
    return Law(ends[1].upper, ends[0].lower, parts=tuple(laws))
