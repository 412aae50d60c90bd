"""When the last bit of a transfer leaves a link: the slot arithmetic, without clocks or sleeping."""

import math
from collections.abc import Callable, Iterator
from itertools import islice, repeat
from typing import Any

import numpy as np

from edgeinfer import _random, _validate
from edgeinfer.model import ConstantLink, FadingLink, OutageLink, TraceLink
from edgeinfer.model.pipelines import LINKS, Link

SLOTS = ("fresh", "grid")
_BLOCK = 1024
#: Links whose slots do not depend on those before.
INDEPENDENT = (FadingLink, OutageLink)


class Airtime:
    """A link as a FIFO server of bits whose rate is drawn anew in every slot.

    Parameters
    ----------
    link : FadingLink, ConstantLink, OutageLink, MarkovLink or TraceLink
        A single one; a control overhead lowers every slot's rate. A latency is not in the times here: it is the
        link's, and keeps nobody.
    slots : {"fresh", "grid"}
        "fresh": a link that is idle begins a new slot when bits come, as `transfer` of independent slots assumes.
        "grid": slots begin at whole multiples of the slot length after `origin`, whether bits come or not, as those of
        a `MarkovLink` and a `TraceLink` always do. An `OutageLink` fills a slot's block with the bits that are there
        when the slot begins, and they leave together when a slot gets it through.
    seed : optional
        What `numpy.random.default_rng` takes; equal seeds give equal rates.
    origin : float, s
        Where the grid begins; a trace is at its offset there.
    on_slot : callable (begin, rate), optional
        Called with s and bit/s when a slot that carries bits is entered; one that does not get through has the rate 0.

    Attributes
    ----------
    block : int or None
        Whole bytes that leave together, of an `OutageLink`.

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
        link: Link,
        *,
        slots: str = "fresh",
        seed: Any = None,
        origin: float = 0.0,
        on_slot: Callable[[float, float], None] | None = None,
    ) -> None:
        if not isinstance(link, Link):
            raise ValueError(f"link = {_validate.shown(link)}: must be {LINKS}")
        if link.shape != ():
            raise ValueError(f"link of shape {link.shape}: must be a single link")
        if isinstance(link, OutageLink) and link.outage == 1:
            raise ValueError("link: outage = 1: must be < 1 for anything to get through")
        self.link = link
        _validate.choice("slots", slots, SLOTS)
        self.slots = slots if isinstance(link, INDEPENDENT) else "fresh" if isinstance(link, ConstantLink) else "grid"
        # A constant rate needs no slots: the first one has no end.
        self.length = math.inf if isinstance(link, ConstantLink) else float(link.slot)  # type: ignore[union-attr]
        self.free = -math.inf
        self._rates = _rates(link, _random.seed_sequence(seed, "seed"))
        self._on_slot = on_slot or (lambda begin, rate: None)
        self._origin = _validate.scalar("origin", origin, unit="s")
        if isinstance(link, TraceLink) and link.offset is not None:
            self._origin -= link.offset % self.length
        self._index = -1
        self._rate = 0.0
        # Of the last block of an outage link: when it began, and the bits that it has room for.
        self._begun, self._room = -math.inf, 0.0
        self.block = max(int(link.rate * link.slot / 8), 1) if isinstance(link, OutageLink) else None

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
        if isinstance(self.link, OutageLink):
            return self._blocks(float(self.link.rate * self.link.slot), bits, now)
        time = max(now, self.free)
        if self.slots == "fresh" and now > self.free:
            self._enter(0, now)
        elif self.slots == "grid":
            index = math.floor((time - self._origin) / self.length)
            if index > self._index:
                self._enter(index, self._origin)
        while True:
            end = self._origin + (self._index + 1) * self.length
            room = max(end - time, 0.0) * self._rate
            # What rounding leaves does not wait for the next slot that carries anything.
            if bits <= room * (1 + 1e-12):
                break
            bits -= room
            time = end
            self._enter(self._index + 1, self._origin)
        self.free = time + (bits / self._rate if bits else 0.0)
        return self.free

    def _blocks(self, size: float, bits: float, now: float) -> float:
        """`finish` of a link that sends whole blocks, each until it gets through."""
        if now <= self._begun:
            taken = min(bits, self._room)
            bits, self._room = bits - taken, self._room - taken
        # What rounding leaves needs no block of its own.
        while bits > 1e-12 * size:
            begun = max(now, self.free)
            if self.slots == "grid":
                begun = self._origin + self.length * math.ceil((begun - self._origin) / self.length * (1 - 1e-12))
            self._begun, self.free, through = begun, begun, False
            while not through:
                through = (rate := next(self._rates)) > 0
                self._on_slot(self.free, rate)
                self.free += self.length
            bits, self._room = bits - size, max(size - bits, 0.0)
        return max(now, self.free)

    def _enter(self, index: int, origin: float) -> None:
        # Slots of a channel pass, whether bits come or not; those of independent fading need not be drawn.
        passed = 0 if isinstance(self.link, (*INDEPENDENT, ConstantLink)) else index - self._index - 1
        self._rate = next(islice(self._rates, passed, None))
        self._index, self._origin = index, origin
        self._on_slot(origin + index * self.length if index else origin, self._rate)


def _rates(link: Link, sequence: np.random.SeedSequence) -> Iterator[float]:
    if isinstance(link, ConstantLink):
        yield from repeat(float(link.rate))
    elif isinstance(link, OutageLink):
        generator = np.random.default_rng(sequence)
        while True:
            for uniform in generator.random(_BLOCK).tolist():
                yield float(link.rate) if uniform >= link.outage else 0.0
    elif isinstance(link, FadingLink):
        block = 0
        while True:
            key = np.random.SeedSequence(sequence.entropy, spawn_key=(*sequence.spawn_key, block))
            yield from link.sample_rate(_BLOCK, key).tolist()
            block += 1
    else:
        yield from link.path(sequence)
