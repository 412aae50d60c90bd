"""The files of ONNX networks and the JSON that describes them, read so that each complaint names its place."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer._files import json_object

# Types of attributes that hold no tensor: a float, a whole number, a text, and lists of them.
_PLAIN = frozenset([1, 2, 3, 6, 7, 8])
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Port:
    """An input or output of an ONNX file.

    Attributes
    ----------
    name : str
    dtype : str
        NumPy's name.
    shape : tuple of int or None
        None where the file leaves the size free.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class Part(_validate.Value):
    """One network's file.

    Attributes
    ----------
    name : str
        Folder below the model's.
    path : Path
        The ONNX file, resolved, within the model's folder.
    inputs, outputs : mapping of str to Port
    """

    name: str
    path: Path
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]


class JsonObject:
    """A JSON object that knows its file and its place in it, so that each complaint can name them."""

    def __init__(self, file: str, value: Any, where: str = "") -> None:
        self.file, self.where, self.value = file, where, value
        if not isinstance(value, dict):
            raise ValueError(f"{file}: {where} = {short(value)}: must be an object")

    def field(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def fail(self, key: str, allowed: str) -> ValueError:
        shown = short(self.value[key]) if key in self.value else "(missing)"
        return ValueError(f"{self.file}: {self.field(key)} = {shown}: must be {allowed}")

    def get(self, key: str, default: Any = None) -> Any:
        return self.value.get(key, default)

    def text(self, key: str, choices: Sequence[str] = (), default: str | None = None) -> str:
        value = self.get(key, default)
        if not isinstance(value, str) or not value or (choices and value not in choices):
            raise self.fail(key, f"one of {', '.join(map(repr, choices))}" if choices else "a name")
        return value

    def number(self, key: str, default: float | None = None, low: float = -math.inf) -> float:
        value = self.get(key, default)
        if not is_number(value) or value < low:
            raise self.fail(key, "a finite number" + (f" >= {low:g}" if low > -math.inf else ""))
        return float(value)

    def whole(self, key: str, low: int = 1) -> int:
        value = self.get(key)
        if not is_whole(value) or value < low:
            raise self.fail(key, f"a whole number >= {low}")
        return int(value)

    def shape(self, key: str) -> tuple[int, ...]:
        value = self.get(key)
        if not isinstance(value, list) or len(value) != 3 or not all(is_whole(size) and size > 0 for size in value):
            raise self.fail(key, "[channels, height, width], whole numbers > 0")
        return tuple(value)

    def interval(self, key: str) -> tuple[float, float]:
        value = self.get(key)
        if not isinstance(value, list) or len(value) != 2 or not all(map(is_number, value)) or value[0] >= value[1]:
            raise self.fail(key, "[low, high], finite, low < high")
        return float(value[0]), float(value[1])

    def object(self, key: str) -> "JsonObject":
        return JsonObject(self.file, self.get(key), self.field(key))

    def objects(self, key: str) -> list["JsonObject"]:
        value = self.get(key)
        if not isinstance(value, list) or not value:
            raise self.fail(key, "a list with at least one object")
        return [JsonObject(self.file, item, f"{self.field(key)}[{i}]") for i, item in enumerate(value)]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def listed(names: Any) -> str:
    return ", ".join(map(repr, names))


def inside(root: Path, path: Path, what: str) -> Path:
    """`path` resolved; it must lie below `root` once every link is followed."""
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name with a null byte
        raise ValueError(f"{what}: {error}") from error
    if not resolved.is_relative_to(root):
        raise ValueError(f"{what} = {str(path)!r}: must lie in the model's folder, and links too")
    return resolved


def read_json(root: Path, name: str) -> dict[str, Any]:
    """A JSON object in a file below `root`; ValueError naming the file where there is none."""
    root = _validate.path("root", root)
    path = inside(root, root / _validate.path("name", name), name)
    if not path.is_file():
        raise ValueError(f"{name}: missing in {str(root)!r}")
    return json_object(path, name)


def read_part(root: Path, name: str, file: str = "cascade.json", where: str = "part") -> Part:
    """The ports of `root`/`name`/model.onnx, weights not kept.

    Parameters
    ----------
    root : Path
        The model's folder, resolved.
    name : str
        A folder directly below it.
    file, where : str
        Who asks, for the error.

    Returns
    -------
    Part

    Raises
    ------
    ValueError
        Naming file, field and value: no such part, not an ONNX model, or data outside the folder.
    """
    onnx = need("onnx", "bridge")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{file}: {where} = {short(name)}: must be the name of a folder beside it")
    label, root = f"{name}/model.onnx", _validate.path("root", root)
    path = inside(root, root / name / "model.onnx", label)
    if not path.is_file():
        raise ValueError(f"{file}: {where} = {name!r}: {label} is missing")
    try:
        model = onnx.load_model(path, load_external_data=False)
        weights = {tensor.name for tensor in model.graph.initializer}
        inputs = {value.name: _port(onnx, value) for value in model.graph.input if value.name not in weights}
        outputs = {value.name: _port(onnx, value) for value in model.graph.output}
    except Exception as error:  # protobuf and onnx raise types of their own
        raise ValueError(f"{label}: not an ONNX model: {error}") from error
    if not inputs or not outputs:
        raise ValueError(f"{label}: not an ONNX model: it has {len(inputs)} inputs and {len(outputs)} outputs")
    check_external_data(onnx, model, root, root / name, label)
    return Part(name, path, MappingProxyType(inputs), MappingProxyType(outputs))


def check_external_data(onnx: Any, model: Any, root: Path, folder: Path, label: str) -> bool:
    """Whether a model that lies in `folder` keeps data in other files; each must be there and lie below `root`.

    Raises
    ------
    ValueError
        Naming `label` and the file.
    """
    found = False
    for tensor in external_tensors(onnx, model):
        location = {pair.key: pair.value for pair in tensor.external_data}.get("location", "")
        data = inside(root, folder / location, f"{label}: external data")
        if not data.is_file():
            raise ValueError(f"{label}: external data = {location!r}: missing")
        found = True
    return found


def _port(onnx: Any, value: Any) -> Port:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise ValueError(f"{value.name} is no tensor of known rank")
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return Port(value.name, dtype, shape)


def external_tensors(onnx: Any, model: Any) -> Iterator[Any]:
    """Every tensor of a model that keeps its data in another file."""
    holders = [model.graph, *model.functions]
    for training in model.training_info:
        holders += [training.initialization, training.algorithm]
    for holder in holders:
        for tensor in _tensors(holder):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                yield tensor


def _tensors(holder: Any) -> Iterator[Any]:
    """Tensors of a graph or a function, those in attributes of its nodes and in their bodies, too."""
    if hasattr(holder, "initializer"):
        yield from holder.initializer
        for sparse in holder.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    attributes = [attribute for node in holder.node for attribute in node.attribute]
    attributes += getattr(holder, "attribute_proto", ())
    for attribute in attributes:
        kind = attribute.type
        if kind in _PLAIN:
            continue
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for body in (attribute.g, *attribute.graphs):
            yield from _tensors(body)


@contextmanager
def stored_data(path: str | Path, form: Any, what: str) -> Iterator[dict[str, Any]]:
    """What a JSON file of this format holds; ValueError with its name for all that is wrong with it, also within the
    block: it is not `what` it should be.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if data["format"] != form:
            raise ValueError(f"format = {data['format']!r}: must be {form}")
        yield data
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise ValueError(f"{path}: not {what}: {error!r}") from error
