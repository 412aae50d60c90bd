"""An ONNX network as a graph of operations and tensors with their sizes and costs."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.network.bodies import is_random, read_by, within
from edgeinfer.network.crossing import check_wire, wire_bits
from edgeinfer.network.elements import CROSSING
from edgeinfer.network.flops import node_flops
from edgeinfer.network.loading import load_model
from edgeinfer.network.sizes import fixed_inputs, free_axes, infer_sizes, stored
from edgeinfer.network.state import check_state, growing_axes


@dataclass(frozen=True)
class Tensor:
    """What an operation gives or the network is given, for one request.

    Attributes
    ----------
    name : str
    dtype : str
        NumPy's name; ONNX's where NumPy has no such type ("bfloat16"), "seq(...)" for a sequence.
    shape : tuple of int
        Where the size depends on the data, that of one pass; () for what is no tensor.
    bits : int
        Its size as it crosses a link, uncompressed.
    stays : str
        Why it cannot cross a link; empty where it can.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bits: int
    stays: str = ""

    @property
    def returns(self) -> bool:
        """Whether it may come back as a result of the network: its size need not be known before."""
        return self.dtype in CROSSING


@dataclass(frozen=True)
class Operation:
    """A node of the network that depends on its input.

    Attributes
    ----------
    index : int
        The position of the node in the model as it is read: without Constant nodes, in an order in which it can run.
    name, kind : str
        The node's name (its first output where it has none) and operator.
    inputs, outputs : tuple of str
        Tensors that depend on the network's input, those that its branches or its body read, too; weights are not among
        them.
    flops : int or None
        Two a multiply-add of convolutions and matrix products, as `count_flops`; None where they cannot be counted.
    weight_bytes : int
        The bytes of the weights that it reads.
    """

    index: int
    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    flops: int | None
    weight_bytes: int


@dataclass(frozen=True, eq=False)
class Graph(_validate.Value):
    """A network as a directed acyclic graph, in an order in which it can run.

    What does not depend on the input (weights, and operations on weights alone) is no part of it: each side of a cut
    keeps its own copy, and it never crosses.

    Attributes
    ----------
    name : str
    digest : str
        SHA-256 of the model, of its external data and its local functions, too.
    operations : tuple of Operation
    tensors : mapping of str to Tensor
    inputs, outputs : tuple of str
        The network's. An output may be an input, or depend on none: see `results`.
    feeds : mapping of str to array
        Data that inputs are known to take: those that were given, or that ONNX Runtime was run with to find sizes.
    state : mapping of str to str
        Outputs that are inputs of the next request, with these inputs: see `with_state`.
    wire : mapping of str to str
        Tensors that cross to the edge in fewer bits: see `with_wire`.
    free : mapping of str to tuple of int
        Axes of the inputs whose sizes the file leaves free.
    """

    name: str
    digest: str
    operations: tuple[Operation, ...] = field(repr=False)
    tensors: Mapping[str, Tensor] = field(repr=False)
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    feeds: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    state: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    wire: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    free: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    @cached_property
    def producer(self) -> Mapping[str, int]:
        """Position in `operations` of what gives a tensor; an input of the network is not in it."""
        return MappingProxyType({name: i for i, operation in enumerate(self.operations) for name in operation.outputs})

    @cached_property
    def consumers(self) -> Mapping[str, tuple[int, ...]]:
        """Positions in `operations` of what reads a tensor, ascending, each once."""
        readers: dict[str, list[int]] = {name: [] for name in self.tensors}
        for i, operation in enumerate(self.operations):
            for name in dict.fromkeys(operation.inputs):
                readers[name].append(i)
        return MappingProxyType({name: tuple(positions) for name, positions in readers.items()})

    @cached_property
    def origin(self) -> Mapping[str, int]:
        """`producer`, and for an input that is state the operation that gave it in the request before."""
        before = {taken: self.producer[given] for given, taken in self.state.items() if given in self.producer}
        return MappingProxyType({**self.producer, **before})

    @cached_property
    def results(self) -> tuple[str, ...]:
        """Outputs that an operation gives, state apart; the others depend on no operation, and are the device's without
        computing.
        """
        return tuple(name for name in self.outputs if name in self.producer and name not in self.state)

    @cached_property
    def constants(self) -> frozenset[str]:
        """Outputs that depend on no input."""
        return frozenset(name for name in self.outputs if name not in self.producer and name not in self.inputs)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Sizes of the inputs, as `read_graph` takes them."""
        return {name: self.tensors[name].shape for name in self.inputs}

    def with_state(self, state: Mapping[str, str]) -> "Graph":
        """The same network with outputs that are inputs of the next request.

        State stays on the node that makes it, where that is the node that reads it; else it crosses in each request. It
        is no result: it need not come back to the device.

        Parameters
        ----------
        state : mapping of str to str
            An output's name to that of an input of the same type and size; `find_state` finds pairs by their names.
            An output may be longer than its input along axes that the file leaves free, as a cache of keys and values
            is: the state then begins empty and grows, and costs are those at the sizes that were read.

        Raises
        ------
        ValueError
            Naming a pair that does not fit, or where no output is left that is not state.
        """
        return replace(self, state=MappingProxyType(check_state(self, state)))

    @cached_property
    def grows(self) -> bool:
        """Whether state grows from one request to the next, so that sizes are those of one of the requests only."""
        return any(growing_axes(self, given, taken) for given, taken in self.state.items())

    @cached_property
    def first_state(self) -> Mapping[str, tuple[int, ...]]:
        """Sizes of each input that is state in the first request: 0 along the axes that it grows along."""
        first = {}
        for given, taken in self.state.items():
            grows = growing_axes(self, given, taken)
            first[taken] = tuple(0 if axis in grows else n for axis, n in enumerate(self.tensors[taken].shape))
        return MappingProxyType(first)

    def with_wire(self, wire: str | Mapping[str, str]) -> "Graph":
        """The same network with tensors that cross from the device to the edge in fewer bits.

        State crosses as it is, since errors would add up, and so do results.

        Parameters
        ----------
        wire : {"float32", "float16", "int8"} or mapping of str to these
            Of all floats, or of tensors by name; float32 stands for a tensor's own type. int8 has a scale and an offset
            of its own for each tensor and request.
        """
        if isinstance(wire, str):
            wire = dict.fromkeys(self.tensors, wire)
        state = {*self.state, *self.state.values()}
        kinds = {name: kind for name, kind in check_wire(self.tensors, wire).items() if name not in state}
        return replace(self, wire=MappingProxyType(kinds))

    @cached_property
    def uplink_bits(self) -> Mapping[str, int]:
        """Bits of each tensor as it crosses from the device to the edge."""
        bits = {name: tensor.bits for name, tensor in self.tensors.items()}
        return MappingProxyType(bits | {name: wire_bits(self.tensors[name], kind) for name, kind in self.wire.items()})

    def fits(self, other: "Graph") -> bool:
        """Whether the other is the same network at the same sizes, those apart that depend on the data."""
        mine, others = (
            {name: (tensor.dtype, tensor.shape) for name, tensor in graph.tensors.items() if not tensor.stays}
            for graph in (self, other)
        )
        return self.digest == other.digest and mine == others

    @property
    def flops(self) -> int | None:
        """FLOP of one pass; None where those of an operation are unknown."""
        counts = [operation.flops for operation in self.operations]
        return None if None in counts else sum(filter(None, counts))

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Operations whose FLOP are unknown, by name."""
        return tuple(operation.name for operation in self.operations if operation.flops is None)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights; one that several operations read counts once for each."""
        return sum(operation.weight_bytes for operation in self.operations)

    def activation_peak(self) -> int:
        """Most bytes of tensors alive at once when the operations run in order, none in place.

        Examples
        --------
        >>> a, b, c = (Tensor(name, "float32", (2,), 64) for name in "abc")
        >>> first = Operation(0, "f", "Relu", ("a",), ("b",), 0, 0)
        >>> second = Operation(1, "g", "Relu", ("b",), ("c",), 0, 0)
        >>> Graph("g", "", (first, second), {"a": a, "b": b, "c": c}, ("a",), ("c",)).activation_peak()
        16
        """
        last = {name: readers[-1] for name, readers in self.consumers.items() if readers}
        last |= dict.fromkeys(self.outputs, len(self.operations))
        alive = peak = sum(self.tensors[name].bits for name in self.inputs)
        for i, operation in enumerate(self.operations):
            alive += sum(self.tensors[name].bits for name in operation.outputs)
            peak = max(peak, alive)
            for name in {*operation.inputs, *operation.outputs}:
                if last.get(name, i) == i:
                    alive -= self.tensors[name].bits
        return peak // 8


def read_graph(
    model: Any,
    shapes: Mapping[str, tuple[int, ...] | int] | None = None,
    feeds: Mapping[str, NDArray[Any]] | None = None,
    state: Mapping[str, str] | None = None,
) -> Graph:
    """Operations, tensors, sizes and FLOP of an ONNX network.

    Sizes come from static inference, and where that does not say them from ONNX Runtime, which then runs the network
    twice; a tensor whose size depends on the data is marked, as one whose type no message carries. An If, a Loop, a
    Scan and a call of a local function are one operation each.

    Parameters
    ----------
    model : path, binary file or onnx.ModelProto
    shapes : mapping, optional
        Sizes of the inputs, by name; those that the file leaves free must be given. A size that the file names may be
        given once, by its name, and holds for all inputs that have it.
    feeds : mapping of str to ndarray, optional
        Data of inputs, which say their sizes, too; made up where ONNX Runtime runs and none are given.
    state : mapping of str to str, optional
        It is as for `Graph.with_state`; nothing is taken for state by itself.

    Returns
    -------
    Graph

    Raises
    ------
    ValueError
        Naming the file and what is wrong: no ONNX model, an input whose size is neither fixed nor given, what ONNX
        Runtime does not run, external data outside the folder.
    ImportError
        Without the `bridge` extra.

    Examples
    --------
    >>> from onnx import TensorProto, helper
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy")
    >>> nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])]
    >>> model = helper.make_model(helper.make_graph(nodes, "two", [x], [y]), ir_version=8)
    >>> graph = read_graph(model, {"x": (4, 3)})
    >>> [operation.kind for operation in graph.operations], graph.tensors["h"].bits
    (['Relu', 'Tanh'], 384)
    """
    onnx = need("onnx", "bridge")
    loaded, label = load_model(model)
    graph = loaded.graph
    feeds = dict(feeds or {})
    inputs = fixed_inputs(loaded, shapes or {}, feeds, label)
    if not inputs or not graph.output:
        raise ValueError(f"{label}: it has {len(inputs)} inputs and {len(graph.output)} outputs: must be at least one")
    if foreign := [name for name in feeds if name not in inputs]:
        raise ValueError(f"feeds[{foreign[0]!r}]: {label} has no such input; it has {', '.join(map(repr, inputs))}")
    sizes, taken = infer_sizes(loaded, inputs, feeds, label)
    outputs = tuple(dict.fromkeys(value.name for value in graph.output))
    operations = _operations(onnx, loaded, tuple(inputs), outputs, sizes)
    given = {name for operation in operations for name in operation.outputs}
    tensors = {}
    for name in dict.fromkeys([*inputs, *(name for operation in operations for name in operation.outputs), *outputs]):
        if name not in sizes:
            raise ValueError(f"{label}: output {name!r}: must be given by an operation, or be an input or a weight")
        size = sizes[name]
        tensors[name] = Tensor(name, size.dtype, size.shape, size.bits, size.stays)
    if not given.intersection(outputs):
        raise ValueError(f"{label}: no output depends on an input: there is nothing to cut")
    read = Graph(
        graph.name or label,
        digest(loaded),
        operations,
        MappingProxyType(tensors),
        tuple(inputs),
        outputs,
        MappingProxyType(taken),
        free=MappingProxyType(free_axes(loaded, inputs)),
    )
    return read.with_state(state) if state else read


def _operations(
    onnx: Any, model: Any, inputs: tuple[str, ...], outputs: tuple[str, ...], sizes: Mapping[str, Any]
) -> tuple[Operation, ...]:
    """Nodes that depend on the input, in order."""
    nodes = model.graph.node
    reads = [read_by(node) for node in nodes]
    used = {name for read in reads for name in read} | set(outputs)
    varying = set(inputs)
    constant_bytes = {name: sizes[name].bits // 8 for name in stored(model)}
    shapes = {name: size.shape for name, size in sizes.items()}
    operations = []
    for index, (node, read) in enumerate(zip(nodes, reads, strict=True)):
        given = tuple(name for name in node.output if name in used)
        data = tuple(name for name in read if name in varying)
        weight = sum(constant_bytes.get(name, 0) for name in read)
        if not data and not is_random(node, model.functions):
            for name in given:
                constant_bytes[name] = sizes[name].bits // 8 if name in sizes else weight
            continue
        varying.update(given)
        name = node.name or next(filter(None, node.output), node.op_type)
        flops = node_flops(node, shapes, model.functions)
        operations.append(Operation(index, name, node.op_type, data, given, flops, weight))
    return tuple(operations)


def count_flops(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """FLOP of one pass: two a multiply-add of every convolution and matrix product.

    Element-wise operations, normalisations and look-ups are not counted, as is the custom; nor is what depends on
    weights alone, which is computed once.

    Parameters
    ----------
    model : path, binary file or onnx.ModelProto
    shapes : mapping of str to tuple of int
        Of each input.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        As `read_graph`, and where an operation's cannot be counted, as a loop's.

    Examples
    --------
    >>> from onnx import TensorProto, helper
    >>> ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in "abc"]
    >>> graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "product", ports[:2], ports[2:])
    >>> model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    >>> count_flops(model, {"a": (2, 3), "b": (3, 5)})
    60
    """
    graph = read_graph(model, shapes)
    if graph.flops is None:
        operation = next(operation for operation in graph.operations if operation.flops is None)
        raise ValueError(f"{graph.name}: node {operation.name!r} = {operation.kind}: its operations cannot be counted")
    return graph.flops


def digest(model: Any) -> str:
    """SHA-256 of a model as `load_model` gives it."""
    # Piece by piece, because a message beyond 2 GiB cannot be serialised.
    found = hashlib.sha256()
    graph = model.graph
    pieces = (*model.opset_import, *graph.input, *graph.output, *graph.node, *graph.initializer)
    for piece in (*pieces, *graph.sparse_initializer, *model.functions):
        found.update(piece.SerializeToString(deterministic=True))
    return found.hexdigest()


def extract(
    model: Any,
    graph: Graph,
    positions: Sequence[int],
    outputs: Sequence[str],
    batched: Collection[str] = (),
    free: bool = False,
) -> Any:
    """The operations at `positions` as a model of its own, with the weights they need.

    onnx.utils.Extractor asks for descriptions of the tensors that the file need not hold, and goes back from the
    outputs to the inputs, whatever lies between; here the operations are given, and what does not depend on the
    network's input is copied along.

    Parameters
    ----------
    model : onnx.ModelProto
    graph : Graph
        Of that model.
    positions : sequence of int
        In `graph.operations`, ascending.
    outputs : sequence of str
        Tensors to give, each from one of the operations, an input of the network, or one that depends on none.
    batched : collection of str, optional
        Tensors whose first size is left free.
    free : bool
        Whether all sizes are that the file leaves free, for state that grows.

    Returns
    -------
    onnx.ModelProto
        Its inputs are the tensors that the operations read and do not give.
    """
    onnx = need("onnx", "bridge")
    chosen = {graph.operations[i].index for i in positions}
    given = {name for i in positions for name in graph.operations[i].outputs}
    read = dict.fromkeys(name for i in positions for name in graph.operations[i].inputs if name not in given)
    read |= dict.fromkeys(name for name in outputs if name in graph.inputs)
    nodes = list(model.graph.node)
    varying = {*graph.inputs, *graph.producer}
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name not in varying}
    needed: set[str] = set()
    stack = [*(name for index in chosen for name in read_by(nodes[index])), *outputs]
    while stack:
        name = stack.pop()
        if name in varying or name in needed:
            continue
        needed.add(name)
        if name in makers and makers[name] not in chosen:
            chosen.add(makers[name])
            stack += read_by(nodes[makers[name]])
    part = onnx.ModelProto()
    part.ir_version = max(model.ir_version, 4)
    part.producer_name = "edgeinfer"
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    part.graph.name = model.graph.name or "part"
    part.graph.node.extend(nodes[index] for index in sorted(chosen))
    for node in part.graph.node:
        # ONNX Runtime names a node in what it has to say of it.
        node.name = node.name or next(filter(None, node.output), "")
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
    part.graph.sparse_initializer.extend(t for t in model.graph.sparse_initializer if t.values.name in needed)
    described = {value.name: value for value in model.graph.input}
    # ONNX Runtime holds sizes against every branch, also against those that are not taken at these sizes; but it does
    # not run a Scan whose sizes it cannot tell.
    branches = any(node.op_type == "If" for node in within(part.graph.node, part.functions))
    free = free or (bool(graph.free) and branches)
    part.graph.input.extend(_value(onnx, graph.tensors[name], free, described.get(name)) for name in read)
    part.graph.output.extend(_value(onnx, graph.tensors[name], free) for name in outputs)
    for value in (*part.graph.input, *part.graph.output):
        if value.name in batched:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return part


def _value(onnx: Any, tensor: Tensor, free: bool, described: Any = None) -> Any:
    """Description of a port of a part; of an input of the network, `described` is what its file says of it."""
    if tensor.stays or (free and described is not None):
        return described or onnx.ValueInfoProto(name=tensor.name)
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    sizes = [None] * len(tensor.shape) if free else list(tensor.shape)
    return onnx.helper.make_tensor_value_info(tensor.name, element, sizes)
