"""Edge, link and device as processes on loopback."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeinfer.bridge.run.start import CASCADE, link_settings, start
from edgeinfer.bridge.run.user import Load
from edgeinfer.bridge.wire import address
from edgeinfer.bridge.wire.processes import Process
from edgeinfer.model.pipelines import Link

_START = 120.0


class Testbed:
    """An edge and a link as processes on loopback, and users that ask; leaving the `with` block ends them.

    Parameters
    ----------
    model : path
        The cascade's folder, or what else the kind of work takes.
    link : FadingLink, optional
        Shapes the downlink; where neither way is shaped, the device talks to the edge directly.
    uplink : FadingLink, optional
        Shapes the uplink.
    slots, seed
        As for `Shaper`.
    capacity, batch, limit
        As for `Edge`.
    threads : int or None
        Of one network pass, on the edge.
    folder : path, optional
        For the traces edge.jsonl, link.jsonl, device.jsonl; a temporary one that is removed by default.
    work : str
        The kind of work, MODULE:CLASS; a cascade by default.
    settings : mapping, optional
        What it is made with, besides `model` and `threads`; values of JSON.
    traced : bool
        Whether the edge keeps a trace.
    edge : bool
        False leaves edge and link out: all that is asked runs on the device.
    """

    __test__ = False

    def __init__(
        self,
        model: str | os.PathLike[str],
        link: Link | None = None,
        *,
        uplink: Link | None = None,
        slots: str = "fresh",
        seed: int = 0,
        capacity: int = 64,
        batch: int = 1,
        limit: float = 300.0,
        threads: int | None = 1,
        folder: str | os.PathLike[str] | None = None,
        work: str = CASCADE,
        settings: Mapping[str, Any] = MappingProxyType({}),
        traced: bool = True,
        edge: bool = True,
    ) -> None:
        self.model, self._links = Path(model), (link, uplink)
        self._shaping = {"slots": slots, "seed": seed}
        self._made = {"work": work, "settings": {"model": str(model), "threads": threads, **settings}}
        self._options = {"capacity": capacity, "batch": batch, "limit": limit} if edge else None
        self._folder, self._traced = folder, traced
        self._stack = ExitStack()
        self.edge: Process
        self.link: Process | None = None
        self.address = ""

    def __enter__(self) -> "Testbed":
        with ExitStack() as stack:
            if self._folder is None:
                self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            else:
                self.folder = Path(self._folder)
                self.folder.mkdir(parents=True, exist_ok=True)
                for name in ("edge", "link", "device"):
                    self.trace(name).unlink(missing_ok=True)
            if self._options is not None:
                self._serve(stack, self._options)
            self._stack = stack.pop_all()
        return self

    def _serve(self, stack: ExitStack, options: Mapping[str, int | float]) -> None:
        trace = str(self.trace("edge")) if self._traced else None
        self.edge = stack.enter_context(start("edge", **self._made, options=options, trace=trace))
        port = self.edge.port(_START)
        if any(self._links):
            down, up = map(link_settings, self._links)
            to, trace = address.join("127.0.0.1", port), str(self.trace("link"))
            self.link = stack.enter_context(
                start("link", to=to, downlink=down, uplink=up, **self._shaping, trace=trace)
            )
            port = self.link.port(_START)
        self.address = address.join("127.0.0.1", port)

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def trace(self, process: str) -> Path:
        """Trace file of "edge", "link" or "device"."""
        return self.folder / f"{process}.jsonl"

    def ask(
        self, load: Load, asked: Mapping[str, Any], seconds: float, *, traced: bool = False
    ) -> list[dict[str, Any]]:
        """Have a user's process ask, with a trace if it is `traced`.

        Parameters
        ----------
        load : Load
        asked : mapping
            What the kind of work's user takes; values of JSON.
        seconds : float, s
            It may take from its first request on.

        Returns
        -------
        list of dict
            As `user.Request` writes them.

        Raises
        ------
        OSError
            If it does not start, dies, or takes longer.
        """
        with self.user(load, asked, traced=traced) as user:
            return user.ask(load, seconds)

    @contextmanager
    def user(self, load: Load, asked: Mapping[str, Any], *, traced: bool = False) -> Iterator["UserProcess"]:
        """A user's process that has warmed up for a load, and asks as often as it is told to.

        Parameters as for `ask`; of the load nothing but how slow the device is counts. OSError if it does not start.
        """
        trace = str(self.trace("device")) if traced else None
        with start("device", **self._made, asked=asked, edge=self.address, load=asdict(load), trace=trace) as process:
            yield UserProcess(process)


class UserProcess:
    """A user's process.

    Parameters
    ----------
    process : Process
        As `start("device", ...)` makes it; OSError unless it gets ready.
    seconds : float, s
        It may take to get ready.
    """

    def __init__(self, process: Process, seconds: float = _START) -> None:
        self._process = process
        if (line := process.line(seconds)) != "ready":
            raise OSError(f"device: said {line!r}, not 'ready'")

    def begin(self, load: Load) -> None:
        """Have it ask for the requests of a load, whose times count from now; OSError where it has ended."""
        if not self._process.running:
            raise OSError("device: has ended: must be started anew")
        self._process.send(json.dumps(asdict(load)))

    def rows(self, seconds: float) -> list[dict[str, Any]]:
        """What it wrote of them, as `user.Request` does; OSError if it dies or, longer than `seconds`, is ended."""
        try:
            rows: list[dict[str, Any]] = json.loads(self._process.line(seconds))
        except TimeoutError:
            # Rows that come late would be taken for those of the next load.
            self._process.stop()
            raise
        return rows

    def ask(self, load: Load, seconds: float) -> list[dict[str, Any]]:
        """`begin` and `rows`."""
        self.begin(load)
        return self.rows(seconds)
