"""What one frame of a storyboard shows: its objects, their layout and what is said of it, and its table of 12 words."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from edgeinfer.scenes.drawing import Scenes
from edgeinfer.scenes.grammar import request
from edgeinfer.scenes.words import BACKGROUNDS, COLOURS, COLUMNS, HEADS, ROWS, SHAPES, SIZES

LAYOUTS = HEADS["layout"]
NUMBERS = tuple("12345678")
UNSAID = "-"
#: The columns of a table, one word each.
TABLE = ("number", "source", "layout", "background", "row", "column", *("size", "colour", "shape") * 2)


class Thing(NamedTuple):
    """One object of a frame, by its words; `size` is None where it is not said."""

    colour: str
    shape: str
    size: str | None = None


class Frame(NamedTuple):
    """What is said of one frame of a storyboard.

    Attributes
    ----------
    layout : str
        "one", "horizontal" (the first object on the left) or "vertical" (the first object on top).
    things : tuple of Thing
        One object, or two of different colours, from the left or from the top.
    background, row, column : str or None
        None where it is not said. A horizontal pair has no column of its own, a vertical one no row.
    """

    layout: str
    things: tuple[Thing, ...]
    background: str | None = None
    row: str | None = None
    column: str | None = None


def check(frame: Frame) -> Frame:
    """The frame itself; ValueError where its parts do not go together."""
    pair = frame.layout != "one"
    if len(frame.things) != 1 + pair:
        raise ValueError(f"layout = {frame.layout!r}: must have {1 + pair} objects, not {len(frame.things)}")
    if pair and frame.things[0].colour == frame.things[1].colour:
        raise ValueError(f"both objects are {frame.things[0].colour}: two objects must have different colours")
    if (frame.layout == "horizontal" and frame.column) or (frame.layout == "vertical" and frame.row):
        raise ValueError(f"layout = {frame.layout!r}: a pair has no {'column' if frame.column else 'row'} of its own")
    if not pair and "middle" in (frame.row, frame.column) and None in (frame.row, frame.column):
        raise ValueError("one object has no middle on one axis alone: its place cannot be said")
    return frame


def table(frame: Frame, number: int, source: int | None) -> tuple[str, ...]:
    """The 12 words of a frame, as `TABLE` names them; "-" for what is not said or not there.

    Parameters
    ----------
    frame : Frame
    number : int
        Of the frame, from 1.
    source : int, optional
        The number of the frame that it was made from; None for the first.

    Examples
    --------
    >>> " ".join(table(Frame("one", (Thing("red", "ring"),), "white"), 1, None))
    '1 - one white - - - red ring - - -'
    """
    words = [str(number), UNSAID if source is None else str(source), frame.layout]
    words += [part or UNSAID for part in (frame.background, frame.row, frame.column)]
    for thing in frame.things:
        words += [thing.size or UNSAID, thing.colour, thing.shape]
    return (*words, *(UNSAID,) * (len(TABLE) - len(words)))


_ALLOWED = (
    NUMBERS,
    (*NUMBERS, UNSAID),
    LAYOUTS,
    (*BACKGROUNDS, UNSAID),
    (*ROWS, UNSAID),
    (*COLUMNS, UNSAID),
    *((*SIZES, UNSAID), (*COLOURS, UNSAID), (*SHAPES, UNSAID)) * 2,
)


def read_table(words: Sequence[str]) -> tuple[int, int | None, Frame]:
    """Number, source and frame of a table; the inverse of `table`.

    Raises
    ------
    ValueError
        Naming the column, for a word that does not belong there, or objects that do not go together.

    Examples
    --------
    >>> read_table("2 1 one white - - - red ring - - -".split())[2].things
    (Thing(colour='red', shape='ring', size=None),)
    """
    if len(words) != len(TABLE):
        raise ValueError(f"table of {len(words)} words: must have {len(TABLE)}")
    for name, word, allowed in zip(TABLE, words, _ALLOWED, strict=True):
        if word not in allowed:
            raise ValueError(f"{name} = {word!r}: must be one of {', '.join(allowed)}")
    number, source, layout, *rest = words
    background, row, column = (None if word == UNSAID else word for word in rest[:3])
    things = []
    for size, colour, shape in (rest[3:6], rest[6:9]):
        if (size, colour, shape) == (UNSAID,) * 3:
            continue
        if UNSAID in (colour, shape):
            raise ValueError(f"object {size} {colour} {shape}: must have a colour and a shape")
        things.append(Thing(colour, shape, None if size == UNSAID else size))
    frame = check(Frame(layout, tuple(things), background, row, column))
    return int(number), None if source == UNSAID else int(source), frame


def read_caption(caption: str) -> Frame:
    """The frame that a caption describes; ValueError for a caption that the grammar cannot make.

    Examples
    --------
    >>> read_caption("a red circle above a small blue square").layout
    'vertical'
    """
    asked = {head: HEADS[head][index[0]] if index[0] >= 0 else None for head, index in request([caption]).items()}
    things = tuple(
        Thing(colour, shape, asked[f"size_{slot}"])
        for slot in "ab"
        if (colour := asked[f"colour_{slot}"]) and (shape := asked[f"shape_{slot}"])
    )
    assert asked["layout"] is not None
    return check(Frame(asked["layout"], things, asked["background"], asked["row"], asked["column"]))


@functools.cache
def held_out(things: tuple[Thing, ...]) -> bool:
    """Whether a set of objects is held out of training: a hash of colours and shapes picks one set in twenty.

    Sizes do not count, since a storyboard need not say them.
    """
    name = "|".join(sorted(f"{thing.colour} {thing.shape}" for thing in things))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") % 20 == 0


def said_frames(batch: Scenes) -> list[Frame]:
    """What the captions of scenes say, as `captions` writes them."""
    colours, grounds = tuple(COLOURS), tuple(BACKGROUNDS)
    columns = [batch.layout, batch.background, batch.says_background, batch.place, batch.colour, batch.shape]
    columns += [batch.size, batch.says_size]
    frames = []
    for layout, ground, says_ground, (column, row), colour, shape, size, says in zip(
        *(array.tolist() for array in columns), strict=True
    ):
        things = tuple(
            Thing(colours[colour[slot]], SHAPES[shape[slot]], SIZES[size[slot]] if says[slot] else None)
            for slot in range(1 + (layout > 0))
        )
        row_word, column_word = ROWS[row] if row >= 0 else None, COLUMNS[column] if column >= 0 else None
        if layout == 0 and row_word == "middle" and column_word is None:
            column_word = "middle"
        frames.append(Frame(LAYOUTS[layout], things, grounds[ground] if says_ground else None, row_word, column_word))
    return frames
