"""The steps of an order, settled between device and edge by the signalling service, before or while it computes."""

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeinfer import _validate
from edgeinfer.bridge.cascade import choices as allocation
from edgeinfer.bridge.cascade.runtime import GenerativeCascade
from edgeinfer.bridge.device.client import Client
from edgeinfer.bridge.device.connection import Connection, EdgeError
from edgeinfer.bridge.edge.server import Refusal, Server
from edgeinfer.bridge.wire import signalling, tensors
from edgeinfer.bridge.wire.tensors import STEPS
from edgeinfer.bridge.wire.trace import Trace
from edgeinfer.bridge.work.orders import Order


def name_of(cascade: GenerativeCascade) -> str:
    """What device and edge tell a cascade by."""
    return f"{cascade.manifest.name} {signalling.fingerprint(cascade.manifest.folder)}"


class Speed:
    """Running estimate of the seconds that a step takes."""

    def __init__(self) -> None:
        self.prior_step = 0.0
        self.decode_step = 0.0

    def expected(self, prior_steps: int, decode_steps: int) -> float:
        """Seconds of a task; `decode_steps` 0 where the device decodes."""
        return prior_steps * self.prior_step + decode_steps * self.decode_step

    def learn(self, prior_steps: int, decode_steps: int, seconds: float) -> None:
        """Move the estimate towards what a task took."""
        expected = self.expected(prior_steps, decode_steps)
        if expected > 0:
            factor = (seconds / expected) ** 0.25
            self.prior_step *= factor
            if decode_steps:
                self.decode_step *= factor


class Allocator:
    """The edge's side: allocates the steps that a device leaves to it.

    Parameters
    ----------
    cascade : GenerativeCascade
    allocations : sequence of StepChoice
        What it chooses from.
    """

    def __init__(self, cascade: GenerativeCascade, allocations: Sequence[allocation.StepChoice]) -> None:
        self.cascade, self.speed, self.fingerprint = cascade, Speed(), name_of(cascade)
        self._allocations = tuple(allocations)

    def warm_up(self) -> None:
        """Load both stages and time a step of each, the steps that devices are promised."""
        shape = (1, *self.cascade.manifest.wire.shape)
        for _ in range(2):
            start = time.monotonic()
            self.cascade.prior([self.cascade.shortest_caption], 1, [0])
            middle = time.monotonic()
            self.cascade.decode([self.cascade.shortest_caption], np.zeros(shape, np.float32), 1, [0])
            self.speed.prior_step, self.speed.decode_step = middle - start, time.monotonic() - middle

    def negotiate(self, server: Server, request: Any, context: Any) -> Any:
        """TaskRequest with the device's status -> StepAllocation."""
        received = time.monotonic()
        identifier = request.request_id
        status = request.status.ByteSize()
        server.trace.message("TaskRequest", "received", tensors.size(request) - status, identifier)
        server.trace.message(
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
            prior_steps, decode_steps = self._allocate(server, request)
        except ValueError as error:
            server.abort(context, identifier, Refusal("INVALID_ARGUMENT", str(error)))
        if request.cascade and request.cascade != self.fingerprint:
            text = f"cascade = {request.cascade[:80]!r}: this edge serves {self.fingerprint!r}"
            server.abort(context, identifier, Refusal("FAILED_PRECONDITION", text))
        before = len(server.jobs)
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
        server.trace.message(
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
        self.check_captions([request.caption])
        _validate.whole("seed", request.seed, 0)
        _validate.real("quality", request.quality)
        _validate.real("deadline", request.deadline, 0)
        _validate.real("decode_step_seconds", request.status.decode_step_seconds, 0)
        if request.wire:
            self.check_wire(request.wire)
        if bool(request.prior_steps) != bool(request.decode_steps):
            raise ValueError(
                f"prior_steps, decode_steps = {request.prior_steps}, {request.decode_steps}: must both be 0 or neither"
            )
        for name in ("prior_steps", "decode_steps"):
            if getattr(request, name) > STEPS:
                raise ValueError(f"{name} = {getattr(request, name)}: must be in [0, {STEPS}]")

    def _allocate(self, server: Server, request: Any) -> tuple[int, int]:
        if request.prior_steps:
            return request.prior_steps, request.decode_steps
        all_here = request.paradigm == signalling.messages().EDGE
        decode_step = self.speed.decode_step if all_here else request.status.decode_step_seconds
        # A queued task is taken to be of the table's middle choice.
        middle = self._allocations[len(self._allocations) // 2]
        waiting = len(server.jobs) * self.speed.expected(middle.prior_steps, middle.decode_steps if all_here else 0)
        waiting += request.status.queue_length * request.status.decode_step_seconds * middle.decode_steps
        choice = allocation.allocate(
            self._allocations,
            deadline=request.deadline or server.limit,
            quality=request.quality or None,
            prior_step_seconds=self.speed.prior_step,
            decode_step_seconds=decode_step,
            waiting_seconds=waiting,
        )
        return choice.prior_steps, choice.decode_steps

    def check_captions(self, captions: list[str]) -> None:
        """ValueError unless the cascade takes them."""
        longest = max(map(len, captions))
        if longest > signalling.CAPTION_LENGTH:
            raise ValueError(f"caption: {longest} characters: must be <= {signalling.CAPTION_LENGTH}")
        self.cascade.tokens(captions)

    def check_wire(self, wire: str) -> None:
        """ValueError unless the latent may cross as this type."""
        _validate.choice("wire", wire, tuple(self.cascade.manifest.wire.bits))


class Negotiator(Client):
    """The device's side: asks for steps, and says how fast and how busy it is.

    Parameters
    ----------
    cascade : GenerativeCascade
        The same model folder as the edge's.
    connection : Connection, optional
    trace : Trace, optional
    """

    def __init__(
        self, cascade: GenerativeCascade, connection: Connection | None = None, *, trace: Trace | None = None
    ) -> None:
        super().__init__(connection, trace=trace)
        self.cascade, self._name = cascade, name_of(cascade)
        self.decode_step_seconds = 0.0

    def measure(self) -> float:
        """Seconds of a decoding step, measured now and reported to the edge from now on."""
        latent = np.zeros((1, *self.cascade.manifest.wire.shape), np.float32)
        for _ in range(2):
            start = time.monotonic()
            self.cascade.decode([self.cascade.shortest_caption], latent, 1, [0])
            self.decode_step_seconds = time.monotonic() - start
        return self.decode_step_seconds

    def _settle(self, connection: Connection, task: Any, end: float) -> tuple[Any, float, float]:
        """The edge's allocation, and when the task went out and this came in, s."""
        sent = time.monotonic()
        answer = connection.ask(connection.negotiate, task, end - sent)
        return answer, sent, time.monotonic()

    def _task(self, order: Order, request: str, deadline: float) -> Any:
        """The task request with the device's status, on its way."""
        pb = signalling.messages()
        status = pb.ResourceStatus(
            decode_step_seconds=self.decode_step_seconds, queue_length=self.queue_length, memory_bytes=_free_memory()
        )
        task = pb.TaskRequest(
            request_id=request,
            caption=order.caption,
            seed=order.seed,
            paradigm=pb.EDGE if order.paradigm == "edge" else pb.SPLIT,
            prior_steps=order.prior_steps or 0,
            decode_steps=order.decode_steps or 0,
            quality=order.quality or 0.0,
            deadline=deadline,
            wire=order.wire or "",
            cascade=self._name,
            status=status,
        )
        self.trace.message("TaskRequest", "sent", tensors.size(task) - status.ByteSize(), request)
        self.trace.message("ResourceStatus", "sent", status.ByteSize(), request)
        return task

    def _allocated(self, order: Order, request: str, answer: Any, sent: float, received: float) -> tuple[int, int]:
        """The steps of an allocation, if they are what may be allocated."""
        self.trace.message(
            "StepAllocation",
            "received",
            tensors.size(answer),
            request,
            time=received,
            prior_steps=answer.prior_steps,
            decode_steps=answer.decode_steps,
            clock_offset=((answer.received - sent) + (answer.sent - received)) / 2,
            round_trip=(received - sent) - (answer.sent - answer.received),
        )
        steps = answer.prior_steps, answer.decode_steps
        asked = (order.prior_steps or steps[0], order.decode_steps or steps[1])
        if not all(1 <= count <= STEPS for count in steps) or steps != asked:
            raise EdgeError("DATA_LOSS", f"allocated steps = {steps}: must be in [1, {STEPS}] and as asked for")
        return steps


def _free_memory() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
