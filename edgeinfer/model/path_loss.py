"""Path loss over distance: the models of 3GPP TR 38.901 (V17, tables 7.4.1-1 and 7.4.2-1), and power laws.

A terminal is in line of sight of its base station or not, and in a shadow or not, for as long as it stays where it is:
neither changes from slot to slot. Find what one terminal sees, and mix over terminals outside the law of a slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _validate

__all__ = ["PathLoss", "Population", "inh", "power_law", "uma", "umi"]

_LIGHT = 299_792_458.0


@dataclass(frozen=True, eq=False)
class PathLoss(_validate.Value):
    """Median losses with and without a line of sight, and how they scatter over terminals.

    Parameters
    ----------
    los, nlos : (...,) array_like, dB
        Median path loss in line of sight, and without.
    los_probability : (...,) array_like
        Share of the terminals at this distance that are in line of sight, in [0, 1].
    los_shadowing, nlos_shadowing : (...,) array_like, dB
        Standard deviation of the normal (in dB) shadowing, >= 0.

    Examples
    --------
    >>> loss = uma(200.0, 3.5e9)
    >>> round(loss.los, 1), round(loss.nlos, 1), round(loss.los_probability, 3)
    (89.6, 114.5, 0.128)
    """

    los: Any
    nlos: Any
    los_probability: Any
    los_shadowing: Any
    nlos_shadowing: Any

    def __post_init__(self) -> None:
        for name, low, high, unit in (
            ("los", -np.inf, np.inf, "dB"),
            ("nlos", -np.inf, np.inf, "dB"),
            ("los_probability", 0, 1, None),
            ("los_shadowing", 0, np.inf, "dB"),
            ("nlos_shadowing", 0, np.inf, "dB"),
        ):
            object.__setattr__(self, name, _validate.real(name, getattr(self, name), low, high, unit=unit))
        _validate.broadcast_shapes(**{name: np.shape(value) for name, value in vars(self).items()})

    @property
    def shape(self) -> tuple[int, ...]:
        """Broadcast shape of the parameters."""
        return np.broadcast_shapes(*(np.shape(value) for value in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Population(_validate.Value):
    """Terminals by their losses: in line of sight or not, each in a shadow of its own, at one distance or several.

    Parameters
    ----------
    loss : PathLoss
        An element for each distance.
    weights : (...,) array_like
        Share of the terminals at each distance, up to a factor; broadcasts with the loss. >= 0, one at least > 0.

    Examples
    --------
    >>> near_and_far = Population(uma([100.0, 400.0], 3.5e9), weights=[1, 3])
    >>> round(float(near_and_far.above(120.0)), 3)
    0.606
    """

    loss: PathLoss
    weights: Any = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.loss, PathLoss):
            raise ValueError(f"loss = {self.loss!r}: must be a PathLoss")
        weights = _validate.real("weights", self.weights, 0)
        _validate.broadcast_shapes(loss=self.loss.shape, weights=np.shape(weights))
        if not np.any(weights):
            raise ValueError("weights: must have one at least > 0")
        object.__setattr__(self, "weights", weights)

    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Medians and standard deviations, dB, and shares of the normal laws that are mixed."""
        shape = np.broadcast_shapes(self.loss.shape, np.shape(self.weights))
        loss, weights = self.loss, _validate.flat(self.weights, shape)
        seen = _validate.flat(loss.los_probability, shape)
        middle = np.concatenate([_validate.flat(part, shape) for part in (loss.los, loss.nlos)])
        spread = np.concatenate([_validate.flat(part, shape) for part in (loss.los_shadowing, loss.nlos_shadowing)])
        share = np.concatenate([weights * seen, weights * (1 - seen)]) / weights.sum()
        return middle[share > 0], spread[share > 0], share[share > 0]

    def above(self, loss: ArrayLike) -> np.ndarray:
        """Share of the terminals whose loss is larger.

        Parameters
        ----------
        loss : (...,) array_like, dB

        Returns
        -------
        (...,) ndarray
        """
        middle, spread, share = self._parts()
        excess = np.asarray(_validate.real("loss", loss, unit="dB"))[..., None] - middle
        with np.errstate(divide="ignore", invalid="ignore"):
            tails = np.where(spread > 0, _tail(excess / np.where(spread > 0, spread, 1)), excess < 0)
        return np.asarray(tails @ share)

    def losses(self) -> np.ndarray:
        """Losses in ascending order, dB, from one that hardly a terminal is below to one that hardly any is above."""
        middle, spread, _ = self._parts()
        beside = 1e-9 * np.maximum(np.abs(middle), 1)
        steps = np.array([-8, -3, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8.2])[:, None]
        return np.unique(np.concatenate([(middle + steps * spread).ravel(), middle - beside]))


def _tail(z: Any) -> Any:
    """P(Z > z) of a standard normal variable."""
    return np.vectorize(lambda one: erfc(one / sqrt(2)) / 2, otypes=[float])(z)


def _plain(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else value


def _broadcast(**values: Any) -> None:
    _validate.broadcast_shapes(**{name: np.shape(value) for name, value in values.items()})


def _heights(distance: Any, carrier: Any, base_height: Any, terminal_height: Any, top: float) -> tuple[Any, Any, Any]:
    """Distance in space, m; the carrier, GHz; and the breakpoint distance, m."""
    distance = _validate.real("distance", distance, 10, 5000, unit="m")
    carrier = _validate.real("carrier", carrier, 0.5e9, 100e9, unit="Hz")
    terminal = _validate.real("terminal_height", terminal_height, 1.5, top, unit="m")
    base = _validate.real("base_height", base_height, 2, 150, unit="m")
    _broadcast(distance=distance, carrier=carrier, terminal_height=terminal, base_height=base)
    return np.hypot(distance, base - terminal), carrier / 1e9, 4 * (base - 1) * (terminal - 1) * carrier / _LIGHT


def _dual_slope(
    distance: Any, space: Any, frequency: Any, turn: Any, rise: Any, first: tuple[float, float], bend: float
) -> Any:
    near = first[0] + first[1] * np.log10(space)
    far = first[0] + 40 * np.log10(space) - bend * np.log10(turn**2 + rise**2)
    return np.where(distance <= turn, near, far) + 20 * np.log10(frequency)


def _line_of_sight(distance: Any, decay: float) -> Any:
    d = np.maximum(distance, 18.0)
    return 18 / d + np.exp(-d / decay) * (1 - 18 / d)


class _Outdoor(NamedTuple):
    """What the report's outdoor cells differ in."""

    highest: float  # terminal, m
    first: tuple[float, float]  # line of sight, before the turn: dB, dB a decade
    bend: float
    behind: tuple[float, float, float, float]  # no line of sight: dB, dB a decade of distance and of frequency, dB/m
    decay: float  # of the line of sight's probability, m
    shadowing: float  # without a line of sight, dB


def _outdoor(law: _Outdoor, distance: Any, carrier: Any, base_height: Any, terminal_height: Any) -> PathLoss:
    space, frequency, turn = _heights(distance, carrier, base_height, terminal_height, law.highest)
    distance, height = np.asarray(distance, float), np.asarray(terminal_height, float)
    los = _dual_slope(distance, space, frequency, turn, np.asarray(base_height, float) - height, law.first, law.bend)
    base, slope, by_frequency, by_height = law.behind
    nlos = base + slope * np.log10(space) + by_frequency * np.log10(frequency) - by_height * (height - 1.5)
    seen = _line_of_sight(distance, law.decay)
    return PathLoss(_plain(los), _plain(np.maximum(los, nlos)), _plain(seen), 4.0, law.shadowing)


def uma(distance: ArrayLike, carrier: ArrayLike, *, base_height: Any = 25.0, terminal_height: Any = 1.5) -> PathLoss:
    """Urban macro cell (UMa).

    Parameters
    ----------
    distance : (...,) array_like, m
        On the ground, in [10, 5000].
    carrier : (...,) array_like, Hz
        In [0.5e9, 100e9].
    base_height : (...,) array_like, m
        In [2, 150]; 25 in the report.
    terminal_height : (...,) array_like, m
        In [1.5, 13]; above, the report draws the environment's height at random, which is not done here.

    Returns
    -------
    PathLoss

    Raises
    ------
    ValueError
        For values outside their range.

    Examples
    --------
    >>> [round(loss, 1) for loss in uma([100.0, 1000.0], 2e9).nlos.tolist()]
    [98.2, 136.8]
    """
    law = _Outdoor(13.0, (28.0, 22.0), 9.0, (13.54, 39.08, 20.0, 0.6), 63.0, 6.0)
    return _outdoor(law, distance, carrier, base_height, terminal_height)


def umi(distance: ArrayLike, carrier: ArrayLike, *, base_height: Any = 10.0, terminal_height: Any = 1.5) -> PathLoss:
    """Urban micro cell in a street canyon (UMi).

    Parameters
    ----------
    distance, carrier, base_height : (...,) array_like
        They are as for `uma`; the base station is 10 m high in the report.
    terminal_height : (...,) array_like, m
        In [1.5, 22.5].

    Returns
    -------
    PathLoss

    Raises
    ------
    ValueError
        For values outside their range.

    Examples
    --------
    >>> round(umi(100.0, 3.5e9).los_probability, 3)
    0.231
    """
    law = _Outdoor(22.5, (32.4, 21.0), 9.5, (22.4, 35.3, 21.3, 0.3), 36.0, 7.82)
    return _outdoor(law, distance, carrier, base_height, terminal_height)


def inh(
    distance: ArrayLike,
    carrier: ArrayLike,
    *,
    base_height: Any = 3.0,
    terminal_height: Any = 1.0,
    office: str = "mixed",
) -> PathLoss:
    """Indoor hotspot in an office (InH).

    Parameters
    ----------
    distance : (...,) array_like, m
        On the floor, > 0; the distance in space must be in [1, 150].
    carrier : (...,) array_like, Hz
        In [0.5e9, 100e9].
    base_height, terminal_height : (...,) array_like, m
        >= 0; 3 and 1 in the report.
    office : {"mixed", "open"}
        Sets the probability of a line of sight.

    Returns
    -------
    PathLoss

    Raises
    ------
    ValueError
        For values outside their range.

    Examples
    --------
    >>> loss = inh(20.0, 28e9, office="open")
    >>> round(loss.los, 1), round(loss.los_probability, 3)
    (83.9, 0.809)
    """
    d = _validate.real("distance", distance, 0, unit="m", low_open=True)
    frequency = np.asarray(_validate.real("carrier", carrier, 0.5e9, 100e9, unit="Hz")) / 1e9
    base = _validate.real("base_height", base_height, 0, unit="m")
    terminal = _validate.real("terminal_height", terminal_height, 0, unit="m")
    _broadcast(distance=d, carrier=frequency, base_height=base, terminal_height=terminal)
    _validate.choice("office", office, ("mixed", "open"))
    space = _validate.real("distance in space", np.hypot(d, np.subtract(base, terminal)), 1, 150, unit="m")
    los = 32.4 + 17.3 * np.log10(space) + 20 * np.log10(frequency)
    nlos = 17.3 + 38.3 * np.log10(space) + 24.9 * np.log10(frequency)
    if office == "mixed":
        far = np.where(d < 6.5, np.exp(-(d - 1.2) / 4.7), 0.32 * np.exp(-(d - 6.5) / 32.6))
        chance = np.where(d <= 1.2, 1.0, far)
    else:
        far = np.where(d <= 49, np.exp(-(d - 5) / 70.8), 0.54 * np.exp(-(d - 49) / 211.7))
        chance = np.where(d <= 5, 1.0, far)
    return PathLoss(_plain(los), _plain(np.maximum(los, nlos)), _plain(chance), 3.0, 8.03)


def power_law(
    distance: ArrayLike,
    carrier: ArrayLike | None = None,
    *,
    exponent: ArrayLike,
    reference_loss: ArrayLike | None = None,
    reference_distance: ArrayLike = 1.0,
    shadowing: ArrayLike = 0.0,
) -> PathLoss:
    """Loss that grows by 10 n dB a decade of distance, from that of free space at a reference distance on.

    Parameters
    ----------
    distance : (...,) array_like, m
        > 0.
    carrier : (...,) array_like, Hz
        > 0; may be None where `reference_loss` is given.
    exponent : (...,) array_like
        n, > 0; 2 in free space.
    reference_loss : (...,) array_like, dB, optional
        At the reference distance; by default that of free space, 20 log10(4 pi d f / c).
    reference_distance : (...,) array_like, m
        > 0.
    shadowing : (...,) array_like, dB
        Standard deviation, >= 0.

    Returns
    -------
    PathLoss
        All terminals count as in line of sight, and both losses are equal.

    Raises
    ------
    ValueError
        For values outside their range, and where neither or both of `carrier` and `reference_loss` are given.

    Examples
    --------
    128.1 + 37.6 log10(d / km), the usual law of LTE's macro cells:

    >>> round(power_law(500.0, exponent=3.76, reference_loss=128.1, reference_distance=1000.0).los, 2)
    116.78
    """
    if (carrier is None) == (reference_loss is None):
        raise ValueError(
            f"carrier = {carrier!r}, reference_loss = {reference_loss!r}: must be one of the two, the other None"
        )
    d = _validate.positive("distance", distance, "m")
    n = _validate.positive("exponent", exponent)
    start = _validate.positive("reference_distance", reference_distance, "m")
    spread = _validate.real("shadowing", shadowing, 0, unit="dB")
    if carrier is not None:
        given = {"carrier": _validate.positive("carrier", carrier, "Hz")}
    else:
        given = {"reference_loss": _validate.real("reference_loss", reference_loss, unit="dB")}  # type: ignore[arg-type]
    _broadcast(distance=d, exponent=n, reference_distance=start, shadowing=spread, **given)
    first = given["reference_loss"] if carrier is None else 20 * np.log10(4 * np.pi * start * given["carrier"] / _LIGHT)
    loss = _plain(first + 10 * n * np.log10(d / start))
    return PathLoss(loss, loss, 1.0, spread, spread)
