"""Storyboards: one plan, then one session a frame by any strategy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from edgeinfer import _validate
from edgeinfer.bridge.device.client import Client
from edgeinfer.bridge.device.connection import Connection, EdgeError
from edgeinfer.strategies.bodies import Plan, Request
from edgeinfer.strategies.result import REASONS, Collaboration, Proposal, Said, Worked
from edgeinfer.strategies.run import SCRIPTS, collaborate
from edgeinfer.strategies.session import LimitReached, Session, Steps
from edgeinfer.strategies.team import Team, standard_team


def storyboard(
    request: str | Request,
    strategy: str = "cooperative",
    *,
    edge: str | Connection | Team | None = None,
    device: Team | None = None,
    rounds: int = 3,
    deadline: float = 60.0,
    fallback: bool = False,
    progress: Callable[[str, str, int, int], None] | None = None,
    **settings: Any,
) -> Collaboration:
    """Have the models of a device and an edge make one image of each frame of a storyboard.

    The device's planner reads the storyboard; each table that it writes is then a request of its own, with the same
    noise, in a session of its own. All share the deadline. Where one ends without an image, those before it are the
    best so far.

    Parameters
    ----------
    request : str or Request
        A caption and at most 7 edits as `scenes.storyboards` has them, with full stops between.
    strategy : str
        A key of `run.SCRIPTS`.
    edge, device, rounds, deadline, fallback, progress, **settings
        As for `collaborate`; `rounds` are those of one frame.

    Returns
    -------
    Collaboration
        Images, proposals, messages and steps of all sessions, the frames of proposals counted from 0; rounds are those
        of all frames, context bytes those of the session that had most.

    Raises
    ------
    ValueError
        For a storyboard that cannot be read, or an argument out of range.
    EdgeError, TimeoutError, LimitReached
        Where the first frame has no image.

    Examples
    --------
    >>> done = storyboard("a red ring on white. make it blue. add a green cross below it", "device_side")
    >>> len(done.images), [said.kind for said in done.messages][:2]
    (3, ['request', 'plan'])
    """
    _validate.choice("strategy", strategy, tuple(SCRIPTS))
    asked = Request(request) if isinstance(request, str) else request
    device = device or standard_team()
    if "planner" not in device:
        raise ValueError("device: must have a planner")
    planning = Session(strategy, asked, device, device, rounds=rounds, deadline=deadline, progress=progress)
    plan = Client(None).run(_plan(planning))
    parts = [planning.finish("right", [])]
    own = Connection(edge) if isinstance(edge, str) else None
    starts = [0.0]
    failure = None
    try:
        for table in plan.tables:
            starts.append(deadline - planning.left)
            try:
                limits: dict[str, Any] = {"rounds": rounds, "deadline": _left(planning), "fallback": fallback}
                frame = replace(asked, text=table.caption)
                told = limits | {"edge": own or edge, "device": device, "progress": progress}
                parts.append(collaborate(frame, strategy, **told, **settings))
            except (LimitReached, TimeoutError, EdgeError) as error:
                if len(parts) == 1:
                    raise
                failure = error
                break
    finally:
        if own is not None:
            own.close()
    return _joined(parts, starts, deadline - planning.left, failure)


def _plan(session: Session) -> Steps[Plan]:
    return (yield from session.ask("device", "planner", Plan, session.request, sender="user@device"))


def _left(session: Session) -> float:
    if session.left <= 0:
        raise TimeoutError("the deadline passed before the frame")
    return session.left


def _joined(
    parts: Sequence[Collaboration], starts: Sequence[float], seconds: float, failure: Exception | None
) -> Collaboration:
    """One result of the planning and of the frames' sessions, which began at `starts`, s."""
    proposals: list[Proposal] = []
    chosen: list[int] = []
    messages: list[Said] = []
    steps: list[Worked] = []
    for frame, (part, start) in enumerate(zip(parts, starts, strict=False), -1):
        chosen += [len(proposals) + number for number in part.chosen]
        proposals += [replace(each, frame=frame) for each in part.proposals]
        messages += [replace(each, time=each.time + start) for each in part.messages]
        steps += [replace(each, begin=each.begin + start, end=each.end + start) for each in part.steps]
    reasons = {part.reason for part in parts}
    if failure is not None:
        late = isinstance(failure, TimeoutError) or getattr(failure, "status", "") == "DEADLINE_EXCEEDED"
        reasons.add(failure.reason if isinstance(failure, LimitReached) else "deadline" if late else "edge lost")
    return Collaboration(
        parts[0].strategy,
        tuple(image for part in parts for image in part.images),
        # The gravest, of which the rest are the more harmless.
        max(reasons, key=REASONS.index),
        sum(part.rounds for part in parts),
        tuple(proposals),
        tuple(chosen),
        tuple(messages),
        tuple(steps),
        seconds,
        max(part.context_bytes for part in parts),
        tuple(text for part in parts for text in part.failures) + ((str(failure),) if failure else ()),
    )
