"""Networks at hand: those that come with this package, and well-known ones whose shapes come with onnx."""

from pathlib import Path
from typing import Any

import numpy as np

from edgeinfer import _validate
from edgeinfer._extras import need

_MODELS = Path(__file__).parent / "models"

#: Of `light_model`.
LIGHT_NETWORKS = (
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


def light_path(name: str) -> Path:
    """File of a light network of the onnx package, as it is: shapes and constant weights.

    Parameters
    ----------
    name : one of `LIGHT_NETWORKS`

    Raises
    ------
    ValueError
        For another name.
    FileNotFoundError
        Where the onnx package comes without it.
    """
    _validate.choice("name", name, LIGHT_NETWORKS)
    path = Path(need("onnx", "bridge").__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"
    if not path.exists():
        raise FileNotFoundError(f"{path}: is not there: it comes with the onnx package")
    return path


def light_model(name: str, seed: int = 0) -> Any:
    """A light network with seeded random weights, scaled by fan-in, in place of its constant ones.

    Parameters
    ----------
    name : one of `LIGHT_NETWORKS`
    seed : int
        >= 0.

    Returns
    -------
    onnx.ModelProto

    Examples
    --------
    >>> len(light_model("squeezenet").graph.node)
    66
    """
    onnx = need("onnx", "bridge")
    loaded = onnx.load(light_path(name))
    graph = loaded.graph
    rng = np.random.default_rng(_validate.whole("seed", seed, 0))
    to_array, from_array = onnx.numpy_helper.to_array, onnx.numpy_helper.from_array
    shapes = {tensor.name: to_array(tensor) for tensor in graph.initializer if "__SHAPE" in tensor.name}
    variances = {node.input[4] for node in graph.node if node.op_type == "BatchNormalization"}
    constant = [node for node in graph.node if node.op_type == "ConstantOfShape"]
    for node in constant:
        shape = tuple(shapes[node.input[0]])
        spread = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        value = (rng.standard_normal(shape, np.float32) * np.float32(spread)).astype(np.float32)
        if node.output[0] in variances:
            value = 1 + np.abs(value)
        graph.initializer.append(from_array(value, node.output[0]))
        graph.node.remove(node)
    stored = {tensor.name for tensor in graph.initializer}
    for kept, gone in ((graph.initializer, set(shapes)), (graph.input, set(shapes) | stored)):
        for item in [item for item in kept if item.name in gone]:
            kept.remove(item)
    loaded.ir_version = 8
    return loaded


def shipped(name: str) -> Path:
    """Folder of a model that comes with the package: a cascade, or "digits", a classifier with exits.

    Raises
    ------
    ValueError
        For an unknown name; it lists the known ones.
    FileNotFoundError
        Where the package edgeinfer-models, which holds them beside a wheel of edgeinfer, is missing.

    Examples
    --------
    >>> shipped("nonsense")
    Traceback (most recent call last):
    ...
    ValueError: name = 'nonsense': must be one of ...
    """
    names = sorted(path.name for path in _MODELS.glob("*") if path.is_dir()) if _MODELS.is_dir() else []
    if not names:
        raise FileNotFoundError(f"{_MODELS}: is not there: pip install edgeinfer-models")
    if name not in names:
        raise ValueError(f"name = {name!r}: must be one of {', '.join(map(repr, names))}")
    return _MODELS / name
