"""The six strategies by name, and how one runs: in this process, or with an edge beyond a link."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from edgeinfer import _validate
from edgeinfer.bridge.device.client import Client
from edgeinfer.bridge.device.connection import Connection, EdgeError
from edgeinfer.bridge.wire import tensors
from edgeinfer.strategies import competing, cooperating, reviewing, single, voting
from edgeinfer.strategies.bodies import Request
from edgeinfer.strategies.result import Collaboration
from edgeinfer.strategies.session import LimitReached, Remote, Session, Steps
from edgeinfer.strategies.team import Team, standard_team

#: Strategies by name: each is the script of a session.
SCRIPTS: dict[str, Callable[..., Steps[Collaboration]]] = {
    "device_side": single.device_side,
    "edge_side": single.edge_side,
    "collaborative": single.collaborative,
    "cooperative": cooperating.cooperative,
    "competitive": competing.competitive,
    "race": competing.race,
    "ensemble": voting.ensemble,
    "review": reviewing.review,
}


@lru_cache(maxsize=1)
def _shipped() -> Team:
    return standard_team()


def script(session: Session, **settings: Any) -> Steps[Collaboration]:
    """The steps of a session by its strategy; where a limit is met after a picture was made, the best so far."""
    try:
        return (yield from SCRIPTS[session.strategy](session, **settings))
    except (LimitReached, TimeoutError, EdgeError) as error:
        if not session.proposals:
            raise
        session.failures.append(str(error))
        if isinstance(error, LimitReached):
            return session.finish(error.reason)
        late = isinstance(error, TimeoutError) or error.status == "DEADLINE_EXCEEDED"
        return session.finish("deadline" if late else "edge lost")


def remote(connection: Connection, identifier: str) -> Remote:
    """The way to the agents of an edge, for one session of that id."""

    def ask(role: str, messages: Any, seconds: float) -> tuple[bytes, tuple[int, int], float]:
        arrays = {str(number): np.frombuffer(data, np.uint8) for number, data in enumerate(messages)}
        asked = tensors.request(role, identifier, arrays, {})
        answer = connection.ask(connection.infer, asked, seconds)
        try:
            (data,) = tensors.arrays(answer.outputs, answer.raw_output_contents).values()
            computed = int(tensors.parameters(answer)["compute_ns"]) * 1e-9
        except (ValueError, KeyError) as error:
            raise EdgeError("DATA_LOSS", f"{role}: {error}") from None
        return data.tobytes(), (tensors.size(asked), tensors.size(answer)), computed

    return ask


def collaborate(
    request: str | Request,
    strategy: str = "collaborative",
    *,
    edge: str | Connection | Team | None = None,
    device: Team | None = None,
    rounds: int = 3,
    deadline: float = 60.0,
    fallback: bool = False,
    progress: Callable[[str, str, int, int], None] | None = None,
    **settings: Any,
) -> Collaboration:
    """Have the models of a device and an edge work on a request together.

    Parameters
    ----------
    request : str or Request
        A caption, or all that a request may say.
    strategy : str
        A key of `SCRIPTS`.
    edge : str, Connection or Team, optional
        HOST:PORT of an edge or the connection to one; or its agents, which then work in this process, as the shipped
        ones do by default.
    device : Team, optional
        The device's agents; the shipped ones by default.
    rounds : int
        Most rounds, in [1, 255].
    deadline : float, s
        From the request to the images, in (0, 655].
    fallback : bool
        Whether the device does the edge's part itself when the edge is lost or late.
    progress : callable (role, place, done, total), optional
    **settings
        Of the strategy of several subjects: `rules` and `attempts`, see `cooperative`; of `collaborative`: `early`.

    Returns
    -------
    Collaboration

    Raises
    ------
    ValueError
        For a request that cannot be read, or an argument out of range.
    EdgeError
        Where the edge is lost or answers with nonsense before there is any picture.
    TimeoutError, LimitReached
        Where a limit is met before there is any picture.

    Examples
    --------
    >>> done = collaborate("a red circle above a small blue square on white", "device_side")
    >>> done.image.shape, done.up_bytes, done.reason
    ((64, 64, 3), 23, 'right')
    """
    _validate.choice("strategy", strategy, tuple(SCRIPTS))
    asked = Request(request) if isinstance(request, str) else request
    device = device or _shipped()
    own = Connection(edge) if isinstance(edge, str) else None
    connection = own or (edge if isinstance(edge, Connection) else None)
    beyond: Team | Remote = edge if isinstance(edge, Team) else device
    if connection is not None:
        beyond = remote(connection, secrets.token_hex(8))
    try:
        session = Session(
            strategy, asked, device, beyond, rounds=rounds, deadline=deadline, fallback=fallback, progress=progress
        )
        return Client(connection).run(script(session, **settings))
    finally:
        if own is not None:
            own.close()


def device_side(request: str | Request, **options: Any) -> Collaboration:
    """The device reads the request and sends a seed up, the edge paints it, and the picture comes down.

    For requests that are heavy to send. Parameters, result and errors as for `collaborate`.

    Examples
    --------
    >>> [(said.kind, said.direction) for said in device_side("a red circle").messages if said.direction]
    [('seed', 'up'), ('picture', 'down')]
    """
    return collaborate(request, "device_side", **options)


def edge_side(request: str | Request, **options: Any) -> Collaboration:
    """The request goes up, the edge reads it and sends a seed down, and the device paints that.

    For pictures that are heavy to send. Parameters, result and errors as for `collaborate`.

    Examples
    --------
    >>> [(said.kind, said.direction) for said in edge_side("a red circle").messages if said.direction]
    [('request', 'up'), ('seed', 'down')]
    """
    return collaborate(request, "edge_side", **options)


def collaborative(request: str | Request, **options: Any) -> Collaboration:
    """The device sends a task seed up, the edge maps it to a latent that comes down, and the device paints from that.

    Nothing but seeds crosses the link. With `early=True` the latent comes in two messages, each asked for with the
    seed: the device begins with a sketch of 2 bits a value and goes on from the whole one once the rest has come, so
    that the picture depends on when that is; where the rest does not come the sketch has to do. Parameters, result and
    errors as for `collaborate`.

    Examples
    --------
    >>> [(said.kind, said.direction) for said in collaborative("a red circle").messages if said.direction]
    [('seed', 'up'), ('latent', 'down')]
    >>> done = collaborative("a red circle", early=True)
    >>> [(said.sender, said.bytes) for said in done.messages if said.direction == "down"]
    [('sketcher@edge', 205), ('refiner@edge', 397)]
    """
    return collaborate(request, "collaborative", **options)


def cooperative(request: str | Request, **options: Any) -> Collaboration:
    """The device paints and checks; what is found wrong is painted again, with new noise, at last on the edge.

    Parameters
    ----------
    request : str or Request
        Its steps are not asked: the attempts have theirs.
    **options
        As for `collaborate`; and `rules`, a `Rules` (that of the shipped networks by default), and `attempts`, a
        sequence of `Attempt`: where each round paints, with how many steps, the last one also for the rounds after it.

    Returns
    -------
    Collaboration
        Its reason is "right" where both checkers pass the picture, else the limit at which the best so far was taken.
        Margins of its proposals are leads, in spreads of faultless pictures.

    Examples
    --------
    >>> done = cooperative("a red circle above a small blue square on white")
    >>> done.reason, done.rounds <= 3, done.up_bytes
    ('right', True, 0)
    """
    return collaborate(request, "cooperative", **options)


def competitive(request: str | Request, **options: Any) -> Collaboration:
    """Device and edge paint several hypotheses at once, and a judge picks one.

    Parameters, result and errors as for `cooperative`; every attempt is painted once.

    Examples
    --------
    >>> done = competitive("a red circle on white")
    >>> done.reason, len(done.proposals)
    ('right', 3)
    """
    return collaborate(request, "competitive", **options)


def race(request: str | Request, **options: Any) -> Collaboration:
    """Device and edge paint hypotheses, and the first that both checkers pass is taken.

    Parameters, result and errors as for `cooperative`.

    Examples
    --------
    >>> race("a red circle on white").reason
    'right'
    """
    return collaborate(request, "race", **options)


def ensemble(request: str | Request, **options: Any) -> Collaboration:
    """Device and edge paint several pictures, and the one that shows most of what most show is taken.

    A text of several lines is one caption in as many copies, on which the parsers vote. Parameters, result and errors
    as for `cooperative`.

    Examples
    --------
    >>> done = ensemble("a red circle on white")
    >>> done.reason, len(done.proposals)
    ('right', 3)
    """
    return collaborate(request, "ensemble", **options)


def review(request: str | Request, **options: Any) -> Collaboration:
    """The device paints; where the checkers' margins are small the edge paints another, and the judge keeps the better.

    Parameters, result and errors as for `cooperative`.

    Examples
    --------
    >>> review("a red circle on white").reason
    'right'
    """
    return collaborate(request, "review", **options)
