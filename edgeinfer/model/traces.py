"""Links whose rate was recorded."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from typing import Any, Self

import numpy as np

from edgeinfer import _columns, _random, _validate
from edgeinfer.model.mixtures import Floats
from edgeinfer.model.slotted import ChannelLink, check_slots

#: Bits of a delivery opportunity in Mahimahi's traces.
PACKET = 8 * 1500
#: Slots of a record of packets, at most.
MOST_SLOTS = 100_000_000


@dataclass(frozen=True, eq=False)
class TraceLink(ChannelLink):
    """A link that plays recorded rates slot after slot, and begins again at their end.

    Nothing but where a replication of `simulate` begins is random: at a place of its own, anywhere in the record, or at
    `offset`. The law of `transfer` is that from a time on that is anywhere in the record, evenly; it is exact.

    Parameters
    ----------
    rates : (n,) array_like, bit/s
        Rate in each slot, >= 0, at least one > 0.
    slot : float, s
        > 0.
    offset : float, s, optional
        Place in the record at which every replication begins, in [0, 2^53 slots]; by default a random one for each.

    Raises
    ------
    ValueError
        For values outside their range.

    Examples
    --------
    >>> link = TraceLink([8e6, 0.0, 4e6], slot=0.1)
    >>> round(link.duration, 3), link.mean_rate()
    (0.3, 4000000.0)
    >>> round(link.transfer(4e5).mean(), 4)
    0.1125
    """

    rates: Any
    slot: float
    offset: Any = None

    def __post_init__(self) -> None:
        rates, slot = check_slots(self.rates, self.slot)
        if rates.ndim != 1 or not rates.any():
            raise ValueError(f"rates of shape {rates.shape}: must be one-dimensional, one at least > 0")
        rates.flags.writeable = False
        object.__setattr__(self, "rates", rates)
        object.__setattr__(self, "slot", slot)
        if self.offset is not None:
            # Farther off, which slot that is is lost in rounding.
            object.__setattr__(self, "offset", _validate.scalar("offset", self.offset, 0, 2.0**53 * slot, unit="s"))

    @classmethod
    def from_mahimahi(cls, path: str | PathLike[str], slot: float = 0.001, offset: float | None = None) -> Self:
        """Read a trace of Mahimahi's `mm-link`: each line the millisecond at which a packet of 1500 bytes may leave.

        An opportunity at t ms counts for the slot that t ends or lies in; what a slot carries flows evenly. The record
        lasts until its last line, as in Mahimahi.

        Parameters
        ----------
        path : path-like
        slot : float, s
            Whole milliseconds, up to 1e9 s; the last slot is filled up without further opportunities.
        offset : float, s, optional

        Raises
        ------
        ValueError
            For a line that holds no whole number >= the one before, naming it, and a file without a time > 0.
        """
        width = _validate.scalar("slot", slot, 0, 1e9, low_open=True, unit="s") * 1e3
        if round(width) < 1 or abs(width - round(width)) > 1e-9 * width:
            raise ValueError(f"slot = {slot:g}: must be whole milliseconds")
        times: list[int] = []
        with open(_validate.path("path", path), encoding="ascii", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                text = line.strip()
                if not text:
                    continue
                if not text.isdigit() or len(text) > 18 or int(text) < (times[-1] if times else 0):
                    raise ValueError(
                        f"{path}, line {number}: {text[:40]!r}: must be a whole number of ms, >= the one before"
                    )
                times.append(int(text))
                if times[-1] > MOST_SLOTS * round(width):
                    raise ValueError(
                        f"{path}, line {number}: {text[:40]}: must be <= {MOST_SLOTS * round(width)} ms from the "
                        f"trace's beginning, {MOST_SLOTS} slots of {round(width)} ms"
                    )
        if not times or times[-1] == 0:
            raise ValueError(f"{path}: must have a line > 0")
        place = np.maximum(np.array(times) - 1, 0) // round(width)
        return cls(np.bincount(place) * PACKET / (round(width) / 1e3), round(width) / 1e3, offset)

    @classmethod
    def from_csv(
        cls, path: str | PathLike[str], column: str, slot: float, unit: float = 1.0, offset: float | None = None
    ) -> Self:
        """Read rates from a column of a CSV file with a header line, one row a slot.

        Parameters
        ----------
        path : path-like
        column : str
            Its name in the header line.
        slot : float, s
            Time from a row to the next.
        unit : float, bit/s
            What one is in the file: 1e6 for Mbit/s. > 0.
        offset : float, s, optional

        Raises
        ------
        ValueError
            Naming the line, or the column: for what is no UTF-8 text of rows that each have a number >= 0 there.
        """
        return cls(_columns.amounts_of(path, column, unit, "bit/s"), slot, offset)

    @property
    def duration(self) -> float:
        """How long the record is, s."""
        return float(self.rates.size * self.slot)

    def mean_rate(self) -> float:
        """Mean rate of the record, bit/s."""
        return float(self.rates.mean())

    def spread(self) -> float:
        """Variance of the bits that a time carries, over that time, bit^2/s: the largest up to half the record.

        Examples
        --------
        >>> round(TraceLink([1.0, 3.0, 1.0, 3.0], 0.5).spread(), 6)
        0.5
        """
        rates: Floats = self.rates
        count, best, length = rates.size, 0.0, 1
        sums = np.concatenate([[0.0], np.cumsum(np.concatenate([rates, rates]) - rates.mean())])
        while length <= max(count // 2, 1):
            part = sums[length : count + length] - sums[:count]
            best = max(best, float((part**2).mean()) / length * self.slot)
            length *= 2
        return best

    def path(self, rng: Any = None) -> Iterator[float]:
        """Rates of the slots from the offset's, or a random one, on, bit/s, without an end."""
        count = self.rates.size
        if self.offset is None:
            at = int(np.random.default_rng(_random.seed_sequence(rng)).integers(count))
        else:
            # What rounding takes from a whole number of slots.
            at = int(self.offset / self.slot * (1 + 1e-12)) % count
        while True:
            yield float(self.rates[at])
            at = (at + 1) % count

    def _parts(self, bits: float) -> tuple[Floats, Floats, Floats]:
        return _parts(self, bits)

    def _channel(self) -> tuple[Any, ...]:
        return self.rates, None, None, self.slot, np.nan if self.offset is None else self.offset


@lru_cache(maxsize=64)
def _parts(link: TraceLink, bits: float) -> tuple[Floats, Floats, Floats]:
    """Intervals of the time, and their shares of the record.

    Between the starts at which a slot begins, and those for which a slot ends with the last bit, the time is linear in
    the start.
    """
    count, slot, rates = link.rates.size, link.slot, link.rates
    twice = np.concatenate([rates, rates])
    done = np.concatenate([[0.0], np.cumsum(twice) * slot])
    total, ends = done[count], np.arange(2 * count + 1) * slot
    if not bits < 2**53 * total:
        raise ValueError(f"bits = {bits:g}: must be fewer than 2^53 times the {total:g} that the record carries in all")
    whole = max(np.ceil(bits / total * (1 - 1e-13)) - 1, 0.0)
    rest = bits - whole * total
    level = np.mod(done[:count] - rest, total)
    at = np.minimum(np.searchsorted(done[: count + 1], level, side="right") - 1, count - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.clip(np.where(rates[at] > 0, (level - done[at]) / rates[at], 0.0), 0.0, slot)
    starts = np.unique(np.concatenate([ends[: count + 1], ends[at] + inside]))
    starts = starts[np.append(np.diff(starts) > 1e-12 * slot, True)]
    starts[0] = 0.0
    first, last = starts[:-1], starts[1:]
    middle = (first + last) / 2
    begin = np.minimum((middle / slot).astype(int), count - 1)
    target = done[begin] + rates[begin] * (middle - ends[begin]) + rest
    # The earliest slot that reaches it, give or take rounding, which must not wait for the next that carries anything.
    end = np.clip(np.searchsorted(done, target - 1e-12 * total) - 1, 0, 2 * count - 1)
    times = []
    for start in (first, last):
        left = done[begin] + rates[begin] * (start - ends[begin]) + rest - done[end]
        times.append(ends[end] + np.clip(left / twice[end], 0.0, slot) - start + whole * link.duration)
    low, high = np.maximum(np.minimum(*times), 0.0), np.maximum(*times)
    return low, high, (last - first) / link.duration
