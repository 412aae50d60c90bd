"""Latents enlarged without a decode stage."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate


class Upsampling:
    """Plain upsampling in the place of the decode stage."""

    def __init__(self, prior: Callable[..., Any], kind: str) -> None:
        self.prior, self.kind = prior, kind

    def decode(self, captions: Any, latent: NDArray[np.float32], steps: int, seeds: Any) -> NDArray[np.uint8]:
        return upsample(latent, self.kind)


def upsample(latent: NDArray[np.float32], kind: str) -> NDArray[np.uint8]:
    """Images of twice the side.

    Parameters
    ----------
    latent : (n, channels, side, side) ndarray
        In [-1, 1].
    kind : {"nearest", "bicubic"}
        Bicubic is the cubic convolution with a = -0.75, the edge repeated.

    Returns
    -------
    (n, 2 side, 2 side, channels) ndarray of uint8
    """
    side = latent.shape[-1]
    at = (np.arange(2 * side) + 0.5) / 2 - 0.5
    matrix = np.zeros((2 * side, side))
    if _validate.choice("kind", kind, ("nearest", "bicubic")) == "nearest":
        matrix[np.arange(2 * side), np.arange(2 * side) // 2] = 1
    else:
        for source in np.floor(at).astype(int) + np.arange(-1, 3)[:, None]:
            x, a = np.abs(at - source), -0.75
            near = ((a + 2) * x - (a + 3)) * x**2 + 1
            far = a * (((x - 5) * x + 8) * x - 4)
            np.add.at(matrix, (np.arange(2 * side), np.clip(source, 0, side - 1)), np.where(x <= 1, near, far))
    large = np.einsum("yi,ncij,xj->nyxc", matrix, latent, matrix, optimize=True)
    return np.rint(np.clip((large + 1) * 127.5, 0, 255)).astype(np.uint8)
