"""Commands that ask an edge: generate, infer."""

import os
import sys
from collections.abc import Iterator
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
    STATE,
    THREADS,
    TRACE,
    WIRE,
    Real,
    read_feeds,
    read_sizes,
    read_state,
    refuse,
    together,
)
from edgeinfer.cli.rows import Rows

CONNECTING = together(
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


def connect(
    edge: str, ca: str | None, certificate: str | None, key: str | None, *, message_bytes: int | None = None
) -> Any:
    """A connection to HOST:PORT, with TLS where files are given."""
    from edgeinfer.bridge.device.connection import Connection
    from edgeinfer.bridge.wire import address, security

    host, port = address.parse("edge", edge)
    credentials = security.channel_credentials(ca, certificate, key)
    options = {} if message_bytes is None else {"message_bytes": message_bytes}
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
@CONNECTING
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
    **security: Any,
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
        connection = None if edge is None else stack.enter_context(connect(edge, **security))
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
@STATE
@WIRE
@click.option(
    "--requests",
    default=None,
    type=click.IntRange(min=1),
    help="One after another; 1 by default, or as many as --input has.",
)
@DEADLINE
@click.option(
    "-o",
    "--output",
    default=None,
    type=click.Path(dir_okay=False, writable=True),
    help="The last outputs as .npz; of a stream those of every request, along a first axis.",
)
@FORM
@CONNECTING
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
    pairs: tuple[str, ...],
    wire: str,
    tolerance: float,
    requests: int | None,
    deadline: float,
    patience: float | None,
    fallback: bool,
    output: str | None,
    form: str,
    level: str,
    threads: int | None,
    trace: str | None,
    **security: Any,
) -> None:
    """Run a network with an edge's help: the device's half of a cut here, the rest where `edgeinfer serve` runs.

    Times in rows, one a request: in ONNX Runtime on either half, waiting on the edge, on the link, and in all. An array
    of --input with one axis more than its input is a stream: one request for each entry of its first axis. State goes
    from one request to the next, at first from --input or zeros, and stays on the side that makes it.

    Example: edgeinfer infer model.onnx --edge 127.0.0.1:8002 --requests 10 -o outputs.npz
    """
    from edgeinfer import bridge
    from edgeinfer.bridge.wire.trace import Trace
    from edgeinfer.bridge.work.network import CutDevice

    _refuse_unused(source, where, wire)
    target = None if output is None else _checked_output(output)
    stream = _Stream(model, read_feeds(model, source), requests)
    known = stream.first if stream.given else None
    profile = bridge.NetworkProfile.load(stored) if stored else None
    sizes = read_sizes(shapes) or (profile.graph.shapes if profile and known is None else {})
    network = bridge.CutSessions(model, sizes, feeds=known, level=level, threads=threads or 1)
    network.graph = network.graph.with_state(read_state(network.graph, pairs))
    operations = len(network.graph.operations)
    count = _on_device(where, operations, edge)
    with ExitStack() as stack:
        log = stack.enter_context(Trace(trace, "device"))
        size = network.message_bytes
        connection = None if edge is None else stack.enter_context(connect(edge, **security, message_bytes=size))
        device = stack.enter_context(CutDevice(network, connection, trace=log))
        if not stream.given:
            stream.make_up(network, seed)
        network.check(stream.first)
        if where != "auto":
            _use(device, network, count, wire, tolerance)
        waiting = _Waiting(device, where, fallback, profile=profile, slowdown=slowdown, wire=wire, tolerance=tolerance)
        show = Rows(form, stack, stream.requests)
        outputs: list[dict[str, Any]] = []
        for feeds in stream.feeds(set(network.graph.state.values())):
            waiting.try_edge()
            done = device.infer(feeds, deadline=deadline, patience=patience, fallback=fallback)
            reason = done.reason or (waiting.reason if done.ran == "device" else "")
            waiting.say(reason)
            show.add(_infer_row(done, reason))
            outputs = [*outputs, done.outputs] if stream.streamed and target else [done.outputs]
        show.end()
    if target is not None:
        _write_outputs(target, outputs, stream.streamed)


def _refuse_unused(source: str | None, where: str, wire: str) -> None:
    if source is not None:
        refuse("is of a random input, not with --input", "seed")
    if where != "auto":
        refuse("chooses the cut, with --cut auto only", "stored", "slowdown")
    if where == "device":
        refuse("not with --cut device, which needs no edge", "edge", "wire", "tolerance", *_EDGE)
    if wire != "auto":
        refuse("is what --wire auto keeps to", "tolerance")


def _use(device: Any, network: Any, count: int, wire: str, tolerance: float) -> None:
    """The division after `count` operations, its tensors crossing in as few bits as --wire allows."""
    from edgeinfer import bridge

    division = bridge.divide(network.graph, [0] * count + [1] * (len(network.graph.operations) - count))
    effect = bridge.WireEffect(network) if wire == "auto" else None
    device.use(division, bridge.choose_wire(network.graph, lambda _: [division], effect, wire, tolerance).wire)


class _Stream:
    """Inputs of one request after another.

    Parameters
    ----------
    model : path
    given : mapping of str to ndarray or None
        Of --input; an array with one axis more than its input has an entry for each request.
    requests : int, optional
        As many as there are entries by default, 1 where none has them.
    """

    def __init__(self, model: str, given: dict[str, Any] | None, requests: int | None) -> None:
        from edgeinfer.bridge.cutting.sessions import whole_file
        from edgeinfer.network.loading import input_ranks

        self.given = given is not None
        ranks = input_ranks(whole_file(model)) if given else {}
        self._all = dict(given or {})
        self.streamed = [name for name, array in self._all.items() if array.ndim - 1 == ranks.get(name)]
        lengths = {len(self._all[name]) for name in self.streamed}
        if len(lengths) > 1 or 0 in lengths:
            raise ValueError(f"--input: streams of {sorted(lengths)} requests: must be of one length, at least 1")
        length = next(iter(lengths), None)
        if length is not None and requests is not None and requests > length:
            raise ValueError(f"--requests {requests}: must be at most {length}, the entries that --input has")
        self.requests = requests or length or 1
        self.first = self._at(0)

    def _at(self, number: int) -> dict[str, Any]:
        return {name: array[number] if name in self.streamed else array for name, array in self._all.items()}

    def make_up(self, network: Any, seed: int) -> None:
        """Random inputs, without state: made up, it would be none that the network has been in."""
        made = network.feeds(seed)
        self.first = {name: made[name] for name in made if name not in network.graph.state.values()}

    def feeds(self, state: set[str]) -> Iterator[dict[str, Any]]:
        """Of each request; state that is no stream is given with the first one only."""
        yield self.first
        for number in range(1, self.requests):
            feeds = self._at(number) if self.given else self.first
            yield {name: array for name, array in feeds.items() if name in self.streamed or name not in state}


def _on_device(where: str, operations: int, edge: str | None) -> int:
    """How many operations --cut leaves to the device, before the cut is chosen where it is auto; UsageError where the
    others have no edge.
    """
    if where not in ("auto", "device", "edge") and not (where.isdecimal() and int(where) <= operations):
        raise click.UsageError(f"--cut {where}: must be auto, device, edge or in 0 .. {operations}")
    count = operations if where == "device" else int(where) if where.isdecimal() else 0
    if edge is None and count < operations:
        raise click.UsageError(f"--cut {where}: needs --edge HOST:PORT")
    return count


def _checked_output(output: str) -> Path:
    """Where the outputs go, found writable before anything is computed."""
    path = Path(output)
    folder = path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"--output {output}: {str(folder)!r} must be a folder that can be written")
    return path


def _write_outputs(path: Path, outputs: list[dict[str, Any]], streamed: list[str]) -> None:
    """The outputs of the last request, or those of all, stacked, where inputs were streams."""
    found = {name: np.stack([given[name] for given in outputs]) for name in outputs[0]} if streamed else outputs[0]
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **found)


def _infer_row(done: Any, reason: str) -> dict[str, Any]:
    return {
        "request": done.request,
        "ran": done.ran,
        "device_operations": done.division.places.count(0),
        "crossing": " ".join(done.division.crossing),
        "device_s": done.device_seconds,
        "transfer_s": done.transfer_seconds,
        "link_mbit_per_s": done.bits / done.transfer_seconds / 1e6 if done.transfer_seconds > 0 else "",
        "queue_s": done.queue_seconds,
        "edge_s": done.edge_seconds,
        "total_s": done.seconds,
        "reason": reason,
    }


class _Waiting:
    """The edge, asked for until it is there; without --fallback it has to be there at once."""

    #: Between two attempts, s.
    PAUSE = 1.0

    def __init__(self, device: Any, where: str, fallback: bool, **plan: Any) -> None:
        self._device, self._where, self._fallback, self._plan = device, where, fallback, plan
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
                self._device.plan(**self._plan)
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
