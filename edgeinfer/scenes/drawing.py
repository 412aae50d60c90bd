"""Scenes as arrays, drawn at random; which are held out of training."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeinfer.scenes.words import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIDE, SIZES, WIDTHS

#: How far an object may lie from the middle of its named place, on each axis, and the least gap of a pair, px.
JITTER = 1.5
GAP = 2.0

Layout = Literal["fixed", "free", "mixed"]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scenes:
    """A batch of n scenes as arrays; -1 means "not there" or "not said".

    Attributes
    ----------
    layout : (n,) 0 one object, 1 two side by side, 2 two one above the other
    background : (n,) index into `BACKGROUNDS`
    shape, colour, size : (n, 2) indices for objects a and b; -1 for b if there is one object
    centre : (n, 2, 2) x and y of each object, px
    width : (n, 2) extent of each object, px
    place : (n, 2) named column and row, 0 to 2, or -1
    says_size, says_background : (n, 2) and (n,) whether the caption names them
    first : (n,) which object the caption names first, 0 or 1
    """

    layout: Ints
    background: Ints
    shape: Ints
    colour: Ints
    size: Ints
    centre: Floats
    width: Floats
    place: Ints
    says_size: npt.NDArray[np.bool_]
    says_background: npt.NDArray[np.bool_]
    first: Ints

    def __len__(self) -> int:
        return len(self.layout)

    def __getitem__(self, index: Any) -> Scenes:
        """The scenes that an index array, mask or slice picks."""
        return Scenes(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


@functools.lru_cache(maxsize=1)
def _held_out_table() -> npt.NDArray[np.bool_]:
    """Whether the set of objects (i, j) is held out; the last column is for i alone."""
    names = [f"{size} {colour} {shape}" for size in SIZES for colour in COLOURS for shape in SHAPES]
    table = np.zeros((len(names), len(names) + 1), dtype=bool)
    for i, name in enumerate(names):
        for j, other in enumerate([*names[: i + 1], ""]):
            digest = hashlib.blake2b("|".join(sorted((name, other))).encode(), digest_size=8).digest()
            held = int.from_bytes(digest, "little") % 20 == 0
            if other:
                table[i, j] = table[j, i] = held
            else:
                table[i, -1] = held
    return table


def held_out(scenes: Scenes) -> npt.NDArray[np.bool_]:
    """Whether each scene's set of objects is held out of training, (n,).

    Examples
    --------
    >>> held_out(draw(2, 1)), held_out(draw(2, 1, held=True))
    (array([False, False]), array([ True,  True]))
    """
    number = (scenes.size * len(COLOURS) + scenes.colour) * len(SHAPES) + scenes.shape
    return _held_out_table()[number[:, 0], np.where(scenes.layout == 0, -1, number[:, 1])]


def _draw(n: int, rng: np.random.Generator, layout: Layout) -> Scenes:
    # Every number is drawn for every scene, needed or not, so that one scene's draws do not depend on another's.
    kind = np.where(rng.random(n) < 1 / 3, 0, rng.integers(1, 3, n))
    pair = kind > 0
    shape = rng.integers(0, len(SHAPES), (n, 2))
    colour = rng.integers(0, len(COLOURS), (n, 2))
    colour[:, 1] = (colour[:, 0] + rng.integers(1, len(COLOURS), n)) % len(COLOURS)
    size = rng.integers(0, 2, (n, 2))
    width = np.array(WIDTHS)[size] + rng.uniform(-1, 1, (n, 2))

    fixed = {"fixed": np.ones(n, bool), "free": np.zeros(n, bool), "mixed": rng.random(n) < 0.5}[layout]
    place = rng.integers(0, 3, (n, 2))
    one_axis = 2 * rng.integers(0, 2, n)
    named_axis = rng.integers(0, 3, n)
    for axis in (0, 1):
        place[:, axis] = np.where(~pair & ~fixed, np.where(named_axis == axis, one_axis, -1), place[:, axis])
        place[:, axis] = np.where(pair & (~fixed | (kind == axis + 1)), -1, place[:, axis])

    shared = rng.uniform(PLACES[0], PLACES[2], (n, 2))
    shared = np.where(place >= 0, np.array(PLACES)[place], shared)
    centre = shared[:, None, :] + rng.uniform(-JITTER, JITTER, (n, 2, 2))
    # Along the axis of a pair what is left of the side is shared out between the margins and the gap.
    slack = SIDE - GAP - width.sum(1)
    cuts = np.sort(rng.random((n, 2)), axis=1) * slack[:, None]
    along_a = cuts[:, 0] + width[:, 0] / 2
    along_b = cuts[:, 1] + width[:, 0] + GAP + width[:, 1] / 2
    for axis in (0, 1):
        here = kind == axis + 1
        centre[here, 0, axis], centre[here, 1, axis] = along_a[here], along_b[here]
    alone = ~pair
    for array in (shape, colour, size):
        array[alone, 1] = -1
    return Scenes(
        layout=kind,
        background=rng.integers(0, len(BACKGROUNDS), n),
        shape=shape,
        colour=colour,
        size=size,
        centre=centre,
        width=width,
        place=place,
        says_size=rng.random((n, 2)) < 0.85,
        says_background=rng.random(n) < 0.85,
        first=np.where(pair, rng.integers(0, 2, n), 0),
    )


def draw(
    n: int, rng: np.random.Generator | int | None = None, *, layout: Layout = "mixed", held: bool = False
) -> Scenes:
    """Draw scenes; one third has a single object.

    Parameters
    ----------
    n : number of scenes, at least 1
    rng : what `numpy.random.default_rng` takes
    layout : whether captions fix the layout ("fixed"), leave an axis free ("free"), or half of each ("mixed")
    held : only sets of objects that are held out of training (True) or only others (False)

    Raises
    ------
    ValueError
        if `n` is below 1 or `layout` is none of the three

    Examples
    --------
    >>> from edgeinfer import scenes
    >>> scenes.captions(draw(2, 1))[0]
    'a cyan triangle below a small red circle at the left on gray'
    """
    if n < 1:
        raise ValueError(f"n = {n} must be at least 1")
    if layout not in ("fixed", "free", "mixed"):
        raise ValueError(f"layout = {layout!r} must be 'fixed', 'free' or 'mixed'")
    rng = np.random.default_rng(rng)
    parts: list[Scenes] = []
    missing = n
    while missing > 0:
        batch = _draw(32 * missing if held else missing + missing // 8 + 8, rng, layout)
        parts.append(batch[held_out(batch) == held][:missing])
        missing -= len(parts[-1])
    return Scenes(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Scenes)})
