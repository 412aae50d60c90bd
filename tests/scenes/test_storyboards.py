"""Storyboards: exact answers, refusals, and what drawing promises."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinfer import scenes
from edgeinfer.scenes import storyboards as sb
from edgeinfer.scenes.storyboards.tokens import POSITIONS_NEEDED

PAIR = "a red circle above a small blue square at the left on white"
ROW = "a large red ring left of a small blue ring at the top"
ONE = "a green cross at the top left"


def told(sentences):
    """The last table, without its number."""
    board = sb.follow(sentences)
    return " ".join(sb.table(board.frames[-1], len(board.frames), board.sources[-1])[1:])


ANSWERS = [
    ([PAIR], "- vertical white - left - red circle small blue square"),
    ([PAIR, "make the red one pink"], "1 vertical white - left - pink circle small blue square"),
    ([PAIR, "change the size of the bottom square to large"], "1 vertical white - left - red circle large blue square"),
    ([PAIR, "turn the circle into a cross"], "1 vertical white - left - red cross small blue square"),
    ([PAIR, "put the circle below the square"], "1 vertical white - left small blue square - red circle"),
    ([PAIR, "put the circle left of the other one"], "1 horizontal white - - - red circle small blue square"),
    ([PAIR, "move both to the middle"], "1 vertical white - middle - red circle small blue square"),
    ([ROW, "move both to the middle"], "1 horizontal - middle - large red ring small blue ring"),
    ([PAIR, "swap the colours"], "1 vertical white - left - blue circle small red square"),
    ([PAIR, "exchange the shapes"], "1 vertical white - left - red square small blue circle"),
    ([ROW, "let both swap sizes"], "1 horizontal - top - small red ring large blue ring"),
    ([PAIR, "swap the places"], "1 vertical white - left small blue square - red circle"),
    ([PAIR, "remove the bottom one"], "1 one white - left - red circle - - -"),
    ([PAIR, "keep only the blue one"], "1 one white - left small blue square - - -"),
    ([ROW.replace("top", "middle"), "take the left one away"], "1 one - - - small blue ring - - -"),
    ([ONE, "move it to the bottom"], "1 one - bottom left - green cross - - -"),
    ([ONE, "put it at the middle"], "1 one - middle middle - green cross - - -"),
    ([ONE, "add a red ring above it"], "1 vertical - - left - red ring - green cross"),
    ([ONE, "add a large red ring right of the cross"], "1 horizontal - top - - green cross large red ring"),
    ([ONE, "Let the background be BLACK"], "1 one black top left - green cross - - -"),
    # Pronouns: the object last referred to, which goes along with its place.
    ([PAIR, "make the circle pink", "make it large"], "2 vertical white - left large pink circle small blue square"),
    (
        [PAIR, "make the circle pink", "make the other one large", "make it a ring"],
        "3 vertical white - left - pink circle large blue ring",
    ),
    (
        [PAIR, "make the circle pink", "swap the places", "make it large"],
        "3 vertical white - left small blue square large pink circle",
    ),
    (
        [PAIR, "put the square above the circle", "make it a ring"],
        "2 vertical white - left small blue ring - red circle",
    ),
    ([PAIR, "remove the circle", "make it pink"], "2 one white - left small pink square - - -"),
    # Undo is a stack; going back and "as in" lie on it like other edits.
    ([ONE, "make it red", "make it blue", "undo", "undo"], "1 one - top left - green cross - - -"),
    ([ONE, "make it red", "undo", "make it pink", "undo that"], "1 one - top left - green cross - - -"),
    ([ONE, "make it red", "make it blue", "back to picture 1", "undo"], "3 one - top left - blue cross - - -"),
    (
        [PAIR, "on black", "as in picture 1 but swap the colours"],
        "1 vertical white - left - blue circle small red square",
    ),
    (
        [PAIR, "remove the circle", "like picture 1 but make the red one pink", "make it large"],
        "3 vertical white - left large pink circle small blue square",
    ),
    ([ONE, "as in picture 1 but on black", "take that back"], "1 one - top left - green cross - - -"),
]


@pytest.mark.parametrize(("sentences", "answer"), ANSWERS)
def test_answers(sentences, answer):
    assert told(sentences) == answer


REFUSED = [
    ([PAIR, "make it pink"], "nothing to refer to"),
    ([], "caption and at most 7"),
    ([ONE] + ["make it red", "undo"] * 4, "caption and at most 7"),
    (ONE, "list of sentences"),
    (["make it red"], "caption 'make it red'"),
    ([ONE, "make it grene"], "sentence 2: word 'grene' .* the nearest are 'green'"),
    ([ONE, "make it <end>"], "'<end>' .* is not known"),
    ([ONE, "paint it at the top"], "no edit: must be like 'paint REF COLOUR'"),
    ([ONE, "the red one"], "no edit: must be like 'add ...' or"),
    ([ONE, "make it green"], "sentence 2, 'make it green': it changes nothing"),
    ([ONE, "remove it"], "last object cannot be removed"),
    ([ONE, "undo"], "nothing to undo"),
    ([ONE, "make it red", "undo", "undo"], "sentence 4, 'undo': there is nothing to undo"),
    ([ONE, "back to picture 3"], "no picture 3 yet"),
    ([ONE, "make it red", "back to picture 2"], "changes nothing"),
    ([ONE, "make it red", "as in picture 1 but make it red"], "changes nothing"),
    ([ONE, "make the ring red"], "'the ring' is not in the picture"),
    ([ONE, "make the other one red"], "nothing to refer to"),
    ([ONE, "add a green ring above it"], "different colours"),
    ([ONE, "swap the colours"], "no two objects"),
    ([ONE, "move both to the top"], "no two objects"),
    ([ROW, "make the ring pink"], "may be either"),
    ([PAIR, "make the left one pink"], "not in the picture"),
    ([PAIR, "make the top square pink"], "not in the picture"),
    ([PAIR.replace("circle", "square"), "make the small square pink"], "size of one is not said"),
    ([PAIR, "make the circle blue"], "different colours"),
    ([PAIR, "swap the sizes"], "one is not said"),
    ([ROW, "swap the shapes"], "changes nothing"),
    ([PAIR, "add a pink ring above it"], "two objects already"),
    ([PAIR, "move the circle to the left"], "cannot be moved alone"),
    ([PAIR, "move both to the top"], "no row of their own"),
    ([PAIR, "put the circle below the red one"], "same object"),
    ([PAIR, "make the circle pink", "undo", "make it large"], "nothing to refer to"),
]


@pytest.mark.parametrize(("sentences", "reason"), REFUSED)
def test_refusals(sentences, reason):
    with pytest.raises(ValueError, match=reason):
        sb.follow(sentences)


def changed(before, after):
    """The columns of a table that differ."""
    rows = [sb.table(frame, 1, None)[2:] for frame in (before, after)]
    return {name for name, a, b in zip(sb.TABLE[2:], *rows, strict=True) if a != b}


def things(frame):
    return Counter(frame.things)


def columns(frame):
    return zip(*frame.things, strict=True)


#: What a kind of edit must leave of the frame it is made from, said apart from the rules that make it.
KEPT = {
    "recolour": lambda a, b: changed(a, b) == {"colour"},
    "resize": lambda a, b: changed(a, b) == {"size"},
    "reshape": lambda a, b: changed(a, b) == {"shape"},
    "move": lambda a, b: changed(a, b) <= {"row", "column"},
    "move both": lambda a, b: len(changed(a, b) & {"row", "column"}) == 1 and a.things == b.things,
    "relate": lambda a, b: things(a) == things(b) and a.background == b.background,
    "swap": lambda a, b: all(Counter(x) == Counter(y) for x, y in zip(columns(a), columns(b), strict=True)),
    "add": lambda a, b: things(a) < things(b) and len(b.things) == 2,
    "remove": lambda a, b: things(b) < things(a) and len(b.things) == 1,
    "keep": lambda a, b: things(b) < things(a) and len(b.things) == 1,
    "background": lambda a, b: changed(a, b) == {"background"},
    "undo": lambda a, b: a == b,
    "back": lambda a, b: a == b,
    "as in": lambda a, b: a != b,
}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), held=st.sampled_from((None, "objects", "forms")))
def test_drawn_storyboards(seed, held):
    """Read again they are the same; each edit does what its kind may; tables, captions and scenes say the frame."""
    for board in sb.draw(10, seed, held=held):
        assert sb.follow(board.sentences) == board
        for number, (frame, source, kind) in enumerate(
            zip(board.frames[1:], board.sources[1:], board.kinds, strict=True), 2
        ):
            assert KEPT[kind](board.frames[source - 1], frame), (kind, board)
            assert sb.read_table(sb.table(frame, number, source)) == (number, source, frame)
            assert frame != board.frames[number - 2]
        assert [sb.follow([sb.describe(frame)]).frames[0] for frame in board.frames] == list(board.frames)
        numbers = sb.answer(board.frames, board.sources)
        words = [sb.WORDS[number] for number in numbers]
        assert words[-1] == "<end>" and len(words) == 12 * len(board.frames) + 1
        assert sb.read_answer(words[:-1]) == list(zip(board.frames, board.sources, strict=True))
        asked = [sb.WORDS[number] for number in sb.prompt(board.sentences)]
        assert len(asked) + len(words) <= POSITIONS_NEEDED
        assert " ".join(asked) == " ".join(f"{k} {said}" for k, said in enumerate(board.sentences, 1)) + " <go>"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_undo_undoes_each_edit(seed):
    (board,) = sb.draw(1, seed, frames=7)
    for end in range(2, 8):
        if board.kinds[end - 2] != "undo":
            assert sb.follow([*board.sentences[:end], "undo"]).frames[-1] == board.frames[end - 2]


def test_rendered_frames_show_what_is_said():
    """The referee, which knows nothing of storyboards, finds every caption in its picture."""
    for seed, board in enumerate(sb.draw(12, 3, frames=6)):
        drawn = sb.to_scenes(board.frames, seed)
        right = scenes.score([sb.describe(frame) for frame in board.frames], scenes.measure(scenes.render(drawn)))
        assert right["all"].all(), board


def test_unsaid_things_stay_from_frame_to_frame():
    board = sb.follow(["a red ring", "make it blue", "add a pink cross above it", "undo"])
    drawn = sb.to_scenes(board.frames, 8)
    assert len(set(drawn.background.tolist())) == 1 and len(set(drawn.size[drawn.shape >= 0].tolist())) == 1
    assert (drawn.centre[[1, 3], 0] == drawn.centre[0, 0]).all()


def test_what_is_held_out():
    single = [sb.Thing(colour, shape) for colour, shape in itertools.product(scenes.COLOURS, scenes.SHAPES)]
    pairs = [pair for pair in itertools.combinations(single, 2) if pair[0].colour != pair[1].colour]
    assert (sum(sb.held_out((thing,)) for thing in single), len(single)) == (2, 40)
    assert (sum(map(sb.held_out, pairs)), len(pairs)) == (25, 700)
    assert all(sb.held_out(pair) == sb.held_out((pair[1]._replace(size="large"), pair[0])) for pair in pairs)
    # A held-out form has no word that training does not show in another one.
    seen = {word for form in sb.FORMS if not form.held for word in form.words}
    assert {word for form in sb.FORMS if form.held for word in form.words} <= seen
    assert {form.kind for form in sb.FORMS if form.held} == {form.kind for form in sb.FORMS} == set(sb.KINDS)


def test_drawing_keeps_to_what_is_held_out():
    boards = sb.draw(400, 11)
    assert not any(sb.held_out(frame.things) for board in boards for frame in board.frames)
    assert not any(flag for board in boards for flag in board.held)
    assert {len(board.frames) for board in boards} == set(range(2, 9))
    assert {kind for board in boards for kind in board.kinds} == set(sb.KINDS)
    assert all(sb.held_out(board.frames[0].things) for board in sb.draw(50, 11, held="objects"))
    assert all(any(board.held) for board in sb.draw(50, 11, frames=2, held="forms"))
    assert max(len(board.frames) for board in sb.draw(100, 11, most=4)) == 4
    assert sb.draw(20, 5) == sb.draw(20, 5) != sb.draw(20, 6)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"n": 1, "frames": 9}, {"n": 1, "most": 1}, {"n": 1, "held": "words"}])
def test_drawing_refuses(wrong):
    with pytest.raises(ValueError, match=f"{list(wrong)[-1]} = "):
        sb.draw(**wrong)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("1 - one white - - - red", "8 words"),
        ("1 - one pink - - - red ring - - -", "background = 'pink'"),
        ("2 - one white - - - red ring - - -", "number = 2: must be 1"),
        ("1 1 one white - - - red ring - - -", "source = 1: must be -"),
        ("1 - vertical white - - - red ring - - -", "must have 2 objects"),
        ("1 - one white - - - red - - - -", "a colour and a shape"),
        ("1 - vertical white - - - red ring - red ring", "different colours"),
        ("1 - vertical white top - - red ring - blue ring", "no row"),
        ("1 - one white middle - - red ring - - -", "middle on one axis"),
    ],
)
def test_wrong_tables_are_refused(words, reason):
    with pytest.raises(ValueError, match=f"table 1: .*{reason}"):
        sb.read_answer(words.split())


def test_the_longest_storyboard_has_room():
    """The longest caption, and the longest sentence of each form seven times."""
    longest = {"REF": 5, "SECOND": 5, "PLACE": 2, "RELATION": 2, "THING": 4}
    plain = [sum(longest.get(part, 1) for part in form.words) for form in sb.FORMS if form.kind != "as in"]
    around = [len(form.words) - 1 for form in sb.FORMS if form.kind == "as in"]
    assert 1 + scenes.LENGTH + 7 * (1 + max(around) + max(plain)) + 1 + 8 * 12 + 1 <= POSITIONS_NEEDED
