"""Strategies as a kind of work: an edge whose models are the roles of its agents, and a device whose requests are
sessions.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from time import monotonic
from typing import Any

import numpy as np

from edgeinfer import _validate
from edgeinfer.bridge.device.client import Client, Script
from edgeinfer.bridge.device.connection import Connection
from edgeinfer.bridge.edge.server import Refusal, Server, Task
from edgeinfer.bridge.run.load import WorkLoad
from edgeinfer.bridge.wire import security, signalling, tensors
from edgeinfer.bridge.wire.jobs import Job
from edgeinfer.strategies.bodies import SCORES, Body, Picture, Request
from edgeinfer.strategies.messages import Message
from edgeinfer.strategies.result import Collaboration
from edgeinfer.strategies.run import SCRIPTS, remote, script
from edgeinfer.strategies.session import Session
from edgeinfer.strategies.team import Team

#: Who the agents are, MODULE:FUNCTION; it takes a model folder or None, and `threads`.
TEAM = "edgeinfer.strategies.team:standard_team"
_FIRST = Request("a small red circle at the middle on white", prior_steps=1, decode_steps=1)


def _warm(team: Team) -> None:
    """Have the roles that any strategy needs work once."""
    if {"interpreter", "painter"} <= set(team):
        seed = team["interpreter"](_FIRST, progress=None)
        team["painter"](seed, progress=None)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What an agent of the edge is told."""

    role: str
    contents: tuple[Body, ...]
    message: Message


class StrategyService:
    """The agents of an edge, as `Service`: one model a role.

    A request holds messages as tensors of bytes, named "0", "1" and so on; the answer is one more, with the time that
    the agent computed, "compute_ns", and waited, "queue_ns".

    Parameters
    ----------
    team : Team
    """

    together = True
    idle = tensors.IDLE

    def __init__(self, team: Team) -> None:
        self.team, self.models = team, tuple(team)

    def warm_up(self) -> None:
        """Have the standard roles work once, so that the first request meets no cold start."""
        _warm(self.team)

    def ready(self, name: str, version: str) -> bool:
        """Whether it is served, in whatever version."""
        return name in self.models

    def describe(self, name: str) -> Any:
        """Messages in, one message out."""
        answer = tensors.service().ModelMetadataResponse(name=name, versions=["1"], platform="edgeinfer")
        answer.inputs.add(name="0", datatype="UINT8", shape=[-1])
        answer.outputs.add(name="0", datatype="UINT8", shape=[-1])
        return answer

    def handlers(self, server: Server) -> tuple[Any, ...]:
        """None."""
        return ()

    def check(self, message: Any, stream: bool) -> Task:
        """The messages of a request, each within its limits, and time for an answer left."""
        if len(message.id) > signalling.IDENTIFIER_LENGTH:
            raise ValueError(f"id: {len(message.id)} characters: must be <= {signalling.IDENTIFIER_LENGTH}")
        if not 1 <= len(message.inputs) <= SCORES + 1:
            raise ValueError(f"inputs: {len(message.inputs)} messages: must be 1 to {SCORES + 1}")
        values = tensors.arrays(message.inputs, message.raw_input_contents)
        if list(values) != [str(number) for number in range(len(values))]:
            raise ValueError(f"inputs = {', '.join(name[:40] for name in values)}: must be named 0, 1, ... in order")
        read = []
        for name, value in values.items():
            if value.dtype != np.uint8 or value.ndim != 1:
                raise ValueError(f"input {name!r} = {value.dtype} {list(value.shape)[:8]}: must be uint8 of one axis")
            read.append(Message.from_bytes(value.tobytes()))
        if min(each.left for each in read) <= 0:
            raise Refusal("DEADLINE_EXCEEDED", f"round {read[0].round}: no time is left for it")
        asked = _Asked(message.model_name, tuple(each.body for each in read), read[0])
        # One agent's answer does not wait for another's.
        return Task(message.model_name, message.id, asked, key=object(), stage=message.model_name)

    def run(self, tasks: Sequence[Task], progress: Callable[[int, int], None]) -> list[Any]:
        """What the agents answer, and how long they took, s; a Refusal where one cannot do what it is told."""
        results: list[Any] = []
        for task in tasks:
            asked, begin = task.payload, monotonic()
            try:
                body = self.team[asked.role](*asked.contents, progress=progress)
                first = asked.message
                data = Message(body, asked.role, "edge", first.round, first.rounds, first.left).to_bytes()
            except (TypeError, ValueError) as error:
                results.append(Refusal("INVALID_ARGUMENT", f"{asked.role}: {error}"))
                continue
            results.append((data, monotonic() - begin))
        return results

    def answer(self, job: Job) -> tuple[Any, dict[str, Any]]:
        """The message."""
        task, (data, seconds) = job.payload, job.result
        told = {"queue_ns": int(1e9 * (job.begun - job.queued)), "compute_ns": int(1e9 * seconds)}
        values = {"0": np.frombuffer(data, np.uint8)}
        return tensors.response(task.model, task.request, values, told), {"networks": seconds}


class Work:
    """Strategies for processes: see `bridge.run.user.Work`.

    Parameters
    ----------
    model : str
        Folder; "" for the shipped one.
    threads : int, optional
        Of one network pass.
    team : str
        As `TEAM`.
    """

    message_bytes = security.MESSAGE_BYTES
    client: Client

    def __init__(self, model: str = "", threads: int | None = None, team: str = TEAM) -> None:
        # An empty path comes as ".".
        self.team: Team = resolve_name(team)(model if model not in ("", ".") else None, threads=threads)

    def edge(self, **options: Any) -> Server:
        """An edge; options as for `Server`."""
        return Server(StrategyService(self.team), **options)

    def connect(
        self,
        connection: Connection | None,
        *,
        requests: Sequence[Mapping[str, Any]],
        strategy: str | Sequence[str] = "collaborative",
        **limits: Any,
    ) -> None:
        """Ask for requests in turn, as `request_settings` gives them, by a strategy or several in turn.

        Parameters
        ----------
        connection : Connection, optional
            None has the device's agents do it all.
        requests : sequence of mapping
        strategy : str or sequence of str
        **limits
            rounds, deadline and fallback, as for `Session`.
        """
        if not requests:
            raise ValueError("requests: must be at least one")
        self.client, self._connection, self._limits = Client(connection), connection, limits
        self._requests = [request_of(each) for each in requests]
        self._strategies = [strategy] if isinstance(strategy, str) else list(strategy)
        for name in self._strategies:
            _validate.choice("strategy", name, tuple(SCRIPTS))

    def warm_up(self) -> None:
        """Have the device's agents work once."""
        _warm(self.team)

    def script(self, number: int, request: str) -> Script[Collaboration]:
        """A session."""
        strategy = self._strategies[number % len(self._strategies)]
        asked = self._requests[number % len(self._requests)]
        beyond = self.team if self._connection is None else remote(self._connection, request)
        return script(Session(strategy, asked, self.team, beyond, **self._limits))

    def row(self, done: Collaboration) -> dict[str, Any]:
        """The summary of the session, and the last picture as PNG in base 64."""
        picture = base64.b64encode(Picture(done.image).to_bytes()).decode()
        return {"session": done.summary(), "picture": picture}


def work_load(
    strategy: str | Sequence[str], requests: Sequence[Request], *, model: str = "", team: str = TEAM, **limits: Any
) -> WorkLoad:
    """Requests for `bridge.load_test`, asked in turn.

    Parameters
    ----------
    strategy : str or sequence of str
        Keys of `run.SCRIPTS`; several are used in turn.
    requests : sequence of Request
    model, team
        As for `Work`.
    **limits
        rounds, deadline and fallback, as for `Session`.

    Examples
    --------
    >>> load = work_load("device_side", [Request("a red circle")], deadline=5.0)
    >>> load.name, load.asked["deadline"]
    ('device_side', 5.0)
    """
    names = [strategy] if isinstance(strategy, str) else list(strategy)
    asked = {"strategy": names, "requests": [request_settings(each) for each in requests], **limits}
    return WorkLoad(" ".join(names), f"{__name__}:Work", asked, {"team": team}, model)


def request_settings(request: Request) -> dict[str, Any]:
    """A request as values of JSON."""
    return {"bytes": base64.b64encode(request.to_bytes()).decode()}


def request_of(settings: Mapping[str, Any]) -> Request:
    """The request of `request_settings`."""
    return Request.from_bytes(base64.b64decode(settings["bytes"]))
