"""The edge: one gRPC server for whatever kind of work, its queue, its streams, and what it says when work fails."""

import queue
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.bridge.wire import address, processes, security, signalling, tensors
from edgeinfer.bridge.wire.jobs import Cancelled, Expired, Job, Jobs, QueueFull
from edgeinfer.bridge.wire.trace import Trace

grpc = need("grpc", "bridge")


class Refusal(Exception):
    """A request that is not computed, with the name of gRPC's status and the reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.status, self.reason), vars(self)


@dataclass(frozen=True, eq=False)
class Task:
    """A checked request.

    Attributes
    ----------
    model, request : str
        The names that were asked for.
    payload : object
        What the kind of work makes of it.
    key : hashable
        Tasks of equal keys may run as one batch.
    stage : str
        The name that its computing has in traces.
    progress : bool
        Whether its stream is told of each step.
    answer : ModelInferResponse, optional
        Sent at once; nothing is computed.
    """

    model: str
    request: str
    payload: Any = None
    key: Hashable = None
    stage: str = "edge"
    progress: bool = False
    answer: Any = None


class Service(Protocol):
    """What a kind of work is on the edge.

    Attributes
    ----------
    models : tuple of str
        Those it answers for.
    together : bool
        Whether the requests of a stream run together, each failing alone, with its id; otherwise a stream is served one
        request after another, and the first failure ends it.
    idle : float, s
        How long a stream may stay open without a request.
    """

    models: tuple[str, ...]
    together: bool
    idle: float

    def warm_up(self) -> None:
        """Load what will run."""

    def ready(self, name: str, version: str) -> bool:
        """Whether a model of that version is served."""

    def describe(self, name: str) -> Any:
        """The ModelMetadataResponse of one of the models."""

    def check(self, message: Any, stream: bool) -> Task:
        """The task of a ModelInferRequest; ValueError or Refusal where it is none."""

    def run(self, tasks: Sequence[Task], progress: Callable[[int, int], None]) -> Sequence[Any]:
        """Results of tasks of one key, a Refusal for one that fails alone; `progress(done, total)` after each step."""

    def answer(self, job: Job) -> tuple[Any, dict[str, Any]]:
        """The ModelInferResponse of a job whose payload is its task, and what the trace says of its stage."""

    def handlers(self, server: "Server") -> tuple[Any, ...]:
        """Handlers of services besides the Open Inference Protocol."""


class Server(tensors.stubs().GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers the Open Inference Protocol for one kind of work, whose requests wait in one queue.

    Parameters
    ----------
    work : Service
    capacity, batch : int
        Requests that may wait, and that may run together where their keys are equal.
    limit : float, s
        Longest a request may take, whatever its deadline.
    trace : Trace, optional
    report : callable, optional
        Called with a line on each request that was answered or refused.
    """

    def __init__(
        self,
        work: Service,
        *,
        capacity: int = 16,
        batch: int = 1,
        limit: float = 300.0,
        trace: Trace | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.work = work
        self.trace = trace or Trace(None, "edge")
        self.limit = _validate.scalar("limit", limit, 0, low_open=True, unit="s")
        self.jobs = Jobs(self._run, capacity=capacity, batch=batch)
        self._report = report

    def warm_up(self) -> None:
        """Load what will run, so that the first request meets no cold start."""
        self.work.warm_up()

    def ServerLive(self, request: Any, context: Any) -> Any:
        return tensors.service().ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: Any) -> Any:
        return tensors.service().ServerReadyResponse(ready=True)

    def ModelReady(self, request: Any, context: Any) -> Any:
        ready = request.name in self.work.models and self.work.ready(request.name, request.version)
        return tensors.service().ModelReadyResponse(ready=ready)

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        from edgeinfer._version import __version__

        return tensors.service().ServerMetadataResponse(name="edgeinfer", version=__version__)

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        if request.name not in self.work.models:
            context.abort(grpc.StatusCode.NOT_FOUND, self._unknown(request.name))
        return self.work.describe(request.name)

    def ModelInfer(self, request: Any, context: Any) -> Any:
        done = threading.Event()
        remaining = context.time_remaining()
        try:
            job = self._job(request, self.limit if remaining is None else remaining)
            if job.payload.answer is not None:
                return job.payload.answer
            self._submit(job, lambda job: done.set())
        except Refusal as error:
            context.abort(grpc.StatusCode[error.status], error.reason)

        def gone() -> None:
            self.jobs.cancel(job)
            done.set()

        if not context.add_callback(gone):
            gone()
        done.wait(max(job.deadline - time.monotonic(), 0.0))
        try:
            return self._answer(job)
        except Refusal as error:
            context.abort(grpc.StatusCode[error.status], error.reason)

    def ModelStreamInfer(self, requests: Any, context: Any) -> Iterator[Any]:
        """Requests are read as they come and answered as they are done; see `Service.together` on failures."""
        stream = _Stream(self, context)
        if not context.add_callback(stream.end):
            return
        threading.Thread(target=stream.read, args=(requests,), name="requests", daemon=True).start()
        yield from stream.answers()

    def refuse(self, identifier: str, error: Refusal) -> Refusal:
        """Write down a refusal, and give it back to be raised."""
        request = identifier[: signalling.IDENTIFIER_LENGTH]
        self.trace.record("event", "failed", request=request, status=error.status, reason=error.reason)
        if self._report is not None:
            self._report(f"{request or '(no id)'}: {error.status}: {error.reason}")
        return error

    def abort(self, context: Any, identifier: str, error: Refusal) -> None:
        """End a call with a refusal."""
        self.refuse(identifier, error)
        context.abort(grpc.StatusCode[error.status], error.reason)

    def cancel(self, job: Job) -> None:
        """Give up a job that nobody waits for any more."""
        self.jobs.cancel(job)
        self.trace.record("event", "cancelled", request=job.payload.request)

    def _job(self, message: Any, seconds: float, *, stream: bool = False) -> Job:
        """A request, checked."""
        if self.trace.on:
            request = message.id[: signalling.IDENTIFIER_LENGTH]
            self.trace.message("ModelInferRequest", "received", tensors.size(message), request)
        try:
            if message.model_name not in self.work.models:
                raise Refusal("NOT_FOUND", self._unknown(message.model_name))
            task = self.work.check(message, stream)
        except Refusal as error:
            raise self.refuse(message.id, error) from None
        except ValueError as error:
            raise self.refuse(message.id, Refusal("INVALID_ARGUMENT", str(error))) from None
        deadline = time.monotonic() + min(max(seconds, 0.0), self.limit)
        return Job(task.key, task, deadline, lambda: None, follow=task.progress)

    def _submit(self, job: Job, notify: Callable[[Job], Any]) -> None:
        """Queue a job; `notify` gets it when it is done, and at each step where it is followed."""
        job.notify = partial(notify, job)
        try:
            self.jobs.submit(job)
        except QueueFull as error:
            raise self.refuse(job.payload.request, Refusal("RESOURCE_EXHAUSTED", str(error))) from None

    def _run(self, batch: Sequence[Job], progress: Callable[[int, int], None]) -> Sequence[Any]:
        return self.work.run([job.payload for job in batch], progress)

    def _answer(self, job: Job) -> Any:
        """The response of a job that is done; one that is not is given up."""
        task = job.payload
        if not job.done:
            self.cancel(job)
        if job.error is not None or not job.done:
            raise self.refuse(task.request, _failure(job))
        if isinstance(job.result, Refusal):
            raise self.refuse(task.request, job.result)
        answer, about = self.work.answer(job)
        if self.trace.on:
            self.trace.stage("queue", job.queued, job.begun, task.request)
            self.trace.stage(task.stage, job.begun, job.ended, task.request, batch=job.companions, **about)
            size, carried = tensors.size(answer), sum(map(len, answer.raw_output_contents))
            self.trace.message("ModelInferResponse", "sent", size, task.request, tensor=carried)
        if self._report is not None:
            names = ", ".join(port.name for port in answer.outputs)
            took, waited = job.ended - job.begun, job.begun - job.queued
            self._report(f"{task.request or '(no id)'}: {names} in {took:.6f} s, {waited:.6f} s waiting")
        return answer

    def _unknown(self, name: str) -> str:
        known = ", ".join(map(repr, self.work.models))
        return f"model = {name[:80]!r}: must be {'one of ' if len(self.work.models) > 1 else ''}{known}"


def _failure(job: Job) -> Refusal:
    if not job.done:
        return Refusal("DEADLINE_EXCEEDED", f"not done within {job.deadline - job.queued:.3g} s")
    known: dict[type, str] = {Expired: "DEADLINE_EXCEEDED", Cancelled: "UNAVAILABLE"}
    status = known.get(type(job.error), "INTERNAL")
    # What an unforeseen error says may name files of this machine, so that only its type goes out.
    told = f"{type(job.error).__name__} in {job.payload.model!r} on the edge"
    return Refusal(status, told if status == "INTERNAL" else str(job.error))


class _Stream:
    """One stream of requests: a thread reads them, the call's own thread answers."""

    def __init__(self, server: Server, context: Any) -> None:
        self._server, self._context, self._together = server, context, server.work.together
        self._ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._pending: set[Job] = set()
        self._ended = threading.Event()
        self._told: tuple[int, int] | None = None
        # A client that reads no answers is not read from either, once it has that many to come.
        self._room = threading.Semaphore(2 * server.jobs.capacity if self._together else 1)

    def read(self, requests: Any) -> None:
        """Take requests until there are no more; what breaks the stream ends it."""
        try:
            with suppress(grpc.RpcError):
                for message in requests:
                    self._room.acquire()
                    if self._ended.is_set():
                        return
                    self._take(message)
        finally:
            self._ended.set()
            self._ready.put(None)

    def end(self) -> None:
        """Give up what is under way: the client has gone."""
        self._ended.set()
        for job in self._pending.copy():
            self._server.cancel(job)
        self._room.release()
        self._ready.put(None)

    def _take(self, message: Any) -> None:
        """Queue a request, or have its refusal ready."""
        server, seconds = self._server, tensors.parameters(message).get("timeout")
        remaining = None if self._together else self._context.time_remaining()
        limit = server.limit if remaining is None else remaining
        try:
            job = server._job(message, seconds * 1e-6 if isinstance(seconds, int) else limit, stream=True)
            if job.payload.answer is not None:
                self._ready.put(job.payload.answer)
                return
            # Before it is queued, so that it is never done before it is known.
            self._pending.add(job)
            try:
                server._submit(job, self._ready.put)
            except Refusal:
                self._pending.discard(job)
                raise
        except Refusal as error:
            self._ready.put((message.id, error))

    def answers(self) -> Iterator[Any]:
        """Answers and steps as they come, until the stream ends or nothing has been asked for long."""
        wrap = tensors.service().ModelStreamInferResponse
        while self._context.is_active() and not (self._ended.is_set() and self._ready.empty() and not self._pending):
            item = self._next()
            if isinstance(item, Job):
                if item.follow and (told := self._progress(item)) is not None:
                    yield wrap(infer_response=told)
                    continue
                if item not in self._pending or not (item.done or time.monotonic() >= item.deadline):
                    continue
                self._pending.discard(item)
                try:
                    item = self._server._answer(item)
                except Refusal as error:
                    item = item.payload.request, error
            if item is not None:
                yield self._refused(*item) if isinstance(item, tuple) else wrap(infer_response=item)
                self._room.release()

    def _next(self) -> Any:
        """An answer, a refusal, or a job that has changed or is late; None where nothing is to be said."""
        first = None if self._together else next(iter(self._pending.copy()), None)
        left = self._server.work.idle if first is None else max(first.deadline - time.monotonic(), 0.0)
        try:
            return self._ready.get(timeout=left)
        except queue.Empty:
            if first is None and not self._pending:
                self._context.cancel()
            return first

    def _progress(self, job: Job) -> Any:
        """The latest step of a job, unless it was told or the job is done: a slow reader misses those before."""
        if job.done or job.progress in (None, self._told):
            return None
        task, (step, steps) = job.payload, job.progress
        self._told = job.progress
        told = tensors.response(task.model, task.request, {}, {"step": step, "steps": steps})
        self._server.trace.message("Progress", "sent", tensors.size(told), task.request)
        return told

    def _refused(self, identifier: str, error: Refusal) -> Any:
        """What a stream says of a request that failed, with its id; or the end of the stream."""
        if not self._together:
            self._context.abort(grpc.StatusCode[error.status], error.reason)
        model, short = self._server.work.models[0], identifier[: signalling.IDENTIFIER_LENGTH]
        answer = tensors.response(model, short, {}, {"status": error.status})
        return tensors.service().ModelStreamInferResponse(error_message=error.reason, infer_response=answer)


def listen(
    edge: Server,
    host: str,
    port: int,
    *,
    credentials: Any = None,
    insecure: bool = False,
    message_bytes: int = security.MESSAGE_BYTES,
) -> tuple[Any, int]:
    """Answer on an address, in threads of its own.

    Parameters
    ----------
    edge : Server
    host : str
        A loopback address, unless `credentials` are given or `insecure` is True.
    port : int
        0 takes a free one.
    credentials : grpc.ServerCredentials, optional
    message_bytes : int
        Longest message.

    Returns
    -------
    grpc.Server, int
        It runs until stopped; and the port.
    """
    security.check_listen(host, credentials is not None, insecure)
    # A thread for each request that waits or runs, and some that can say "full".
    workers = edge.jobs.capacity + edge.jobs.batch + 16
    server = grpc.server(
        ThreadPoolExecutor(workers, thread_name_prefix="rpc"),
        options=security.channel_options(message_bytes),
        maximum_concurrent_rpcs=workers,
    )
    tensors.stubs().add_GRPCInferenceServiceServicer_to_server(edge, server)
    server.add_generic_rpc_handlers(edge.work.handlers(edge))
    name = address.join(host, port)
    try:
        bound = server.add_secure_port(name, credentials) if credentials else server.add_insecure_port(name)
    except RuntimeError as error:
        raise OSError(f"{name}: {error}") from None
    server.start()
    return server, bound


def run(edge: Server, host: str, port: int, *, watch_stdin: bool = False, **options: Any) -> None:
    """Warm up, say where it listens, and serve as `listen` does until SIGTERM or SIGINT, in the main thread."""
    commands = processes.Commands({}, watch_stdin=watch_stdin)
    edge.warm_up()
    server, bound = listen(edge, host, port, **options)
    print(f"listening on {address.join(host, bound)}", flush=True)
    commands.obey()
    edge.jobs.close()
    server.stop(1.0).wait()
