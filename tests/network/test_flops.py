"""Counting operations on graphs small enough to count by hand."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeinfer import bridge


def model(path, nodes, inputs, output, weights=()):
    """A graph of `nodes` with inputs and output of free sizes."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name, rank in inputs.items()]
    result = helper.make_tensor_value_info(output[0], TensorProto.FLOAT, [None] * output[1])
    tensors = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights]
    graph = helper.make_graph(nodes, "graph", ports, [result], tensors)
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("node", "shapes", "rank", "weights", "flops"),
    [
        # 4 x 4 results of 6 channels, each a sum over 3 channels and 3 x 3 places.
        (("Conv", ["x", "w"], {"pads": [1] * 4}), {"x": (2, 3, 4, 4)}, 4, [("w", (6, 3, 3, 3))], 2 * 2 * 6 * 16 * 27),
        # Two groups: each result sums over 2 of the 4 channels.
        (("Conv", ["x", "w"], {"group": 2}), {"x": (1, 4, 5, 5)}, 4, [("w", (6, 2, 3, 3))], 2 * 6 * 9 * 18),
        # Each of 3 x 4 x 4 inputs goes to 2 channels and 2 x 2 places.
        (("ConvTranspose", ["x", "w"], {"strides": [2, 2]}), {"x": (1, 3, 4, 4)}, 4, [("w", (3, 2, 2, 2))], 2 * 48 * 8),
        (("MatMul", ["x", "y"], {}), {"x": (7, 2, 3), "y": (7, 3, 5)}, 3, [], 2 * 7 * 2 * 5 * 3),
        (("Gemm", ["x", "w"], {"transB": 1}), {"x": (2, 3)}, 2, [("w", (5, 3))], 2 * 2 * 5 * 3),
        (("Gemm", ["x", "w"], {"transA": 1}), {"x": (3, 2)}, 2, [("w", (3, 5))], 2 * 2 * 5 * 3),
        (("Tanh", ["x"], {}), {"x": (2, 3)}, 2, [], 0),
    ],
)
def test_by_hand(tmp_path, node, shapes, rank, weights, flops):
    kind, inputs, attributes = node
    nodes = [helper.make_node(kind, inputs, ["z"], **attributes)]
    path = model(tmp_path / "m.onnx", nodes, {name: len(s) for name, s in shapes.items()}, ("z", rank), weights)
    assert bridge.count_flops(path, shapes) == flops


def test_weights_behind_a_cast(tmp_path):
    nodes = [
        helper.make_node("Cast", ["half"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("MatMul", ["y", "w"], ["z"]),
    ]
    path = model(tmp_path / "m.onnx", nodes, {"x": 2}, ("z", 2), [("half", (3, 3))])
    assert bridge.count_flops(path, {"x": (2, 3)}) == 2 * 2 * (2 * 3 * 3)


def test_what_cannot_be_counted(tmp_path):
    nodes = [helper.make_node("Einsum", ["x", "x"], ["z"], "sum", equation="ij,jk->ik")]
    path = model(tmp_path / "m.onnx", nodes, {"x": 2}, ("z", 2))
    with pytest.raises(ValueError, match="node 'sum' = Einsum: its operations cannot be counted"):
        bridge.count_flops(path, {"x": (3, 3)})
    path = model(tmp_path / "n.onnx", [helper.make_node("Tanh", ["x"], ["z"])], {"x": 2}, ("z", 2))
    with pytest.raises(ValueError, match="must have one for 'x'"):
        bridge.count_flops(path, {})
