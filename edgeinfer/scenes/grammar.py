"""Captions of scenes, their words as numbers, and what they ask for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeinfer import _validate
from edgeinfer.scenes.drawing import Ints, Scenes
from edgeinfer.scenes.words import BACKGROUNDS, COLOURS, COLUMNS, HEADS, LENGTH, RELATIONS, ROWS, SHAPES, SIZES, WORDS

_NUMBER = {word: number for number, word in enumerate(WORDS)}


def captions(scenes: Scenes) -> list[str]:
    """The caption of each scene: lower-case words, at most `LENGTH`.

    Examples
    --------
    >>> from edgeinfer import scenes
    >>> captions(scenes.draw(2, 1))[1]
    'a large green circle below a large blue ring at the left on gray'
    """
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

    Examples
    --------
    >>> encode(["a red circle"])[0, :4]
    array([ 1,  9, 17,  0])
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

    Examples
    --------
    >>> from edgeinfer import scenes
    >>> {head: HEADS[head][k[0]] for head, k in labels(scenes.draw(2, 1)).items() if k[0] >= 0}
    {'layout': 'vertical', 'background': 'gray', 'shape_a': 'circle', 'colour_a': 'red', 'size_a': 'small',
     'shape_b': 'triangle', 'colour_b': 'cyan', 'size_b': 'large', 'column': 'left'}
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
    _validate.check_kind("caption", sentence, str)
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
