"""The system's processes, started with one JSON line of settings.

`python -m edgeinfer.bridge.run.start` reads from stdin what to be, "edge", "network", "link", "device" or "halves",
with its settings, and ends when stdin closes. A server says "listening on HOST:PORT"; a device says "ready", and begins
with the next line.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from edgeinfer.bridge.wire import address
from edgeinfer.bridge.wire.processes import Process
from edgeinfer.model import RayleighLink

_LOOPBACK = "127.0.0.1"


def start(kind: str, **settings: Any) -> Process:
    """Start a process of the system.

    Parameters
    ----------
    kind : {"edge", "network", "link", "device", "halves"}
        An edge for a cascade, an edge for a network, a link, and a device for either.
    **settings
        What `start_..` of this module, or the device's `Settings`, take; values of JSON.

    Returns
    -------
    Process
        To be left through its `with` block.
    """
    process = Process(("-m", "edgeinfer.bridge.run.start"), kind)
    process.send(json.dumps({"kind": kind} | settings))
    return process


def link_settings(link: RayleighLink | None) -> dict[str, float] | None:
    """A link's parameters as values of JSON; None stays None."""
    return None if link is None else {name: float(value) for name, value in link.power_budget().items()}


def _edge(model: str, capacity: int, batch: int, threads: int | None, trace: str | None) -> None:
    from edgeinfer.bridge.cascade import runtime
    from edgeinfer.bridge.edge.cascade import Edge
    from edgeinfer.bridge.edge.server import run
    from edgeinfer.bridge.wire.trace import Trace

    with Trace(trace, "edge") as log:
        edge = Edge(runtime.load(model, threads=threads), capacity=capacity, batch=batch, trace=log)
        run(edge, _LOOPBACK, 0, watch_stdin=True)


def _network(
    model: str, shapes: dict[str, list[int]], level: str, threads: int, capacity: int, limit: float, trace: str | None
) -> None:
    from edgeinfer.bridge.cutting.sessions import CutSessions
    from edgeinfer.bridge.edge.network import CutEdge
    from edgeinfer.bridge.edge.server import run
    from edgeinfer.bridge.wire.trace import Trace

    sizes = {name: tuple(shape) for name, shape in shapes.items()}
    sessions = CutSessions(model, sizes, level=level, threads=threads)
    with Trace(trace, "edge") as log:
        edge = CutEdge(sessions, capacity=capacity, limit=limit, trace=log)
        run(edge, _LOOPBACK, 0, watch_stdin=True, message_bytes=sessions.message_bytes)


def _link(
    to: str,
    downlink: dict[str, float] | None,
    uplink: dict[str, float] | None,
    slots: str,
    seed: int,
    trace: str | None,
) -> None:
    from edgeinfer.bridge.link.shaper import Shaper, run
    from edgeinfer.bridge.wire.trace import Trace

    down, up = (None if link is None else RayleighLink(**link) for link in (downlink, uplink))
    with Trace(trace, "link") as log:
        shaper = Shaper((_LOOPBACK, 0), address.parse("to", to), down, up, slots=slots, seed=seed, trace=log)
        run(shaper, watch_stdin=True)


def _device(**settings: Any) -> None:
    from edgeinfer.bridge.run import user

    user.run(user.Settings(**settings))


def _halves(**settings: Any) -> None:
    from edgeinfer.bridge.run import cut_user

    cut_user.run(cut_user.Settings(**settings))


_KINDS: dict[str, Callable[..., None]] = {
    "edge": _edge,
    "network": _network,
    "link": _link,
    "device": _device,
    "halves": _halves,
}


def main() -> None:
    """The process."""
    settings = json.loads(sys.stdin.readline())
    _KINDS[settings.pop("kind")](**settings)


if __name__ == "__main__":
    main()
