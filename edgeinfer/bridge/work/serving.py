"""A network on an edge: what requests ask of it, however it is cut, and the state that it keeps between them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edgeinfer.bridge.cutting.sessions import CutSessions, Session
from edgeinfer.bridge.edge.server import Refusal, Server, Task
from edgeinfer.bridge.wire import signalling, tensors
from edgeinfer.bridge.wire.jobs import Job
from edgeinfer.bridge.wire.tensors import IDLE, NETWORK
from edgeinfer.bridge.work.sequences import KeptState, narrows, told_state, widened
from edgeinfer.network.feeds import feeds_that_run

_WARM_UP = 3
Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a request needs: a session, tensors, the outputs that are wanted, and the state that is kept."""

    session: Session
    feeds: Tensors
    wanted: tuple[str, ...]
    sequence: str
    pairs: Mapping[str, str]


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
        self._kept = KeptState()
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
        told = tensors.parameters(message)
        sequence, pairs = told_state(told, self.sessions.graph)
        if pairs and told.get("sequence_end"):
            values = self._kept.get(sequence, list(pairs.values()))
            self._kept.end(sequence)
            return Task(NETWORK, identifier, answer=tensors.response(NETWORK, identifier, values, {}, digest))
        if prepare:
            if message.inputs:
                self._session(message, pairs)
            told = {"network_ns": int(self.seconds * 1e9)}
            identifier = identifier[: signalling.IDENTIFIER_LENGTH]
            return Task(NETWORK, identifier, answer=tensors.response(NETWORK, identifier, {}, told, digest))
        session, wanted = self._session(message, pairs)
        feeds = widened(message, self.sessions.graph)
        return Task(NETWORK, identifier, _Asked(session, feeds, wanted, sequence, pairs))

    def _session(self, message: Any, pairs: Mapping[str, str]) -> tuple[Session, tuple[str, ...]]:
        """The session of a request that keeps these pairs of state, and the outputs that it asks for."""
        graph = self.sessions.graph
        for tensor in message.inputs:
            known = graph.tensors.get(tensor.name)
            if known is None:
                raise ValueError(f"input {tensor.name[:80]!r}: must be a tensor of the network")
            if known.stays:
                raise ValueError(f"input {tensor.name!r}: cannot cross: {known.stays}")
            kind = self._types[tensor.name]
            fits = tensor.datatype == kind or narrows(known.dtype, tensor.datatype)
            if not fits or tuple(tensor.shape) != known.shape:
                shown = f"{tensor.datatype[:10]} {list(tensor.shape)[:8]}"
                raise ValueError(f"input {tensor.name!r} = {shown}: must be {kind} {list(known.shape)}")
        outputs = [port.name for port in message.outputs] or [n for n in graph.outputs if graph.tensors[n].returns]
        for name in outputs:
            if name not in graph.outputs:
                raise ValueError(f"output {name[:80]!r}: must be one of {', '.join(map(repr, graph.outputs))}")
            if not graph.tensors[name].returns:
                raise ValueError(f"output {name!r}: cannot be sent: {graph.tensors[name].stays}")
        given = [tensor.name for tensor in message.inputs]
        given += [name for name in pairs.values() if name not in given]
        return self.sessions.get(given, [*outputs, *(name for name in pairs if name not in outputs)]), tuple(outputs)

    def run(self, tasks: Sequence[Task], progress: Callable[[int, int], None]) -> list[Any]:
        """Outputs, and the time in ONNX Runtime, s; a Refusal for one whose state is not here."""
        return [self._one(task.payload) for task in tasks]

    def _one(self, asked: "_Asked") -> Any:
        missing = [name for name in asked.pairs.values() if name not in asked.feeds]
        try:
            kept = self._kept.get(asked.sequence, missing)
        except ValueError as error:
            return Refusal("FAILED_PRECONDITION", str(error))
        outputs, seconds = asked.session.run({**asked.feeds, **kept})
        if asked.pairs:
            self._kept.put(asked.sequence, {taken: outputs[given] for given, taken in asked.pairs.items()})
        return {name: outputs[name] for name in asked.wanted}, seconds

    def answer(self, job: Job) -> tuple[Any, dict[str, Any]]:
        """The outputs, and how long they waited and took."""
        outputs, seconds = job.result
        told = {"queue_ns": int(1e9 * (job.begun - job.queued)), "compute_ns": int(1e9 * seconds)}
        answer = tensors.response(NETWORK, job.payload.request, outputs, told, self.sessions.graph.digest)
        return answer, {"networks": seconds}
