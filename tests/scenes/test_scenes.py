"""The world of scenes: its grammar, its rendering, its split, and how images are judged."""

import itertools

import numpy as np
import pytest

from edgeinfer import scenes
from edgeinfer.scenes import drawing

LAYOUTS = ("fixed", "free", "mixed")


@pytest.fixture(scope="module")
def batch():
    return scenes.draw(600, 3)


def test_captions_say_what_was_drawn_and_nothing_else(batch):
    asked, truth = scenes.request(scenes.captions(batch)), scenes.labels(batch)
    said = {head: np.ones(len(batch), bool) for head in scenes.HEADS}
    said["background"] = batch.says_background
    said["size_a"], said["size_b"] = batch.says_size.T
    for head in scenes.HEADS:
        expected = np.where(said[head], truth[head], -1)
        np.testing.assert_array_equal(asked[head], expected, err_msg=head)


def test_every_class_of_every_attribute_occurs(batch):
    for head, values in scenes.labels(batch).items():
        assert set(values[values >= 0]) == set(range(len(scenes.HEADS[head]))), head


def test_every_caption_of_the_grammar_is_read_back():
    thing = [f"a{' ' + size if size else ''} red ring" for size in ("", *scenes.SIZES)]
    places = ["", " at the left", " at the middle", " at the top right", " at the middle left", " at the bottom middle"]
    for one, place, ground in itertools.product(thing, places, ("", " on gray")):
        asked = scenes.request([one + place + ground])
        assert asked["layout"][0] == 0
        column = {"left": 0, "right": 2, "middle": 1}.get(place.split(" ")[-1], -1)
        assert asked["column"][0] == column
    words = "an orange cross {} a small cyan circle at the {}"
    for relation, place, layout, swapped in (
        ("left of", "top", 1, False),
        ("right of", "middle", 1, True),
        ("above", "right", 2, False),
        ("below", "middle", 2, True),
    ):
        asked = scenes.request([words.format(relation, place)])
        assert asked["layout"][0] == layout
        assert scenes.SHAPES[asked["shape_a"][0]] == ("circle" if swapped else "cross")
        assert asked["size_a" if swapped else "size_b"][0] == 0
        assert asked["size_b" if swapped else "size_a"][0] == -1
        # The place is on the axis that the relation leaves open.
        assert (asked["row"][0] >= 0) == (layout == 1)
        assert (asked["column"][0] >= 0) == (layout == 2)


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "a red",
        "a circle",
        "a red circle beside a blue ring",
        "a red circle above",
        "a red circle at the",
        "a red circle on red",
        "a red circle on white on white",
        "a red circle left of a blue ring at the left",
        "a red circle above a blue ring at the top left",
        "a red circle above a blue ring above a green cross",
    ],
)
def test_other_sentences_are_refused(sentence):
    with pytest.raises(ValueError, match="caption"):
        scenes.request([sentence])


def test_words_are_numbered_and_unknown_ones_named(batch):
    sentences = scenes.captions(batch)
    numbers = scenes.encode(sentences)
    assert numbers.shape == (len(batch), scenes.LENGTH)
    assert numbers.dtype == np.int64
    for sentence, row in zip(sentences, numbers, strict=True):
        assert " ".join(scenes.WORDS[k] for k in row if k) == sentence
    with pytest.raises(ValueError, match="'mauve'"):
        scenes.encode(["a mauve circle"])
    with pytest.raises(ValueError, match="'<pad>'"):
        scenes.encode(["a <pad>"])
    with pytest.raises(ValueError, match="17 words"):
        scenes.encode(["a " * 17])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_is_fixed_or_left_free_by_the_caption(layout):
    batch = scenes.draw(3000, 5, layout=layout)
    alone = batch.layout == 0
    open_axes = np.where(alone, (batch.place < 0).sum(1), (batch.place < 0).sum(1) - 1)
    if layout == "fixed":
        assert (open_axes == 0).all()
    elif layout == "free":
        assert (open_axes > 0).all()
    else:
        # A binomial share of half; 0.05 is 5.5 standard deviations.
        assert abs((open_axes == 0).mean() - 0.5) < 0.05
    for axis in (0, 1):
        named = batch.place[:, axis] >= 0
        wanted = np.array([17.0, 32.0, 47.0])[batch.place[named, axis]]
        assert (np.abs(batch.centre[named, 0, axis] - wanted) <= 1.5).all()
        free = alone & ~named
        if free.any():
            assert np.ptp(batch.centre[free, 0, axis]) > 28


def test_objects_lie_inside_apart_and_in_the_order_of_the_caption(batch):
    half = batch.width[..., None] / 2
    inside = (batch.centre - half > 0) & (batch.centre + half < scenes.SIDE)
    pair = batch.layout > 0
    assert inside[:, 0].all()
    assert inside[pair, 1].all()
    axis = batch.layout[pair] - 1
    rows = np.arange(pair.sum())
    gap = (batch.centre - half)[pair, 1][rows, axis] - (batch.centre + half)[pair, 0][rows, axis]
    assert (gap >= 2 - 1e-9).all()
    assert (batch.colour[pair, 0] != batch.colour[pair, 1]).all()


def test_held_out_sets_never_meet_the_others():
    def names(batch):
        things = zip(batch.size, batch.colour, batch.shape, strict=True)
        return {frozenset(zip(*(map(int, row) for row in thing), strict=True)) for thing in things}

    seen, held = names(scenes.draw(4000, 1)), names(scenes.draw(1000, 2, held=True))
    assert not seen & held
    # The hash is even: of 80 + 80 * 70 / 2 sets one in twenty, within 4.5 standard deviations of a binomial.
    table = drawing._held_out_table()
    share = np.triu(table[:, :-1]).sum() + table[:, -1].sum()
    sets = 80 * 81 / 2 + 80
    assert abs(share - sets / 20) < 4.5 * np.sqrt(sets / 20 * 0.95)
    assert table[:, :-1].tolist() == table[:, :-1].T.tolist()


def test_draws_depend_on_the_seed_alone():
    one, two, other = scenes.draw(50, 9), scenes.draw(50, np.random.default_rng(9)), scenes.draw(50, 10)
    assert (scenes.render(one) == scenes.render(two)).all()
    assert scenes.captions(one) == scenes.captions(two) != scenes.captions(other)
    with pytest.raises(ValueError, match="n = 0"):
        scenes.draw(0)
    with pytest.raises(ValueError, match="layout = 'loose'"):
        scenes.draw(1, layout="loose")


def inside(shape, x, y, width):
    """Whether points lie in a shape, by its definition in words rather than by distances."""
    half = width / 2
    if shape == "circle":
        return x**2 + y**2 <= half**2
    if shape == "ring":
        return (x**2 + y**2 <= half**2) & (x**2 + y**2 >= (half / 2) ** 2)
    if shape == "square":
        return (abs(x) <= 0.9 * half) & (abs(y) <= 0.9 * half)
    if shape == "triangle":
        # The width at a height falls linearly from the base to nothing at the tip.
        return (y <= half) & (y >= -half) & (abs(x) <= (y + half) / 2)
    across = (abs(x) <= half) & (abs(y) <= half / 3)
    return across | ((abs(y) <= half) & (abs(x) <= half / 3))


def supersampled(batch, i, factor=16):
    """The i-th scene by counting points, with `factor` squared points a pixel."""
    side = scenes.SIDE * factor
    grid = (np.arange(side) + 0.5) / factor
    image = np.full((scenes.SIDE, scenes.SIDE, 3), list(scenes.BACKGROUNDS.values())[batch.background[i]], float)
    for slot in range(2 if batch.layout[i] else 1):
        x, y = grid[None, :] - batch.centre[i, slot, 0], grid[:, None] - batch.centre[i, slot, 1]
        hit = inside(scenes.SHAPES[batch.shape[i, slot]], x, y, batch.width[i, slot])
        share = hit.reshape(scenes.SIDE, factor, scenes.SIDE, factor).mean((1, 3))[..., None]
        image += share * (np.array(list(scenes.COLOURS.values())[batch.colour[i, slot]]) - image)
    return image


def test_rendering_agrees_with_counting_points():
    batch = scenes.draw(40, 21)
    ours = scenes.render(batch)
    assert ours.shape == (40, 64, 64, 3)
    assert ours.dtype == np.uint8
    assert set(batch.shape[:, 0]) == set(range(len(scenes.SHAPES)))
    for i in range(len(batch)):
        exact = supersampled(batch, i)
        span = np.abs(exact - exact[0, 0]).max()
        difference = np.abs(ours[i] - exact) / span
        # A distance clipped to half a pixel is within 0.043 of the covered share along a straight edge (at 45
        # degrees), counting is within 1 / 32, rounding and curvature add 0.01; more only where two edges or outlines
        # meet in one pixel, which few pixels are: at most 12 corners an object.
        assert difference.mean() < 0.002
        assert np.mean(difference.max(-1) > 0.085) < 24 / 64**2
        assert difference.max() < 0.5
    # Antialiased: outlines have shades in between, elsewhere colours are pure.
    shades = (ours[:1] != ours[0, 0, 0]).any(-1) & (
        ours[:1] != np.array(list(scenes.COLOURS.values()))[batch.colour[0, 0]]
    ).any(-1)
    assert shades.any()


def test_colours_are_exact_at_the_middle_of_objects(batch):
    images = scenes.render(batch)
    solid = np.flatnonzero(batch.shape[:, 0] != scenes.SHAPES.index("ring"))
    x, y = np.floor(batch.centre[solid, 0]).astype(int).T
    colours = np.array(list(scenes.COLOURS.values()))[batch.colour[solid, 0]]
    np.testing.assert_array_equal(images[solid, y, x], colours)


def logits_of(truth):
    parts = [
        np.where(truth[head][:, None] == np.arange(len(values)), 5.0, 0.0) for head, values in scenes.HEADS.items()
    ]
    return np.concatenate(parts, axis=1)


def test_judge_accepts_the_truth_and_finds_each_single_error(batch):
    sentences, truth = scenes.captions(batch), scenes.labels(batch)
    assert scenes.judge(sentences, logits_of(truth))["all"].all()
    asked = scenes.request(sentences)
    groups = {"layout": "place", "column": "place", "row": "place", "background": "background"}
    for head, values in scenes.HEADS.items():
        wrong = truth | {head: (truth[head] + 1) % len(values)}
        verdict = scenes.judge(sentences, logits_of(wrong))
        said = asked[head] >= 0
        group = groups.get(head, head[:-2])
        np.testing.assert_array_equal(verdict[group], ~said, err_msg=head)
        np.testing.assert_array_equal(verdict["all"], ~said, err_msg=head)
        for other in verdict.keys() - {group, "all"}:
            assert verdict[other].all()


def test_judge_refuses_logits_that_do_not_fit(batch):
    sentences = scenes.captions(batch[:2])
    with pytest.raises(ValueError, match=r"\(3, 43\)"):
        scenes.judge(sentences, np.zeros((3, 43)))
    bad = np.zeros((2, 43))
    bad[1, 3] = np.nan
    with pytest.raises(ValueError, match=r"logits\[1\]"):
        scenes.judge(sentences, bad)
