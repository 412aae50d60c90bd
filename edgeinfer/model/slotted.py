"""What links have in common whose rate goes from slot to slot on its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _validate
from edgeinfer.model.bases import CoreStage
from edgeinfer.model.mixtures import Floats, TransferMixture

#: Largest rate (bit/s) and slot (s): of them and of squares of their sums no product is beyond the range of double.
MOST = 1e60
#: Slots of a transfer at the mean rate, at most, as over a `FadingLink`: they are followed one by one.
MOST_OF_TRANSFER = 2e7


def check_slots(rates: Any, slot: Any) -> tuple[Floats, float]:
    """Rates, a row of one at least, and the slot."""
    row = np.atleast_1d(np.asarray(_validate.real("rates", rates, 0, MOST, unit="bit/s")))
    return row, _validate.scalar("slot", slot, 1 / MOST, MOST, unit="s")


@dataclass(frozen=True, eq=False)
class ChannelLink(_validate.Value, ABC):
    """A link whose rate goes from slot to slot on the wall clock, whether bits come or not: by a chain, or a record.

    What a `MarkovLink` and a `TraceLink` are. Successive transfers see successive slots, and so depend on each other:
    `simulate` follows them, and what is proved for independent services refuses such a link by name.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Always ()."""
        return ()

    @property
    def latency(self) -> float:
        """Always 0: a propagation latency is that of a `ConstantLink`."""
        return 0.0

    @abstractmethod
    def mean_rate(self) -> float:
        """Mean rate over a long time, bit/s."""

    @abstractmethod
    def spread(self) -> float:
        """Variance of the bits that a long time carries, over that time, bit^2/s."""

    @abstractmethod
    def path(self, rng: Any = None) -> Iterator[float]:
        """Rates of slots that follow each other, bit/s, without an end."""

    def transfer(self, bits: ArrayLike) -> TransferMixture:
        """Law of the time that `bits` take; each link says from where on.

        Parameters
        ----------
        bits : (...,) array_like, bit
            > 0.

        Examples
        --------
        >>> from edgeinfer import TraceLink
        >>> TraceLink([2e6, 1e6], 1.0).transfer([1e6, 3e6]).mean()
        array([0.6875, 2.    ])
        """
        array = np.asarray(_validate.positive("bits", bits, "bit"))
        return TransferMixture([self._parts(float(one)) for one in array.ravel()], array.shape)

    def core_stages(self, bits: ArrayLike) -> list[CoreStage]:
        """The service of `bits` as the core takes it, one for each element."""
        link, rate, array = self._channel(), self.mean_rate(), np.ravel(_validate.positive("bits", bits, "bit"))
        slot = link[3]
        if (most := array.max(initial=0)) > MOST_OF_TRANSFER * rate * slot:
            raise ValueError(
                f"bits = {most:g}: over slots of {slot:g} s at {rate:g} bit/s: must be at most 2e7 slots a transfer"
            )
        return [("channel", (float(one), *link, rate, self.spread())) for one in array]

    @abstractmethod
    def _parts(self, bits: float) -> tuple[Floats, Floats, Floats]:
        """Intervals of the time, and their probabilities."""

    @abstractmethod
    def _channel(self) -> tuple[Any, ...]:
        """Rates, start, jumps, slot and offset as csrc/edgeinfer/channel.h has them."""
