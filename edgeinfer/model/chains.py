"""The law of a transfer over slots whose rates follow a Markov chain, by carrying the chain's state along.

In units of the slot let v be the sum of the rates of n slots, c = J / slot what is to be carried, and m_j(v) the
probability of that sum with the chain in state j in the next slot. Slot n + 1 ends a transfer where v + r_j >= c, at
n + (c - v) / r_j; else m_j(v) P_jk goes to m_k(v + r_j).

Sums that agree are one, so that rates with a common measure, and chains of two states, have few of them: their law is
exact. Where there are more than `MOST_SUMS` the sums live on a lattice of `POINTS`, and a rate between two points is
shared out over the four about it so that the first three moments stay. Shares may be negative, and so may be those of
an interval of times; they add up to 1.
"""

import numpy as np

from edgeinfer.model.mixtures import Floats

#: Sums that are followed one by one; points of the lattice.
MOST_SUMS, POINTS = 1 << 14, 1 << 12
#: Probability that is left out, and slots after which no more than that must be left.
END, MOST_SLOTS = 1e-20, 50_000
#: Sums that differ by less, over c, are the same.
SAME = 1e-12
#: Intervals that a slot's ends are gathered in, where they are on the lattice.
INTERVALS = 256

Parts = tuple[Floats, Floats, Floats]


def transfer_parts(rates: Floats, transition: Floats, start: Floats, carry: float) -> Parts:
    """Intervals (low, high, probability), in slots, of the time that `carry` takes from a slot's beginning on.

    Parameters
    ----------
    rates : (m,) ndarray
        Of each state, >= 0.
    transition : (m, m) ndarray
        P, rows to columns.
    start : (m,) ndarray
        Law of the first slot's state.
    carry : float
        c, > 0.

    Returns
    -------
    low, high, probability : (intervals,) ndarray
        Equal ends where the time is exact.

    Raises
    ------
    ValueError
        Where more than `MOST_SLOTS` slots are needed to leave no more than 1e-20.
    """
    sums, mass, rows = np.zeros(1), start[None, :].copy(), []
    for slot in range(MOST_SLOTS):
        ends = sums[:, None] + rates >= carry * (1 - SAME)
        if ends.any():
            at, state = np.nonzero(ends & (mass > 0))
            time = slot + np.minimum((carry - sums[at]) / rates[state], 1.0)
            rows.append((time, time, mass[at, state]))
        mass = np.where(ends, 0.0, mass)
        if not mass.sum() > END:
            return _joined(rows)
        sums, mass = _step(sums, mass, rates, transition, carry)
        if sums.size > MOST_SUMS:
            return _on_lattice(rates, transition, start, carry)
    raise ValueError(f"transition: more than {END:g} is left after {MOST_SLOTS} slots: must be a shorter transfer")


def _joined(rows: list[Parts]) -> Parts:
    low, high, weight = (np.concatenate(column) for column in zip(*rows, strict=True))
    return low, high, weight


def _step(sums: Floats, mass: Floats, rates: Floats, transition: Floats, carry: float) -> tuple[Floats, Floats]:
    """Sums and masses a slot later, equal sums once."""
    at, state = np.nonzero(mass)
    after, moved = sums[at] + rates[state], mass[at, state][:, None] * transition[state]
    order = np.argsort(after, kind="stable")
    after, moved = after[order], moved[order]
    first = np.flatnonzero(np.diff(after, prepend=-np.inf) > SAME * carry)
    return after[first], np.add.reduceat(moved, first, axis=0)


def _shares(part: float, whole: int) -> list[tuple[int, float]]:
    """Points about `part` of the way from one to the next, and what each gets."""
    if part == 0 or whole == 0:
        return [(0, 1 - part), (1, part)]
    a, b, c = part, 1 - part, 2 - part
    return [(-1, -a * b * c / 6), (0, (1 + a) * b * c / 2), (1, (1 + a) * a * c / 2), (2, -(1 + a) * a * b / 6)]


def _on_lattice(rates: Floats, transition: Floats, start: Floats, carry: float) -> Parts:
    step = carry / POINTS
    points = np.arange(POINTS + 3) * step
    mass, rows = np.zeros((rates.size, points.size)), []
    mass[:, 0] = start
    for slot in range(MOST_SLOTS):
        moved = np.zeros_like(mass)
        for state, rate in enumerate(rates):
            # The first point from which this rate ends the transfer; what is beyond c by the sharing ends at once.
            last = int(np.searchsorted(points, max(carry - rate, 0.0))) if rate > 0 else POINTS
            if mass[state, last:].any():
                time = slot + (carry - points[last:]) / rate if rate > 0 else np.full(points.size - last, float(slot))
                rows.append(_gathered(time, mass[state, last:]))
            whole, part = divmod(rate / step, 1.0)
            for shift, share in _shares(part, int(whole)):
                to = int(whole) + shift
                room = max(min(last, points.size - to), 0)
                moved[state, to : to + room] += share * mass[state, :room]
        # Without threads, which cost more than so small a product.
        mass = np.einsum("jk,jn->kn", transition, moved)
        # What is far below what may be left is rounding.
        mass[np.abs(mass) < 1e-4 * END / POINTS] = 0.0
        if not np.abs(mass).sum() > END:
            return _joined(rows)
    raise ValueError(f"transition: more than {END:g} is left after {MOST_SLOTS} slots: must be a shorter transfer")


def _gathered(time: Floats, mass: Floats) -> Parts:
    """Descending times of neighbouring points as a few intervals."""
    first = np.arange(0, time.size, max(1, time.size // INTERVALS))
    weight = np.add.reduceat(mass, first)
    half = abs(time[0] - time[-1]) / max(time.size - 1, 1) / 2 if time.size > INTERVALS else 0.0
    low, high = time[np.append(first[1:] - 1, time.size - 1)] - half, time[first] + half
    return low, np.maximum(high, low), weight
