"""Votes: several read the same, and a rule that was set before combines what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _random, _validate, scenes
from edgeinfer.strategies.agents import HeadReader, Reading
from edgeinfer.strategies.tables import Table

Ints = NDArray[np.int64]
_CLASSES = {head: {name: k for k, name in enumerate(classes)} for head, classes in scenes.HEADS.items()}


def vote(readings: Sequence[Mapping[str, ArrayLike]]) -> dict[str, Ints]:
    """What most readers say, head by head; of equally many, what the first of them says.

    Parameters
    ----------
    readings : sequence of K mappings of str to (n,) array_like
        Class by head; -1 is a class like any other, "not said".

    Examples
    --------
    >>> vote([{"row": [0, 2]}, {"row": [1, 1]}, {"row": [1, 0]}])["row"].tolist()
    [1, 2]
    """
    readings = _at_least_one(readings, Mapping)
    for k, reading in enumerate(readings):
        if reading.keys() != readings[0].keys():
            raise ValueError(f"readings[{k}]: heads {', '.join(map(str, reading))}: must be {', '.join(readings[0])}")
    chosen = {}
    for head in readings[0]:
        said = np.stack([_classes(f"readings[{k}][{head!r}]", one[head]) for k, one in enumerate(readings)])
        agreeing = (said[:, None] == said[None]).sum(1)
        chosen[head] = np.take_along_axis(said, agreeing.argmax(0)[None], axis=0)[0]
    return chosen


def _at_least_one(readings: Sequence[Any], kind: type) -> tuple[Any, ...]:
    given = _validate.each("readings", readings, kind)
    if not given:
        raise ValueError("readings = []: must be at least one")
    return given


def _classes(name: str, value: ArrayLike) -> Ints:
    numbers = np.asarray(_validate.real(name, value, -(2**31), 2**31))
    if numbers.ndim != 1 or (numbers != np.floor(numbers)).any():
        raise ValueError(f"{name} of shape {numbers.shape}: must be a row of whole numbers")
    return numbers.astype(np.int64)


def average(readings: Sequence[Reading]) -> Reading:
    """The mean of networks' logits, head by head; heads and classes must be the same.

    Examples
    --------
    >>> one, other = Reading({"row": np.array([[2.0, 0.0]])}), Reading({"row": np.array([[0.0, 4.0]])})
    >>> average([one, other]).logits["row"].tolist()
    [[1.0, 2.0]]
    """
    readings = _at_least_one(readings, Reading)
    shapes = [{head: np.shape(part) for head, part in reading.logits.items()} for reading in readings]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"readings: heads of {shapes}: must all be the same")
    return Reading({head: np.mean([r.logits[head] for r in readings], axis=0) for head in readings[0].logits})


def nearest_to_vote(readings: Sequence[Mapping[str, ArrayLike]]) -> Ints:
    """Which of K pictures shows most of what most of them show, (n,): a vote that knows no caption.

    Parameters
    ----------
    readings : as for `vote`
        Of the pictures; of equal ones the first is taken.

    Examples
    --------
    >>> nearest_to_vote([{"row": [0]}, {"row": [1]}, {"row": [1]}]).tolist()
    [1]
    """
    readings = _validate.in_order("readings", readings)
    common = vote(readings)
    agreeing = [np.sum([np.asarray(r[head]) == common[head] for head in common], axis=0) for r in readings]
    nearest: Ints = np.argmax(agreeing, axis=0)
    return nearest


def damage(captions: Sequence[str], share: float, rng: np.random.Generator | int | None = None) -> list[str]:
    """Captions whose words are damaged, each with probability `share`: half of those are lost, half become others.

    Parameters
    ----------
    captions : sequence of str
    share : float
        In [0, 1]. A caption that would lose all its words keeps the last.
    rng : what `numpy.random.default_rng` takes

    Examples
    --------
    >>> damage(["a small red ring at the top left on white"], 0.15, 4)
    ['a small cyan ring at the top left on white']
    """
    share = _validate.scalar("share", share, 0, 1)
    if not isinstance(rng, np.random.Generator):
        rng = np.random.default_rng(_random.seed_sequence(rng))
    damaged = []
    for caption in _validate.each("captions", captions, str):
        kept = []
        for word in caption.split():
            draw = rng.random()
            other = scenes.WORDS[rng.integers(1, len(scenes.WORDS))]
            if draw >= share / 2:
                kept.append(other if draw < share else word)
        damaged.append(" ".join(kept or caption.split()[-1:]))
    return damaged


def scan(captions: Sequence[str]) -> dict[str, Ints]:
    """What captions ask for, by words alone rather than grammar, so that damage to one word harms no other.

    Each shape names an object, with the size and colour between it and the shape before; a word of a relation between
    two objects tells the layout, "at" a place, and the first ground is the ground. The heads are those of
    `scenes.request`, with which it agrees on whole captions; -1 is what is not found.

    Examples
    --------
    >>> found = scan(["red circle above small square"])
    >>> {head: scenes.HEADS[head][k[0]] for head, k in found.items() if k[0] >= 0}
    {'layout': 'vertical', 'shape_a': 'circle', 'colour_a': 'red', 'shape_b': 'square', 'size_b': 'small'}
    """
    rows = [_scanned(caption.lower().split()) for caption in _validate.each("captions", captions, str)]
    return {head: np.array([row.get(head, -1) for row in rows], np.int64) for head in scenes.HEADS}


def _scanned(words: list[str]) -> dict[str, int]:
    shapes = [k for k, word in enumerate(words) if word in scenes.SHAPES][:2]
    grounds = [k for k, word in enumerate(words) if word in scenes.BACKGROUNDS]
    found: dict[str, int] = {}
    relation = _relation(words, shapes)
    axis, order = relation or (0, 0)
    count = 2 if relation or len(shapes) == 2 else 1
    found["layout"] = _CLASSES["layout"]["one"] if count == 1 else axis + 1
    slots = "ba" if count == 2 and order else "ab"
    start = 0
    for slot, place in zip(slots, shapes, strict=False):
        found[f"shape_{slot}"] = _CLASSES["shape_a"][words[place]]
        for name, classes in (("size", scenes.SIZES), ("colour", scenes.COLOURS)):
            named = [word for word in words[start:place] if word in classes]
            if named:
                found[f"{name}_{slot}"] = _CLASSES[f"{name}_a"][named[-1]]
        start = place + 1
    if grounds:
        found["background"] = _CLASSES["background"][words[grounds[-1]]]
    tail = words[start : grounds[-1] if grounds else None]
    return found | _place(tail, found["layout"])


def _relation(words: list[str], shapes: list[int]) -> tuple[int, int] | None:
    """Axis and order of the relation that stands between the first two shapes, or after the only one."""
    if not shapes:
        return None
    end = shapes[1] if len(shapes) > 1 else len(words)
    for k in range(shapes[0] + 1, end):
        for axis, relations in enumerate(scenes.RELATIONS):
            for order, relation in enumerate(relations):
                first, *rest = relation.split()
                alone = len(shapes) > 1 or not rest
                if words[k] == first and (alone or words[k + 1 : k + 2] == rest):
                    return axis, order
    return None


def _place(words: list[str], layout: int) -> dict[str, int]:
    """Column and row that the words after the last object name."""
    rows = [word for word in words if word in scenes.ROWS]
    columns = [word for word in words if word in scenes.COLUMNS]
    row = next((word for word in rows if word != "middle"), None)
    column = next((word for word in columns if word != "middle"), None)
    if "middle" in words:
        row, column = row or "middle", column or "middle"
    named = {"column": column if layout != 1 else None, "row": row if layout != 2 else None}
    # "the middle left" names a row; "the left" alone does not.
    return {head: _CLASSES[head][word] for head, word in named.items() if word is not None}


class CopiesReader:
    r"""Reads a caption by the rules of the grammar; one that comes in several copies, a line each, by a vote.

    The copies may be damaged: the mean of the network's logits decides head by head, or, in a folder without one, most
    of what `scan` finds.

    Parameters
    ----------
    folder : path
        A model folder, with a "text_reader" or not.
    threads : int, optional
        Of one pass.

    Examples
    --------
    >>> reader = CopiesReader("nowhere")
    >>> reader.read("a red circle on\na red circle on white\na blue circle on white").caption
    'a red circle on white'
    """

    def __init__(self, folder: str | Path, *, threads: int | None = None) -> None:
        self._folder, self._threads = Path(folder) / "text_reader", threads

    @cached_property
    def _network(self) -> HeadReader | None:
        return HeadReader(self._folder, threads=self._threads) if self._folder.is_dir() else None

    def read(self, caption: str) -> Table:
        """What a caption asks for.

        Raises
        ------
        ValueError
            For one line that the grammar cannot make, for copies with unknown or too many words, and where what most
            of them say is no scene.
        """
        copies = caption.splitlines()
        if len(copies) <= 1:
            return Table.of_caption(caption)
        scenes.encode(copies)
        if self._network is None:
            said = vote([{head: found[k : k + 1] for head, found in scan(copies).items()} for k in range(len(copies))])
        else:
            logits = self._network.captions(copies).logits
            said = Reading({head: part.mean(0, keepdims=True) for head, part in logits.items()}).classes()
        heads = {head: int(classes[0]) for head, classes in said.items()}
        if heads["layout"] == _CLASSES["layout"]["one"]:
            heads |= {f"{name}_b": -1 for name in ("shape", "colour", "size")}
        else:
            heads[("column", "row")[heads["layout"] - 1]] = -1
        return Table(heads)
