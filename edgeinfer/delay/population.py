"""The probability of a late request over terminals that see different losses.

A terminal's loss stays, so that its law is that of its own pipeline, and the mixture is over terminals: within the law
of a slot it would be wrong by orders. Rates fall with the loss, slot by slot, so that services and with them P(W > T)
grow with it. The losses are cut into cells; in each the least loss's lower end and the largest one's upper end enclose
all of its terminals. Stages that are measured with a confidence have a law each for either end, and so has the share of
the terminals that are unstable.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer.delay._elements import finish, poisson_rate
from edgeinfer.delay.bounds import bands, violation_bracket
from edgeinfer.delay.composed import has_no_lighter
from edgeinfer.delay.results import Bracket, Guarantee
from edgeinfer.model import FadingLink, OutageLink, Pipeline, Poisson, Transfer
from edgeinfer.model.path_loss import Population

_log = logging.getLogger("edgeinfer.delay")
Floats = NDArray[np.float64]
#: Losses that are tried, at most.
MOST_LOSSES = 400
#: Losses between which the least unstable one is looked for no further, dB.
GAP = 1e-3
_FALLS = "pipeline: a larger loss makes a request less likely to be late: must slow its services"


@dataclass(frozen=True, eq=False)
class PopulationBracket(Bracket):
    """Certified ends of the mean of P(W > T) over a population, in which unstable terminals count as always late.

    Attributes
    ----------
    unstable : float, or (populations,) ndarray
        Share of the terminals whose queue is unstable, but for those within 0.001 dB of the limit.
    """

    unstable: float | Floats

    def __getitem__(self, index: Any) -> Self:
        """The bracket of some deadlines, and populations."""
        whole = replace(self, unstable=np.broadcast_to(self.unstable, np.shape(self.lower)))
        return cast(Self, super(PopulationBracket, whole).__getitem__(index))


@dataclass(frozen=True, eq=False)
class PopulationGuarantee(PopulationBracket, Guarantee):
    """Ends of the same mean that measured samples guarantee with a confidence.

    Attributes
    ----------
    unstable : float, or (populations,) ndarray
        By the slowest laws, at least the share of the terminals whose queue is unstable.
    """


def _checked(pipeline: Callable[[Any], Any]) -> Callable[[Any], Pipeline]:
    """The same callable, whose answers are pipelines or refused."""
    if not callable(pipeline):
        raise ValueError(f"pipeline = {pipeline!r}: must be a callable that gives the pipeline of a path loss")

    def terminal(loss: Any) -> Pipeline:
        answer = pipeline(loss)
        _validate.check_kind("what pipeline gives for a loss", answer, Pipeline)
        return cast(Pipeline, answer)

    return terminal


def _is_unstable(pipeline: Pipeline, rate: float) -> bool:
    try:
        return bool((pipeline.loads(rate) >= 1).any())
    except ValueError:
        # No law of so many slots; a transfer takes bits / E[R] less a slot at least on average.
        for stage in pipeline:
            if isinstance(stage, Transfer) and isinstance(stage.link, FadingLink | OutageLink):
                mean = stage.link.mean_rate()
                if mean == 0 or rate * (stage.bits / mean - stage.link.slot) >= 1:
                    return True
        raise


def _threshold(pipeline: Callable[[float], Pipeline], rate: float, low: float, high: float) -> tuple[float, float]:
    """The largest loss known to be stable and the least known not to be, within `GAP`; infinite where there is none."""
    if _is_unstable(pipeline(low), rate):
        if not _is_unstable(pipeline(high), rate):
            raise ValueError(_FALLS)
        return -np.inf, low
    if not _is_unstable(pipeline(high), rate):
        return high, np.inf
    while high - low > GAP:
        middle = low + (high - low) / 2
        low, high = (low, middle) if _is_unstable(pipeline(middle), rate) else (middle, high)
    return low, high


class _Ends:
    """Ends of P(W > T) at losses in ascending order, (deadlines, losses), and whether they are light ones.

    A larger loss makes lateness likelier: lower ends hold at all larger losses, upper ones at all smaller ones.
    """

    def __init__(self, ask: Callable[[Floats, str], Floats], effort: str, first: str, deadlines: int) -> None:
        self._ask, self._effort, self._first = ask, effort, first
        self.losses, self.light = np.empty(0), np.empty(0, dtype=bool)
        self.lower, self.upper = np.empty((2, deadlines, 0))

    def add(self, losses: Floats) -> None:
        """Ends at new losses in ascending order; between two that are not light, light ones would tell nothing new."""
        around = np.pad(self.light, 1, constant_values=True)
        at = np.searchsorted(self.losses, losses)
        light = (around[at] | around[at + 1]) & (self._first != self._effort)
        ends = np.empty((2, self.lower.shape[0], losses.size))
        for effort, chosen in ((self._first, light), (self._effort, ~light)):
            if chosen.any():
                ends[..., chosen] = self._ask(losses[chosen], effort)
        self.losses, self.light = np.insert(self.losses, at, losses), np.insert(self.light, at, light)
        self._order(np.insert(self.lower, at, ends[0], axis=1), np.insert(self.upper, at, ends[1], axis=1))

    def improve(self, index: NDArray[np.intp]) -> None:
        """Ends at some of the losses by the whole effort."""
        lower, upper = self._ask(self.losses[index], self._effort)
        self.light[index] = False
        self.lower[:, index] = np.maximum(self.lower[:, index], lower)
        self.upper[:, index] = np.minimum(self.upper[:, index], upper)
        self._order(self.lower, self.upper)

    def _order(self, lower: Floats, upper: Floats) -> None:
        self.lower = np.maximum.accumulate(lower, axis=1)
        self.upper = np.minimum.accumulate(upper[:, ::-1], axis=1)[:, ::-1]
        if (self.lower > self.upper + 1e-12).any():
            raise ValueError(_FALLS)

    def widths(self) -> tuple[Floats, Floats]:
        """Of cells between losses, the first and the last of them beyond all, and of light ends.

        A cell's ends are the lower one at its least loss and the upper one at its largest: as wide as the cell makes
        them, and half as wide as those at either loss.
        """
        rises = [np.diff(ends, prepend=0.0, append=1.0, axis=1) for ends in (self.lower, self.upper)]
        return (rises[0] + rises[1]) / 2, np.where(self.light, self.upper - self.lower, 0.0)


def _middle(low: float, high: float, marks: Floats) -> float:
    """A loss between two, one of those marked if there is any."""
    inside = marks[(marks > low) & (marks < high)]
    return float(inside[inside.size // 2]) if inside.size else (low + high) / 2


def _worst(width: Floats, tolerance: float) -> NDArray[np.bool_]:
    """Those that make most of a width, and no more than are needed if each loses half of it."""
    order = np.argsort(width)[::-1]
    enough = min(0.7 * width.sum(), 2 * (width.sum() - tolerance))
    chosen = np.zeros(width.size, dtype=bool)
    chosen[order[: 1 + np.searchsorted(np.cumsum(width[order]), enough)]] = True
    return chosen & (width > 0)


def _mean(
    ends: _Ends, above: Callable[[ArrayLike], Floats], share: Floats, tolerance: float, marks: Floats
) -> tuple[Floats, Floats]:
    """Ends of the mean over each population, (deadlines, populations).

    Parameters
    ----------
    ends : _Ends
        At no loss, or at the least and the largest one; more are asked for.
    above : callable
        Shares of the terminals of larger losses, (populations, losses).
    share : (populations,) ndarray
        Of the terminals that are always late.
    tolerance : float
    marks : (n,) ndarray, dB
        Losses to begin with.
    """
    while True:
        # Of cells from no loss on, and beyond the last one, (populations, cells); what is not known is in [0, 1].
        beyond = np.pad(above(ends.losses), ((0, 0), (1, 1)), constant_values=1.0)
        beyond[:, -1] = share
        mass = -np.diff(beyond)
        low = ends.lower @ mass[:, 1:].T + share
        high = ends.upper @ mass[:, :-1].T + mass[:, -1] + share
        # Relative to each answer, of cells and of losses, (deadlines, populations, ..).
        between, own = ends.widths()
        weight = 2 / np.maximum(low + high, 1e-300)[..., None]
        between = weight * mass * between[:, None]
        own = weight * (mass[:, 1:] + mass[:, :-1]) / 2 * own[:, None]
        widths = between.sum(axis=-1) + own.sum(axis=-1)
        wide = widths > tolerance
        _log.info(
            "population_bracket: %d losses, %d of them light; a width of %.3g, to be %g",
            ends.losses.size,
            ends.light.sum(),
            np.max(widths, initial=0.0),
            tolerance,
        )
        if not wide.any() or not 2 <= ends.losses.size < MOST_LOSSES:
            return low, high
        between, own = between[wide].max(axis=0), own[wide].max(axis=0)
        # What lies beyond all losses, or between two that are the same but for rounding, cannot be cut.
        between = np.where(np.diff(ends.losses) > 1e-9, between[1:-1], 0.0)
        chosen = _worst(np.append(between, own), tolerance)
        if not chosen.any():
            return low, high
        improved, cut = np.flatnonzero(chosen[between.size :]), np.flatnonzero(chosen[: between.size])
        if improved.size:
            ends.improve(improved)
        if cut.size:
            ends.add(np.array([_middle(ends.losses[cell], ends.losses[cell + 1], marks) for cell in cut]))


def _of_band(terminal: Callable[[Any], Pipeline], end: int, confidence: float, loss: Any) -> Pipeline:
    """The pipeline of a loss, of the fastest or the slowest laws of what is measured with a confidence."""
    found = terminal(loss)
    if found.confidence != confidence:
        raise ValueError(
            f"pipeline: the stages of one loss have a confidence of {confidence:g}, those of another one of "
            f"{found.confidence:g}: must be `Measured` from the same samples for all losses"
        )
    return bands(found)[end]


def _bracket(
    terminal: Callable[[Any], Pipeline],
    population: Population | Sequence[Population],
    rate: float,
    limits: Floats,
    tolerance: float,
    effort: str,
) -> PopulationBracket:
    """The bracket over terminals of certain laws."""
    populations = list(population) if isinstance(population, Sequence) else [population]
    marks = np.unique(np.concatenate([one.losses() for one in populations]))
    stable, unstable = _threshold(terminal, rate, float(marks[0]), float(marks[-1]))

    def above(at: ArrayLike) -> Floats:
        return np.array([one.above(at) for one in populations])

    share = above(unstable) if np.isfinite(unstable) else np.zeros(len(populations))

    def ask(at: Floats, effort: str) -> Floats:
        found = violation_bracket(terminal(at), rate, limits.reshape(-1, 1), effort=effort)
        return np.array([np.broadcast_to(found.lower, (limits.size, at.size)), found.upper])

    first = effort if has_no_lighter(terminal(float(marks[0])), Poisson(rate)) else "light"
    ends = _Ends(ask, effort, first, limits.size)
    if np.isfinite(stable):
        ends.add(np.unique([marks[0], stable]))
    low, high = _mean(ends, above, share, tolerance, marks)
    shape = (*limits.shape, len(populations)) if isinstance(population, Sequence) else limits.shape
    names = finish(np.full(shape, "population"), shape)
    low, high = (finish(np.clip(part, 0, 1), shape) for part in (low * (1 - 1e-12), high * (1 + 1e-12)))
    return PopulationBracket(low, high, names, names, finish(share, shape[limits.ndim :]))


def population_bracket(
    pipeline: Callable[[ArrayLike], Pipeline],
    population: Population | Sequence[Population],
    arrival_rate: float,
    deadline: ArrayLike,
    *,
    tolerance: float = 0.1,
    effort: str = "fast",
) -> PopulationBracket:
    """Certified two-sided bracket of the share of late requests over a population of terminals.

    Parameters
    ----------
    pipeline : callable
        The pipeline of a terminal of a path loss, dB, which may be an array; the loss must slow services, as it does
        those over fading links.
    population : Population, or sequence of Population
        Of several, such as those at each of several distances, the losses are looked at together, which takes far less
        time than one call each; the answer has a last axis for them.
    arrival_rate : float, 1/s
        Of each terminal's Poisson arrivals, > 0.
    deadline : (...,) array_like, s
        >= 0.
    tolerance : float
        Width over the mean of both ends, in (0, 2), that cutting the losses into cells, and light ends where little
        depends on them, may add to the terminals' own ends; it stops at 400 losses.
    effort : {"light", "fast", "tight"}
        Of `violation_bracket`, which is asked at each of 10 to 100 losses, with "light" first.

    Returns
    -------
    PopulationBracket
        Where stages are `Measured` with a confidence, which must be the same ones for all losses, a
        `PopulationGuarantee`.

    Raises
    ------
    ValueError
        For arguments outside their range, and where a larger loss makes a request certainly less likely to be late.

    Examples
    --------
    >>> from edgeinfer import Pipeline, Population, RayleighLink, Transfer, path_loss
    >>> def terminal(loss):
    ...     return Pipeline([Transfer(1e6, RayleighLink(10e6, 23, -95, loss, 0.01), "uplink")])
    >>> street = path_loss.power_law(300.0, 3.5e9, exponent=2.7, shadowing=4.0)
    >>> cell = population_bracket(terminal, Population(street), 2.0, 0.5)
    >>> bool(cell.unstable < cell.lower < cell.upper < 1.2 * cell.lower)
    True
    """
    terminal = _checked(pipeline)
    populations = list(population) if isinstance(population, Sequence) else [population]
    if not populations or not all(isinstance(one, Population) for one in populations):
        raise ValueError(f"population = {population!r}: must be a Population, or several of them")
    rate = float(_validate.scalar("arrival_rate", poisson_rate(arrival_rate), 0, low_open=True))
    tolerance = _validate.scalar("tolerance", tolerance, 0, 2, low_open=True, high_open=True)
    limits = np.asarray(_validate.real("deadline", deadline, 0, infinite=True, unit="s"))
    safe = terminal(float(populations[0].losses()[0])).confidence

    def mean(end: int) -> PopulationBracket:
        of_band = partial(_of_band, terminal, end, safe)
        return _bracket(of_band, population, rate, limits, tolerance, effort)

    if safe == 1:
        return mean(0)
    below, above = mean(0), mean(1)
    return PopulationGuarantee.between(below, above, safe, unstable=above.unstable)
