"""An ONNX network as a graph of operations and tensors with their sizes and costs."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.network.files import check_external_data
from edgeinfer.network.flops import check_countable, node_flops

# Larger weights are left out of shape inference: only small ones can hold shapes, axes and indices.
_SMALL_WEIGHT = 4096


@dataclass(frozen=True)
class Tensor:
    """What an operation gives or the network is given, for one request.

    Attributes
    ----------
    name : str
    dtype : str
        NumPy's name.
    shape : tuple of int
    bits : int
        As it crosses a link, uncompressed.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bits: int


@dataclass(frozen=True)
class Operation:
    """A node of the network that depends on its input.

    Attributes
    ----------
    index : int
        Of the node in the ONNX file.
    name, kind : str
        The node's name (its first output where it has none) and operator.
    inputs, outputs : tuple of str
        Tensors that depend on the network's input; weights are not among them.
    flops : int
        Two a multiply-add of convolutions and matrix products, as `count_flops`.
    weight_bytes : int
        Of the weights that it reads.
    """

    index: int
    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    flops: int
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
        SHA-256 of the model, of its external data too.
    operations : tuple of Operation
    tensors : mapping of str to Tensor
    inputs, outputs : tuple of str
        The network's; an output that does not depend on the input is not listed.
    """

    name: str
    digest: str
    operations: tuple[Operation, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

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

    @property
    def flops(self) -> int:
        """FLOP of one pass."""
        return sum(operation.flops for operation in self.operations)

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


def load_model(model: Any) -> tuple[Any, str]:
    """An ONNX model with its weights, and how to name it in errors.

    Parameters
    ----------
    model : path or onnx.ModelProto
        External data must lie in the file's folder, links followed.

    Raises
    ------
    ValueError
        Naming the file: missing, not an ONNX model, external data missing or elsewhere.
    """
    onnx = need("onnx", "bridge")
    if isinstance(model, onnx.ModelProto):
        label = model.graph.name or "model"
        if check_external_data(onnx, model, Path(), Path(), label):
            raise ValueError(f"{label}: external data = in other files: must be loaded, or the model given as a path")
        return model, label
    if not isinstance(model, str | Path):
        raise ValueError(f"model = {model!r}: must be the path of an ONNX file or an onnx.ModelProto")
    path = Path(model)
    if not path.is_file():
        raise ValueError(f"model = {str(model)!r}: must be an ONNX file")
    folder = path.resolve().parent
    try:
        loaded = onnx.load_model(path, load_external_data=False)
    except Exception as error:  # protobuf raises types of its own
        raise ValueError(f"{path.name}: not an ONNX model: {error}") from error
    if check_external_data(onnx, loaded, folder, folder, path.name):
        try:
            onnx.external_data_helper.load_external_data_for_model(loaded, str(folder))
        except Exception as error:  # onnx raises types of its own
            raise ValueError(f"{path.name}: external data: {error}") from error
    return loaded, path.name


def read_graph(model: Any, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Graph:
    """Operations, tensors, sizes and FLOP of an ONNX network.

    Parameters
    ----------
    model : path or onnx.ModelProto
    shapes : mapping of str to tuple of int, optional
        Of the inputs; those that the file leaves free must be given.

    Returns
    -------
    Graph

    Raises
    ------
    ValueError
        Naming the file and what is wrong: no ONNX model, an input whose size is neither fixed nor given, branches and
        loops, unknown operators, a tensor whose size cannot be inferred, external data outside the folder.
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
    if graph.sparse_initializer:
        raise ValueError(f"{label}: sparse weights = {len(graph.sparse_initializer)}: must be none")
    check_countable(onnx, loaded, label)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    given = [value.name for value in graph.input if value.name not in weights]
    if not given or not graph.output:
        raise ValueError(f"{label}: not an ONNX model: it has {len(given)} inputs and {len(graph.output)} outputs")
    sizes = _infer(onnx, loaded, weights, dict(shapes or {}), label)

    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    used.discard("")
    varying = set(given)
    constant_bytes = {name: _bytes(onnx, tensor.data_type, tuple(tensor.dims)) for name, tensor in weights.items()}
    operations = []
    for index, node in enumerate(graph.node):
        outputs = [name for name in node.output if name in used]
        data = tuple(name for name in node.input if name in varying)
        if not data and not _random(node):
            read = sum(constant_bytes.get(name, 0) for name in node.input)
            for name in outputs:
                known = sizes.get(name)
                constant_bytes[name] = read if known is None else _bytes(onnx, *known)
            continue
        varying.update(outputs)
        for name in outputs:
            if name not in sizes:
                raise ValueError(f"{label}: size of {name!r}, from {node.op_type}, cannot be inferred")
        shapes_here = {name: sizes[name][1] for name in (*node.input, *node.output) if name in sizes}
        try:
            flops = node_flops(node, shapes_here)
        except KeyError as error:
            raise ValueError(
                f"{label}: size of {error.args[0]!r}, read by {node.op_type}, cannot be inferred"
            ) from error
        weight = sum(constant_bytes.get(name, 0) for name in set(node.input))
        operations.append(
            Operation(index, node.name or node.output[0], node.op_type, data, tuple(outputs), flops, weight)
        )
    tensors = {}
    for name in [*given, *(name for operation in operations for name in operation.outputs)]:
        if name not in sizes:
            raise ValueError(f"{label}: size of {name!r} cannot be inferred")
        element, shape = sizes[name]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(element)
        if dtype.kind == "O":
            raise ValueError(f"{label}: type of {name!r} = string: must be a number")
        tensors[name] = Tensor(name, str(dtype), shape, 8 * _bytes(onnx, element, shape))
    results = tuple(value.name for value in graph.output if value.name in varying)
    if not operations or not results:
        raise ValueError(f"{label}: no output depends on an input")
    if passed := set(results) & set(given):
        raise ValueError(f"{label}: output {sorted(passed)[0]!r}: must come from an operation, not be an input")
    return Graph(
        graph.name or label, _digest(loaded), tuple(operations), MappingProxyType(tensors), tuple(given), results
    )


def _digest(model: Any) -> str:
    # Piece by piece, because a message beyond 2 GiB cannot be serialised.
    digest = hashlib.sha256()
    graph = model.graph
    for piece in (*model.opset_import, *graph.input, *graph.output, *graph.node, *graph.initializer):
        digest.update(piece.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _random(node: Any) -> bool:
    """Whether copies of a node without inputs would differ."""
    return node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial")


def _bytes(onnx: Any, element: int, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * onnx.helper.tensor_dtype_to_np_dtype(element).itemsize


def _infer(
    onnx: Any, model: Any, weights: dict[str, Any], shapes: dict[str, tuple[int, ...]], label: str
) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Element type and shape of every tensor that can be known, from a copy of the model without its large weights."""
    sketch = onnx.ModelProto()
    sketch.ir_version = model.ir_version
    sketch.opset_import.extend(model.opset_import)
    graph = sketch.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    graph.output.extend(model.graph.output)
    for value in model.graph.input:
        if value.name not in weights:
            graph.input.append(_fixed(value, shapes.pop(value.name, None), label))
    if shapes:
        raise ValueError(f"shapes = {shapes!r}: {label} has no such input")
    for tensor in weights.values():
        if math.prod(tensor.dims) <= _SMALL_WEIGHT:
            graph.initializer.append(tensor)
        if math.prod(tensor.dims) > _SMALL_WEIGHT or model.ir_version < 4:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            graph.input.append(value)
    try:
        onnx.checker.check_model(sketch)
        inferred = onnx.shape_inference.infer_shapes(sketch, check_type=True, strict_mode=True, data_prop=True).graph
    except Exception as error:  # onnx raises types of its own
        raise ValueError(f"{label}: not a valid ONNX model: {error}") from error
    sizes = {name: (tensor.data_type, tuple(tensor.dims)) for name, tensor in weights.items()}
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        tensor = value.type.tensor_type
        if value.type.HasField("tensor_type") and tensor.HasField("shape") and tensor.elem_type:
            dims = tensor.shape.dim
            if all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
                sizes[value.name] = (tensor.elem_type, tuple(dim.dim_value for dim in dims))
    return sizes


def _fixed(value: Any, shape: Any, label: str) -> Any:
    """A copy of an input's description with every size set."""
    fixed = type(value)()
    fixed.CopyFrom(value)
    tensor = fixed.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise ValueError(f"{label}: input {value.name!r}: must be a tensor")
    if shape is not None:
        try:
            shape = tuple(_validate.whole(f"shapes[{value.name!r}]", size, 1) for size in shape)
        except TypeError as error:
            raise ValueError(f"shapes[{value.name!r}] = {shape!r}: must be whole numbers >= 1") from error
        if not tensor.HasField("shape"):
            for _ in shape:
                tensor.shape.dim.add()
        if len(shape) != len(tensor.shape.dim):
            raise ValueError(f"shapes[{value.name!r}] = {shape!r}: must have {len(tensor.shape.dim)} sizes")
        for dim, size in zip(tensor.shape.dim, shape, strict=True):
            if dim.HasField("dim_value") and dim.dim_value > 0 and dim.dim_value != size:
                raise ValueError(f"shapes[{value.name!r}] = {shape!r}: {label} fixes a size of {dim.dim_value}")
            dim.dim_value = size
    free = not tensor.HasField("shape") or any(
        not dim.HasField("dim_value") or dim.dim_value <= 0 for dim in tensor.shape.dim
    )
    if free:
        names = [str(dim.dim_value or dim.dim_param or "?") for dim in tensor.shape.dim]
        raise ValueError(f"shapes[{value.name!r}] = (missing): must be given, {label} leaves [{', '.join(names)}] free")
    return fixed


def extract(model: Any, graph: Graph, positions: Sequence[int], outputs: Sequence[str]) -> Any:
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
        In `graph.operations`, ascending, at least one.
    outputs : sequence of str
        Tensors to give, each from one of the operations.

    Returns
    -------
    onnx.ModelProto
        Its inputs are the tensors that the operations read and do not give.
    """
    onnx = need("onnx", "bridge")
    chosen = {graph.operations[i].index for i in positions}
    given = {name for i in positions for name in graph.operations[i].outputs}
    read = dict.fromkeys(name for i in positions for name in graph.operations[i].inputs if name not in given)
    nodes = list(model.graph.node)
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name not in graph.tensors}
    needed: set[str] = set()
    stack = [name for index in chosen for name in nodes[index].input]
    while stack:
        name = stack.pop()
        if name in graph.tensors or name in needed or not name:
            continue
        needed.add(name)
        if name in makers and makers[name] not in chosen:
            chosen.add(makers[name])
            stack += nodes[makers[name]].input
    part = onnx.ModelProto()
    part.ir_version = max(model.ir_version, 4)
    part.producer_name = "edgeinfer"
    part.opset_import.extend(model.opset_import)
    part.graph.name = model.graph.name or "part"
    part.graph.node.extend(nodes[index] for index in sorted(chosen))
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
    part.graph.input.extend(_value(onnx, graph.tensors[name]) for name in read)
    part.graph.output.extend(_value(onnx, graph.tensors[name]) for name in outputs)
    return part


def _value(onnx: Any, tensor: Tensor) -> Any:
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return onnx.helper.make_tensor_value_info(tensor.name, element, list(tensor.shape))


def random_feeds(graph: Graph, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Inputs for a network: standard normal where they are floats, else zeros."""
    rng = np.random.default_rng(_validate.whole("seed", seed, 0))
    feeds = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        if tensor.dtype.startswith("float"):
            feeds[name] = rng.standard_normal(tensor.shape).astype(tensor.dtype)
        else:
            feeds[name] = np.zeros(tensor.shape, tensor.dtype)
    return feeds
