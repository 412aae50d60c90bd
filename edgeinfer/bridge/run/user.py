"""A device whose user asks at random times: Poisson arrivals, requests in flight together, one decoder, FIFO.

Its process says "ready", begins with the next line on stdin, and says "done".
"""

import queue
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.bridge.cascade import runtime
from edgeinfer.bridge.device.cascade import Device, Order
from edgeinfer.bridge.device.connection import Connection, EdgeError
from edgeinfer.bridge.wire import processes
from edgeinfer.bridge.wire.trace import Trace

_REPETITIONS = 5


@dataclass(frozen=True)
class Settings:
    """What the process is told.

    Parameters
    ----------
    model, trace : str
        Folder, and file.
    edge : str
        HOST:PORT; empty for the device paradigm.
    paradigm, caption : str
    prior_steps, decode_steps, seed : int
        The images' seeds count up from `seed`.
    arrivals : list of float, s
        After the start, ascending.
    deadline : float, s
        For each request's answer from the edge.
    slowdown : float
        Of the device: to each request it adds `slowdown` - 1 times its stages' median time without load, asleep. >= 1.
    negotiate : bool
        Whether each request begins with signalling.
    threads : int or None
    """

    model: str
    trace: str
    edge: str
    paradigm: str
    caption: str
    prior_steps: int
    decode_steps: int
    seed: int
    arrivals: list[float]
    deadline: float
    slowdown: float
    negotiate: bool
    threads: int | None


class User:
    """Sends the orders at their times, and decodes what comes back in the order it comes.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.trace = Trace(settings.trace, "device")
        self.connection = Connection(settings.edge) if settings.edge else None
        cascade = runtime.load(settings.model, threads=settings.threads)
        self.device = Device(cascade, self.connection, trace=self.trace)
        self._extra = 0.0
        self._decoder: queue.SimpleQueue[tuple[str, Order, NDArray[Any] | None, float]] = queue.SimpleQueue()

    def warm_up(self) -> None:
        """Load what will run, time it, and open the connection with a request that does not count."""
        self.device.measure()
        order, times = self._order(0), []
        if self.settings.paradigm != "device":
            end = time.monotonic() + self.settings.deadline
            *_, answer = self.device.fetch(order, "warm-up", end, deadline=self.settings.deadline)
        if self.settings.paradigm != "edge":
            for _ in range(_REPETITIONS):
                begin = time.monotonic()
                self._compute("warm-up", order, None if self.settings.paradigm == "device" else answer)
                times.append(time.monotonic() - begin)
            self._extra = (self.settings.slowdown - 1) * statistics.median(times)

    def run(self) -> None:
        """Until every request is answered or has failed."""
        begin = time.monotonic() + 0.1
        worker = threading.Thread(target=self._decode, daemon=True)
        worker.start()
        asking = []
        for number, arrival in enumerate(self.settings.arrivals):
            time.sleep(max(begin + arrival - time.monotonic(), 0.0))
            self.trace.record("event", "arrival", request=f"{number}", time=begin + arrival)
            if self.settings.paradigm == "device":
                self._queue(number, None)
            else:
                thread = threading.Thread(target=self._ask, args=(number,), daemon=True)
                thread.start()
                asking.append(thread)
        for thread in asking:
            thread.join()
        self._decoder.put(("", self._order(0), None, 0.0))
        worker.join()
        if self.connection is not None:
            self.connection.close()
        self.trace.close()

    def _order(self, number: int) -> Order:
        s = self.settings
        return Order(s.caption, s.seed + number, s.paradigm, s.prior_steps, s.decode_steps)

    def _queue(self, number: int, answer: NDArray[Any] | None) -> None:
        self.device.queue_length += 1
        self._decoder.put((str(number), self._order(number), answer, time.monotonic()))

    def _ask(self, number: int) -> None:
        order, request = self._order(number), str(number)
        try:
            end = time.monotonic() + self.settings.deadline
            *_, answer = self.device.fetch(
                order, request, end, deadline=self.settings.deadline, negotiate=self.settings.negotiate
            )
        except EdgeError as error:
            self.trace.record("event", "failed", request=request, status=error.status, reason=str(error))
            return
        if self.settings.paradigm == "edge":
            self.trace.record("event", "done", request=request)
        else:
            self._queue(number, answer)

    def _decode(self) -> None:
        while True:
            request, order, answer, queued = self._decoder.get()
            if not request:
                return
            begin = time.monotonic()
            self.trace.stage("queue", queued, begin, request)
            try:
                self._compute(request, order, answer)
            except ValueError as error:
                self.trace.record("event", "failed", request=request, status="INTERNAL", reason=str(error))
                continue
            finally:
                self.device.queue_length -= 1
            time.sleep(self._extra)
            self.trace.stage("device", begin, time.monotonic(), request, slowdown=self.settings.slowdown)
            self.trace.record("event", "done", request=request)

    def _compute(self, request: str, order: Order, answer: NDArray[Any] | None) -> None:
        if answer is None:
            answer = self.device.prior(order, request, self.settings.prior_steps)
        self.device.decode(order, request, answer, self.settings.decode_steps)


def poisson(rate: float, count: int, seed: Any) -> NDArray[np.float64]:
    """Arrival times of a Poisson process, s.

    Examples
    --------
    >>> times = poisson(2.0, 10_000, 1)
    >>> bool((np.diff(times) > 0).all()), round(10_000 / times[-1], 1)
    (True, np.float64(2.0))
    """
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))


def run(settings: Settings) -> None:
    """What the process does: warm up, say so, wait for a line, and go through all requests."""
    user = User(settings)
    user.warm_up()
    print("ready", flush=True)
    sys.stdin.readline()
    processes.exit_with_stdin()
    user.run()
    print("done", flush=True)
