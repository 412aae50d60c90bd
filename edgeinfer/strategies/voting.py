"""Ensembles: several read or paint the same, and a rule that was set before combines what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate, scenes
from edgeinfer.strategies.agents import Attempt, Reading
from edgeinfer.strategies.bodies import Findings, Picture, Plan
from edgeinfer.strategies.competing import hypotheses
from edgeinfer.strategies.cooperating import checked, seed_of
from edgeinfer.strategies.result import Collaboration
from edgeinfer.strategies.rules import Rules
from edgeinfer.strategies.session import Session, Steps

Ints = NDArray[np.int64]
#: Three votes at least: of two that differ nobody knows which is wrong.
PAINTERS = (Attempt("device", 2, 1), Attempt("edge", 2, 1), Attempt("device", 2, 1))
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
    if not len(readings):
        raise ValueError("readings = []: must be at least one")
    chosen = {}
    for head in readings[0]:
        said = np.stack([np.asarray(reading[head], np.int64) for reading in readings])
        agreeing = (said[:, None] == said[None]).sum(1)
        chosen[head] = np.take_along_axis(said, agreeing.argmax(0)[None], axis=0)[0]
    return chosen


def average(readings: Sequence[Reading]) -> Reading:
    """The mean of networks' logits, head by head; heads and classes must be the same.

    Examples
    --------
    >>> one, other = Reading({"row": np.array([[2.0, 0.0]])}), Reading({"row": np.array([[0.0, 4.0]])})
    >>> average([one, other]).logits["row"].tolist()
    [[1.0, 2.0]]
    """
    if not len(readings):
        raise ValueError("readings = []: must be at least one")
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
    rng = np.random.default_rng(rng)
    damaged = []
    for caption in captions:
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
    rows = [_scanned(caption.lower().split()) for caption in captions]
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


def ensemble(
    session: Session, rules: Rules | None = None, attempts: Sequence[Attempt] = PAINTERS
) -> Steps[Collaboration]:
    """Several paint at once; what most pictures show, head by head, picks the picture that is nearest to it.

    The rule knows no caption; the checkers then say whether the picture is released as right. A request whose text has
    several lines is a caption in as many copies, damaged or not, on which the interpreter's parsers vote.
    """
    rules = rules or Rules.read()
    seed = yield from seed_of(session)
    session.begin_round()
    numbers = yield from hypotheses(session, seed, attempts)
    plan, readings = Plan((seed.table,)), []
    for number in numbers:
        proposal = session.proposals[number]
        picture = Picture(proposal.pixels)
        said = yield from session.ask("device", "checker", Findings, picture, plan, sender=proposal.painter)
        session.judged(number, said)
        seen = {each.head: each.seen for each in said.found}
        readings.append({head: [seen.get(head, wanted)] for head, wanted in seed.table.heads.items() if wanted >= 0})
    chosen = numbers[int(nearest_to_vote(readings)[0])]
    right = yield from checked(session, chosen, seed, rules)
    return session.finish("right" if right else "round limit", [chosen])
