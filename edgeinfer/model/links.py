"""Fading links and the time a transfer over one takes."""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _core, _random, _validate
from edgeinfer.model.fading import RAYLEIGH, Fading
from edgeinfer.model.path_loss import PathLoss


@dataclass(frozen=True, eq=False)
class FadingLink(_validate.Value):
    """A link of independent fading slots, R = (1 - xi) B log2(1 + s g), g the slot's gain.

    Every parameter may be an array; shapes broadcast.

    Parameters
    ----------
    bandwidth : (...,) array_like, Hz
        B. > 0.
    tx_power_dbm, noise_dbm : (...,) array_like, dBm
        Transmit power, and noise power over the whole band. None where `mean_snr` is given.
    path_loss_db : (...,) array_like, dB
        None where `mean_snr` is given. `edgeinfer.path_loss` has the 3GPP's models of it.
    slot : (...,) array_like, s
        Coherence time: the fading gain is constant within a slot and independent between slots. > 0.
    control_overhead : (...,) array_like, optional
        xi, the share of the rate that signalling takes. In [0, 1).
    mean_snr : (...,) array_like, optional
        The mean signal-to-noise ratio itself, linear, > 0, in place of a power budget: see `from_snr`. Of one branch
        and one user, where there are several.
    fading : Rayleigh, Nakagami, Rician, MaximalRatio or BestOf, optional
        Law of the gain g.

    Raises
    ------
    ValueError
        For values outside their range, and where neither or both of a power budget and `mean_snr` are given.

    Examples
    --------
    >>> from edgeinfer import Rician
    >>> link = FadingLink(10e6, 31, -100, 128.1, 0.01, fading=Rician(5.0))
    >>> round(link.snr, 3), round(link.mean_rate() / 1e6, 3)
    (1.95, 14.668)
    """

    bandwidth: Any
    tx_power_dbm: Any
    noise_dbm: Any
    path_loss_db: Any
    slot: Any
    control_overhead: Any = 0.0
    mean_snr: Any = None
    fading: Fading = RAYLEIGH

    def __post_init__(self) -> None:
        if not isinstance(self.fading, Fading):
            raise ValueError(
                f"fading = {self.fading!r}: must be a Rayleigh, Nakagami, Rician, MaximalRatio or BestOf value"
            )
        values = {"bandwidth": _validate.positive("bandwidth", self.bandwidth, "Hz")}
        if isinstance(self.path_loss_db, PathLoss):
            raise ValueError("path_loss_db: is a PathLoss: must be real numbers, dB, such as its `los` or its `nlos`")
        if self.mean_snr is None:
            values["tx_power_dbm"] = _validate.real("tx_power_dbm", self.tx_power_dbm, unit="dBm")
            values["noise_dbm"] = _validate.real("noise_dbm", self.noise_dbm, unit="dBm")
            values["path_loss_db"] = _validate.real("path_loss_db", self.path_loss_db, unit="dB")
        elif all(part is None for part in (self.tx_power_dbm, self.noise_dbm, self.path_loss_db)):
            values["mean_snr"] = _validate.real("mean_snr", self.mean_snr, 1e-300, 1e300)
        else:
            raise ValueError(
                f"mean_snr = {self.mean_snr!r}: must be None where tx_power_dbm, noise_dbm or path_loss_db is given"
            )
        values["slot"] = _validate.positive("slot", self.slot, "s")
        values["control_overhead"] = _validate.real("control_overhead", self.control_overhead, 0, 1, high_open=True)
        _validate.broadcast_shapes(
            fading=self.fading.shape, **{name: np.shape(value) for name, value in values.items()}
        )
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if self.mean_snr is not None:
            return
        with np.errstate(over="ignore"):
            budget = self.tx_power_dbm - self.path_loss_db - self.noise_dbm
        _validate.real("tx_power_dbm - path_loss_db - noise_dbm", budget, -3000, 3000)

    @classmethod
    def from_snr(
        cls, snr: ArrayLike, bandwidth: ArrayLike, slot: ArrayLike, control_overhead: Any = 0.0, **fading: Fading
    ) -> Self:
        """A link of a given mean signal-to-noise ratio, whatever powers and losses make it.

        Parameters
        ----------
        snr : (...,) array_like
            s, linear, not in decibels. > 0.
        bandwidth : (...,) array_like, Hz
        slot : (...,) array_like, s
        control_overhead : (...,) array_like, optional
        fading : optional
            The `fading` of a `FadingLink`; a `RayleighLink` takes none.

        Returns
        -------
        FadingLink or RayleighLink
            Its `tx_power_dbm`, `noise_dbm` and `path_loss_db` are None.

        Examples
        --------
        >>> link = RayleighLink.from_snr(1.95, 10e6, 0.01)
        >>> link.snr, round(link.mean_rate() / 1e6, 2)
        (1.95, 13.12)
        """
        snr = _validate.real("snr", snr, 1e-300, 1e300)
        return cls(bandwidth, None, None, None, slot, control_overhead, snr, **fading)

    def at_rate(self, mean_rate: ArrayLike) -> Self:
        """This link with the bandwidth that gives a mean rate; mean SNR, slot and overhead stay.

        Parameters
        ----------
        mean_rate : (...,) array_like, bit/s
            > 0; broadcasts with the link's parameters.

        Examples
        --------
        >>> round(RayleighLink.from_snr(1.95, 10e6, 0.01).at_rate(20e6).mean_rate(), 3)
        20000000.0
        """
        rate = _validate.positive("mean_rate", mean_rate, "bit/s")
        _validate.broadcast_shapes(mean_rate=np.shape(rate), link=self.shape)
        return replace(self, bandwidth=self.bandwidth * (rate / self.mean_rate()))

    @property
    def shape(self) -> tuple[int, ...]:
        """Common shape of the parameters."""
        own = (np.shape(value) for name, value in vars(self).items() if name != "fading")
        return np.broadcast_shapes(self.fading.shape, *own)

    @property
    def snr(self) -> Any:
        """Mean signal-to-noise ratio s, linear."""
        if self.mean_snr is not None:
            return self.mean_snr
        return 10 ** ((self.tx_power_dbm - self.path_loss_db - self.noise_dbm) / 10)

    def power_budget(self) -> dict[str, Any]:
        """The parameters of a Rayleigh link by their names.

        Raises
        ------
        ValueError
            For a link of a given mean SNR, which has no power budget, or of another fading than Rayleigh's.

        Examples
        --------
        >>> RayleighLink(10e6, 31, -100, 128.1, 0.01).power_budget()["path_loss_db"]
        128.1
        """
        if self.mean_snr is not None:
            raise ValueError(
                f"mean_snr = {self.mean_snr!r}: must be given as tx_power_dbm, noise_dbm and path_loss_db "
                "to have a power budget"
            )
        if self.fading != RAYLEIGH:
            raise ValueError(f"fading = {self.fading!r}: must be Rayleigh() for a power budget alone to say all")
        return {name: value for name, value in vars(self).items() if name not in ("mean_snr", "fading")}

    @property
    def latency(self) -> float:
        """Always 0: a propagation latency is that of a `ConstantLink`."""
        return 0.0

    def core_stages(self, bits: ArrayLike) -> list[tuple[str, Any] | tuple[str, Any, float]]:
        """The service of `bits` as the core takes it, one for each element."""
        return [("transfer", law) for law in self.transfer(bits).laws]

    @property
    def effective_bandwidth(self) -> Any:
        """(1 - xi) B, Hz."""
        return (1 - self.control_overhead) * self.bandwidth

    def mean_rate(self) -> Any:
        """Ergodic rate E[R], bit/s; ((1 - xi) B / ln 2) e^{1/s} E1(1/s) of Rayleigh fading.

        To 1e-11 relative, of every fading.

        Returns
        -------
        float or (...,) ndarray, bit/s

        Examples
        --------
        >>> bool(RayleighLink([5e6, 10e6], 31, -100, 128.1, 0.01).mean_rate()[1] > 13e6)
        True
        """
        rate, status = _core.mean_rate(self.effective_bandwidth, self.snr, *self.fading.gain())
        if np.any(status):
            raise ValueError(
                f"mean SNR = {self.snr!r}: must be in (0, inf), and large enough that a rate differs from 0"
            )
        return float(rate) if np.ndim(rate) == 0 else rate

    def sample_rate(self, size: int | tuple[int, ...], rng: Any = None) -> NDArray[np.float64]:
        """Rates of independent slots.

        Parameters
        ----------
        size : int or tuple of int
            Shape of the answer. The link must be a single one (shape ()).
        rng : optional
            What `numpy.random.default_rng` takes.

        Returns
        -------
        size ndarray, bit/s

        Examples
        --------
        >>> link = RayleighLink(10e6, 31, -100, 128.1, 0.01)
        >>> bool(abs(link.sample_rate(100_000, 1).mean() / link.mean_rate() - 1) < 0.02)
        True
        """
        if self.shape != ():
            raise ValueError(f"sample_rate: link of shape {self.shape}: must be a single link")
        shape = _validate.sizes("size", size)
        count = int(np.prod(shape))
        entropy = _random.entropy_words(_random.seed_sequence(rng))
        gain = tuple(map(float, self.fading.gain()))
        return _core.sample_rate(count, self.effective_bandwidth, self.snr, gain, entropy).reshape(shape)

    def transfer(self, bits: ArrayLike) -> TransferTime:
        """Law of the time that `bits` take over this link, from a fresh slot on.

        Parameters
        ----------
        bits : (...,) array_like, bit
            > 0; broadcasts with the link's parameters.

        Examples
        --------
        >>> law = RayleighLink(10e6, 31, -100, 128.1, 0.01).transfer(1.0486e6)
        >>> round(law.mean(), 4)
        0.0819
        """
        return TransferTime(bits, self)


@dataclass(frozen=True, eq=False)
class RayleighLink(FadingLink):
    """A link of independent Rayleigh-fading slots, R = (1 - xi) B log2(1 + s g), g ~ Exp(1).

    Every parameter may be an array; shapes broadcast. Parameters and errors are those of `FadingLink` without `fading`.

    Examples
    --------
    >>> link = RayleighLink(10e6, 31, -100, 128.1, 0.01)
    >>> round(link.snr, 3), round(link.mean_rate() / 1e6, 3)
    (1.95, 13.118)
    """

    fading: Fading = field(default=RAYLEIGH, init=False, repr=False)


class _Laws:
    """Laws that were built, the most recently used ones up to `capacity` bytes: some 8,000 of ordinary links."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.size = 0
        self._kept: OrderedDict[tuple[float, ...], _core.Transfer] = OrderedDict()
        self._lock = Lock()

    def get(self, bits: float, bandwidth: float, mean_snr: float, slot: float, *gain: float) -> _core.Transfer:
        key = (bits, bandwidth, mean_snr, slot, *(gain or (1.0, 0.0, 1.0, 1.0)))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        try:
            law = _core.Transfer(bits, bandwidth, mean_snr, slot, key[4:])
        except _core.CoreError as error:
            raise ValueError(
                f"bits = {bits:g}: over a link of {bandwidth:g} Hz, mean SNR {mean_snr:g} and slots of {slot:g} s: "
                f"{error}; must be at most 2e7 slots a transfer"
            ) from None
        with self._lock:
            if key not in self._kept:
                self._kept[key] = law
                self.size += sys.getsizeof(law)
            while self.size > self.capacity and len(self._kept) > 1:
                self.size -= sys.getsizeof(self._kept.popitem(last=False)[1])
        return law


_laws = _Laws(256 * 2**20)


class TransferTime:
    """Exact law of a transfer time: whole slots, then the fraction of the last that is needed.

    P(X > (n + f) slot) = P(R_1 + .. + R_n + f R_{n+1} < J / slot), computed to 1e-6 relative down to 1e-12, for a mean
    SNR of -40 to 90 dB and up to 1e7 slots a transfer.

    Parameters
    ----------
    bits : (...,) array_like, bit
        J > 0.
    link : FadingLink
        Its parameters broadcast with `bits`.
    """

    def __init__(self, bits: ArrayLike, link: FadingLink) -> None:
        _validate.check_kind("link", link, FadingLink)
        self.bits = _validate.positive("bits", bits, "bit")
        self.link = link
        self.shape = _validate.broadcast_shapes(bits=np.shape(self.bits), link=link.shape)
        values = (self.bits, link.effective_bandwidth, link.snr, link.slot, *link.fading.gain())
        parameters = [_validate.flat(value, self.shape) for value in values]
        self.laws = [_laws.get(*map(float, element)) for element in zip(*parameters, strict=True)]

    def __reduce__(self) -> tuple[type[TransferTime], tuple[Any, FadingLink]]:
        return TransferTime, (self.bits, self.link)

    def __repr__(self) -> str:
        return f"TransferTime(bits={self.bits!r}, link={self.link!r})"

    def _scalars(self, name: str) -> Any:
        values = np.array([getattr(law, name) for law in self.laws]).reshape(self.shape)
        return float(values) if values.ndim == 0 else values

    def _over(self, name: str, argument: Any, unit: str, function: Any) -> Any:
        argument = np.asarray(_validate.real(name, argument, infinite=name == "t", unit=unit))
        shape = _validate.broadcast_shapes(law=self.shape, **{name: argument.shape})
        if len(self.laws) == 1:
            result = np.asarray(function(self.laws[0], argument)).reshape(shape)
        else:
            result = np.empty(shape)
            index = np.broadcast_to(np.arange(len(self.laws)).reshape(self.shape), shape)
            argument = np.broadcast_to(argument, shape)
            for i, law in enumerate(self.laws):
                result[index == i] = function(law, argument[index == i])
        return float(result) if result.ndim == 0 else result

    def mean(self) -> Any:
        """E[X], s. Not J / E[R], which is below it."""
        return self._scalars("mean")

    def var(self) -> Any:
        """Var[X], s^2."""
        return self._scalars("variance")

    def cdf(self, t: ArrayLike) -> Any:
        """P(X <= t), `t` in s, broadcast with the law's shape."""
        return self._over("t", t, "s", lambda law, value: law.cdf(value))

    def sf(self, t: ArrayLike) -> Any:
        """P(X > t), `t` in s; 1e-6 relative down to 1e-12.

        Examples
        --------
        >>> law = RayleighLink(10e6, 31, -100, 128.1, 0.01).transfer(1.0486e6)
        >>> law.sf([0.0, 1.0])[0]
        np.float64(1.0)
        """
        return self._over("t", t, "s", lambda law, value: law.sf(value))

    def mgf(self, theta: ArrayLike) -> Any:
        """E[e^{theta X}], `theta` in 1/s, finite and of either sign; inf where it diverges.

        Examples
        --------
        >>> law = RayleighLink(10e6, 31, -100, 128.1, 0.01).transfer(1.0486e6)
        >>> round(law.mgf(0.0), 12)
        1.0
        """
        with np.errstate(over="ignore"):
            return self._over("theta", theta, "1/s", lambda law, value: np.exp(law.log_mgf(value)[0]))

    def sample(self, size: int | tuple[int, ...], rng: Any = None) -> NDArray[np.float64]:
        """Independent transfer times, drawn slot by slot; shape `size` before the law's shape.

        Examples
        --------
        >>> law = RayleighLink(10e6, 31, -100, 128.1, 0.01).transfer(1.0486e6)
        >>> bool(abs(law.sample(20_000, 1).mean() / law.mean() - 1) < 0.02)
        True
        """
        shape = _validate.sizes("size", size, len(self.laws))
        count = int(np.prod(shape))
        sequence = _random.seed_sequence(rng)
        columns = [
            _core.sample_service(("transfer", law), count, "slots", _random.entropy_words(sequence, i))
            for i, law in enumerate(self.laws)
        ]
        return np.stack(columns, axis=-1).reshape(shape + self.shape)
