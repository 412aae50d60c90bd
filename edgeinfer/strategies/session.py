"""A session: a request on its way through the agents of device and edge, within its limits, all written down."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar

from edgeinfer import _validate
from edgeinfer.bridge.device.client import LOST, Aside, Compute, Exchange
from edgeinfer.bridge.device.connection import EdgeError
from edgeinfer.strategies.bodies import Body, Findings, Picture, Request, Seed
from edgeinfer.strategies.messages import CONTEXT_BYTES, HEADER_BYTES, LONGEST, ROUNDS, Message
from edgeinfer.strategies.result import Collaboration, Proposal, Said, Worked
from edgeinfer.strategies.team import Team

Content = TypeVar("Content")
#: Roles that the device does beside what it computes: a request is read when it comes, not behind others' pictures.
ASIDE = ("interpreter",)
#: Steps of a session on the device, and what they come to.
Steps = Generator[Compute | Exchange, Any, Content]
#: remote(role, messages, seconds) asks an edge: the answer, its bytes on the wire and the request's, and the seconds
#: that the agent there computed; EdgeError where there is none.
Remote = Callable[[str, Sequence[bytes], float], tuple[bytes, tuple[int, int], float]]


class LimitReached(ValueError):
    """A limit of the session was met before a round, or by what was to be said.

    Attributes
    ----------
    reason : str
        One of `result.REASONS`.
    """

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, *self.args), vars(self)


class AgentError(OSError):
    """An agent in this process answered with what it must not."""


class Session:
    """What a strategy's script has in hand: it asks agents, proposes pictures, and ends.

    Parameters
    ----------
    strategy : str
    request : Request
    device : Team
    edge : Team or Remote
        The edge's agents in this process, or the way to them.
    rounds : int
        Most rounds, in [1, 255].
    deadline : float, s
        From now to the images, in (0, 655].
    fallback : bool
        Whether the device's agents do the edge's part once the edge is lost; the edge then has half of the time that is
        left for an answer.
    progress : callable (role, place, done, total), optional
        Called after each step of an agent of this process.

    Attributes
    ----------
    round : int
        That has begun; 0 before the first.
    proposals : list of Proposal
    """

    def __init__(
        self,
        strategy: str,
        request: Request,
        device: Team,
        edge: Team | Remote,
        *,
        rounds: int = 1,
        deadline: float = 60.0,
        fallback: bool = False,
        progress: Callable[[str, str, int, int], None] | None = None,
    ) -> None:
        rounds = _validate.whole("rounds", rounds, 1, ROUNDS)
        deadline = _validate.scalar("deadline", deadline, 0, LONGEST, low_open=True, unit="s")
        self.strategy, self.request, self.rounds, self.fallback = strategy, request, rounds, fallback
        self.round, self.context_bytes = 0, 0
        self.proposals: list[Proposal] = []
        self.failures: list[str] = []
        self._device, self._edge, self._progress = device, edge, progress
        self._begin = time.monotonic()
        self._end = self._begin + deadline
        self._said: list[Said] = []
        self._worked: list[Worked] = []
        self._context: set[bytes] = set()
        self._known: dict[int, Body] = {}
        self._lock = threading.Lock()

    @property
    def left(self) -> float:
        """Time until the deadline, s; negative after it."""
        return self._end - time.monotonic()

    def begin_round(self) -> int:
        """The number of the round that begins; LimitReached where rounds or time are up."""
        if self.round >= self.rounds:
            raise LimitReached("round limit", f"rounds: {self.rounds} are over: no other may begin")
        if self.left <= 0:
            raise LimitReached("deadline", f"round {self.round + 1}: the deadline has passed")
        self.round += 1
        return self.round

    def ask(
        self,
        place: str,
        role: str,
        expect: type[Content],
        *bodies: Body,
        sender: str = "interpreter@device",
        latest: Callable[[int], Body] | None = None,
    ) -> Steps[Content]:
        """Have an agent answer: `answer = yield from session.ask("edge", "painter", Picture, seed)`.

        Parameters
        ----------
        place : {"device", "edge"}
        role : str
        expect : type of Body
            That the answer must be.
        *bodies : Body
            What it is told.
        sender : str
            Whose words these are.
        latest : callable, optional
            Given to an agent of the device in place of the last body, which grows while it works: latest(step).

        Raises
        ------
        LimitReached
            Where the context is full, or no time is left.
        TimeoutError, EdgeError
            Where the agent does not answer by the deadline.
        EdgeError, AgentError
            Where it answers with something else, or is not reached.
        ValueError
            Of an agent in this process that cannot do what it is asked.
        """
        answer: Content
        if place == "edge" and not self._lost:
            try:
                answer = yield self._step(place, role, expect, bodies, sender)
                return answer
            except EdgeError as error:
                if not self.fallback or error.status not in LOST:
                    raise
                self.failures.append(str(error))
        answer = yield self._step("device", role, expect, bodies, sender, latest)
        return answer

    def ask_all(self, asked: Sequence[tuple[Any, ...]]) -> Steps[list[Any]]:
        """Have several agents answer: each of `asked` is what `ask` takes; those beyond the link work meanwhile.

        An answer that does not come is its exception, in place of the answer.
        """
        answers: list[Any] = [None] * len(asked)
        beyond = [n for n, (place, *_) in enumerate(asked) if place == "edge" and callable(self._edge)]
        beyond = [] if self._lost else beyond
        with ThreadPoolExecutor(max(len(beyond), 1), thread_name_prefix="ask") as pool:
            waiting = {}
            for n in beyond:
                place, role, expect, *bodies = asked[n]
                step = self._step(place, role, expect, bodies, "interpreter@device")
                assert isinstance(step, Exchange)
                waiting[n] = pool.submit(step.wait)
            for n in sorted(set(range(len(asked))) - set(beyond)):
                place, role, expect, *bodies = asked[n]
                try:
                    answers[n] = yield from self.ask(place, role, expect, *bodies)
                except (OSError, ValueError, LimitReached) as error:
                    answers[n] = error
            for n, future in waiting.items():
                try:
                    # Who waits for nothing keeps the device.
                    answers[n] = future.result() if future.done() else (yield Exchange(future.result))
                except OSError as error:
                    answers[n] = error
        return answers

    def has(self, role: str) -> bool:
        """Whether the device has an agent of that role."""
        return role in self._device

    def at(self, role: str, place: str) -> str:
        """A role and its place, ``painter@edge``: the device for the edge once that is lost."""
        return f"{role}@{'device' if self._lost else place}"

    def start(
        self, place: str, role: str, expect: type[Content], *bodies: Body, sender: str = "interpreter@device"
    ) -> Pending[Content]:
        """Have an agent begin while the session goes on; arguments and errors, when it is asked for, as for `ask`.

        An agent of this process begins when its answer is asked for, since it would only share the processor.
        """
        if place == "edge" and callable(self._edge) and not self._lost:
            step = self._step(place, role, expect, bodies, sender)
            future = Future[Content]()
            step.start(lambda answer, _: _settle(future, answer))  # type: ignore[union-attr]
            return Pending(future, None)
        return Pending(None, partial(self.ask, place, role, expect, *bodies, sender=sender))

    def propose(
        self,
        picture: Picture,
        painter: str,
        *,
        seed: Seed | None = None,
        frame: int = 0,
    ) -> int:
        """Keep a picture, which is returned if no better one is made: its number."""
        self.proposals.append(Proposal(picture.pixels, painter, max(self.round, 1), frame, seed))
        return len(self.proposals) - 1

    def judged(self, number: int, findings: Findings) -> None:
        """Write down what a checker said of a proposal."""
        self.proposals[number] = replace(self.proposals[number], findings=findings)

    def finish(self, reason: str, chosen: Sequence[int] | None = None) -> Collaboration:
        """The result; by default each frame's proposal of the largest margin, the latest of equal ones."""
        if chosen is None:
            frames: dict[int, int] = {}
            for number, each in enumerate(self.proposals):
                best = frames.get(each.frame)
                if best is None or _worth(each.margin) >= _worth(self.proposals[best].margin):
                    frames[each.frame] = number
            chosen = [frames[frame] for frame in sorted(frames)]
        images = tuple(self.proposals[number].pixels for number in chosen)
        return Collaboration(
            self.strategy,
            images,
            reason,
            self.round,
            tuple(self.proposals),
            tuple(chosen),
            tuple(sorted(self._said, key=lambda said: said.time)),
            tuple(sorted(self._worked, key=lambda step: step.begin)),
            time.monotonic() - self._begin,
            self.context_bytes,
            tuple(self.failures),
        )

    @property
    def _lost(self) -> bool:
        return bool(self.failures)

    def _step(
        self,
        place: str,
        role: str,
        expect: type[Any],
        bodies: Sequence[Body],
        sender: str,
        latest: Callable[[int], Body] | None = None,
    ) -> Compute | Exchange:
        speaker, at = sender.split("@")
        messages = [Message(body, speaker, at, max(self.round, 1), self.rounds, max(self.left, 0)) for body in bodies]
        if self.left <= 0:
            raise LimitReached("deadline", f"{role} on {place}: the deadline has passed")
        with self._lock:
            self._share(messages)
        if place == "edge" and callable(self._edge):
            return Exchange(partial(self._there, self._edge, role, expect, messages))
        return (Aside if role in ASIDE else Compute)(partial(self._here, place, role, expect, messages, latest))

    def _share(self, messages: Sequence[Message]) -> None:
        """Add to the context what it does not hold yet."""
        new = {bytes_ for m in messages if m.body.shared and (bytes_ := m.body.to_bytes()) not in self._context}
        total = self.context_bytes + sum(HEADER_BYTES + len(each) for each in new)
        if total > CONTEXT_BYTES:
            raise LimitReached("context limit", f"context of {total} bytes: must be at most {CONTEXT_BYTES}")
        self._context |= new
        self.context_bytes = total

    def _here(
        self,
        place: str,
        role: str,
        expect: type[Any],
        messages: Sequence[Message],
        latest: Callable[[int], Body] | None = None,
    ) -> Any:
        """An agent of this process; what goes to the edge and back is written as bytes and read again."""
        team = self._device if place == "device" else self._edge
        assert isinstance(team, Team)
        agent, sent = team[role], time.monotonic()
        bodies: list[Any] = [message.body for message in messages]
        if latest is not None:
            bodies[-1] = latest
        if place == "edge":
            bodies = [Message.from_bytes(message.to_bytes()).body for message in messages]

        def progress(done: int, total: int) -> None:
            if self.left <= 0:
                raise TimeoutError(f"{role} on {place}: the deadline passed at step {done} of {total}")
            if self._progress is not None:
                self._progress(role, place, done, total)

        body = bounded(partial(agent, *bodies, progress=progress), self.left, f"{role} on {place}")
        worked = time.monotonic()
        if not isinstance(body, expect):
            raise AgentError(f"{role} on {place}: answered with {type(body).__name__}: must be {expect.__name__}")
        try:
            answer = Message(body, role, place, max(self.round, 1), self.rounds, max(self.left, 0))
            # Pictures and latents are within their limits by what they are, and take long to write.
            data = answer.to_bytes() if place == "edge" or answer.body.shared else b""
            answer = Message.from_bytes(data) if place == "edge" else answer
        except ValueError as error:
            raise AgentError(f"{role} on {place}: {error}") from None
        self._record(place, role, messages, answer, (sent, worked), worked - sent)
        return answer.body

    def _there(self, remote: Remote, role: str, expect: type[Any], messages: Sequence[Message]) -> Any:
        """An agent beyond the link."""
        sent, seconds = time.monotonic(), self.left / 2 if self.fallback else self.left
        data, wire, computed = remote(role, [message.to_bytes() for message in messages], seconds)
        received = time.monotonic()
        try:
            answer = Message.from_bytes(data)
        except ValueError as error:
            raise EdgeError("DATA_LOSS", f"{role}: {error}") from None
        if not isinstance(answer.body, expect):
            raise EdgeError("DATA_LOSS", f"{role}: answered with {answer.body.kind}: must be {expect.__name__}")
        if (answer.role, answer.place) != (role, "edge"):
            raise EdgeError("DATA_LOSS", f"{role}: answered as {answer.role} on {answer.place}")
        self._record("edge", role, messages, answer, (sent, received), computed, wire)
        return answer.body

    def _record(
        self,
        place: str,
        role: str,
        messages: Sequence[Message],
        answer: Message,
        times: tuple[float, float],
        seconds: float,
        wire: tuple[int, int] | None = None,
    ) -> None:
        sent, received = (when - self._begin for when in times)
        here = f"{role}@{place}"
        with self._lock:
            for message in messages:
                way = "up" if place == "edge" else ""
                if not way and id(message.body) in self._known:
                    # The device has it already: it was said when it was answered.
                    continue
                self._known[id(message.body)] = message.body
                size = wire[0] if wire and message is messages[0] else 0
                self._said.append(Said(message, f"{message.role}@{message.place}", here, size, way, sent))
            way = "down" if place == "edge" else ""
            self._said.append(Said(answer, here, "device", wire[1] if wire else 0, way, received))
            self._known[id(answer.body)] = answer.body
            self._worked.append(Worked(role, place, max(self.round, 1), sent, received, seconds))
            self._share([answer])


class Pending(Generic[Content]):
    """An answer that an agent has begun with.

    Parameters
    ----------
    future : Future, optional
        Of an agent beyond the link.
    ask : callable, optional
        Asks one of this process.
    """

    def __init__(self, future: Future[Content] | None, ask: Callable[[], Steps[Content]] | None) -> None:
        self._future, self._ask = future, ask

    @property
    def begun(self) -> bool:
        """Whether the agent works while the session goes on."""
        return self._future is not None

    @property
    def done(self) -> bool:
        """Whether the answer, or its failure, is there."""
        return self._future is not None and self._future.done()

    @property
    def come(self) -> Content | None:
        """The answer, if it is there and no failure."""
        if self._future is None or not self._future.done() or self._future.exception() is not None:
            return None
        return self._future.result()

    def answer(self) -> Steps[Content]:
        """Wait for the answer; errors as of `Session.ask`."""
        if self._future is None:
            assert self._ask is not None
            return (yield from self._ask())
        content: Content = yield Exchange(self._future.result)
        return content


def _settle(future: Future[Any], answer: Any) -> None:
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def bounded(call: Callable[[], Content], seconds: float, what: str) -> Content:
    """What a call gives within `seconds`; TimeoutError where it takes longer, and its thread is left to itself."""
    box: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def work() -> None:
        try:
            box.put((True, call()))
        except BaseException as error:
            box.put((False, error))

    threading.Thread(target=work, name=what, daemon=True).start()
    try:
        good, value = box.get(timeout=max(seconds, 0.0))
    except queue.Empty:
        raise TimeoutError(f"{what}: no answer by the deadline") from None
    if not good:
        raise value
    result: Content = value
    return result


def _worth(margin: float) -> float:
    return -math.inf if math.isnan(margin) else margin
