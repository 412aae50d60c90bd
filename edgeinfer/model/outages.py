"""A link that sends blocks at a fixed rate, each again until it gets through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _core, _validate
from edgeinfer.model.bases import CoreStage
from edgeinfer.model.links import FadingLink
from edgeinfer.model.mixtures import Floats, Mixture, TransferMixture

#: What a law of gains has its digits down to, and the least gain that is looked for.
_LEAST_OUTAGE, _LEAST_GAIN = 1e-250, 2.0**-999
#: Halvings of an interval of logarithms.
_HALVINGS = 100


def _crossing(above: Callable[[Any], Any], shape: tuple[int, ...]) -> Any:
    """Where what grows from below to `above` does so, in 2^-1000 .. 2^100, elementwise, to some 1e-13."""
    low, high = np.full(shape, -1000.0), np.full(shape, 100.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        beyond = above(np.exp2(middle))
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    value = np.exp2(high)
    return float(value) if value.ndim == 0 else value


def _threshold(link: FadingLink, efficiency: Any) -> Any:
    """The gain that carries bit/s/Hz."""
    with np.errstate(over="ignore"):
        return np.expm1(efficiency * np.log(2)) / link.snr


class _Slots(Mixture):
    """The law of one element."""

    def __init__(self, stage: tuple[str, Any]) -> None:
        blocks, outage, slot = stage[1]
        first, mass = _core.repetition_law(blocks, outage)
        time = slot * np.arange(first, first + mass.size, dtype=np.float64)
        super().__init__(time, time, mass)
        self.stage = stage

    def mgf(self, theta: Floats) -> Floats:
        return np.exp(_core.service_log_mgf([self.stage], theta))


class RepetitionTime(TransferMixture):
    """Exact law of the time that blocks take which are repeated until they get through: whole slots.

    P(X = m slot) = C(m - 1, n - 1) (1 - outage)^n outage^(m - n) for n blocks, m = n, n + 1, ..: a negative binomial
    number of slots. What `OutageLink.transfer` answers; its `mgf` is inf where it diverges.
    """

    def __init__(self, stages: list[tuple[str, Any]], shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._mixtures = [_Slots(stage) for stage in stages]


@dataclass(frozen=True, eq=False)
class OutageLink(_validate.Value):
    """A link that sends blocks of `rate` x `slot` bits, one a slot, and each again until it gets through (ARQ).

    Slots are independent: each is in outage, its channel too weak for the rate, with one probability, known to the
    sender at the slot's end. A transfer takes whole slots from its beginning on, and its last block is filled up. All
    of the analysis takes such a link.

    Parameters
    ----------
    rate : (...,) array_like, bit/s
        While sending, > 0.
    outage : (...,) array_like
        Probability, in [0, 1], that a block does not get through. Times are computed up to 0.999.
    slot : (...,) array_like, s
        > 0.

    Raises
    ------
    ValueError
        For values outside their range.

    Examples
    --------
    >>> link = OutageLink(10e6, 0.2, slot=0.01)
    >>> link.mean_rate(), round(link.transfer(4.5e5).mean(), 4)
    (8000000.0, 0.0625)
    """

    rate: Any
    outage: Any
    slot: Any

    def __post_init__(self) -> None:
        values = {
            "rate": _validate.positive("rate", self.rate, "bit/s"),
            "outage": _validate.real("outage", self.outage, 0, 1),
            "slot": _validate.positive("slot", self.slot, "s"),
        }
        _validate.broadcast_shapes(**{name: np.shape(value) for name, value in values.items()})
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_rate(cls, link: FadingLink, rate: ArrayLike) -> Self:
        """Blocks over a fading channel at a fixed rate: in outage where the slot's log2(1 + s g) is below it.

        Parameters
        ----------
        link : FadingLink
            The channel, its slots one block each.
        rate : (...,) array_like, bit/s
            > 0; broadcasts with the link's parameters.

        Examples
        --------
        >>> from edgeinfer import RayleighLink
        >>> link = OutageLink.from_rate(RayleighLink.from_snr(2.0, 10e6, 0.01), 10e6)
        >>> round(link.outage, 6)  # 1 - exp(-1 / 2)
        0.393469
        """
        rate = _validate.positive("rate", rate, "bit/s")
        _validate.broadcast_shapes(rate=np.shape(rate), link=_channel(link).shape)
        gain = _threshold(link, rate / link.effective_bandwidth)
        outage = _core.gain_law(gain, *link.fading.gain())[0]
        return cls(rate, float(outage) if np.ndim(outage) == 0 else outage, link.slot)

    @classmethod
    def from_outage(cls, link: FadingLink, outage: ArrayLike) -> Self:
        """Blocks over a fading channel at the rate of a given outage probability.

        Parameters
        ----------
        link : FadingLink
        outage : (...,) array_like
            In [1e-250, 1); broadcasts with the link's parameters.

        Raises
        ------
        ValueError
            For values outside their range, and an outage below which the gain is less than 2^-999, as 1e-160 of
            ``Nakagami(0.5)``.

        Examples
        --------
        >>> from edgeinfer import RayleighLink
        >>> channel = RayleighLink.from_snr(2.0, 10e6, 0.01)
        >>> link = OutageLink.from_outage(channel, 0.1)
        >>> bool(abs(OutageLink.from_rate(channel, link.rate).outage / 0.1 - 1) < 1e-11)
        True
        """
        outage = _validate.real("outage", outage, _LEAST_OUTAGE, 1, high_open=True)
        shape = _validate.broadcast_shapes(outage=np.shape(outage), link=_channel(link).shape)
        least = _core.gain_law(_LEAST_GAIN, *link.fading.gain())[0]
        if np.any(outage < least):
            raise ValueError(
                f"outage = {outage!r}: must be at least {np.max(least):g} of {link.fading!r}, whose gains are smaller "
                "than doubles there"
            )
        gain = _crossing(lambda x: _core.gain_law(x, *link.fading.gain())[0] > outage, shape)
        return cls(link.effective_bandwidth * np.log1p(link.snr * gain) / np.log(2), outage, link.slot)

    @classmethod
    def max_throughput(cls, link: FadingLink) -> Self:
        """Blocks over a fading channel at the rate R that makes R (1 - outage), what gets through, largest.

        For Rayleigh fading R = B W(s) / ln 2, W Lambert's function. Else the root of x h(x) = 1, h the hazard rate of
        a slot's rate: x h(x) is x 2^x ln 2 / (2^x - 1) times the gain's g h(g), both increasing, so that there is one.

        Parameters
        ----------
        link : FadingLink

        Examples
        --------
        >>> from edgeinfer import RayleighLink
        >>> channel = RayleighLink.from_snr(2.0, 10e6, 0.01)
        >>> best = OutageLink.max_throughput(channel)
        >>> round(best.rate / 1e6, 3), round(best.mean_rate() / channel.mean_rate(), 3)
        (12.3, 0.471)
        """
        gain = _channel(link).fading.gain()

        def beyond(x: Any) -> Any:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                place = _threshold(link, x)
                _, above, density = _core.gain_law(place, *gain)
                return ~(x * np.log(2) * (place + 1 / link.snr) * density < above)

        return cls.from_rate(link, link.effective_bandwidth * _crossing(beyond, link.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """Broadcast shape of the parameters."""
        return np.broadcast_shapes(np.shape(self.rate), np.shape(self.outage), np.shape(self.slot))

    @property
    def latency(self) -> float:
        """Always 0: a propagation latency is that of a `ConstantLink`."""
        return 0.0

    def mean_rate(self) -> Any:
        """What gets through of a full load, rate (1 - outage), bit/s."""
        return self.rate * (1 - self.outage)

    def transfer(self, bits: ArrayLike) -> RepetitionTime:
        """Law of the time that `bits` take: whole slots, from the beginning of one on.

        Parameters
        ----------
        bits : (...,) array_like, bit
            > 0; broadcasts with the link's parameters.

        Raises
        ------
        ValueError
            For an outage above 0.999, and more than 1e6 slots on average.

        Examples
        --------
        >>> law = OutageLink(10e6, [0.0, 0.5], slot=0.01).transfer(1e5)
        >>> law.sf(0.01)
        array([0. , 0.5])
        """
        bits = _validate.positive("bits", bits, "bit")
        return RepetitionTime(*self._repetitions(bits))

    def core_stages(self, bits: ArrayLike) -> list[CoreStage]:
        """The service of `bits` as the core takes it, one for each element."""
        laws = [law for _, law in self._repetitions(bits)[0]]
        # What always gets through is constant.
        return [("repetition", (n, q, s)) if q > 0 else ("deterministic", n * s) for n, q, s in laws]

    def _repetitions(self, bits: ArrayLike) -> tuple[list[tuple[str, Any]], tuple[int, ...]]:
        bits = _validate.positive("bits", bits, "bit")
        shape = _validate.broadcast_shapes(bits=np.shape(bits), link=self.shape)
        size, rate, outage, slot = (_validate.flat(value, shape) for value in (bits, self.rate, self.outage, self.slot))
        # What rounding leaves needs no block of its own.
        blocks = np.maximum(np.ceil(size / (rate * slot) * (1 - 1e-12)), 1.0)
        for one, count, chance in zip(size, blocks, outage, strict=True):
            if chance > 0.999 or count > 1e6 * (1 - chance):
                raise ValueError(
                    f"bits = {one:g}: {count:g} blocks at outage = {chance:g}: must be at most 0.999, and at most 1e6 "
                    "slots on average"
                )
        laws = zip(blocks.astype(int).tolist(), outage.tolist(), slot.tolist(), strict=True)
        return [("repetition", law) for law in laws], shape


def _channel(link: FadingLink) -> FadingLink:
    if not isinstance(link, FadingLink):
        raise ValueError(f"link = {_validate.shown(link)}: must be a FadingLink")
    return link
