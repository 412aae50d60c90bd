"""Laws of transfer times that take one of many values, or lie in one of many intervals, evenly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _random, _validate

Floats = NDArray[np.float64]
#: Times that a law is asked for at once.
_CHUNK = 1 << 20


class Mixture:
    """Uniform laws on [low, high] with weights that sum to 1; a point where both are equal.

    Weights that an approximation made negative are small, and undone by their neighbours.
    """

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
        return np.asarray(np.clip(result, 0.0, 1.0))

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
        sums = np.cumsum(np.maximum(self.weight, 0.0))
        shares, at, times = sums / sums[-1], np.empty(count, np.int64), np.empty(count)
        # Signals are seen between parts.
        parts = [slice(first, min(first + _CHUNK, count)) for first in range(0, count, _CHUNK)]
        for part in parts:
            at[part] = np.searchsorted(shares, rng.random(part.stop - part.start), side="right")
        for part in parts:
            low, high = self.low[at[part]], self.high[at[part]]
            times[part] = low + rng.random(part.stop - part.start) * (high - low)
        return times


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
        self._mixtures: Sequence[Mixture] = [Mixture(*part) for part in parts]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of mean {self.mean()!r} s>"

    def _scalars(self, function: Any) -> Any:
        values = np.array([function(mixture) for mixture in self._mixtures]).reshape(self.shape)
        return float(values) if values.ndim == 0 else values

    def _over(self, name: str, argument: Any, unit: str, function: Any) -> Any:
        argument = np.asarray(_validate.real(name, argument, infinite=name == "t", unit=unit))
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
        shape = _validate.sizes("size", size, len(self._mixtures))
        count, generator = int(np.prod(shape)), np.random.default_rng(_random.seed_sequence(rng))
        columns = [mixture.sample(count, generator) for mixture in self._mixtures]
        return np.stack(columns, axis=-1).reshape(shape + self.shape)
