"""Whether images show what their captions ask for, by what a checker reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgeinfer import _validate
from edgeinfer.scenes.drawing import Ints
from edgeinfer.scenes.grammar import request
from edgeinfer.scenes.words import HEADS


def judge(sentences: Sequence[str], logits: npt.ArrayLike) -> dict[str, npt.NDArray[np.bool_]]:
    """Whether images show what their captions say, from the logits of an attribute checker.

    Parameters
    ----------
    sentences : n captions
    logits : (n, 43) of the images, the heads side by side in the order of `HEADS`

    Returns
    -------
    dict
        (n,) booleans for "background", "colour", "shape", "size", "place" (layout, column and row) and "all"; what a
        caption does not say counts as right

    Raises
    ------
    ValueError
        if the logits have another shape or are not finite, or a sentence is not of the grammar

    Examples
    --------
    >>> logits = np.zeros((1, 43))  # the first class everywhere: one small red circle on white
    >>> {name: bool(right[0]) for name, right in judge(["a small blue circle"], logits).items()}
    {'background': True, 'colour': False, 'shape': True, 'size': True, 'place': True, 'all': False}
    """
    values = _validate.numbers("logits", logits)
    sizes = [len(classes) for classes in HEADS.values()]
    if values.shape != (len(sentences), sum(sizes)):
        raise ValueError(f"logits have shape {values.shape}, must have {(len(sentences), sum(sizes))}")
    if not np.isfinite(values).all():
        raise ValueError(f"logits[{int(np.argmin(np.isfinite(values).all(1)))}] are not finite")
    parts = np.split(values, np.cumsum(sizes)[:-1], axis=1)
    return verdicts(sentences, {head: part.argmax(1) for head, part in zip(HEADS, parts, strict=True)})


def verdicts(sentences: Sequence[str], seen: Mapping[str, Ints]) -> dict[str, npt.NDArray[np.bool_]]:
    """Whether what is seen is what captions ask for; groups as `judge` gives them.

    Parameters
    ----------
    sentences : n captions
    seen : classes by the names of `HEADS`, (n,) each

    Raises
    ------
    ValueError
        for a sentence that the grammar cannot make

    Examples
    --------
    >>> seen = {head: np.zeros(1, int) for head in HEADS}  # one small red circle at the top left on white
    >>> bool(verdicts(["a small red circle on white"], seen)["all"][0])
    True
    """
    right = {head: (asked < 0) | (seen[head] == asked) for head, asked in request(sentences).items()}
    both = {name: right[f"{name}_a"] & right[f"{name}_b"] for name in ("colour", "shape", "size")}
    grouped = {"background": right["background"], **both, "place": right["layout"] & right["column"] & right["row"]}
    return grouped | {"all": np.logical_and.reduce(list(grouped.values()))}
