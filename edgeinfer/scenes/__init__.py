"""A toy world of captioned scenes: one or two flat shapes on a plain ground, drawn by rule from a small grammar.

The *world* is a toy, made so that a text-to-image cascade can be trained on it within an hour on a CPU and judged
exactly; the cascade that is trained on it is the real algorithm. A caption names one shape and where it is, or two and
how they stand to each other::

    a small red ring at the top left on white
    a red circle above a small blue square
    a large green cross left of a small pink circle at the bottom on black

Sizes, backgrounds and places may be left out; then the scene draws them. With `layout` "fixed" a caption names a place
on both axes, so that it fixes the layout; with "free" it leaves at least one axis free; "mixed" has half of each and
is the world that the shipped cascade was trained on. One in twenty sets of objects (size, colour, shape of each) is
held out by a hash and never seen in training.

Positions and widths are in pixels of the 64 x 64 image, x to the right, y downwards. The two objects of a pair are
called a and b: a is the left or the upper one, whichever the caption names first.
"""

from edgeinfer.scenes import storyboards
from edgeinfer.scenes.drawing import Scenes, draw, held_out
from edgeinfer.scenes.grammar import captions, encode, labels, request
from edgeinfer.scenes.judging import judge, verdicts
from edgeinfer.scenes.referee import Measurements, measure, score
from edgeinfer.scenes.rendering import outside, render, share
from edgeinfer.scenes.words import (
    BACKGROUNDS,
    COLOURS,
    COLUMNS,
    HEADS,
    LENGTH,
    PLACES,
    RELATIONS,
    ROWS,
    SHAPES,
    SIDE,
    SIZES,
    WIDTHS,
    WORDS,
)

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "COLUMNS",
    "HEADS",
    "LENGTH",
    "PLACES",
    "RELATIONS",
    "ROWS",
    "SHAPES",
    "SIDE",
    "SIZES",
    "WIDTHS",
    "WORDS",
    "Measurements",
    "Scenes",
    "captions",
    "draw",
    "encode",
    "held_out",
    "judge",
    "labels",
    "measure",
    "outside",
    "render",
    "request",
    "score",
    "share",
    "storyboards",
    "verdicts",
]
