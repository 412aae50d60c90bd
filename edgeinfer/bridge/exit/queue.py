"""What exits do to a queue: policies, requests replayed or served as they arrive."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer.bridge.exit.network import ExitNetwork
from edgeinfer.bridge.exit.rules import Evaluation, ExitRule, checked_labels

# `sleep` wakes late by about as much as a small network takes; the last of each wait is spun away.
_SPIN = 2e-4


@dataclass(frozen=True, eq=False)
class DeadlinePolicy(_validate.Frozen):
    """Lowers a rule's thresholds as the queue grows, so that those who wait can still meet the deadline.

    With q requests waiting behind the one that starts, the rule is lowered by the largest factor with which q + 1 mean
    service times fit into `share` of the deadline; where none is fast enough all leave at the first exit.

    Parameters
    ----------
    rules : sequence of ExitRule
        From the most accurate to the fastest.
    mean_times : (rules,) array_like, s
        Mean service time under each, descending.
    deadline : float, s
        > 0.
    share : float
        In (0, 1]. Under overload the queue settles where it fills that share; the rest is left for chance.

    Examples
    --------
    >>> policy = DeadlinePolicy([ExitRule([0.9]), ExitRule([0.0])], [0.4, 0.1], deadline=1.0, share=1.0)
    >>> [float(policy(waiting).thresholds[0]) for waiting in (0, 1, 2, 9)]
    [0.9, 0.9, 0.0, 0.0]
    """

    rules: Sequence[ExitRule]
    mean_times: Any
    deadline: float
    share: float = 0.5

    def __post_init__(self) -> None:
        times = np.atleast_1d(_validate.positive("mean_times", self.mean_times, "s"))
        if times.shape != (len(self.rules),) or (np.diff(times) > 0).any():
            raise ValueError(f"mean_times = {times}: must be {len(self.rules)} descending numbers")
        object.__setattr__(self, "rules", tuple(self.rules))
        object.__setattr__(self, "mean_times", times)
        deadline = _validate.scalar("deadline", self.deadline, 0, low_open=True, unit="s")
        object.__setattr__(self, "deadline", deadline)
        object.__setattr__(self, "share", _validate.scalar("share", self.share, 0, 1, low_open=True))
        super().__post_init__()

    def __call__(self, waiting: int) -> ExitRule:
        """The rule for a request that starts while `waiting` others wait."""
        return self.rules[self.level(waiting)]

    def level(self, waiting: int) -> int:
        """Index of that rule."""
        fits = (waiting + 1) * self.mean_times <= self.share * self.deadline
        return int(fits.argmax()) if fits.any() else len(self.rules) - 1


def deadline_policy(
    validation: Evaluation, rule: ExitRule, deadline: float, *, share: float = 0.5, levels: int = 50
) -> DeadlinePolicy:
    """A policy from a calibrated rule: lowered in `levels` equal steps, mean times from a validation set.

    Parameters
    ----------
    validation : Evaluation
        With costs in seconds.
    rule : ExitRule
    deadline, share : float
        They are as in `DeadlinePolicy`.
    levels : int
        >= 1.
    """
    factors = np.linspace(1, 0, _validate.whole("levels", levels, 1) + 1)
    rules = [rule.lowered(float(factor)) for factor in factors]
    return DeadlinePolicy(rules, [validation.mean_cost(lowered) for lowered in rules], deadline, share)


#: From the number of requests that wait to the rule for the one that starts.
Policy = Callable[[int], ExitRule]


@dataclass(frozen=True, eq=False)
class Served(_validate.Frozen):
    """Requests that one server took first come, first served.

    Attributes
    ----------
    arrivals, starts, ends : (n,) ndarray, s
        From the start of the run.
    exits : (n,) ndarray of int
    correct : (n,) ndarray of bool
    """

    arrivals: NDArray[np.float64]
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    exits: NDArray[np.int64]
    correct: NDArray[np.bool_]

    @property
    def sojourn(self) -> NDArray[np.float64]:
        """From arrival to answer, s."""
        return self.ends - self.arrivals

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.correct.mean())

    def violation(self, deadline: float) -> float:
        """Share of requests whose sojourn time is above the deadline."""
        return float((self.sojourn > _validate.scalar("deadline", deadline, 0, unit="s")).mean())

    def backlog(self, times: ArrayLike) -> NDArray[np.int64]:
        """Requests in the system (arrived, not answered) at given times, s."""
        at = np.asarray(_validate.real("times", times, unit="s"))
        return np.searchsorted(self.arrivals, at, "right") - np.searchsorted(self.ends, at, "right")

    @property
    def mean_backlog(self) -> float:
        """Requests in the system on average from the first arrival to the last, as time runs."""
        span = self.arrivals[-1] - self.arrivals[0]
        spent = np.minimum(self.ends, self.arrivals[-1]) - self.arrivals
        return float(spent.sum() / span) if span > 0 else 1.0


def poisson(rate: float, requests: int, rng: Any = None) -> NDArray[np.float64]:
    """Arrival times of a Poisson process, s.

    Parameters
    ----------
    rate : float, 1/s
        > 0.
    requests : int
        >= 1.
    rng : optional
        What `numpy.random.default_rng` takes.

    Examples
    --------
    >>> poisson(2.0, 3, rng=1).round(2)
    array([0.54, 0.69, 3.38])
    """
    rate = _validate.scalar("rate", rate, 0, low_open=True, unit="1/s")
    return np.cumsum(np.random.default_rng(rng).exponential(1 / rate, _validate.whole("requests", requests, 1)))


def replay(evaluation: Evaluation, policy: ExitRule | Policy | None, arrivals: ArrayLike, rng: Any = None) -> Served:
    """A queue in which each request is an input of the evaluation, drawn afresh, and takes what its exit costs.

    Parameters
    ----------
    evaluation : Evaluation
        With costs in seconds.
    policy : ExitRule, or callable from the number that waits to an ExitRule, or None
        None: the network without early exits.
    arrivals : (n,) array_like, s
        In ascending order.
    rng : optional
        What `numpy.random.default_rng` takes; draws the inputs.
    """
    arrived = _arrivals(arrivals)
    drawn = np.random.default_rng(rng).integers(0, evaluation.correct.shape[1], arrived.size)
    last = len(evaluation.costs) - 1
    starts, ends = np.empty(arrived.size), np.empty(arrived.size)
    exits = np.full(arrived.size, last)
    fixed = policy.exits(evaluation.probabilities) if isinstance(policy, ExitRule) else None
    leaves: dict[int, NDArray[np.int64]] = {}
    free, seen = -math.inf, 0
    for number, arrival in enumerate(arrived):
        start = max(arrival, free)
        if fixed is not None:
            exits[number] = fixed[drawn[number]]
        elif callable(policy):
            while seen < arrived.size and arrived[seen] <= start:
                seen += 1
            waiting = seen - number - 1
            if waiting not in leaves:
                leaves[waiting] = policy(waiting).exits(evaluation.probabilities)
            exits[number] = leaves[waiting][drawn[number]]
        time = evaluation.full_cost if policy is None else evaluation.costs[exits[number]]
        starts[number], free = start, start + time
        ends[number] = free
    return Served(arrived, starts, ends, exits, evaluation.correct[exits, drawn])


def serve_exits(
    network: ExitNetwork,
    images: ArrayLike,
    labels: ArrayLike,
    policy: ExitRule | Policy,
    arrivals: ArrayLike,
    rng: Any = None,
) -> Served:
    """A real run: requests arrive on the wall clock, the networks answer them here, one after another.

    Parameters
    ----------
    network : ExitNetwork
    images, labels : (n, channels, height, width) and (n,) array_like
        Requests draw from them.
    policy, arrivals, rng
        They are as for `replay`; without early exits is a rule of infinite thresholds.
    """
    arrived = _arrivals(arrivals)
    x = _validate.plain("images", images).astype(np.float32, copy=False)
    drawn = np.random.default_rng(rng).integers(0, len(x), arrived.size)
    starts, ends = np.empty(arrived.size), np.empty(arrived.size)
    answers = []
    first = network.infer(x[0], policy if isinstance(policy, ExitRule) else policy(0))
    y = checked_labels(labels, len(x), first.probabilities.size)
    origin = perf_counter() - arrived[0]
    for number, arrival in enumerate(arrived):
        if (early := arrival - (perf_counter() - origin) - _SPIN) > 0:
            sleep(early)
        while (now := perf_counter() - origin) < arrival:
            pass
        starts[number] = now
        waiting = int(np.searchsorted(arrived, starts[number], "right")) - number - 1
        rule = policy if isinstance(policy, ExitRule) else policy(max(waiting, 0))
        answers.append(network.infer(x[drawn[number]], rule))
        ends[number] = perf_counter() - origin
    exits = np.array([answer.exit for answer in answers])
    return Served(arrived, starts, ends, exits, np.array([a.label for a in answers]) == y[drawn])


def _arrivals(arrivals: ArrayLike) -> NDArray[np.float64]:
    array = np.atleast_1d(_validate.real("arrivals", arrivals, unit="s"))
    if array.ndim != 1 or not array.size or (np.diff(array) < 0).any():
        raise ValueError(f"arrivals of shape {array.shape}: must be one row of times in ascending order")
    return array
