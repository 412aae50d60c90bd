"""ONNX models of any size: loaded with their external data, and handed to ONNX Runtime or to a file."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer._extras import need
from edgeinfer._files import replacing
from edgeinfer.network.bodies import is_tidy, tidy, within
from edgeinfer.network.elements import CROSSING, element_bits, element_name
from edgeinfer.network.files import check_external_data, external_tensors, inside

# A protobuf message holds no more bytes; what is not weights must find room, too.
_LARGEST = 2**31 - 2**20
# Weights of no more elements stay in the message.
_SMALL = 2**10


def load_model(model: Any) -> tuple[Any, str]:
    """An ONNX model with its weights, its nodes in order, and how to name it in errors.

    Parameters
    ----------
    model : path, binary file or onnx.ModelProto
        External data must lie in the file's folder, or, where that is a snapshot in a hub's cache, anywhere in the
        cache; links are followed. A ModelProto is not changed.

    Raises
    ------
    ValueError
        Naming the file: missing, not an ONNX model, external data missing, cut short or elsewhere.
    """
    onnx = need("onnx", "bridge")
    if isinstance(model, onnx.ModelProto):
        label = model.graph.name or "model"
        if any(True for _ in external_tensors(onnx, model)):
            raise ValueError(f"{label}: external data = in other files: must be loaded, or the model given as a path")
        if not is_tidy(model):
            changed = onnx.ModelProto()
            changed.CopyFrom(model)
            tidy(changed, label)
            return changed, label
        return model, label
    if hasattr(model, "read"):
        return load_model(_parsed(onnx, model, "model"))
    if not isinstance(model, str | Path):
        raise ValueError(f"model = {model!r}: must be the path of an ONNX file or an onnx.ModelProto")
    path = Path(model)
    if not path.is_file():
        raise ValueError(f"model = {str(model)!r}: must be an ONNX file; there is no such file")
    loaded = _parsed(onnx, path, path.name)
    _load_external(onnx, loaded, path)
    tidy(loaded, path.name)
    return loaded, path.name


def input_ranks(path: str | Path) -> dict[str, int | None]:
    """Names of the inputs of an ONNX file, weights not among them, with how many axes each has, None where it does not
    say; ValueError where it is no ONNX file.
    """
    graph = _parsed(need("onnx", "bridge"), path, Path(path).name).graph
    weights = {tensor.name for tensor in graph.initializer}
    types = {value.name: value.type.tensor_type for value in graph.input if value.name not in weights}
    return {name: len(kind.shape.dim) if kind.HasField("shape") else None for name, kind in types.items()}


def _parsed(onnx: Any, source: Any, label: str) -> Any:
    try:
        model = onnx.load_model(source, load_external_data=False)
    except Exception as error:  # protobuf raises types of its own
        raise ValueError(f"{label}: not an ONNX model: {error}") from error
    _check_names(model, label)
    return model


def _check_names(model: Any, label: str) -> None:
    """Refuse names that are no text; protobuf gives bytes where it cannot decode them."""
    graph = model.graph
    names = [named.name for named in (*graph.input, *graph.output, *graph.initializer)]
    names += [opset.domain for opset in model.opset_import]
    for node in within(graph.node, model.functions):
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
    if bytes in set(map(type, names)):
        name = next(name for name in names if isinstance(name, bytes))
        raise ValueError(f"{label}: not an ONNX model: name {name[:40]!r} is no UTF-8 text")


def _load_external(onnx: Any, model: Any, path: Path) -> None:
    """Put into a model what it keeps in other files, from beside its file or beside what its file is a link to."""
    if not any(True for _ in external_tensors(onnx, model)):
        return
    folder = path.absolute().parent
    try:
        check_external_data(onnx, model, _root(folder), folder, path.name)
    except ValueError as error:
        folder = path.resolve().parent
        try:
            check_external_data(onnx, model, folder, folder, path.name)
        except ValueError:
            raise error from None
    for tensor in external_tensors(onnx, model):
        told = {pair.key: pair.value for pair in tensor.external_data}
        data = inside(_root(folder), folder / told["location"], f"{path.name}: external data")
        try:
            with data.open("rb") as stream:
                stream.seek(int(told.get("offset", 0)))
                raw = stream.read(int(told["length"]) if "length" in told else -1)
        except (ValueError, OSError) as error:
            raise ValueError(f"{path.name}: external data of {tensor.name!r}: {error}") from error
        bits = math.prod(tensor.dims) * element_bits(element_name(onnx, tensor.data_type))
        if len(raw) != -(-bits // 8):
            raise ValueError(
                f"{path.name}: external data of {tensor.name!r}: {len(raw)} bytes: must be {-(-bits // 8)}"
            )
        tensor.raw_data = raw
        del tensor.external_data[:]
        tensor.ClearField("data_location")


def _root(folder: Path) -> Path:
    """Below what external data of a model in a folder must lie: the folder, or the cache that it is a snapshot in.

    A hub's cache of a repository holds blobs/ and, in snapshots/, folders of links into them.
    """
    for parent in folder.parents:
        if parent.name == "snapshots" and (parent.parent / "blobs").is_dir():
            return parent.parent.resolve()
    return folder.resolve()


def serialised(model: Any) -> tuple[bytes, dict[str, NDArray[Any]]]:
    """A model as bytes, and the weights that do not fit into them, by name; the bytes refer to these as external
    data.
    """
    if _size(model) <= _LARGEST:
        return model.SerializeToString(deterministic=True), {}
    light, taken = _parted(model)
    for tensor in light.graph.initializer:
        if tensor.name in taken:
            tensor.external_data.add(key="location", value="memory")
    return light.SerializeToString(deterministic=True), taken


def save_model(model: Any, path: Path) -> None:
    """Write a model, atomically; its large weights into a file beside it, NAME.data, where it would be over 2 GB."""
    if _size(model) <= _LARGEST:
        with replacing(path) as temporary:
            temporary.write_bytes(model.SerializeToString(deterministic=True))
        return
    light, taken = _parted(model)
    data = path.with_name(path.name + ".data")
    with replacing(data) as temporary, temporary.open("wb") as stream:
        for tensor in light.graph.initializer:
            if tensor.name in taken:
                told = {"location": data.name, "offset": stream.tell(), "length": taken[tensor.name].nbytes}
                for key, value in told.items():
                    tensor.external_data.add(key=key, value=str(value))
                stream.write(taken[tensor.name].data)
    with replacing(path) as temporary:
        temporary.write_bytes(light.SerializeToString(deterministic=True))


def _parted(model: Any) -> tuple[Any, dict[str, NDArray[Any]]]:
    """A copy of a model whose large weights are only described, and these weights by name."""
    onnx = need("onnx", "bridge")
    light = type(model)()
    _copy(model, light, "graph")
    _copy(model.graph, light.graph, "initializer")
    taken = {}
    for tensor in model.graph.initializer:
        kept = light.graph.initializer.add()
        if math.prod(tensor.dims) <= _SMALL or element_name(onnx, tensor.data_type) not in CROSSING:
            kept.CopyFrom(tensor)
            continue
        kept.name, kept.data_type, kept.data_location = tensor.name, tensor.data_type, onnx.TensorProto.EXTERNAL
        kept.dims.extend(tensor.dims)
        taken[tensor.name] = np.ascontiguousarray(onnx.numpy_helper.to_array(tensor))
    return light, taken


def _size(model: Any) -> float:
    try:
        return int(model.ByteSize())
    except Exception:  # protobuf refuses to count what it could not serialise
        return math.inf


def _copy(message: Any, target: Any, left_out: str) -> None:
    """Copy the fields of a message but one."""
    for field, value in message.ListFields():
        if field.name == left_out:
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif field.message_type is not None:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)
