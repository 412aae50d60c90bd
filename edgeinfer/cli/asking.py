"""Commands that ask an edge: generate, infer."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import click
import numpy as np

from edgeinfer._files import replacing
from edgeinfer.cli.options import (
    DEADLINE,
    FORM,
    INPUT,
    LEVEL,
    POSITIVE,
    SHAPE,
    THREADS,
    TRACE,
    Real,
    read_feeds,
    read_sizes,
    refuse,
    together,
)
from edgeinfer.cli.rows import Rows

_CONNECTING = together(
    click.option(
        "--ca",
        default=None,
        type=click.Path(exists=True, dir_okay=False),
        help="TLS: the CA of the edge's certificate.",
    ),
    click.option(
        "--certificate", default=None, type=click.Path(exists=True, dir_okay=False), help="TLS: this device's own."
    ),
    click.option("--key", default=None, type=click.Path(exists=True, dir_okay=False), help="TLS: its key."),
)


#: What speaks of an edge.
_EDGE = ("patience", "fallback", "ca", "certificate", "key")


def _connect(edge: str, ca: str | None, certificate: str | None, key: str | None, **options: Any) -> Any:
    """A connection to HOST:PORT, with TLS where files are given."""
    from edgeinfer.bridge.device.connection import Connection
    from edgeinfer.bridge.wire import address, security

    host, port = address.parse("edge", edge)
    credentials = security.channel_credentials(ca, certificate, key)
    return Connection(address.join(host, port), credentials=credentials, **options)


@click.command("generate")
@click.argument("caption")
@click.option("--edge", default=None, metavar="HOST:PORT", help="Not needed by the device paradigm.")
@click.option(
    "--model",
    default=None,
    type=click.Path(exists=True, file_okay=False),
    help="The cascade's folder; the shipped one by default.",
)
@click.option("--paradigm", default="split", show_default=True, type=click.Choice(["split", "edge", "device"]))
@click.option(
    "--prior-steps", default=None, type=click.IntRange(1, 1000), help="The edge decides both where neither is given."
)
@click.option("--decode-steps", default=None, type=click.IntRange(1, 1000))
@click.option("--quality", default=None, type=Real(), help="Least quality when the edge decides the steps.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1))
@click.option(
    "--wire",
    default=None,
    type=click.Choice(["float32", "float16", "uint8"]),
    help="Of the latent on the link; the manifest's by default.",
)
@DEADLINE
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, writable=True), help="A PNG.")
@_CONNECTING
@THREADS
@TRACE
def generate_command(
    caption: str,
    edge: str | None,
    model: str | None,
    paradigm: str,
    prior_steps: int | None,
    decode_steps: int | None,
    quality: float | None,
    seed: int,
    wire: str | None,
    deadline: float,
    patience: float | None,
    fallback: bool,
    output: str,
    threads: int | None,
    trace: str | None,
    **security: str | None,
) -> None:
    """An image from a caption, with an edge's help or alone.

    Example: edgeinfer generate "a red circle above a small blue square" --edge 127.0.0.1:8001 --prior-steps 16
    --decode-steps 8 --seed 1 -o out.png
    """
    from edgeinfer import bridge
    from edgeinfer.bridge.cascade import images as picture
    from edgeinfer.bridge.wire.trace import Trace
    from edgeinfer.bridge.work.cascade import Device, Order

    if paradigm == "device":
        refuse("not with --paradigm device, which needs no edge", "edge", "wire", "quality", *_EDGE)
    if paradigm == "edge":
        refuse("not with --paradigm edge: an image crosses, not a latent", "wire")
    if prior_steps is not None:
        refuse("is for the edge, which decides the steps where --prior-steps is not given", "quality")
    order = Order(caption, seed, paradigm, prior_steps, decode_steps, wire, quality)
    if edge is None and paradigm != "device":
        raise click.UsageError(f"--paradigm {paradigm}: needs --edge HOST:PORT")
    with ExitStack() as stack:
        log = stack.enter_context(Trace(trace, "device"))
        connection = None if edge is None else stack.enter_context(_connect(edge, **security))
        device = Device(bridge.load(model, threads=threads), connection, trace=log)
        save = picture.writer(output)
        device.cascade.prepare("decode")
        if prior_steps is None and paradigm == "split":
            device.measure()
        bars = stack.enter_context(picture.bars()) if sys.stderr.isatty() else None
        done = device.generate(order, deadline=deadline, patience=patience, fallback=fallback, progress=bars)
    save(done.image)
    if done.reason:
        click.echo(f"finished alone: {done.reason}", err=True)
    click.echo(
        f"{output}: {done.paradigm}, {done.prior_steps} + {done.decode_steps} steps, {done.seconds:.3f} s, request "
        f"{done.request}"
    )


@click.command("infer")
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option("--edge", default=None, metavar="HOST:PORT", help="Not needed where all runs on the device.")
@INPUT
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of a random input.")
@SHAPE
@click.option(
    "--cut",
    "where",
    default="auto",
    show_default=True,
    metavar="auto|device|edge|N",
    help="Where it is best at the measured rate, following it; all on one half; or after N operations.",
)
@click.option(
    "--profile",
    "stored",
    default=None,
    type=click.Path(exists=True, dir_okay=False),
    help="Times of the operations here, from `edgeinfer cut --measure --profile`; measured briefly by default.",
)
@click.option(
    "--slowdown",
    default=1.0,
    show_default=True,
    type=POSITIVE,
    help="How many times slower than this machine to take the device for, in choosing the cut.",
)
@click.option("--requests", default=1, show_default=True, type=click.IntRange(min=1), help="One after another.")
@DEADLINE
@click.option(
    "-o", "--output", default=None, type=click.Path(dir_okay=False, writable=True), help="The last outputs as .npz."
)
@FORM
@_CONNECTING
@LEVEL
@THREADS
@TRACE
def infer_command(
    model: str,
    edge: str | None,
    source: str | None,
    seed: int,
    shapes: tuple[str, ...],
    where: str,
    stored: str | None,
    slowdown: float,
    requests: int,
    deadline: float,
    patience: float | None,
    fallback: bool,
    output: str | None,
    form: str,
    level: str,
    threads: int | None,
    trace: str | None,
    **security: str | None,
) -> None:
    """Run a network with an edge's help: the device's half of a cut here, the rest where `edgeinfer serve` runs.

    Times in rows, one a request: in ONNX Runtime on either half, waiting on the edge, on the link, and in all.

    Example: edgeinfer infer model.onnx --edge 127.0.0.1:8002 --requests 10 -o outputs.npz
    """
    from edgeinfer import bridge
    from edgeinfer.bridge.wire.trace import Trace
    from edgeinfer.bridge.work.network import CutDevice

    if source is not None:
        refuse("is of a random input, not with --input", "seed")
    if where != "auto":
        refuse("chooses the cut, with --cut auto only", "stored", "slowdown")
    if where == "device":
        refuse("not with --cut device, which needs no edge", "edge", *_EDGE)
    target = None if output is None else _checked_output(output)
    given = read_feeds(model, source)
    network = bridge.CutSessions(model, read_sizes(shapes), feeds=given, level=level, threads=threads or 1)
    operations = len(network.graph.operations)
    count = _on_device(where, operations)
    if edge is None and count < operations:
        raise click.UsageError(f"--cut {where}: needs --edge HOST:PORT")
    with ExitStack() as stack:
        log = stack.enter_context(Trace(trace, "device"))
        options: dict[str, Any] = {**security, "message_bytes": network.message_bytes}
        connection = None if edge is None else stack.enter_context(_connect(edge, **options))
        device = stack.enter_context(CutDevice(network, connection, trace=log))
        feeds = given or network.feeds(seed)
        network.check(feeds)
        profile = bridge.NetworkProfile.load(stored) if stored else None
        if where != "auto":
            device.use(bridge.divide(network.graph, [0] * count + [1] * (operations - count)))
        waiting = _Waiting(device, where, profile, slowdown, fallback)
        show = Rows(form, stack, requests)
        for _ in range(requests):
            waiting.try_edge()
            done = device.infer(feeds, deadline=deadline, patience=patience, fallback=fallback)
            reason = done.reason or (waiting.reason if done.ran == "device" else "")
            waiting.say(reason)
            show.add(_infer_row(network.graph, done, reason))
        show.end()
    if target is not None:
        _write_outputs(target, done.outputs)


def _on_device(where: str, operations: int) -> int:
    """How many operations --cut leaves to the device, before the cut is chosen where it is auto."""
    if where not in ("auto", "device", "edge") and not (where.isdecimal() and int(where) <= operations):
        raise click.UsageError(f"--cut {where}: must be auto, device, edge or in 0 .. {operations}")
    return operations if where == "device" else int(where) if where.isdecimal() else 0


def _checked_output(output: str) -> Path:
    """Where the outputs go, found writable before anything is computed."""
    path = Path(output)
    folder = path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"--output {output}: {str(folder)!r} must be a folder that can be written")
    return path


def _write_outputs(path: Path, outputs: dict[str, Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **outputs)


def _infer_row(graph: Any, done: Any, reason: str) -> dict[str, Any]:
    names = (*done.division.crossing, *done.division.returned)
    bits = sum(graph.tensors[name].bits for name in names)
    return {
        "request": done.request,
        "ran": done.ran,
        "device_operations": done.division.places.count(0),
        "crossing": " ".join(done.division.crossing),
        "device_s": done.device_seconds,
        "transfer_s": done.transfer_seconds,
        "link_mbit_per_s": bits / done.transfer_seconds / 1e6 if done.transfer_seconds > 0 else "",
        "queue_s": done.queue_seconds,
        "edge_s": done.edge_seconds,
        "total_s": done.seconds,
        "reason": reason,
    }


class _Waiting:
    """The edge, asked for until it is there; without --fallback it has to be there at once."""

    #: Between two attempts, s.
    PAUSE = 1.0

    def __init__(self, device: Any, where: str, profile: Any, slowdown: float, fallback: bool) -> None:
        self._device, self._where, self._profile = device, where, profile
        self._slowdown, self._fallback = slowdown, fallback
        self.reason, self._said = "", ""
        self._found = not device.division.returned and where != "auto"
        self._next = 0.0

    def try_edge(self) -> None:
        """Plan with the edge, or have it load its half, where that has not been done."""
        from edgeinfer.bridge import EdgeError

        if self._found or monotonic() < self._next:
            return
        try:
            if self._where == "auto":
                self._device.plan(self._profile, slowdown=self._slowdown)
            else:
                self._device.prepare(self._device.division)
        except EdgeError as error:
            if not self._fallback:
                raise
            self.reason, self._next = str(error), monotonic() + self.PAUSE
        else:
            self.reason, self._found = "", True

    def say(self, reason: str) -> None:
        """Tell on stderr, once for each reason, why the device runs alone."""
        if reason and reason != self._said:
            click.echo(f"edgeinfer: all on the device: {reason}", err=True)
        self._said = reason
