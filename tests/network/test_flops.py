"""Counting operations on graphs small enough to count by hand."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeinfer import bridge
from edgeinfer.network.flops import node_flops


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
    signal = helper.make_node("STFT", ["x", "step", "", "length"], ["z"], "transform")
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, 1])]
    result = helper.make_tensor_value_info("z", TensorProto.FLOAT, [None] * 4)
    sizes = [numpy_helper.from_array(np.int64(size), name) for name, size in (("step", 8), ("length", 16))]
    graph = helper.make_graph([signal], "graph", ports, [result], sizes)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(ValueError, match="node 'transform' = STFT: its operations cannot be counted"):
        bridge.count_flops(whole, {})
    path = model(tmp_path / "n.onnx", [helper.make_node("Tanh", ["x"], ["z"])], {"x": 2}, ("z", 2))
    with pytest.raises(ValueError, match=r"size of input 'x' = \(missing\): .*; give shapes"):
        bridge.count_flops(path, {})


def _node(kind, reads, gives="z", domain="", **attributes):
    return helper.make_node(kind, reads.split(), gives.split(), domain=domain, **attributes)


@pytest.mark.parametrize(
    ("node", "sizes", "flops"),
    [
        # 7 steps of 2 sequences through 4 gates of 3 units, each over 5 features and 3 units, in 2 directions.
        (_node("LSTM", "x w r"), {"x": (7, 2, 5), "w": (2, 12, 5), "r": (2, 12, 3)}, 2 * 7 * 2 * 2 * 12 * (5 + 3)),
        (_node("GRU", "x w r"), {"x": (7, 2, 5), "w": (1, 9, 5), "r": (1, 9, 3)}, 2 * 7 * 2 * 9 * 8),
        (_node("RNN", "x w r"), {"x": (7, 2, 5), "w": (1, 3, 5), "r": (1, 3, 3)}, 2 * 7 * 2 * 3 * 8),
        (_node("MatMulInteger", "a b"), {"a": (2, 3), "b": (3, 5), "z": (2, 5)}, 60),
        (_node("QLinearMatMul", "a s o b t p u q"), {"a": (2, 3), "b": (3, 5), "z": (2, 5)}, 60),
        (_node("QLinearConv", "x s o w t p u q"), {"w": (6, 3, 3, 3), "z": (1, 6, 4, 4)}, 2 * 96 * 27),
        (_node("ConvInteger", "x w"), {"w": (6, 3, 3, 3), "z": (1, 6, 4, 4)}, 2 * 96 * 27),
        (_node("DeformConv", "x w o"), {"w": (6, 3, 3, 3), "z": (1, 6, 4, 4)}, 2 * 96 * 27),
        (_node("Einsum", "a b", equation="bij,bjk->bik"), {"a": (7, 2, 3), "b": (7, 3, 5)}, 2 * 7 * 2 * 3 * 5),
        (_node("Einsum", "a b", equation="...ij,jk"), {"a": (7, 2, 3), "b": (3, 5)}, 2 * 7 * 2 * 3 * 5),
        # From left to right: (2, 3) by (3, 5), then (2, 5) by (5, 4).
        (_node("Einsum", "a b c", equation="ij,jk,kl->il"), {"a": (2, 3), "b": (3, 5), "c": (5, 4)}, 60 + 80),
        # Nothing is summed: an element-wise product.
        (_node("Einsum", "a b", equation="ij,ij->ij"), {"a": (2, 3), "b": (2, 3)}, 0),
        (_node("Einsum", "a", equation="ii->i"), {"a": (3, 3)}, 0),
        # 4 heads of 8: scores of 6 queries and 10 keys, then 10 values of 8 for each query.
        (_node("Attention", "q k v"), {"q": (2, 4, 6, 8), "k": (2, 4, 10, 8), "v": (2, 4, 10, 8)}, 2 * 8 * 60 * 16),
        (
            _node("Attention", "q k v", q_num_heads=4, kv_num_heads=2),
            {"q": (2, 6, 32), "k": (2, 10, 16), "v": (2, 10, 16)},
            2 * 8 * 60 * 16,
        ),
        (
            _node("MultiHeadAttention", "q k v", domain="com.microsoft", num_heads=4),
            {"q": (2, 6, 32), "k": (2, 10, 32), "v": (2, 10, 32)},
            2 * 8 * 60 * 16,
        ),
        (
            _node("Attention", "x w b", domain="com.microsoft", num_heads=4),
            {"x": (2, 6, 32), "w": (32, 96)},
            2 * 12 * 32 * 96 + 2 * 2 * 36 * 64,
        ),
        (
            _node("GroupQueryAttention", "q k v", "z p", "com.microsoft", num_heads=4),
            {"q": (2, 6, 32), "p": (2, 2, 10, 8)},
            2 * 8 * 60 * 16,
        ),
        (_node("MatMulNBits", "a b s", domain="com.microsoft", K=3, N=5), {"a": (2, 3), "z": (2, 5)}, 60),
        (_node("FusedMatMul", "a b", domain="com.microsoft", transA=1), {"a": (3, 2), "b": (3, 5), "z": (2, 5)}, 60),
        (_node("FusedConv", "x w", domain="com.microsoft"), {"w": (6, 3, 3, 3), "z": (1, 6, 4, 4)}, 2 * 96 * 27),
        (_node("LinearClassifier", "x", domain="ai.onnx.ml", coefficients=[0.0] * 12), {"x": (5, 4)}, 2 * 5 * 12),
        (_node("TreeEnsembleRegressor", "x", domain="ai.onnx.ml"), {"x": (5, 4)}, 0),
        (_node("SkipLayerNormalization", "x y g", domain="com.microsoft"), {}, 0),
        (_node("Nonsense", "x", domain="com.example"), {"x": (5, 4)}, None),
        (_node("DFT", "x"), {"x": (1, 4, 1)}, None),
        (_node("MatMul", "a b"), {"a": (2, 3)}, None),
        (_node("Einsum", "a b", equation="ij,jk,kl"), {"a": (2, 3), "b": (3, 5)}, None),
    ],
)
def test_a_node_by_hand(node, sizes, flops):
    assert node_flops(node, sizes) == flops


def test_bodies_count_where_nothing_in_them_does():
    def branch(kind):
        node = helper.make_node(kind, ["a", "b"], ["y"])
        return helper.make_graph([node], kind, [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])

    free, counted = branch("Add"), branch("MatMul")
    assert node_flops(helper.make_node("If", ["c"], ["z"], then_branch=free, else_branch=free), {}) == 0
    assert node_flops(helper.make_node("If", ["c"], ["z"], then_branch=free, else_branch=counted), {}) is None
    function = helper.make_function("local", "Sum", ["a", "b"], ["y"], list(free.node), [helper.make_opsetid("", 17)])
    call = helper.make_node("Sum", ["a", "b"], ["z"], domain="local")
    assert node_flops(call, {}, [function]) == 0
    assert node_flops(call, {}) is None
