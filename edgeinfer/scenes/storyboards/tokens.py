"""Storyboards and their answers as the words that the planner reads and writes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from edgeinfer.scenes.storyboards.forms import EDIT_WORDS
from edgeinfer.scenes.storyboards.frames import LAYOUTS, NUMBERS, TABLE, UNSAID, Frame, read_table, table
from edgeinfer.scenes.words import WORDS as CAPTION_WORDS

PAD, GO, END = "<pad>", "<go>", "<end>"
WORDS = tuple(dict.fromkeys([PAD, GO, END, UNSAID, *NUMBERS, *LAYOUTS, *CAPTION_WORDS, *EDIT_WORDS]))
"""The planner's vocabulary; a word's position is its number."""

NUMBER = {word: number for number, word in enumerate(WORDS)}
_SAYABLE = frozenset(WORDS) - {PAD, GO, END, UNSAID}
#: Words of the longest storyboard with its answer, and some room: positions that a planner must know.
POSITIONS_NEEDED = 320


def known(sentence: str) -> list[str]:
    """The words of a sentence, in lower case.

    Raises
    ------
    ValueError
        For a word outside the vocabulary, naming the nearest in it.

    Examples
    --------
    >>> known("Make it grene")
    Traceback (most recent call last):
    ...
    ValueError: word 'grene' of 'Make it grene' is not known: the nearest are 'green', 'remove', 'orange'
    """
    words = sentence.lower().split()
    for word in words if not _SAYABLE.issuperset(words) else ():
        if word not in _SAYABLE:
            near = difflib.get_close_matches(word, sorted(_SAYABLE), cutoff=0.5)
            nearest = f"the nearest are {', '.join(map(repr, near))}" if near else "none that is known is near"
            raise ValueError(f"word {word!r} of {sentence!r} is not known: {nearest}")
    return words


def prompt(sentences: Sequence[str]) -> list[int]:
    """Numbers of the words of a storyboard: each sentence after its number, at the end "<go>"."""
    words = [word for number, said in zip(NUMBERS, sentences, strict=False) for word in (number, *known(said))]
    return [NUMBER[word] for word in (*words, GO)]


def answer(frames: Sequence[Frame], sources: Sequence[int | None]) -> list[int]:
    """Numbers of the words of the tables of all frames, at the end "<end>"."""
    words = [w for k, (f, source) in enumerate(zip(frames, sources, strict=True), 1) for w in table(f, k, source)]
    return [NUMBER[word] for word in (*words, END)]


def read_answer(words: Sequence[str]) -> list[tuple[Frame, int | None]]:
    """Frames and sources of tables that follow one another, without "<end>".

    Raises
    ------
    ValueError
        Naming the table and the column, for words that make no table, or tables that are not numbered from 1.
    """
    read = []
    for start in range(0, len(words), len(TABLE)):
        number = start // len(TABLE) + 1
        try:
            said, source, frame = read_table(words[start : start + len(TABLE)])
            if said != number:
                raise ValueError(f"number = {said}: must be {number}")
            if (source is None) != (number == 1) or (source or 0) >= number:
                raise ValueError(f"source = {source}: must be {'-' if number == 1 else 'an earlier frame'}")
        except ValueError as error:
            raise ValueError(f"table {number}: {error}") from None
        read.append((frame, source))
    return read
