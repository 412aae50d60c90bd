"""Cascades as a kind of work: the edge runs the prior, or all of it, and the device decodes, or finishes alone."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.bridge.cascade import choices as allocation
from edgeinfer.bridge.cascade import runtime
from edgeinfer.bridge.cascade.packing import pack, unpack
from edgeinfer.bridge.cascade.runtime import GenerativeCascade
from edgeinfer.bridge.device.client import Compute, Exchange, Limits, Script, limits
from edgeinfer.bridge.device.connection import Connection, EdgeError
from edgeinfer.bridge.edge.server import Server, Task
from edgeinfer.bridge.wire import security, signalling, tensors
from edgeinfer.bridge.wire.jobs import Job
from edgeinfer.bridge.wire.tensors import BATCH, GENERATE, PRIOR, STEPS
from edgeinfer.bridge.work.allocation import Allocator, Negotiator
from edgeinfer.bridge.work.orders import Generation, Order, StageProgress


@dataclass(frozen=True)
class Orders:
    """What a request asks of the edge, checked."""

    identifier: str
    captions: list[str]
    seeds: list[int]
    prior_steps: int
    decode_steps: int
    wire: str
    stream: bool


class CascadeService:
    """A cascade on an edge, as `Service`; allocates the steps that a device leaves to it."""

    models: tuple[str, ...] = (PRIOR, GENERATE)
    together = False
    idle = 60.0

    def __init__(
        self, cascade: GenerativeCascade, allocations: Sequence[allocation.StepChoice] = allocation.DEFAULT
    ) -> None:
        self.cascade, self._allocator = cascade, Allocator(cascade, allocations)
        wire = cascade.manifest.wire
        names = {"uint8": "UINT8", "float16": "FP16", "float32": "FP32"}
        channels, height, width = cascade.manifest.image.shape
        steps = {"prior_steps": "INT32"}
        self._ports = {
            PRIOR: (steps, (wire.name, names[wire.dtype], wire.shape)),
            GENERATE: (steps | {"decode_steps": "INT32"}, ("image", "UINT8", (height, width, channels))),
        }

    def warm_up(self) -> None:
        """Load both stages, and time a step of each."""
        self._allocator.warm_up()

    def ready(self, name: str, version: str) -> bool:
        """Whether it is served, in whatever version."""
        return name in self._ports

    def describe(self, name: str) -> Any:
        """Inputs and outputs of a model."""
        steps, (output, datatype, shape) = self._ports[name]
        answer = tensors.service().ModelMetadataResponse(name=name, versions=["1"], platform="onnxruntime")
        answer.inputs.add(name="caption", datatype="BYTES", shape=[-1])
        answer.inputs.add(name="seed", datatype="INT64", shape=[-1])
        for step, kind in steps.items():
            answer.inputs.add(name=step, datatype=kind, shape=[1])
        answer.outputs.add(name=output, datatype=datatype, shape=[-1, *shape])
        return answer

    def handlers(self, server: Server) -> tuple[Any, ...]:
        """The signalling service."""
        return (signalling.handlers(partial(self._allocator.negotiate, server)),)

    def check(self, message: Any, stream: bool) -> Task:
        """Captions and seeds, steps and the type on the wire."""
        steps, _ = self._ports[message.model_name]
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
        orders = Orders(
            identifier=message.id,
            captions=values["caption"].tolist(),
            seeds=[_validate.whole("seed", seed, 0) for seed in values["seed"].tolist()],
            prior_steps=int(values["prior_steps"][0]),
            decode_steps=int(values["decode_steps"][0]) if "decode_steps" in values else 0,
            wire=str(parameters.get("wire", self.cascade.manifest.wire.dtype)),
            stream=stream,
        )
        self._allocator.check_captions(orders.captions)
        self._allocator.check_wire(orders.wire)
        for name in steps:
            if not 1 <= getattr(orders, name) <= STEPS:
                raise ValueError(f"{name} = {getattr(orders, name)}: must be in [1, {STEPS}]")
        return Task(
            message.model_name,
            message.id[: signalling.IDENTIFIER_LENGTH],
            orders,
            key=(message.model_name, orders.prior_steps, orders.decode_steps, orders.wire),
            stage="prior" if message.model_name == PRIOR else "inference",
            progress=stream and parameters.get("progress") is True,
        )

    def run(self, tasks: Sequence[Task], progress: Callable[[int, int], None]) -> list[tuple[NDArray[Any], float]]:
        """Latents or images of the tasks in one batch, and the time in ONNX Runtime, s."""
        begin, first = time.monotonic(), tasks[0].payload
        captions = [caption for task in tasks for caption in task.payload.captions]
        seeds = [seed for task in tasks for seed in task.payload.seeds]
        networks: list[float] = []

        def observe(part: str, start: float, end: float) -> None:
            networks.append(end - start)

        told: dict[str, Any] = {"progress": progress, "observe": observe}
        if tasks[0].model == PRIOR:
            wire = self.cascade.manifest.wire
            latent = self.cascade.prior(captions, first.prior_steps, seeds, **told)
            values: NDArray[Any] = pack(latent, first.wire, wire.range)
        else:
            values = self.cascade.generate(
                captions, first.prior_steps, first.decode_steps, seeds, wire=first.wire, **told
            )
        self._allocator.speed.learn(first.prior_steps, first.decode_steps, time.monotonic() - begin)
        bounds = np.cumsum([len(task.payload.captions) for task in tasks])[:-1]
        return [(part, sum(networks)) for part in np.split(values, bounds)]

    def answer(self, job: Job) -> tuple[Any, dict[str, Any]]:
        """The one tensor."""
        task, (values, seconds) = job.payload, job.result
        _, (output, _, _) = self._ports[task.model]
        final = {"triton_final_response": True} if task.payload.stream else {}
        return tensors.response(task.model, task.payload.identifier, {output: values}, final), {"networks": seconds}


class Edge(Server):
    """Serves a cascade: answers the Open Inference Protocol and the signalling service.

    Parameters
    ----------
    cascade : GenerativeCascade
    allocations : sequence of StepChoice
        What it chooses from when a device leaves the steps to it.
    **options
        Of `Server`: capacity, batch, limit, trace and report.
    """

    def __init__(
        self,
        cascade: GenerativeCascade,
        *,
        allocations: Sequence[allocation.StepChoice] = allocation.DEFAULT,
        **options: Any,
    ) -> None:
        super().__init__(CascadeService(cascade, allocations), **options)


class Device(Negotiator):
    """Runs orders for a cascade.

    Parameters
    ----------
    cascade : GenerativeCascade
        The same model folder as the edge's.
    connection : Connection, optional
        None can only run the device paradigm.
    trace : Trace, optional
    """

    def generate(
        self,
        order: Order,
        *,
        deadline: float = 60.0,
        patience: float | None = None,
        fallback: bool = False,
        progress: StageProgress | None = None,
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
        times = limits(deadline, patience, fallback)
        self.cascade.tokens([order.caption])
        wire = order.wire or self.cascade.manifest.wire.dtype
        _validate.choice("wire", wire, tuple(self.cascade.manifest.wire.bits))
        request = secrets.token_hex(8)
        self.trace.record("event", "begin", request=request, paradigm=order.paradigm)
        done = self.run(self.script(order, request, times, deadline=deadline, fallback=fallback, progress=progress))
        self.trace.record("event", "done", request=request, paradigm=done.paradigm)
        return done

    def script(
        self,
        order: Order,
        request: str,
        times: Limits,
        *,
        deadline: float,
        fallback: bool = False,
        progress: StageProgress | None = None,
        negotiate: bool = True,
    ) -> Script[Generation]:
        """The steps of an order: the edge's part, then the device's; parameters as for `generate` and `fetch`."""
        reason, answer = "", None
        prior_steps = order.prior_steps or allocation.DEFAULT[-2].prior_steps
        decode_steps = order.decode_steps or allocation.DEFAULT[-2].decode_steps
        ran = "device"
        if order.paradigm != "device":
            options: dict[str, Any] = {"deadline": deadline, "progress": progress, "negotiate": negotiate}
            call = partial(self.fetch, order, request, times.patience, **options)
            try:
                prior_steps, decode_steps, answer = yield Exchange(call)
                ran = order.paradigm
            except EdgeError as error:
                reason = self.failed(request, error)
                if not fallback:
                    raise

        def here() -> NDArray[np.uint8]:
            latent = self._prior(order, request, prior_steps, times.end, progress) if answer is None else answer
            return self._decode(order, request, latent, decode_steps, times.end, progress)

        image: Any = answer if ran == "edge" else (yield Compute(here))
        seconds = time.monotonic() - times.start
        return Generation(image, request, ran, prior_steps, decode_steps, seconds, reason)

    def fetch(
        self,
        order: Order,
        request: str,
        end: float,
        *,
        deadline: float,
        progress: StageProgress | None = None,
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
        connection = self.connection
        if order.prior_steps is None or order.decode_steps is None:
            settled = self._settle(connection, self._task(order, request, deadline), end)
            steps = self._allocated(order, request, *settled)
            return (*steps, self._infer(connection, order, request, steps, end, progress))
        steps = order.prior_steps, order.decode_steps
        if not negotiate:
            return (*steps, self._infer(connection, order, request, steps, end, progress))
        # The steps stand already, so that the edge confirms them while it computes; a thread that waits for this is
        # quicker than gRPC's futures, which start one each time.
        task = self._task(order, request, deadline)
        pending = connection.aside.submit(self._settle, connection, task, end)
        answer = self._infer(connection, order, request, steps, end, progress)
        return (*self._allocated(order, request, *pending.result()), answer)

    def _infer(
        self,
        connection: Connection,
        order: Order,
        request: str,
        steps: tuple[int, int],
        end: float,
        progress: StageProgress | None,
    ) -> NDArray[Any]:
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
        timeout = end - time.monotonic()
        if progress is None:
            return self._checked(connection.ask(connection.infer, message, timeout), model, wire, request)
        for piece in connection.follow(message, timeout):
            if piece.outputs:
                return self._checked(piece, model, wire, request)
            told = tensors.parameters(piece)
            self.trace.message("Progress", "received", tensors.size(piece), request)
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
        carried = sum(value.nbytes for value in found.values())
        self.trace.message("ModelInferResponse", "received", tensors.size(answer), request, tensor=carried)
        array = found.get(name)
        if array is None or array.shape != (1, *shape) or array.dtype.name != dtype:
            shown = {key: f"{value.dtype.name} {value.shape}" for key, value in found.items()}
            raise EdgeError("DATA_LOSS", f"answer = {shown}: must be {name} {dtype} {(1, *shape)}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise EdgeError("DATA_LOSS", f"answer {name}: must be finite")
        return array[0]

    def _prior(
        self, order: Order, request: str, steps: int, end: float, progress: StageProgress | None
    ) -> NDArray[Any]:
        """The edge's part, run here: the packed latent."""
        wire = self.cascade.manifest.wire

        def run(report: Any, observe: Any) -> NDArray[Any]:
            latent = self.cascade.prior([order.caption], steps, [order.seed], progress=report, observe=observe)
            return pack(latent, order.wire or wire.dtype, wire.range)[0]

        return self._stage("prior", request, run, end, progress)

    def _decode(
        self, order: Order, request: str, packed: NDArray[Any], steps: int, end: float, progress: StageProgress | None
    ) -> NDArray[np.uint8]:
        """The device's part: the image from a packed latent."""

        def run(report: Any, observe: Any) -> NDArray[Any]:
            latent = unpack(packed[None], self.cascade.manifest.wire.range)
            told = {"progress": report, "observe": observe}
            return self.cascade.decode([order.caption], latent, steps, [order.seed], **told)[0]

        return self._stage("decode", request, run, end, progress)

    def _stage(self, name: str, request: str, run: Any, end: float, progress: StageProgress | None) -> NDArray[Any]:
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


class Work:
    """Cascades for processes: see `run.user.Work`.

    Parameters
    ----------
    model : str
        Folder.
    threads : int, optional
        Of one network pass.
    """

    message_bytes = security.MESSAGE_BYTES
    client: Device

    def __init__(self, model: str, threads: int | None = None) -> None:
        self._cascade = runtime.load(model, threads=threads)

    def edge(self, **options: Any) -> Edge:
        """An edge; options as for `Edge`."""
        return Edge(self._cascade, **options)

    def connect(
        self, connection: Connection | None, *, deadline: float, negotiate: bool = True, seed: int = 0, **order: Any
    ) -> None:
        """Ask for one `Order` again and again, its seed counting up; the edge has `deadline` s for each."""
        self.client = Device(self._cascade, connection)
        self._deadline, self._negotiate, self._seed, self._order = deadline, negotiate, seed, order

    def warm_up(self) -> None:
        """Time a step, which the edge is told."""
        self.client.measure()

    def script(self, number: int, request: str) -> Script[Generation]:
        """An order; what the device computes has no deadline."""
        now = time.monotonic()
        order = Order(seed=self._seed + number, **self._order)
        times = Limits(now, np.inf, now + self._deadline)
        return self.client.script(order, request, times, deadline=self._deadline, negotiate=self._negotiate)

    def row(self, done: Generation) -> dict[str, Any]:
        """Nothing besides the steps' times."""
        return {}
