"""Agents that several-subject strategies add to a team: painters of different effort, a second checker, a judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate, quality, scenes
from edgeinfer._files import json_object
from edgeinfer.model import Cascade
from edgeinfer.network.sessions import Progress
from edgeinfer.network.zoo import shipped
from edgeinfer.strategies.bodies import Finding, Findings, Picture, Plan, Verdict
from edgeinfer.strategies.messages import PLACES
from edgeinfer.strategies.rules import Rules, Spreads

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Attempt:
    """Where a picture is painted, and with how many steps.

    Parameters
    ----------
    place : {"device", "edge"}
    prior_steps, decode_steps : int
        >= 1.

    Examples
    --------
    >>> Attempt("device", 4, 1)
    Attempt(place='device', prior_steps=4, decode_steps=1)
    """

    place: str
    prior_steps: int
    decode_steps: int

    def __post_init__(self) -> None:
        _validate.choice("place", self.place, PLACES)
        for name in ("prior_steps", "decode_steps"):
            object.__setattr__(self, name, _validate.whole(name, getattr(self, name), 1))

    def work(self, costs: Cascade) -> float:
        """FLOP of a picture, both stages."""
        return float(costs.prior_work(self.prior_steps) + costs.decode_work(self.decode_steps))


@dataclass(frozen=True, eq=False)
class Reading:
    """What a network with a head for each attribute reads in n pictures or captions.

    Attributes
    ----------
    logits : mapping of str to (n, classes) ndarray
        By head; classes beyond those of `scenes.HEADS` are what no caption asks for, or "not said".
    """

    logits: Mapping[str, NDArray[np.float32]]

    def __len__(self) -> int:
        return len(next(iter(self.logits.values())))

    def classes(self) -> dict[str, Ints]:
        """The likeliest class of each head, (n,) each; -1 beyond those of `scenes.HEADS`."""
        best = {head: np.asarray(part).argmax(1) for head, part in self.logits.items()}
        return {head: np.where(k < len(scenes.HEADS[head]), k, -1) for head, k in best.items()}

    def margins(self, asked: Mapping[str, ArrayLike]) -> Floats:
        """By how much the asked class leads its best rival where it leads least, (n,); negative: something is wrong.

        Parameters
        ----------
        asked : mapping of str to (n,) array_like
            Class by head, -1 where nothing is asked; inf where nothing is asked of any.
        """
        least = np.full(len(self), np.inf)
        for head, wanted in asked.items():
            classes = np.asarray(wanted, np.int64)
            rows = np.flatnonzero(classes >= 0)
            part = np.array(self.logits[head][rows], dtype=float)
            own = part[np.arange(len(rows)), classes[rows]]
            part[np.arange(len(rows)), classes[rows]] = -np.inf
            least[rows] = np.minimum(least[rows], own - part.max(1))
        return least

    def findings(self, asked: Mapping[str, ArrayLike]) -> list[Findings]:
        """What differs from what is asked, head by head, of each picture; `asked` as for `margins`."""
        seen, margins = self.classes(), self.margins(asked)
        found: list[list[Finding]] = [[] for _ in range(len(self))]
        for head, wanted in asked.items():
            for n, (saw, want) in enumerate(zip(seen[head], np.asarray(wanted), strict=True)):
                if want >= 0 and saw != want:
                    found[n].append(Finding(head, int(saw), int(want)))
        return [Findings(tuple(each), float(margin)) for each, margin in zip(found, margins, strict=True)]


class HeadReader:
    """A network with heads, of pictures or of captions, and the classes of each as its config.json tells.

    Parameters
    ----------
    folder : path
        With model.onnx and config.json, whose "heads" name the classes of each head in the order of the logits. Those
        of `scenes.HEADS` come first.
    threads : int, optional
        Of one pass.
    """

    def __init__(self, folder: str | Path, *, threads: int | None = None) -> None:
        config = json_object(Path(folder) / "config.json")
        try:
            heads = {head: tuple(classes) for head, classes in config["heads"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"folder = {folder}: config.json: 'heads' must name the classes of each: {error!r}"
            ) from error
        for head, classes in scenes.HEADS.items():
            if heads.get(head, ())[: len(classes)] != classes:
                raise ValueError(f"folder = {folder}: head {head!r} must begin with the classes {', '.join(classes)}")
        self._sizes = {head: len(classes) for head, classes in heads.items()}
        self._network = quality.Extractor(Path(folder) / "model.onnx", threads=threads)

    def pictures(self, images: ArrayLike) -> Reading:
        """What (n, 64, 64, 3) uint8 pictures show."""
        return self._read(self._network(images))

    def captions(self, captions: Sequence[str]) -> Reading:
        """What captions ask for, damaged ones too, as long as their words are known."""
        return self._read(self._network(scenes.encode(captions)))

    def _read(self, output: NDArray[np.float32]) -> Reading:
        ends = np.cumsum(list(self._sizes.values()))
        if output.ndim != 2 or output.shape[1] != ends[-1]:
            raise ValueError(f"heads: {ends[-1]} classes in all: the network gives {output.shape[1:]}")
        return Reading(dict(zip(self._sizes, np.split(output, ends[:-1], axis=1), strict=True)))


class Embedder:
    """Pictures and captions as unit vectors, whose product tells how well they fit.

    Parameters
    ----------
    folder : path
        A model folder with "embedder_image" and "embedder_text"; the shipped cascade's by default.
    threads : int, optional
        Of one pass.
    """

    def __init__(self, folder: str | Path | None = None, *, threads: int | None = None) -> None:
        root = shipped("scenes") if folder is None else Path(folder)
        self._image, self._text = (
            quality.Extractor(root / name / "model.onnx", threads=threads)
            for name in ("embedder_image", "embedder_text")
        )

    def similarities(self, images: ArrayLike, captions: Sequence[str]) -> Floats:
        """Cosine of each picture to its caption, (n,)."""
        return quality.clip_scores(self._image(images), self._text(scenes.encode(captions))) / 100


def critics(folder: Path, threads: int | None = None) -> dict[str, Callable[..., Any]]:
    """The reviewer and the judge of a model folder, as far as it has their networks, which load when they are asked.

    The reviewer turns a Picture and a Plan of one table into Findings; the judge several Pictures and such a Plan into
    a Verdict: the best by the sum of both checkers' margins and the embedder's cosine, over their spreads.
    """

    @cache
    def reader(part: str) -> HeadReader:
        return HeadReader(folder / part, threads=threads)

    @cache
    def scored() -> tuple[Embedder, Spreads]:
        return Embedder(folder, threads=threads), Rules.read(folder).spreads

    def review(picture: Picture, plan: Plan, *, progress: Progress | None = None) -> Findings:
        return reader("checker_2").pictures(picture.pixels[None]).findings(asked(plan, 1))[0]

    def judge(*bodies: Picture | Plan, progress: Progress | None = None) -> Verdict:
        *pictures, plan = bodies
        images = np.stack([picture.pixels for picture in pictures if isinstance(picture, Picture)])
        if not isinstance(plan, Plan) or len(images) != len(pictures):
            raise ValueError("judge: must be told pictures, and at last a plan")
        embedder, spreads = scored()
        wanted = asked(plan, len(images))
        first, second = (
            reader(part).pictures(images).margins(wanted) if (folder / part).is_dir() else np.full(len(images), np.nan)
            for part in ("checker", "checker_2")
        )
        captions = [plan.tables[0].caption] * len(images)
        scores = spreads.score(first, second, embedder.similarities(images, captions))
        best = int(scores.argmax())
        return Verdict(best, bool(spreads.lead(first, second)[best] > 0), tuple(scores.tolist()))

    agents: dict[str, Callable[..., Any]] = {}
    if (folder / "checker_2").is_dir():
        agents["reviewer"] = review
    if (folder / "embedder_image").is_dir():
        agents["judge"] = judge
    return agents


def asked(plan: Plan, count: int) -> dict[str, Ints]:
    """What a plan of one table asks of each of `count` pictures, by head."""
    if len(plan.tables) != 1:
        raise ValueError(f"plan: {len(plan.tables)} tables: must be one")
    return {head: np.full(count, wanted) for head, wanted in plan.tables[0].heads.items()}
