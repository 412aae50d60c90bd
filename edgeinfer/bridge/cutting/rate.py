"""The rate of a link as the device sees it in its own transfers, and when it has changed enough to cut anew."""

import math

from edgeinfer import _validate
from edgeinfer.bridge.cutting.cuts import Cut
from edgeinfer.bridge.cutting.search import BestCuts


class LinkRate:
    """Smoothed bits over smoothed seconds of transfers, so that long transfers count for what they are.

    Parameters
    ----------
    weight : float
        Of the latest transfer in the exponentially weighted means, in (0, 1].

    Examples
    --------
    >>> rate = LinkRate()
    >>> rate.observe(1e6, 0.1), rate.observe(1e6, 0.1)
    (10000000.0, 10000000.0)
    >>> rate.fail()
    0.0
    >>> rate.observe(2e5, 0.1)  # what was before the failure is forgotten
    2000000.0
    """

    def __init__(self, weight: float = 0.25) -> None:
        self._weight = _validate.scalar("weight", weight, 0, 1, low_open=True)
        self._bits = self._seconds = math.nan
        self.value = math.nan

    def observe(self, bits: float, seconds: float) -> float:
        """A transfer of `bits` that took `seconds`, both >= 0: the estimate now, bit/s."""
        bits = _validate.scalar("bits", bits, 0, unit="bit")
        seconds = _validate.scalar("seconds", seconds, 0, unit="s")
        if not self.value > 0:
            self._bits, self._seconds = bits, seconds
        else:
            self._bits += self._weight * (bits - self._bits)
            self._seconds += self._weight * (seconds - self._seconds)
        if self._seconds > 0:
            self.value = self._bits / self._seconds
        return self.value

    def fail(self) -> float:
        """Nothing came through: the estimate is 0 until something does."""
        self.value = 0.0
        return self.value


class AdaptiveCut:
    """The best cut at the estimated rate, chosen anew when that leaves a band about the rate it was last chosen at.

    Parameters
    ----------
    cuts : BestCuts
        Between a device and one edge node.
    factor : float
        Of the band: from rate / factor to rate * factor. > 1.
    weight : float
        It is as for `LinkRate`.

    Attributes
    ----------
    cut : Cut
        The best at `planned_rate`; before anything is known of the link, all on the device.
    planned_rate : float, bit/s

    Examples
    --------
    >>> from edgeinfer import Node, RayleighLink
    >>> from edgeinfer.bridge import Graph, Operation, Tensor, best_cuts
    >>> tensors = {"x": Tensor("x", "uint8", (1000,), 8000), "y": Tensor("y", "uint8", (1,), 8)}
    >>> graph = Graph("one", "", (Operation(0, "f", "Conv", ("x",), ("y",), 10**8, 0),), tensors, ("x",), ("y",))
    >>> link = RayleighLink(1e5, 31, -100, 128.1, 1e-3)
    >>> adaptive = AdaptiveCut(best_cuts(graph, device=Node("device", 1e9), edge=Node("edge", 1e11), link=link))
    >>> adaptive.observe(8000, 0.001), adaptive.cut.places
    (True, (1,))
    >>> adaptive.observe(8000, 0.0011), adaptive.fail(), adaptive.cut.places
    (False, True, (0,))
    """

    def __init__(self, cuts: BestCuts, *, factor: float = 2.0, weight: float = 0.25) -> None:
        if any(len(cut.nodes) != 2 for cut in cuts.cuts):
            raise ValueError(
                f"cuts: between {len(cuts.cuts[0].nodes)} nodes: must be between a device and one edge node"
            )
        self.cuts = cuts
        self.rate = LinkRate(weight)
        self._factor = _validate.scalar("factor", factor, 1, low_open=True)
        self.planned_rate = 0.0
        self.cut: Cut = cuts.at(0.0)

    def observe(self, bits: float, seconds: float) -> bool:
        """A transfer; whether the cut was chosen anew."""
        return self._plan(self.rate.observe(bits, seconds))

    def fail(self) -> bool:
        """A transfer that did not come through; whether the cut was chosen anew."""
        return self._plan(self.rate.fail())

    def _plan(self, rate: float) -> bool:
        if math.isnan(rate) or self.planned_rate / self._factor <= rate <= self.planned_rate * self._factor:
            return False
        self.planned_rate, self.cut = rate, self.cuts.at(rate)
        return True
