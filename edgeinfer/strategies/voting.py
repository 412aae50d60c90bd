"""The ensemble: several paint the same, and what most pictures show picks one."""

from __future__ import annotations

from collections.abc import Sequence

from edgeinfer.strategies.agents import Attempt
from edgeinfer.strategies.bodies import Findings, Picture, Plan
from edgeinfer.strategies.competing import hypotheses
from edgeinfer.strategies.cooperating import checked, seed_of
from edgeinfer.strategies.result import Collaboration
from edgeinfer.strategies.rules import Rules
from edgeinfer.strategies.session import Session, Steps
from edgeinfer.strategies.votes import nearest_to_vote

#: Three votes at least: of two that differ nobody knows which is wrong.
PAINTERS = (Attempt("device", 2, 1), Attempt("edge", 2, 1), Attempt("device", 2, 1))


def ensemble(
    session: Session, rules: Rules | None = None, attempts: Sequence[Attempt] = PAINTERS
) -> Steps[Collaboration]:
    """Several paint at once; what most pictures show, head by head, picks the picture that is nearest to it.

    The rule knows no caption; the checkers then say whether the picture is released as right. A request whose text has
    several lines is a caption in as many copies, damaged or not, on which the interpreter's parsers vote.
    """
    rules = rules or Rules.read()
    seed = yield from seed_of(session)
    session.begin_round()
    numbers = yield from hypotheses(session, seed, attempts)
    plan, readings = Plan((seed.table,)), []
    for number in numbers:
        proposal = session.proposals[number]
        picture = Picture(proposal.pixels)
        said = yield from session.ask("device", "checker", Findings, picture, plan, sender=proposal.painter)
        session.judged(number, said)
        seen = {each.head: each.seen for each in said.found}
        readings.append({head: [seen.get(head, wanted)] for head, wanted in seed.table.heads.items() if wanted >= 0})
    chosen = numbers[int(nearest_to_vote(readings)[0])]
    right = yield from checked(session, chosen, seed, rules)
    return session.finish("right" if right else "round limit", [chosen])
