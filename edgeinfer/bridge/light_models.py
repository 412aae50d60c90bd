"""Published networks without their weights: the light models that come with the onnx package."""

from pathlib import Path
from typing import Any

import numpy as np

from edgeinfer import _validate
from edgeinfer._extras import need

#: Names that `light_model` takes.
LIGHT_MODELS = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)


def light_model(name: str, seed: int = 0) -> Any:
    """A light model with seeded random weights in place of its constant ones, scaled by fan-in.

    Parameters
    ----------
    name : str
        One of `LIGHT_MODELS`.
    seed : int

    Returns
    -------
    onnx.ModelProto
        With weights of some 5 (SqueezeNet) to 600 MB (VGG).

    Examples
    --------
    >>> [value.name for value in light_model("squeezenet").graph.input]
    ['data_0']
    """
    onnx, tests = need("onnx", "bridge"), need("onnx.backend.test", "bridge")
    _validate.choice("name", name, LIGHT_MODELS)
    loaded = onnx.load(Path(tests.__file__).parent / "data" / "light" / f"light_{name}.onnx")
    graph = loaded.graph
    rng = np.random.default_rng(_validate.whole("seed", seed, 0))
    arrays = onnx.numpy_helper
    shapes = {tensor.name: arrays.to_array(tensor) for tensor in graph.initializer if "__SHAPE" in tensor.name}
    variances = {node.input[4] for node in graph.node if node.op_type == "BatchNormalization"}
    for node in [node for node in graph.node if node.op_type == "ConstantOfShape"]:
        shape = tuple(shapes[node.input[0]])
        spread = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        value = (rng.standard_normal(shape, np.float32) * np.float32(spread)).astype(np.float32)
        if node.output[0] in variances:
            value = 1 + np.abs(value)
        graph.initializer.append(arrays.from_array(value, node.output[0]))
        graph.node.remove(node)
    for kept in (graph.initializer, graph.input):
        for item in [item for item in kept if item.name in shapes]:
            kept.remove(item)
    loaded.ir_version = 8
    weights = {tensor.name for tensor in graph.initializer}
    for value in [value for value in graph.input if value.name in weights]:
        graph.input.remove(value)
    return loaded
