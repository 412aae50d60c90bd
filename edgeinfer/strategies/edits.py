"""Sentences that edit a picture, on its table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeinfer import _validate, scenes
from edgeinfer.strategies.tables import Place, Table

_SIDES = {
    "left": ("x", 0),
    "right": ("x", 1),
    "upper": ("y", 0),
    "top": ("y", 0),
    "lower": ("y", 1),
    "bottom": ("y", 1),
}
_NAMED = {"size": scenes.SIZES, "colour": tuple(scenes.COLOURS), "shape": scenes.SHAPES}


def edit(table: Table, sentence: str) -> Table:
    """The table of a picture after a sentence that edits it.

    The sentences are `make OBJECT CHANGES`, where the changes are a size, a colour and a shape in any order, joined by
    commas or "and"; `move OBJECT to the PLACE`; `put it on BACKGROUND`; and several of them joined by "then". OBJECT is
    "it" where there is one, or "the" with any of its size, colour, shape and place: "the left square", "the upper one".
    A pair keeps its order: an object that moves past the other one is refused.

    Parameters
    ----------
    table : Table
        With places.
    sentence : str

    Raises
    ------
    ValueError
        Naming the words that do not fit, or an object that is not there or not the only one.

    Examples
    --------
    >>> places = [Place(17, 32, 19), Place(47, 32, 19)]
    >>> before = Table.of_caption("a small red square left of a small blue ring on white").replace(places=places)
    >>> edit(before, "make the left square green and large").caption
    'a large green square left of a small blue ring on white'
    """
    _validate.check_kind("table", table, Table)
    _validate.check_kind("sentence", sentence, str)
    if table.places is None:
        raise ValueError("table: must have places to be edited")
    for part in sentence.lower().split(" then "):
        words = part.replace(",", " ").split()
        match words:
            case ["make", *rest]:
                slot, rest = _object(table, rest, sentence)
                table = _make(table, slot, rest, sentence)
            case ["move", *rest]:
                slot, rest = _object(table, rest, sentence)
                table = _move(table, slot, rest, sentence)
            case ["put", "it" | "them", "on", ground] if ground in scenes.BACKGROUNDS:
                table = table.replace(background=list(scenes.BACKGROUNDS).index(ground))
            case _:
                raise ValueError(
                    f"edit {sentence!r}: {' '.join(words)!r} must be 'make OBJECT CHANGES', 'move OBJECT to the PLACE' "
                    f"or 'put it on BACKGROUND'"
                )
    return table


def _object(table: Table, words: list[str], sentence: str) -> tuple[int, list[str]]:
    """Which object the words name, and the words behind it."""
    rest, slots = list(words), list(range(table.objects))
    if rest[:1] == ["it"]:
        rest.pop(0)
    elif rest[:1] == ["the"]:
        rest.pop(0)
        slots, rest = _named(table, slots, rest)
    else:
        raise ValueError(f"edit {sentence!r}: must name its object as 'it' or 'the ...' before {' '.join(words)!r}")
    if len(slots) != 1:
        raise ValueError(f"edit {sentence!r}: {len(slots)} objects of {table.caption!r} fit: must be one")
    return slots[0], rest


def _named(table: Table, slots: list[int], rest: list[str]) -> tuple[list[int], list[str]]:
    """The objects that fit side, size, colour and shape, which come in this order, and the words behind them."""
    assert table.places is not None
    if rest and rest[0] in _SIDES:
        axis, last = _SIDES[rest.pop(0)]
        order = sorted(slots, key=lambda slot: getattr(table.places[slot], axis))  # type: ignore[index]
        slots = [order[-1 if last else 0]]
    for name, classes in _NAMED.items():
        if rest and rest[0] in classes:
            number = classes.index(rest.pop(0))
            slots = [slot for slot in slots if table.heads[f"{name}_{'ab'[slot]}"] == number]
    return slots, rest[1:] if rest[:1] == ["one"] else rest


def _make(table: Table, slot: int, words: Sequence[str], sentence: str) -> Table:
    changes: dict[str, Any] = {}
    for word in (word for word in words if word not in ("and", "a", "an")):
        for name, classes in _NAMED.items():
            if word in classes:
                key = f"{name}_{'ab'[slot]}"
                if key in changes:
                    raise ValueError(f"edit {sentence!r}: says the {name} twice")
                changes[key] = classes.index(word)
                break
        else:
            raise ValueError(f"edit {sentence!r}: {word!r} must be a size, a colour or a shape")
    if not changes:
        raise ValueError(f"edit {sentence!r}: must say what to make of it")
    assert table.places is not None
    places = list(table.places)
    if (size := changes.get(f"size_{'ab'[slot]}")) is not None:
        width = scenes.WIDTHS[size]
        places[slot] = _inside(Place(places[slot].x, places[slot].y, width))
        places = _apart(table, places, slot)
    return table.replace(places=places, **changes)


def _move(table: Table, slot: int, words: Sequence[str], sentence: str) -> Table:
    if list(words[:2]) != ["to", "the"] or not 3 <= len(words) <= 4:
        raise ValueError(f"edit {sentence!r}: must end with 'to the PLACE'")
    assert table.places is not None
    place, named = table.places[slot], {}
    for word in words[2:]:
        axis = 1 if word in ("top", "bottom") else 0 if word in ("left", "right") else None
        if word == "middle":
            # Alone it names both axes, else the one that is left.
            axes = [0, 1] if len(words) == 3 else [1 - axis for axis in _axes(words[2:])]
        elif axis is None:
            raise ValueError(f"edit {sentence!r}: {word!r} must be one of {', '.join((*scenes.ROWS, 'left', 'right'))}")
        else:
            axes = [axis]
        for each in axes:
            named[each] = (scenes.ROWS if each else scenes.COLUMNS).index(word)
    x = scenes.PLACES[named[0]] if 0 in named else place.x
    y = scenes.PLACES[named[1]] if 1 in named else place.y
    places = list(table.places)
    places[slot] = _inside(Place(x, y, place.width))
    axis = table.heads["layout"] - 1
    if axis >= 0:
        ends = [(each.x, each.y)[axis] for each in places]
        gap = ends[1] - ends[0] - (places[0].width + places[1].width) / 2
        if gap < 0:
            raise ValueError(f"edit {sentence!r}: the objects of {table.caption!r} would meet or change their order")
    heads = {"column": -1, "row": -1}
    if table.objects == 1:
        heads = {name: named.get(each, table.heads[name]) for each, name in enumerate(heads)}
    return table.replace(places=places, **heads)


def _axes(words: Sequence[str]) -> list[int]:
    return [1 if word in ("top", "bottom") else 0 for word in words if word != "middle"] or [0]


def _inside(place: Place) -> Place:
    """The same object moved as far as the picture holds it."""
    half = place.width / 2
    x, y = (float(np.clip(value, half, scenes.SIDE - half)) for value in (place.x, place.y))
    return Place(x, y, place.width)


def _apart(table: Table, places: list[Place], slot: int) -> list[Place]:
    """A pair that does not overlap along its axis: the other object gives way, then this one."""
    axis = table.heads["layout"] - 1
    if axis < 0:
        return places
    ends = np.array([(place.x, place.y)[axis] for place in places])
    half = np.array([place.width / 2 for place in places])
    order = np.array([-1.0, 1.0])
    for mover in (1 - slot, slot):
        lacking = half.sum() + 1 - (ends[1] - ends[0])
        if lacking > 0:
            ends[mover] = np.clip(ends[mover] + order[mover] * lacking, half[mover], scenes.SIDE - half[mover])
    moved = []
    for place, end in zip(places, ends.tolist(), strict=True):
        moved.append(Place(end, place.y, place.width) if axis == 0 else Place(place.x, end, place.width))
    return moved
