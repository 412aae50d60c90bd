"""When to leave early: rules, what they do on a test set, and thresholds calibrated on another."""

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer.estimates import Estimate, mean, paired_difference, proportion
from edgeinfer.model import Measured

CRITERIA = ("confidence", "entropy")


_LARGEST_SEARCH = 2_000_000


@dataclass(frozen=True, eq=False)
class ExitRule(_validate.Value):
    """Leave at the first exit whose score reaches its threshold, at the last one in any case.

    Parameters
    ----------
    thresholds : (exits - 1,) array_like
        >= 0; inf never leaves there.
    criterion : {"confidence", "entropy"}
        The score is in [0, 1], 1 when sure: the largest probability, or 1 - H / log(classes), H the entropy.

    Examples
    --------
    >>> ExitRule([0.8]).exits(np.array([[[0.9, 0.1], [0.6, 0.4]], [[0.99, 0.01], [0.2, 0.8]]]))
    array([0, 1])
    """

    thresholds: Any
    criterion: str = "confidence"

    def __post_init__(self) -> None:
        thresholds = np.atleast_1d(_validate.real("thresholds", self.thresholds, 0, infinite=True))
        if thresholds.ndim != 1:
            raise ValueError(f"thresholds of shape {thresholds.shape}: must be one-dimensional")
        thresholds.flags.writeable = False
        object.__setattr__(self, "thresholds", thresholds)
        _validate.choice("criterion", self.criterion, CRITERIA)

    def exits(self, probabilities: ArrayLike) -> NDArray[np.int64]:
        """Where each input leaves.

        Parameters
        ----------
        probabilities : (exits, n, classes) array_like

        Returns
        -------
        (n,) ndarray of int
        """
        rows = scores(probabilities, self.criterion)
        if len(rows) != len(self.thresholds) + 1:
            raise ValueError(f"probabilities of {len(rows)} exits: must have {len(self.thresholds) + 1}")
        return _first(rows, self.thresholds)

    def lowered(self, factor: float) -> "ExitRule":
        """The rule with every threshold times `factor` in [0, 1]: no input leaves later, at 0 all leave at once."""
        factor = _validate.scalar("factor", factor, 0, 1)
        return ExitRule(self.thresholds * factor if factor else np.zeros_like(self.thresholds), self.criterion)


def scores(probabilities: ArrayLike, criterion: str) -> NDArray[np.float64]:
    """How sure each exit is of each input, as `ExitRule` compares it, (exits, n).

    Examples
    --------
    >>> p = [[[0.5, 0.5], [1.0, 0.0]]]
    >>> scores(p, "confidence"), scores(p, "entropy")
    (array([[0.5, 1. ]]), array([[0., 1.]]))
    """
    _validate.choice("criterion", criterion, CRITERIA)
    p = np.asarray(_validate.real("probabilities", probabilities, 0, 1 + 1e-6))
    if p.ndim != 3 or 0 in p.shape or p.shape[2] < 2:
        raise ValueError(f"probabilities of shape {p.shape}: must be (exits, n, classes >= 2)")
    return criterion_scores(p, criterion)


def criterion_scores(p: NDArray[np.float64], criterion: str) -> Any:
    """`scores` of what is known to be good, over the last axis."""
    if criterion == "confidence":
        return p.max(-1)
    terms = np.where(p > 0, -p * np.log(np.where(p > 0, p, 1)), 0)
    return np.clip(1 - terms.sum(-1) / math.log(p.shape[-1]), 0, 1)


def _first(rows: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    leaves = np.ones(rows.shape, bool)
    leaves[:-1] = rows[:-1] >= thresholds[:, None]
    return leaves.argmax(0)


def checked_labels(labels: ArrayLike, count: int, classes: int) -> NDArray[Any]:
    """A copy of the labels of `count` inputs: integers in 0 .. classes - 1."""
    array = np.array(_validate.plain("labels", labels))
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise ValueError(f"labels of type {array.dtype} and shape {array.shape}: must be {count} integers")
    if array.min() < 0 or array.max() >= classes:
        raise ValueError(f"labels in {array.min()} .. {array.max()}: must be in 0 .. {classes - 1}")
    return array


@dataclass(frozen=True, eq=False)
class Evaluation(_validate.Frozen):
    """Every exit's answer on labelled inputs, and what it costs.

    Parameters
    ----------
    probabilities : (exits, n, classes) array_like
    labels : (n,) array_like of int
        In 0 .. classes - 1.
    costs : (exits,) array_like
        Of an input that leaves there, ascending, FLOP or s.
    full_cost : float
        Of the network without early exits, of the same unit.

    Examples
    --------
    >>> e = Evaluation([[[0.9, 0.1], [0.6, 0.4]], [[0.9, 0.1], [0.2, 0.8]]], [0, 1], [1.0, 3.0], 2.5)
    >>> rule = ExitRule([0.8])
    >>> e.accuracy(rule).value, e.saving(rule).value
    (1.0, 0.2)
    """

    probabilities: Any
    labels: Any
    costs: Any
    full_cost: float

    def __post_init__(self) -> None:
        scores(self.probabilities, "confidence")
        p = _validate.numbers("probabilities", self.probabilities)
        labels = checked_labels(self.labels, *p.shape[1:])
        costs = np.atleast_1d(_validate.positive("costs", self.costs))
        if costs.shape != p.shape[:1] or (np.diff(costs) < 0).any():
            raise ValueError(f"costs = {costs}: must be {len(p)} ascending numbers")
        full = _validate.scalar("full_cost", self.full_cost, 0, low_open=True)
        object.__setattr__(self, "full_cost", full)
        for name, value in (("probabilities", p), ("labels", labels), ("costs", costs)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "correct", p.argmax(2) == labels)
        super().__post_init__()

    #: Whether each exit is right about each input, (exits, n).
    correct: Any = field(init=False, repr=False)

    def right(self, rule: ExitRule) -> NDArray[np.bool_]:
        """Whether each input is answered rightly under a rule."""
        return self.correct[rule.exits(self.probabilities), np.arange(self.correct.shape[1])]

    def accuracy(self, rule: ExitRule | None = None, confidence: float = 0.95) -> Estimate:
        """Under a rule, or of the last exit alone; Wilson's interval."""
        return proportion(self.correct[-1] if rule is None else self.right(rule), confidence)

    def loss(self, rule: ExitRule, confidence: float = 0.95) -> Estimate:
        """Accuracy of the last exit less that under the rule, on the same inputs; interval of Bonett and Price."""
        return paired_difference(self.correct[-1], self.right(rule), confidence)

    def saving(self, rule: ExitRule, confidence: float = 0.95) -> Estimate:
        """Mean cost saved, as a fraction of the network without early exits; bootstrap interval."""
        return mean(1 - self.costs[rule.exits(self.probabilities)] / self.full_cost, confidence)

    def mean_cost(self, rule: ExitRule) -> float:
        """Of one input, in the unit of `costs`."""
        return float(self.costs[rule.exits(self.probabilities)].mean())

    def with_times(self, times: ArrayLike, full_time: float) -> "Evaluation":
        """The same answers with costs in seconds: the time of an input that leaves at each exit."""
        times = _validate.positive("times", times, "s")
        full_time = _validate.scalar("full_time", full_time, 0, low_open=True, unit="s")
        return Evaluation(self.probabilities, self.labels, times, full_time)

    def stage(self, rule: ExitRule, name: str = "inference") -> Measured:
        """The service time under a rule as a pipeline's stage: costs are seconds, each input one sample."""
        return Measured(self.costs[rule.exits(self.probabilities)], name)


def calibrate(
    validation: Evaluation,
    *,
    accuracy_loss: float | None = None,
    mean_cost: float | None = None,
    criterion: str = "confidence",
    confidence: float | None = 0.95,
    levels: int = 64,
) -> ExitRule:
    """Thresholds that are best on a validation set, by trying every combination of quantiles of each exit's scores.

    Parameters
    ----------
    validation : Evaluation
    accuracy_loss : float, optional
        The cheapest rule whose accuracy is at most that much below the last exit's, in [0, 1]; the more accurate one
        where two cost the same. What must keep to it is the upper end of the paired difference's interval, as in
        `Evaluation.loss`, since the best of many rules looks better on its validation set than it is.
    mean_cost : float, optional
        The most accurate rule whose mean cost (FLOP or s, as in `validation`) is at most that; the cheaper one where
        two are as accurate. Give one of the two.
    criterion : {"confidence", "entropy"}
    confidence : float, optional
        Of that interval, in (0, 1); None takes the loss itself.
    levels : int
        Candidates for each threshold, besides "never leave here" and "always leave here". >= 1.

    Returns
    -------
    ExitRule

    Raises
    ------
    ValueError
        Where no rule is good or cheap enough, naming what can be reached.
    """
    if (accuracy_loss is None) == (mean_cost is None):
        raise ValueError(f"accuracy_loss = {accuracy_loss!r}, mean_cost = {mean_cost!r}: must be one of the two")
    rows = scores(validation.probabilities, criterion)
    levels = _validate.whole("levels", levels, 1)
    if (levels + 2) ** (len(rows) - 1) > _LARGEST_SEARCH:
        raise ValueError(f"levels = {levels}: must be fewer for {len(rows)} exits")
    steps = (np.arange(levels) + 0.5) / levels
    candidates = [[0.0, *np.unique(np.quantile(row, steps, method="higher")), math.inf] for row in rows[:-1]]
    inputs = np.arange(rows.shape[1])
    last = validation.correct[-1]
    combinations = list(itertools.product(*candidates))
    losses, costs = np.empty((2, len(combinations)))
    for number, chosen in enumerate(combinations):
        exits = _first(rows, np.array(chosen))
        right = validation.correct[exits, inputs]
        costs[number] = validation.costs[exits].mean()
        losses[number] = (int(last.sum()) - int(right.sum())) / len(inputs)
        if accuracy_loss is not None and confidence is not None:
            losses[number] = paired_difference(last, right, confidence).high
    if accuracy_loss is not None:
        name, limited, other = "accuracy_loss", losses, costs
        limit = _validate.scalar(name, accuracy_loss, 0, 1)
    else:
        name, limited, other = "mean_cost", costs, losses
        limit = _validate.scalar(name, mean_cost, 0, low_open=True)
    if limited.min() > limit + 1e-12:
        raise ValueError(f"{name} = {limit:g}: must be at least {limited.min():g} on this validation set")
    best = np.lexsort((limited, np.where(limited <= limit + 1e-12, other, math.inf)))[0]
    return ExitRule(combinations[best], criterion)
