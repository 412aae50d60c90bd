"""What goes with the tensors of a cut: state from one request to the next, and the types that tensors cross in."""

import json
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.bridge.cutting.cuts import Division
from edgeinfer.bridge.cutting.sessions import name_cut
from edgeinfer.bridge.wire import tensors
from edgeinfer.bridge.wire.tensors import IDLE, NETWORK
from edgeinfer.network.crossing import narrow, widen
from edgeinfer.network.graphs import Graph
from edgeinfer.network.state import check_state

#: Sequences whose state an edge keeps, the latest ones.
SEQUENCES = 64
#: What they may take together, where state grows.
KEPT_BYTES = 2**30
Tensors = Mapping[str, NDArray[Any]]


def request(
    graph: Graph,
    division: Division,
    identifier: str,
    arrays: Tensors,
    parameters: Mapping[str, Any],
    *,
    wire: Mapping[str, str] = {},
    sequence: str = "",
) -> Any:
    """The ModelInferRequest of a cut.

    Floats cross in the types of `wire` where they can; of int8 the tensor's parameters say scale and offset. Where the
    edge keeps state, parameters of the request name the sequence that it belongs to, and the pairs; where state grows,
    one says that sizes are those of the message.
    """
    packed, scales = {}, {}
    for name, value in arrays.items():
        packed[name] = value
        if name in wire:
            try:
                packed[name], *scales[name] = narrow(value, wire[name])
            except ValueError:
                continue
    told = dict(parameters) | ({"grows": True} if graph.grows else {})
    if division.remembered:
        told |= {"sequence_id": sequence, "state": json.dumps(dict(division.remembered))}
    message = tensors.request(NETWORK, identifier, packed, told)
    for port in message.inputs:
        if port.datatype == "INT8" and port.name in scales:
            for key, number in zip(("scale", "offset"), scales[port.name], strict=True):
                port.parameters[key].double_param = number
    name_cut(message, graph, division)
    return message


def widened(message: Any, graph: Graph) -> dict[str, NDArray[Any]]:
    """The tensors of a request in the network's own types; ValueError where they are none."""
    found = tensors.arrays(message.inputs, message.raw_input_contents)
    for port in message.inputs:
        known = graph.tensors[port.name].dtype
        if str(found[port.name].dtype) == known:
            continue
        told = tensors.parameters(port)
        scale, offset = (told.get(key) if port.datatype == "INT8" else 0.0 for key in ("scale", "offset"))
        if not all(isinstance(number, float) and np.isfinite(np.float32(number)) for number in (scale, offset)):
            raise ValueError(f"input {port.name!r}: INT8 for {known}: must have finite parameters scale and offset")
        with np.errstate(over="ignore"):
            found[port.name] = widen(found[port.name], float(scale or 0), float(offset or 0), known)
    return found


def fits(graph: Graph, name: str, value: NDArray[Any]) -> bool:
    """Whether a value has the tensor's type and sizes; a size that depends on the data, or grows with state, is any."""
    tensor = graph.tensors[name]
    free = tensor.stays or graph.grows
    same = len(value.shape) == len(tensor.shape) if free else value.shape == tensor.shape
    return same and str(value.dtype) == tensor.dtype


def narrows(dtype: str, datatype: str) -> bool:
    """Whether a tensor of NumPy's type may come in that one of the protocol's."""
    return dtype.startswith("float") and datatype in ("FP16", "INT8")


class CarriedState:
    """State as a device has it: here, or kept by the edge under the name of a sequence.

    Attributes
    ----------
    away : tuple of pairs of str
        Outputs and inputs whose values the edge keeps.
    sequence : str
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.begin()

    def begin(self) -> None:
        """Forget all: zeros, empty where state grows, and a new sequence."""
        tensors = self._graph.tensors
        self.values = {n: np.zeros(shape, tensors[n].dtype) for n, shape in self._graph.first_state.items()}
        self.away: tuple[tuple[str, str], ...] = ()
        self.sequence = secrets.token_hex(8)

    def complete(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        """Inputs of a request with the state that is here; state among them takes the place of what was."""
        given = {name: value for name, value in feeds.items() if name in self._graph.state.values()}
        self.values |= given
        self.away = tuple(pair for pair in self.away if pair[1] not in given)
        return {**feeds, **self.values}

    def take(self, division: Division, results: Tensors) -> None:
        """What a request gave: state that the edge keeps is away, the other is here."""
        kept = {taken for _, taken in division.remembered}
        for given, taken in self._graph.state.items():
            if given in results:
                self.values[taken] = results[given]
            elif taken in kept:
                self.values.pop(taken, None)
        self.away = tuple((given, taken) for given, taken in division.remembered if given not in results)

    def question(self) -> Any:
        """The request that has the edge give back what it keeps."""
        told = {"sequence_id": self.sequence, "state": json.dumps(dict(self.away)), "sequence_end": True}
        message = tensors.request(NETWORK, "state", {}, told)
        message.model_version = self._graph.digest
        return message

    def back(self, answer: Any) -> None:
        """Take what the edge gave back; ValueError where it is not that."""
        found = tensors.arrays(answer.outputs, answer.raw_output_contents)
        for _, name in self.away:
            known = self._graph.tensors[name]
            if name not in found or not fits(self._graph, name, found[name]):
                raise ValueError(f"state {name!r}: must come as {known.dtype} {list(known.shape)}")
        self.values |= {name: found[name] for _, name in self.away}
        self.away = ()


class KeptState:
    """State that an edge keeps, by sequence: the latest `SEQUENCES`, `KEPT_BYTES` in all besides the latest one's, none
    that was not asked for within `IDLE`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, dict[str, NDArray[Any]]]] = OrderedDict()

    def get(self, sequence: str, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Values of these inputs; ValueError where they are not here."""
        with self._lock:
            _, values = self._kept.get(sequence, (0.0, {}))
        if missing := [name for name in names if name not in values]:
            raise ValueError(f"state {missing[0]!r} of sequence {sequence[:32]!r}: is not here: begin it anew")
        return {name: values[name] for name in names}

    def put(self, sequence: str, values: dict[str, NDArray[Any]]) -> None:
        """Keep what a request gave for the next one."""
        now = time.monotonic()
        with self._lock:
            self._kept[sequence] = now, values
            self._kept.move_to_end(sequence)
            while len(self._kept) > 1 and (
                len(self._kept) > SEQUENCES
                or now - next(iter(self._kept.values()))[0] > IDLE
                or sum(v.nbytes for _, kept in self._kept.values() for v in kept.values()) > KEPT_BYTES
            ):
                self._kept.popitem(last=False)

    def end(self, sequence: str) -> None:
        """Forget a sequence."""
        with self._lock:
            self._kept.pop(sequence, None)


def told_state(told: Mapping[str, Any], graph: Graph) -> tuple[str, dict[str, str]]:
    """The sequence and the pairs of state that a request names; ValueError where they are none of the network's."""
    text, sequence = told.get("state", ""), str(told.get("sequence_id", ""))
    if not text:
        return "", {}
    try:
        pairs = dict(json.loads(text))
    except (ValueError, TypeError, RecursionError):
        pairs = {}
    if not sequence or not pairs or not all(isinstance(name, str) for pair in pairs.items() for name in pair):
        raise ValueError(f"sequence_id = {sequence[:32]!r}, state = {text[:80]!r}: must be a name, and pairs as JSON")
    return sequence, check_state(graph, pairs)
