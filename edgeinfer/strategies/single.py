"""One subject, three ways: device and edge work on the same picture and send each other seeds instead of pictures."""

from __future__ import annotations

from edgeinfer.strategies.bodies import Findings, Latent, Picture, Plan, Seed
from edgeinfer.strategies.result import Collaboration
from edgeinfer.strategies.session import Session, Steps


def device_side(session: Session) -> Steps[Collaboration]:
    """The device reads the request and sends a seed up, the edge paints, the picture comes down."""
    session.begin_round()
    seed = yield from session.ask("device", "interpreter", Seed, session.request, sender="user@device")
    picture = yield from session.ask("edge", "painter", Picture, seed)
    return (yield from _checked(session, picture, session.at("painter", "edge"), seed))


def edge_side(session: Session) -> Steps[Collaboration]:
    """The request goes up, the edge reads it and sends a seed down, the device paints."""
    session.begin_round()
    seed = yield from session.ask("edge", "interpreter", Seed, session.request, sender="user@device")
    picture = yield from session.ask("device", "painter", Picture, seed, sender=session.at("interpreter", "edge"))
    return (yield from _checked(session, picture, "painter@device", seed))


def collaborative(session: Session, early: bool = False) -> Steps[Collaboration]:
    """The device's task seed goes up, the edge maps it to a latent that comes down, the device paints from that.

    With `early` the latent comes in two messages, and the device paints from its sketch while the rest is on the way.
    """
    session.begin_round()
    seed = yield from session.ask("device", "interpreter", Seed, session.request, sender="user@device")
    picture = yield from (_early(session, seed) if early else _late(session, seed))
    return (yield from _checked(session, picture, "painter@device", seed))


def _late(session: Session, seed: Seed) -> Steps[Picture]:
    latent = yield from session.ask("edge", "mapper", Latent, seed)
    return (yield from session.ask("device", "painter", Picture, seed, latent, sender=session.at("mapper", "edge")))


def _early(session: Session, seed: Seed) -> Steps[Picture]:
    """Painted from a sketch, and from the whole latent from the step on at which the rest has come."""
    # The rest is asked for once the sketch is there: two requests at once may be answered in either order.
    sketch = yield from session.ask("edge", "sketcher", Latent, seed)
    coming = session.start("edge", "refiner", Latent, seed)
    # An edge in this process would not work meanwhile.
    rest = None if coming.begun else (yield from coming.answer())

    def latest(step: int) -> Latent:
        come = coming.come if rest is None else rest
        return sketch if come is None else sketch.refined(come)

    sender = session.at("sketcher", "edge")
    return (yield from session.ask("device", "painter", Picture, seed, sketch, sender=sender, latest=latest))


def _checked(session: Session, picture: Picture, painter: str, seed: Seed) -> Steps[Collaboration]:
    """The round trip: whether the picture, read again, shows the table it was asked for."""
    number = session.propose(picture, painter, seed=seed)
    findings = yield from session.ask("device", "checker", Findings, picture, Plan((seed.table,)), sender=painter)
    session.judged(number, findings)
    return session.finish("round limit" if findings.found else "right")
