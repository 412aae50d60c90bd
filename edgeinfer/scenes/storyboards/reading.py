"""Storyboards followed by rule: the exact answer that a planner is judged by."""

from __future__ import annotations

from collections.abc import Sequence

from edgeinfer.scenes.storyboards.drawing import Storyboard
from edgeinfer.scenes.storyboards.edits import Edit, begin, step
from edgeinfer.scenes.storyboards.forms import Form, read_edit
from edgeinfer.scenes.storyboards.frames import NUMBERS, read_caption
from edgeinfer.scenes.storyboards.tokens import known


def split(text: str) -> list[str]:
    """The sentences of a text, which full stops, semicolons or line ends part.

    Examples
    --------
    >>> split("A red ring. Make it blue; undo")
    ['A red ring', 'Make it blue', 'undo']
    """
    for mark in ";\n":
        text = text.replace(mark, ".")
    return [sentence.strip() for sentence in text.split(".") if sentence.strip()]


def checked(sentences: Sequence[str]) -> list[str]:
    """The sentences of a storyboard in lower case, a space between words.

    Raises
    ------
    ValueError
        For none or more than 8; naming the sentence, for a word that is not known, with the nearest that are.
    """
    if isinstance(sentences, str):
        raise ValueError(f"sentences = {sentences!r}: must be a list of sentences, as `split` makes of a text")
    if not 1 <= len(sentences) <= len(NUMBERS):
        raise ValueError(
            f"sentences = {len(sentences)} of them: must be a caption and at most {len(NUMBERS) - 1} edits"
        )
    said = []
    for number, sentence in enumerate(sentences, 1):
        try:
            said.append(" ".join(known(sentence)))
        except ValueError as error:
            raise ValueError(f"sentence {number}: {error}") from None
    return said


def _held(sentence: str, edit: Edit, form: Form) -> bool:
    if form.held or any(reference.held for reference in (edit.reference, edit.second) if reference):
        return True
    inner = sentence.partition(" but ")[2]
    return edit.edit is not None and _held(inner, *read_edit(inner.split()))


def follow(sentences: Sequence[str]) -> Storyboard:
    """Work out a storyboard exactly.

    Parameters
    ----------
    sentences : sequence of str
        A caption and at most 7 edits.

    Returns
    -------
    Storyboard

    Raises
    ------
    ValueError
        Naming the sentence and the reason: no caption, no known form of an edit, an unknown word (with the nearest), a
        reference to no object or to either, an edit that changes nothing, two objects of one colour, no such picture,
        nothing to undo, too many sentences.

    Examples
    --------
    >>> from edgeinfer.scenes.storyboards import table
    >>> board = follow(["a red ring on white", "add a blue cross below it", "swap the colours", "undo"])
    >>> [" ".join(table(frame, k, source)) for k, (frame, source) in enumerate(zip(board.frames, board.sources), 1)][2:]
    ['3 2 vertical white - - - blue ring - red cross', '4 2 vertical white - - - red ring - blue cross']
    >>> follow(["a red ring", "make it red"])
    Traceback (most recent call last):
    ...
    ValueError: sentence 2, 'make it red': it changes nothing
    """
    said = checked(sentences)
    history = begin(read_caption(said[0]))
    kinds: list[str] = []
    held: list[bool] = []
    for number, sentence in enumerate(said[1:], 2):
        try:
            edit, form = read_edit(sentence.split())
            history = step(history, edit)
        except ValueError as error:
            raise ValueError(f"sentence {number}, {sentence!r}: {error}") from None
        kinds.append(edit.kind)
        held.append(_held(sentence, edit, form))
    return Storyboard(tuple(said), history.frames, history.sources, tuple(kinds), tuple(held))
