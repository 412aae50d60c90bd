"""Links whose rate is no fading gain's: constant ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _random, _validate

Floats = NDArray[np.float64]
#: Times that a law is asked for at once.
_CHUNK = 1 << 20


class _Mixture:
    """Uniform laws on [low, high] with weights that sum to 1; a point where both are equal."""

    def __init__(self, low: Floats, high: Floats, weight: Floats) -> None:
        order = np.argsort(low, kind="stable")
        self.low, self.high, self.weight = low[order], high[order], weight[order] / weight.sum()
        point = self.low == self.high
        self.wide = np.flatnonzero(~point)
        self.points, weights = self.low[point], self.weight[point]
        # From the last on, so that small tails keep their digits; and those before, for the other end.
        self.above = np.append(np.cumsum(weights[::-1])[::-1], 0.0)
        self.below = np.append(0.0, np.cumsum(weights))

    def tail(self, t: Floats, upper: bool) -> Floats:
        """P(X > t), or P(X <= t)."""
        at = np.searchsorted(self.points, t, side="right")
        result = self.above[at] if upper else self.below[at]
        low, high, weight = self.low[self.wide], self.high[self.wide], self.weight[self.wide]
        for part in np.array_split(np.arange(t.size), 1 + t.size * self.wide.size // _CHUNK):
            time = np.clip(t[part, None], low, high)
            result[part] += ((high - time if upper else time - low) / (high - low)) @ weight
        return np.asarray(np.minimum(result, 1.0))

    def moment(self, center: float, power: int) -> float:
        """E[(X - center)^power]."""
        a, b = self.low - center, self.high - center
        return float(self.weight @ sum(a**i * b ** (power - i) for i in range(power + 1))) / (power + 1)

    def mgf(self, theta: Floats) -> Floats:
        result = np.empty(theta.size)
        width = self.high - self.low
        for i, value in enumerate(theta):
            end, span = np.maximum(value * self.low, value * self.high), abs(value) * width
            mean = np.where(span > 0, -np.expm1(-span) / np.where(span > 0, span, 1), 1)
            result[i] = self.weight @ (np.exp(end) * mean)
        return result

    def sample(self, count: int, rng: np.random.Generator) -> Floats:
        at = np.searchsorted(np.cumsum(self.weight), rng.random(count), side="right")
        at = np.minimum(at, self.weight.size - 1)
        return np.asarray(self.low[at] + rng.random(count) * (self.high[at] - self.low[at]))


class TransferMixture:
    """Exact law of a transfer time that takes one of many values, or lies in one of many intervals, evenly.

    What `transfer` of a link answers whose rate is not a fading gain's. The times are those for which bits hold the
    link; a propagation latency is not in them.

    Examples
    --------
    >>> from edgeinfer import ConstantLink
    >>> law = ConstantLink(1e6, latency=0.2).transfer([1e5, 2e5])
    >>> law.mean()
    array([0.1, 0.2])
    >>> law.sf(0.15)
    array([0., 1.])
    """

    def __init__(self, parts: list[tuple[Floats, Floats, Floats]], shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._mixtures = [_Mixture(*part) for part in parts]

    def _scalars(self, function: Any) -> Any:
        values = np.array([function(mixture) for mixture in self._mixtures]).reshape(self.shape)
        return float(values) if values.ndim == 0 else values

    def _over(self, name: str, argument: Any, unit: str, function: Any) -> Any:
        argument = np.asarray(_validate.real(name, argument, infinite=True, unit=unit))
        shape = _validate.broadcast_shapes(law=self.shape, **{name: argument.shape})
        index = np.broadcast_to(np.arange(len(self._mixtures)).reshape(self.shape), shape).ravel()
        values, result = _validate.flat(argument, shape), np.empty(index.size)
        for i, mixture in enumerate(self._mixtures):
            result[index == i] = function(mixture, values[index == i])
        return float(result[0]) if shape == () else result.reshape(shape)

    def mean(self) -> Any:
        """E[X], s."""
        return self._scalars(lambda mixture: mixture.moment(0.0, 1))

    def var(self) -> Any:
        """Var[X], s^2."""
        return self._scalars(lambda mixture: mixture.moment(mixture.moment(0.0, 1), 2))

    def cdf(self, t: ArrayLike) -> Any:
        """P(X <= t), `t` in s, broadcast with the law's shape."""
        return self._over("t", t, "s", lambda mixture, value: mixture.tail(value, False))

    def sf(self, t: ArrayLike) -> Any:
        """P(X > t), `t` in s, broadcast with the law's shape."""
        return self._over("t", t, "s", lambda mixture, value: mixture.tail(value, True))

    def mgf(self, theta: ArrayLike) -> Any:
        """E[e^{theta X}], `theta` in 1/s, of either sign."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self._over("theta", theta, "1/s", lambda mixture, value: mixture.mgf(value))

    def sample(self, size: int | tuple[int, ...], rng: Any = None) -> Floats:
        """Independent transfer times; shape `size` before the law's shape."""
        shape = _validate.sizes("size", size)
        count, generator = int(np.prod(shape)), np.random.default_rng(_random.seed_sequence(rng))
        columns = [mixture.sample(count, generator) for mixture in self._mixtures]
        return np.stack(columns, axis=-1).reshape(shape + self.shape)


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
    >>> bool(ei.violation_bracket(far, 1.0, 1.02).upper == ei.violation_bracket(fast, 1.0, 1.0).upper)
    True
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
