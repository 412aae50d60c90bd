"""Sentence forms of edits: how they are read and written. Some are held out of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from edgeinfer.scenes.storyboards.edits import EDITS, POSITIONS, RELATIONS, SWAPPED, Edit, Reference
from edgeinfer.scenes.storyboards.frames import NUMBERS, Thing
from edgeinfer.scenes.words import BACKGROUNDS, COLOURS, COLUMNS, ROWS, SHAPES, SIZES


class Form(NamedTuple):
    """One way to say a kind of edit.

    Attributes
    ----------
    kind : str
    words : tuple of str
        Words, and slots in capitals.
    held : bool
        Whether it is held out of training: each of its words is in other forms, but not where it is here.
    """

    kind: str
    words: tuple[str, ...]
    held: bool


_SEEN = {
    "recolour": "make REF COLOUR | paint REF COLOUR | turn REF COLOUR | change the colour of REF to COLOUR",
    "resize": "make REF SIZE | let REF be SIZE | change the size of REF to SIZE",
    "reshape": "make REF a SHAPE | turn REF into a SHAPE | change the shape of REF to a SHAPE",
    "move": "move REF to the PLACE | put REF at the PLACE",
    "move both": "move both to the PLACE | put both at the PLACE",
    "relate": "put REF RELATION SECOND | move REF RELATION SECOND",
    "swap": "swap the SWAPPED | exchange the SWAPPED",
    "add": "add THING RELATION REF | put THING RELATION REF",
    "remove": "remove REF | take REF away",
    "keep": "keep only REF | remove all but REF",
    "background": "make the background GROUND | change the background to GROUND"
    " | let the background be GROUND | on GROUND",
    "undo": "undo | undo that | take that back",
    "back": "back to picture NUMBER | go back to picture NUMBER",
    "as in": "as in picture NUMBER but EDIT | like picture NUMBER but EDIT",
}
_HELD = {
    "recolour": "let REF be COLOUR | change REF to COLOUR",
    "resize": "turn REF SIZE",
    "reshape": "let REF be a SHAPE",
    "move": "let REF be at the PLACE",
    "move both": "let both be at the PLACE",
    "relate": "let REF be RELATION SECOND",
    "swap": "let both swap SWAPPED",
    "add": "paint THING RELATION REF",
    "remove": "put REF away",
    "keep": "take all but REF away",
    "background": "paint the background GROUND",
    "undo": "undo the change",
    "back": "go to picture NUMBER",
    "as in": "take picture NUMBER but EDIT",
}
FORMS = tuple(
    Form(kind, tuple(said.split()), held)
    for table, held in ((_SEEN, False), (_HELD, True))
    for kind, forms in table.items()
    for said in forms.split(" | ")
)
_WORD_SLOTS: Mapping[str, tuple[str, ...]] = {
    "COLOUR": tuple(COLOURS),
    "SIZE": SIZES,
    "SHAPE": SHAPES,
    "GROUND": tuple(BACKGROUNDS),
    "SWAPPED": (*SWAPPED, "places"),
    "NUMBER": NUMBERS,
}
_REFERRING = ("it", "the", "other", "one", *POSITIONS)
#: Every word that an edit may have.
EDIT_WORDS = tuple(
    dict.fromkeys(
        [
            *(word for form in FORMS for word in form.words if word.islower()),
            *(word for words in _WORD_SLOTS.values() for word in words),
            *(word for relation in RELATIONS for word in relation.split()),
            *_REFERRING,
            *ROWS,
            *COLUMNS,
            *("a", "an"),
        ]
    )
)

Read = tuple[Any, int]


def _optional(words: Sequence[str], at: int, allowed: Sequence[str]) -> tuple[str | None, int]:
    return (words[at], at + 1) if at < len(words) and words[at] in allowed else (None, at)


def _reference(words: Sequence[str], at: int) -> Read | None:
    if words[at : at + 1] == ["it"]:
        return Reference("it"), at + 1
    if words[at : at + 3] == ["the", "other", "one"]:
        return Reference("other"), at + 3
    if words[at : at + 1] != ["the"]:
        return None
    position, after = _optional(words, at + 1, tuple(POSITIONS))
    size, after = _optional(words, after, SIZES)
    colour, after = _optional(words, after, tuple(COLOURS))
    shape, after = _optional(words, after, SHAPES)
    one, after = _optional(words, after, () if shape else ("one",))
    named = shape or (one and (position or size or colour))
    return (Reference(None, position, size, colour, shape), after) if named else None


def _place(words: Sequence[str], at: int) -> Read | None:
    row, after = _optional(words, at, ROWS)
    column, after = _optional(words, after, COLUMNS)
    # "The middle" alone is that of both axes.
    if row == "middle" and column is None:
        column = "middle"
    return ((row, column), after) if row or column else None


def _relation(words: Sequence[str], at: int) -> Read | None:
    for relation in RELATIONS:
        parts = relation.split()
        if list(words[at : at + len(parts)]) == parts:
            return relation, at + len(parts)
    return None


def _thing(words: Sequence[str], at: int) -> Read | None:
    article, after = _optional(words, at, ("a", "an"))
    size, after = _optional(words, after, SIZES)
    colour, after = _optional(words, after, tuple(COLOURS))
    shape, after = _optional(words, after, SHAPES)
    return (Thing(colour, shape, size), after) if article and colour and shape else None


def _edit(words: Sequence[str], at: int) -> Read | None:
    found = next((edit for form in FORMS if form.kind in EDITS and (edit := read_form(form, words[at:]))), None)
    return found and (found, len(words))


_SLOTS: Mapping[str, Callable[[Sequence[str], int], Read | None]] = {
    "REF": _reference,
    "SECOND": _reference,
    "PLACE": _place,
    "RELATION": _relation,
    "THING": _thing,
    "EDIT": _edit,
}
_FIELDS = {"REF": "reference", "SECOND": "second", "PLACE": "place", "THING": "thing", "EDIT": "edit"}


def _matched(form: Form, words: Sequence[str]) -> tuple[dict[str, Any], int, bool]:
    """Fields of the edit, how many parts of the form fit, and whether all of it and all of the words do."""
    fields: dict[str, Any] = {}
    at = 0
    for fit, part in enumerate(form.words):
        read: Read | None
        if part in _SLOTS:
            read = _SLOTS[part](words, at)
        else:
            word, after = _optional(words, at, _WORD_SLOTS.get(part, (part,)))
            read = (word, after) if word else None
        if read is None:
            return fields, fit, False
        value, at = read
        if part == "NUMBER":
            fields["picture"] = int(value)
        elif part.isupper():
            fields[_FIELDS.get(part, "value")] = value
    return fields, len(form.words), at == len(words)


def read_form(form: Form, words: Sequence[str]) -> Edit | None:
    """The edit that words say in a form; None where they do not."""
    fields, _, whole = _matched(form, words)
    return Edit(form.kind, **fields) if whole else None


def read_edit(words: Sequence[str]) -> tuple[Edit, Form]:
    """The edit that a sentence says, and its form.

    Parameters
    ----------
    words : list of str
        In lower case.

    Raises
    ------
    ValueError
        For words that no form fits, naming those that fit longest.
    """
    for form in FORMS:
        if edit := read_form(form, words):
            return edit, form
    fits = [_matched(form, words)[1] for form in FORMS]
    near = [" ".join(form.words) for form, fit in zip(FORMS, fits, strict=True) if fit == max(fits)]
    if max(fits) == 0:
        near = [f"{word} ..." for word in sorted({form.words[0] for form in FORMS})]
    raise ValueError(f"{' '.join(words)!r} is no edit: must be like {' or '.join(map(repr, near))}")


def write_thing(thing: Thing) -> str:
    """An object with its article."""
    words = [word for word in (thing.size, thing.colour, thing.shape) if word]
    return " ".join(["an" if words[0] == "orange" else "a", *words])


def write_edit(edit: Edit, form: Form, inner: Form | None = None) -> str:
    """The sentence that says an edit in a form of its kind; `inner` is the form of what "as in" changes."""

    def said(part: str) -> str:
        match part:
            case "REF":
                return str(edit.reference)
            case "SECOND":
                return str(edit.second)
            case "PLACE":
                return " ".join(dict.fromkeys(word for word in edit.place if word))
            case "THING":
                assert edit.thing
                return write_thing(edit.thing)
            case "NUMBER":
                return str(edit.picture)
            case "EDIT":
                assert edit.edit and inner
                return write_edit(edit.edit, inner)
        return str(edit.value) if part.isupper() else part

    return " ".join(said(part) for part in form.words)
