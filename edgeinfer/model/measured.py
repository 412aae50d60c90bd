"""A stage of measured times."""

from dataclasses import dataclass
from os import PathLike
from typing import Any, Self

import numpy as np

from edgeinfer import _columns, _validate
from edgeinfer.model.bases import CoreStage, Server


@dataclass(frozen=True, eq=False)
class Measured(Server):
    """A service time given by measured samples: their empirical law, or what they guarantee of the law behind them.

    With a `confidence`, the law behind the samples lies in a band about the empirical one (Dvoretzky, Kiefer,
    Wolfowitz; Massart, Ann. Prob. 18, 1990): at all times at once, |F - F_n| <= sqrt(ln(2 / (1 - confidence)) / (2 n)).
    Pairs of ends, as of `violation_bracket`, are then a `Guarantee`, the better one for the fastest law of the band, in
    which that share of the longest samples takes no time. All else is computed for the slowest one, which moves that
    share of the shortest samples to `longest`: means, energies, loads and simulations are of that law, not of the
    samples, and what a search finds to suffice for it suffices for the whole band.

    Parameters
    ----------
    samples : (n,) array_like, s
        n >= 1, each >= 0 and finite. Kept in ascending order.
    name : str
    confidence : float, optional
        In [0.5, 1): the probability, over independent samples, that what is computed holds for the law behind them.
    longest : float, s, optional
        A time that no service exceeds, such as a timeout, >= all samples; needed with a `confidence`, since no number
        of samples tells what is beyond them.

    Raises
    ------
    ValueError
        For values outside their range, one of `confidence` and `longest` without the other, and fewer samples than the
        confidence needs for a band narrower than 1.

    Examples
    --------
    >>> Measured([0.2, 0.1], "decode").mean()
    0.15000000000000002
    >>> import numpy as np
    >>> times = np.random.default_rng(1).gamma(50, 0.002, 1000)
    >>> safe = Measured(times, "decode", confidence=0.95, longest=0.5)
    >>> round(safe.band, 3), bool(safe.mean() > times.mean())
    (0.043, True)
    """

    samples: Any
    name: str
    confidence: Any = None
    longest: Any = None

    def __post_init__(self) -> None:
        samples = np.atleast_1d(_validate.real("samples", self.samples, 0, unit="s"))
        if samples.ndim != 1 or samples.size == 0:
            raise ValueError(f"samples of shape {samples.shape}: must be one-dimensional and not empty")
        samples = np.sort(samples)
        samples.flags.writeable = False
        object.__setattr__(self, "samples", samples)
        if (self.confidence is None) != (self.longest is None):
            raise ValueError(
                f"confidence = {self.confidence!r}, longest = {self.longest!r}: must be given together, since no "
                "number of samples tells how long a service can take"
            )
        if self.confidence is None:
            return
        confidence = _validate.scalar("confidence", self.confidence, 0.5, 1, high_open=True)
        object.__setattr__(self, "confidence", confidence)
        object.__setattr__(self, "longest", _validate.scalar("longest", self.longest, float(samples[-1]), unit="s"))
        if self.band >= 1:
            needed = int(np.ceil(np.log(2 / (1 - confidence)) / 2)) + 1
            raise ValueError(
                f"samples: {samples.size} of them: must be at least {needed} for confidence = {confidence:g}"
            )

    @classmethod
    def from_csv(
        cls,
        path: str | PathLike[str],
        column: str,
        name: str,
        unit: float = 1.0,
        confidence: float | None = None,
        longest: float | None = None,
    ) -> Self:
        """Read samples from a column of a CSV file with a header line.

        Parameters
        ----------
        path : path-like
        column : str
            Its name in the header line.
        name : str
            Of the stage.
        unit : float, s
            What one is in the file: 1e-3 for milliseconds. > 0.
        confidence : float, optional
        longest : float, s, optional

        Raises
        ------
        ValueError
            Naming the line, or the column: for what is no UTF-8 text of rows that each have a number >= 0 there.
        """
        return cls(_columns.amounts_of(path, column, unit, "s"), name, confidence, longest)

    @property
    def shape(self) -> tuple[int, ...]:
        """Always ()."""
        return ()

    @property
    def band(self) -> float:
        """Half the width of the band about the empirical law; 0 without a confidence."""
        if self.confidence is None:
            return 0.0
        return float(np.sqrt(np.log(2 / (1 - self.confidence)) / (2 * self.samples.size)))

    def slowest(self) -> "Measured":
        """The slowest law of the band, as samples of no confidence."""
        moved = int(np.ceil(self.band * self.samples.size))
        return Measured(np.append(self.samples[moved:], np.full(moved, self.longest)), self.name)

    def fastest(self) -> "Measured":
        """The fastest law of the band, as samples of no confidence: the longest ones take no time."""
        moved = int(np.ceil(self.band * self.samples.size))
        return Measured(np.append(np.zeros(moved), self.samples[: self.samples.size - moved]), self.name)

    def mean(self) -> Any:
        """Mean service time, s, of the samples or, with a confidence, of the slowest law."""
        return float(self.slowest().samples.mean()) if self.confidence is not None else float(self.samples.mean())

    def core_stages(self) -> list[CoreStage]:
        """The stage as the core takes it."""
        return [("samples", self.samples if self.confidence is None else self.slowest().samples)]
