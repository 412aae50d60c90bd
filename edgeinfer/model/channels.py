"""Links whose rate is no independent fading gain's: constant ones, Markov chains, recorded ones."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _random, _validate
from edgeinfer.model.chains import transfer_parts
from edgeinfer.model.dependent_arrivals import stationary_law
from edgeinfer.model.fading import RAYLEIGH
from edgeinfer.model.links import FadingLink
from edgeinfer.model.mixtures import Floats, TransferMixture
from edgeinfer.model.slotted import ChannelLink, check_slots


@dataclass(frozen=True, eq=False)
class ConstantLink(_validate.Value):
    """A link of a constant rate, and a propagation latency behind it.

    Bits hold the link for bits / rate: what comes meanwhile waits. The latency holds up nobody: it moves all that
    follows by itself.

    Parameters
    ----------
    rate : (...,) array_like, bit/s
        > 0.
    latency : (...,) array_like, s
        >= 0.

    Raises
    ------
    ValueError
        For values outside their range.

    Examples
    --------
    >>> import edgeinfer as ei
    >>> link = ConstantLink(100e6, latency=0.02)
    >>> fast, far = (ei.Pipeline([ei.Transfer(4e7, one, "fibre")]) for one in (ConstantLink(100e6), link))
    >>> [f"{ei.violation_bracket(*of).upper:.9f}" for of in ((far, 1.0, 1.02), (fast, 1.0, 1.0))]
    ['0.053297051', '0.053297051']
    """

    rate: Any
    latency: Any = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", _validate.positive("rate", self.rate, "bit/s"))
        object.__setattr__(self, "latency", _validate.real("latency", self.latency, 0, unit="s"))
        _validate.broadcast_shapes(rate=np.shape(self.rate), latency=np.shape(self.latency))

    @property
    def shape(self) -> tuple[int, ...]:
        """Broadcast shape of the parameters."""
        return np.broadcast_shapes(np.shape(self.rate), np.shape(self.latency))

    def mean_rate(self) -> Any:
        """The rate, bit/s."""
        return self.rate

    def _times(self, bits: ArrayLike) -> tuple[Floats, tuple[int, ...]]:
        bits = _validate.positive("bits", bits, "bit")
        shape = _validate.broadcast_shapes(bits=np.shape(bits), link=self.shape)
        with np.errstate(over="ignore"):
            times = _validate.flat(np.divide(bits, self.rate), shape)
        _validate.real("bits / rate", times, 0, unit="s")
        return times, shape

    def transfer(self, bits: ArrayLike) -> TransferMixture:
        """Law of the time for which `bits` hold this link: bits / rate, without the latency.

        Parameters
        ----------
        bits : (...,) array_like, bit
            > 0; broadcasts with the link's parameters.

        Examples
        --------
        >>> ConstantLink(1e6, latency=0.1).transfer(5e5).mean()
        0.5
        """
        times, shape = self._times(bits)
        return TransferMixture([(time, time, np.ones(1)) for time in times[:, None]], shape)

    def core_stages(self, bits: ArrayLike) -> list[tuple[str, Any] | tuple[str, Any, float]]:
        """The service of `bits` as the core takes it, with the latency where there is one, one for each element."""
        times, shape = self._times(bits)
        pairs = zip(times.tolist(), _validate.flat(self.latency, shape).tolist(), strict=True)
        return [("deterministic", time, delay) if delay else ("deterministic", time) for time, delay in pairs]


#: States of a chain, at most.
MOST_STATES = 256


@dataclass(frozen=True, eq=False)
class MarkovLink(ChannelLink):
    """A link whose rate follows a Markov chain from slot to slot: fading with a memory.

    The law of `transfer` is that from the beginning of a stationary slot on; a transfer that begins within a slot, as
    those of `simulate` do, has another. It is exact where the sums of the rates have at most 16384 values, as with two
    states, or rates of a common measure; else on a lattice of as many, to 1e-6 or so.

    Parameters
    ----------
    rates : (n,) array_like, bit/s
        Rate of each state, n <= 256, >= 0, at least one > 0.
    transition : (n, n) array_like
        Probability that the state of a row is followed by that of a column; rows add up to 1. Every state must be
        reached from every other.
    slot : float, s
        > 0.

    Attributes
    ----------
    stationary : (n,) ndarray
        Share of slots in each state.

    Raises
    ------
    ValueError
        For values outside their range.

    Examples
    --------
    >>> link = MarkovLink([20e6, 1e6], [[0.9, 0.1], [0.3, 0.7]], 0.01)
    >>> round(link.mean_rate())
    15250000
    >>> round(link.transfer(1e6).mean(), 4)
    0.0706
    """

    rates: Any
    transition: Any
    slot: float
    stationary: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rates, slot = check_slots(self.rates, self.slot)
        count = rates.size
        if rates.ndim != 1 or not 1 <= count <= MOST_STATES or not rates.any():
            raise ValueError(f"rates = {self.rates!r}: must be 1 to {MOST_STATES} numbers, one at least > 0")
        transition = np.atleast_2d(np.asarray(_validate.real("transition", self.transition, 0, 1)))
        if transition.shape != (count, count):
            raise ValueError(f"transition: shape {transition.shape}: must be {(count, count)}, a row for each rate")
        total = transition.sum(axis=1)
        if not np.allclose(total, 1, rtol=0, atol=1e-9):
            raise ValueError(f"transition: rows add up to {total.tolist()}: each must add up to 1")
        law = stationary_law(transition, "transition", "state")
        # Not what rounds to 1, so that a link made again of these probabilities is the same.
        exact = np.where(np.abs(total - 1) < 1e-13, 1.0, total)[:, None]
        values = {"rates": rates, "transition": transition / exact, "stationary": law}
        for name, value in values.items():
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        object.__setattr__(self, "slot", slot)

    @classmethod
    def gilbert_elliott(
        cls, good_rate: float, bad_rate: float, good_to_bad: float, bad_to_good: float, slot: float
    ) -> Self:
        """The chain of Gilbert and Elliott: a good state and a bad one.

        Parameters
        ----------
        good_rate, bad_rate : float, bit/s
            >= 0, one at least > 0.
        good_to_bad, bad_to_good : float
            Probabilities, in (0, 1], of leaving each state from a slot to the next: its mean stay is 1 / that.
        slot : float, s

        Examples
        --------
        >>> MarkovLink.gilbert_elliott(10e6, 0.0, 0.1, 0.4, 0.01).stationary
        array([0.8, 0.2])
        """
        down = _validate.scalar("good_to_bad", good_to_bad, 0, 1, low_open=True)
        up = _validate.scalar("bad_to_good", bad_to_good, 0, 1, low_open=True)
        rates = [_validate.scalar("good_rate", good_rate, 0), _validate.scalar("bad_rate", bad_rate, 0)]
        return cls(rates, [[1 - down, down], [up, 1 - up]], slot)

    @classmethod
    def from_doppler(cls, link: FadingLink, doppler: float, states: int = 8, slot: float | None = None) -> Self:
        """The finite-state chain of a Rayleigh link whose gain changes at a Doppler frequency.

        The gain is cut into states of equal probability, each with its mean rate; from a slot to the next it goes to a
        neighbouring state or stays, as often as Rayleigh fading with Jakes' spectrum crosses the level between them,
        N(g) = sqrt(2 pi g) f e^-g (Wang and Moayeri, IEEE Trans. Veh. Technol. 44, 1995). An approximation: it keeps
        the law and the mean rate of a slot, and how often levels are crossed, but not more of the memory.

        Parameters
        ----------
        link : FadingLink
            A single one, of Rayleigh fading.
        doppler : float, Hz
            Largest Doppler shift f, speed over wavelength, > 0.
        states : int
            In [2, 256].
        slot : float, s, optional
            By default the link's. So short that no state is left with a probability above 1.

        Examples
        --------
        >>> from edgeinfer import RayleighLink
        >>> link = RayleighLink(10e6, 31, -100, 128.1, 0.01)
        >>> slow = MarkovLink.from_doppler(link, 5.0, 4)
        >>> round(slow.mean_rate() / link.mean_rate(), 12), slow.stationary
        (1.0, array([0.25, 0.25, 0.25, 0.25]))
        """
        if not isinstance(link, FadingLink) or link.shape != () or link.fading != RAYLEIGH:
            raise ValueError(f"link = {_validate.shown(link)}: must be a single link of Rayleigh fading")
        count = _validate.whole("states", states, 2)
        if count > MOST_STATES:
            raise ValueError(f"states = {count}: must be in [2, {MOST_STATES}]")
        frequency = _validate.scalar("doppler", doppler, 0, low_open=True, unit="Hz")
        length = _validate.scalar("slot", link.slot if slot is None else slot, 0, low_open=True, unit="s")
        levels = -np.log1p(-np.arange(1, count) / count)
        crossed = np.sqrt(2 * np.pi * levels) * frequency * np.exp(-levels) * length * count
        transition = np.diag(crossed, 1) + np.diag(crossed, -1)
        leave = transition.sum(axis=1)
        if leave.max() > 1:
            raise ValueError(
                f"slot = {length:g}: must be at most {length / leave.max():.3g} s for {count} states at a Doppler "
                f"frequency of {frequency:g} Hz; fewer states allow a longer one"
            )
        return cls(_mean_rates(link, levels), transition + np.diag(1 - leave), length)

    def mean_rate(self) -> float:
        """Mean rate over a long time, bit/s."""
        return float(self.stationary @ self.rates)

    def spread(self) -> float:
        """Variance of the bits that a long time carries, over that time, bit^2/s."""
        law, excess = self.stationary, self.rates - self.mean_rate()
        ahead = np.linalg.solve(np.eye(law.size) - self.transition + law, excess)
        return max(float(self.slot * (law * excess) @ (2 * ahead - excess)), 0.0)

    def path(self, rng: Any = None) -> Iterator[float]:
        """Rates of the slots from a stationary one on, bit/s, without an end.

        Examples
        --------
        >>> from itertools import islice
        >>> list(islice(MarkovLink.gilbert_elliott(2e6, 1e6, 1.0, 1.0, 0.01).path(rng=1), 3))
        [2000000.0, 1000000.0, 2000000.0]
        """
        generator = np.random.default_rng(_random.seed_sequence(rng))
        laws, rates = _cumulative(self.transition).tolist(), self.rates.tolist()
        state = bisect_left(_cumulative(self.stationary).tolist(), 1 - generator.random())
        while True:
            for uniform in (1 - generator.random(1024)).tolist():
                yield rates[state]
                state = bisect_left(laws[state], uniform)

    def _parts(self, bits: float) -> tuple[Floats, Floats, Floats]:
        return _markov_parts(self, bits)

    def _channel(self) -> tuple[Any, ...]:
        start, jumps = _jumps(self)
        return self.rates, start, jumps, self.slot, np.nan


def _mean_rates(link: FadingLink, levels: Floats) -> Floats:
    """Mean rate between the levels of the gain; the first one's makes the mean of all that of the link."""
    from_, to = np.append(0.0, levels), np.append(levels, np.inf)
    node, weight = np.polynomial.legendre.leggauss(32)
    edges = np.linspace(0, 1, 9)
    rates = np.empty(to.size)
    for i, (low, high) in enumerate(zip(from_, to, strict=True)):
        if np.isinf(high):
            gain, share = np.polynomial.laguerre.laggauss(64)
            gain = gain + low
        else:
            part = low + (high - low) * (edges[:-1, None] + np.diff(edges)[:, None] * (1 + node) / 2)
            gain, share = part.ravel(), np.tile(weight, 8) * np.exp(-(part.ravel() - low))
            share = share / share.sum()
        rates[i] = link.effective_bandwidth * (share @ np.log2(1 + link.snr * gain))
    rates[0] = max(to.size * link.mean_rate() - rates[1:].sum(), 0.0)
    return rates


def _cumulative(law: Floats) -> Floats:
    """Partial sums along the last axis, of which the last is 1."""
    sums = np.cumsum(law, axis=-1)
    return np.asarray(sums / sums[..., -1:])


@lru_cache(maxsize=64)
def _jumps(link: MarkovLink) -> tuple[Floats, Floats]:
    """The stationary law, and the laws 1, 2, 4, .. slots on until any start is forgotten, all cumulative."""
    ahead, levels = link.transition, []
    for _ in range(53):
        levels.append(_cumulative(ahead))
        if np.abs(ahead - link.stationary).max() < 1e-14:
            break
        ahead = ahead @ ahead
        ahead = ahead / ahead.sum(axis=1, keepdims=True)
    return _cumulative(link.stationary), np.array(levels)


@lru_cache(maxsize=256)
def _markov_parts(link: MarkovLink, bits: float) -> tuple[Floats, Floats, Floats]:
    try:
        low, high, weight = transfer_parts(link.rates, link.transition, link.stationary, bits / link.slot)
    except ValueError as error:
        raise ValueError(f"bits = {bits:g}: {error}") from None
    return low * link.slot, high * link.slot, weight
