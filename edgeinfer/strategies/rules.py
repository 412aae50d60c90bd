"""The arbiter: which pictures pass, which are reviewed, and what makes the checkers' margins comparable."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer._files import json_object, replacing
from edgeinfer.network.zoo import shipped

_NAME = "rules.json"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spreads:
    """How much each of a judge's scores scatters over faultless pictures, which makes them comparable.

    Parameters
    ----------
    margin, second, similarity : float
        Standard deviations of the two checkers' margins and of the embedder's cosine; > 0. Where there is no second
        checker its margins are NaN, and the first one stands alone.

    Examples
    --------
    >>> spreads = Spreads(2.0, 4.0, 0.1)
    >>> float(spreads.score(4.0, 4.0, 0.5)), float(spreads.lead(4.0, 4.0))
    (8.0, 1.0)
    """

    margin: float
    second: float
    similarity: float

    def __post_init__(self) -> None:
        for name in ("margin", "second", "similarity"):
            object.__setattr__(self, name, _validate.scalar(name, getattr(self, name), 0, low_open=True))

    def score(self, margin: ArrayLike, second: ArrayLike, similarity: ArrayLike) -> Floats:
        """The judge's: the sum of the scores, each over its spread; the higher the better."""
        scores = {"margin": margin, "second": second, "similarity": similarity}
        found = {name: _validate.numbers(name, value) / getattr(self, name) for name, value in scores.items()}
        total: Floats = found["margin"] + found["similarity"] + np.nan_to_num(found["second"], nan=0.0)
        return total

    def lead(self, margin: ArrayLike, second: ArrayLike) -> Floats:
        """The arbiter's: the lesser of the two margins, each over its spread; negative: a checker says wrong."""
        first = _validate.numbers("margin", margin) / self.margin
        least: Floats = np.fmin(first, _validate.numbers("second", second) / self.second)
        return least


@dataclass(frozen=True)
class Rules:
    """What several subjects go by; calibrated on captions of their own.

    Parameters
    ----------
    spreads : Spreads
    passing : float
        A picture passes if its lead, in spreads, is above; >= 0, so that no picture passes of which a checker says that
        it is wrong.
    review : float
        A picture that is painted but once is reviewed if its lead is not above; >= 0.
    sure : float
        The second checker is asked where the first one's lead is not above; >= 0, may be inf: it always is.
    """

    spreads: Spreads
    passing: float = 0.0
    review: float = 0.0
    sure: float = math.inf

    def __post_init__(self) -> None:
        for name in ("passing", "review", "sure"):
            object.__setattr__(self, name, _validate.scalar(name, getattr(self, name), 0, infinite=name == "sure"))

    def passes(self, lead: ArrayLike) -> Any:
        """Whether pictures of these leads pass."""
        return _validate.numbers("lead", lead) > self.passing

    @classmethod
    def read(cls, folder: str | Path | None = None) -> Rules:
        """The rules of a model folder, the shipped cascade's by default.

        Raises
        ------
        FileNotFoundError
            Where it comes without: they belong to its checkers and have to be calibrated.
        ValueError
            Naming the file, where it holds something else.
        """
        path = (shipped("scenes") if folder is None else _validate.path("folder", folder)) / _NAME
        if not path.exists():
            raise FileNotFoundError(f"{path}: is not there: `edgeinfer measure --only subjects` makes it")
        said = json_object(path)
        try:
            sure = math.inf if said["sure"] is None else said["sure"]
            return cls(Spreads(**said["spreads"]), said["passing"], said["review"], sure)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: not the rules of a cascade: {error!r}") from error

    def write(self, folder: str | Path) -> Path:
        """Put the rules into a model folder."""
        path = _validate.path("folder", folder) / _NAME
        with replacing(path) as temporary:
            said = asdict(self) | {"sure": self.sure if math.isfinite(self.sure) else None}
            Path(temporary).write_text(json.dumps(said, indent=1) + "\n")
        return path
