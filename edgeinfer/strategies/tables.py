"""A scene as a table: what strategies hand on between models in place of sentences and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate, scenes

#: Bytes of the classes alone, and with where each object stands.
TABLE_BYTES, GEOMETRY_BYTES = 3, 9

# A class of each head or none; a layout is always known.
_RADIX = {head: len(classes) + (head != "layout") for head, classes in scenes.HEADS.items()}
_CODES = math.prod(_RADIX.values())
_STEP = 0.25
_LAST = 255 * _STEP
_NUMBERS = ("x", "y", "width")


@dataclass(frozen=True)
class Place:
    """Where an object stands and how large it is.

    Parameters
    ----------
    x, y : float, px
        Of its centre, x to the right, y downwards; in [0, 63.75].
    width : float, px
        In (0, 63.75].
    """

    x: float
    y: float
    width: float

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            value = _validate.scalar(name, getattr(self, name), 0, _LAST, low_open=name == "width", unit="px")
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Table:
    """One scene: the class of each of `scenes.HEADS`, and where its objects stand if that is known.

    Parameters
    ----------
    heads : mapping of str to int
        Class numbers by head; a head that is left out, or -1, is not said. The layout, and colour and shape of each
        object, must be said; an object that is not there says nothing. As in captions, a pair's own axis has no place.
    places : sequence of Place, optional
        One an object.

    Raises
    ------
    ValueError
        Naming the head, its value and what it must be.

    Examples
    --------
    >>> table = Table.of_caption("a red circle above a small blue square")
    >>> table.caption, len(table.to_bytes())
    ('a red circle above a small blue square', 3)
    >>> Table.from_bytes(table.to_bytes()) == table
    True
    """

    heads: Mapping[str, int]
    places: Sequence[Place] | None = None

    def __post_init__(self) -> None:
        _validate.check_kind("heads", self.heads, Mapping)
        unknown = [head for head in self.heads if head not in scenes.HEADS]
        if unknown:
            raise ValueError(f"heads = {unknown}: must be among {', '.join(scenes.HEADS)}")
        heads = {}
        for head, classes in scenes.HEADS.items():
            value = heads[head] = _validate.whole(head, self.heads.get(head, -1), -1)
            if value >= len(classes):
                raise ValueError(f"{head} = {value}: must be in [-1, {len(classes) - 1}]")
        if heads["layout"] < 0:
            raise ValueError("layout = -1: must be said")
        for slot in "ab":
            there = slot == "a" or heads["layout"] > 0
            for name in ("shape", "colour", "size"):
                value = heads[f"{name}_{slot}"]
                if (there and value < 0 and name != "size") or (not there and value >= 0):
                    raise ValueError(
                        f"{name}_{slot} = {value}: must {'be said' if there else 'be -1, nothing is there'}"
                    )
        axis = (None, "column", "row")[heads["layout"]]
        if axis is not None and heads[axis] >= 0:
            raise ValueError(f"{axis} = {heads[axis]}: must be -1 in a {self._layout(heads)} pair, which spans it")
        object.__setattr__(self, "heads", heads)
        if self.places is not None:
            object.__setattr__(self, "places", _validate.each("places", self.places, Place))
            if len(self.places) != self.objects:
                raise ValueError(f"places: {len(self.places)} of them: must be {self.objects}, one an object")

    @staticmethod
    def _layout(heads: Mapping[str, int]) -> str:
        return scenes.HEADS["layout"][heads["layout"]]

    def __hash__(self) -> int:
        return hash((tuple(self.heads.values()), self.places))

    @property
    def objects(self) -> int:
        """1 or 2."""
        return 1 if self.heads["layout"] == 0 else 2

    @classmethod
    def of_caption(cls, caption: str) -> Table:
        """What a caption asks for; ValueError for a sentence that the grammar cannot make."""
        return cls({head: int(value[0]) for head, value in scenes.request([caption]).items()})

    @property
    def caption(self) -> str:
        """The sentence that asks for this table, object a first."""
        return scenes.captions(self._scene())[0]

    def render(self) -> NDArray[np.uint8]:
        """The scene drawn by rule, (64, 64, 3) RGB.

        Raises
        ------
        ValueError
            Where the places or the background are not known.
        """
        if self.places is None or self.heads["background"] < 0:
            lacking = "places" if self.places is None else "background"
            raise ValueError(f"{lacking}: must be known for a rendering")
        image: NDArray[np.uint8] = scenes.render(self._scene())[0]
        return image

    def _scene(self) -> scenes.Scenes:
        heads, places = self.heads, self.places or ()
        pairs = {name: np.array([[heads[f"{name}_{slot}"] for slot in "ab"]]) for name in ("shape", "colour", "size")}
        numbers = np.zeros((1, 2, 3))
        for slot, place in enumerate(places):
            numbers[0, slot] = place.x, place.y, place.width
        return scenes.Scenes(
            layout=np.array([heads["layout"]]),
            background=np.array([heads["background"]]),
            **pairs,
            centre=numbers[..., :2],
            width=numbers[..., 2],
            place=np.array([[heads["column"], heads["row"]]]),
            says_size=pairs["size"] >= 0,
            says_background=np.array([heads["background"] >= 0]),
            first=np.zeros(1, np.int64),
        )

    def differences(self, seen: Table) -> dict[str, tuple[int, int]]:
        """Heads that this table says and `seen` has otherwise: (seen, wanted) of each."""
        _validate.check_kind("seen", seen, Table)
        return {
            head: (seen.heads[head], wanted)
            for head, wanted in self.heads.items()
            if wanted >= 0 and seen.heads[head] != wanted
        }

    def replace(self, **changes: Any) -> Table:
        """The table with other classes for some heads, or other `places`."""
        places = changes.pop("places", self.places)
        return replace(self, heads={**self.heads, **changes}, places=places)

    def to_bytes(self) -> bytes:
        """`TABLE_BYTES`, or `GEOMETRY_BYTES` with places, which are rounded to a quarter of a pixel."""
        code = 0
        for head, value in self.heads.items():
            code = code * _RADIX[head] + value + (head != "layout")
        numbers = [getattr(place, name) for place in self.places or () for name in _NUMBERS]
        quarters = [max(round(value / _STEP), 0) for value in numbers]
        return code.to_bytes(TABLE_BYTES, "big") + bytes(quarters + [0] * (6 - len(quarters)) if quarters else ())

    @classmethod
    def from_bytes(cls, data: bytes) -> Table:
        """The table of `to_bytes`; ValueError naming what cannot be one."""
        if len(_validate.octets("data", data)) not in (TABLE_BYTES, GEOMETRY_BYTES):
            raise ValueError(f"table: {len(data)} bytes: must be {TABLE_BYTES}, or {GEOMETRY_BYTES} with places")
        code = int.from_bytes(data[:TABLE_BYTES], "big")
        if code >= _CODES:
            raise ValueError(f"table: code {code}: must be below {_CODES}")
        heads = {}
        for head in reversed(_RADIX):
            code, value = divmod(code, _RADIX[head])
            heads[head] = value - (head != "layout")
        if len(data) == TABLE_BYTES:
            return cls(heads)
        numbers = np.frombuffer(data[TABLE_BYTES:], np.uint8).reshape(2, 3) * _STEP
        objects = 1 if heads["layout"] == 0 else 2
        return cls(heads, [Place(*row) for row in numbers[:objects].tolist()])
