"""The edge: a gRPC server that runs the prior, or the whole cascade, for devices that ask."""

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.bridge.cascade import choices as allocation
from edgeinfer.bridge.cascade.packing import pack
from edgeinfer.bridge.cascade.runtime import GenerativeCascade
from edgeinfer.bridge.wire import signalling, tensors
from edgeinfer.bridge.wire.jobs import Cancelled, Expired, Job, Jobs, QueueFull
from edgeinfer.bridge.wire.tensors import BATCH, GENERATE, PRIOR, STEPS
from edgeinfer.bridge.wire.trace import Trace

grpc = need("grpc", "bridge")

#: How long a stream may stay open without a request, s.
IDLE = 60.0


@dataclass(frozen=True)
class Task:
    """A checked inference request."""

    model: str
    request: str
    captions: list[str]
    seeds: list[int]
    prior_steps: int
    decode_steps: int
    wire: str
    progress: bool

    @property
    def key(self) -> Hashable:
        """What must be equal for two tasks to run as one batch."""
        return self.model, self.prior_steps, self.decode_steps, self.wire


class Speed:
    """Running estimate of the seconds that a step takes."""

    def __init__(self) -> None:
        self.prior_step = 0.0
        self.decode_step = 0.0

    def expected(self, prior_steps: int, decode_steps: int) -> float:
        """Seconds of a task; `decode_steps` 0 where the device decodes."""
        return prior_steps * self.prior_step + decode_steps * self.decode_step

    def learn(self, task: Task, seconds: float) -> None:
        """Move the estimate towards what a task took."""
        expected = self.expected(task.prior_steps, task.decode_steps)
        if expected > 0:
            factor = (seconds / expected) ** 0.25
            self.prior_step *= factor
            if task.decode_steps:
                self.decode_step *= factor


class Edge(tensors.stubs().GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers the Open Inference Protocol and the signalling service.

    Parameters
    ----------
    cascade : GenerativeCascade
    capacity, batch : int
        Requests that may wait, and that may run together where their steps are equal.
    allocations : sequence of Allocation
        What it chooses from when a device leaves the steps to it.
    limit : float, s
        Longest a request may take, whatever its deadline.
    trace : Trace, optional
    """

    def __init__(
        self,
        cascade: GenerativeCascade,
        *,
        capacity: int = 16,
        batch: int = 1,
        allocations: Sequence[allocation.Allocation] = allocation.DEFAULT,
        limit: float = 300.0,
        trace: Trace | None = None,
    ) -> None:
        self.cascade = cascade
        self.trace = trace or Trace(None, "edge")
        self.speed = Speed()
        self.jobs = Jobs(self._run, capacity=capacity, batch=batch)
        self.fingerprint = f"{cascade.manifest.name} {signalling.fingerprint(cascade.manifest.folder)}"
        self._allocations = tuple(allocations)
        self._limit = _validate.scalar("limit", limit, 0, low_open=True, unit="s")
        wire = cascade.manifest.wire
        names = {"uint8": "UINT8", "float16": "FP16", "float32": "FP32"}
        steps = {"prior_steps": "INT32"}
        channels, height, width = cascade.manifest.image.shape
        self._models = {
            PRIOR: (steps, (wire.name, names[wire.dtype], wire.shape)),
            GENERATE: (steps | {"decode_steps": "INT32"}, ("image", "UINT8", (height, width, channels))),
        }

    def warm_up(self) -> None:
        """Load both stages and time a step of each, so that the first request meets no cold start."""
        shape = (1, *self.cascade.manifest.wire.shape)
        for _ in range(2):
            start = time.monotonic()
            self.cascade.prior([self.cascade.shortest_caption], 1, [0])
            middle = time.monotonic()
            self.cascade.decode([self.cascade.shortest_caption], np.zeros(shape, np.float32), 1, [0])
            self.speed.prior_step, self.speed.decode_step = middle - start, time.monotonic() - middle

    # Open Inference Protocol

    def ServerLive(self, request: Any, context: Any) -> Any:
        return tensors.service().ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: Any) -> Any:
        return tensors.service().ServerReadyResponse(ready=True)

    def ModelReady(self, request: Any, context: Any) -> Any:
        return tensors.service().ModelReadyResponse(ready=request.name in self._models)

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        from edgeinfer import __version__

        return tensors.service().ServerMetadataResponse(name="edgeinfer", version=__version__)

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        if request.name not in self._models:
            context.abort(grpc.StatusCode.NOT_FOUND, self._unknown(request.name))
        steps, (name, datatype, shape) = self._models[request.name]
        answer = tensors.service().ModelMetadataResponse(name=request.name, versions=["1"], platform="onnxruntime")
        answer.inputs.add(name="caption", datatype="BYTES", shape=[-1])
        answer.inputs.add(name="seed", datatype="INT64", shape=[-1])
        for step, kind in steps.items():
            answer.inputs.add(name=step, datatype=kind, shape=[1])
        answer.outputs.add(name=name, datatype=datatype, shape=[-1, *shape])
        return answer

    def ModelInfer(self, request: Any, context: Any) -> Any:
        answer = tensors.service().ModelInferResponse()
        for answer in self._answers(request, context, stream=False):  # noqa: B007
            pass
        return answer

    def ModelStreamInfer(self, requests: Any, context: Any) -> Iterator[Any]:
        wrap = tensors.service().ModelStreamInferResponse
        while True:
            idle = threading.Timer(IDLE, context.cancel)
            idle.daemon = True
            idle.start()
            request = next(requests, None)
            idle.cancel()
            if request is None:
                return
            for answer in self._answers(request, context, stream=True):
                yield wrap(infer_response=answer)

    # Signalling

    def negotiate(self, request: Any, context: Any) -> Any:
        """TaskRequest with the device's status -> StepAllocation."""
        received = time.monotonic()
        identifier = request.request_id
        status = request.status.ByteSize()
        self.trace.message("TaskRequest", "received", tensors.size(request) - status, identifier)
        self.trace.message(
            "ResourceStatus",
            "received",
            status,
            identifier,
            decode_step_seconds=request.status.decode_step_seconds,
            queue_length=request.status.queue_length,
            memory_bytes=request.status.memory_bytes,
        )
        try:
            self._check_task(request)
            prior_steps, decode_steps = self._allocate(request)
        except ValueError as error:
            self._abort(context, identifier, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if request.cascade and request.cascade != self.fingerprint:
            text = f"cascade = {request.cascade[:80]!r}: this edge serves {self.fingerprint!r}"
            self._abort(context, identifier, grpc.StatusCode.FAILED_PRECONDITION, text)
        before = len(self.jobs)
        on_edge = decode_steps if request.paradigm == signalling.messages().EDGE else 0
        answer = signalling.messages().StepAllocation(
            request_id=identifier,
            prior_steps=prior_steps,
            decode_steps=decode_steps,
            queue_length=before,
            expected_seconds=(before + 1) * self.speed.expected(prior_steps, on_edge),
            received=received,
            sent=time.monotonic(),
        )
        self.trace.message(
            "StepAllocation",
            "sent",
            tensors.size(answer),
            identifier,
            prior_steps=prior_steps,
            decode_steps=decode_steps,
        )
        return answer

    def _check_task(self, request: Any) -> None:
        if len(request.request_id) > signalling.IDENTIFIER_LENGTH:
            raise ValueError(
                f"request_id: {len(request.request_id)} characters: must be <= {signalling.IDENTIFIER_LENGTH}"
            )
        self._check_captions([request.caption])
        _validate.whole("seed", request.seed, 0)
        _validate.real("quality", request.quality)
        _validate.real("deadline", request.deadline, 0)
        _validate.real("decode_step_seconds", request.status.decode_step_seconds, 0)
        if request.wire:
            self._check_wire(request.wire)
        if bool(request.prior_steps) != bool(request.decode_steps):
            raise ValueError(
                f"prior_steps, decode_steps = {request.prior_steps}, {request.decode_steps}: must both be 0 or neither"
            )
        for name in ("prior_steps", "decode_steps"):
            if getattr(request, name) > STEPS:
                raise ValueError(f"{name} = {getattr(request, name)}: must be in [0, {STEPS}]")

    def _allocate(self, request: Any) -> tuple[int, int]:
        if request.prior_steps:
            return request.prior_steps, request.decode_steps
        all_here = request.paradigm == signalling.messages().EDGE
        decode_step = self.speed.decode_step if all_here else request.status.decode_step_seconds
        # A queued task is taken to be of the table's middle choice.
        middle = self._allocations[len(self._allocations) // 2]
        waiting = len(self.jobs) * self.speed.expected(middle.prior_steps, middle.decode_steps if all_here else 0)
        waiting += request.status.queue_length * request.status.decode_step_seconds * middle.decode_steps
        choice = allocation.allocate(
            self._allocations,
            deadline=request.deadline or self._limit,
            quality=request.quality or None,
            prior_step_seconds=self.speed.prior_step,
            decode_step_seconds=decode_step,
            waiting_seconds=waiting,
        )
        return choice.prior_steps, choice.decode_steps

    # From a request to its answer

    def _answers(self, message: Any, context: Any, *, stream: bool) -> Iterator[Any]:
        """Progress, where it is wanted and `stream` allows it, then the result; nothing when the client has gone."""
        identifier = message.id[: signalling.IDENTIFIER_LENGTH]
        self.trace.message("ModelInferRequest", "received", tensors.size(message), identifier)
        code = grpc.StatusCode
        if message.model_name not in self._models:
            self._abort(context, identifier, code.NOT_FOUND, self._unknown(message.model_name))
        try:
            task = self._checked(message, identifier)
        except ValueError as error:
            self._abort(context, identifier, code.INVALID_ARGUMENT, str(error))
        remaining = context.time_remaining()
        seconds = self._limit if remaining is None else min(remaining, self._limit)
        changed = threading.Event()
        follow = stream and task.progress
        job = Job(task.key, task, time.monotonic() + seconds, changed.set, follow=follow)
        try:
            self.jobs.submit(job)
        except QueueFull as error:
            self._abort(context, identifier, code.RESOURCE_EXHAUSTED, str(error))

        left = threading.Event()

        def gone() -> None:
            left.set()
            self.jobs.cancel(job)
            changed.set()

        if not context.add_callback(gone):
            gone()
        seen = None
        while not job.done:
            in_time = changed.wait(max(job.deadline - time.monotonic(), 0.0))
            changed.clear()
            if not in_time or left.is_set():
                self.jobs.cancel(job)
                self.trace.record("event", "cancelled", request=identifier)
                if not in_time:
                    self._abort(context, identifier, code.DEADLINE_EXCEEDED, f"not done within {seconds:.3g} s")
                return
            # A reader slower than the steps sees the latest of them.
            if follow and not job.done and job.progress not in (None, seen):
                seen = job.progress
                report = tensors.response(task.model, task.request, {}, {"step": seen[0], "steps": seen[1]})
                self.trace.message("Progress", "sent", tensors.size(report), identifier)
                yield report
        if job.error is not None:
            codes = {Expired: code.DEADLINE_EXCEEDED, Cancelled: code.UNAVAILABLE}
            known = codes.get(type(job.error))
            self.trace.record("event", "error", request=identifier, error=repr(job.error))
            # What an unforeseen error says may name files of this machine, so that only its type goes out.
            text = str(job.error) if known else f"{type(job.error).__name__} in {task.model!r} on the edge"
            self._abort(context, identifier, known or code.INTERNAL, text)
        output = self._models[task.model][1][0]
        final = {"triton_final_response": True} if stream else {}
        answer = tensors.response(task.model, message.id, {output: job.result}, final)
        self.trace.message("ModelInferResponse", "sent", tensors.size(answer), identifier, tensor=job.result.nbytes)
        yield answer

    def _abort(self, context: Any, identifier: str, status: Any, text: str) -> None:
        self.trace.record("event", "failed", request=identifier, status=status.name, reason=text)
        context.abort(status, text)

    def _unknown(self, name: str) -> str:
        return f"model = {name[:80]!r}: must be one of {', '.join(map(repr, self._models))}"

    def _checked(self, message: Any, identifier: str) -> Task:
        steps, _ = self._models[message.model_name]
        expected = {"caption": "BYTES", "seed": "INT64"} | steps
        kinds = {tensor.name: tensor.datatype for tensor in message.inputs}
        if kinds != expected:
            wanted = ", ".join(f"{name} {kind}" for name, kind in expected.items())
            shown = ", ".join(f"{name[:40]} {kind[:10]}" for name, kind in list(kinds.items())[:8])
            raise ValueError(f"inputs = {shown}: must be {wanted}")
        for tensor in message.inputs:
            limit = 1 if tensor.name in steps else BATCH
            if len(tensor.shape) != 1 or not 1 <= tensor.shape[0] <= limit:
                raise ValueError(f"tensor {tensor.name!r}: shape {list(tensor.shape)[:8]}: must be [1 to {limit}]")
        values = tensors.arrays(message.inputs, message.raw_input_contents)
        if values["caption"].shape != values["seed"].shape:
            raise ValueError(f"seed of shape {values['seed'].shape}: must be {values['caption'].shape}, as caption")
        parameters = tensors.parameters(message)
        task = Task(
            model=message.model_name,
            request=identifier,
            captions=values["caption"].tolist(),
            seeds=[_validate.whole("seed", seed, 0) for seed in values["seed"].tolist()],
            prior_steps=int(values["prior_steps"][0]),
            decode_steps=int(values["decode_steps"][0]) if "decode_steps" in values else 0,
            wire=str(parameters.get("wire", self.cascade.manifest.wire.dtype)),
            progress=parameters.get("progress") is True,
        )
        self._check_captions(task.captions)
        self._check_wire(task.wire)
        for name in steps:
            if not 1 <= getattr(task, name) <= STEPS:
                raise ValueError(f"{name} = {getattr(task, name)}: must be in [1, {STEPS}]")
        return task

    def _check_captions(self, captions: list[str]) -> None:
        longest = max(map(len, captions))
        if longest > signalling.CAPTION_LENGTH:
            raise ValueError(f"caption: {longest} characters: must be <= {signalling.CAPTION_LENGTH}")
        self.cascade.tokens(captions)

    def _check_wire(self, wire: str) -> None:
        _validate.choice("wire", wire, tuple(self.cascade.manifest.wire.bits))

    def _run(self, batch: Sequence[Job], progress: Callable[[int, int], None]) -> list[NDArray[Any]]:
        tasks: list[Task] = [job.payload for job in batch]
        first = tasks[0]
        captions = [caption for task in tasks for caption in task.captions]
        seeds = [seed for task in tasks for seed in task.seeds]
        networks: list[float] = []

        def observe(part: str, start: float, end: float) -> None:
            networks.append(end - start)

        if first.model == PRIOR:
            wire = self.cascade.manifest.wire
            latent = self.cascade.prior(captions, first.prior_steps, seeds, progress=progress, observe=observe)
            values: NDArray[Any] = pack(latent, first.wire, wire.range)
        else:
            values = self.cascade.generate(
                captions,
                first.prior_steps,
                first.decode_steps,
                seeds,
                wire=first.wire,
                progress=progress,
                observe=observe,
            )
        end = time.monotonic()
        self.speed.learn(first, end - batch[0].begun)
        name = "prior" if first.model == PRIOR else "inference"
        for job in batch:
            self.trace.stage("queue", job.queued, job.begun, job.payload.request)
            self.trace.stage(name, job.begun, end, job.payload.request, batch=len(batch), networks=sum(networks))
        bounds = np.cumsum([len(task.captions) for task in tasks])[:-1]
        return np.split(values, bounds)
