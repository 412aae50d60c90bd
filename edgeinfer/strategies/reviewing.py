"""Review where there is doubt: pictures of a small margin are painted once more, with a guarantee for the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _labels, _validate
from edgeinfer.estimates import largest_share
from edgeinfer.strategies.agents import Attempt
from edgeinfer.strategies.bodies import Picture, Plan, Verdict
from edgeinfer.strategies.cooperating import attempted, checked, seed_of
from edgeinfer.strategies.result import Collaboration
from edgeinfer.strategies.rules import Rules
from edgeinfer.strategies.session import Session, Steps

#: Shares of requests to be reviewed that are tried, from caution to trust.
SHARES = tuple(np.linspace(0.5, 0.0, 51).tolist())


@dataclass(frozen=True)
class ReviewRule:
    """What is released as it is, and what is reviewed.

    Parameters
    ----------
    threshold : float
        A request whose lead is not above is reviewed; -inf reviews none.
    reviewed : float
        Share of requests that were, on the calibration set.
    wrong : float
        Share of what was released unreviewed there that was wrong.
    wrong_at_most : float
        Upper end of that share, at the confidence that was asked for.
    """

    threshold: float
    reviewed: float
    wrong: float
    wrong_at_most: float

    def __call__(self, lead: ArrayLike) -> np.ndarray:
        """Which requests are reviewed, of the shape of `lead`."""
        return ~(_validate.numbers("lead", lead) > self.threshold)


def calibrate(
    lead: ArrayLike,
    right: ArrayLike,
    *,
    most_wrong: float = 0.01,
    confidence: float = 0.95,
    shares: Sequence[float] = SHARES,
) -> ReviewRule:
    """The rule that reviews least, of those that release no more than `most_wrong` unreviewed and wrong.

    Thresholds are the leads' quantiles at `shares`, so that they do not depend on what is right. They are tried from
    the most cautious on, each by the upper end of Clopper and Pearson's interval for the wrong among the unreviewed,
    and the last one before the first that fails is taken: tested in a fixed order, the confidence holds for the one
    that is chosen too (Bauer, Metrika 38, 1991).

    Parameters
    ----------
    lead : (n,) array_like
        How sure the checkers are of each of n independent requests, `Spreads.lead`.
    right : (n,) array_like of bool
        What somebody says who did not steer: the referee.
    most_wrong : float
        In (0, 1): share of the unreviewed that may be wrong.
    confidence : float
        In (0, 1), one-sided.
    shares : sequence of float
        In [0, 1], descending.

    Returns
    -------
    ReviewRule

    Raises
    ------
    ValueError
        Where the first share fails: more requests, or more of them reviewed, are needed.

    Examples
    --------
    >>> lead = np.arange(1000.0)
    >>> rule = calibrate(lead, lead > 50)
    >>> rule.reviewed, round(rule.wrong, 4), round(rule.wrong_at_most, 4)
    (0.05, 0.0011, 0.005)
    """
    leads = np.atleast_1d(_validate.real("lead", lead, infinite=True))
    good = _labels.complete("right", right, "true or false")
    if good.dtype != bool or leads.ndim != 1 or good.shape != leads.shape:
        raise ValueError(f"right of type {good.dtype} and shape {good.shape}: must be bool of shape {leads.shape}")
    most_wrong = _validate.scalar("most_wrong", most_wrong, 0, 1, low_open=True, high_open=True)
    tried = np.atleast_1d(_validate.real("shares", shares, 0, 1))
    if tried.ndim != 1 or not tried.size or (np.diff(tried) > 0).any():
        raise ValueError(f"shares = {shares}: must be a row of descending numbers")
    found: ReviewRule | None = None
    for share in tried:
        threshold = float(np.quantile(leads, share, method="lower")) if share > 0 else -np.inf
        kept = leads > threshold
        wrong, left = int((kept & ~good).sum()), int(kept.sum())
        upper = largest_share(wrong, left, confidence) if left else 1.0
        rule = ReviewRule(threshold, (leads.size - left) / leads.size, wrong / max(left, 1), upper)
        if upper > most_wrong:
            if found is None:
                raise ValueError(
                    f"most_wrong = {most_wrong:g}: must be at least {upper:.3g} where {share:.0%} of these "
                    f"{leads.size} requests are reviewed"
                )
            break
        found = rule
    assert found is not None
    return found


#: What is released if it is sure enough, and what it is reviewed by.
ATTEMPTS = (Attempt("device", 2, 1), Attempt("edge", 8, 4))


def review(
    session: Session, rules: Rules | None = None, attempts: Sequence[Attempt] = ATTEMPTS
) -> Steps[Collaboration]:
    """One picture; where its lead is not above the rules' `review`, another, and the judge keeps the better.

    Parameters
    ----------
    session : Session
    rules : Rules, optional
        The shipped ones by default.
    attempts : two Attempt
    """
    rules = rules or Rules.read()
    first, second = attempts
    seed = yield from seed_of(session)
    least = replace(rules, passing=rules.review)
    numbers = []
    for number, attempt in enumerate((first, second)):
        session.begin_round()
        asked = attempted(seed, attempt, number)
        picture = yield from session.ask(attempt.place, "painter", Picture, asked)
        numbers.append(session.propose(picture, session.at("painter", attempt.place), seed=asked))
        if (yield from checked(session, numbers[-1], seed, least)):
            return session.finish("right", [numbers[-1]])
    pictures = [Picture(session.proposals[number].pixels) for number in numbers]
    verdict = yield from session.ask("device", "judge", Verdict, *pictures, Plan((seed.table,)))
    chosen = numbers[min(verdict.chosen, len(numbers) - 1)]
    return session.finish("right" if verdict.passed else "round limit", [chosen])
