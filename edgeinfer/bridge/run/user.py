"""A user of a device, who asks at random times or one request after the other, and writes down what each took.

Its process says "ready", and answers each line on stdin, a `Load`, with a line of JSON: a row for each request.
"""

import json
import math
import queue
import statistics
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from edgeinfer.bridge.device.client import Client, Compute, Exchange, Script
from edgeinfer.bridge.device.connection import Connection, EdgeError
from edgeinfer.bridge.edge.server import Server
from edgeinfer.bridge.wire import processes
from edgeinfer.bridge.wire.trace import Trace

_WARM_UP = 5
# Between two looks whether requests are overdue, while nothing is computed, s.
_OVERDUE = 0.1


class Work(Protocol):
    """A kind of work: a class that a process makes from settings, for an edge that serves or a user's device that asks.

    Attributes
    ----------
    message_bytes : int
        Longest message.
    client : Client
        The device, from `connect` on.
    """

    message_bytes: int
    client: Client

    def edge(self, **options: Any) -> Server:
        """A server with the kind's `Service`; options as for `Server`."""

    def connect(self, connection: Connection | None, **asked: Any) -> None:
        """Be a device with that way to an edge; `asked`, of JSON, says what for."""

    def warm_up(self) -> None:
        """What is due once, before any request."""

    def script(self, number: int, request: str) -> Script[Any]:
        """The steps of a request, of that number and id."""

    def row(self, done: Any) -> dict[str, Any]:
        """What its row says of a request besides the steps' times; values of JSON."""


@dataclass(frozen=True)
class Load:
    """How a user asks.

    Parameters
    ----------
    requests : int
    arrivals : list of float, s
        After the start, ascending; empty: one request after the other.
    pause : float, s
        Before each request, where they come one after the other.
    slowdown : float
        How many times slower the device is, >= 1.
    extra : float, s, optional
        What that adds to each computing step, asleep; by default `slowdown` - 1 times the median of the steps while
        warming up.
    first : int
        The first request's number.
    """

    requests: int
    arrivals: list[float]
    pause: float = 0.0
    slowdown: float = 1.0
    extra: float | None = None
    first: int = 0


class Request:
    """A request under way: its script, and its row.

    A row has "arrival" and "done", s on the monotonic clock, "failure", the reason or None, and "steps": for each the
    name, "device", "edge" or "aside", when it was due, begun and ended, and how much of that was asleep, s; and what
    the kind of work adds.

    Parameters
    ----------
    identifier : str
    script : Script
    arrival : float, s
    rank : int
        The lower, the sooner the device computes for it.
    """

    def __init__(self, identifier: str, script: Script[Any], arrival: float, rank: int = 0) -> None:
        self.identifier, self.script, self.rank = identifier, script, rank
        self.result: Any = None
        self.row: dict[str, Any] = {"arrival": arrival, "done": None, "failure": None, "steps": []}
        self.step: Compute | Exchange | None = None

    def advance(self, outcome: Any, work: Work) -> Compute | Exchange | None:
        """Hand the script what its step came to: its next step, or None where it has ended."""
        try:
            if isinstance(outcome, Exception):
                self.step = self.script.throw(outcome)
            else:
                self.step = self.script.send(outcome)
            return self.step
        except StopIteration as end:
            self.row["done"], self.result = time.monotonic(), end.value
        except Exception as error:
            self.row["failure"] = str(error)
            if not isinstance(error, EdgeError):
                work.client.trace.record(
                    "event", "failed", request=self.identifier, status="INTERNAL", reason=str(error)
                )
        self.step = None
        return None

    def timed(self, name: str, due: float, begin: float, asleep: float = 0.0, end: float | None = None) -> None:
        """Write down a step that ended, now unless said otherwise."""
        self.row["steps"].append([name, due, begin, time.monotonic() if end is None else end, asleep])


class User:
    """Asks, computes for the request that came first of those for which computing is due, and takes what comes from the
    edge as it comes.

    A request that computes several steps in a row thus has the device for all of them: nobody who came later waits
    less for it.

    Parameters
    ----------
    work : Work
    load : Load
    """

    def __init__(self, work: Work, load: Load) -> None:
        self.work, self.load = work, load
        self.requests: list[Request] = []
        self._extra = 0.0
        # By rank, which no two requests share, and none has two steps due; the end is behind all.
        self._due: queue.PriorityQueue[tuple[float, tuple[Request, Compute, float] | None]] = queue.PriorityQueue()
        self._lock, self._left = threading.Lock(), 0

    def warm_up(self) -> None:
        """Let a few requests pass that do not count."""
        self.work.warm_up()
        computed = []
        for _ in range(_WARM_UP):
            warm = Request("warm-up", self.work.script(0, "warm-up"), time.monotonic())
            self._left = 1
            self._go_on(warm, None)
            self._compute()
            if warm.row["failure"]:
                raise OSError(f"warm-up: {warm.row['failure']}")
            computed += [end - begin for name, _, begin, end, _ in warm.row["steps"] if name == "device"]
        extra = (self.load.slowdown - 1) * statistics.median(computed) if computed else 0.0
        self._extra = extra if self.load.extra is None else self.load.extra

    def run(self, load: Load | None = None) -> None:
        """Until every request is answered or has failed: those of another load than at first, if one is given."""
        self.load, self.requests = load or self.load, []
        if not self.load.arrivals:
            for number in range(self.load.first, self.load.first + self.load.requests):
                time.sleep(self.load.pause)
                self._left = 1
                self._go_on(self._request(number, time.monotonic()), None)
                self._compute()
            return
        self._left = self.load.requests
        computing = threading.Thread(target=self._compute, name="device", daemon=True)
        computing.start()
        begin = time.monotonic() + 0.1
        for number, after in enumerate(self.load.arrivals, self.load.first):
            time.sleep(max(begin + after - time.monotonic(), 0.0))
            self._go_on(self._request(number, begin + after), None)
        computing.join()

    def rows(self) -> list[dict[str, Any]]:
        """A row a request, with what its kind of work adds to those that are done."""
        # Not before the end: what rows cost is no part of what the device does.
        return [
            each.row if each.row["done"] is None else each.row | self.work.row(each.result) for each in self.requests
        ]

    def _request(self, number: int, arrival: float) -> Request:
        self.work.client.trace.record("event", "arrival", request=str(number), time=arrival)
        request = Request(str(number), self.work.script(number, str(number)), arrival, number)
        self.requests.append(request)
        return request

    def _go_on(self, request: Request, outcome: Any) -> None:
        """Begin the next step of a request among others."""
        while (step := request.advance(outcome, self.work)) is not None:
            begin = time.monotonic()
            if isinstance(step, Compute):
                self.work.client.queue_length += 1
                self._due.put((request.rank, (request, step, begin)))
                return
            try:
                step.start(partial(self._came, request, step.name, begin))
                return
            except Exception as error:
                outcome = error
        self._ended(request)

    def _came(self, request: Request, name: str, begin: float, answer: Any, received: float) -> None:
        request.timed(name, begin, begin, end=received)
        self._go_on(request, answer)

    def _compute(self) -> None:
        """Compute what falls due until no request is left, and see that none waits for ever."""
        while True:
            try:
                _, item = self._due.get(timeout=_OVERDUE)
            except queue.Empty:
                for request in self.requests:
                    if isinstance(request.step, Exchange):
                        request.step.expire(time.monotonic())
                continue
            if item is None:
                return
            request, step, due = item
            outcome = self._do(request, step, due)
            self.work.client.queue_length -= 1
            self._go_on(request, outcome)

    def _do(self, request: Request, step: Compute, due: float) -> Any:
        """Compute a step, and sleep as long as a slower device would take on."""
        begin = time.monotonic()
        try:
            outcome = step.call()
        except Exception as error:
            return error
        computed = time.monotonic()
        if self._extra:
            time.sleep(self._extra)
        end = time.monotonic()
        request.timed("device", due, begin, end - computed if self._extra else 0.0, end)
        trace = self.work.client.trace
        trace.stage("queue", due, begin, request.identifier)
        trace.stage("device", begin, end, request.identifier, slowdown=self.load.slowdown)
        return outcome

    def _ended(self, request: Request) -> None:
        if request.row["failure"] is None:
            self.work.client.trace.record("event", "done", request=request.identifier)
        with self._lock:
            self._left -= 1
            if not self._left:
                self._due.put((math.inf, None))


def run(work: Work, load: Load, trace: str | None) -> None:
    """What the process does: warm up for a load, say so, and go through the requests of each load that comes."""
    user = User(work, load)
    user.warm_up()
    with Trace(trace, "device") as work.client.trace:
        lines = processes.exit_with_stdin()
        print("ready", flush=True)
        while True:
            user.run(Load(**json.loads(lines.get())))
            print(json.dumps(user.rows()), flush=True)
