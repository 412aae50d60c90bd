"""A device whose user asks a cut network, at random times or one request after the other, and writes down the times.

Its process says "ready", begins with the next line on stdin, and answers with one JSON line of what was measured.
"""

import json
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from edgeinfer.bridge.cutting.cuts import divide
from edgeinfer.bridge.cutting.sessions import CutSessions
from edgeinfer.bridge.device.connection import Connection
from edgeinfer.bridge.device.network import CutDevice, EdgeAnswer
from edgeinfer.bridge.wire import processes
from edgeinfer.network.feeds import random_feeds

_WARM_UP = 5


@dataclass(frozen=True)
class Settings:
    """What the process is told.

    Parameters
    ----------
    model : str
        ONNX file.
    edge : str
        HOST:PORT; empty where all runs on the device.
    shapes : dict of str to list of int
        As for `read_graph`.
    places : list of int
        Of the cut.
    arrivals : list of float, s
        After the start, ascending; empty: one request after the other.
    requests : int
    pause : float, s
        Before each request, where they come one after the other.
    extra : float, s
        Added to each request's computing on the device, asleep.
    deadline : float, s
        For each request's answer from the edge.
    level, threads, seed
        Of ONNX Runtime, and of the input.
    """

    #: What each request's row has, s on the monotonic clock or of duration, null where it did not come to that.
    MEASURED: ClassVar[tuple[str, ...]] = ("arrival", "device", "sent", "received", "queue", "edge", "done")

    model: str
    edge: str
    shapes: dict[str, list[int]]
    places: list[int]
    arrivals: list[float]
    requests: int
    pause: float
    extra: float
    deadline: float
    level: str
    threads: int
    seed: int


class User:
    """Computes request after request up to the cut, in order of arrival, and takes the answers as they come."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        shapes = {name: tuple(shape) for name, shape in settings.shapes.items()}
        sessions = CutSessions(settings.model, shapes, level=settings.level, threads=settings.threads)
        self._connection = None
        if settings.edge:
            self._connection = Connection(settings.edge, message_bytes=sessions.message_bytes)
        self.device = CutDevice(sessions, self._connection)
        self.device.use(divide(sessions.graph, settings.places))
        self._feeds = random_feeds(sessions.graph, settings.seed)
        self.rows: list[dict[str, Any]] = []

    def warm_up(self) -> None:
        """Load both halves, open the stream, and let a few requests pass that do not count."""
        if self._connection is not None and self.device.division.returned:
            self.device.prepare(self.device.division)
        for _ in range(_WARM_UP):
            self.device.infer(self._feeds, deadline=self.settings.deadline)

    def run(self) -> None:
        """Until every request is answered or has failed."""
        settings = self.settings
        begin = time.monotonic() + 0.1
        pending = []
        for number in range(settings.requests):
            if settings.arrivals:
                arrival = begin + settings.arrivals[number]
                time.sleep(max(arrival - time.monotonic(), 0.0))
            else:
                time.sleep(settings.pause)
                arrival = time.monotonic()
            pending.append(self._ask(str(number), arrival))
            if not settings.arrivals:
                self._wait(*pending.pop())
        for each in pending:
            self._wait(*each)

    def _wait(self, row: dict[str, Any], answered: threading.Event) -> None:
        if not answered.wait(max((row["sent"] or 0.0) + self.settings.deadline - time.monotonic(), 0.0)):
            row["failure"] = "DEADLINE_EXCEEDED"

    def _ask(self, request: str, arrival: float) -> tuple[dict[str, Any], threading.Event]:
        settings, division, answered = self.settings, self.device.division, threading.Event()
        row: dict[str, Any] = dict.fromkeys((*Settings.MEASURED, "failure")) | {"arrival": arrival}
        self.rows.append(row)
        carried, row["device"] = self.device.head(self._feeds, request)
        if division.computed and settings.extra:
            start = time.monotonic()
            time.sleep(settings.extra)
            row["device"] += time.monotonic() - start
        if not division.returned:
            row["done"] = time.monotonic()
            answered.set()
            return row, answered

        def deliver(answer: Any, received: float) -> None:
            if isinstance(answer, EdgeAnswer):
                told = {"received": received, "queue": answer.queue_seconds, "edge": answer.compute_seconds}
                row.update(told | {"done": time.monotonic()})
            else:
                row["failure"] = str(answer)
            answered.set()

        row["sent"] = time.monotonic()
        self.device.send(carried, request, division, settings.deadline, deliver)
        return row, answered

    def close(self) -> None:
        """Disconnect."""
        self.device.close()
        if self._connection is not None:
            self._connection.close()


def run(settings: Settings) -> None:
    """What the process does: warm up, say so, wait for a line, and go through all requests."""
    user = User(settings)
    user.warm_up()
    print("ready", flush=True)
    sys.stdin.readline()
    processes.exit_with_stdin()
    user.run()
    print(json.dumps(user.rows), flush=True)
    user.close()
