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

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeinfer import _validate

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "HEADS",
    "LENGTH",
    "SHAPES",
    "SIDE",
    "SIZES",
    "WORDS",
    "Scenes",
    "captions",
    "draw",
    "encode",
    "judge",
    "labels",
    "render",
    "request",
]

SIDE = 64
LENGTH = 16
SHAPES = ("circle", "square", "triangle", "cross", "ring")
SIZES = ("small", "large")
COLOURS = {
    "red": (224, 28, 36),
    "green": (36, 168, 60),
    "blue": (36, 76, 232),
    "yellow": (250, 222, 30),
    "orange": (248, 136, 16),
    "purple": (134, 40, 176),
    "cyan": (40, 208, 226),
    "pink": (250, 142, 196),
}
BACKGROUNDS = {"white": (250, 250, 250), "black": (10, 10, 10), "gray": (128, 128, 128), "brown": (88, 56, 30)}
RELATIONS = (("left of", "right of"), ("above", "below"))
COLUMNS = ("left", "middle", "right")
ROWS = ("top", "middle", "bottom")

_PLACES = (17.0, 32.0, 47.0)
_WIDTHS = (19.0, 28.0)
_JITTER = 1.5
_GAP = 2.0

HEADS: Mapping[str, tuple[str, ...]] = {
    "layout": ("one", "horizontal", "vertical"),
    "background": tuple(BACKGROUNDS),
    "shape_a": SHAPES,
    "colour_a": tuple(COLOURS),
    "size_a": SIZES,
    "shape_b": SHAPES,
    "colour_b": tuple(COLOURS),
    "size_b": SIZES,
    "column": COLUMNS,
    "row": ROWS,
}
"""What can be asked of a scene: the name of each attribute and its classes."""

WORDS = (
    "<pad>",
    *("a", "an", "the", "at", "on", "of"),
    *SIZES,
    *COLOURS,
    *SHAPES,
    *("left", "right", "above", "below", "top", "middle", "bottom"),
    *BACKGROUNDS,
)
"""The vocabulary; a word's position is its number, 0 pads a caption to `LENGTH`."""

_NUMBER = {word: number for number, word in enumerate(WORDS)}
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
    """Whether each scene's set of objects is held out of training, (n,)."""
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
    width = np.array(_WIDTHS)[size] + rng.uniform(-1, 1, (n, 2))

    fixed = {"fixed": np.ones(n, bool), "free": np.zeros(n, bool), "mixed": rng.random(n) < 0.5}[layout]
    place = rng.integers(0, 3, (n, 2))
    one_axis = 2 * rng.integers(0, 2, n)
    named_axis = rng.integers(0, 3, n)
    for axis in (0, 1):
        place[:, axis] = np.where(~pair & ~fixed, np.where(named_axis == axis, one_axis, -1), place[:, axis])
        place[:, axis] = np.where(pair & (~fixed | (kind == axis + 1)), -1, place[:, axis])

    shared = rng.uniform(_PLACES[0], _PLACES[2], (n, 2))
    shared = np.where(place >= 0, np.array(_PLACES)[place], shared)
    centre = shared[:, None, :] + rng.uniform(-_JITTER, _JITTER, (n, 2, 2))
    # Along the axis of a pair what is left of the side is shared out between the margins and the gap.
    slack = SIDE - _GAP - width.sum(1)
    cuts = np.sort(rng.random((n, 2)), axis=1) * slack[:, None]
    along_a = cuts[:, 0] + width[:, 0] / 2
    along_b = cuts[:, 1] + width[:, 0] + _GAP + width[:, 1] / 2
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
    >>> captions(draw(2, 1))[0]
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


def captions(scenes: Scenes) -> list[str]:
    """The caption of each scene: lower-case words, at most `LENGTH`."""
    colours, grounds = tuple(COLOURS), tuple(BACKGROUNDS)
    sentences = []
    for i in range(len(scenes)):
        kind, first = int(scenes.layout[i]), int(scenes.first[i])
        words = []
        for slot in (first, 1 - first) if kind else (0,):
            thing = [colours[scenes.colour[i, slot]], SHAPES[scenes.shape[i, slot]]]
            if scenes.says_size[i, slot]:
                thing.insert(0, SIZES[scenes.size[i, slot]])
            words += ["an" if thing[0] == "orange" else "a", *thing]
            if kind and slot == first:
                words.append(RELATIONS[kind - 1][first])
        column, row = (int(value) for value in scenes.place[i])
        if column >= 0 or row >= 0:
            # "middle middle" is said once.
            named = ([ROWS[row]] if row >= 0 else []) + ([COLUMNS[column]] if column >= 0 else [])
            words += ["at", "the", *dict.fromkeys(named)]
        if scenes.says_background[i]:
            words += ["on", grounds[scenes.background[i]]]
        sentences.append(" ".join(words))
    return sentences


def encode(sentences: Sequence[str]) -> Ints:
    """Numbers of the words of each caption, padded with 0, (n, `LENGTH`) int64.

    Raises
    ------
    ValueError
        for a word outside `WORDS` or a caption longer than `LENGTH` words
    """
    numbers = np.zeros((len(sentences), LENGTH), dtype=np.int64)
    for i, sentence in enumerate(sentences):
        words = sentence.lower().split()
        if not 0 < len(words) <= LENGTH:
            raise ValueError(f"caption {sentence!r} has {len(words)} words; 1 to {LENGTH} are allowed")
        for k, word in enumerate(words):
            if word not in _NUMBER or word == WORDS[0]:
                raise ValueError(f"word {word!r} of caption {sentence!r} is not in the vocabulary")
            numbers[i, k] = _NUMBER[word]
    return numbers


def labels(scenes: Scenes) -> dict[str, Ints]:
    """The classes of each scene by the names of `HEADS`, (n,) each; -1 where a scene has none.

    Column and row are those that the layout was drawn for: a place that was left free may lie anywhere and has no
    class.
    """
    return {
        "layout": scenes.layout,
        "background": scenes.background,
        **{
            f"{name}_{slot}": getattr(scenes, name)[:, k]
            for k, slot in enumerate("ab")
            for name in ("shape", "colour", "size")
        },
        "column": scenes.place[:, 0],
        "row": scenes.place[:, 1],
    }


def request(sentences: Sequence[str]) -> dict[str, Ints]:
    """What each caption asks for, by the names of `HEADS`, (n,) each; -1 where it does not say.

    Raises
    ------
    ValueError
        for a sentence that the grammar cannot make

    Examples
    --------
    >>> asked = request(["a red circle above a small blue square"])
    >>> {head: HEADS[head][int(k[0])] for head, k in asked.items() if k[0] >= 0}
    {'layout': 'vertical', 'shape_a': 'circle', 'colour_a': 'red',
     'shape_b': 'square', 'colour_b': 'blue', 'size_b': 'small'}
    """
    asked = {head: np.full(len(sentences), -1, dtype=np.int64) for head in HEADS}
    for i, sentence in enumerate(sentences):
        for head, value in _parse(sentence).items():
            asked[head][i] = HEADS[head].index(value)
    return asked


def _parse(sentence: str) -> dict[str, str]:
    words = sentence.lower().split()
    found: dict[str, str] = {}

    def take(*expected: str) -> bool:
        if tuple(words[: len(expected)]) == expected:
            del words[: len(expected)]
            return True
        return False

    def one_of(allowed: Sequence[str]) -> str | None:
        return words.pop(0) if words and words[0] in allowed else None

    def thing() -> dict[str, str]:
        one_of(("a", "an"))
        parts = {"size": one_of(SIZES), "colour": one_of(tuple(COLOURS)), "shape": one_of(SHAPES)}
        if parts["colour"] is None or parts["shape"] is None:
            raise ValueError(f"caption {sentence!r}: expected a colour and a shape before {' '.join(words)!r}")
        return {name: value for name, value in parts.items() if value is not None}

    things = [thing()]
    found["layout"] = "one"
    for axis, relations in enumerate(RELATIONS):
        for order, relation in enumerate(relations):
            if len(things) == 1 and take(*relation.split()):
                things.append(thing())
                found["layout"] = HEADS["layout"][axis + 1]
                if order:
                    things.reverse()
    for slot, parts in zip("ab", things, strict=False):
        found |= {f"{name}_{slot}": value for name, value in parts.items()}
    if take("at", "the"):
        row, column = one_of(ROWS), one_of(COLUMNS)
        if row == "middle" and column is None:
            column = "middle"
        if found["layout"] == "horizontal":
            column = None if column == row == "middle" else column
        if found["layout"] == "vertical" and column == row == "middle":
            row = None
        wrong = {"horizontal": column, "vertical": row}.get(found["layout"])
        if wrong or not (row or column):
            raise ValueError(f"caption {sentence!r}: the place does not fit {found['layout']!r}")
        found |= {"column": column} if column else {}
        found |= {"row": row} if row else {}
    if take("on"):
        ground = one_of(tuple(BACKGROUNDS))
        if ground is None:
            raise ValueError(f"caption {sentence!r}: the background must be one of {', '.join(BACKGROUNDS)}")
        found["background"] = ground
    if words:
        raise ValueError(f"caption {sentence!r}: {' '.join(words)!r} does not fit the grammar")
    return found


def judge(sentences: Sequence[str], logits: npt.ArrayLike) -> dict[str, npt.NDArray[np.bool_]]:
    """Whether images show what their captions say, from the logits of an attribute checker.

    Parameters
    ----------
    sentences : n captions
    logits : (n, 43) of the images, the heads side by side in the order of `HEADS`

    Returns
    -------
    dict
        (n,) booleans for "background", "colour", "shape", "size", "place" (layout, column and row) and "all"; what a
        caption does not say counts as right

    Raises
    ------
    ValueError
        if the logits have another shape or are not finite, or a sentence is not of the grammar

    Examples
    --------
    >>> logits = np.zeros((1, 43))  # the first class everywhere: one small red circle on white
    >>> {name: bool(right[0]) for name, right in judge(["a small blue circle"], logits).items()}
    {'background': True, 'colour': False, 'shape': True, 'size': True, 'place': True, 'all': False}
    """
    values = _validate.numbers("logits", logits)
    sizes = [len(classes) for classes in HEADS.values()]
    if values.shape != (len(sentences), sum(sizes)):
        raise ValueError(f"logits have shape {values.shape}, must have {(len(sentences), sum(sizes))}")
    if not np.isfinite(values).all():
        raise ValueError(f"logits[{int(np.argmin(np.isfinite(values).all(1)))}] are not finite")
    right = {}
    parts = np.split(values, np.cumsum(sizes)[:-1], axis=1)
    for (head, asked), part in zip(request(sentences).items(), parts, strict=True):
        right[head] = (asked < 0) | (part.argmax(1) == asked)
    both = {name: right[f"{name}_a"] & right[f"{name}_b"] for name in ("colour", "shape", "size")}
    grouped = {"background": right["background"], **both, "place": right["layout"] & right["column"] & right["row"]}
    return grouped | {"all": np.logical_and.reduce(list(grouped.values()))}


def _distance(shape: int, x: Floats, y: Floats, width: Floats) -> Floats:
    """How far outside an object each point lies, px (negative inside), up to the corners' rounding."""
    half = width / 2
    match SHAPES[shape]:
        case "circle":
            return np.hypot(x, y) - half
        case "ring":
            radius = np.hypot(x, y)
            return np.maximum(radius - half, 0.5 * half - radius)
        case "square":
            return np.maximum(np.abs(x), np.abs(y)) - 0.9 * half
        case "triangle":
            # Base and height are the width; the sides' unit normal is (2, -1) / sqrt(5).
            return np.maximum(y - half, (2 * np.abs(x) - y - half) / np.sqrt(5))
        case _:
            arm, ax, ay = half / 3, np.abs(x), np.abs(y)
            return np.minimum(np.maximum(ax - half, ay - arm), np.maximum(ax - arm, ay - half))


def render(scenes: Scenes) -> npt.NDArray[np.uint8]:
    """Draw the scenes, (n, 64, 64, 3) RGB.

    A pixel's share of an object is its signed distance from the outline, clipped to half a pixel either side, so edges
    are antialiased.
    """
    colours = np.array(list(COLOURS.values()), dtype=np.float32)
    grounds = np.array(list(BACKGROUNDS.values()), dtype=np.float32)
    image = np.broadcast_to(grounds[scenes.background][:, None, None], (len(scenes), SIDE, SIDE, 3)).copy()
    grid = (np.arange(SIDE) + 0.5).astype(np.float32)
    for slot in (0, 1):
        for shape in range(len(SHAPES)):
            index = np.flatnonzero(scenes.shape[:, slot] == shape)
            centre = scenes.centre[index, slot].astype(np.float32)
            width = scenes.width[index, slot].astype(np.float32)[:, None, None]
            x = grid[None, None, :] - centre[:, 0, None, None]
            y = grid[None, :, None] - centre[:, 1, None, None]
            share = np.clip(0.5 - _distance(shape, x, y, width), 0, 1)[..., None]
            image[index] += share * (colours[scenes.colour[index, slot]][:, None, None] - image[index])
    return np.rint(image).astype(np.uint8)
