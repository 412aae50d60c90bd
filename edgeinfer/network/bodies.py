"""Graphs within the nodes of an ONNX graph: what branches, loops and local functions read, hold and do."""

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np

from edgeinfer._extras import need

#: Operators whose copies would differ: each draws random numbers of its own.
_RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
# Since this version of the format weights need not be inputs.
_FREE_WEIGHTS = 4
# Types of attributes: AttributeProto.GRAPH and GRAPHS.
_GRAPH, _GRAPHS = 5, 10
#: Names of ONNX's own domain.
OWN = ("", "ai.onnx")
#: Operators of ONNX's own domain that hold graphs; looking at the attributes of all others takes longer than the rest.
HOLDING = frozenset(["If", "Loop", "Scan", "SequenceMap"])


def bodies(node: Any) -> list[Any]:
    """Graphs in a node's attributes: the branches of If, the bodies of Loop and Scan."""
    found: list[Any] = []
    if node.op_type not in HOLDING and node.domain in OWN:
        return found
    for attribute in node.attribute:
        kind = attribute.type
        if kind == _GRAPH:
            found.append(attribute.g)
        elif kind == _GRAPHS:
            found.extend(attribute.graphs)
    return found


def captured(node: Any) -> tuple[str, ...]:
    """Tensors from outside that a node's bodies read, each once.

    Examples
    --------
    >>> from onnx import TensorProto, helper
    >>> y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    >>> branch = helper.make_graph([helper.make_node("Add", ["a", "b"], ["y"])], "branch", [], [y])
    >>> captured(helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch))
    ('a', 'b')
    """
    found: dict[str, None] = {}
    for body in bodies(node):
        inside = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        inside |= {tensor.values.name for tensor in body.sparse_initializer}
        inside |= {name for inner in body.node for name in inner.output}
        read = [name for inner in body.node for name in (*inner.input, *captured(inner))]
        read += [value.name for value in body.output]
        found |= {name: None for name in read if name and name not in inside}
    return tuple(found)


def read_by(node: Any) -> tuple[str, ...]:
    """Tensors that a node reads, its bodies included, each once."""
    read = dict.fromkeys(node.input)
    if held := captured(node):
        read |= dict.fromkeys(held)
    read.pop("", None)
    return tuple(read)


def within(nodes: Sequence[Any], functions: Sequence[Any] = ()) -> Iterator[Any]:
    """Nodes, and all nodes in their bodies and in the local functions that they call, each function once."""
    local = {(function.domain, function.name): function for function in functions}
    stack = [list(nodes)]
    while stack:
        for node in stack.pop():
            yield node
            stack += [list(body.node) for body in bodies(node)]
            if local and (function := local.pop((node.domain, node.op_type), None)):
                stack.append(list(function.node))


def is_random(node: Any, functions: Sequence[Any] = ()) -> bool:
    """Whether copies of a node would differ although they read the same."""
    return any(inner.op_type in _RANDOM and inner.domain in OWN for inner in within([node], functions))


def is_tidy(model: Any) -> bool:
    """Whether `tidy` would leave a model as it is."""
    opsets = (*model.opset_import, *(opset for function in model.functions for opset in function.opset_import))
    if any(opset.domain == "ai.onnx" for opset in opsets) or model.ir_version < _FREE_WEIGHTS:
        return False
    weights = {tensor.name for tensor in model.graph.initializer}
    if any(value.name in weights for value in model.graph.input):
        return False
    if any(_stored(node) is not None for node in model.graph.node):
        return False
    return all(_ordered(holder) for holder in (model.graph, *model.functions))


def _ordered(holder: Any) -> bool:
    if any(node.domain == "ai.onnx" for node in holder.node) or _order(holder.node) != list(range(len(holder.node))):
        return False
    return all(_ordered(body) for node in holder.node for body in bodies(node))


def tidy(model: Any, label: str) -> None:
    """Bring a model into one form, in place, which changes nothing of what it computes.

    Nodes are put behind what they read, in bodies and functions too, and ONNX's own domain is named "", as ONNX Runtime
    does as it loads a model. Weights are initializers and no inputs: also those that Constant nodes hold, and those
    that inputs could replace.

    Raises
    ------
    ValueError
        Naming `label`: nodes that read each other in a circle.
    """
    for opset in (*model.opset_import, *(opset for function in model.functions for opset in function.opset_import)):
        if opset.domain == "ai.onnx":
            opset.domain = ""
    for holder in (model.graph, *model.functions):
        _tidy(holder, label)
    model.ir_version = max(model.ir_version, _FREE_WEIGHTS)
    graph = model.graph
    kept = []
    for node in graph.node:
        tensor = _stored(node)
        if tensor is None:
            kept.append(node)
        else:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
    if len(kept) < len(graph.node):
        _replace(graph.node, kept)
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) < len(graph.input):
        _replace(graph.input, inputs)


def _stored(node: Any) -> Any:
    """The tensor that a Constant node holds; None for any other node."""
    if node.op_type != "Constant" or node.domain not in OWN or len(node.output) != 1:
        return None
    numpy_helper = need("onnx", "bridge").numpy_helper
    for attribute in node.attribute:
        if attribute.name == "value":
            return attribute.t
        if attribute.name in ("value_float", "value_floats"):
            values = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            return numpy_helper.from_array(np.asarray(values, np.float32))
        if attribute.name in ("value_int", "value_ints"):
            values = attribute.i if attribute.name == "value_int" else list(attribute.ints)
            return numpy_helper.from_array(np.asarray(values, np.int64))
    return None


def _replace(field: Any, items: Sequence[Any]) -> None:
    """Make the items, some of the field's own, all that it holds."""
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)


def _tidy(holder: Any, label: str) -> None:
    for node in holder.node:
        if node.domain == "ai.onnx":
            node.domain = ""
        for body in bodies(node):
            _tidy(body, label)
    order = _order(holder.node)
    if len(order) < len(holder.node):
        raise ValueError(f"{label}: {len(holder.node) - len(order)} nodes: must not read each other in a circle")
    if order != list(range(len(order))):
        _replace(holder.node, [holder.node[index] for index in order])


def _order(nodes: Sequence[Any]) -> list[int]:
    """Positions of nodes, each behind what it reads, as near to the given order as can be; too few for a circle."""
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    read = [{makers[name] for name in read_by(node) if name in makers} for node in nodes]
    if all(not makers or max(found, default=-1) < index for index, found in enumerate(read)):
        return list(range(len(nodes)))
    readers: list[list[int]] = [[] for _ in nodes]
    for index, found in enumerate(read):
        for maker in found:
            readers[maker].append(index)
    waiting = [len(found) for found in read]
    ready = [index for index, count in enumerate(waiting) if not count]
    heapify(ready)
    order = []
    while ready:
        order.append(heappop(ready))
        for reader in readers[order[-1]]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heappush(ready, reader)
    return order
