"""Edits of a storyboard and what they make of it, by rule.

An edit changes the frame before it, except "undo", "back to picture K" and "as in picture K but ...". Undo is a stack:
each other edit, those two among them, lays its frame on top; undo takes the top off and shows what is beneath. An edit
that would change nothing, or that leaves open what it means, is refused.
"""

from __future__ import annotations

from typing import NamedTuple

from edgeinfer.scenes.storyboards.frames import Frame, Thing, check

#: Where the first object of a relation stands: the layout, and its position in it.
RELATIONS = {
    "left of": ("horizontal", 0),
    "right of": ("horizontal", 1),
    "above": ("vertical", 0),
    "below": ("vertical", 1),
}
#: Words for one object of a pair by its position.
POSITIONS = {"left": ("horizontal", 0), "right": ("horizontal", 1), "top": ("vertical", 0), "bottom": ("vertical", 1)}
SWAPPED = {"colours": "colour", "sizes": "size", "shapes": "shape"}


class Reference(NamedTuple):
    """How a sentence points to an object: by a pronoun ("it", "other"), by its position, by what it looks like."""

    pronoun: str | None = None
    position: str | None = None
    size: str | None = None
    colour: str | None = None
    shape: str | None = None

    @property
    def held(self) -> bool:
        """Whether training never points so: by size and something else, or by position and colour."""
        others = (self.position, self.colour, self.shape)
        return bool(self.size and any(others)) or bool(self.position and self.colour)

    def __str__(self) -> str:
        if self.pronoun:
            return "it" if self.pronoun == "it" else "the other one"
        words = [word for word in (self.position, self.size, self.colour) if word]
        return " ".join(["the", *words, self.shape or "one"])


class Edit(NamedTuple):
    """One edit sentence, read.

    Attributes
    ----------
    kind : str
        A key of `EDITS`, or "undo", "back" or "as in".
    reference, second : Reference or None
        The objects that it names.
    value : str or None
        The new colour, size, shape or background, what is swapped ("colours", "sizes", "shapes", "places"), or a
        relation, "left of" say.
    place : tuple of (str or None, str or None)
        Row and column that are named.
    thing : Thing or None
        What is added.
    picture : int or None
        The frame that it goes back to.
    edit : Edit or None
        What "as in" changes there.
    """

    kind: str
    reference: Reference | None = None
    second: Reference | None = None
    value: str | None = None
    place: tuple[str | None, str | None] = (None, None)
    thing: Thing | None = None
    picture: int | None = None
    edit: Edit | None = None


class History(NamedTuple):
    """A storyboard up to some frame.

    Attributes
    ----------
    frames : tuple of Frame
    shown : tuple of int
        The stack of undo: numbers of frames, the last on top.
    last : int or None
        Which object of the last frame "it" is, if any.
    sources : tuple of (int or None)
        The number of the frame that each was made from; None for the first.
    """

    frames: tuple[Frame, ...]
    shown: tuple[int, ...]
    last: int | None
    sources: tuple[int | None, ...]


def begin(frame: Frame) -> History:
    """The storyboard of one frame."""
    return History((check(frame),), (1,), None, (None,))


def resolve(reference: Reference, frame: Frame, last: int | None) -> int:
    """The index of the object that is meant.

    Raises
    ------
    ValueError
        Where none or both may be meant.
    """
    if reference.pronoun:
        if reference.pronoun == "it" and len(frame.things) == 1:
            return 0
        if last is None or len(frame.things) == 1:
            raise ValueError(f"{str(reference)!r} has nothing to refer to")
        return last if reference.pronoun == "it" else 1 - last
    if reference.position:
        layout, index = POSITIONS[reference.position]
        if frame.layout != layout or not _looks(reference, frame.things[index]):
            raise ValueError(f"{str(reference)!r} is not in the picture")
        return index
    found = [i for i, thing in enumerate(frame.things) if _looks(reference, thing)]
    if not found:
        raise ValueError(f"{str(reference)!r} is not in the picture")
    if len(found) == 2:
        raise ValueError(f"{str(reference)!r} may be either object")
    other = frame.things[1 - found[0]] if len(frame.things) == 2 else None
    # An object of unsaid size may be as large as one that is said to be.
    if other and other.size is None and reference.size and _looks(reference._replace(size=None), other):
        raise ValueError(f"{str(reference)!r} may be either object: the size of one is not said")
    return found[0]


def _looks(reference: Reference, thing: Thing) -> bool:
    return (
        (reference.colour is None or reference.colour == thing.colour)
        and (reference.shape is None or reference.shape == thing.shape)
        and (reference.size is None or reference.size == thing.size)
    )


Outcome = tuple[Frame, int | None]


def _change(edit: Edit, frame: Frame, last: int | None) -> Outcome:
    """Another colour, size or shape of one object."""
    assert edit.reference
    index = resolve(edit.reference, frame, last)
    field = {"recolour": "colour", "resize": "size", "reshape": "shape"}[edit.kind]
    things = list(frame.things)
    things[index] = things[index]._replace(**{field: str(edit.value)})
    return frame._replace(things=tuple(things)), index


def _move(edit: Edit, frame: Frame, last: int | None) -> Outcome:
    """The only object to a place; what the place does not name stays."""
    assert edit.reference
    index = resolve(edit.reference, frame, last)
    if frame.layout != "one":
        raise ValueError("one object of two cannot be moved alone: put it above, below, left or right of the other")
    row, column = edit.place
    return frame._replace(row=row or frame.row, column=column or frame.column), index


def _move_both(edit: Edit, frame: Frame, last: int | None) -> Outcome:
    """A pair along the axis that it leaves free."""
    row, column = edit.place
    if frame.layout == "one":
        raise ValueError("there are no two objects")
    if row == column == "middle":
        row, column = (row, None) if frame.layout == "horizontal" else (None, column)
    if column if frame.layout == "horizontal" else row:
        raise ValueError(f"two objects of layout {frame.layout!r} have no {'column' if column else 'row'} of their own")
    return frame._replace(row=row, column=column), last


def _relate(edit: Edit, frame: Frame, last: int | None) -> Outcome:
    """One object above, below, left or right of the other; a change of axis clears the place."""
    assert edit.reference and edit.second and edit.value
    if frame.layout == "one":
        raise ValueError("there are no two objects")
    first = resolve(edit.reference, frame, last)
    if resolve(edit.second, frame, first) == first:
        raise ValueError(f"{str(edit.reference)!r} and {str(edit.second)!r} are the same object")
    layout, index = RELATIONS[edit.value]
    pair = (frame.things[first], frame.things[1 - first])
    changed = frame._replace(layout=layout, things=pair if index == 0 else pair[::-1])
    return (changed if layout == frame.layout else changed._replace(row=None, column=None)), index


def _swap(edit: Edit, frame: Frame, last: int | None) -> Outcome:
    """Colours, sizes, shapes or places of the two objects; "it" goes along with its place."""
    if frame.layout == "one":
        raise ValueError("there are no two objects")
    a, b = frame.things
    if edit.value == "places":
        return frame._replace(things=(b, a)), None if last is None else 1 - last
    field = SWAPPED[str(edit.value)]
    if field == "size" and None in (a.size, b.size):
        raise ValueError("the sizes cannot be swapped: one is not said")
    swapped = (a._replace(**{field: getattr(b, field)}), b._replace(**{field: getattr(a, field)}))
    return frame._replace(things=swapped), last


def _add(edit: Edit, frame: Frame, last: int | None) -> Outcome:
    """A second object; of the place what the pair leaves free stays."""
    assert edit.reference and edit.thing and edit.value
    if frame.layout != "one":
        raise ValueError("there are two objects already: remove one first")
    resolve(edit.reference, frame, last)
    layout, index = RELATIONS[edit.value]
    things = (edit.thing, *frame.things) if index == 0 else (*frame.things, edit.thing)
    row, column = (frame.row, None) if layout == "horizontal" else (None, frame.column)
    return frame._replace(layout=layout, things=things, row=row, column=column), index


def _remove(edit: Edit, frame: Frame, last: int | None) -> Outcome:
    """One object of two; the other keeps the pair's place, but not the middle, which would be that of both axes."""
    assert edit.reference
    if frame.layout == "one":
        raise ValueError("the last object cannot be removed")
    index = resolve(edit.reference, frame, last)
    kept = index if edit.kind == "keep" else 1 - index
    row, column = (None if word == "middle" else word for word in (frame.row, frame.column))
    return Frame("one", (frame.things[kept],), frame.background, row, column), 0


def _background(edit: Edit, frame: Frame, last: int | None) -> Outcome:
    return frame._replace(background=edit.value), last


#: What each kind of edit makes of a frame, and which object "it" is then.
EDITS = {
    **dict.fromkeys(("recolour", "resize", "reshape"), _change),
    "move": _move,
    "move both": _move_both,
    "relate": _relate,
    "swap": _swap,
    "add": _add,
    **dict.fromkeys(("remove", "keep"), _remove),
    "background": _background,
}
KINDS = (*EDITS, "undo", "back", "as in")


def change(edit: Edit, frame: Frame, last: int | None) -> Outcome:
    """The frame that an edit of a kind in `EDITS` makes of one, and which object "it" is then.

    Raises
    ------
    ValueError
        Where it changes nothing, means either object or none, or gives two objects one colour.
    """
    changed, last = EDITS[edit.kind](edit, frame, last)
    if changed == frame:
        raise ValueError("it changes nothing")
    return check(changed), last


def step(history: History, edit: Edit) -> History:
    """The storyboard with one edit more.

    Raises
    ------
    ValueError
        Where the edit is refused: see `change`; undo of nothing; a picture that is not there or is shown already.
    """
    frames, shown, last, sources = history
    now, number = frames[-1], len(frames) + 1
    if edit.kind == "undo":
        if len(shown) < 2:
            raise ValueError("there is nothing to undo")
        shown = shown[:-1]
        return History((*frames, frames[shown[-1] - 1]), shown, None, (*sources, shown[-1]))
    source = edit.picture or len(frames)
    if source > len(frames):
        raise ValueError(f"there is no picture {source} yet")
    if edit.kind == "back":
        frame, last = frames[source - 1], None
    elif edit.kind == "as in":
        assert edit.edit
        frame, last = change(edit.edit, frames[source - 1], None)
    else:
        frame, last = change(edit, now, last)
    if frame == now:
        raise ValueError("it changes nothing")
    return History((*frames, frame), (*shown, number), last, (*sources, source))
