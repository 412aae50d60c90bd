"""Networks to cut: random models and graphs, and the light models."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgeinfer.bridge import LIGHT_NETWORKS, Graph, Operation, Tensor, light_model, light_path

LIGHT = light_path("squeezenet").parent
LIGHT_NAMES = LIGHT_NETWORKS
light = light_model


def model(nodes, inputs, outputs, weights=(), opset=17):
    """A model of float tensors; `inputs` and `outputs` map names to shapes, `weights` names to arrays."""
    ports = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in group.items()]
        for group in (inputs, outputs)
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(weights).items()]
    graph = helper.make_graph(nodes, "graph", *ports, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def random_model(rng, operations):
    """A random graph of matrix products, sums, concatenations, halvings and activations; weights are shared, and some
    are computed from others."""
    nodes, weights, sizes = [], {"base": rng.standard_normal(3).astype(np.float32)}, {"x0": 4, "x1": 2}
    weights["halves"] = np.array([1, 1], np.int64)
    nodes.append(helper.make_node("ReduceMean", ["base"], ["scale"], keepdims=0))
    read = set()
    for number in range(operations):
        names = list(sizes)
        # The later ones more often: deep graphs rather than wide ones.
        pick = lambda names=names: names[min(len(names) - 1, int(rng.triangular(0, len(names), len(names))))]  # noqa: E731
        a, b, out = pick(), pick(), f"t{number}"
        kind = rng.choice(["MatMul", "Relu", "Add", "Concat", "Split", "Mul"])
        if kind == "MatMul":
            width = int(rng.integers(1, 6))
            name = f"w{sizes[a]}x{width}"
            weights.setdefault(name, rng.standard_normal((sizes[a], width)).astype(np.float32))
            nodes.append(helper.make_node("MatMul", [a, name], [out]))
            sizes[out] = width
        elif kind == "Concat" and sizes[a] + sizes[b] < 12:
            nodes.append(helper.make_node("Concat", [a, b], [out], axis=1))
            sizes[out] = sizes[a] + sizes[b]
        elif kind == "Add" and sizes[a] == sizes[b]:
            nodes.append(helper.make_node("Add", [a, b], [out]))
            sizes[out] = sizes[a]
        elif kind == "Split" and sizes[a] > 1:
            first = sizes[a] // 2
            name = f"split{first}of{sizes[a]}"
            weights.setdefault(name, np.array([first, sizes[a] - first], np.int64))
            nodes.append(helper.make_node("Split", [a, name], [out, f"{out}b"], axis=1))
            sizes[out], sizes[f"{out}b"] = first, sizes[a] - first
        elif kind == "Mul":
            nodes.append(helper.make_node("Mul", [a, "scale"], [out]))
            sizes[out] = sizes[a]
        else:
            nodes.append(helper.make_node("Relu", [a], [out]))
            sizes[out] = sizes[a]
    read = {name for node in nodes for name in node.input}
    made = [name for name in sizes if name[0] == "t"]
    results = [name for name in made if name not in read or rng.random() < 0.1]
    inputs = {name: [3, sizes[name]] for name in ("x0", "x1")}
    return model(nodes, inputs, {name: [3, sizes[name]] for name in results}, weights)


def random_graph(rng, operations):
    """A random graph without a model, sizes falling along it: each operation reads up to three of the twelve before."""
    tensors = {"t0": Tensor("t0", "float32", (10**6,), 32 * 10**6)}
    made = []
    for i in range(operations):
        inputs = tuple({f"t{j}" for j in rng.integers(max(0, i - 12), i + 1, 3)})
        size = int(rng.integers(1, 10**5) * (1.1 - i / operations) ** 3)
        tensors[f"t{i + 1}"] = Tensor(f"t{i + 1}", "float32", (size,), 32 * size)
        made.append(Operation(i, f"o{i}", "Conv", inputs, (f"t{i + 1}",), int(rng.integers(1, 10**7)), 0))
    return Graph("random", "", tuple(made), tensors, ("t0",), (f"t{operations}",))
