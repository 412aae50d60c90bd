"""A cut network measured as it runs, both halves as processes with the shaped link between, beside its pipeline."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.bridge.cutting.cuts import Cut, Division
from edgeinfer.bridge.cutting.sessions import CutSessions
from edgeinfer.bridge.exit.queue import poisson
from edgeinfer.bridge.run.runs import Run
from edgeinfer.bridge.run.start import NETWORK
from edgeinfer.bridge.run.testbed import Testbed
from edgeinfer.bridge.run.user import Load
from edgeinfer.bridge.wire import tensors
from edgeinfer.bridge.wire.tensors import NETWORK as MODEL
from edgeinfer.bridge.wire.trace import read_trace
from edgeinfer.bridge.work.sequences import request
from edgeinfer.model import Pipeline, Transfer
from edgeinfer.network.feeds import random_feeds
from edgeinfer.network.graphs import Graph
from edgeinfer.network.loading import load_model, save_model
from edgeinfer.network.profiles import NetworkProfile

#: Between a request's answer and the next request, and between two passes that are timed, s: caches cool alike.
PAUSE = 0.01
_LAST = 120.0
# HTTP/2 puts a header before each frame of data, and answers a message that was read with two updates of its windows.
_FRAME_BYTES, _FRAME_HEADER, _WINDOW_UPDATES = 16384, 9, 26
#: What `CutRun` has of each request, s; see there.
TIMES = ("sojourn", "device", "transfer", "uplink", "downlink", "queue", "edge", "overhead")


@dataclass(frozen=True, eq=False)
class CutRun(Run):
    """What a cut network took, and what its pipeline says: a `Run` of the stages "device" and "edge".

    Attributes
    ----------
    cut : Cut
    pipeline : Pipeline
        The cut's, each transfer with the bits of its message: the tensors and what the protocol puts around them.
    times : mapping of str to (n,) ndarray, s
        NaN where a request failed. "sojourn": from the arrival to the outputs. "device", "edge": in ONNX Runtime, with
        what a slower device adds. "queue": waiting on the edge. "transfer": from sending to the answer, less the time
        on the edge. Without load also "uplink" and "downlink", from the first byte's coming to the link to the last
        one's leaving it, and "overhead": what is left of the sojourn time; under load NaN, for there requests share the
        link.
    """

    cut: Cut
    pipeline: Pipeline
    times: Mapping[str, NDArray[np.float64]]


def message_bits(graph: Graph, division: Division) -> tuple[int, int]:
    """Bits of a request to the edge and of its answer as TCP carries them; 0, 0 where nothing crosses.

    The tensors, and what the Open Inference Protocol, gRPC and HTTP/2 put around them in a stream that stands already.
    The 26 bytes of window updates by which the device answers an answer are not among them: its request is done then.
    """
    if not division.returned:
        return 0, 0

    def zeros(names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        return {name: np.zeros(graph.tensors[name].shape, graph.tensors[name].dtype) for name in names}

    told = {"timeout": 10**7}
    asked = request(graph, division, "0" * 16, zeros(division.crossing), told, wire=graph.wire, sequence="0" * 16)
    told = {"queue_ns": 10**5, "compute_ns": 10**7}
    answer = tensors.response(MODEL, "0" * 16, zeros(division.returned), told, graph.digest)
    up, down = (tensors.size(message) for message in (asked, answer))
    up, down = (size + _FRAME_HEADER * -(-size // _FRAME_BYTES) for size in (up, down))
    return 8 * up, 8 * (down + _WINDOW_UPDATES)


def message_pipeline(cut: Cut) -> Pipeline:
    """`Cut.pipeline` with the bits of the messages in place of the tensors' alone, between a device and one edge
    node.
    """
    graph = cut.graph
    bits = dict(zip(("uplink", "downlink"), message_bits(graph, cut.division), strict=True))
    return Pipeline(
        Transfer(bits[name], stage.link, name) if isinstance(stage, Transfer) else stage for name, stage in cut.stages()
    )


def profile_cut(
    model: Any,
    cut: Cut,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    repetitions: int = 30,
    warmup: int = 3,
    level: str = "all",
    threads: int = 1,
    seed: int = 0,
) -> Cut:
    """The same cut with the times of its two parts measured as they run: each in its own session, with pauses between.

    A profile of the whole network takes what its operations took in one session, one right after the other; a part is
    optimised on its own, without the fusions that the cut undoes, and meets caches that have cooled. Here each half's
    operations keep their shares of the half, and the half has its own time.

    Parameters
    ----------
    model : path or onnx.ModelProto
    cut : Cut
        Of a NetworkProfile, between a device and one edge node. Its nodes stay as fast relative to this machine as they
        are.
    shapes : mapping, optional
        As for `read_graph`; the cut's by default.
    repetitions, warmup, level, threads, seed
        As for `profile`.

    Returns
    -------
    Cut
        Its `network` is the corrected profile.
    """
    network = _checked(cut)
    repetitions = _validate.whole("repetitions", repetitions, 2)
    warmup = _validate.whole("warmup", warmup, 0)
    sessions = CutSessions(model, shapes or cut.graph.shapes, level=level, threads=threads)
    graph, division = sessions.graph, cut.division
    _same(network.graph, graph)
    feeds = random_feeds(graph, seed)
    head = sessions.get(graph.inputs, division.computed) if division.computed else None
    tail = sessions.get(division.needed, division.given) if division.returned else None
    samples = np.zeros((warmup + repetitions, 2))
    for row in samples:
        carried: dict[str, Any] = dict(feeds)
        if head is not None:
            values, row[0] = head.run(feeds)
            carried |= values
            sleep(PAUSE)
        if tail is not None:
            _, row[1] = tail.run(carried)
            sleep(PAUSE)
    samples = samples[warmup:]
    means, totals, places = samples.mean(axis=0), samples.sum(axis=1), np.array(cut.places)
    times, low, high = (np.array(values) for values in (network.times, network.low, network.high))
    for place, mean in enumerate(means):
        here = places == place
        before = times[here].sum()
        for column in (times, low, high):
            column[here] = column[here] * (mean / before) if before > 0 else mean / max(here.sum(), 1)
    corrected = replace(
        network,
        times=times,
        low=low,
        high=high,
        totals=totals,
        provenance=dict(network.provenance) | {"parts": "measured", "part_repetitions": repetitions, "pause": PAUSE},
    )
    nodes = tuple(corrected.node(node.name, network.flops_rate / node.flops) for node in cut.nodes)
    return replace(cut, network=corrected, nodes=nodes, value=np.nan, bound=np.nan)


def measure_cut(
    model: Any,
    cut: Cut,
    *,
    requests: int = 50,
    arrival_rate: float | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    level: str = "all",
    threads: int = 1,
    shaped: bool = True,
    slots: str = "fresh",
    deadline: float = 60.0,
    seed: int = 0,
) -> CutRun:
    """Run a cut network as it would run: the device, the shaped link and the edge as processes on this machine.

    Device and edge share this machine, so that its cores have to be enough for both not to slow each other. A device
    that is slower than its profile (`NetworkProfile.node` with a slowdown) is made so: each request's computing there
    is followed by slowdown - 1 times its mean time, asleep.

    Parameters
    ----------
    model : path or onnx.ModelProto
    cut : Cut
        Of a NetworkProfile, between a device and one edge node as fast as this machine; see `profile_cut`. Where it has
        no downlink, answers come back at once.
    requests : int
        That count; the first few, which warm up, do not. >= 1.
    arrival_rate : float, 1/s, optional
        Of Poisson arrivals; without it each request comes after the answer to the one before, and a pause.
    shapes : mapping, optional
        As for `read_graph`; the cut's by default.
    level, threads
        Of ONNX Runtime, as for `profile`.
    shaped : bool
        False leaves the link out: the device talks to the edge over loopback, which shows what the runtime itself
        costs.
    slots : {"fresh", "grid"}
        As for `Shaper`.
    deadline : float, s
        By which the edge must have answered a request, or it has failed.
    seed : int
        Of arrivals, fading and input.

    Returns
    -------
    CutRun

    Raises
    ------
    OSError
        If a process does not start, or dies.
    """
    network = _checked(cut)
    requests = _validate.whole("requests", requests, 1)
    rate = (
        None if arrival_rate is None else _validate.scalar("arrival_rate", arrival_rate, 0, low_open=True, unit="1/s")
    )
    deadline = _validate.scalar("deadline", deadline, 0, low_open=True, unit="s")
    if rate is not None and cut.graph.state:
        raise ValueError(f"arrival_rate = {rate:g} 1/s: must be None with state, which each request needs")
    slowdown = [float(network.flops_rate / node.flops) for node in cut.nodes]
    if slowdown[0] < 1 - 1e-9 or abs(slowdown[1] - 1) > 1e-9:
        raise ValueError(f"slowdown of device, edge = {slowdown}: must be >= 1, and 1")
    arrivals = [] if rate is None else poisson(rate, requests, np.random.SeedSequence(seed, spawn_key=(1,))).tolist()
    load = Load(requests, arrivals, PAUSE, slowdown[0], (slowdown[0] - 1) / slowdown[0] * cut.times[0])
    settings: dict[str, Any] = {
        "shapes": {name: list(shape) for name, shape in (shapes or cut.graph.shapes).items()},
        "level": level,
        "state": dict(cut.graph.state),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        save_model(load_model(model)[0], path)
        down, up = (cut.downlinks[0] if cut.downlinks else None, cut.links[0]) if shaped else (None, None)
        options: dict[str, Any] = {"slots": slots, "seed": seed, "capacity": requests + 16, "limit": deadline}
        options |= {"threads": threads, "work": NETWORK, "settings": settings, "traced": False}
        with Testbed(path, down, uplink=up, folder=folder, edge=bool(cut.division.returned), **options) as bed:
            asked = {"places": list(cut.places), "deadline": deadline, "seed": seed, "wire": dict(cut.graph.wire)}
            last = _LAST + (arrivals[-1] if arrivals else 0) + requests * (deadline + PAUSE + 2 * sum(cut.times))
            rows = bed.ask(load, asked, last)
            trace = bed.trace("link")
            records = read_trace(trace) if rate is None and trace.exists() else []
    chunks = [record for record in records if record["kind"] == "chunk"]
    provenance = settings | {
        "requests": requests,
        "threads": threads,
        "slots": slots,
        "seed": seed,
        "deadline": deadline,
        "slowdown": slowdown[0],
        "shaped": shaped,
    }
    return _measured(cut, rate, rows, chunks, provenance)


def _checked(cut: Cut) -> NetworkProfile:
    if not isinstance(cut.network, NetworkProfile):
        raise ValueError("cut: of a graph: must be of a NetworkProfile, whose times are measured")
    if len(cut.nodes) != 2:
        raise ValueError(f"cut: between {len(cut.nodes)} nodes: must be between a device and one edge node")
    return cut.network


def _same(profiled: Graph, given: Graph) -> None:
    if not profiled.fits(given):
        raise ValueError(f"model = {given.name!r}: must be the network that was cut, with the same shapes")


def _measured(
    cut: Cut, rate: float | None, rows: list[dict[str, Any]], chunks: list[dict[str, Any]], provenance: dict[str, Any]
) -> CutRun:
    """Times by request, from the user's rows and, without load, from the link's trace."""
    count = len(rows)
    arrivals, done = (np.array([row[name] for row in rows], float) for name in ("arrival", "done"))
    times = {name: np.array([row.get(name) for row in rows], float) for name in ("device", "edge", "queue", "transfer")}
    times |= {name: np.full(count, np.nan) for name in ("uplink", "downlink", "overhead")}
    times["sojourn"] = done - arrivals
    computed = np.zeros(count)
    for number, row in enumerate(rows):
        for name, _, begin, end, asleep in row["steps"]:
            if name == "device":
                computed[number] = end - row["arrival"]
                times["device"][number] += asleep
            elif rate is None:
                times["uplink"][number], times["downlink"][number] = _on_link(chunks, begin, end)
    if rate is None:
        # Nobody waits on the edge but for its threads, which is overhead, too.
        spent = sum(np.nan_to_num(times[name]) for name in ("device", "uplink", "edge", "downlink"))
        times["overhead"] = times["sojourn"] - spent
    sojourn, service = np.stack((computed, times["sojourn"]), 1), np.stack((times["device"], times["edge"]), 1)
    failures = {number: row["failure"] for number, row in enumerate(rows) if row["failure"]}
    run = rate, arrivals - arrivals[0], ("device", "edge"), sojourn, service, failures, provenance
    return CutRun(*run, cut, message_pipeline(cut), times)


def _on_link(chunks: list[dict[str, Any]], sent: float, received: float) -> tuple[float, float]:
    """How long one request was on the uplink and its answer on the downlink, s."""
    mine = [chunk for chunk in chunks if sent <= chunk["arrived"] and chunk["time"] <= received]
    up = [chunk for chunk in mine if chunk["direction"] == "up"]
    if not up:
        return np.nan, np.nan
    end = max(chunk["time"] for chunk in up)
    # What comes down before is flow control.
    down = [chunk for chunk in mine if chunk["direction"] == "down" and chunk["arrived"] >= end]
    if not down:
        return end - up[0]["arrived"], np.nan
    return end - up[0]["arrived"], max(chunk["time"] for chunk in down) - down[0]["arrived"]
