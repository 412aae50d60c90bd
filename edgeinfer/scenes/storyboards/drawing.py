"""Storyboards drawn at random, with their exact answers."""

from __future__ import annotations

import functools
import random
from itertools import accumulate, product
from typing import Any, NamedTuple

import numpy as np

from edgeinfer.scenes.drawing import draw as draw_scenes
from edgeinfer.scenes.grammar import captions
from edgeinfer.scenes.storyboards.edits import (
    EDITS,
    POSITIONS,
    RELATIONS,
    SWAPPED,
    Edit,
    History,
    Reference,
    begin,
    resolve,
    step,
)
from edgeinfer.scenes.storyboards.forms import FORMS, Form, write_edit
from edgeinfer.scenes.storyboards.frames import NUMBERS, Frame, Thing, held_out, said_frames
from edgeinfer.scenes.words import BACKGROUNDS, COLOURS, COLUMNS, ROWS, SHAPES, SIZES

#: How often a kind of edit is drawn where it is possible: more often what is harder to learn.
_WEIGHTS = {
    **{"recolour": 1.0, "resize": 1.0, "reshape": 1.0, "move": 1.5, "move both": 1.0, "relate": 2.0, "swap": 1.5},
    **{"add": 2.0, "remove": 1.5, "keep": 0.7, "background": 1.0, "undo": 1.0, "back": 1.0, "as in": 2.0},
}
_ALONE = ("recolour", "resize", "reshape", "move", "add", "background")
_PAIR = ("recolour", "resize", "reshape", "move both", "relate", "swap", "remove", "keep", "background")
_BY_KIND = {key: [form for form in FORMS if (form.kind, form.held) == key] for key in product(_WEIGHTS, (False, True))}
_HELD_SHARE = 0.3


class Storyboard(NamedTuple):
    """A caption and its edits, with the exact answer.

    Attributes
    ----------
    sentences : tuple of str
        The caption and 1 to 7 edits.
    frames : tuple of Frame
        One a sentence.
    sources : tuple of (int or None)
        The number of the frame that each is made from.
    kinds : tuple of str
        Of the edits.
    held : tuple of bool
        Whether each edit is said in a form, or points to an object in a way, that is held out of training.
    """

    sentences: tuple[str, ...]
    frames: tuple[Frame, ...]
    sources: tuple[int | None, ...]
    kinds: tuple[str, ...]
    held: tuple[bool, ...]


@functools.cache
def _possible(alone: bool, undo: bool, back: bool) -> tuple[tuple[str, ...], list[float]]:
    """Kinds of edits that a frame allows, and their weights, summed up."""
    kinds = (*(_ALONE if alone else _PAIR), *("undo",) * undo, *("back", "as in") * back)
    return kinds, list(accumulate(_WEIGHTS[kind] for kind in kinds))


def _pointing(way: str, frame: Frame, target: int, last: int | None) -> Reference:
    colour, shape, size = frame.things[target]
    match way:
        case "pronoun":
            return Reference("it" if len(frame.things) == 1 or last == target else "other")
        case "position" | "position and shape":
            position = next(word for word, at in POSITIONS.items() if at == (frame.layout, target))
            return Reference(position=position, shape=shape if "shape" in way else None)
    return Reference(
        size=size if "size" in way else None,
        colour=colour if way == "colour" or "both" in way else None,
        shape=None if way in ("colour", "size") else shape,
    )


class _Pen:
    """Draws edits of one storyboard; with `held`, some in forms that are held out."""

    def __init__(self, rng: random.Random, held: bool) -> None:
        self.rng, self.held, self.used = rng, held, False

    def form(self, kind: str) -> Form:
        held = self.held and self.rng.random() < _HELD_SHARE
        self.used |= held
        return self.rng.choice(_BY_KIND[kind, held])

    def reference(self, frame: Frame, target: int, last: int | None) -> Reference:
        """Some way to point to an object that means it and no other."""
        thing = frame.things[target]
        pair = len(frame.things) == 2
        ways = [
            "colour",
            "shape",
            "both",
            *("size",) * (thing.size is not None),
            *("position", "position and shape") * pair,
        ]
        if not pair or last is not None:
            ways += ["pronoun"] * 3
        if self.held and thing.size and self.rng.random() < _HELD_SHARE:
            ways = ["size and shape", "size and both"]
            self.used = True
        while True:
            way = _pointing(ways.pop(int(self.rng.random() * len(ways))), frame, target, last)
            try:
                if resolve(way, frame, last) == target:
                    return way
            except ValueError:
                if not ways:
                    raise

    def plain(self, kind: str, frame: Frame, last: int | None) -> Edit:
        """An edit of a kind in `EDITS`, perhaps one that is refused."""
        choice, target = self.rng.choice, self.rng.randrange(len(frame.things))
        match kind:
            case "recolour" | "resize" | "reshape":
                values = {"recolour": tuple(COLOURS), "resize": SIZES, "reshape": SHAPES}[kind]
                return Edit(kind, self.reference(frame, target, last), value=choice(values))
            case "move":
                return Edit(kind, self.reference(frame, target, last), place=self.place())
            case "move both":
                row, column = choice(ROWS), choice(COLUMNS)
                place = (row, None) if frame.layout == "horizontal" else (None, column)
                return Edit(kind, place=("middle", "middle") if "middle" in place else place)
            case "relate":
                first = self.reference(frame, target, last)
                second = self.reference(frame, 1 - target, target)
                return Edit(kind, first, second, choice(tuple(RELATIONS)))
            case "swap":
                return Edit(kind, value=choice((*SWAPPED, "places")))
            case "add":
                thing = Thing(choice(tuple(COLOURS)), choice(SHAPES), choice((*SIZES, *SIZES, None)))
                return Edit(kind, self.reference(frame, target, last), value=choice(tuple(RELATIONS)), thing=thing)
            case "remove" | "keep":
                return Edit(kind, self.reference(frame, target, last))
        return Edit(kind, value=choice(tuple(BACKGROUNDS)))

    def place(self) -> tuple[str | None, str | None]:
        row, column = self.rng.choice(((0, 1), (1, 0), (1, 1)))
        words = (self.rng.choice(ROWS) if row else None, self.rng.choice(COLUMNS) if column else None)
        return ("middle", "middle") if "middle" in words and None in words else words

    def kind(self, frame: Frame, undo: bool = False, back: bool = False) -> str:
        kinds, weights = _possible(frame.layout == "one", undo, back)
        return self.rng.choices(kinds, cum_weights=weights)[0]

    def edit(self, history: History) -> tuple[Edit, str]:
        """An edit and its sentence."""
        frame, number = history.frames[-1], len(history.frames)
        kind = self.kind(frame, len(history.shown) > 1, number > 1)
        form = self.form(kind)
        if kind in EDITS:
            edit = self.plain(kind, frame, history.last)
            return edit, write_edit(edit, form)
        if kind == "undo":
            return Edit(kind), write_edit(Edit(kind), form)
        picture = self.rng.randint(1, number - 1)
        if kind == "back":
            edit = Edit(kind, picture=picture)
            return edit, write_edit(edit, form)
        there = history.frames[picture - 1]
        inner = self.form(self.kind(there))
        edit = Edit(kind, picture=picture, edit=self.plain(inner.kind, there, None))
        return edit, write_edit(edit, form, inner)


def _extend(caption: str, frame: Frame, edits: int, rng: random.Random, objects: bool, forms: bool) -> Storyboard:
    history = begin(frame)
    sentences = [caption]
    kinds: list[str] = []
    held: list[bool] = []
    while len(kinds) < edits:
        pen = _Pen(rng, forms)
        try:
            edit, sentence = pen.edit(history)
            longer = step(history, edit)
        except ValueError:
            continue
        if not objects and held_out(longer.frames[-1].things):
            continue
        history = longer
        sentences.append(sentence)
        kinds.append(edit.kind)
        held.append(pen.used)
    return Storyboard(tuple(sentences), history.frames, history.sources, tuple(kinds), tuple(held))


def draw(
    n: int, rng: Any = None, *, frames: int | None = None, most: int = 8, held: str | None = None
) -> list[Storyboard]:
    """Draw storyboards with their exact answers.

    Captions are those of `scenes.draw`, edits are drawn from what is possible and changes something.

    Parameters
    ----------
    n : int
        How many, at least 1.
    rng : optional
        What `numpy.random.default_rng` takes.
    frames : int, optional
        Of each storyboard, 2 to 8; drawn uniformly by default.
    most : int
        The most frames that are drawn.
    held : {None, "objects", "forms"}
        None keeps to what training sees: no frame has a held-out set of objects, no sentence a held-out form. "objects"
        takes captions of held-out sets alone, and lets edits make more; "forms" says about a third of the edits in
        forms that are held out, at least one in each storyboard.

    Raises
    ------
    ValueError
        For counts out of range or another `held`.

    Examples
    --------
    >>> draw(1, 3, frames=3)[0].sentences
    ('a large green cross at the right on gray', 'turn the large one orange', 'as in picture 1 but make it red')
    """
    if n < 1:
        raise ValueError(f"n = {n}: must be at least 1")
    for name, value in (("frames", frames), ("most", most)):
        if value is not None and not 2 <= value <= len(NUMBERS):
            raise ValueError(f"{name} = {value}: must be in 2 to {len(NUMBERS)}")
    if held not in (None, "objects", "forms"):
        raise ValueError(f"held = {held!r}: must be None, 'objects' or 'forms'")
    generator = np.random.default_rng(rng)
    pen = random.Random(int(generator.integers(2**63)))
    made: list[Storyboard] = []
    while len(made) < n:
        batch = draw_scenes(min(2 * (n - len(made)), 1024) if held != "objects" else 1024, generator)
        for caption, frame in zip(captions(batch), said_frames(batch), strict=True):
            if held_out(frame.things) != (held == "objects"):
                continue
            edits = (frames or pen.randint(2, most)) - 1
            board = _extend(caption, frame, edits, pen, held == "objects", held == "forms")
            if held != "forms" or any(board.held):
                made.append(board)
    return made[:n]
