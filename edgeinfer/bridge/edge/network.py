"""The edge's half of a cut network: a gRPC server that computes, from the tensors of any cut, the network's outputs."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.bridge.cutting.sessions import CutSessions
from edgeinfer.bridge.wire import signalling, tensors
from edgeinfer.bridge.wire.jobs import Cancelled, Expired, Job, Jobs, QueueFull
from edgeinfer.bridge.wire.tensors import IDLE, NETWORK
from edgeinfer.bridge.wire.trace import Trace
from edgeinfer.network.feeds import feeds_that_run

grpc = need("grpc", "bridge")

_WARM_UP = 3


class Refusal(Exception):
    """A request that is not computed, with gRPC's status and the reason."""

    def __init__(self, status: Any, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.status, self.reason), vars(self)


class CutEdge(tensors.stubs().GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers the Open Inference Protocol for one network, cut wherever the device cuts it.

    A request gives tensors of the network by name and asks for outputs; what lies between runs here, one request after
    another. The tensors name the cut, and the version names the network: `Graph.digest`, of its weights too. A request
    with all the network's inputs and nothing else runs it all, as any client of the protocol would ask.

    Parameters
    ----------
    sessions : CutSessions
    capacity : int
        Requests that may wait.
    limit : float, s
        Longest a request may take, whatever its deadline.
    trace : Trace, optional
    report : callable, optional
        Called with a line on each request that was answered or refused.
    """

    def __init__(
        self,
        sessions: CutSessions,
        *,
        capacity: int = 16,
        limit: float = 300.0,
        trace: Trace | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.sessions = sessions
        self.trace = trace or Trace(None, "edge")
        self.jobs = Jobs(self._run, capacity=capacity)
        self.network_seconds = 0.0
        self._limit = _validate.scalar("limit", limit, 0, low_open=True, unit="s")
        self._report = report
        self._types = {t.name: tensors.datatype(t.dtype) for t in sessions.graph.tensors.values() if t.returns}

    def warm_up(self) -> None:
        """Load the whole network and time it, so that devices can plan with it."""
        graph = self.sessions.graph
        session = self.sessions.get(graph.inputs, graph.outputs)
        inputs = {name: graph.tensors[name] for name in graph.inputs}
        feeds, _ = feeds_that_run(session.run, inputs, graph.feeds)
        self.network_seconds = min(session.run(feeds)[1] for _ in range(_WARM_UP))

    def ServerLive(self, request: Any, context: Any) -> Any:
        return tensors.service().ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: Any) -> Any:
        return tensors.service().ServerReadyResponse(ready=True)

    def ModelReady(self, request: Any, context: Any) -> Any:
        known = request.name == NETWORK and request.version in ("", self.sessions.graph.digest)
        return tensors.service().ModelReadyResponse(ready=known)

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        from edgeinfer import __version__

        return tensors.service().ServerMetadataResponse(name="edgeinfer", version=__version__)

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        if request.name != NETWORK:
            context.abort(grpc.StatusCode.NOT_FOUND, _unknown(request.name))
        graph = self.sessions.graph
        answer = tensors.service().ModelMetadataResponse(name=NETWORK, versions=[graph.digest], platform="onnxruntime")
        for ports, names in ((answer.inputs, graph.inputs), (answer.outputs, graph.outputs)):
            for name in names:
                tensor = graph.tensors[name]
                if tensor.returns:
                    # A size that depends on the data is any.
                    shape = [-1] * len(tensor.shape) if tensor.stays else tensor.shape
                    ports.add(name=name, datatype=self._types[name], shape=shape)
        return answer

    def ModelInfer(self, request: Any, context: Any) -> Any:
        done = threading.Event()
        remaining = context.time_remaining()
        try:
            if tensors.parameters(request).get("prepare"):
                return self._prepared(request)
            job = self._job(request, self._limit if remaining is None else remaining)
            self._submit(job, lambda job: done.set())
        except Refusal as error:
            context.abort(error.status, error.reason)

        def gone() -> None:
            self.jobs.cancel(job)
            done.set()

        if not context.add_callback(gone):
            gone()
        done.wait(max(job.deadline - time.monotonic(), 0.0))
        if not job.done:
            self.jobs.cancel(job)
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "not done in time")
        try:
            return self._answer(job)
        except Refusal as error:
            context.abort(error.status, error.reason)

    def ModelStreamInfer(self, requests: Any, context: Any) -> Iterator[Any]:
        """Requests are read as they come and answered as they are done; one that fails has its id and reason."""
        wrap = tensors.service().ModelStreamInferResponse
        ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
        pending: set[Job] = set()
        ended = threading.Event()
        # A client that reads no answers is not read from either, once it has that many to come.
        room = threading.Semaphore(2 * self.jobs.capacity)

        def read() -> None:
            # What breaks the stream ends it; its requests are given up below.
            try:
                with suppress(grpc.RpcError):
                    for message in requests:
                        room.acquire()
                        if ended.is_set():
                            return
                        self._take(message, pending, ready)
            finally:
                ended.set()
                ready.put(None)

        def gone() -> None:
            ended.set()
            for job in pending.copy():
                self.jobs.cancel(job)
            room.release()
            ready.put(None)

        if not context.add_callback(gone):
            return
        threading.Thread(target=read, name="requests", daemon=True).start()
        while context.is_active() and not (ended.is_set() and ready.empty() and not pending):
            try:
                item = ready.get(timeout=IDLE)
            except queue.Empty:
                if pending:
                    continue
                return
            if isinstance(item, Job):
                pending.discard(item)
                try:
                    item = wrap(infer_response=self._answer(item))
                except Refusal as error:
                    item = _refused(item.payload[0], error)
            if item is not None:
                yield item
                room.release()

    def _take(self, message: Any, pending: set[Job], ready: queue.SimpleQueue[Any]) -> None:
        """Queue a stream's request, or have its refusal ready."""
        seconds = tensors.parameters(message).get("timeout")
        try:
            job = self._job(message, seconds * 1e-6 if isinstance(seconds, int) else self._limit)
            # Before it is queued, so that it is never done before it is known.
            pending.add(job)
            try:
                self._submit(job, ready.put)
            except Refusal:
                pending.discard(job)
                raise
        except Refusal as error:
            ready.put(_refused(message.id, error))

    def _prepared(self, message: Any) -> Any:
        """Loads the session of a cut, whose tensors need not come along, and says how fast this node is."""
        self._check_network(message)
        if message.inputs:
            self._session(message)
        told = {"network_ns": int(self.network_seconds * 1e9)}
        identifier = message.id[: signalling.IDENTIFIER_LENGTH]
        return tensors.response(NETWORK, identifier, {}, told, self.sessions.graph.digest)

    def _job(self, message: Any, seconds: float) -> Job:
        """A request, checked."""
        identifier = message.id
        if self.trace.on:
            request = identifier[: signalling.IDENTIFIER_LENGTH]
            self.trace.message("ModelInferRequest", "received", tensors.size(message), request)
        try:
            if len(identifier) > signalling.IDENTIFIER_LENGTH:
                text = f"id: {len(identifier)} characters: must be <= {signalling.IDENTIFIER_LENGTH}"
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)
            self._check_network(message)
            session = self._session(message)
            try:
                feeds = tensors.arrays(message.inputs, message.raw_input_contents)
            except ValueError as error:
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
        except Refusal as error:
            self._failed(identifier, error)
            raise
        deadline = time.monotonic() + min(max(seconds, 0.0), self._limit)
        return Job(None, (identifier, session, feeds), deadline, lambda: None)

    def _submit(self, job: Job, notify: Callable[[Job], None]) -> None:
        """Queue a job; `notify` gets it when it is done."""
        job.notify = partial(notify, job)
        try:
            self.jobs.submit(job)
        except QueueFull as error:
            refusal = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            self._failed(job.payload[0], refusal)
            raise refusal from None

    def _check_network(self, message: Any) -> None:
        if message.model_name != NETWORK:
            raise Refusal(grpc.StatusCode.NOT_FOUND, _unknown(message.model_name))
        digest = self.sessions.graph.digest
        if message.model_version not in ("", digest):
            text = f"version = {message.model_version[:80]!r}: this edge serves the network of digest {digest!r}"
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, text)

    def _session(self, message: Any) -> Any:
        graph = self.sessions.graph
        try:
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
        except ValueError as error:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None

    def _run(self, batch: Sequence[Job], progress: Callable[[int, int], None]) -> list[Any]:
        return [session.run(feeds) for _, session, feeds in (job.payload for job in batch)]

    def _answer(self, job: Job) -> Any:
        identifier = job.payload[0]
        if job.error is not None:
            code = {Expired: grpc.StatusCode.DEADLINE_EXCEEDED, Cancelled: grpc.StatusCode.UNAVAILABLE}
            known = code.get(type(job.error))
            # What an unforeseen error says may name files of this machine, so that only its type goes out.
            text = str(job.error) if known else f"{type(job.error).__name__} in the network on the edge"
            error = Refusal(known or grpc.StatusCode.INTERNAL, text)
            self._failed(identifier, error)
            raise error
        outputs, seconds = job.result
        self.trace.stage("queue", job.queued, job.begun, identifier)
        self.trace.stage("edge", job.begun, job.ended, identifier, networks=seconds)
        told = {"queue_ns": int(1e9 * (job.begun - job.queued)), "compute_ns": int(1e9 * seconds)}
        answer = tensors.response(NETWORK, identifier, outputs, told, self.sessions.graph.digest)
        if self._report is not None:
            queued = job.begun - job.queued
            names = ", ".join(outputs)
            self._report(f"{identifier or '(no id)'}: {names} in {seconds:.6f} s, {queued:.6f} s waiting")
        if self.trace.on:
            self.trace.message("ModelInferResponse", "sent", tensors.size(answer), identifier)
        return answer

    def _failed(self, identifier: str, error: Refusal) -> None:
        request = identifier[: signalling.IDENTIFIER_LENGTH]
        self.trace.record("event", "failed", request=request, status=error.status.name, reason=error.reason)
        if self._report is not None:
            self._report(f"{request or '(no id)'}: {error.status.name}: {error.reason}")


def _unknown(name: str) -> str:
    return f"model = {name[:80]!r}: must be {NETWORK!r}"


def _refused(identifier: str, error: Refusal) -> Any:
    """What a stream says of a request that failed, with its id."""
    answer = tensors.response(
        NETWORK, identifier[: signalling.IDENTIFIER_LENGTH], {}, {"status": str(error.status.name)}
    )
    return tensors.service().ModelStreamInferResponse(error_message=error.reason, infer_response=answer)
