"""Cut networks as a kind of work: the device computes up to the cut, which may follow the link, the edge the rest."""

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.bridge.cutting.cuts import Cut, Division, divide
from edgeinfer.bridge.cutting.parts import Session
from edgeinfer.bridge.cutting.search import BestCuts
from edgeinfer.bridge.cutting.sessions import CutSessions
from edgeinfer.bridge.device.client import LOST, Compute, Exchange, Limits, Script, StreamExchange, limits
from edgeinfer.bridge.device.connection import Connection, EdgeError, EdgeStream
from edgeinfer.bridge.edge.server import Server
from edgeinfer.bridge.wire import tensors
from edgeinfer.bridge.wire.trace import Trace
from edgeinfer.bridge.work.adaptation import Adaptation
from edgeinfer.bridge.work.halves import EdgeAnswer, Halves, Inference, RemoteNetwork, told_seconds
from edgeinfer.bridge.work.sequences import CarriedState, fits, request
from edgeinfer.bridge.work.serving import NetworkService
from edgeinfer.network.feeds import random_feeds
from edgeinfer.network.profiles import NetworkProfile

# After these nothing is known of the state that the edge kept.
_FORGOTTEN = (*LOST, "FAILED_PRECONDITION", "DATA_LOSS", "INTERNAL")
_ANEW = "the state that it kept is lost, and begun anew"
Tensors = Mapping[str, NDArray[Any]]


class CutEdge(Server):
    """Serves a network that may be cut: answers the Open Inference Protocol, one request after another, or those that
    wait together.

    Parameters
    ----------
    sessions : CutSessions
    batch : int
        Requests of one cut that may run together where the network allows it, and rows that one of them may have, in
        multiples of those that the network was read with. >= 1.
    **options
        Of `Server`: capacity, limit, trace and report.
    """

    def __init__(self, sessions: CutSessions, *, batch: int = 1, **options: Any) -> None:
        service = NetworkService(sessions, batch)
        super().__init__(service, batch=batch, **options)
        self.sessions, self.batches = sessions, service.batches


class CutDevice(RemoteNetwork):
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
        super().__init__(sessions, connection, trace=trace)
        self._stream = None if connection is None else EdgeStream(connection)
        self._state = CarriedState(sessions.graph) if sessions.graph.state else None
        # The next request needs the state that this one gives.
        self._turn: Any = threading.Lock() if self._state else nullcontext()
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

    def use(self, cut: Cut | Division, wire: Mapping[str, str] | None = None) -> None:
        """From the next request on, cut here; requests under way keep the cut that they were begun with.

        Parameters
        ----------
        cut : Cut or Division
            Of this network, between a device and one edge node. Its sessions are loaded before it is used.
        wire : mapping of str to str, optional
            Types that tensors cross in, as `Graph.wire`; those of the cut's network where left out.
        """
        self._halves = Halves(self.sessions, cut, wire)

    def restart(self) -> None:
        """Begin anew with the next request, where the network has state: from zeros."""
        if self._state is not None:
            self._state.begin()

    def plan(
        self,
        profile: NetworkProfile | None = None,
        *,
        slowdown: float = 1.0,
        wire: str = "float32",
        tolerance: float = 0.01,
        factor: float = 2.0,
        probe: float = 5.0,
    ) -> None:
        """`adapt` to the best cuts for the edge as it says it is; to the one cut that it serves, where that is all.

        Parameters
        ----------
        profile : NetworkProfile, optional
            Of this machine; measured now, briefly, where left out.
        slowdown : float
            How many times slower than the profile to take the device for. > 0.
        wire, tolerance
            As for `choose_wire`.
        factor, probe
            As for `adapt`.

        Raises
        ------
        EdgeError
            No edge is reached, or it serves another network.
        """
        cuts = self._best_cuts(profile, slowdown, wire, tolerance)
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
            The network's inputs. State may be left out: what the request before gave, at first zeros.
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
        identifier = secrets.token_hex(8)
        self.trace.record("event", "begin", request=identifier)
        with self._turn:
            done = self.run(self.script(feeds, identifier, times, fallback=fallback))
        if time.monotonic() > times.end:
            raise TimeoutError(f"deadline passed on the device, after {done.seconds:.3g} s")
        self.trace.record("event", "done", request=identifier, ran=done.ran)
        return done

    def script(
        self, feeds: Tensors, identifier: str, times: Limits, *, wait: float = np.inf, fallback: bool = False
    ) -> Script[Inference]:
        """The steps of an inference: the device's half, then the edge's, which has at most `wait` s."""
        halves, state = self._halves, self._state
        division, reason = halves.division, ""
        if state is not None:
            feeds = state.complete(feeds)
            if state.away and not set(state.away) <= set(division.remembered):
                reason = yield from self._bring_back(state, times)
            feeds = state.complete(feeds)
        carried, device_seconds = dict(feeds), 0.0
        if halves.head is not None:
            computed, device_seconds = yield Compute(partial(self._head, halves.head, feeds, identifier))
            carried |= computed
        answer = EdgeAnswer({})
        ran, transfer = "split" if 0 in division.places else "edge", 0.0
        if not division.returned:
            # Where the edge would help if it were reached, that is why.
            ran, reason = "device", reason or self.lost
        else:
            sent = time.monotonic()
            try:
                answer = yield self._exchange(carried, identifier, halves, min(times.patience, sent + wait))
                transfer = answer.received - sent - answer.queue_seconds - answer.compute_seconds
            except EdgeError as error:
                reason = self.failed(identifier, error)
                if error.status in LOST:
                    self._adaptation.fail(error)
                if state is not None and state.away and (fallback or error.status in _FORGOTTEN):
                    # What the edge keeps may be of this request already, or gone.
                    lost = _ANEW if error.status in _FORGOTTEN else (yield from self._bring_back(state, times))
                    if lost:
                        state.begin()
                        reason = f"{reason}; {lost}"
                        error = EdgeError(error.status, f"{error.reason}; {lost}")
                    carried |= state.values
                if not fallback:
                    raise error from None
                assert halves.tail is not None
                left = times.end - time.monotonic()
                rest, more = yield Compute(partial(halves.tail.run, carried, left))
                answer, ran, device_seconds = EdgeAnswer(rest), "device", device_seconds + more
        results = carried | answer.outputs
        if state is not None:
            state.take(division, {name: results[name] for name in self.sessions.graph.state if name in results})
        outputs = {name: results[name] for name in self.sessions.graph.outputs if name not in self.sessions.graph.state}
        told = device_seconds, answer.compute_seconds, answer.queue_seconds, transfer
        return Inference(outputs, identifier, ran, division, *told, time.monotonic() - times.start, answer.bits, reason)

    def _bring_back(self, state: CarriedState, times: Limits) -> Script[str]:
        """Have the edge give back the state that it keeps; why it is lost where it does not."""

        def ask() -> None:
            connection = self.connection
            try:
                state.back(connection.ask(connection.infer, state.question(), times.patience - time.monotonic()))
            except ValueError as error:
                raise EdgeError("DATA_LOSS", str(error)) from None

        try:
            yield Exchange(ask)
        except EdgeError as error:
            state.begin()
            return f"{error}; {_ANEW}"
        return ""

    def _head(self, head: Session, feeds: Tensors, identifier: str) -> tuple[dict[str, NDArray[Any]], float]:
        begin = time.monotonic()
        values, seconds = head.run(feeds)
        self.trace.stage("device", begin, time.monotonic(), identifier, networks=seconds)
        return values, seconds

    def _exchange(self, carried: Tensors, identifier: str, halves: Halves, end: float) -> StreamExchange:
        """Has the edge compute the rest, and observes the link."""
        if self._stream is None:
            raise EdgeError("UNAVAILABLE", "no edge is given")
        division, state = halves.division, self._state
        away = () if state is None else state.away
        # State that the edge does not keep yet goes along once.
        first = [taken for given, taken in division.remembered if (given, taken) not in away]
        crossing = {name: carried[name] for name in (*division.crossing, *first)}
        told = {"timeout": max(int((end - time.monotonic()) * 1e6), 0)}
        sequence = "" if state is None else state.sequence
        message = request(
            self.sessions.graph, division, identifier, crossing, told, wire=halves.wire, sequence=sequence
        )
        bits = 8 * sum(map(len, message.raw_input_contents))
        if self.trace.on:
            self.trace.message("ModelInferRequest", "sent", tensors.size(message), identifier)
        sent = time.monotonic()

        def take(answer: Any, received: float) -> EdgeAnswer:
            if self.trace.on:
                self.trace.message("ModelInferResponse", "received", tensors.size(answer), identifier, time=received)
            taken = self._checked(answer, division, received, bits)
            away = received - taken.queue_seconds - taken.compute_seconds
            self._adaptation.observe(taken.bits, sent, away)
            return taken

        return StreamExchange(self._stream, message, end, take)

    def _checked(self, answer: Any, division: Division, received: float, bits: int = 0) -> EdgeAnswer:
        """The outputs in an answer, if they are what was asked for."""
        graph = self.sessions.graph
        try:
            found = tensors.arrays(answer.outputs, answer.raw_output_contents)
        except ValueError as error:
            raise EdgeError("DATA_LOSS", str(error)) from None
        if found.keys() != set(division.returned) or not all(fits(graph, name, value) for name, value in found.items()):
            expected = {name: (graph.tensors[name].dtype, graph.tensors[name].shape) for name in division.returned}
            shown = {name: (str(value.dtype), value.shape) for name, value in found.items()}
            raise EdgeError("DATA_LOSS", f"answer = {shown}: must be {expected}")
        told, bits = tensors.parameters(answer), bits + 8 * sum(value.nbytes for value in found.values())
        return EdgeAnswer(found, told_seconds(told, "queue_ns"), told_seconds(told, "compute_ns"), received, bits)


class Work:
    """Cut networks for processes: see `run.user.Work`.

    Parameters
    ----------
    model : str
        ONNX file.
    shapes : mapping of str to sequence of int
        As for `read_graph`.
    level, threads
        Of ONNX Runtime.
    state : mapping of str to str, optional
        As for `read_graph`.
    """

    client: CutDevice

    def __init__(
        self,
        model: str,
        shapes: Mapping[str, Sequence[int]],
        level: str,
        threads: int,
        state: Mapping[str, str] | None = None,
    ) -> None:
        sizes = {name: tuple(shape) for name, shape in shapes.items()}
        self._sessions = CutSessions(model, sizes, state=state, level=level, threads=threads)
        self.message_bytes = self._sessions.message_bytes

    def edge(self, **options: Any) -> CutEdge:
        """An edge; options as for `CutEdge`."""
        return CutEdge(self._sessions, **options)

    def connect(
        self,
        connection: Connection | None,
        *,
        places: Sequence[int],
        deadline: float,
        seed: int = 0,
        wire: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Cut at `places`, its tensors crossing as `wire` says, and ask with one input made from `seed`; the edge has
        `deadline` s for each request.
        """
        graph = self._sessions.graph
        state = set(graph.state.values())
        self.client, self._deadline = CutDevice(self._sessions, connection), deadline
        self._feeds = {name: value for name, value in random_feeds(graph, seed).items() if name not in state}
        self.client.use(divide(graph, places), wire)

    def warm_up(self) -> None:
        """Have the edge load its half."""
        if self.client.division.returned:
            self.client.prepare(self.client.division)

    def script(self, number: int, identifier: str) -> Script[Inference]:
        """An inference; the deadline of the edge's answer counts from the sending."""
        times = Limits(time.monotonic(), np.inf, np.inf)
        return self.client.script(self._feeds, identifier, times, wait=self._deadline)

    def row(self, done: Inference) -> dict[str, Any]:
        """The times of the halves and the transfer, s."""
        return {
            "device": done.device_seconds,
            "queue": done.queue_seconds,
            "edge": done.edge_seconds,
            "transfer": done.transfer_seconds,
        }
