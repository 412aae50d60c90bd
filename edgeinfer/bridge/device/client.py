"""The device: requests as scripts of steps, computed here or exchanged with an edge, as many rounds as they take."""

import queue
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from edgeinfer import _validate
from edgeinfer.bridge.device.connection import Connection, Deliver, EdgeError, EdgeStream
from edgeinfer.bridge.wire.trace import Trace

#: What says that the edge is not reached, or not in time.
LOST = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
Result = TypeVar("Result")
#: A request: yields steps, is sent what they gave, and returns what it came to. A step's failure is thrown into it.
Script = Generator["Compute | Exchange", Any, Result]


@dataclass(frozen=True, eq=False)
class Compute:
    """A step on the device, which computes one after another, those of the request that came first before others.

    Attributes
    ----------
    call : callable
        Gives the step's result.
    """

    call: Callable[[], Any]


class Exchange:
    """A step with an edge, by a call that waits; other requests go on meanwhile.

    Parameters
    ----------
    call : callable
        Gives the step's result, or raises.
    """

    #: What rows call the step.
    name = "edge"

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call

    def wait(self) -> Any:
        """The step's result."""
        return self._call()

    def start(self, deliver: Deliver) -> None:
        """Have `deliver` called with the result or the exception, and when it came, from another thread."""

        def work() -> None:
            try:
                answer = self._call()
            except Exception as error:
                answer = error
            deliver(answer, time.monotonic())

        threading.Thread(target=work, daemon=True).start()

    def expire(self, now: float) -> None:
        """Deliver a failure where the time is up; a call that waits sees to that itself."""


class Aside(Exchange):
    """A step on the device that is so short that it waits for no computing: it is done beside it.

    Parameters
    ----------
    call : callable
        Gives the step's result, or raises; several may run at once.
    """

    name = "aside"


class StreamExchange(Exchange):
    """A step with an edge over a stream.

    Parameters
    ----------
    stream : EdgeStream
    message : ModelInferRequest
    end : float, s
        On the monotonic clock: until when there must be an answer.
    take : callable (answer, received) -> result
        Checks what came; an EdgeError that it raises is the outcome.
    """

    def __init__(self, stream: EdgeStream, message: Any, end: float, take: Callable[[Any, float], Any]) -> None:
        self._stream, self._message, self._end, self._take = stream, message, end, take
        self._deliver: Deliver | None = None

    def wait(self) -> Any:
        box: queue.SimpleQueue[Any] = queue.SimpleQueue()
        timeout = self._end - time.monotonic()
        if timeout <= 0:
            raise EdgeError("DEADLINE_EXCEEDED", "no time is left for the edge")
        self.start(lambda answer, received: box.put(answer))
        try:
            answer = box.get(timeout=timeout)
        except queue.Empty:
            if self._stream.forget(self._message.id):
                raise EdgeError("DEADLINE_EXCEEDED", f"no answer within {timeout:.3g} s") from None
            answer = box.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def start(self, deliver: Deliver) -> None:
        def receive(answer: Any, received: float) -> None:
            if not isinstance(answer, EdgeError):
                try:
                    answer = self._take(answer, received)
                except EdgeError as error:
                    answer = error
            deliver(answer, received)

        self._deliver = deliver
        self._stream.send(self._message, receive)

    def expire(self, now: float) -> None:
        if now > self._end and self._deliver is not None and self._stream.forget(self._message.id):
            self._deliver(EdgeError("DEADLINE_EXCEEDED", "no answer in time"), now)


class Client:
    """A device: its processor, its connection to an edge, and its trace.

    Parameters
    ----------
    connection : Connection, optional
        None can only compute here.
    trace : Trace, optional
    """

    def __init__(self, connection: Connection | None = None, *, trace: Trace | None = None) -> None:
        self._connection = connection
        self.trace = trace or Trace(None, "device")
        #: Computing steps that wait or run.
        self.queue_length = 0
        self._computing = threading.Lock()

    def close(self) -> None:
        """Send no more. The connection stays open."""

    @property
    def connection(self) -> Connection:
        """The way to the edge; EdgeError where there is none."""
        if self._connection is None:
            raise EdgeError("UNAVAILABLE", "no edge is given")
        return self._connection

    def run(self, script: Script[Result]) -> Result:
        """Do a request's steps in the calling thread: what it came to."""
        advance, value = script.send, None
        while True:
            try:
                step = advance(value)
            except StopIteration as end:
                result: Result = end.value
                return result
            try:
                if isinstance(step, Compute):
                    with self._computing:
                        value = step.call()
                else:
                    value = step.wait()
                advance = script.send
            except Exception as error:
                advance, value = script.throw, error

    def failed(self, request: str, error: EdgeError) -> str:
        """Write down that the edge failed; why."""
        self.trace.record("event", "failed", request=request, status=error.status, reason=str(error))
        return str(error)


@dataclass(frozen=True)
class Limits:
    """The times of a request on the monotonic clock, s.

    Attributes
    ----------
    start, end : float
        Of the request.
    patience : float
        Until when the edge must have answered.
    """

    start: float
    end: float
    patience: float


def limits(deadline: float, patience: float | None, fallback: bool) -> Limits:
    """The times of a request that starts now; without `patience` the edge may take all of `deadline`, or half of it
    with `fallback`.
    """
    start = time.monotonic()
    deadline = _validate.scalar("deadline", deadline, 0, low_open=True, unit="s")
    if patience is None:
        patience = deadline / 2 if fallback else deadline
    patience = _validate.scalar("patience", patience, 0, low_open=True, unit="s")
    return Limits(start, start + deadline, min(start + deadline, start + patience))
