"""Sentences that edit a picture's table."""

import numpy as np
import pytest

from edgeinfer import scenes
from edgeinfer.network import shipped
from edgeinfer.strategies import Checker, Place, Table
from edgeinfer.strategies.edits import edit

PAIR = Table.of_caption("a small red square left of a large blue ring on white").replace(
    places=[Place(14, 20, 19), Place(46, 24, 28)]
)
ONE = Table.of_caption("a small red square at the top left on white").replace(places=[Place(17, 17, 19)])


@pytest.mark.parametrize(
    ("table", "sentence", "caption"),
    [
        (PAIR, "make the left square green and large", "a large green square left of a large blue ring on white"),
        (PAIR, "make the ring a small pink circle", "a small red square left of a small pink circle on white"),
        (PAIR, "make the large one yellow", "a small red square left of a large yellow ring on white"),
        (PAIR, "make the right one a cross", "a small red square left of a large blue cross on white"),
        (PAIR, "put it on black", "a small red square left of a large blue ring on black"),
        (
            PAIR,
            "make the red square cyan then put them on gray",
            "a small cyan square left of a large blue ring on gray",
        ),
        (ONE, "make it orange", "a small orange square at the top left on white"),
        (ONE, "move it to the bottom", "a small red square at the bottom left on white"),
        (ONE, "Move the square to the middle", "a small red square at the middle on white"),
        (ONE, "move it to the middle right", "a small red square at the middle right on white"),
        (ONE, "move it to the top middle", "a small red square at the top middle on white"),
    ],
)
def test_edits(table, sentence, caption):
    assert edit(table, sentence).caption == caption


@pytest.mark.parametrize(
    ("table", "sentence", "named"),
    [
        (PAIR, "make it green", "2 objects of .* fit: must be one"),
        (PAIR, "make the triangle green", "0 objects"),
        (PAIR, "make the square green and blue", "says the colour twice"),
        (PAIR, "make the square", "must say what to make of it"),
        (PAIR, "make the square bigger", "'bigger' must be a size, a colour or a shape"),
        (PAIR, "paint the square green", "must be 'make OBJECT CHANGES'"),
        (PAIR, "put it on mauve", "'put it on mauve' must be"),
        (PAIR, "make square green", "must name its object"),
        (PAIR, "move the square to the right", "would meet or change their order"),
        (PAIR, "move the square upwards", "must end with 'to the PLACE'"),
        (ONE, "move it to the centre", "'centre' must be one of"),
        (ONE.replace(places=None), "make it green", "must have places"),
    ],
)
def test_what_does_not_fit_is_refused(table, sentence, named):
    with pytest.raises(ValueError, match=named):
        edit(table, sentence)


def test_objects_that_grow_stay_in_the_picture_and_apart():
    close = PAIR.replace(places=[Place(20, 32, 19), Place(45, 32, 28)], size_b=1)
    a, b = edit(close, "make the square large").places
    assert a.width == 28 and b.x - a.x >= (a.width + b.width) / 2
    assert a.x >= a.width / 2 and b.x <= 64 - b.width / 2
    (corner,) = edit(ONE.replace(places=[Place(9.5, 9.5, 19)]), "make it large").places
    assert (corner.x, corner.y) == (14, 14)


def test_the_checker_measures_renderings():
    """Places within a quarter of a pixel, which is what a message keeps of them, and the classes that were drawn."""
    drawn = scenes.draw(120, 7, held=True)
    pictures, classes = scenes.render(drawn), scenes.labels(drawn)
    checker = Checker(shipped("scenes") / "checker" / "model.onnx", threads=1)
    wrong = 0
    for i, picture in enumerate(pictures):
        table = checker.look(picture).table
        wrong += any(
            table.heads[head] != values[i] for head, values in classes.items() if head not in ("column", "row")
        )
        for slot, place in enumerate(table.places):
            here = np.array([*drawn.centre[i, slot], drawn.width[i, slot]])
            assert np.abs(here - (place.x, place.y, place.width)).max() < 0.25
    # It reads at least 99 % of renderings right, so that more than 5 wrong of 120 come by chance once in 1e3.
    assert wrong <= 5
