"""Frames of a storyboard as scenes to render, and as captions for painters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeinfer.scenes.drawing import GAP, JITTER, Scenes
from edgeinfer.scenes.grammar import captions
from edgeinfer.scenes.storyboards.frames import LAYOUTS, Frame
from edgeinfer.scenes.words import BACKGROUNDS, COLOURS, COLUMNS, PLACES, ROWS, SHAPES, SIDE, SIZES, WIDTHS


def _index(words: Sequence[str], word: str | None) -> int:
    return -1 if word is None else list(words).index(word)


def to_scenes(frames: Sequence[Frame], rng: Any = None) -> Scenes:
    """The frames of one storyboard as scenes.

    What is not said is drawn once for all of them: one background, one size, one place on each axis, and how a pair
    shares out the axis that it lies on. So frames differ by what is said alone.

    Parameters
    ----------
    frames : sequence of Frame
        At least one.
    rng : optional
        What `numpy.random.default_rng` takes.

    Examples
    --------
    >>> from edgeinfer.scenes.storyboards import Thing
    >>> frame = Frame("one", (Thing("red", "ring", "large"),), "white", "top")
    >>> scenes = to_scenes([frame, frame._replace(background="black")], 1)
    >>> bool((scenes.centre[0] == scenes.centre[1]).all()), describe(frame)
    (True, 'a large red ring at the top on white')
    """
    if not frames:
        raise ValueError("frames = none: must be at least one")
    rng = np.random.default_rng(rng)
    ground, size = int(rng.integers(len(BACKGROUNDS))), int(rng.integers(len(SIZES)))
    free, shift = rng.uniform(PLACES[0], PLACES[2], 2), rng.uniform(-JITTER, JITTER, (2, 2))
    spread, cuts = rng.uniform(-1, 1, 2), np.sort(rng.random(2))
    n = len(frames)
    layout = np.array([LAYOUTS.index(frame.layout) for frame in frames])
    said_ground = np.array([_index(tuple(BACKGROUNDS), frame.background) for frame in frames])
    place = np.array([(_index(COLUMNS, frame.column), _index(ROWS, frame.row)) for frame in frames])
    shape, colour, said_size = np.full((3, n, 2), -1)
    for i, frame in enumerate(frames):
        for slot, thing in enumerate(frame.things):
            shape[i, slot], colour[i, slot] = SHAPES.index(thing.shape), tuple(COLOURS).index(thing.colour)
            said_size[i, slot] = _index(SIZES, thing.size)
    sizes = np.where((said_size < 0) & (shape >= 0), size, said_size)
    width = np.array(WIDTHS)[sizes] + spread
    centre = np.where(place >= 0, np.array(PLACES)[place], free)[:, None, :] + shift
    along = np.stack([cuts[0] * (slack := SIDE - GAP - width.sum(1)), cuts[1] * slack], 1) + width / 2
    along[:, 1] += width[:, 0] + GAP
    for axis in (0, 1):
        here = layout == axis + 1
        centre[here, :, axis] = along[here]
    return Scenes(
        layout=layout,
        background=np.where(said_ground < 0, ground, said_ground),
        shape=shape,
        colour=colour,
        size=sizes,
        centre=centre,
        width=width,
        place=place,
        says_size=said_size >= 0,
        says_background=said_ground >= 0,
        first=np.zeros(n, dtype=np.int64),
    )


def describe(frame: Frame) -> str:
    """The caption of a frame, for painters; the left or upper object first.

    Examples
    --------
    >>> from edgeinfer.scenes import storyboards
    >>> [describe(frame) for frame in storyboards.follow(["a red ring", "make it blue"]).frames]
    ['a red ring', 'a blue ring']
    """
    return captions(to_scenes([frame], 0))[0]
