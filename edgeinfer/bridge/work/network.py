"""Cut networks as a kind of work: the device computes up to the cut, which may follow the link, the edge the rest."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.bridge.cutting.cuts import Cut, Division, divide
from edgeinfer.bridge.cutting.search import BestCuts
from edgeinfer.bridge.cutting.sessions import CutSessions, Session, name_cut
from edgeinfer.bridge.device.client import LOST, Client, Compute, Limits, Script, StreamExchange, limits
from edgeinfer.bridge.device.connection import Connection, EdgeError, EdgeStream
from edgeinfer.bridge.edge.server import Refusal, Server, Task
from edgeinfer.bridge.wire import signalling, tensors
from edgeinfer.bridge.wire.jobs import Job
from edgeinfer.bridge.wire.tensors import IDLE, NETWORK
from edgeinfer.bridge.wire.trace import Trace
from edgeinfer.bridge.work.adaptation import Adaptation
from edgeinfer.bridge.work.halves import EdgeAnswer, Halves, Inference, RemoteNetwork, fits, told_seconds
from edgeinfer.model import Node
from edgeinfer.network.feeds import feeds_that_run, random_feeds
from edgeinfer.network.profiles import NetworkProfile

_WARM_UP = 3
Tensors = Mapping[str, NDArray[Any]]


class NetworkService:
    """A network on an edge, as `Service`, cut wherever the device cuts it.

    A request gives tensors of the network by name and asks for outputs; what lies between runs here. The tensors name
    the cut, and the version names the network: `Graph.digest`, of its weights too. A request with all the network's
    inputs and nothing else runs it all, as any client of the protocol would ask.
    """

    models: tuple[str, ...] = (NETWORK,)
    together = True
    idle = IDLE

    def __init__(self, sessions: CutSessions) -> None:
        self.sessions, self.seconds = sessions, 0.0
        self._types = {t.name: tensors.datatype(t.dtype) for t in sessions.graph.tensors.values() if t.returns}

    def warm_up(self) -> None:
        """Load the whole network and time it, so that devices can plan with it."""
        graph = self.sessions.graph
        session = self.sessions.get(graph.inputs, graph.outputs)
        inputs = {name: graph.tensors[name] for name in graph.inputs}
        feeds, _ = feeds_that_run(session.run, inputs, graph.feeds)
        self.seconds = min(session.run(feeds)[1] for _ in range(_WARM_UP))

    def ready(self, name: str, version: str) -> bool:
        """Whether the version is none, or this network's."""
        return version in ("", self.sessions.graph.digest)

    def describe(self, name: str) -> Any:
        """The network's inputs and outputs, its digest as the version."""
        graph = self.sessions.graph
        answer = tensors.service().ModelMetadataResponse(name=name, versions=[graph.digest], platform="onnxruntime")
        for ports, names in ((answer.inputs, graph.inputs), (answer.outputs, graph.outputs)):
            for tensor in (graph.tensors[name] for name in names):
                if tensor.returns:
                    # A size that depends on the data is any.
                    shape = [-1] * len(tensor.shape) if tensor.stays else tensor.shape
                    ports.add(name=tensor.name, datatype=self._types[tensor.name], shape=shape)
        return answer

    def handlers(self, server: Server) -> tuple[Any, ...]:
        """None."""
        return ()

    def check(self, message: Any, stream: bool) -> Task:
        """The session that a cut needs, and its tensors; of a request to prepare, the session and how fast this is."""
        identifier, digest = message.id, self.sessions.graph.digest
        prepare = tensors.parameters(message).get("prepare")
        if len(identifier) > signalling.IDENTIFIER_LENGTH and not prepare:
            raise ValueError(f"id: {len(identifier)} characters: must be <= {signalling.IDENTIFIER_LENGTH}")
        if message.model_version not in ("", digest):
            text = f"version = {message.model_version[:80]!r}: this edge serves the network of digest {digest!r}"
            raise Refusal("FAILED_PRECONDITION", text)
        if prepare:
            if message.inputs:
                self._session(message)
            told = {"network_ns": int(self.seconds * 1e9)}
            identifier = identifier[: signalling.IDENTIFIER_LENGTH]
            return Task(NETWORK, identifier, answer=tensors.response(NETWORK, identifier, {}, told, digest))
        session = self._session(message)
        return Task(NETWORK, identifier, (session, tensors.arrays(message.inputs, message.raw_input_contents)))

    def _session(self, message: Any) -> Session:
        graph = self.sessions.graph
        for tensor in message.inputs:
            known = graph.tensors.get(tensor.name)
            if known is None:
                raise ValueError(f"input {tensor.name[:80]!r}: must be a tensor of the network")
            if known.stays:
                raise ValueError(f"input {tensor.name!r}: cannot cross: {known.stays}")
            kind = self._types[tensor.name]
            if tensor.datatype != kind or tuple(tensor.shape) != known.shape:
                shown = f"{tensor.datatype[:10]} {list(tensor.shape)[:8]}"
                raise ValueError(f"input {tensor.name!r} = {shown}: must be {kind} {list(known.shape)}")
        outputs = [port.name for port in message.outputs] or [n for n in graph.outputs if graph.tensors[n].returns]
        for name in outputs:
            if name not in graph.outputs:
                raise ValueError(f"output {name[:80]!r}: must be one of {', '.join(map(repr, graph.outputs))}")
            if not graph.tensors[name].returns:
                raise ValueError(f"output {name!r}: cannot be sent: {graph.tensors[name].stays}")
        return self.sessions.get([tensor.name for tensor in message.inputs], outputs)

    def run(self, tasks: Sequence[Task], progress: Callable[[int, int], None]) -> list[Any]:
        """Outputs, and the time in ONNX Runtime, s."""
        return [session.run(feeds) for session, feeds in (task.payload for task in tasks)]

    def answer(self, job: Job) -> tuple[Any, dict[str, Any]]:
        """The outputs, and how long they waited and took."""
        outputs, seconds = job.result
        told = {"queue_ns": int(1e9 * (job.begun - job.queued)), "compute_ns": int(1e9 * seconds)}
        answer = tensors.response(NETWORK, job.payload.request, outputs, told, self.sessions.graph.digest)
        return answer, {"networks": seconds}


class CutEdge(Server):
    """Serves a network that may be cut: answers the Open Inference Protocol, one request after another.

    Parameters
    ----------
    sessions : CutSessions
    **options
        Of `Server`: capacity, limit, trace and report.
    """

    def __init__(self, sessions: CutSessions, **options: Any) -> None:
        super().__init__(NetworkService(sessions), **options)
        self.sessions = sessions


class CutDevice(Client):
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
    adaptive : AdaptiveCut or None
        What `adapt` follows.

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
        super().__init__(connection, trace=trace)
        self.sessions = sessions
        self._remote = RemoteNetwork(self, sessions.graph)
        self._stream = None if connection is None else EdgeStream(connection)
        self._alone = self._halves = Halves(sessions, divide(sessions.graph, (0,) * len(sessions.graph.operations)))
        self._adaptation = Adaptation(
            self._load, self._use, self._probe, lambda: self._stream is not None and self._stream.busy
        )

    def __enter__(self) -> "CutDevice":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Follow the link no more, and send no more. The connection stays open."""
        self._adaptation.close()
        if self._stream is not None:
            self._stream.close()

    @property
    def division(self) -> Division:
        """What the next request is begun with."""
        return self._halves.division

    @property
    def lost(self) -> str:
        """Why the edge was not reached last time."""
        return self._adaptation.lost

    @property
    def adaptive(self) -> Any:
        """What `adapt` follows; None before."""
        return self._adaptation.adaptive

    def use(self, cut: Cut | Division) -> None:
        """From the next request on, cut here; requests under way keep the cut that they were begun with.

        Parameters
        ----------
        cut : Cut or Division
            Of this network, between a device and one edge node. Its sessions are loaded before it is used.
        """
        self._halves = Halves(self.sessions, cut)

    def prepare(self, cut: Cut | Division, *, timeout: float = 60.0, padding: int = 0) -> float:
        """Have the edge load its half of a cut, `padding` bytes along: the time of the network it serves, s, on the
        edge.

        Raises
        ------
        EdgeError
        """
        return self._remote.prepare(cut.division if isinstance(cut, Cut) else cut, timeout=timeout, padding=padding)

    def edge_cut(self, *, timeout: float = 60.0) -> Division:
        """The cut that leaves the edge all that it serves: the whole network, or the part of a cut that it was given.

        Raises
        ------
        EdgeError
            Also where it serves another network.
        """
        return self._remote.cut(timeout=timeout)

    def edge_node(self, profile: NetworkProfile, *, timeout: float = 60.0) -> Node:
        """The edge as a node, by the time that it says its network takes, and by the profile of this machine.

        Raises
        ------
        EdgeError
        """
        return self._remote.node(profile, timeout=timeout)

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
        self.adapt(self._remote.best_cuts(self.sessions, profile, slowdown), factor=factor, probe=probe)

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
        if self._stream is None:
            raise EdgeError("UNAVAILABLE", "no edge is given")
        self._adaptation.start(cuts, factor, probe)

    def _load(self, cut: Cut) -> Halves | None:
        if cut.places == self.division.places:
            return None
        halves = Halves(self.sessions, cut)
        try:
            if halves.division.returned:
                self.prepare(halves.division)
        except EdgeError as error:
            self.trace.record("event", "not prepared", reason=str(error))
            raise
        return halves

    def _use(self, halves: Halves | None) -> None:
        self._halves = halves or self._alone
        if halves is not None:
            here = halves.division.places.count(0)
            self.trace.record("event", "cut", rate=self.adaptive.rate.value, device_operations=here)

    def _probe(self, padding: int, timeout: float) -> None:
        self.prepare(self._alone.division, timeout=timeout, padding=padding)

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
        times = limits(deadline, patience, fallback)
        self.sessions.check(feeds)
        request = secrets.token_hex(8)
        self.trace.record("event", "begin", request=request)
        done = self.run(self.script(feeds, request, times, fallback=fallback))
        if time.monotonic() > times.end:
            raise TimeoutError(f"deadline passed on the device, after {done.seconds:.3g} s")
        self.trace.record("event", "done", request=request, ran=done.ran)
        return done

    def script(
        self, feeds: Tensors, request: str, times: Limits, *, wait: float = np.inf, fallback: bool = False
    ) -> Script[Inference]:
        """The steps of an inference: the device's half, then the edge's, which has at most `wait` s."""
        halves = self._halves
        division = halves.division
        carried, device_seconds = dict(feeds), 0.0
        if halves.head is not None:
            computed, device_seconds = yield Compute(partial(self._head, halves.head, feeds, request))
            carried |= computed
        answer, reason = EdgeAnswer({}), ""
        ran, transfer = "split" if 0 in division.places else "edge", 0.0
        if not division.returned:
            # Where the edge would help if it were reached, that is why.
            ran, reason = "device", self.lost
        else:
            sent = time.monotonic()
            try:
                answer = yield self._exchange(carried, request, division, min(times.patience, sent + wait))
                transfer = answer.received - sent - answer.queue_seconds - answer.compute_seconds
            except EdgeError as error:
                reason = self.failed(request, error)
                if error.status in LOST:
                    self._adaptation.fail(error)
                if not fallback:
                    raise
                assert halves.tail is not None
                left = times.end - time.monotonic()
                rest, more = yield Compute(partial(halves.tail.run, carried, left))
                answer, ran, device_seconds = EdgeAnswer(rest), "device", device_seconds + more
        results = carried | answer.outputs
        outputs = {name: results[name] for name in self.sessions.graph.outputs}
        told = device_seconds, answer.compute_seconds, answer.queue_seconds, transfer
        return Inference(outputs, request, ran, division, *told, time.monotonic() - times.start, reason)

    def _head(self, head: Session, feeds: Tensors, request: str) -> tuple[dict[str, NDArray[Any]], float]:
        begin = time.monotonic()
        values, seconds = head.run(feeds)
        self.trace.stage("device", begin, time.monotonic(), request, networks=seconds)
        return values, seconds

    def _exchange(self, carried: Tensors, request: str, division: Division, end: float) -> StreamExchange:
        """Has the edge compute the rest, and observes the link."""
        if self._stream is None:
            raise EdgeError("UNAVAILABLE", "no edge is given")
        crossing = {name: carried[name] for name in division.crossing}
        timeout = max(int((end - time.monotonic()) * 1e6), 0)
        message = tensors.request(NETWORK, request, crossing, {"timeout": timeout})
        name_cut(message, self.sessions.graph, division)
        bits = 8 * sum(value.nbytes for value in crossing.values())
        if self.trace.on:
            self.trace.message("ModelInferRequest", "sent", tensors.size(message), request)
        sent = time.monotonic()

        def take(answer: Any, received: float) -> EdgeAnswer:
            if self.trace.on:
                self.trace.message("ModelInferResponse", "received", tensors.size(answer), request, time=received)
            taken = self._checked(answer, division, received)
            away = received - taken.queue_seconds - taken.compute_seconds
            back = 8 * sum(value.nbytes for value in taken.outputs.values())
            self._adaptation.observe(bits + back, sent, away)
            return taken

        return StreamExchange(self._stream, message, end, take)

    def _checked(self, answer: Any, division: Division, received: float) -> EdgeAnswer:
        """The outputs in an answer, if they are what was asked for."""
        graph = self.sessions.graph
        try:
            found = tensors.arrays(answer.outputs, answer.raw_output_contents)
        except ValueError as error:
            raise EdgeError("DATA_LOSS", str(error)) from None
        if found.keys() != set(division.returned) or not all(
            fits(graph.tensors[name], value) for name, value in found.items()
        ):
            expected = {name: (graph.tensors[name].dtype, graph.tensors[name].shape) for name in division.returned}
            shown = {name: (str(value.dtype), value.shape) for name, value in found.items()}
            raise EdgeError("DATA_LOSS", f"answer = {shown}: must be {expected}")
        told = tensors.parameters(answer)
        return EdgeAnswer(found, told_seconds(told, "queue_ns"), told_seconds(told, "compute_ns"), received)


class Asker:
    """A user of a cut network, as `Asking`: the same input again and again.

    Parameters
    ----------
    client : CutDevice
    places : sequence of int
        Of the cut.
    deadline : float, s
        For each request's answer from the edge.
    seed : int
        Of the input.
    """

    def __init__(self, client: CutDevice, *, places: Sequence[int], deadline: float, seed: int) -> None:
        graph = client.sessions.graph
        self.client, self._deadline, self._feeds = client, deadline, random_feeds(graph, seed)
        client.use(divide(graph, places))

    def warm_up(self) -> None:
        """Have the edge load its half."""
        if self.client.division.returned:
            self.client.prepare(self.client.division)

    def script(self, number: int, request: str) -> Script[Inference]:
        """An inference; the deadline of the edge's answer counts from the sending."""
        times = Limits(time.monotonic(), np.inf, np.inf)
        return self.client.script(self._feeds, request, times, wait=self._deadline)

    def row(self, done: Inference) -> dict[str, Any]:
        """The times of the halves and the transfer, s."""
        return {
            "device": done.device_seconds,
            "queue": done.queue_seconds,
            "edge": done.edge_seconds,
            "transfer": done.transfer_seconds,
        }


class Work:
    """Cut networks for processes: `start` names it by `WORK`, with these settings.

    Parameters
    ----------
    model : str
        ONNX file.
    shapes : mapping of str to sequence of int
        As for `read_graph`.
    level, threads
        Of ONNX Runtime.
    """

    def __init__(self, model: str, shapes: Mapping[str, Sequence[int]], level: str, threads: int) -> None:
        sizes = {name: tuple(shape) for name, shape in shapes.items()}
        self._sessions = CutSessions(model, sizes, level=level, threads=threads)
        self.message_bytes = self._sessions.message_bytes

    def edge(self, **options: Any) -> CutEdge:
        """An edge; options as for `CutEdge`."""
        return CutEdge(self._sessions, **options)

    def user(self, connection: Connection | None, **asked: Any) -> Asker:
        """A user; `asked` as for `Asker`."""
        return Asker(CutDevice(self._sessions, connection), **asked)
