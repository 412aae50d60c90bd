"""A TCP forwarder between device and edge that lets bytes through as a link of any law would."""

import math
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from edgeinfer import _random, _validate
from edgeinfer.bridge.link.airtime import Airtime
from edgeinfer.bridge.wire import address, processes
from edgeinfer.bridge.wire.trace import Trace
from edgeinfer.model.pipelines import Link

#: Bytes that leave together; their time is that of the last of them.
CHUNK = 16384
#: How long a busy link of constant rate may wait for its thread, s.
_PATIENCE = 0.01
#: Connections at once; more are closed as they come.
CONNECTIONS = 64


class LinkClock:
    """The monotonic clock less the outages: it stands still while the link is out."""

    def __init__(self) -> None:
        self._lost = 0.0
        self._since: float | None = None
        self._changed = threading.Condition()

    @property
    def out(self) -> bool:
        """Whether the link is out now."""
        return self._since is not None

    def now(self) -> float:
        """Link time, s."""
        with self._changed:
            return self._now()

    def _now(self) -> float:
        return (time.monotonic() if self._since is None else self._since) - self._lost

    def fail(self) -> None:
        """An outage begins; nothing happens if one lasts already."""
        with self._changed:
            if self._since is None:
                self._since = time.monotonic()
                self._changed.notify_all()

    def recover(self) -> None:
        """The outage ends."""
        with self._changed:
            if self._since is not None:
                self._lost += time.monotonic() - self._since
                self._since = None
                self._changed.notify_all()

    def wait_while_out(self) -> None:
        """Returns at once unless an outage lasts, else when it ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._since is None)

    def wait_until(self, due: float) -> None:
        """Returns when link time has reached `due`: one absolute time, so that waits do not add up their errors."""
        with self._changed:
            while (left := due - self._now()) > 0:
                self._changed.wait(None if self._since is not None else left)


class Shaper:
    """Forwards connections to an address, each direction at the rate of its own link, FIFO over all connections.

    The bytes that count are TCP payload: gRPC's and HTTP/2's framing included, TCP and IP headers not.

    Parameters
    ----------
    listen, to : (host, port)
        Port 0 listens on a free one, see `port`.
    down, up : FadingLink, ConstantLink, OutageLink, MarkovLink, TraceLink or None
        From `to` back to whoever connects, and the other way; None forwards at once. Bytes of a constant link come
        through its latency after they left, while others leave.
    slots : {"fresh", "grid"}
        See `Airtime`.
    seed : optional
        What `numpy.random.default_rng` takes; the directions draw from streams of their own.
    outages : sequence of (begin, end), s
        Counted from the start; nothing passes, and slots stand still, between the two.
    trace : Trace, optional
        Takes every slot's rate and every chunk's arrival and departure.

    Examples
    --------
    >>> from edgeinfer import RayleighLink
    >>> shaper = Shaper(("127.0.0.1", 0), ("127.0.0.1", 9), RayleighLink(10e6, 31, -100, 128.1, 0.01))
    >>> shaper.port > 0
    True
    >>> shaper.close()
    """

    def __init__(
        self,
        listen: tuple[str, int],
        to: tuple[str, int],
        down: Link | None,
        up: Link | None = None,
        *,
        slots: str = "fresh",
        seed: Any = None,
        outages: Sequence[tuple[float, float]] = (),
        trace: Trace | None = None,
    ) -> None:
        self.clock = LinkClock()
        self.trace = trace or Trace(None, "link")
        self._to = to
        self._outages = _checked_outages(outages)
        self._slots = slots
        self._seeds = dict(zip(("down", "up"), _split(_random.seed_sequence(seed, "seed")), strict=True))
        self._airtime = {way: self._direction(way, link) for way, link in (("down", down), ("up", up))}
        self._patience = max((getattr(link, "slot", _PATIENCE) for link in (down, up) if link is not None), default=0.0)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._connections = 0
        self._listener = socket.create_server(listen, family=socket.AF_INET6 if ":" in listen[0] else socket.AF_INET)
        self.host = listen[0]
        self.port: int = self._listener.getsockname()[1]

    def _direction(self, way: str, link: Link | None, free: float = -math.inf) -> Airtime | None:
        if link is None:
            return None

        def on_slot(begin: float, rate: float) -> None:
            self.trace.record("slot", "rate", direction=way, rate=rate, begin=begin)

        origin = max(self.clock.now(), free)
        made = Airtime(link, slots=self._slots, seed=self._seeds[way], origin=origin, on_slot=on_slot)
        made.free = free
        return made

    def change(self, down: Link | None, up: Link | None = None) -> None:
        """Other links from now on; bytes that are on the link already keep their time, and later ones wait for them.

        The rates are drawn from the beginning of the same streams.
        """
        with self._lock:
            for way, link in (("down", down), ("up", up)):
                old = self._airtime[way]
                self._airtime[way] = self._direction(way, link, -math.inf if old is None else old.free)

    def serve(self) -> None:
        """Accept connections until `close` is called."""
        threading.Thread(target=self._keep_outages, daemon=True).start()
        while not self._closed.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                break
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def close(self) -> None:
        """Stop listening and cut every connection."""
        self._closed.set()
        self.clock.recover()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def fail(self) -> None:
        """An outage begins."""
        self.clock.fail()
        self.trace.record("event", "outage begins")

    def recover(self) -> None:
        """The outage ends."""
        self.clock.recover()
        self.trace.record("event", "outage ends")

    def _keep_outages(self) -> None:
        start = time.monotonic()
        for begin, end in self._outages:
            if self._closed.wait(start + begin - time.monotonic()):
                return
            self.fail()
            if math.isfinite(end) and self._closed.wait(start + end - time.monotonic()):
                return
            if math.isfinite(end):
                self.recover()

    def _connect(self, near: socket.socket) -> None:
        with self._lock:
            self._connections += 1
            name, refused = self._connections, len(self._sockets) >= 2 * CONNECTIONS or self._closed.is_set()
        try:
            if refused:
                raise OSError(f"more than {CONNECTIONS} connections")
            far = socket.create_connection(self._to, timeout=10)
        except OSError as error:
            self.trace.record("event", "connection refused", connection=name, error=str(error))
            near.close()
            return
        far.settimeout(None)
        pair = (near, far)
        for end in pair:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._sockets.update(pair)
        pumps = [
            threading.Thread(target=self._pump, args=(source, sink, way, name), daemon=True)
            for source, sink, way in ((far, near, "down"), (near, far, "up"))
        ]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        with self._lock:
            self._sockets.difference_update(pair)
        for end in pair:
            end.close()

    def _pump(self, source: socket.socket, sink: socket.socket, way: str, connection: int) -> None:
        """Carry one direction of a connection to its end; a lost end takes the other one with it."""
        backlog: float | None = None
        flight = _Flight(self, source, sink)
        try:
            while True:
                with self._lock:
                    airtime = self._airtime[way]
                size = CHUNK if airtime is None else airtime.block or CHUNK
                data, since = self._receive(source, backlog, size)
                arrived = time.monotonic()
                if not data:
                    flight.land(lambda: sink.shutdown(socket.SHUT_WR))
                    return
                with self._lock:
                    airtime = self._airtime[way]
                    backlog = None if airtime is None else airtime.finish(8 * len(data), since)
                if backlog is None:
                    self.clock.wait_while_out()
                else:
                    self.clock.wait_until(backlog)

                def forward(data: bytes = data, arrived: float = arrived) -> None:
                    # Before the bytes go, so that whoever has them finds the record.
                    self.trace.record(
                        "chunk", "forwarded", direction=way, size=len(data), connection=connection, arrived=arrived
                    )
                    sink.sendall(data)

                flight.send(forward, 0.0 if airtime is None else float(airtime.link.latency))
        except OSError:
            _cut(source, sink)
        finally:
            flight.land(None)

    def _receive(self, source: socket.socket, backlog: float | None, size: int) -> tuple[bytes, float]:
        """Bytes, and the link time since which they wait for the link.

        Bytes that are there when the last chunk has left count as there when it was due, so that a busy link neither
        idles nor begins a fresh slot while its thread wakes up; past a slot's length it was the receiver that held them
        up.
        """
        if backlog is not None:
            try:
                data = source.recv(size, socket.MSG_DONTWAIT)
                now = self.clock.now()
                return data, backlog if now - backlog < self._patience else now
            except BlockingIOError:
                pass
        data = source.recv(size)
        return data, self.clock.now()


def _cut(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class _Flight:
    """What has left a link and is under way for its latency, in order; a thread of its own once there is any."""

    def __init__(self, shaper: Shaper, *ends: socket.socket) -> None:
        self._clock, self._ends = shaper.clock, ends
        self._waiting: queue.Queue[tuple[float, Callable[[], None]] | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._landing = threading.Lock()

    def send(self, deliver: Callable[[], None], latency: float) -> None:
        """Deliver after the latency, and never before what was sent earlier; waits while nobody takes what has come."""
        if latency == 0 and self._thread is None:
            deliver()
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._carry, daemon=True)
            self._thread.start()
        due = self._clock.now() + latency
        with self._landing:
            self._waiting.put((due, deliver))

    def land(self, last: Callable[[], None] | None) -> None:
        """Wait for all that is under way, and then do the last thing."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None
        if last is not None:
            last()

    def _carry(self) -> None:
        try:
            while (item := self._waiting.get()) is not None:
                due, deliver = item
                self._clock.wait_until(due)
                with self._landing:
                    deliver()
        except OSError:
            _cut(*self._ends)


def _split(sequence: np.random.SeedSequence) -> list[np.random.SeedSequence]:
    return [np.random.SeedSequence(sequence.entropy, spawn_key=(*sequence.spawn_key, way)) for way in (0, 1)]


def _checked_outages(outages: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    last, spans = 0.0, []
    for number, pair in enumerate(outages):
        span = _validate.real(f"outages[{number}]", pair, 0, infinite=True, unit="s")
        if np.shape(span) != (2,):
            raise ValueError(f"outages[{number}] = {pair!r}: must be a begin and an end, s")
        begin, end = map(float, span)
        if not last <= begin < end:
            raise ValueError(f"outages[{number}] = {(begin, end)!r}: must begin at >= {last:g} and end later")
        last = end
        spans.append((begin, end))
    return spans


def run(shaper: Shaper, *, watch_stdin: bool = False) -> None:
    """Serve until SIGTERM or SIGINT, in the main thread; SIGUSR1 begins an outage, SIGUSR2 ends it."""
    outage = {signal.SIGUSR1: shaper.fail, signal.SIGUSR2: shaper.recover}
    commands = processes.Commands(outage, watch_stdin=watch_stdin)
    threading.Thread(target=shaper.serve, daemon=True).start()
    print(f"listening on {address.join(shaper.host, shaper.port)}", flush=True)
    commands.obey()
    shaper.close()
