"""Rates of codes of a given length."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _validate


def finite_blocklength_rate(snr: ArrayLike, blocklength: ArrayLike, error_probability: ArrayLike) -> Any:
    """Rate of the best codes of a length on the complex Gaussian channel, by the normal approximation.

    C - sqrt(V / n) Q^-1(e) + log2(2 n) / (2 n), C = log2(1 + s), V = s (s + 2) / (s + 1)^2 log2(e)^2 (Polyanskiy, Poor
    and Verdu, IEEE Trans. Inf. Theory 56, 2010, whose n real uses are n / 2 complex ones). An approximation and no
    bound: the best codes carry up to some five bits a block more or less.

    Parameters
    ----------
    snr : (...,) array_like
        s, linear, > 0.
    blocklength : (...,) array_like
        n, complex channel uses, that is bandwidth times time, >= 1.
    error_probability : (...,) array_like
        e, of a block, in (0, 1).

    Returns
    -------
    float or (...,) ndarray, bit a channel use
        0 where the first two terms are not above 0.

    Raises
    ------
    ValueError
        For values outside their range.

    Examples
    --------
    >>> round(finite_blocklength_rate(1.0, 500, 1e-3), 3)
    0.837
    """
    snr = _validate.real("snr", snr, 0, low_open=True)
    length = _validate.real("blocklength", blocklength, 1)
    error = _validate.real("error_probability", error_probability, 0, 1, low_open=True, high_open=True)
    _validate.broadcast_shapes(snr=np.shape(snr), blocklength=np.shape(length), error_probability=np.shape(error))
    quantile = -np.vectorize(NormalDist().inv_cdf, otypes=[float])(error)
    power = np.asarray(snr)
    noise = 1 / (1 + power)
    # V by what keeps its digits at a small snr, as 1 - 1 / (1 + s)^2 does not.
    capacity, dispersion = np.log1p(power) / np.log(2), power * noise * (1 + noise) / np.log(2) ** 2
    rate = capacity - np.sqrt(dispersion / length) * quantile
    rate = np.where(rate > 0, rate + (1 + np.log2(length)) / 2 / np.asarray(length), 0.0)
    return float(rate) if np.ndim(rate) == 0 else rate
