"""Scenes as images."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeinfer.scenes.drawing import Scenes
from edgeinfer.scenes.words import BACKGROUNDS, COLOURS, SHAPES, SIDE

#: Of either width, as NumPy makes them.
Numbers = npt.NDArray[np.floating[Any]]


def outside(shape: int, x: Numbers, y: Numbers, width: Numbers) -> Numbers:
    """How far outside an object each point lies, px (negative inside), up to the corners' rounding.

    Parameters
    ----------
    shape : index into `SHAPES`
    x, y : points from the object's centre, px
    width : the object's extent, px
    """
    half = width / 2
    match SHAPES[shape]:
        case "circle":
            return np.hypot(x, y) - half
        case "ring":
            radius = np.hypot(x, y)
            return np.maximum(radius - half, 0.5 * half - radius)
        case "square":
            return np.maximum(np.abs(x), np.abs(y)) - 0.9 * half
        case "triangle":
            # Base and height are the width; the sides' unit normal is (2, -1) / sqrt(5).
            return np.maximum(y - half, (2 * np.abs(x) - y - half) / np.sqrt(5))
        case _:
            arm, ax, ay = half / 3, np.abs(x), np.abs(y)
            return np.minimum(np.maximum(ax - half, ay - arm), np.maximum(ax - arm, ay - half))


def share(shape: int, x: Numbers, y: Numbers, width: Numbers) -> Numbers:
    """Each pixel's share of an object, in [0, 1].

    It is the signed distance from the outline, clipped to half a pixel either side, so that edges are antialiased.

    Parameters
    ----------
    shape : index into `SHAPES`
    x, y : middles of pixels from the object's centre, px
    width : the object's extent, px
    """
    return np.clip(0.5 - outside(shape, x, y, width), 0, 1)


def render(scenes: Scenes) -> npt.NDArray[np.uint8]:
    """Draw the scenes, (n, 64, 64, 3) RGB.

    Examples
    --------
    >>> from edgeinfer import scenes
    >>> render(scenes.draw(2, 1)).shape
    (2, 64, 64, 3)
    """
    colours = np.array(list(COLOURS.values()), dtype=np.float32)
    grounds = np.array(list(BACKGROUNDS.values()), dtype=np.float32)
    image = np.broadcast_to(grounds[scenes.background][:, None, None], (len(scenes), SIDE, SIDE, 3)).copy()
    grid = (np.arange(SIDE) + 0.5).astype(np.float32)
    for slot in (0, 1):
        for shape in range(len(SHAPES)):
            index = np.flatnonzero(scenes.shape[:, slot] == shape)
            centre = scenes.centre[index, slot].astype(np.float32)
            width = scenes.width[index, slot].astype(np.float32)[:, None, None]
            x = grid[None, None, :] - centre[:, 0, None, None]
            y = grid[None, :, None] - centre[:, 1, None, None]
            covered = share(shape, x, y, width)[..., None]
            image[index] += covered * (colours[scenes.colour[index, slot]][:, None, None] - image[index])
    return np.rint(image).astype(np.uint8)
