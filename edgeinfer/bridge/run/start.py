"""The system's processes, started with one JSON line of settings.

`python -m edgeinfer.bridge.run.start` reads from stdin what to be, "edge", "link" or "device", with its settings, and
ends when stdin closes. A server says "listening on HOST:PORT"; a device says "ready", and begins with the next line,
a `Load`.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pkgutil import resolve_name
from typing import Any

import numpy as np

from edgeinfer import model
from edgeinfer.bridge.device.connection import Connection
from edgeinfer.bridge.edge import server
from edgeinfer.bridge.link import shaper
from edgeinfer.bridge.run import user
from edgeinfer.bridge.wire import address
from edgeinfer.bridge.wire.processes import Process
from edgeinfer.bridge.wire.trace import Trace
from edgeinfer.model import FadingLink, fading
from edgeinfer.model.pipelines import Link

_LOOPBACK = "127.0.0.1"
#: The kinds of work of this package, as processes name them.
CASCADE, NETWORK = "edgeinfer.bridge.work.cascade:Work", "edgeinfer.bridge.work.network:Work"


def start(role: str, **settings: Any) -> Process:
    """Start a process of the system.

    Parameters
    ----------
    role : {"edge", "link", "device"}
    **settings
        What `edge`, `link` and `device` of this module take; values of JSON.

    Returns
    -------
    Process
        To be left through its `with` block.
    """
    process = Process(("-m", "edgeinfer.bridge.run.start"), role)
    process.send(json.dumps({"role": role} | settings))
    return process


def link_settings(link: Link | None) -> dict[str, Any] | None:
    """A single link's parameters as values of JSON, of which `link_of` makes it again; None stays None."""
    if link is None:
        return None
    if link.shape != ():
        raise ValueError(f"link of shape {link.shape}: must be a single link")
    values = {
        part.name: _plain(getattr(link, part.name)) for part in fields(link) if part.init and part.name != "fading"
    }
    if isinstance(link, FadingLink):
        # A Rayleigh link is a fading link of the same rates.
        return {"kind": "FadingLink"} | values | {"fading": _fading_settings(link.fading)}
    return {"kind": type(link).__name__} | values


def _plain(value: Any) -> Any:
    return value if value is None else np.asarray(value).tolist()


def _fading_settings(law: Any) -> dict[str, Any]:
    """A fading law by its name and its parameters, which may hold another law."""
    parameters = {
        name: _fading_settings(value) if isinstance(value, fading.Fading) else float(value)
        for name, value in vars(law).items()
    }
    return {"law": type(law).__name__} | parameters


def link_of(settings: Mapping[str, Any] | None) -> Link | None:
    """The link of `link_settings`."""
    if settings is None:
        return None
    values = {name: value for name, value in settings.items() if name not in ("kind", "fading")}
    if "fading" in settings:
        values["fading"] = _fading_of(settings["fading"])
    made: Link = getattr(model, settings["kind"])(**values)
    return made


def _fading_of(settings: Mapping[str, Any]) -> Any:
    parameters = {
        name: _fading_of(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if name != "law"
    }
    return getattr(fading, settings["law"])(**parameters)


def edge(work: str, settings: Mapping[str, Any], options: Mapping[str, Any], trace: str | None) -> None:
    """Serve a kind of work, MODULE:CLASS, made with the settings, with the server's options."""
    made: user.Work = resolve_name(work)(**settings)
    with Trace(trace, "edge") as log:
        serving = made.edge(trace=log, **options)
        server.run(serving, _LOOPBACK, 0, watch_stdin=True, message_bytes=made.message_bytes)


def link(
    to: str,
    downlink: dict[str, Any] | None,
    uplink: dict[str, Any] | None,
    slots: str,
    seed: int,
    trace: str | None,
) -> None:
    """Shape what passes to the edge at HOST:PORT; None shapes nothing."""
    down, up = map(link_of, (downlink, uplink))
    with Trace(trace, "link") as log:
        made = shaper.Shaper((_LOOPBACK, 0), address.parse("to", to), down, up, slots=slots, seed=seed, trace=log)
        shaper.run(made, watch_stdin=True)


def device(
    work: str,
    settings: Mapping[str, Any],
    asked: Mapping[str, Any],
    edge: str,
    load: Mapping[str, Any],
    trace: str | None,
) -> None:
    """A user's device: a kind of work, its edge's HOST:PORT or "", what it asks, and the `Load` it warms up for."""
    made: user.Work = resolve_name(work)(**settings)
    connection = Connection(edge, message_bytes=made.message_bytes) if edge else None
    made.connect(connection, **asked)
    user.run(made, user.Load(**load), trace)


_ROLES: dict[str, Callable[..., None]] = {"edge": edge, "link": link, "device": device}


def main() -> None:
    """The process."""
    settings = json.loads(sys.stdin.readline())
    _ROLES[settings.pop("role")](**settings)


if __name__ == "__main__":
    main()
