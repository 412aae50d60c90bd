"""The cooperative strategy: plan, paint, check, and paint once more what the checkers find wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from edgeinfer.strategies.agents import Attempt
from edgeinfer.strategies.bodies import NOISES, Findings, Picture, Plan, Seed
from edgeinfer.strategies.result import Collaboration
from edgeinfer.strategies.rules import Rules
from edgeinfer.strategies.session import Session, Steps

#: New noise first, then more steps on the edge: one prior step would let through what nobody sees again.
ATTEMPTS = (Attempt("device", 4, 1), Attempt("device", 4, 1), Attempt("edge", 8, 4))
# Noises of a session's pictures lie this far apart, so that other sessions' seeds, which count up, stay clear of them.
_APART = 0x9E3779B97F4A7


def seed_of(session: Session) -> Steps[Seed]:
    """The plan: what the interpreter reads in the request."""
    return (yield from session.ask("device", "interpreter", Seed, session.request, sender="user@device"))


def attempted(seed: Seed, attempt: Attempt, number: int) -> Seed:
    """The seed of the picture of that number, from 0: with its steps, and with noise of its own."""
    noise = (seed.noise + number * _APART) % NOISES
    return replace(seed, noise=noise, prior_steps=attempt.prior_steps, decode_steps=attempt.decode_steps)


def checked(session: Session, number: int, seed: Seed, rules: Rules) -> Steps[bool]:
    """Whether a proposal passes: the second checker, if any, sees what the first lets through and is not sure of.

    What they find, and the lesser lead, stand in the proposal.
    """
    proposal, plan = session.proposals[number], Plan((seed.table,))
    picture = Picture(proposal.pixels)
    said = yield from session.ask("device", "checker", Findings, picture, plan, sender=proposal.painter)
    margin, lead = said.margin, rules.spreads.lead(said.margin, math.nan)
    if rules.passes(lead) and lead <= rules.sure and session.has("reviewer"):
        said = yield from session.ask("device", "reviewer", Findings, picture, plan, sender=proposal.painter)
        lead = rules.spreads.lead(margin, said.margin)
    session.judged(number, Findings(said.found, float(lead)))
    return bool(rules.passes(lead))


def cooperative(
    session: Session, rules: Rules | None = None, attempts: Sequence[Attempt] = ATTEMPTS
) -> Steps[Collaboration]:
    """Round after round, until a picture passes or a limit is met; then the one of the largest lead is returned."""
    rules = rules or Rules.read()
    seed = yield from seed_of(session)
    while True:
        attempt = attempts[min(session.begin_round(), len(attempts)) - 1]
        asked = attempted(seed, attempt, session.round - 1)
        picture = yield from session.ask(attempt.place, "painter", Picture, asked)
        number = session.propose(picture, session.at("painter", attempt.place), seed=asked)
        if (yield from checked(session, number, seed, rules)):
            return session.finish("right", [number])
