"""Stepping of diffusion models in NumPy: DDPM, the paper's (1), and DDIM, configured as diffusers configures them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
TIMESTEP_SPACINGS = ("leading", "trailing", "linspace")
SAMPLERS = ("ddim", "ddpm")
_MAX_BETA = 0.999
# What a configuration may name but must leave off: stepping without it would give other images than asked for.
_OFF = ("thresholding", "rescale_betas_zero_snr", "trained_betas")


@dataclass(frozen=True)
class DenoisingStep:
    """One reverse step as numbers: x <- clean x0 + keep x + push u + sigma z, x0 = clip(p x + q u).

    u is the network's output, x the sample, z standard normal noise.

    Attributes
    ----------
    timestep : int
        What the network is told.
    p, q, clean, keep, push, sigma : float
    clip : float or None
        x0 is clipped to [-clip, clip].
    """

    timestep: int
    p: float
    q: float
    clean: float
    keep: float
    push: float
    sigma: float
    clip: float | None


@dataclass(frozen=True)
class Scheduler:
    """A noise schedule and how to walk it back; field names, defaults and meaning are those of diffusers' DDIM and
    DDPM.

    Parameters
    ----------
    num_train_timesteps : int
        T, >= 1.
    beta_start, beta_end : float
        In (0, 1); of the linear schedules.
    beta_schedule : "linear", "scaled_linear" or "squaredcos_cap_v2"
    prediction_type : "epsilon", "v_prediction" or "sample"
        What the network's output is.
    timestep_spacing : "leading", "trailing" or "linspace"
    steps_offset : int
        Added to "leading" time steps, >= 0.
    clip_sample : bool
        Clip the predicted clean sample to [-clip_sample_range, clip_sample_range].
    clip_sample_range : float
        > 0.
    set_alpha_to_one : bool
        DDIM's last step goes to a clean sample; otherwise to time step 0.
    use_clipped_model_output : bool
        DDIM takes the noise that is left from the clipped sample, so that both add up to x again; diffusers has this as
        an argument of `step`.
    variance_type : "fixed_small" or "fixed_large"
        DDPM's variance: of q(x_{t-1} | x_t, x_0), or beta_t.
    init_noise_sigma : float
        Standard deviation of the noise that a walk begins from, in (0, 1]; diffusers fixes it at 1. Below 1 samples
        spread less, which mends networks whose samples spread too far. Noise on an image to begin from stays as it is.

    Examples
    --------
    >>> [step.timestep for step in Scheduler(timestep_spacing="trailing").steps(4)]
    [999, 749, 499, 249]
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    prediction_type: str = "epsilon"
    timestep_spacing: str = "leading"
    steps_offset: int = 0
    clip_sample: bool = True
    clip_sample_range: float = 1.0
    set_alpha_to_one: bool = True
    use_clipped_model_output: bool = False
    variance_type: str = "fixed_small"
    init_noise_sigma: float = 1.0

    def __post_init__(self) -> None:
        for name, least in (("num_train_timesteps", 1), ("steps_offset", 0)):
            object.__setattr__(self, name, _validate.whole(name, getattr(self, name), least))
        for name in ("beta_start", "beta_end"):
            beta = _validate.scalar(name, getattr(self, name), 0, 1, low_open=True, high_open=True)
            object.__setattr__(self, name, beta)
        _validate.choice("beta_schedule", self.beta_schedule, BETA_SCHEDULES)
        _validate.choice("prediction_type", self.prediction_type, PREDICTION_TYPES)
        _validate.choice("timestep_spacing", self.timestep_spacing, TIMESTEP_SPACINGS)
        _validate.choice("variance_type", self.variance_type, ("fixed_small", "fixed_large"))
        limit = _validate.scalar("clip_sample_range", self.clip_sample_range, 0, low_open=True)
        object.__setattr__(self, "clip_sample_range", limit)
        sigma = _validate.scalar("init_noise_sigma", self.init_noise_sigma, 0, 1, low_open=True)
        object.__setattr__(self, "init_noise_sigma", sigma)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Scheduler":
        """The scheduler of a diffusers configuration; keys that do not touch DDIM or DDPM are passed over.

        Raises
        ------
        ValueError
            For a value out of range, or for an option that is on and not offered (dynamic thresholding, zero terminal
            signal-to-noise ratio, trained betas).

        Examples
        --------
        >>> Scheduler.from_config({"_class_name": "DDIMScheduler", "beta_schedule": "cubic"})
        Traceback (most recent call last):
        ...
        ValueError: beta_schedule = 'cubic': must be one of 'linear', 'scaled_linear', 'squaredcos_cap_v2'
        """
        for name in _OFF:
            if config.get(name):
                raise ValueError(f"{name} = {config[name]!r}: must be off")
        return cls(**{field.name: config[field.name] for field in fields(cls) if field.name in config})

    @cached_property
    def alphas_cumprod(self) -> NDArray[np.float64]:
        """Product of 1 - beta up to each time step, (T,), read-only; rounded to float32 as training rounds it."""
        count = self.num_train_timesteps
        if self.beta_schedule == "linear":
            betas = np.linspace(self.beta_start, self.beta_end, count)
        elif self.beta_schedule == "scaled_linear":
            betas = np.linspace(self.beta_start**0.5, self.beta_end**0.5, count) ** 2
        else:
            signal = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2) ** 2
            betas = np.minimum(1 - signal[1:] / signal[:-1], _MAX_BETA)
        # Training libraries keep the table in float32; the noise that a network learnt to remove is that table's.
        products = np.cumprod(1 - betas.astype(np.float32), dtype=np.float64).astype(np.float32).astype(np.float64)
        products.flags.writeable = False
        return products

    def timesteps(self, count: int) -> NDArray[np.int64]:
        """The time steps visited in `count` steps, descending.

        Parameters
        ----------
        count : int
            In [1, num_train_timesteps].

        Returns
        -------
        (count,) ndarray
        """
        total = self.num_train_timesteps
        count = _validate.whole("steps", count, 1)
        if count > total:
            raise ValueError(f"steps = {count}: must be at most {total}, the time steps of training")
        if self.timestep_spacing == "leading":
            times = np.arange(count)[::-1] * (total // count) + self.steps_offset
        elif self.timestep_spacing == "trailing":
            # Not arange(total, 0, -total / count), whose length rounding may change.
            times = np.round(total - np.arange(count) * (total / count)).astype(np.int64) - 1
        else:
            times = np.linspace(0, total - 1, count).round()[::-1].astype(np.int64)
        if times[0] >= total:
            raise ValueError(f"steps_offset = {self.steps_offset}: time step {times[0]} must be below {total}")
        return times.astype(np.int64)

    def steps(self, count: int, sampler: str = "ddim") -> tuple[DenoisingStep, ...]:
        """The steps from noise to a sample.

        Parameters
        ----------
        count : int
            In [1, num_train_timesteps].
        sampler : "ddim" or "ddpm"
            DDIM without added noise, each step to T // count time steps earlier; or DDPM, each step to the next of
            the time steps. Where T is no multiple of `count` these differ a little, as they do in diffusers.

        Returns
        -------
        tuple of DenoisingStep
        """
        return _steps(self, _validate.whole("steps", count, 1), _validate.choice("sampler", sampler, SAMPLERS))

    def _clean(self, product: float) -> tuple[float, float]:
        # x0 = p x + q u
        signal, noise = product**0.5, (1 - product) ** 0.5
        if self.prediction_type == "epsilon":
            return 1 / signal, -noise / signal
        return (signal, -noise) if self.prediction_type == "v_prediction" else (0.0, 1.0)

    def _noise(self, product: float) -> tuple[float, float]:
        # epsilon = r x + s u
        signal, noise = product**0.5, (1 - product) ** 0.5
        if self.prediction_type == "epsilon":
            return 0.0, 1.0
        return (noise, signal) if self.prediction_type == "v_prediction" else (1 / noise, -signal / noise)

    def _ddim(self, now: int, then: int) -> DenoisingStep:
        product = float(self.alphas_cumprod[now])
        final = 1.0 if self.set_alpha_to_one else float(self.alphas_cumprod[0])
        target = float(self.alphas_cumprod[then]) if then >= 0 else final
        rest = (1 - target) ** 0.5
        if self.use_clipped_model_output:
            keep = rest / (1 - product) ** 0.5
            return DenoisingStep(
                now, *self._clean(product), target**0.5 - keep * product**0.5, keep, 0.0, 0.0, self._clip
            )
        r, s = self._noise(product)
        return DenoisingStep(now, *self._clean(product), target**0.5, rest * r, rest * s, 0.0, self._clip)

    def _ddpm(self, now: int, then: int) -> DenoisingStep:
        product = float(self.alphas_cumprod[now])
        target = float(self.alphas_cumprod[then]) if then >= 0 else 1.0
        alpha = product / target
        clean = target**0.5 * (1 - alpha) / (1 - product)
        keep = alpha**0.5 * (1 - target) / (1 - product)
        small = self.variance_type == "fixed_small"
        variance = (1 - target) / (1 - product) * (1 - alpha) if small else 1 - alpha
        sigma = variance**0.5 if now > 0 else 0.0
        return DenoisingStep(now, *self._clean(product), clean, keep, 0.0, sigma, self._clip)

    @property
    def _clip(self) -> float | None:
        return self.clip_sample_range if self.clip_sample else None


@lru_cache(maxsize=64)
def _steps(scheduler: Scheduler, count: int, sampler: str) -> tuple[DenoisingStep, ...]:
    times = scheduler.timesteps(count)
    build = scheduler._ddim if sampler == "ddim" else scheduler._ddpm
    before = times - scheduler.num_train_timesteps // len(times) if sampler == "ddim" else np.append(times[1:], -1)
    return tuple(build(int(now), int(then)) for now, then in zip(times, before, strict=True))


def advance(
    step: DenoisingStep,
    sample: NDArray[np.float32],
    output: NDArray[np.float32],
    scratch: NDArray[np.float32],
    noise: NDArray[np.float32] | None = None,
) -> None:
    """Take `step` in place.

    Parameters
    ----------
    step : DenoisingStep
    sample : (...) ndarray
        x; holds the next sample afterwards.
    output : (...) ndarray
        The network's output; overwritten.
    scratch : (...) ndarray
        Overwritten.
    noise : (...) ndarray, optional
        z; overwritten. Needed where `step.sigma` > 0.

    Examples
    --------
    >>> x, u = np.full(3, 0.5, np.float32), np.zeros(3, np.float32)
    >>> advance(Scheduler(prediction_type="sample").steps(1)[0], x, u, np.empty_like(x))
    >>> x
    array([0., 0., 0.], dtype=float32)
    """
    # x0 / p, so that one product serves both p and clean; where p = 0 the network gives x0 itself.
    size = step.p or 1.0
    np.multiply(output, step.q / size, out=scratch)
    if step.p:
        scratch += sample
    if step.clip is not None:
        np.minimum(scratch, step.clip / size, out=scratch)
        np.maximum(scratch, -step.clip / size, out=scratch)
    scratch *= size * step.clean
    sample *= step.keep
    sample += scratch
    if step.push:
        output *= step.push
        sample += output
    if step.sigma:
        if noise is None:
            raise ValueError(f"noise = None: step to sigma = {step.sigma:g} needs noise")
        noise *= step.sigma
        sample += noise
