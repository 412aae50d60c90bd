"""What goes wrong, drawn at random to learn from: pictures that no caption asks for, captions with words lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeinfer import scenes

#: Shares of pictures without an object, with one too many, with a shape between two, and with a slightly bent one.
SHARES = {"none": 0.06, "other": 0.14, "between": 0.15, "bent": 0.2}
#: How far a shape's outline is on its way to another's.
BETWEEN, BENT = (0.4, 0.6), (0.0, 0.12)

Array = npt.NDArray[Any]


def pictures(batch: scenes.Scenes, rng: np.random.Generator) -> tuple[npt.NDArray[np.uint8], dict[str, Array]]:
    """Pictures of the scenes, a part of them spoiled, and what the second checker is to say of each, -1 for nothing.

    An object too many, often a copy of one that is there as painters make them, makes the layout "other"; a shape
    between two is neither; one that is slightly bent keeps its name.
    """
    n = len(batch)
    kinds = rng.choice([*SHARES, "as it is"], n, p=[*SHARES.values(), 1 - sum(SHARES.values())])
    slot = np.where(batch.layout > 0, rng.integers(0, 2, n), 0)
    morphs = np.isin(kinds, ("between", "bent"))
    drawn = np.where((kinds == "none")[:, None], -1, batch.shape)
    drawn[morphs, slot[morphs]] = -1
    fields = {name: getattr(batch, name) for name in batch.__dataclass_fields__}
    images = scenes.render(scenes.Scenes(**fields | {"shape": drawn})).astype(np.float32)
    for i in np.flatnonzero(morphs):
        k, (low, high) = slot[i], BETWEEN if kinds[i] == "between" else BENT
        other = (batch.shape[i, k] + rng.integers(1, len(scenes.SHAPES))) % len(scenes.SHAPES)
        share = rng.uniform(low, high)
        _paint(
            images[i],
            {batch.shape[i, k]: 1 - share, other: share},
            batch.colour[i, k],
            batch.centre[i, k],
            batch.width[i, k],
        )
    for i in np.flatnonzero(kinds == "other"):
        _one_more(images[i], batch, i, rng)
    truth = {head: values.copy() for head, values in scenes.labels(batch).items()}
    for kind, label in (("none", 0), ("other", 1)):
        for head in truth.keys() - {"background", "layout"}:
            truth[head][kinds == kind] = -1
        truth["layout"][kinds == kind] = len(scenes.HEADS["layout"]) + label
    for k, head in enumerate(("shape_a", "shape_b")):
        truth[head][(kinds == "between") & (slot == k)] = len(scenes.SHAPES)
    return np.rint(images).astype(np.uint8), truth


def _paint(image: Array, outline: dict[Any, float], colour: int, centre: Array, width: float) -> None:
    """An object whose signed distance is the weighted mean of the shapes' ones, on one image in place."""
    grid = np.arange(scenes.SIDE) + 0.5
    x, y = grid[None, :] - centre[0], grid[:, None] - centre[1]
    distance = sum(weight * scenes.outside(int(shape), x, y, width) for shape, weight in outline.items())
    share = np.clip(0.5 - distance, 0, 1)[..., None]
    image += share * (np.array(list(scenes.COLOURS.values())[colour]) - image)


def _one_more(image: Array, batch: scenes.Scenes, i: int, rng: np.random.Generator) -> None:
    """An object more where it hides none: of a single object, another in its colour, since two colours are a pair."""
    count = 2 if batch.layout[i] else 1
    like = rng.integers(0, count)
    same_shape, same_colour = rng.random() < 0.6, count == 1 or rng.random() < 0.6
    shape = batch.shape[i, like] if same_shape else rng.integers(0, len(scenes.SHAPES))
    colour = batch.colour[i, like] if same_colour else rng.integers(0, len(scenes.COLOURS))
    width = rng.uniform(10, 26)
    centres = rng.uniform(width / 2, scenes.SIDE - width / 2, (16, 2))
    apart = np.hypot(*(centres[:, None] - batch.centre[i, :count]).transpose(2, 0, 1))
    room = (apart / (batch.width[i, :count] + width)).min(1)
    fits = np.flatnonzero(room > 0.5)
    _paint(image, {shape: 1.0}, colour, centres[fits[0] if len(fits) else room.argmax()], width)


def damaged(sentences: Sequence[str], share: Array, rng: np.random.Generator) -> list[str]:
    """The captions after each word was lost or replaced by a random one, half each, with probability `share`, (n,)."""
    found = []
    for sentence, probability in zip(sentences, share, strict=True):
        words = sentence.split()
        hit = rng.random(len(words)) < probability
        lost = rng.random(len(words)) < 0.5
        others = rng.integers(1, len(scenes.WORDS), len(words))
        words = [scenes.WORDS[others[k]] if hit[k] else words[k] for k in np.flatnonzero(~(hit & lost))] or words[:1]
        found.append(" ".join(words))
    return found
