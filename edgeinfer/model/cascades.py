"""What a generative cascade costs."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from edgeinfer import _validate


@dataclass(frozen=True, eq=False)
class Cascade(_validate.Value):
    """Costs of a text-to-image cascade: an encoder and prior steps, then a feature map and decoding steps.

    Parameters
    ----------
    encoder, prior_step, feature, decode_step : (...,) array_like, FLOP
        O_E, O_prior, O_D, O_dec of the paper: once, each prior step, once, each decoding step. >= 0.
        Guidance runs two passes a step; the paper counts one, so give twice the cost to count both.
    latent_bits, image_bits : (...,) array_like, bit
        What crosses the link in split inference (J_dl) and in edge-only inference (J_img). > 0.

    Examples
    --------
    >>> cascade = Cascade(0.194e12, 6.7598e12, 1.117e12, 3.5492e12, 1.0486e6, 5.2429e6)
    >>> round(cascade.prior_work(20) / 1e12, 4)
    135.39
    """

    encoder: Any
    prior_step: Any
    feature: Any
    decode_step: Any
    latent_bits: Any
    image_bits: Any

    def __post_init__(self) -> None:
        for field in fields(self):
            check = _validate.positive if field.name.endswith("bits") else _non_negative
            object.__setattr__(self, field.name, check(field.name, getattr(self, field.name)))

    def prior_work(self, prior_steps: Any) -> Any:
        """O_E + O_prior L_prior, FLOP; L_prior >= 0, (...,) array_like."""
        return _sum(self.encoder, self.prior_step, _non_negative("prior_steps", prior_steps))

    def decode_work(self, decode_steps: Any) -> Any:
        """O_D + O_dec L_dec, FLOP; L_dec >= 0, (...,) array_like."""
        return _sum(self.feature, self.decode_step, _non_negative("decode_steps", decode_steps))


def _sum(once: Any, step: Any, steps: Any) -> Any:
    # What overflows is refused by name where a stage is made of it.
    with np.errstate(over="ignore"):
        return once + step * steps


def _non_negative(name: str, value: Any) -> Any:
    return _validate.real(name, value, 0)
