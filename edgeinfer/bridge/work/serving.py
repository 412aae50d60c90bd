"""A network on an edge: what requests ask of it, however it is cut, and the state that it keeps between them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edgeinfer.bridge.cutting.parts import Session
from edgeinfer.bridge.cutting.sessions import CutSessions
from edgeinfer.bridge.edge.server import Refusal, Server, Task
from edgeinfer.bridge.wire import signalling, tensors
from edgeinfer.bridge.wire.jobs import Job
from edgeinfer.bridge.wire.tensors import IDLE, NETWORK
from edgeinfer.bridge.work.batches import Batches
from edgeinfer.bridge.work.sequences import KeptState, narrows, told_state, widened
from edgeinfer.network.feeds import feeds_that_run

_WARM_UP = 3
Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a request needs: a session, tensors, the outputs that are wanted, the state that is kept, and how many
    requests it stands for; 0 where it must run alone.
    """

    session: Session
    feeds: Tensors
    wanted: tuple[str, ...]
    sequence: str
    pairs: Mapping[str, str]
    size: int


class NetworkService:
    """A network on an edge, as `Service`, cut wherever the device cuts it.

    A request gives tensors of the network by name and asks for outputs; what lies between runs here. The tensors name
    the cut, and the version names the network: `Graph.digest`, of its weights too. A request with all the network's
    inputs and nothing else runs it all, as any client of the protocol would ask.

    Parameters
    ----------
    sessions : CutSessions
    batch : int
        As for `Batches`.
    """

    models: tuple[str, ...] = (NETWORK,)
    together = True
    idle = IDLE

    def __init__(self, sessions: CutSessions, batch: int = 1) -> None:
        self.sessions, self.seconds = sessions, 0.0
        self.batches = Batches(sessions, batch)
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
                    shape = [-1] * len(tensor.shape) if tensor.stays else list(tensor.shape)
                    # And so are the rows of a batch.
                    shape[:1] = [-1] if tensor.name in self.batches.rows else shape[:1]
                    ports.add(name=tensor.name, datatype=self._types[tensor.name], shape=shape)
        return answer

    def handlers(self, server: Server) -> tuple[Any, ...]:
        """None."""
        return ()

    def check(self, message: Any, stream: bool) -> Task:
        """The session that a cut needs, and its tensors; of a request to prepare, the session and how fast this is."""
        identifier, digest = message.id, self.sessions.graph.digest
        told = tensors.parameters(message)
        prepare = told.get("prepare")
        if len(identifier) > signalling.IDENTIFIER_LENGTH and not prepare:
            raise ValueError(f"id: {len(identifier)} characters: must be <= {signalling.IDENTIFIER_LENGTH}")
        if message.model_version not in ("", digest):
            text = f"version = {message.model_version[:80]!r}: this edge serves the network of digest {digest!r}"
            raise Refusal("FAILED_PRECONDITION", text)
        sequence, pairs = told_state(told, self.sessions.graph)
        if pairs and told.get("sequence_end"):
            values = self._kept.get(sequence, list(pairs.values()))
            self._kept.end(sequence)
            return Task(NETWORK, identifier, answer=tensors.response(NETWORK, identifier, values, {}, digest))
        if prepare:
            if message.inputs:
                self._asked(message, sequence, pairs, {}, told.get("grows") is True)
            told = {"network_ns": int(self.seconds * 1e9)}
            identifier = identifier[: signalling.IDENTIFIER_LENGTH]
            return Task(NETWORK, identifier, answer=tensors.response(NETWORK, identifier, {}, told, digest))
        asked = self._asked(message, sequence, pairs, None, told.get("grows") is True)
        return Task(NETWORK, identifier, asked, key=asked.session if asked.size else object())

    def _asked(
        self, message: Any, sequence: str, pairs: Mapping[str, str], feeds: Tensors | None, grows: bool
    ) -> _Asked:
        """What a request that keeps these pairs of state asks for; its tensors, too, where none are given here. Of a
        request that `grows` the sizes are not those that were read, and ONNX Runtime holds them against the file.
        """
        graph = self.sessions.graph
        for tensor in message.inputs:
            known = graph.tensors.get(tensor.name)
            if known is None:
                raise ValueError(f"input {tensor.name[:80]!r}: must be a tensor of the network")
            if known.stays:
                raise ValueError(f"input {tensor.name!r}: cannot cross: {known.stays}")
            kind = self._types[tensor.name]
            fits = tensor.datatype == kind or narrows(known.dtype, tensor.datatype)
            # Rows are counted below.
            free = not pairs and tensor.name in self.batches.rows
            any_size = grows and len(tensor.shape) == len(known.shape)
            if not fits or not (free or any_size or tuple(tensor.shape) == known.shape):
                shown = f"{tensor.datatype[:10]} {list(tensor.shape)[:8]}"
                raise ValueError(f"input {tensor.name!r} = {shown}: must be {kind} {list(known.shape)}")
        outputs = [port.name for port in message.outputs] or [n for n in graph.outputs if graph.tensors[n].returns]
        for name in outputs:
            if name not in graph.outputs:
                raise ValueError(f"output {name[:80]!r}: must be one of {', '.join(map(repr, graph.outputs))}")
            if not graph.tensors[name].returns:
                raise ValueError(f"output {name!r}: cannot be sent: {graph.tensors[name].stays}")
        given = [tensor.name for tensor in message.inputs]
        ports = [] if pairs or grows else [port for port in message.inputs if port.name in self.batches.rows]
        size = 1 if not ports else self.batches.size([p.name for p in ports], [tuple(p.shape) for p in ports])
        batched = not (pairs or grows) and self.batches.allow([*given, *outputs])
        if size > 1 and not batched:
            raise ValueError(
                f"inputs of {size} times the rows: must be those that the network was read with, at this cut"
            )
        given += [name for name in pairs.values() if name not in given]
        session = self.sessions.get(
            given, [*outputs, *(name for name in pairs if name not in outputs)], batched=batched, free=grows
        )
        feeds = widened(message, graph) if feeds is None else feeds
        return _Asked(session, feeds, tuple(outputs), sequence, pairs, size if batched else 0)

    def run(self, tasks: Sequence[Task], progress: Callable[[int, int], None]) -> list[Any]:
        """Outputs, and the time in ONNX Runtime, s; a Refusal for one whose state is not here."""
        asked = [task.payload for task in tasks]
        if asked[0].size:
            return self.batches.run(asked[0].session, [each.feeds for each in asked], [each.size for each in asked])
        return [self._one(each) for each in asked]

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
