"""Fading: the law of a slot's power gain, whose mean is 1 for one branch and one user.

Every law is the largest of n independent gains, each a scale times a Gamma(shape + N) variable with N ~ Poisson(mixing)
(csrc/edgeinfer/gain.h), and its links need that law's survival function alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeinfer import _validate

#: Shape, mixing, scale and users of a gain, which broadcast.
Gain = tuple[Any, Any, Any, Any]


def _whole(name: str, value: Any) -> Any:
    value = _validate.real(name, value, 1, 1e4)
    if np.any(np.floor(value) != value):
        raise ValueError(f"{name} = {value!r}: must be whole numbers in [1, 10000]")
    return value


def _within(name: str, value: Any) -> None:
    """What the core's series are made for."""
    _validate.real(name, value, high=1e4)


@dataclass(frozen=True, eq=False)
class Rayleigh(_validate.Value):
    """No line of sight: the gain is exponential, g ~ Exp(1).

    Examples
    --------
    >>> from edgeinfer import FadingLink, RayleighLink
    >>> FadingLink.from_snr(2.0, 10e6, 0.01, fading=Rayleigh()).mean_rate() == RayleighLink.from_snr(
    ...     2.0, 10e6, 0.01
    ... ).mean_rate()
    True
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Always ()."""
        return ()

    def gain(self) -> Gain:
        """Shape, mixing, scale and users of the core's family of gains."""
        return 1.0, 0.0, 1.0, 1.0


RAYLEIGH = Rayleigh()


@dataclass(frozen=True, eq=False)
class Nakagami(_validate.Value):
    """Nakagami-m fading: the gain is Gamma(m) / m.

    Parameters
    ----------
    m : (...,) array_like
        In [0.5, 10000]; 1 is Rayleigh fading, 0.5 is one-sided Gaussian, and it need not be a whole number.

    Examples
    --------
    >>> from edgeinfer import FadingLink
    >>> rates = FadingLink.from_snr(2.0, 10e6, 0.01, fading=Nakagami([0.5, 1, 4])).mean_rate() / 1e6
    >>> [round(rate, 3) for rate in rates.tolist()]
    [11.687, 13.315, 15.094]
    """

    m: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "m", _validate.real("m", self.m, 0.5, 1e4))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `m`."""
        return np.shape(self.m)

    def gain(self) -> Gain:
        """Shape, mixing, scale and users of the core's family of gains."""
        return self.m, 0.0, 1 / self.m, 1.0


@dataclass(frozen=True, eq=False)
class Rician(_validate.Value):
    """A line of sight of K times the scattered power.

    Parameters
    ----------
    k_factor : (...,) array_like
        K, linear, not in decibels, in [0, 10000]; 0 is Rayleigh fading.

    Examples
    --------
    >>> from edgeinfer import FadingLink
    >>> round(FadingLink.from_snr(2.0, 10e6, 0.01, fading=Rician(3.0)).mean_rate() / 1e6, 3)
    14.515
    """

    k_factor: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "k_factor", _validate.real("k_factor", self.k_factor, 0, 1e4))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `k_factor`."""
        return np.shape(self.k_factor)

    def gain(self) -> Gain:
        """Shape, mixing, scale and users of the core's family of gains."""
        return 1.0, self.k_factor, 1 / (1 + self.k_factor), 1.0


@dataclass(frozen=True, eq=False)
class MaximalRatio(_validate.Value):
    """Maximal-ratio combining of independent branches, each of the link's mean SNR: the sum of their gains.

    Parameters
    ----------
    branches : (...,) array_like
        Whole numbers in [1, 10000].
    fading : Rayleigh, Nakagami or Rician
        Of each branch; its m or K times the branches at most 10000.

    Examples
    --------
    >>> from edgeinfer import FadingLink
    >>> round(FadingLink.from_snr(2.0, 10e6, 0.01, fading=MaximalRatio(4)).mean_rate() / 1e6, 3)
    30.286
    """

    branches: Any
    fading: Rayleigh | Nakagami | Rician = RAYLEIGH

    def __post_init__(self) -> None:
        object.__setattr__(self, "branches", _whole("branches", self.branches))
        if not isinstance(self.fading, Rayleigh | Nakagami | Rician):
            raise ValueError(f"fading = {self.fading!r}: must be Rayleigh, Nakagami or Rician for each branch")
        _validate.broadcast_shapes(branches=np.shape(self.branches), fading=self.fading.shape)
        shape, mixing, _, _ = self.gain()
        _within("m times branches", shape)
        _within("k_factor times branches", mixing)

    @property
    def shape(self) -> tuple[int, ...]:
        """Broadcast shape of the parameters."""
        return np.broadcast_shapes(np.shape(self.branches), self.fading.shape)

    def gain(self) -> Gain:
        """Shape, mixing, scale and users of the core's family of gains."""
        shape, mixing, scale, users = self.fading.gain()
        return shape * self.branches, mixing * self.branches, scale, users


@dataclass(frozen=True, eq=False)
class BestOf(_validate.Value):
    """The best of n users of one mean SNR, each slot given to who has the largest gain (max-rate scheduling).

    Parameters
    ----------
    users : (...,) array_like
        n, whole numbers in [1, 10000].
    fading : Rayleigh, Nakagami, Rician or MaximalRatio
        Of each user, independent of the others'.

    Examples
    --------
    >>> from edgeinfer import FadingLink
    >>> round(FadingLink.from_snr(2.0, 10e6, 0.01, fading=BestOf(8)).mean_rate() / 1e6, 3)
    25.885
    """

    users: Any
    fading: Rayleigh | Nakagami | Rician | MaximalRatio = RAYLEIGH

    def __post_init__(self) -> None:
        object.__setattr__(self, "users", _whole("users", self.users))
        if not isinstance(self.fading, Rayleigh | Nakagami | Rician | MaximalRatio):
            raise ValueError(
                f"fading = {self.fading!r}: must be Rayleigh, Nakagami, Rician or MaximalRatio of each user"
            )
        _validate.broadcast_shapes(users=np.shape(self.users), fading=self.fading.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Broadcast shape of the parameters."""
        return np.broadcast_shapes(np.shape(self.users), self.fading.shape)

    def gain(self) -> Gain:
        """Shape, mixing, scale and users of the core's family of gains."""
        shape, mixing, scale, _ = self.fading.gain()
        return shape, mixing, scale, self.users


Fading = Rayleigh | Nakagami | Rician | MaximalRatio | BestOf
