"""A referee that is not learned: what an image shows, by colours, outlines and centres.

A checker that steers a strategy must not score it. This referee scores and never steers: colours are read by their
distance to the palette, shapes by least squares against renderings, sizes, places and relations by the widths and
centres of what fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeinfer import _validate
from edgeinfer.scenes.drawing import Floats, Ints
from edgeinfer.scenes.judging import verdicts
from edgeinfer.scenes.rendering import Numbers, share
from edgeinfer.scenes.words import BACKGROUNDS, COLOURS, HEADS, PLACES, SHAPES, SIDE, WIDTHS

_COLOURS = np.array(list(COLOURS.values()), dtype=np.float32)
_GROUNDS = np.array(list(BACKGROUNDS.values()), dtype=np.float32)
# A core pixel is this far in colour from the ground, and this near to each of its four neighbours.
_APART, _FLAT = 55.0, 50.0
# Cores of fewer pixels are specks.
_LEAST = 4
# Outlines that touch leave at most this much between their cores, px; and so far may pieces of one colour lie apart.
_TOUCH, _PIECES = 3.0, 4.0
# A touching part that is smaller than this share of its neighbour belongs to it.
_PART = 0.15
# A touching part is its neighbour faded into the ground if its colour lies so near the line between the two.
_FADED = 45.0
# A core owns the pixels within so many steps.
_REACH = 4
_WINDOW = 40
# Area of each shape of extent 1, and how far its centroid lies below its centre.
_AREAS = (np.pi / 4, 0.81, 0.5, 5 / 9, 3 * np.pi / 16)
_BELOW = (0.0, 0.0, 1 / 6, 0.0, 0.0)
# Shapes whose fit is hopeless after the coarse steps, px, are left.
_COARSE, _FINE = (1.5, 0.75), (0.75, 0.3, 0.3, 0.1, 0.1)


@dataclass(frozen=True)
class Measurements:
    """What n images show; -1, or NaN, means "not there".

    Attributes
    ----------
    count : (n,) objects found, 0 or more; the attributes are those of the two largest
    background : (n,) index into `BACKGROUNDS`
    shape, colour, size : (n, 2) indices of objects a and b, a the left or the upper one
    centre : (n, 2, 2) x and y of each object, px
    width : (n, 2) extent of each object, px
    overlap : (n, 2) area that an object and the rendering that fits it share, over the area of either; in [0, 1]
    """

    count: Ints
    background: Ints
    shape: Ints
    colour: Ints
    size: Ints
    centre: Floats
    width: Floats
    overlap: Floats

    def __len__(self) -> int:
        return len(self.count)

    def labels(self) -> dict[str, Ints]:
        """Classes by the names of `HEADS`, (n,) each; layout is -1 where there is neither one object nor two."""
        apart = np.abs(self.centre[:, 1] - self.centre[:, 0])
        vertical = np.where(self.count == 2, apart[:, 1] > apart[:, 0], False)
        layout = np.select([self.count == 1, self.count == 2], [0, 1 + vertical], -1)
        there = self.count > 0
        middle = np.nanmean(np.where(there[:, None, None], self.centre, 0.0), axis=1)
        borders = [(a + b) / 2 for a, b in pairwise(PLACES)]
        place = np.where(there[:, None], np.searchsorted(borders, middle), -1)
        slots = {
            f"{name}_{slot}": getattr(self, name)[:, k]
            for k, slot in enumerate("ab")
            for name in ("shape", "colour", "size")
        }
        named = {"layout": layout, "background": self.background, **slots, "column": place[:, 0], "row": place[:, 1]}
        return {head: named[head].astype(np.int64) for head in HEADS}


def measure(images: npt.ArrayLike) -> Measurements:
    """Read images by rule.

    The ground is what the palette's ground nearest to most pixels has for a median. Core pixels differ from it and
    not from their neighbours; those that touch and are nearest to one colour of the palette are an object's core. How
    far a pixel near it lies on the way from the ground to the object's colour is how much of it the object covers. To
    this the five shapes are fitted from its area and centroid, and the least sum of squares decides.

    Parameters
    ----------
    images : (n, 64, 64, 3) array_like of uint8

    Raises
    ------
    ValueError
        for images of another shape or type

    Examples
    --------
    >>> from edgeinfer import scenes
    >>> drawn = scenes.draw(3, 1)
    >>> seen = measure(scenes.render(drawn))
    >>> bool((seen.shape == drawn.shape).all()), bool(np.nanmax(np.abs(seen.width - drawn.width)) < 0.2)
    (True, True)
    """
    pixels = _validate.plain("images", images)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (SIDE, SIDE, 3) or not len(pixels):
        raise ValueError(
            f"images of type {pixels.dtype} and shape {pixels.shape}: must be uint8 of (n >= 1, {SIDE}, {SIDE}, 3)"
        )
    parts = [_measure(pixels[start : start + 64]) for start in range(0, len(pixels), 64)]
    return Measurements(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def score(
    sentences: Sequence[str], seen: Measurements, *, least_overlap: float = 0.0
) -> dict[str, npt.NDArray[np.bool_]]:
    """Whether images show what their captions say; groups as `judge` gives them.

    Parameters
    ----------
    sentences : n captions
    seen : what `measure` says of the n images
    least_overlap : overlap of each object with what fits it that counts as being that shape; 0.8 is strict

    Raises
    ------
    ValueError
        for another number of sentences than images, an overlap outside [0, 1], or a sentence not of the grammar

    Examples
    --------
    >>> from edgeinfer import scenes
    >>> drawn = scenes.draw(4, 2)
    >>> bool(score(scenes.captions(drawn), measure(scenes.render(drawn)), least_overlap=0.8)["all"].all())
    True
    """
    if len(sentences) != len(seen):
        raise ValueError(f"sentences of length {len(sentences)}: must be {len(seen)}, one for each image")
    least = _validate.scalar("least_overlap", least_overlap, 0, 1)
    right = verdicts(sentences, seen.labels())
    clear = np.where(np.isnan(seen.overlap), 1.0, seen.overlap).min(1) >= least
    return right | {"shape": right["shape"] & clear, "all": right["all"] & clear}


def _measure(pixels: npt.NDArray[np.uint8]) -> dict[str, Any]:
    n = len(pixels)
    image = pixels.astype(np.float32)
    ground, reference = _ground(image)
    owner, colours, count = _objects(image, reference)
    out: dict[str, Any] = {
        "count": count,
        "background": ground,
        **{name: np.full((n, 2), -1) for name in ("shape", "colour", "size")},
        "centre": np.full((n, 2, 2), np.nan),
        "width": np.full((n, 2), np.nan),
        "overlap": np.full((n, 2), np.nan),
    }
    for slot in (0, 1):
        index = np.flatnonzero(count > slot)
        if not index.size:
            continue
        colour = colours[index, slot]
        covered = _coverage(image[index], reference[index], colour, owner[index] == slot)
        shape, place, width, overlap = _fit(covered)
        out["shape"][index, slot], out["width"][index, slot], out["overlap"][index, slot] = shape, width, overlap
        out["centre"][index, slot] = place
        out["size"][index, slot] = width > sum(WIDTHS) / 2
        out["colour"][index, slot] = np.linalg.norm(colour[:, None] - _COLOURS, axis=-1).argmin(1)
    first = np.nan_to_num(out["centre"])
    apart = first[:, 1] - first[:, 0]
    along = np.abs(apart).argmax(1)
    turned = np.flatnonzero((count > 1) & (apart[np.arange(n), along] < 0))
    for name in ("shape", "colour", "size", "centre", "width", "overlap"):
        out[name][turned] = out[name][turned][:, ::-1]
    return out


def _ground(image: Numbers) -> tuple[Ints, Numbers]:
    """The palette's ground of each image, and the median of its pixels."""
    nearest = np.stack([np.square(image - ground).sum(-1) for ground in _GROUNDS]).argmin(0)
    ground = np.array([np.bincount(row.ravel(), minlength=len(_GROUNDS)).argmax() for row in nearest])
    reference = [np.median(one[row == k], axis=0) for one, row, k in zip(image, nearest, ground, strict=True)]
    return ground.astype(np.int64), np.array(reference, dtype=np.float32)


def _objects(image: Numbers, reference: Numbers) -> tuple[Ints, Numbers, Ints]:
    """Which of the two largest objects each pixel is of (-1 of none), their colours, and how many there are."""
    distance = np.linalg.norm(image - reference[:, None, None], axis=-1)
    core = distance > _APART
    for axis in (1, 2):
        step = np.linalg.norm(np.diff(image, axis=axis), axis=-1) >= _FLAT
        edge = np.zeros_like(core)
        head, tail = [slice(None)] * 3, [slice(None)] * 3
        head[axis], tail[axis] = slice(None, -1), slice(1, None)
        edge[tuple(head)] |= step
        edge[tuple(tail)] |= step
        core &= ~edge
    nearest = np.stack([np.square(image - colour).sum(-1) for colour in _COLOURS]).argmin(0)
    pieces = _components(np.where(core, nearest, -1))
    n = len(image)
    owner, colours, count = np.full(core.shape, -1), np.zeros((n, 2, 3), np.float32), np.zeros(n, np.int64)
    for i in range(n):
        cores = _joined(image[i], reference[i], pieces[i])
        count[i] = len(cores)
        for slot, place in enumerate(cores[:2]):
            owner[i].flat[place] = slot
            colours[i, slot] = np.median(image[i].reshape(-1, 3)[place], axis=0)
    return _grown(owner), colours, count


def _components(classes: Ints) -> Ints:
    """A number for each pixel, equal for neighbours of equal class; -1 where the class is."""
    n = classes.size
    names = np.where(classes >= 0, np.arange(n).reshape(classes.shape), n)
    same = [
        (classes[:, 1:] == classes[:, :-1]) & (classes[:, 1:] >= 0),
        (classes[:, :, 1:] == classes[:, :, :-1]) & (classes[:, :, 1:] >= 0),
    ]
    while True:
        before = names.copy()
        for alike, low, high in (
            (same[0], names[:, :-1], names[:, 1:]),
            (same[1], names[:, :, :-1], names[:, :, 1:]),
        ):
            least = np.minimum(low, high)
            np.copyto(low, least, where=alike)
            np.copyto(high, np.minimum(low, high), where=alike)
        # Each name leads to a pixel that may know a lesser one by now.
        names = np.where(names < n, names.ravel()[np.minimum(names, n - 1)], n)
        if (names == before).all():
            return np.where(names < n, names, -1)


def _joined(image: Numbers, reference: Numbers, pieces: Ints) -> list[Ints]:
    """Pixels of each object's core, the largest first, from the pieces of one colour."""
    flat, colours = pieces.ravel(), image.reshape(-1, 3)
    order = np.argsort(flat, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(flat[order])) + 1)
    cores = sorted((g for g in groups if flat[g[0]] >= 0), key=len, reverse=True)
    objects: list[Ints] = []
    for core in cores:
        colour = np.median(colours[core], axis=0)
        for k, larger in enumerate(objects):
            other = np.median(colours[larger], axis=0)
            if _belongs(core, larger, colour - reference, other - reference):
                objects[k] = np.concatenate([larger, core])
                break
        else:
            if len(core) >= _LEAST:
                objects.append(core)
    return sorted(objects, key=len, reverse=True)


def _belongs(core: Ints, larger: Ints, colour: Numbers, other: Numbers) -> bool:
    """Whether a core is a part of a larger one; colours are differences from the ground."""
    apart = np.subtract(np.array(np.divmod(core, SIDE))[:, :, None], np.array(np.divmod(larger, SIDE))[:, None])
    near = float(np.sqrt(np.square(apart).sum(0).min()))
    if near <= _PIECES and np.linalg.norm(colour - other) < _FLAT:
        return True
    if near > _TOUCH:
        return False
    along = np.clip(colour @ other / (other @ other), 0, 1)
    return len(core) < _PART * len(larger) or bool(np.linalg.norm(colour - along * other) < _FADED)


def _grown(owner: Ints) -> Ints:
    """Cores with the pixels within reach, each of the core that is there first."""
    for _ in range(_REACH):
        padded = np.pad(owner, ((0, 0), (1, 1), (1, 1)), constant_values=-1)
        found = owner.copy()
        for dy, dx in ((0, 1), (1, 0), (1, 2), (2, 1), (0, 0), (0, 2), (2, 0), (2, 2)):
            beside = padded[:, dy : dy + SIDE, dx : dx + SIDE]
            np.copyto(found, beside, where=(found < 0) & (beside >= 0))
        owner = found
    return owner


def _coverage(image: Numbers, reference: Numbers, colour: Numbers, owned: npt.NDArray[np.bool_]) -> Numbers:
    """How much of each pixel an object covers, in [0, 1]."""
    line = colour - reference
    along = np.einsum("nyxc,nc->nyx", image - reference[:, None, None], line) / np.square(line).sum(1)[:, None, None]
    return np.where(owned, np.clip(along, 0, 1), 0).astype(np.float32)


def _fit(covered: Numbers) -> tuple[Ints, Numbers, Numbers, Numbers]:
    """Shape, centre, width and overlap of the rendering that is nearest to each coverage."""
    n = len(covered)
    grid = np.arange(SIDE, dtype=np.float32) + np.float32(0.5)
    area = covered.sum((1, 2))
    middle = np.stack([(covered.sum(1) @ grid) / area, (covered.sum(2) @ grid) / area], axis=1)
    corner = np.clip(np.rint(middle - _WINDOW / 2), 0, SIDE - _WINDOW).astype(int)
    view = np.stack([one[y : y + _WINDOW, x : x + _WINDOW] for one, (x, y) in zip(covered, corner, strict=True)])
    outside = area - view.sum((1, 2))
    errors, places = np.empty((len(SHAPES), n)), np.empty((len(SHAPES), n, 3), np.float32)
    for shape in range(len(SHAPES)):
        width = np.sqrt(area / _AREAS[shape])
        start = np.column_stack([middle[:, 0], middle[:, 1] - _BELOW[shape] * width, width]).astype(np.float32)
        places[shape], errors[shape] = _descend(view, corner, shape, start, _COARSE)
    hopeful = errors <= 2 * errors.min(0) + 1
    for shape in range(len(SHAPES)):
        index = np.flatnonzero(hopeful[shape])
        if index.size:
            place, error = _descend(view[index], corner[index], shape, places[shape, index], _FINE)
            places[shape, index], errors[shape, index] = place, error
    kind = errors.argmin(0)
    place, overlap = places[kind, np.arange(n)].astype(float), np.zeros(n)
    for shape in np.unique(kind):
        index = np.flatnonzero(kind == shape)
        fit, one = _rendered(corner[index], shape, place[index]), view[index]
        overlap[index] = np.minimum(fit, one).sum((1, 2)) / (np.maximum(fit, one).sum((1, 2)) + outside[index])
    return kind, place[:, :2], place[:, 2], overlap


def _rendered(corner: Ints, shape: int, place: Numbers) -> Numbers:
    grid = (np.arange(_WINDOW) + 0.5).astype(np.float32)
    x = grid[None, None, :] + (corner[:, 0] - place[:, 0])[:, None, None].astype(np.float32)
    y = grid[None, :, None] + (corner[:, 1] - place[:, 1])[:, None, None].astype(np.float32)
    return share(shape, x, y, place[:, 2][:, None, None])


def _descend(
    view: Numbers, corner: Ints, shape: int, start: Numbers, steps: Sequence[float]
) -> tuple[Numbers, Numbers]:
    """Least squares over centre and width, by steps along each that grow finer."""
    place = start.copy()
    error = np.square(_rendered(corner, shape, place) - view).sum((1, 2))
    for step in steps:
        for k in range(3):
            for sign in (step, -step):
                moved = place.copy()
                moved[:, k] += sign
                moved[:, 2] = np.maximum(moved[:, 2], 2)
                other = np.square(_rendered(corner, shape, moved) - view).sum((1, 2))
                better = other < error
                place[better], error[better] = moved[better], other[better]
    return place, error
