"""Competitive strategies: hypotheses that were painted apart, and a judge; or a race to be the first that passes."""

from __future__ import annotations

from collections.abc import Sequence

from edgeinfer.strategies.agents import Attempt
from edgeinfer.strategies.bodies import Picture, Plan, Seed, Verdict
from edgeinfer.strategies.cooperating import attempted, checked, seed_of
from edgeinfer.strategies.result import Collaboration
from edgeinfer.strategies.rules import Rules
from edgeinfer.strategies.session import Session, Steps

#: Two prior steps at least: of pictures with one, all may be wrong alike.
HYPOTHESES = (Attempt("device", 2, 1), Attempt("edge", 2, 1), Attempt("device", 2, 1))


def hypotheses(session: Session, seed: Seed, attempts: Sequence[Attempt]) -> Steps[list[int]]:
    """Pictures painted at once, each of noise of its own: the numbers of those that came; an error if none did."""
    seeds = [attempted(seed, attempt, number) for number, attempt in enumerate(attempts)]
    asked = [(attempt.place, "painter", Picture, each) for attempt, each in zip(attempts, seeds, strict=True)]
    answers = yield from session.ask_all(asked)
    numbers = []
    for attempt, each, answer in zip(attempts, seeds, answers, strict=True):
        if isinstance(answer, Picture):
            numbers.append(session.propose(answer, session.at("painter", attempt.place), seed=each))
        else:
            session.failures.append(str(answer))
    if not numbers:
        raise next(answer for answer in answers if isinstance(answer, Exception))
    return numbers


def competitive(
    session: Session, rules: Rules | None = None, attempts: Sequence[Attempt] = HYPOTHESES
) -> Steps[Collaboration]:
    """K hypotheses; the judge picks the one that fits best, and the checkers say whether it is released as right."""
    rules = rules or Rules.read()
    seed = yield from seed_of(session)
    session.begin_round()
    numbers = yield from hypotheses(session, seed, attempts)
    pictures = [Picture(session.proposals[number].pixels) for number in numbers]
    verdict = yield from session.ask("device", "judge", Verdict, *pictures, Plan((seed.table,)))
    chosen = numbers[min(verdict.chosen, len(numbers) - 1)]
    right = yield from checked(session, chosen, seed, rules)
    return session.finish("right" if right else "round limit", [chosen])


def race(
    session: Session, rules: Rules | None = None, attempts: Sequence[Attempt] = HYPOTHESES
) -> Steps[Collaboration]:
    """The first hypothesis that both checkers pass; the device paints its own while the edge paints its."""
    rules = rules or Rules.read()
    seed = yield from seed_of(session)
    session.begin_round()
    seeds = [attempted(seed, attempt, number) for number, attempt in enumerate(attempts)]
    here, there = (
        [(f"painter@{place}", each) for attempt, each in zip(attempts, seeds, strict=True) if attempt.place == place]
        for place in ("device", "edge")
    )
    running = None
    while here or there or running:
        if there and running is None:
            painter, asked = there.pop(0)
            running = painter, asked, session.start("edge", "painter", Picture, asked)
        if running is not None and (running[2].done or not here):
            (painter, asked, pending), running = running, None
            picture = yield from pending.answer()
        else:
            painter, asked = here.pop(0)
            picture = yield from session.ask("device", "painter", Picture, asked)
        number = session.propose(picture, painter, seed=asked)
        if (yield from checked(session, number, seed, rules)):
            return session.finish("right", [number])
    return session.finish("round limit")
