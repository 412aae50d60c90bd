"""Storyboards: a caption, then up to seven edit sentences; by rule, the table of every frame.

A storyboard is a list of sentences. The first is a caption of `edgeinfer.scenes`, each other one an edit::

    a small red ring at the top left on white
    make it blue
    add a large green cross below the ring
    swap the colours
    as in picture 2 but on black

Each sentence makes a frame; `follow` works out all of them exactly, or refuses a sentence by its number and the reason.
`draw` draws storyboards; a hash holds sets of objects out of training, and a list sentence forms.
"""

from edgeinfer.scenes.storyboards.drawing import Storyboard, draw
from edgeinfer.scenes.storyboards.edits import KINDS, Edit, Reference
from edgeinfer.scenes.storyboards.forms import FORMS, Form
from edgeinfer.scenes.storyboards.frames import TABLE, Frame, Thing, held_out, read_table, table
from edgeinfer.scenes.storyboards.pictures import describe, to_scenes
from edgeinfer.scenes.storyboards.reading import checked, follow, split
from edgeinfer.scenes.storyboards.tokens import WORDS, answer, prompt, read_answer

__all__ = [
    "FORMS",
    "KINDS",
    "TABLE",
    "WORDS",
    "Edit",
    "Form",
    "Frame",
    "Reference",
    "Storyboard",
    "Thing",
    "answer",
    "checked",
    "describe",
    "draw",
    "follow",
    "held_out",
    "prompt",
    "read_answer",
    "read_table",
    "split",
    "table",
    "to_scenes",
]
