"""The referee that is not learned: right on true renderings, and finding what is wrong with others."""

import dataclasses
import os

import numpy as np
import pytest

from edgeinfer import scenes

# The whole tables of 3,000 renderings are right but for 0.1 %, one-sided 95 %, if all of them are: 0.999^3000 < 0.05.
COUNT = 3000 if os.environ.get("EDGEINFER_FUZZ") == "1" else 200


def test_true_renderings_are_read_and_measured():
    drawn = scenes.draw(COUNT, 77, held=True)
    seen = scenes.measure(scenes.render(drawn))
    read = seen.labels()
    for head, truth in scenes.labels(drawn).items():
        np.testing.assert_array_equal(read[head][truth >= 0], truth[truth >= 0], err_msg=head)
    there = drawn.shape >= 0
    np.testing.assert_array_equal(np.isnan(seen.width), ~there)
    # The last step of the fit is 0.1 px along each axis; a pixel's share and its rounding add less than that.
    assert np.abs(seen.centre - drawn.centre)[there].max() < 0.15
    assert np.abs(seen.width - drawn.width)[there].max() < 0.2
    assert seen.overlap[there].min() > 0.98
    assert scenes.score(scenes.captions(drawn), seen, least_overlap=0.8)["all"].all()


@pytest.fixture(scope="module")
def drawn():
    return scenes.draw(40, 5)


@pytest.mark.parametrize("attribute", ["colour", "shape", "size", "background"])
def test_one_wrong_attribute_is_found(drawn, attribute):
    """Rendered with the next class of one attribute, what captions ask of it is wrong, and nothing else is."""
    classes = {"colour": 8, "shape": 5, "size": 2, "background": 4}[attribute]
    value = getattr(drawn, attribute)
    wrong = dataclasses.replace(drawn, **{attribute: np.where(value >= 0, (value + 1) % classes, -1)})
    if attribute == "size":
        middle = sum(scenes.WIDTHS) / 2
        wrong = dataclasses.replace(wrong, width=2 * middle - drawn.width)
    found = scenes.score(scenes.captions(drawn), scenes.measure(scenes.render(wrong)))
    says = {"size": (drawn.says_size & (value >= 0)).any(1) if attribute == "size" else None}.get(attribute)
    says = drawn.says_background if attribute == "background" else np.ones(40, bool) if says is None else says
    np.testing.assert_array_equal(found[attribute], ~says)
    for other in {"colour", "shape", "background"} - {attribute}:
        assert found[other].all(), other


def test_objects_that_are_missing_doubled_or_too_many_are_counted(drawn):
    images = scenes.render(drawn)
    one, two = (np.flatnonzero(kind)[:10] for kind in (drawn.layout == 0, drawn.layout > 0))
    grounds = np.array(list(scenes.BACKGROUNDS.values()), np.uint8)[drawn.background]
    empty = np.broadcast_to(grounds[:, None, None], images.shape).copy()
    assert (scenes.measure(empty[one]).count == 0).all()
    assert not scenes.score([scenes.captions(drawn)[k] for k in one], scenes.measure(empty[one]))["all"].any()
    # A third object: a square of 7 px in the corner that is farthest from all.
    more = images[two].copy()
    corners = np.array([(5, 5), (58, 5), (5, 58), (58, 58)])
    for image, k in zip(more, two, strict=True):
        gap = np.linalg.norm(corners[:, None] - drawn.centre[k], axis=-1) - drawn.width[k] * 0.75
        x, y = corners[gap.min(1).argmax()]
        image[y - 3 : y + 4, x - 3 : x + 4] = scenes.COLOURS["cyan" if drawn.colour[k, 0] != 6 else "red"]
    assert (scenes.measure(more).count == 3).all()
    assert (scenes.measure(more).labels()["layout"] == -1).all()
    # Of a pair's halves exchanged, a stands where b stood.
    side = images[drawn.layout == 1]
    turned = scenes.score(
        [s for s, k in zip(scenes.captions(drawn), drawn.layout, strict=True) if k == 1],
        scenes.measure(side[:, :, ::-1]),
    )
    assert not turned["colour"].any()


def test_outlines_that_are_half_gone_do_not_pass_the_strict_count():
    drawn = scenes.draw(20, 8, layout="fixed")
    drawn = drawn[drawn.layout == 0]
    images, ground = scenes.render(drawn), np.array(list(scenes.BACKGROUNDS.values()), np.uint8)
    for k, image in enumerate(images):
        x, y = drawn.centre[k, 0].astype(int)
        image[y:, x:] = ground[drawn.background[k]]
    seen = scenes.measure(images)
    assert not scenes.score(scenes.captions(drawn), seen, least_overlap=0.8)["all"].any()
    assert (seen.overlap[:, 0] < 0.8).all()


def test_faint_noise_and_soft_edges_do_not_disturb():
    drawn = scenes.draw(40, 12)
    images = scenes.render(drawn).astype(float)
    # Normal noise of 8 of 255 is below every threshold by five standard deviations, and fades with the area.
    noisy = np.clip(images + np.random.default_rng(1).normal(0, 8, images.shape), 0, 255).astype(np.uint8)
    seen = scenes.measure(noisy)
    there = drawn.shape >= 0
    assert scenes.score(scenes.captions(drawn), seen, least_overlap=0.8)["all"].all()
    assert np.abs(seen.centre - drawn.centre)[there].max() < 0.5
    assert np.abs(seen.width - drawn.width)[there].max() < 1


def test_what_cannot_be_scored_is_refused(drawn):
    images = scenes.render(drawn[:2])
    with pytest.raises(ValueError, match="images of type float64"):
        scenes.measure(images.astype(float))
    with pytest.raises(ValueError, match="images of type uint8 and shape"):
        scenes.measure(images[:, :32])
    with pytest.raises(ValueError, match="sentences of length 1: must be 2"):
        scenes.score(["a red circle"], scenes.measure(images))
    with pytest.raises(ValueError, match="least_overlap"):
        scenes.score(["a red circle"] * 2, scenes.measure(images), least_overlap=1.5)
