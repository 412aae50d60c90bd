"""Counting an ONNX network's floating-point operations on the graph itself."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.network.sessions import open_session, session_options

_COUNTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
# Products of matrices that the count would miss.
_UNKNOWN = ("Einsum", "Attention", "LSTM", "GRU", "RNN", "QLinearConv", "ConvInteger", "MatMulInteger", "QLinearMatMul")


def count_flops(path: str | Path | IO[bytes], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """FLOP of one pass: two a multiply-add of every convolution and matrix product, as the graph really runs.

    Element-wise operations, normalisations and look-ups are not counted, as is the custom.

    Parameters
    ----------
    path : path or binary file
        An ONNX file.
    shapes : mapping of str to tuple of int
        Of each input.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        Where the graph has branches, loops or operators whose products cannot be seen, or an input has no shape.

    Examples
    --------
    >>> import os, tempfile
    >>> from onnx import TensorProto, helper, save_model
    >>> ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in "abc"]
    >>> graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "product", ports[:2], ports[2:])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "product.onnx")
    ...     save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    ...     count_flops(path, {"a": (2, 3), "b": (3, 5)})
    60
    """
    onnx = need("onnx", "bridge")
    model = onnx.load_model(path)
    check_countable(onnx, model, str(path))
    nodes = [node for node in model.graph.node if node.op_type in _COUNTED]
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in weights}
    feeds = {}
    for name, value in inputs.items():
        if name not in shapes:
            raise ValueError(f"shapes = {dict(shapes)!r}: must have one for {name!r}")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feeds[name] = np.zeros(shapes[name], dtype)
    wanted = {name for node in nodes for name in (*node.input[:2], node.output[0])} - set(weights) - set(inputs)
    present = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted - present))
    session = open_session(model.SerializeToString(), str(path), session_options("disabled"))
    names = sorted(wanted)
    values = session.run(names, feeds) if names else []
    sizes = weights | {name: array.shape for name, array in feeds.items()}
    sizes |= {name: value.shape for name, value in zip(names, values, strict=True)}
    return sum(node_flops(node, sizes) for node in nodes)


def check_countable(onnx: Any, model: Any, label: str) -> None:
    """Refuse branches, loops, operators beyond ONNX's own, and products of matrices that the count would miss.

    Raises
    ------
    ValueError
        Naming `label`, the node and its operator.
    """
    for node in model.graph.node:
        nested = any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute)
        if nested or node.op_type in _UNKNOWN or node.domain not in ("", "ai.onnx"):
            raise ValueError(f"{label}: node {node.name!r} = {node.op_type}: its operations cannot be counted")


def node_flops(node: Any, sizes: Mapping[str, tuple[int, ...]]) -> int:
    """FLOP of one node in `count_flops`' convention.

    Parameters
    ----------
    node : onnx.NodeProto
    sizes : mapping of str to tuple of int
        Shapes of its inputs and outputs.
    """
    if node.op_type not in _COUNTED:
        return 0
    first, second, result = sizes[node.input[0]], sizes[node.input[1]], sizes[node.output[0]]
    if node.op_type == "Conv":
        return 2 * math.prod(result) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":
        return 2 * math.prod(first) * math.prod(second[1:])
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return 2 * math.prod(result) * first[0 if transposed else 1]
    return 2 * math.prod(result) * first[-1]
