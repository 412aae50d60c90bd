"""The device's half of a cut network: computes up to the cut, has the edge compute the rest, and follows the link's
rate.
"""

import queue
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.bridge.cutting.cuts import Cut, Division, between, divide, furthest
from edgeinfer.bridge.cutting.rate import AdaptiveCut
from edgeinfer.bridge.cutting.search import BestCuts, best_cuts
from edgeinfer.bridge.cutting.sessions import CutSessions, Session, name_cut
from edgeinfer.bridge.device.connection import Connection, Deliver, EdgeError, EdgeStream
from edgeinfer.bridge.wire import tensors
from edgeinfer.bridge.wire.tensors import NETWORK
from edgeinfer.bridge.wire.trace import Trace
from edgeinfer.model import Node, RayleighLink
from edgeinfer.network.elements import CROSSING
from edgeinfer.network.profiles import NetworkProfile

grpc = need("grpc", "bridge")

#: What a probe of the link carries, bytes.
PROBE_BYTES = 2**14
# Beyond this the link counts as lost, s.
_PROBE_TIMEOUT = 10.0
Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Inference:
    """What a request gave.

    Attributes
    ----------
    outputs : dict of str to ndarray
        The network's.
    request : str
        Its id in the traces.
    ran : {"split", "edge", "device"}
        Where: on both, on the edge alone, or on the device alone, also after a fallback.
    division : Division
        The cut that it was begun with.
    device_seconds, edge_seconds : float
        In ONNX Runtime on either half.
    queue_seconds : float
        Waiting on the edge.
    transfer_seconds : float
        From the request's sending to its answer, less what it spent on the edge: both ways over the link, and what gRPC
        and its messages cost.
    seconds : float
        From the call to the outputs.
    reason : str
        Why the device finished alone; empty where the edge helped, or all on the device is best.
    """

    outputs: dict[str, NDArray[Any]]
    request: str
    ran: str
    division: Division
    device_seconds: float
    edge_seconds: float
    queue_seconds: float
    transfer_seconds: float
    seconds: float
    reason: str = ""


@dataclass(frozen=True, eq=False)
class EdgeAnswer:
    """What came back from the edge.

    Attributes
    ----------
    outputs : dict of str to ndarray
    queue_seconds, compute_seconds : float
        On the edge.
    received : float, s
        On the monotonic clock.
    """

    outputs: dict[str, NDArray[Any]]
    queue_seconds: float
    compute_seconds: float
    received: float


class _Halves:
    """A division with the sessions that run either half of it here."""

    def __init__(self, sessions: CutSessions, division: Division) -> None:
        self.division = division
        self.head: Session | None = None
        if division.computed:
            self.head = sessions.get(sessions.graph.inputs, division.computed)
        self.tail = sessions.get(division.crossing, division.returned) if division.returned else None


class CutDevice:
    """Runs a network's requests up to a cut, and the rest on the edge; several threads may ask at once.

    Parameters
    ----------
    sessions : CutSessions
        The same network as the edge's.
    connection : Connection, optional
        None can only run everything on the device.
    trace : Trace, optional

    Attributes
    ----------
    division : Division
        What the next request is begun with: everything on the device until `use` or `adapt` is called.
    lost : str
        Why the edge was not reached last time; empty where it was, or nothing was asked of it.

    Examples
    --------
    >>> from onnx import TensorProto, helper
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    >>> nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Neg", ["h"], ["y"])]
    >>> model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), ir_version=8)
    >>> with CutDevice(CutSessions(model)) as device:
    ...     done = device.infer({"x": np.float32([-1, 2])})
    >>> done.ran, done.outputs["y"]
    ('device', array([-0., -2.], dtype=float32))
    """

    def __init__(
        self, sessions: CutSessions, connection: Connection | None = None, *, trace: Trace | None = None
    ) -> None:
        self.sessions, self.connection = sessions, connection
        self.trace = trace or Trace(None, "device")
        self.adaptive: AdaptiveCut | None = None
        self._stream = None if connection is None else EdgeStream(connection)
        self._computing, self._observing = threading.Lock(), threading.Lock()
        self._link_free, self._transferred = 0.0, -np.inf
        self.lost = ""
        self._changed, self._closed = threading.Event(), threading.Event()
        self._follower: threading.Thread | None = None
        self._alone = _Halves(sessions, divide(sessions.graph, (0,) * len(sessions.graph.operations)))
        self._halves = self._alone

    def __enter__(self) -> "CutDevice":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Follow the link no more, and send no more. The connection stays open."""
        self._closed.set()
        self._changed.set()
        if self._follower is not None:
            self._follower.join()
        if self._stream is not None:
            self._stream.close()

    @property
    def division(self) -> Division:
        """What the next request is begun with."""
        return self._halves.division

    def use(self, cut: Cut | Division) -> None:
        """From the next request on, cut here; requests under way keep the cut that they were begun with.

        Parameters
        ----------
        cut : Cut or Division
            Of this network, between a device and one edge node. Its sessions are loaded before it is used.
        """
        division = cut if isinstance(cut, Division) else divide(self.sessions.graph, cut.places)
        self._halves = _Halves(self.sessions, division)

    def prepare(self, cut: Cut | Division, *, timeout: float = 60.0, padding: int = 0) -> float:
        """Have the edge load its half of a cut, `padding` bytes along: the time of the network it serves, s, on the
        edge.

        Raises
        ------
        EdgeError
        """
        if self.connection is None:
            raise EdgeError("UNAVAILABLE", "no edge is given")
        timeout = _validate.scalar("timeout", timeout, 0, low_open=True, unit="s")
        padding = _validate.whole("padding", padding, 0)
        graph = self.sessions.graph
        division = cut if isinstance(cut, Division) else divide(graph, cut.places)
        message = tensors.request(NETWORK, "prepare", {}, {"prepare": True, "padding": " " * padding})
        for name in division.crossing:
            tensor = graph.tensors[name]
            message.inputs.add(name=name, datatype=tensors.datatype(tensor.dtype), shape=tensor.shape)
        name_cut(message, self.sessions.graph, division)
        try:
            answer = self.connection.infer(message, timeout=timeout)
        except grpc.RpcError as error:
            raise EdgeError(error.code().name, str(error.details())[:500]) from None
        return _seconds(answer, "network_ns")

    def edge_cut(self, *, timeout: float = 60.0) -> Division:
        """The cut that leaves the edge all that it serves: the whole network, or the part of a cut that it was given.

        Raises
        ------
        EdgeError
            Also where it serves another network.
        """
        if self.connection is None:
            raise EdgeError("UNAVAILABLE", "no edge is given")
        timeout = _validate.scalar("timeout", timeout, 0, low_open=True, unit="s")
        graph = self.sessions.graph
        try:
            request = tensors.service().ModelMetadataRequest(name=NETWORK)
            answer = self.connection.metadata(request, timeout=timeout)
        except grpc.RpcError as error:
            raise EdgeError(error.code().name, str(error.details())[:500]) from None
        if list(answer.versions) != [graph.digest]:
            text = f"the edge serves a network of digest {list(answer.versions)}: must be {graph.digest!r}"
            raise EdgeError("FAILED_PRECONDITION", text)
        for port in answer.inputs:
            known = graph.tensors.get(port.name)
            if known is not None and not known.stays and tuple(port.shape) != known.shape:
                text = f"the edge serves {port.name!r} of sizes {list(port.shape)}: must be {list(known.shape)}"
                raise EdgeError("FAILED_PRECONDITION", text)
        try:
            given, wanted = ([port.name for port in ports] for ports in (answer.inputs, answer.outputs))
            if set(given) == {name for name in graph.inputs if graph.tensors[name].returns}:
                return divide(graph, furthest(graph))
            on_edge = set(between(graph, given, wanted))
        except ValueError as error:
            raise EdgeError("DATA_LOSS", str(error)) from None
        return divide(graph, [int(i in on_edge) for i in range(len(graph.operations))])

    def edge_node(self, profile: NetworkProfile, *, timeout: float = 60.0) -> Node:
        """The edge as a node, by the time that it says its network takes, and by the profile of this machine.

        Raises
        ------
        EdgeError
        """
        division = self.edge_cut(timeout=timeout)
        seconds = self.prepare(division, timeout=timeout)
        whole = division.places == furthest(self.sessions.graph)
        here = float(profile.times.sum() if whole else profile.times[np.array(division.places) == 1].sum())
        if not seconds > 0 or not here > 0:
            raise EdgeError("DATA_LOSS", f"time of its network = {seconds:g} s: must be > 0")
        return profile.node("edge", seconds / here)

    def plan(
        self, profile: NetworkProfile | None = None, *, slowdown: float = 1.0, factor: float = 2.0, probe: float = 5.0
    ) -> None:
        """`adapt` to the best cuts for the edge as it says it is; to the one cut that it serves, where that is all.

        Parameters
        ----------
        profile : NetworkProfile, optional
            Of this machine; measured now, briefly, where left out.
        slowdown : float
            How many times slower than the profile to take the device for. > 0.
        factor, probe
            As for `adapt`.

        Raises
        ------
        EdgeError
            No edge is reached, or it serves another network.
        """
        graph = self.sessions.graph
        served = self.edge_cut()
        if profile is None:
            profile = self.sessions.profile(repetitions=5, warmup=1)
        if not profile.graph.fits(graph):
            raise ValueError(
                f"profile: of {profile.graph.name!r}: must be of the network that runs, with the same shapes"
            )
        # The rate is what the device measures; of the link here only the mean rate counts, as a unit.
        unit = RayleighLink.from_snr(1.0, 1e6, 1e-3)
        # Where it serves a part, that is its only cut.
        among = None if served.places == furthest(graph) else [(0,) * len(served.places), served.places]
        cuts = best_cuts(
            profile,
            device=profile.node("device", slowdown),
            edge=self.edge_node(profile),
            link=unit,
            downlink=unit,
            among=among,
        )
        self.adapt(cuts, factor=factor, probe=probe)

    def adapt(self, cuts: BestCuts, *, factor: float = 2.0, probe: float = 5.0) -> None:
        """From now on, cut where it is best at the rate that the device sees in its own transfers.

        A new cut is used once both halves have loaded it; no request waits for that. Where nothing crosses the link for
        `probe` seconds, because all runs on the device or nobody asks, 16 KiB do, so that a link that has recovered is
        noticed.

        Parameters
        ----------
        cuts : BestCuts
        factor : float
            As for `AdaptiveCut`.
        probe : float, s
            > 0.
        """
        probe = _validate.scalar("probe", probe, 0, low_open=True, unit="s")
        if self._follower is not None:
            raise ValueError("cuts: must be given once")
        if self._stream is None:
            raise EdgeError("UNAVAILABLE", "no edge is given")
        self.adaptive = AdaptiveCut(cuts, factor=factor)
        self._probe()
        self._follow_once()
        self._follower = threading.Thread(target=self._follow, args=(probe,), name="adaptation", daemon=True)
        self._follower.start()

    def _follow(self, probe: float) -> None:
        assert self._stream is not None
        while not self._closed.is_set():
            self._changed.wait(probe)
            self._changed.clear()
            idle = not self._stream.busy and time.monotonic() - self._transferred >= probe
            if idle and not self._closed.is_set():
                self._probe()
            if not self._closed.is_set():
                self._follow_once()

    def _follow_once(self) -> None:
        assert self.adaptive is not None
        cut = self.adaptive.cut
        if tuple(cut.places) == self.division.places:
            return
        try:
            division = divide(self.sessions.graph, cut.places)
            halves = _Halves(self.sessions, division)
            if division.returned:
                self.prepare(division)
        except EdgeError as error:
            self.trace.record("event", "not prepared", reason=str(error))
            self._lost(error)
            return
        with self._observing:
            # The link may have been lost meanwhile.
            if self.adaptive.cut is not cut:
                return
            self._halves = halves
        self.trace.record("event", "cut", rate=self.adaptive.rate.value, device_operations=division.places.count(0))

    def _probe(self) -> None:
        begin = time.monotonic()
        try:
            self.prepare(self._alone.division, timeout=_PROBE_TIMEOUT, padding=PROBE_BYTES)
        except EdgeError as error:
            # An edge that answers, whatever it says, is reached.
            if error.status in _LOST:
                self._lost(error)
                return
        self._observe(8 * PROBE_BYTES, begin, time.monotonic())

    def _observe(self, bits: int, sent: float, done: float) -> None:
        """The tensors of a request and its answer, or a probe, as far as no earlier one held the link."""
        with self._observing:
            since = max(sent, self._link_free)
            self._link_free = max(self._link_free, done)
            self._transferred = time.monotonic()
            self.lost = ""
            if self.adaptive is not None and self.adaptive.observe(bits, max(done - since, 0.0)):
                self._changed.set()

    def _lost(self, error: EdgeError) -> None:
        with self._observing:
            self.lost = str(error)
            self._transferred = time.monotonic()
            if self.adaptive is not None:
                self.adaptive.fail()
                self._halves = self._alone

    def infer(
        self,
        feeds: Tensors,
        *,
        deadline: float = 60.0,
        patience: float | None = None,
        fallback: bool = False,
    ) -> Inference:
        """The network's outputs.

        Parameters
        ----------
        feeds : mapping of str to ndarray
            The network's inputs.
        deadline : float, s
            From now to the outputs. What the device computes before the cut is not interrupted.
        patience : float, s, optional
            How long the edge may take; by default all of `deadline`, or half of it with `fallback`.
        fallback : bool
            Whether the device computes the rest itself, from the tensors at the cut, when the edge fails or is late.

        Returns
        -------
        Inference

        Raises
        ------
        EdgeError
            Without `fallback`: what the edge, or its absence, had to say.
        TimeoutError
            The deadline passed while the device computed.
        ValueError
            Inputs that are not the network's.
        """
        start = time.monotonic()
        deadline = _validate.scalar("deadline", deadline, 0, low_open=True, unit="s")
        end = start + deadline
        if patience is None:
            patience = deadline / 2 if fallback else deadline
        patience = _validate.scalar("patience", patience, 0, low_open=True, unit="s")
        self.check(feeds)
        halves = self._halves
        division = halves.division
        request = secrets.token_hex(8)
        self.trace.record("event", "begin", request=request)
        carried, device_seconds = self.head(feeds, request, halves)
        results = {name: carried[name] for name in division.kept}
        ran, reason = "split" if 0 in division.places else "edge", ""
        queued = computed = transfer = 0.0
        if not division.returned:
            # Where the edge would help if it were reached, that is why.
            ran, reason = "device", self.lost
        else:
            sent = time.monotonic()
            try:
                answer = self._ask(carried, request, division, min(end, start + patience))
                queued, computed = answer.queue_seconds, answer.compute_seconds
                transfer = answer.received - sent - queued - computed
                results |= answer.outputs
            except EdgeError as error:
                self.trace.record("event", "failed", request=request, status=error.status, reason=str(error))
                if error.status in _LOST:
                    self._lost(error)
                if not fallback:
                    raise
                assert halves.tail is not None
                left = end - time.monotonic()
                with self._computing:
                    rest, more = halves.tail.run(carried, left)
                results |= rest
                ran, reason, device_seconds = "device", str(error), device_seconds + more
        if time.monotonic() > end:
            raise TimeoutError(f"deadline passed on the device, after {time.monotonic() - start:.3g} s")
        self.trace.record("event", "done", request=request, ran=ran)
        outputs = {name: results[name] for name in self.sessions.graph.outputs}
        seconds = time.monotonic() - start
        return Inference(outputs, request, ran, division, device_seconds, computed, queued, transfer, seconds, reason)

    def check(self, feeds: Tensors) -> None:
        """ValueError unless `feeds` are the network's inputs, in type and shape."""
        graph = self.sessions.graph
        if set(feeds) != set(graph.inputs):
            raise ValueError(f"inputs = {', '.join(map(repr, feeds))}: must be {', '.join(map(repr, graph.inputs))}")
        for name in graph.inputs:
            value, known = feeds[name], graph.tensors[name]
            if known.dtype not in CROSSING:
                continue
            if str(value.dtype) != known.dtype or value.shape != known.shape:
                shown = f"{value.dtype} {list(value.shape)}"
                raise ValueError(f"input {name!r} = {shown}: must be {known.dtype} {list(known.shape)}")

    def head(self, feeds: Tensors, request: str, halves: Any = None) -> tuple[dict[str, NDArray[Any]], float]:
        """What the device computes of a request, its inputs included, and the time that took, s."""
        session = (halves or self._halves).head
        if session is None:
            return dict(feeds), 0.0
        with self._computing:
            begin = time.monotonic()
            values, seconds = session.run(feeds)
            self.trace.stage("device", begin, time.monotonic(), request, networks=seconds)
        return {**feeds, **values}, seconds

    def send(self, carried: Tensors, request: str, division: Division, timeout: float, deliver: Deliver) -> None:
        """Have the edge compute the rest; `deliver` gets an `EdgeAnswer` or an EdgeError, and when it came, once."""
        if self._stream is None:
            raise EdgeError("UNAVAILABLE", "no edge is given")
        crossing = {name: carried[name] for name in division.crossing}
        message = tensors.request(NETWORK, request, crossing, {"timeout": max(int(timeout * 1e6), 0)})
        name_cut(message, self.sessions.graph, division)
        bits = 8 * sum(value.nbytes for value in crossing.values())
        if self.trace.on:
            self.trace.message("ModelInferRequest", "sent", tensors.size(message), request)
        sent = time.monotonic()

        def receive(answer: Any, received: float) -> None:
            if not isinstance(answer, EdgeError):
                if self.trace.on:
                    size = tensors.size(answer)
                    self.trace.message("ModelInferResponse", "received", size, request, time=received)
                try:
                    answer = self._checked(answer, division, received)
                except EdgeError as error:
                    answer = error
            if isinstance(answer, EdgeAnswer):
                away = received - answer.queue_seconds - answer.compute_seconds
                back = 8 * sum(value.nbytes for value in answer.outputs.values())
                self._observe(bits + back, sent, away)
            deliver(answer, received)

        self._stream.send(message, receive)

    def _ask(self, carried: Tensors, request: str, division: Division, end: float) -> EdgeAnswer:
        box: queue.SimpleQueue[Any] = queue.SimpleQueue()
        timeout = end - time.monotonic()
        if timeout <= 0:
            raise EdgeError("DEADLINE_EXCEEDED", "no time is left for the edge")
        self.send(carried, request, division, timeout, lambda answer, received: box.put(answer))
        try:
            answer = box.get(timeout=timeout)
        except queue.Empty:
            if self._stream is not None and self._stream.forget(request):
                raise EdgeError("DEADLINE_EXCEEDED", f"no answer within {timeout:.3g} s") from None
            answer = box.get()
        if isinstance(answer, EdgeError):
            raise answer
        return answer

    def _checked(self, answer: Any, division: Division, received: float) -> EdgeAnswer:
        """The outputs in an answer, if they are what was asked for."""
        graph = self.sessions.graph
        try:
            found = tensors.arrays(answer.outputs, answer.raw_output_contents)
        except ValueError as error:
            raise EdgeError("DATA_LOSS", str(error)) from None
        expected = {name: (graph.tensors[name].dtype, graph.tensors[name].shape) for name in division.returned}
        shown = {name: (str(value.dtype), value.shape) for name, value in found.items()}
        for name, (dtype, shape) in expected.items():
            dtype_found, shape_found = shown.get(name, ("", ()))
            # A size that depends on the data is any.
            fits = len(shape_found) == len(shape) if graph.tensors[name].stays else shape_found == shape
            if len(shown) != len(expected) or dtype_found != dtype or not fits:
                raise EdgeError("DATA_LOSS", f"answer = {shown}: must be {expected}")
        return EdgeAnswer(found, _seconds(answer, "queue_ns"), _seconds(answer, "compute_ns"), received)


def _seconds(answer: Any, name: str) -> float:
    """What the edge says something took; 0 where it says nothing, or no number."""
    told = tensors.parameters(answer).get(name)
    return told * 1e-9 if isinstance(told, int) else 0.0


#: What says that the edge is not reached, or not in time.
_LOST = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
