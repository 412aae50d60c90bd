"""Interpreters: from a caption, or an image and a sentence that edits it, to a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeinfer import scenes
from edgeinfer.quality import Extractor
from edgeinfer.strategies.bodies import Finding, Findings
from edgeinfer.strategies.edits import edit
from edgeinfer.strategies.tables import Place, Table

# A picture's place is named where its centre is as near as this to the place's own, px.
_NAMED = 4.0
# Area of each shape over its squared width, and how far its centroid lies below its centre, in widths.
_AREAS = {"circle": np.pi / 4, "square": 0.81, "triangle": 0.5, "cross": 5 / 9, "ring": np.pi * 3 / 16}
_LOWER = {"triangle": 1 / 6}
# A pixel belongs to an object from this share of it on.
_COVERED = 0.1


class Reader(Protocol):
    """Reads captions: the rules of the grammar, or a network that was trained to."""

    def read(self, caption: str) -> Table:
        """What a caption asks for; ValueError where it cannot be made out."""


class RuleReader:
    """Reads captions by the rules of the grammar that makes them.

    Examples
    --------
    >>> RuleReader().read("a red circle at the left").heads["column"]
    0
    """

    def read(self, caption: str) -> Table:
        """What a caption asks for; ValueError for a sentence that the grammar cannot make."""
        return Table.of_caption(caption)


@dataclass(frozen=True, eq=False)
class Sight:
    """What a checker sees in a picture.

    Attributes
    ----------
    table : Table
        With places; column and row are those of the middle of all objects, where it is near one that has a name.
    logits : mapping of str to (classes,) ndarray
        By head.
    """

    table: Table
    logits: dict[str, NDArray[np.float32]]

    def findings(self, asked: Table) -> Findings:
        """What differs from a table, and by how much the asked classes lead or trail."""
        found, margin = [], np.inf
        for head, wanted in asked.heads.items():
            if wanted < 0:
                continue
            logits = self.logits[head]
            others = np.delete(logits, wanted)
            margin = min(margin, float(logits[wanted] - others.max()))
            if (seen := int(logits.argmax())) != wanted:
                found.append(Finding(head, seen, wanted))
        return Findings(tuple(found), margin)


class Checker:
    """Reads pictures: classes by a network, places by how far each pixel's colour is from ground to object.

    Parameters
    ----------
    path : path
        An ONNX network whose output is the heads' logits side by side, in the order of `scenes.HEADS`.
    threads : int, optional
        Of one pass.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        self._network = Extractor(path, threads=threads)
        self._ends = np.cumsum([len(classes) for classes in scenes.HEADS.values()])

    def look(self, pixels: NDArray[np.uint8]) -> Sight:
        """What a (64, 64, 3) uint8 picture shows."""
        logits = self._network(pixels[None])[0]
        if logits.shape != (self._ends[-1],):
            raise ValueError(f"checker: {logits.shape} logits: must be {(int(self._ends[-1]),)}")
        parts = dict(zip(scenes.HEADS, np.split(logits, self._ends[:-1]), strict=True))
        heads = {head: int(part.argmax()) for head, part in parts.items()}
        if heads["layout"] == 0:
            heads |= {f"{name}_b": -1 for name in ("shape", "colour", "size")}
        places = measure(pixels, heads)
        middle = np.mean([(place.x, place.y) for place in places], axis=0)
        for axis, name in enumerate(("column", "row")):
            apart = np.abs(np.array(scenes.PLACES) - middle[axis])
            free = heads["layout"] == axis + 1 or apart.min() > _NAMED
            heads[name] = -1 if free else int(apart.argmin())
        return Sight(Table(heads, places), parts)


def measure(pixels: NDArray[np.uint8], heads: dict[str, int]) -> list[Place]:
    """Centre and width of each object, whose classes are known, from the share of each pixel that it covers.

    Parameters
    ----------
    pixels : (64, 64, 3) ndarray, uint8
    heads : mapping of str to int
        Layout, background, colours and shapes.
    """
    image = pixels.astype(np.float64)
    count = 1 if heads["layout"] == 0 else 2
    named = np.array(list(scenes.BACKGROUNDS.values())[heads["background"]], float)
    distance = np.linalg.norm(image - named, axis=-1)
    ground = np.median(image[distance <= np.median(distance)], axis=0)
    palette = np.array(list(scenes.COLOURS.values()), float)
    colours = palette[[heads[f"colour_{slot}"] for slot in "ab"[:count]]]
    ways = colours - ground
    lengths = np.maximum((ways**2).sum(-1), 1.0)
    shares = np.clip((image - ground) @ ways.T / lengths, 0, 1)
    rest = np.linalg.norm((image - ground)[..., None, :] - shares[..., None] * ways, axis=-1)
    mine = rest == rest.min(-1, keepdims=True)
    grid = np.arange(scenes.SIDE) + 0.5
    found = []
    for slot in range(count):
        share = np.where(mine[..., slot] & (shares[..., slot] > _COVERED), shares[..., slot], 0)
        area = share.sum()
        if area < 1:
            # Nothing of that colour is there: the middle stands for it.
            found.append(Place(scenes.SIDE / 2, scenes.SIDE / 2, 1.0))
            continue
        shape = scenes.SHAPES[heads[f"shape_{'ab'[slot]}"]]
        width = float(np.sqrt(area / _AREAS[shape]))
        x, y = share.sum(0) @ grid / area, share.sum(1) @ grid / area - _LOWER.get(shape, 0.0) * width
        low, high = 0.0, scenes.SIDE - 0.25
        found.append(Place(float(np.clip(x, low, high)), float(np.clip(y, low, high)), min(width, high)))
    return found


def interpret(text: str, image: NDArray[np.uint8] | None, reader: Reader, checker: Checker) -> Table:
    """The table of a request: a caption's, or that of an image after its edit, its widths those of its sizes."""
    if image is None:
        return reader.read(text)
    return edit(checker.look(image).table, text)
