"""What happened when: JSON lines with monotonic time stamps, one file a process, and their picture."""

import json
import os
import threading
import time as clock
from collections.abc import Sequence
from typing import Any

from edgeinfer._extras import need
from edgeinfer._files import strict_json

#: Keys of every record, in the order they are written; a kind may add more.
KEYS = ("time", "process", "kind", "name", "direction", "bytes", "request")
_ENCODE = json.JSONEncoder(allow_nan=False).encode
#: How each line begins; and the longest, in bytes.
_BEGIN, _LONGEST = b'{"time": ', 1 << 20


class Trace:
    """Appends records to a file, each one a single write, so that a killed process leaves whole lines.

    The first record names the clock: two files whose `clock` is equal were written on one machine since one boot and
    share CLOCK_MONOTONIC, so their times compare directly.

    Parameters
    ----------
    path : str or PathLike or None
        None records nothing.
    process : str
        "edge", "device", "link" or what tells the processes of a run apart.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "trace.jsonl")
    >>> with Trace(path, "device") as trace:
    ...     trace.message("TaskRequest", "sent", 74, "a1")
    >>> [record["name"] for record in read_trace(path)]
    ['start', 'TaskRequest']
    """

    def __init__(self, path: str | os.PathLike[str] | None, process: str) -> None:
        self.process = process
        if path is not None and os.path.isfile(path):
            _cut_half_line(path)
        self._file = None if path is None else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._lock = threading.Lock()
        self.record("process", "start", pid=os.getpid(), clock=_clock_name(), wall_time=clock.time())

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def on(self) -> bool:
        """Whether records are kept."""
        return self._file is not None

    def close(self) -> None:
        """Records after this are dropped."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
            self._file = None

    def record(
        self,
        kind: str,
        name: str,
        *,
        direction: str = "",
        size: int = 0,
        request: str = "",
        time: float | None = None,
        **more: Any,
    ) -> None:
        """One record; `time` is now on the monotonic clock unless given, `size` in bytes."""
        if self._file is None:
            return
        values = (clock.monotonic() if time is None else time, self.process, kind, name, direction, size, request)
        about = dict(zip(KEYS, values, strict=True)) | more
        try:
            line = _ENCODE(about)
        except ValueError:
            line = _ENCODE(strict_json(about))
        with self._lock:
            if self._file is not None:
                os.write(self._file, line.encode() + b"\n")

    def message(self, name: str, direction: str, size: int, request: str, **more: Any) -> None:
        """A message "sent" or "received"; `size` is its serialised length with gRPC's five-byte prefix."""
        self.record("message", name, direction=direction, size=size, request=request, **more)

    def stage(self, name: str, begin: float, end: float, request: str, **more: Any) -> None:
        """Computing (or waiting) from `begin` to `end`, s on the monotonic clock."""
        self.record("stage", name, request=request, time=begin, duration=end - begin, **more)


def _cut_half_line(path: str | os.PathLike[str]) -> None:
    """Of a process that was killed as it wrote: the next record would end that line, and no record would be read."""
    with open(path, "rb+") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - _LONGEST, 0))
        half = file.read().rpartition(b"\n")[2]
        # Nothing is taken from a file that holds something else.
        if half.startswith(_BEGIN[: len(half)]):
            file.truncate(file.tell() - len(half))


def _clock_name() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"CLOCK_MONOTONIC of boot {file.read().strip()}"
    except OSError:
        return f"monotonic clock of process {os.getpid()}"


def read_trace(*paths: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Records of one or several trace files, merged in order of time.

    Parameters
    ----------
    *paths : str or PathLike
        At least one. A last line cut short by a killed process is left out.

    Returns
    -------
    list of dict
        Every record has

        - ``time``: s on the monotonic clock of the process that wrote it;
        - ``process``: its name;
        - ``kind``: "process" (name "start"; has ``pid``, ``clock``, ``wall_time``), "message" (sent or received),
          "stage" (has ``duration``, s; ``time`` is its beginning), "progress" (has ``step``, ``steps``), "slot" (a slot
          of the link begins; has ``rate``, bit/s), "chunk" (bytes left the link; has ``arrived``, s, and
          ``connection``), "event" (anything else);
        - ``name``: of the message, stage or event; TaskRequest, ResourceStatus, StepAllocation, ModelInferRequest,
          ModelInferResponse, Progress are the messages, queue, prior, decode, inference the stages;
        - ``direction``: "sent" or "received" for messages, "up" or "down" on the link, else "";
        - ``bytes``: serialised length with gRPC's prefix for messages (ResourceStatus travels within TaskRequest and
          has no prefix of its own; TaskRequest is counted without it), TCP payload for chunks, else 0;
        - ``request``: the request's id, or "".

    Raises
    ------
    ValueError
        Naming file and line, where a line is not a record.
    """
    if not paths:
        raise ValueError("paths = (): must have at least one file")
    records = []
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().split("\n")
        for number, line in enumerate(lines[:-1], 1):
            try:
                record = json.loads(line)
                if not isinstance(record, dict) or not set(KEYS) <= record.keys():
                    raise ValueError("must have " + ", ".join(KEYS))
            except ValueError as error:
                raise ValueError(f"{os.fspath(path)}, line {number}: {error}") from None
            records.append(record)
    return sorted(records, key=lambda record: record["time"])


def control_bytes(records: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """What crossed the link besides tensors.

    Parameters
    ----------
    records : sequence of dict
        From `read_trace`, of the link and of the device.

    Returns
    -------
    control, total : int
        Bytes of TCP payload, both ways: all less the tensors that came to the device, and all. Control is signalling,
        inference requests, progress, and what protobuf, gRPC and HTTP/2 put around them and around the tensors.

    Examples
    --------
    >>> control_bytes([{"kind": "chunk", "bytes": 4000}, {"kind": "message", "process": "device", "tensor": 3072}])
    (928, 4000)
    """
    total = sum(record["bytes"] for record in records if record["kind"] == "chunk")
    return total - sum(
        r.get("tensor", 0) for r in records if r["kind"] == "message" and r["process"] == "device"
    ), total


_COLOURS = {"edge": "#0b3c7d", "link": "#777777", "device": "#d1712b"}


def draw_trace(records: Sequence[dict[str, Any]], request: str | None = None) -> Any:
    """One request as a sequence over time: a lane a process, bars for stages, arrows for messages.

    Beside it the list of both, with bytes and times.

    Parameters
    ----------
    records : sequence of dict
        From `read_trace`, with the processes' clocks in common.
    request : str, optional
        Its id; by default the first request that completes.

    Returns
    -------
    matplotlib Figure
    """
    need("matplotlib", "plots")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if request is None:
        done = [r["request"] for r in records if r["kind"] == "event" and r["name"] == "done"]
        named = done or [r["request"] for r in records if r["request"]]
        if not named:
            raise ValueError("records: must hold at least one request")
        request = named[0]
    mine = [r for r in records if r["request"] == request]
    if not mine:
        raise ValueError(f"request = {request!r}: no record names it")
    begin = mine[0]["time"]
    end = max(r["time"] + r.get("duration", 0.0) for r in mine)
    chunks = [r for r in records if r["kind"] == "chunk" and begin <= r["arrived"] and r["time"] <= end]
    lanes = [name for name in ("device", "link", "edge") if any(r["process"] == name for r in [*mine, *chunks])]
    lanes += sorted({r["process"] for r in mine} - set(lanes))
    height = {name: float(position) for position, name in enumerate(lanes)}

    figure = Figure(figsize=(10, 1.6 + 1.1 * len(lanes)), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    notes = _draw_stages(axes, mine, height, begin)
    for record in chunks:
        axes.barh(
            height["link"],
            1e3 * (record["time"] - record["arrived"]),
            left=1e3 * (record["arrived"] - begin),
            height=0.18,
            color=_COLOURS["link"],
            hatch="//" if record["direction"] == "up" else None,
            alpha=0.6,
        )
    notes += _draw_messages(axes, mine, height, begin)
    axes.text(
        1.02,
        1.0,
        "\n".join(text for _, text in sorted(notes)),
        transform=axes.transAxes,
        va="top",
        fontsize=7,
        family="monospace",
    )
    axes.set_xlim(0, 1.02e3 * (end - begin))
    axes.set_yticks(list(height.values()), lanes)
    axes.set_ylim(-0.5, len(lanes) - 0.5)
    axes.set_xlabel(f"time since the request's first record (ms); request {request}")
    return figure


def _draw_stages(
    axes: Any, records: Sequence[dict[str, Any]], height: dict[str, float], begin: float
) -> list[tuple[float, str]]:
    """Bars; what to say of each, by its time."""
    notes = []
    for record in records:
        if record["kind"] != "stage":
            continue
        left, width, y = 1e3 * (record["time"] - begin), 1e3 * record["duration"], height[record["process"]]
        colour = "#cccccc" if record["name"] == "queue" else _COLOURS.get(record["process"], "#3f7f3f")
        axes.barh(y, width, left=left, height=0.3, color=colour, alpha=0.85)
        notes.append((record["time"], f"   {record['name']} on the {record['process']}: {width:.3g} ms"))
    return notes


def _draw_messages(
    axes: Any, records: Sequence[dict[str, Any]], height: dict[str, float], begin: float
) -> list[tuple[float, str]]:
    """Numbered arrows; what to say of each, by its time."""
    notes = []
    for number, (sent, received) in enumerate(_pairs(records), 1):
        start, stop = (1e3 * (r["time"] - begin) for r in (sent, received))
        low, high = height[sent["process"]], height[received["process"]]
        axes.annotate("", (stop, high), (start, low), arrowprops={"arrowstyle": "->", "color": "0.25", "lw": 0.9})
        share = (0.15, 0.27, 0.39)[number % 3]
        axes.annotate(
            str(number),
            (start + share * (stop - start), low + share * (high - low)),
            fontsize=6.5,
            ha="center",
            va="center",
            bbox={"boxstyle": "circle,pad=0.2", "fc": "white", "ec": "0.25", "lw": 0.6},
        )
        notes.append((sent["time"], f"{number:2d} {sent['name']}: {sent['bytes']} B, {stop - start:.3g} ms"))
    return notes


def _pairs(records: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Messages that were both sent and received: the n-th of a name sent with the n-th of that name received."""
    ways: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        if record["kind"] == "message":
            ways.setdefault((record["name"], record["direction"]), []).append(record)
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for (name, direction), sent in ways.items():
        if direction == "sent":
            pairs += zip(sent, ways.get((name, "received"), []), strict=False)
    return sorted(pairs, key=lambda pair: pair[0]["time"])
