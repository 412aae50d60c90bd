"""The planner: a small language model of our own that reads a storyboard and writes the table of every frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer._files import json_object
from edgeinfer.network import sessions
from edgeinfer.network.sessions import Progress
from edgeinfer.network.zoo import shipped
from edgeinfer.scenes import storyboards
from edgeinfer.scenes.storyboards import TABLE, WORDS, Frame, Storyboard
from edgeinfer.strategies.bodies import Plan, Request
from edgeinfer.strategies.tables import Table

#: The models that come with the package: 1.2 and 0.3 million weights.
PLANNERS = ("planner", "planner_small")
_END = WORDS.index("<end>")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Storyline:
    """What a planner wrote.

    Attributes
    ----------
    frames : tuple of Frame
        One a sentence.
    sources : tuple of (int or None)
        The number of the frame that each was made from, None for the first.
    surprises : tuple of float
        Of each frame the least log-probability among its 12 words, <= 0.
    """

    frames: tuple[Frame, ...]
    sources: tuple[int | None, ...]
    surprises: tuple[float, ...]

    @property
    def confidence(self) -> float:
        """The least log-probability of all words, <= 0: the nearer to 0, the surer."""
        return min(self.surprises)

    @property
    def captions(self) -> tuple[str, ...]:
        """The caption of each frame, for painters."""
        return tuple(map(storyboards.describe, self.frames))

    @property
    def plan(self) -> Plan:
        """The tables as the message that painters get."""
        return Plan(tuple(map(Table.of_caption, self.captions)))


class Planner:
    """Reads storyboards and writes tables, the likeliest word each time, over a cache of keys and values.

    It has learned what `scenes.storyboards.follow` works out by rule; sentences that the rules refuse it answers all
    the same, as best it can.

    Parameters
    ----------
    folder : path, optional
        With model.onnx and config.json, as training/planner.py makes them; the shipped "planner" by default.
    name : {"planner", "planner_small"}
        Which of the shipped ones.
    threads : int, optional
        Of one pass; 1 by default, ONNX Runtime's choice where None.

    Raises
    ------
    ValueError
        For a folder whose network reads other words or has other ports.

    Examples
    --------
    >>> planner = Planner()
    >>> story = planner.plan(["a red ring on white", "add a blue cross below it", "as in picture 1 but on black"])
    >>> story.captions[2], story.sources[2]
    ('a red ring on black', 1)
    """

    def __init__(self, folder: str | Path | None = None, *, name: str = "planner", threads: int | None = 1) -> None:
        if name not in PLANNERS:
            raise ValueError(f"name = {name!r}: must be one of {', '.join(map(repr, PLANNERS))}")
        root = shipped("scenes") / name if folder is None else Path(folder)
        try:
            config = json_object(root / "config.json")
            self._empty = np.zeros(
                (config["layers"], 2, 1, config["heads"], 0, config["width"] // config["heads"]), np.float32
            )
            words, self.positions = config["words"], int(config["positions"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"folder = {str(root)!r}: has no config.json of a planner: {error}") from None
        if words.split() != list(WORDS):
            raise ValueError(f"folder = {str(root)!r}: the network reads other words than storyboards have")
        self._session = sessions.open_session(root / "model.onnx", "planner", sessions.session_options("all", threads))
        if [port.name for port in self._session.get_inputs()] != ["input_ids", "past"]:
            raise ValueError(f"folder = {str(root)!r}: the network must have the inputs input_ids and past")

    def predict(self, numbers: Sequence[int], past: Floats | None = None) -> tuple[Floats, Floats]:
        """Logits of the word after each of the words given, and the cache with them.

        Parameters
        ----------
        numbers : sequence of int
            Of n words, as in `scenes.storyboards.WORDS`.
        past : (layers, 2, 1, heads, p, h) ndarray, optional
            Keys and values of the p words before; a slice along the fifth axis rolls it back.

        Returns
        -------
        (n, words) ndarray
        (layers, 2, 1, heads, p + n, h) ndarray

        Raises
        ------
        ValueError
            For more words than the network has positions.
        """
        past = self._empty if past is None else past
        if not 1 <= len(numbers) <= self.positions - past.shape[4]:
            raise ValueError(f"numbers = {len(numbers)} of them: must be 1 to {self.positions - past.shape[4]}")
        feeds = {"input_ids": np.array([numbers], dtype=np.int64), "past": past}
        logits, present = sessions.run_session(self._session, feeds, "planner")
        return logits[0], present

    def right(self, board: Storyboard) -> NDArray[np.bool_]:
        """Which frames of a storyboard it writes right where all before them are, (frames,).

        All of them: then `plan` writes this answer and no other.

        Parameters
        ----------
        board : Storyboard
            With the exact answer, as `scenes.storyboards.follow` or `draw` gives it.
        """
        asked, said = storyboards.prompt(board.sentences), storyboards.answer(board.frames, board.sources)
        logits, _ = self.predict(asked + said[:-1])
        likeliest = logits[len(asked) - 1 :].argmax(1) == said
        frames: NDArray[np.bool_] = likeliest[:-1].reshape(-1, len(TABLE)).all(1)
        # The end belongs to the last frame.
        frames[-1] &= likeliest[-1]
        return frames

    def plan(self, sentences: Sequence[str], *, progress: Progress | None = None) -> Storyline:
        """The table of every frame of a storyboard.

        Parameters
        ----------
        sentences : sequence of str
            A caption and at most 7 edits.
        progress : callable, optional
            Called after each word with the words written and their total; it may raise.

        Raises
        ------
        ValueError
            For no sentence or too many, an unknown word (with the nearest that are known), or where what the network
            wrote are no tables.
        """
        said = storyboards.checked(sentences)
        total = len(said) * len(TABLE) + 1
        numbers, past = storyboards.prompt(said), None
        written: list[int] = []
        surprises: list[float] = []
        while len(written) < total:
            logits, past = self.predict(numbers, past)
            last = logits[-1].astype(float)
            best = int(last.argmax())
            surprises.append(float(last[best] - last.max() - np.log(np.exp(last - last.max()).sum())))
            written.append(best)
            if progress is not None:
                progress(len(written), total)
            if best == _END:
                break
            numbers = [best]
        return _storyline([WORDS[number] for number in written], surprises, len(said))


def _storyline(words: list[str], surprises: list[float], count: int) -> Storyline:
    if words[-1] != "<end>" or len(words) != count * len(TABLE) + 1:
        raise ValueError(
            f"planner: wrote {len(words)} words, {words[-1]!r} at last: must be {count} tables and '<end>'"
        )
    try:
        read = storyboards.read_answer(words[:-1])
    except ValueError as error:
        raise ValueError(f"planner: {error}") from None
    each = np.array(surprises[:-1]).reshape(count, len(TABLE)).min(axis=1)
    # The end belongs to the last frame.
    each[-1] = min(each[-1], surprises[-1])
    return Storyline(tuple(frame for frame, _ in read), tuple(source for _, source in read), tuple(each.tolist()))


def planners(folder: Path, threads: int | None = None) -> dict[str, Callable[..., Any]]:
    """The planner of a model folder, if it has one, which loads when it is asked: it turns a Request, whose text is a
    storyboard with full stops between sentences, into a Plan.
    """

    @cache
    def loaded() -> Planner:
        return Planner(folder / "planner", threads=threads)

    def plan(request: Request, *, progress: Progress | None = None) -> Plan:
        if request.image is not None:
            raise ValueError("planner: a storyboard begins with a caption: must have no image")
        return loaded().plan(storyboards.split(request.text), progress=progress).plan

    return {"planner": plan} if (folder / "planner").is_dir() else {}
