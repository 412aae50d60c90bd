"""A whole network as either half of a cut holds it, with sessions for the parts that it is asked to run."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.bridge.cutting.cuts import Division, between
from edgeinfer.bridge.cutting.parts import MANIFEST, Session, read_parts
from edgeinfer.network.elements import CROSSING
from edgeinfer.network.feeds import feeds_that_run
from edgeinfer.network.graphs import Graph, extract, read_graph
from edgeinfer.network.loading import load_model
from edgeinfer.network.profiles import NetworkProfile, profile_network
from edgeinfer.network.sessions import LEVELS

#: What a message holds besides its tensors, at most, bytes.
HEADER_BYTES = 2**16
# What tensors of sizes that depend on the data, or that the file leaves free, may take beyond those that were seen.
_UNKNOWN_BYTES = 2**26
# Inputs, outputs, and whether for any number of rows, and for any size that the file leaves free.
_Key = tuple[frozenset[str], tuple[str, ...], bool, bool]


def name_cut(message: Any, graph: Graph, division: Division) -> None:
    """Name the network in a ModelInferRequest, and the outputs that are wanted where they are not all."""
    message.model_version = graph.digest
    if division.returned != graph.outputs:
        for name in division.returned:
            message.outputs.add(name=name)


class CutSessions:
    """A network and ONNX Runtime sessions of its parts, made when first asked for and kept, the latest ones.

    Parameters
    ----------
    model : path or onnx.ModelProto
        Or the folder of `write_parts`, of which the last node's part is taken: it serves that cut and those behind it.
    shapes, feeds, state : mapping, optional
        As for `read_graph`.
    level : "disabled", "basic", "extended" or "all"
        ONNX Runtime's graph optimisation.
    threads : int
        Of one run, >= 1.
    capacity : int
        Sessions kept, >= 1; each holds its own copy of its part's weights.

    Attributes
    ----------
    graph : Graph
        Its `digest` is that of the whole network.

    Examples
    --------
    >>> from onnx import TensorProto, helper
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    >>> nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Neg", ["h"], ["y"])]
    >>> model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), ir_version=8)
    >>> sessions = CutSessions(model)
    >>> sessions.get(("h",), ("y",)).run({"h": np.float32([1, 2])})[0]
    {'y': array([-1., -2.], dtype=float32)}
    """

    def __init__(
        self,
        model: Any,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        *,
        feeds: Mapping[str, NDArray[Any]] | None = None,
        state: Mapping[str, str] | None = None,
        level: str = "all",
        threads: int = 1,
        capacity: int = 8,
    ) -> None:
        _validate.choice("level", level, tuple(LEVELS))
        self._level, self._threads = level, _validate.threads(threads)
        self._capacity = _validate.whole("capacity", capacity, 1)
        self._shapes, self._feeds = shapes, feeds
        digest = None
        if isinstance(model, str | Path) and Path(model).is_dir():
            model, digest = _last_part(Path(model))
        self.graph = read_graph(model, shapes, feeds, state)
        self._model, self._label = load_model(model)
        if digest is not None:
            self.graph = replace(self.graph, digest=digest)
        self._sessions: OrderedDict[_Key, Session] = OrderedDict()
        self._lock, self._making = threading.Lock(), threading.Lock()

    def feeds(self, seed: int = 0) -> dict[str, Any]:
        """Inputs that the network takes: those that were given, and else made-up ones.

        Raises
        ------
        Missing
            Where none of the made-up ones runs.
        """
        graph = self.graph
        inputs = {name: graph.tensors[name] for name in graph.inputs}
        return feeds_that_run(self.get(graph.inputs, graph.outputs).run, inputs, self._feeds or graph.feeds, seed)[0]

    def check(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """ValueError unless `feeds` are the network's inputs, in type and shape; state may be left out, and where it
        grows all may have other sizes along the axes that the file leaves free.
        """
        graph = self.graph
        if not set(graph.inputs) - set(graph.state.values()) <= set(feeds) <= set(graph.inputs):
            raise ValueError(f"inputs = {', '.join(map(repr, feeds))}: must be {', '.join(map(repr, graph.inputs))}")
        for name, value in feeds.items():
            known = graph.tensors[name]
            if known.dtype not in CROSSING:
                continue
            free = graph.free.get(name, ()) if graph.grows else ()
            same = len(value.shape) == len(known.shape) and all(
                axis in free or one == other
                for axis, (one, other) in enumerate(zip(value.shape, known.shape, strict=True))
            )
            if str(value.dtype) != known.dtype or not same:
                shown = f"{value.dtype} {list(value.shape)}"
                sizes = ["any" if axis in free else size for axis, size in enumerate(known.shape)]
                text = ", ".join(map(str, sizes))
                raise ValueError(f"input {name!r} = {shown}: must be {known.dtype} [{text}]")

    @property
    def largest_bits(self) -> int:
        """Most bits that a cut between two operations in their order carries, or the inputs or outputs have."""
        graph = self.graph
        ends = {name: readers[-1] for name, readers in graph.consumers.items() if readers}
        change = np.zeros(len(graph.operations) + 1, np.int64)
        for name, last in ends.items():
            change[[graph.producer.get(name, -1) + 1, last + 1]] += np.array([1, -1]) * graph.tensors[name].bits
        return max(int(np.cumsum(change).max()), sum(graph.tensors[name].bits for name in graph.outputs))

    @property
    def message_bytes(self) -> int:
        """Longest message that either half needs to take."""
        graph = self.graph
        unknown = _UNKNOWN_BYTES if graph.free or any(graph.tensors[name].stays for name in graph.results) else 0
        return self.largest_bits // 8 + HEADER_BYTES + unknown

    def profile(self, *, repetitions: int = 30, warmup: int = 3) -> NetworkProfile:
        """Measure the network's operations here, as `profile` does, at the level and with the threads of the
        sessions.
        """
        return profile_network(
            self._model,
            self._shapes,
            feeds=self._feeds,
            repetitions=repetitions,
            warmup=warmup,
            level=self._level,
            threads=self._threads,
        )

    def batched(self) -> frozenset[str]:
        """Tensors that have twice the rows where all inputs have, found by reading the network at that size; none where
        the file fixes the inputs' first size.
        """
        graph = self.graph
        sizes = graph.shapes
        if not all(shape and shape[0] for shape in sizes.values()):
            return frozenset()
        try:
            double = read_graph(self._model, {name: (2 * shape[0], *shape[1:]) for name, shape in sizes.items()})
        except ValueError:
            return frozenset()
        return frozenset(
            name
            for name, tensor in graph.tensors.items()
            if tensor.shape
            and not (tensor.stays or double.tensors[name].stays)
            and double.tensors[name].shape == (2 * tensor.shape[0], *tensor.shape[1:])
        )

    def get(
        self, inputs: Sequence[str], outputs: Sequence[str], *, batched: bool = False, free: bool = False
    ) -> Session:
        """The session that leads from tensors to outputs of the network; `batched`: for any number of rows; `free`, or
        where state grows: for any size that the file leaves free.

        Raises
        ------
        ValueError
            Naming what does not belong to the network, is missing, or is not needed.
        """
        key = frozenset(inputs), tuple(outputs), batched, free or self.graph.grows
        if (found := self._known(key)) is not None:
            return found
        positions = self._positions(inputs, outputs)
        with self._making:
            if (found := self._known(key)) is not None:
                return found
            part = extract(self._model, self.graph, positions, outputs, {*inputs, *outputs} if batched else (), key[3])
            made = Session(part, self._label, key[1], self._level, self._threads)
            with self._lock:
                self._sessions[key] = made
                while len(self._sessions) > self._capacity:
                    self._sessions.popitem(last=False)
        return made

    def _known(self, key: _Key) -> Session | None:
        with self._lock:
            if key in self._sessions:
                self._sessions.move_to_end(key)
            return self._sessions.get(key)

    def _positions(self, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[int, ...]:
        graph = self.graph
        for what, names in (("input", inputs), ("output", outputs)):
            for name in names:
                if name not in graph.tensors:
                    raise ValueError(f"{what} {name[:80]!r}: must be a tensor of the network")
            needless = what == "input" and graph.constants.issuperset(outputs)
            if not (names or needless) or len(set(names)) < len(names):
                raise ValueError(f"{what}s = {list(names)[:8]}: must be at least one, and each once")
        positions = between(graph, set(inputs), outputs)
        read = {name for i in positions for name in graph.operations[i].inputs}
        spare = [name for name in inputs if name not in graph.inputs and (name not in read or name in outputs)]
        if spare:
            name = spare[0]
            raise ValueError(f"input {name[:80]!r}: must be needed for the outputs")
        return positions


def whole_file(model: str | Path) -> Path:
    """The ONNX file of a model: itself, or the last node's in a folder of parts."""
    path = Path(model)
    return _last_part(path)[0] if path.is_dir() else path


def _last_part(folder: Path) -> tuple[Path, str]:
    """The file of the last node in a folder of parts, and the digest of the whole network."""
    told = read_parts(folder)
    file = told.parts[-1][1]
    if file is None:
        raise ValueError(f"{MANIFEST}: not the parts of a cut with an edge node: {told.parts[-1][0]!r} has no file")
    return folder.resolve() / file, told.digest
