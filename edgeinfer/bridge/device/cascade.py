"""The device: asks the edge, checks what comes back, decodes, and finishes alone when it has to."""

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.bridge.cascade import choices as allocation
from edgeinfer.bridge.cascade.packing import pack, unpack
from edgeinfer.bridge.cascade.runtime import GenerativeCascade
from edgeinfer.bridge.device.connection import Connection, EdgeError
from edgeinfer.bridge.wire import signalling, tensors
from edgeinfer.bridge.wire.tensors import GENERATE, PRIOR, STEPS
from edgeinfer.bridge.wire.trace import Trace

grpc = need("grpc", "bridge")

PARADIGMS = ("split", "edge", "device")

#: progress(stage, steps done, steps in all)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Generation:
    """What a request gave.

    Attributes
    ----------
    image : (H, W, 3) ndarray, uint8
    request : str
        Its id in the traces.
    paradigm : str
        What ran in the end: "device" after a fallback.
    prior_steps, decode_steps : int
        As asked for or allocated.
    seconds : float
        From the call to the image.
    reason : str
        Why the device finished alone; empty otherwise.
    """

    image: NDArray[np.uint8]
    request: str
    paradigm: str
    prior_steps: int
    decode_steps: int
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Order:
    """What a user wants, checked.

    Parameters
    ----------
    caption : str
    seed : int
        In [0, 2**63).
    paradigm : {"split", "edge", "device"}
    prior_steps, decode_steps : int or None
        L_prior, L_dec in [1, 1000]; both None leaves them to the edge.
    wire : str or None
        Type of the tensor on the link; None takes the manifest's.
    quality : float or None
        Least quality when the edge decides.
    """

    caption: str
    seed: int = 0
    paradigm: str = "split"
    prior_steps: int | None = None
    decode_steps: int | None = None
    wire: str | None = None
    quality: float | None = None

    def __post_init__(self) -> None:
        _validate.choice("paradigm", self.paradigm, PARADIGMS)
        if _validate.whole("seed", self.seed, 0) >= 2**63:
            raise ValueError(f"seed = {self.seed}: must be in [0, 2**63)")
        if (self.prior_steps is None) != (self.decode_steps is None):
            raise ValueError(
                f"prior_steps, decode_steps = {self.prior_steps}, {self.decode_steps}: must be given both or neither"
            )
        for name in ("prior_steps", "decode_steps"):
            value = getattr(self, name)
            if value is not None and _validate.whole(name, value, 1) > STEPS:
                raise ValueError(f"{name} = {value}: must be in [1, {STEPS}]")
        if self.quality is not None:
            object.__setattr__(self, "quality", _validate.scalar("quality", self.quality))


class Device:
    """Runs orders, one at a time or, in `fetch`, several at once.

    Parameters
    ----------
    cascade : GenerativeCascade
        The same model folder as the edge's.
    connection : Connection, optional
        None can only run the device paradigm.
    trace : Trace, optional
    """

    def __init__(
        self, cascade: GenerativeCascade, connection: Connection | None = None, *, trace: Trace | None = None
    ) -> None:
        self.cascade = cascade
        self.connection = connection
        self.trace = trace or Trace(None, "device")
        self.queue_length = 0
        self.decode_step_seconds = 0.0
        self._name = f"{cascade.manifest.name} {signalling.fingerprint(cascade.manifest.folder)}"

    def measure(self) -> float:
        """Seconds of a decoding step, measured now and reported to the edge from now on."""
        latent = np.zeros((1, *self.cascade.manifest.wire.shape), np.float32)
        for _ in range(2):
            start = time.monotonic()
            self.cascade.decode([self.cascade.shortest_caption], latent, 1, [0])
            self.decode_step_seconds = time.monotonic() - start
        return self.decode_step_seconds

    def generate(
        self,
        order: Order,
        *,
        deadline: float = 60.0,
        patience: float | None = None,
        fallback: bool = False,
        progress: Progress | None = None,
    ) -> Generation:
        """An image for an order.

        Parameters
        ----------
        order : Order
        deadline : float, s
            From now to the image.
        patience : float, s, optional
            How long the edge may take; by default all of `deadline`, or half of it with `fallback`.
        fallback : bool
            Whether the device runs the whole cascade itself when the edge fails or is not there in time.
        progress : callable (stage, done, total), optional

        Raises
        ------
        EdgeError
            Without `fallback`: what the edge, or its absence, had to say.
        TimeoutError
            The deadline passed while the device computed.
        ValueError
            A caption or wire type that the model folder does not know.
        """
        start = time.monotonic()
        deadline = _validate.scalar("deadline", deadline, 0, low_open=True, unit="s")
        end = start + deadline
        if patience is None:
            patience = deadline / 2 if fallback else deadline
        patience = _validate.scalar("patience", patience, 0, low_open=True, unit="s")
        self.cascade.tokens([order.caption])
        wire = order.wire or self.cascade.manifest.wire.dtype
        _validate.choice("wire", wire, tuple(self.cascade.manifest.wire.bits))
        request = secrets.token_hex(8)
        self.trace.record("event", "begin", request=request, paradigm=order.paradigm)
        reason = ""
        prior_steps = order.prior_steps or allocation.DEFAULT[-2].prior_steps
        decode_steps = order.decode_steps or allocation.DEFAULT[-2].decode_steps
        ran, answer = "device", None
        if order.paradigm != "device":
            try:
                prior_steps, decode_steps, answer = self.fetch(
                    order, request, min(end, start + patience), deadline=deadline, progress=progress
                )
                ran = order.paradigm
            except EdgeError as error:
                self.trace.record("event", "failed", request=request, status=error.status, reason=str(error))
                if not fallback:
                    raise
                reason = str(error)
        if ran == "edge":
            image = answer
        else:
            if answer is None:
                answer = self.prior(order, request, prior_steps, end, progress)
            image = self.decode(order, request, answer, decode_steps, end, progress)
        assert image is not None
        self.trace.record("event", "done", request=request, paradigm=ran)
        return Generation(image, request, ran, prior_steps, decode_steps, time.monotonic() - start, reason)

    def fetch(
        self,
        order: Order,
        request: str,
        end: float,
        *,
        deadline: float,
        progress: Progress | None = None,
        negotiate: bool = True,
    ) -> tuple[int, int, NDArray[Any]]:
        """The edge's part of an order: the steps, and the packed latent or the image.

        Parameters
        ----------
        order : Order
            Not of the device paradigm.
        request : str
            Its id.
        end : float, s
            On the monotonic clock: until when the edge must have answered.
        deadline : float, s
            Reported to the edge: from the order to the image.
        progress : callable, optional
            Has the edge stream its steps.
        negotiate : bool
            False asks for the tensor alone, with the order's steps.
        """
        if self.connection is None:
            raise EdgeError("UNAVAILABLE", "no edge is given")
        try:
            if order.prior_steps is None or order.decode_steps is None:
                settled = self._settle(self._task(order, request, deadline), end)
                steps = self._allocated(order, request, *settled)
                return (*steps, self._infer(order, request, steps, end, progress))
            steps = order.prior_steps, order.decode_steps
            if not negotiate:
                return (*steps, self._infer(order, request, steps, end, progress))
            # The steps stand already, so that the edge confirms them while it computes; a thread that waits for this is
            # quicker than gRPC's futures, which start one each time.
            task = self._task(order, request, deadline)
            pending = self.connection.aside.submit(self._settle, task, end)
            answer = self._infer(order, request, steps, end, progress)
            return (*self._allocated(order, request, *pending.result()), answer)
        except grpc.RpcError as error:
            raise EdgeError(error.code().name, str(error.details())[:500]) from None

    def _settle(self, task: Any, end: float) -> tuple[Any, float, float]:
        """The edge's allocation, and when the task went out and this came in, s."""
        assert self.connection is not None
        sent = time.monotonic()
        answer = self.connection.negotiate(task, timeout=max(end - sent, 0.0))
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

    def _infer(
        self, order: Order, request: str, steps: tuple[int, int], end: float, progress: Progress | None
    ) -> NDArray[Any]:
        assert self.connection is not None
        model = GENERATE if order.paradigm == "edge" else PRIOR
        inputs = {
            "caption": np.array([order.caption]),
            "seed": np.array([order.seed], np.int64),
            "prior_steps": np.array(steps[:1], np.int32),
        }
        if model == GENERATE:
            inputs["decode_steps"] = np.array(steps[1:], np.int32)
        wire = order.wire or self.cascade.manifest.wire.dtype
        parameters: dict[str, Any] = {"wire": wire} | ({"progress": True} if progress else {})
        message = tensors.request(model, request, inputs, parameters)
        self.trace.message("ModelInferRequest", "sent", tensors.size(message), request)
        timeout = max(end - time.monotonic(), 0.0)
        if progress is None:
            return self._checked(self.connection.infer(message, timeout=timeout), model, wire, request)
        for piece in self.connection.stream(iter([message]), timeout=timeout):
            if piece.error_message:
                raise EdgeError("INTERNAL", piece.error_message[:500])
            answer = piece.infer_response
            if answer.outputs:
                return self._checked(answer, model, wire, request)
            told = tensors.parameters(answer)
            self.trace.message("Progress", "received", tensors.size(answer), request)
            progress("edge", int(told.get("step", 0)), int(told.get("steps", 0)))
        raise EdgeError("DATA_LOSS", "the stream ended without a result")

    def _checked(self, answer: Any, model: str, wire: str, request: str) -> NDArray[Any]:
        """The one tensor of an answer, if it is what the manifest says."""
        manifest = self.cascade.manifest
        channels, height, width = manifest.image.shape
        name, shape, dtype = manifest.wire.name, manifest.wire.shape, wire
        if model == GENERATE:
            name, shape, dtype = "image", (height, width, channels), "uint8"
        try:
            found = tensors.arrays(answer.outputs, answer.raw_output_contents)
        except ValueError as error:
            raise EdgeError("DATA_LOSS", str(error)) from None
        self.trace.message(
            "ModelInferResponse",
            "received",
            tensors.size(answer),
            request,
            tensor=sum(a.nbytes for a in found.values()),
        )
        array = found.get(name)
        if array is None or array.shape != (1, *shape) or array.dtype.name != dtype:
            shown = {key: f"{value.dtype.name} {value.shape}" for key, value in found.items()}
            raise EdgeError("DATA_LOSS", f"answer = {shown}: must be {name} {dtype} {(1, *shape)}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise EdgeError("DATA_LOSS", f"answer {name}: must be finite")
        return array[0]

    def prior(
        self, order: Order, request: str, steps: int, end: float = np.inf, progress: Progress | None = None
    ) -> NDArray[Any]:
        """The edge's part, run here: the packed latent."""
        wire = self.cascade.manifest.wire

        def run(report: Any, observe: Any) -> NDArray[Any]:
            latent = self.cascade.prior([order.caption], steps, [order.seed], progress=report, observe=observe)
            return pack(latent, order.wire or wire.dtype, wire.range)[0]

        return self._stage("prior", request, run, end, progress)

    def decode(
        self,
        order: Order,
        request: str,
        packed: NDArray[Any],
        steps: int,
        end: float = np.inf,
        progress: Progress | None = None,
    ) -> NDArray[np.uint8]:
        """The device's part: the image from a packed latent."""

        def run(report: Any, observe: Any) -> NDArray[Any]:
            latent = unpack(packed[None], self.cascade.manifest.wire.range)
            return self.cascade.decode([order.caption], latent, steps, [order.seed], progress=report, observe=observe)[
                0
            ]

        return self._stage("decode", request, run, end, progress)

    def _stage(self, name: str, request: str, run: Any, end: float, progress: Progress | None) -> NDArray[Any]:
        networks: list[float] = []

        def report(done: int, total: int) -> None:
            if time.monotonic() > end:
                raise TimeoutError(f"deadline passed in {name} on the device, step {done} of {total}")
            if progress is not None:
                progress(name, done, total)

        def observe(part: str, start: float, stop: float) -> None:
            networks.append(stop - start)

        begin = time.monotonic()
        result = run(report, observe)
        self.trace.stage(name, begin, time.monotonic(), request, networks=sum(networks))
        return result


def _free_memory() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
