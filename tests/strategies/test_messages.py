"""Messages as bytes: what comes back, what is too long, and what is refused by its name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinfer import scenes
from edgeinfer.strategies import (
    Finding,
    Findings,
    Latent,
    Message,
    Picture,
    Place,
    Plan,
    Request,
    Seed,
    Table,
    Verdict,
)
from edgeinfer.strategies.bodies import BODIES
from edgeinfer.strategies.messages import HEADER_BYTES, ROLES

RNG = np.random.default_rng(1)
PIXELS = RNG.integers(0, 256, (64, 64, 3), np.uint8)
TABLE = Table.of_caption("a red circle above a small blue square at the left on white")
PLACED = TABLE.replace(places=[Place(17, 12.25, 28), Place(17.5, 44, 19)])
LATENT = Latent(RNG.uniform(-1, 1, (3, 16, 16)).astype(np.float32))
ONE_OF_EACH = (
    Request("make the left square green", PIXELS, 2**56 - 1, 255, 1),
    Plan((TABLE, PLACED)),
    Seed(PLACED, 2**56 - 1),
    LATENT,
    Picture(PIXELS),
    Findings((Finding("shape_b", -1, 4), Finding("row", 0, 2)), -1.5),
    Verdict(2, True, (0.5, -1.0)),
)


def equal(one, other):
    if isinstance(one, Latent):
        return one.bits == other.bits and np.abs(one.values - other.values).max() <= 1 / (2**one.bits - 1) + 1e-6
    if isinstance(one, Picture):
        return np.array_equal(one.pixels, other.pixels)
    if isinstance(one, Request):
        same = (one.text, one.noise, one.prior_steps, one.decode_steps)
        images = [each.image for each in (one, other) if each.image is not None]
        return same == (other.text, other.noise, other.prior_steps, other.decode_steps) and (
            len(images) != 1 and all(np.array_equal(images[0], image) for image in images)
        )
    return one == other


def test_every_kind_is_tried():
    assert [type(body) for body in ONE_OF_EACH] == list(BODIES)


@pytest.mark.parametrize("body", ONE_OF_EACH, ids=lambda body: body.kind)
def test_what_is_written_is_read(body):
    message = Message(body, "checker", "edge", 2, 3, 12.34)
    data = message.to_bytes()
    read = Message.from_bytes(data)
    assert equal(body, read.body) and read.body.to_bytes() == body.to_bytes()
    assert (read.role, read.place, read.round, read.rounds) == ("checker", "edge", 2, 3)
    assert 12.33 - 1e-9 <= read.left <= 12.34
    assert len(data) == HEADER_BYTES + len(body.to_bytes()) <= HEADER_BYTES + body.limit


@pytest.mark.parametrize("body", ONE_OF_EACH, ids=lambda body: body.kind)
def test_a_changed_bit_is_noticed(body):
    """By the checksum; in a latent only where it is the header or the layout that changed."""
    data = Message(body, "painter").to_bytes()
    bits = 8 * (HEADER_BYTES if isinstance(body, Latent) else len(data))
    for bit in RNG.permutation(bits)[:300].tolist():
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError):
            Message.from_bytes(bytes(changed))


def test_a_latent_outlives_a_changed_bit():
    data = bytearray(Message(LATENT, "mapper").to_bytes())
    data[-1] ^= 0x80  # of the lowest bits
    assert (
        np.sum(
            Message.from_bytes(bytes(data)).body.values
            != Message.from_bytes(Message(LATENT, "mapper").to_bytes()).body.values
        )
        == 1
    )


@given(st.binary(max_size=80), st.sampled_from(range(9)))
def test_nonsense_is_refused(data, kind):
    """Whatever comes, it is a message or a ValueError; with a right header, too."""
    import struct

    from edgeinfer.strategies.messages import _HEADER, _checksum

    head = (1, kind, 1, 1, 1, len(data), 5)
    body = BODIES[kind - 1] if 1 <= kind <= len(BODIES) else BODIES[0]
    whole = _HEADER.pack(*head, _checksum(_HEADER.pack(*head, 0), body, data)) + data
    for sent in (data, whole):
        try:
            Message.from_bytes(sent)
        except ValueError as error:
            assert str(error)
        except struct.error:
            pytest.fail("unpacked beyond its end")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({0: 2}, "version 2: must be 1"),
        ({1: 99}, r"kind 99: must be in \[1, 7\]"),
        ({5: 255, 6: 255}, "seed of 65535 bytes: must be at most 18"),
    ],
)
def test_a_header_is_refused_by_name(change, named):
    data = bytearray(Message(Seed(TABLE), "interpreter").to_bytes())
    for place, value in change.items():
        data[place] = value
    with pytest.raises(ValueError, match=named):
        Message.from_bytes(bytes(data))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Message(Seed(TABLE), "boss"), "role = 'boss': must be one of"),
        (lambda: Message(Seed(TABLE), "judge", round=3, rounds=2), r"round = 3: must be in \[1, 2\]"),
        (lambda: Message(Seed(TABLE), "judge", left=700), r"left = 700: must be in \[0, 655\]"),
        (lambda: Seed(TABLE, 2**56), r"noise = .*: must be in \[0, 2\*\*56\)"),
        (lambda: Seed(TABLE, 0, 256), r"prior_steps = 256: must be a whole number in \[1, 255\]"),
        (lambda: Request(""), "text = 0 characters"),
        (lambda: Request("x" * 1025), "text = 1025 characters"),
        (lambda: Picture(PIXELS[:32]), "pixels = uint8"),
        (lambda: Latent(np.zeros((3, 8, 8), np.float32)), "values = float32"),
        (lambda: Latent(np.full((3, 16, 16), np.nan, np.float32)), "values: must be finite"),
        (lambda: Latent(LATENT.values, 9), r"bits = 9: must be a whole number in \[1, 8\]"),
        (lambda: Plan((TABLE,) * 9), "tables: 9 of them: must be 1 to 8"),
        (lambda: Finding("row", 3, 0), r"row seen = 3: must be in \[-1, 2\]"),
        (lambda: Verdict(0, True, (0.0,) * 17), "scores: 17 of them: must be at most 16"),
        (lambda: Verdict(256, True), r"chosen = 256: must be a whole number in \[0, 255\]"),
    ],
)
def test_contents_are_refused_by_name(make, named):
    with pytest.raises(ValueError, match=named):
        make()


def test_a_picture_of_another_size_is_not_decoded():
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (4000, 4000)).save(file, format="PNG")
    with pytest.raises(ValueError, match="picture"):
        Picture.from_bytes(file.getvalue()[:13000])


def test_payloads():
    """A seed with places and steps, its header too, in 32 bytes; a latent in a sixteenth of the raw picture."""
    assert len(Message(Seed(PLACED, 2**56 - 1, 255, 255), "interpreter").to_bytes()) <= 32
    assert len(Message(LATENT, "mapper").to_bytes()) <= 64 * 64 * 3 / 16
    assert len(PLACED.to_bytes()) == 9 and len(TABLE.to_bytes()) == 3


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("side", [16, 32])
def test_latents_keep_their_bits(bits, side):
    values = RNG.uniform(-1.2, 1.2, (3, side, side)).astype(np.float32)
    read = Latent.from_bytes(Latent(values, bits).to_bytes()).values
    assert np.abs(read - np.clip(values, -1, 1)).max() <= 1 / (2**bits - 1) + 1e-6
    assert len(np.unique(read)) <= 2**bits


@pytest.mark.parametrize("side", [16, 32])
def test_a_latent_that_was_cut_off(side):
    """Of whole bits each value is as near as they say: with none of them all are in the middle."""
    values = RNG.uniform(-1, 1, (3, side, side)).astype(np.float32)
    data, plane = Latent(values, 6).to_bytes(), 3 * side**2 // 8
    np.testing.assert_array_equal(Latent.from_prefix(data).values, Latent.from_bytes(data).values)
    for planes in range(7):
        come = Latent.from_prefix(data[: 2 + planes * plane])
        assert np.abs(come.values - values).max() <= (2 ** (6 - planes) - 1) / 63 + 1 / 63 + 1e-6
    half = Latent.from_prefix(data[: 2 + plane // 2]).values.ravel()
    first, second = np.split(np.abs(half - values.ravel()), 2)
    assert first.max() <= 0.53 and second.max() > 0.9 and not half[values.size // 2 :].any()
    with pytest.raises(ValueError, match="latent: 40 bytes: must be"):
        Latent.from_bytes(data[:40])


def test_tables_of_all_scenes():
    drawn = scenes.draw(300, 2)
    for caption in scenes.captions(drawn):
        table = Table.of_caption(caption)
        assert Table.from_bytes(table.to_bytes()) == table
        # Object a comes first in a table, whichever the caption named first.
        assert Table.of_caption(table.caption) == table


def test_a_table_draws_what_it_was_read_from():
    drawn = scenes.draw(100, 3)
    pictures, classes = scenes.render(drawn), scenes.labels(drawn)
    for i in range(100):
        places = [Place(*drawn.centre[i, slot], drawn.width[i, slot]) for slot in range(1 + (drawn.layout[i] > 0))]
        table = Table({head: int(values[i]) for head, values in classes.items()}, places)
        np.testing.assert_array_equal(table.render(), pictures[i])
        rounded = Table.from_bytes(table.to_bytes())
        assert rounded.heads == table.heads
        for one, other in zip(rounded.places, places, strict=True):
            assert max(abs(one.x - other.x), abs(one.y - other.y), abs(one.width - other.width)) <= 0.125


@pytest.mark.parametrize(
    ("heads", "named"),
    [
        ({"layout": 0, "shape_a": 1, "colour_a": 9}, r"colour_a = 9: must be in \[-1, 7\]"),
        ({"layout": 0, "shape_a": 1, "colour_a": -1}, "colour_a = -1: must be said"),
        ({"layout": 0, "shape_a": 1, "colour_a": 1, "shape_b": 1}, "shape_b = 1: must be -1, nothing is there"),
        ({"layout": 1, "shape_a": 1, "colour_a": 1, "shape_b": 1, "colour_b": 0, "column": 0}, "column = 0: must be"),
        ({"shape_a": 1, "colour_a": 1}, "layout = -1: must be said"),
        ({"layout": 0, "hue": 1}, "heads = .'hue'.: must be among"),
    ],
)
def test_tables_are_refused_by_name(heads, named):
    with pytest.raises(ValueError, match=named):
        Table(heads)


def test_numbers_of_roles_stand():
    """They are in messages that others wrote."""
    assert ROLES[:8] == ("user", "interpreter", "planner", "painter", "mapper", "checker", "judge", "arbiter")
