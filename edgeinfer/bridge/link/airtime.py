"""When the last bit of a transfer leaves a fading link: the slot arithmetic, without clocks or sleeping."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edgeinfer import _random, _validate
from edgeinfer.model import FadingLink

SLOTS = ("fresh", "grid")
_BLOCK = 1024


class Airtime:
    """A link as a FIFO server of bits whose rate is drawn anew in every slot.

    Parameters
    ----------
    link : FadingLink
        A single one; its control overhead lowers every slot's rate.
    slots : {"fresh", "grid"}
        "fresh": a link that is idle begins a new slot when bits come, as `RayleighLink.transfer` assumes.
        "grid": slots begin at whole multiples of the slot length after `origin`, whether bits come or not.
    seed : optional
        What `numpy.random.default_rng` takes; equal seeds give equal rates.
    origin : float, s
        Where the grid begins.
    on_slot : callable (begin, rate), optional
        Called with s and bit/s when a slot that carries bits is entered.

    Examples
    --------
    >>> from edgeinfer import RayleighLink
    >>> link = RayleighLink(10e6, 31, -100, 128.1, 0.01)
    >>> airtime = Airtime(link, seed=1)
    >>> first = airtime.finish(1.0486e6, now=5.0)
    >>> 5.0 < first < airtime.finish(1.0486e6, now=5.0)  # the second waits for the first
    True
    """

    def __init__(
        self,
        link: FadingLink,
        *,
        slots: str = "fresh",
        seed: Any = None,
        origin: float = 0.0,
        on_slot: Callable[[float, float], None] | None = None,
    ) -> None:
        if not isinstance(link, FadingLink):
            raise ValueError(f"link = {link!r}: must be a FadingLink")
        if link.shape != ():
            raise ValueError(f"link of shape {link.shape}: must be a single link")
        self.link = link
        self.slots = _validate.choice("slots", slots, SLOTS)
        self.free = -math.inf
        self._rates = _rates(link, _random.seed_sequence(seed))
        self._on_slot = on_slot or (lambda begin, rate: None)
        self._origin = _validate.scalar("origin", origin, unit="s")
        self._index = -1
        self._rate = 0.0

    def finish(self, bits: float, now: float) -> float:
        """Time at which the last of `bits` that came at `now` has left, s; later calls queue behind it.

        Parameters
        ----------
        bits : float
            >= 0.
        now : float, s
            On the clock of `origin`; one before the link is free waits for it.
        """
        bits = _validate.scalar("bits", bits, 0, unit="bit")
        now = _validate.scalar("now", now, unit="s")
        time = max(now, self.free)
        length = self.link.slot
        if self.slots == "fresh" and now > self.free:
            self._enter(0, now)
        elif self.slots == "grid":
            index = math.floor((time - self._origin) / length)
            if index > self._index:
                self._enter(index, self._origin)
        while True:
            end = self._origin + (self._index + 1) * length
            room = max(end - time, 0.0) * self._rate
            if bits <= room:
                break
            bits -= room
            time = end
            self._enter(self._index + 1, self._origin)
        self.free = time + (bits / self._rate if bits else 0.0)
        return self.free

    def _enter(self, index: int, origin: float) -> None:
        self._index, self._origin, self._rate = index, origin, next(self._rates)
        self._on_slot(origin + index * self.link.slot, self._rate)


def _rates(link: FadingLink, sequence: np.random.SeedSequence) -> Iterator[float]:
    block = 0
    while True:
        key = np.random.SeedSequence(sequence.entropy, spawn_key=(*sequence.spawn_key, block))
        yield from link.sample_rate(_BLOCK, key).tolist()
        block += 1
