"""The probability of a late request over terminals that see different losses.

A terminal's loss stays, so that its law is that of its own pipeline, and the mixture is over terminals: within the law
of a slot it would be wrong by orders. Rates fall with the loss, slot by slot, so that services and with them P(W > T)
grow with it. The losses are cut into cells; in each the least loss's lower end and the largest one's upper end enclose
all of its terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer.delay._elements import finish, poisson_rate
from edgeinfer.delay.bounds import violation_bracket
from edgeinfer.delay.results import Bracket
from edgeinfer.model import FadingLink, OutageLink, Pipeline, Transfer
from edgeinfer.model.path_loss import Population

Floats = NDArray[np.float64]
#: Losses that are tried, at most.
MOST_LOSSES = 400
#: Losses between which the least unstable one is looked for no further, dB.
GAP = 1e-3
#: Losses that several populations begin with are about as far apart, dB.
COARSE = 3.0
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

    def __getitem__(self, index: Any) -> PopulationBracket:
        """The bracket of some deadlines, and populations."""
        whole = replace(self, unstable=np.broadcast_to(self.unstable, np.shape(self.lower)))
        return super(PopulationBracket, whole).__getitem__(index)


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
        return bool(rate * float(pipeline.moments()[0].max()) >= 1)
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


def _losses(populations: Sequence[Population]) -> Floats:
    """Losses to begin with, dB, in ascending order."""
    losses = np.unique(np.concatenate([one.losses() for one in populations]))
    if len(populations) == 1:
        return losses
    first = np.diff(np.floor(losses / COARSE), prepend=-np.inf) > 0
    first[-1] = True
    return np.asarray(losses[first])


def population_bracket(
    pipeline: Callable[[ArrayLike], Pipeline],
    population: Population | Sequence[Population],
    arrival_rate: float,
    deadline: ArrayLike,
    *,
    tolerance: float = 0.05,
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
        Relative width that cutting the losses into cells may add, > 0; it stops at 400 losses.
    effort : {"light", "fast", "tight"}
        Of `violation_bracket`, which is asked at each of 100 to 500 losses.

    Returns
    -------
    PopulationBracket

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
    >>> cell = population_bracket(terminal, Population(street), 2.0, 0.5, tolerance=1.0)
    >>> bool(cell.unstable < cell.lower < cell.upper < 3 * cell.lower)
    True
    """
    terminal = _checked(pipeline)
    populations = list(population) if isinstance(population, Sequence) else [population]
    if not populations or not all(isinstance(one, Population) for one in populations):
        raise ValueError(f"population = {population!r}: must be a Population, or several of them")
    rate = float(_validate.scalar("arrival_rate", poisson_rate(arrival_rate), 0, low_open=True))
    tolerance = _validate.scalar("tolerance", tolerance, 0, low_open=True)
    limits = np.asarray(_validate.real("deadline", deadline, 0, infinite=True, unit="s"))
    losses = _losses(populations)
    stable, unstable = _threshold(terminal, rate, float(losses[0]), float(losses[-1]))
    losses = np.unique(np.append(losses[losses < stable], stable)) if np.isfinite(stable) else np.empty(0)

    def above(at: ArrayLike) -> Floats:
        return np.array([one.above(at) for one in populations])

    share = above(unstable) if np.isfinite(unstable) else np.zeros(len(populations))

    def ends(at: Floats) -> Floats:
        found = violation_bracket(terminal(at), rate, limits.reshape(-1, 1), effort=effort)
        return np.array([np.broadcast_to(found.lower, (limits.size, at.size)), found.upper])

    values = ends(losses) if losses.size else np.ones((2, limits.size, 0))
    while True:
        # Cells from no loss on, and beyond the last one, (populations, cells); what is not known is in [0, 1].
        beyond = np.pad(above(losses), ((0, 0), (1, 1)), constant_values=1.0)
        beyond[:, -1] = share
        mass = -np.diff(beyond)
        lower = np.pad(values[0], ((0, 0), (1, 0)))
        upper = np.pad(values[1], ((0, 0), (0, 1)), constant_values=1.0)
        if (np.maximum.accumulate(lower, axis=1)[:, :-1] > upper[:, :-1] + 1e-12).any():
            raise ValueError(_FALLS)
        low, high = lower @ mass.T + share, upper @ mass.T + share
        wide = (upper - lower) @ mass.T > tolerance * (low + high) / 2
        if not wide.any() or losses.size >= MOST_LOSSES or losses.size < 2:
            break
        # Of what each answer may be wide by, by how much each cell exceeds it most.
        weight = np.where(wide, 2 / (low + high), 0.0)
        slack = ((weight[:, :, None] * mass).max(axis=1) * (upper - lower)).max(axis=0)
        # The cells that make most of the width, and no more than are needed if a half has half of it.
        order = np.argsort(slack[1:-1])[::-1]
        enough = min(0.7 * slack.sum(), 2 * (slack.sum() - tolerance))
        cells = order[: 1 + np.searchsorted(np.cumsum(slack[1:-1][order]), enough)]
        cells = np.sort(cells[losses[cells + 1] - losses[cells] > 1e-9])
        if cells.size == 0:
            break
        middle = (losses[cells] + losses[cells + 1]) / 2
        values = np.insert(values, cells + 1, ends(middle), axis=2)
        losses = np.insert(losses, cells + 1, middle)
    shape = (*limits.shape, len(populations)) if isinstance(population, Sequence) else limits.shape
    names = finish(np.full(shape, "population"), shape)
    low, high = (finish(np.clip(part, 0, 1), shape) for part in (low * (1 - 1e-12), high * (1 + 1e-12)))
    return PopulationBracket(low, high, names, names, finish(share, shape[limits.ndim :]))
