"""Types and sizes of the tensors of an ONNX network: by static inference, or as ONNX Runtime finds them in a pass."""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.network.bodies import OWN, read_by, within
from edgeinfer.network.dependence import data_dependent
from edgeinfer.network.elements import CROSSING, element_bits, element_name, numpy_name
from edgeinfer.network.feeds import FILLS, Missing, feeds_that_run, other_data
from edgeinfer.network.sessions import open_session, run_session, session_options

# Larger weights are left out of static inference: only small ones can hold shapes, axes and indices.
_SMALL_WEIGHT = 4096
# Operators whose sizes static inference is known to give otherwise than ONNX Runtime, and when.
_POOLS = ("AveragePool", "LpPool", "MaxPool")
_TERM = rb"[A-Za-z ]*(?:\.\.\.)?[A-Za-z ]*"
_EQUATION = re.compile(rb"%b(?:,%b)*(?:->%b)?" % (_TERM, _TERM, _TERM))
# Longest a pass may take, s.
_LONGEST = 300.0


@dataclass(frozen=True)
class Size:
    """Type and size of a tensor; see `Tensor`."""

    dtype: str
    shape: tuple[int, ...]
    stays: str = ""

    @property
    def bits(self) -> int:
        """The bits of all elements; 0 for what has no fixed number, such as strings."""
        return math.prod(self.shape) * element_bits(self.dtype)


def _weight_size(onnx: Any, tensor: Any) -> Size:
    """Of a stored tensor, dense or sparse."""
    element = (tensor.values if isinstance(tensor, onnx.SparseTensorProto) else tensor).data_type
    return Size(element_name(onnx, element), tuple(tensor.dims))


def _type_name(onnx: Any, kind: Any) -> str:
    """ONNX Runtime's name of a type that is no tensor's, and NumPy's of a tensor's elements; empty where unknown."""
    field = kind.WhichOneof("value")
    if field == "tensor_type":
        return element_name(onnx, kind.tensor_type.elem_type) if kind.tensor_type.elem_type else ""
    if field in ("sequence_type", "optional_type"):
        inner = _type_name(onnx, getattr(kind, field).elem_type)
        return f"{field[:3]}({inner})" if inner else ""
    return field or ""


def fixed_inputs(
    model: Any, shapes: Mapping[str, Any], feeds: Mapping[str, NDArray[Any]], label: str
) -> dict[str, Any]:
    """Descriptions of the inputs with every size set, from what is given and from sizes of the same name.

    Parameters
    ----------
    model : onnx.ModelProto
    shapes : mapping
        Of an input's name to its sizes, or of the name of a size to that size.
    feeds : mapping
        Data of inputs, whose sizes count as given.
    """
    weights = stored(model)
    values = {value.name: value for value in model.graph.input if value.name not in weights}
    if not isinstance(shapes, Mapping):
        raise ValueError(
            f"shapes = {_validate.shown(shapes)}: must be a mapping of {', '.join(map(repr, values))} to sizes"
        )
    shapes = dict(shapes)
    named: dict[str, int] = {}
    free = {dim.dim_param for value in values.values() for dim in value.type.tensor_type.shape.dim} - {""}
    for name in [name for name in shapes if name not in values]:
        if name not in free:
            known = ", ".join(map(repr, values)) + (
                f", or a size: {', '.join(map(repr, sorted(free)))}" if free else ""
            )
            raise ValueError(f"shapes[{name!r}] = {shapes[name]!r}: {label} has no such input; it has {known}")
        sizes = shapes.pop(name)
        size = sizes[0] if isinstance(sizes, tuple | list) and len(sizes) == 1 else sizes
        named[name] = _validate.whole(f"shapes[{name!r}]", size, 0)
    given = {name: _given(value, shapes.get(name), label) for name, value in values.items()}
    for name, array in feeds.items():
        if name in values:
            _check_feed(values[name], array)
        if name in values and isinstance(array, np.ndarray):
            found = _given(values[name], array.shape, label, "feeds")
            if given[name] not in (None, found):
                raise ValueError(f"feeds[{name!r}] of sizes {found}: must be {given[name]}, as shapes say")
            given[name] = found
    for name, sizes in given.items():
        dims = values[name].type.tensor_type.shape.dim
        for dim, size in zip(dims, sizes or (), strict=False):
            if dim.dim_param and size is not None:
                named.setdefault(dim.dim_param, size)
    return {name: _fixed(value, given[name], named, label) for name, value in values.items()}


def _check_feed(value: Any, data: Any) -> None:
    """Refuse by name what ONNX Runtime refuses without one: data of a tensor that is no array, or of another type."""
    kind = element_name(need("onnx", "bridge"), value.type.tensor_type.elem_type)
    known = value.type.HasField("tensor_type") and kind in CROSSING
    if known and (np.isscalar(data) or isinstance(data, list | tuple)):
        shown = _validate.shown(data)
    elif known and isinstance(data, np.ndarray) and data.dtype != kind:
        shown = f"{data.dtype} {list(data.shape)}"
    else:
        return
    raise ValueError(
        f"feeds[{value.name!r}] = {shown}: must be an array of {kind}, as `numpy.asarray(.., {kind!r})` makes one"
    )


def free_axes(model: Any, inputs: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Axes of inputs whose sizes the file leaves free; inputs without any are left out."""
    found = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        axes = tuple(axis for axis, dim in enumerate(dims) if not (dim.HasField("dim_value") and dim.dim_value >= 0))
        if value.name in inputs and axes:
            found[value.name] = axes
    return found


def _given(value: Any, shape: Any, label: str, argument: str = "shapes") -> tuple[int, ...] | None:
    """Sizes that were given for an input, checked against the file."""
    name = f"{argument}[{value.name!r}]"
    if shape is None:
        return None
    if not value.type.HasField("tensor_type"):
        raise ValueError(f"{name} = {shape!r}: {label}: input {value.name!r} is no tensor")
    try:
        sizes = tuple(_validate.whole(name, size, 0) for size in shape)
    except TypeError as error:
        raise ValueError(f"{name} = {shape!r}: must be whole numbers >= 0") from error
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return sizes
    if len(sizes) != len(tensor.shape.dim):
        raise ValueError(f"{name} = {sizes!r}: must have {len(tensor.shape.dim)} sizes")
    for dim, size in zip(tensor.shape.dim, sizes, strict=True):
        if dim.HasField("dim_value") and dim.dim_value >= 0 and dim.dim_value != size:
            raise ValueError(f"{name} = {sizes!r}: {label} fixes a size of {dim.dim_value}")
    return sizes


def _fixed(value: Any, sizes: tuple[int, ...] | None, named: Mapping[str, int], label: str) -> Any:
    fixed = type(value)()
    fixed.CopyFrom(value)
    tensor = fixed.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return fixed
    if sizes is not None and not tensor.HasField("shape"):
        tensor.shape.SetInParent()
        for _ in sizes:
            tensor.shape.dim.add()
    for position, dim in enumerate(tensor.shape.dim):
        if sizes is not None:
            dim.dim_value = sizes[position]
        elif dim.dim_param in named:
            dim.dim_value = named[dim.dim_param]
    if not tensor.HasField("shape") or any(
        not dim.HasField("dim_value") or dim.dim_value < 0 for dim in tensor.shape.dim
    ):
        free = [str(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?") for dim in tensor.shape.dim]
        example = str({value.name: tuple(int(size) if size.isdecimal() else 1 for size in free)}) if free else ""
        text = f"size of input {value.name!r} = (missing): {label} leaves [{', '.join(free)}] free"
        raise Missing(text, "shapes", example)
    return fixed


def stored(model: Any) -> dict[str, Any]:
    """Weights by name: each a TensorProto or a SparseTensorProto."""
    graph = model.graph
    return {tensor.name: tensor for tensor in graph.initializer} | {
        tensor.values.name: tensor for tensor in graph.sparse_initializer
    }


def infer_sizes(
    model: Any, inputs: Mapping[str, Any], feeds: Mapping[str, Any], label: str
) -> tuple[dict[str, Size], dict[str, Any]]:
    """Type and size of every tensor that is read or given, and data that inputs are known to take.

    Static inference says them where it can. Where it leaves one out, or is known to err, ONNX Runtime runs the network
    once without optimisation; a second pass on other data finds sizes that depend on the data, beside those that do by
    the operators that lead to them.

    Parameters
    ----------
    model : onnx.ModelProto
        What `load_model` gives.
    inputs : mapping of str to onnx.ValueInfoProto
        What `fixed_inputs` gives.
    feeds : mapping of str to ndarray
        Data of inputs; those that are left out are made up.
    label : str
        The name of the model, for errors.

    Raises
    ------
    ValueError
        What ONNX Runtime says where it does not run the network.
    """
    onnx = need("onnx", "bridge")
    _check_equations(model, label)
    weights = stored(model)
    used = {name for node in model.graph.node for name in read_by(node)} | {value.name for value in model.graph.output}
    wanted = {name for node in model.graph.node for name in node.output if name in used}
    known = _static(onnx, model, weights, inputs)
    sizes = {name: _weight_size(onnx, tensor) for name, tensor in weights.items()}
    for name, value in inputs.items():
        kind = value.type
        while (field := kind.WhichOneof("value")) in ("sequence_type", "optional_type"):
            kind = getattr(kind, field).elem_type
        sizes[name] = Size(_type_name(onnx, value.type), tuple(dim.dim_value for dim in kind.tensor_type.shape.dim))
    sizes |= {name: size for name, size in known.items() if name in wanted}
    taken = dict(feeds)
    if unknown := sorted(wanted - sizes.keys()):
        described = {name: sizes[name] for name in inputs}
        found, taken = _passes(onnx, model, described, feeds, unknown, known, label)
        sizes |= found
    return {name: _crossing(size) for name, size in sizes.items()}, taken


def _check_equations(model: Any, label: str) -> None:
    """Both static inference and ONNX Runtime read some equations of Einsum that are none for ever."""
    for node in within(model.graph.node, model.functions):
        for attribute in node.attribute if node.op_type == "Einsum" and node.domain in OWN else ():
            if attribute.name == "equation" and attribute.s and not _EQUATION.fullmatch(attribute.s):
                name = node.name or next(filter(None, node.output), node.op_type)
                shown = attribute.s[:80].decode("ascii", "backslashreplace")
                raise ValueError(
                    f"{label}: node {name!r} = Einsum: equation = {shown!r}: must be terms of letters and '...' joined "
                    "by commas, and '->' before that of the result"
                )


def _crossing(size: Size) -> Size:
    if not size.stays and size.dtype not in CROSSING:
        return Size(size.dtype, size.shape, f"it is of type {size.dtype}, which no message carries")
    return size


def _static(onnx: Any, model: Any, weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Size]:
    """What static inference knows for sure, from a copy of the model without its large weights."""
    sketch = onnx.ModelProto()
    sketch.ir_version = model.ir_version
    sketch.opset_import.extend(model.opset_import)
    sketch.functions.extend(model.functions)
    graph = sketch.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    graph.output.extend(model.graph.output)
    graph.input.extend(inputs.values())
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL_WEIGHT:
            graph.initializer.append(tensor)
        else:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            graph.input.append(value)
    try:
        onnx.checker.check_model(sketch)
        # Sizes that a file declares of its outputs are not always those that come out.
        for value in graph.output:
            value.type.tensor_type.ClearField("shape")
        inferred = onnx.shape_inference.infer_shapes(sketch, check_type=True, strict_mode=True, data_prop=True).graph
    except Exception:  # onnx raises types of its own; what it does not take ONNX Runtime may
        return {}
    sizes = {}
    for value in (*inferred.output, *inferred.value_info):
        tensor = value.type.tensor_type
        if value.type.HasField("tensor_type") and tensor.HasField("shape") and tensor.elem_type:
            dims = tensor.shape.dim
            if all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
                sizes[value.name] = Size(_type_name(onnx, value.type), tuple(dim.dim_value for dim in dims))
    return _trusted(onnx, model, sizes)


def _trusted(onnx: Any, model: Any, sizes: dict[str, Size]) -> dict[str, Size]:
    """Sizes but those behind an operator of which static inference is known to err."""
    if not any(node.op_type in _POOLS and _errs(node) for node in within(model.graph.node, model.functions)):
        return sizes
    doubted: set[str] = set()
    for node in model.graph.node:
        if any(_errs(inner) for inner in within([node], model.functions)) or doubted.intersection(node.input):
            doubted.update(node.output)
    return {name: size for name, size in sizes.items() if name not in doubted}


def _errs(node: Any) -> bool:
    return node.op_type in _POOLS and node.domain in OWN and any(a.name == "ceil_mode" and a.i for a in node.attribute)


def _passes(
    onnx: Any,
    model: Any,
    inputs: Mapping[str, Size],
    feeds: Mapping[str, Any],
    wanted: list[str],
    known: Collection[str],
    label: str,
) -> tuple[dict[str, Size], dict[str, Any]]:
    """Types and sizes of tensors as ONNX Runtime finds them in two passes, and the data of the first."""
    sketch = type(model)()
    sketch.CopyFrom(model)
    for node in sketch.graph.node:
        node.name = node.name or next(filter(None, node.output), "")
    del sketch.graph.output[:]
    sketch.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    session = open_session(sketch, label, session_options("disabled", None))
    types = {port.name: port.type for port in session.get_outputs()}

    def run(data: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        return _shapes(session, data, list(types), label)

    compared = _compared(onnx, model)
    taken, first = feeds_that_run(run, inputs, feeds, fills=(*FILLS, *compared))
    try:
        _, second = feeds_that_run(run, inputs, other_data(feeds), seed=1, fills=(0, 2, *compared, 1))
    except ValueError:
        # Then the operators alone tell what depends on the data.
        second = first
    moving = data_dependent(model, inputs, known)
    sizes = {}
    for name, kind in types.items():
        moves = name in moving or first[name] != second[name]
        sizes[name] = Size(_dtype_of(kind), first[name], "its size depends on the data" if moves else "")
    return sizes, taken


def _compared(onnx: Any, model: Any) -> tuple[int, ...]:
    """Whole numbers that the network compares something with, such as the sampling rates that it knows."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[int, None] = {}
    for node in model.graph.node:
        for name in node.input if node.op_type == "Equal" else ():
            tensor = weights.get(name)
            if tensor is not None and math.prod(tensor.dims) == 1 and tensor.data_type in (6, 7):
                found[int(onnx.numpy_helper.to_array(tensor).item())] = None
    return tuple(found)[:8]


def _dtype_of(kind: str) -> str:
    """`Size.dtype` of ONNX Runtime's name of a type.

    Examples
    --------
    >>> _dtype_of("tensor(float)"), _dtype_of("seq(tensor(int64))")
    ('float32', 'seq(int64)')
    """
    return re.sub(r"tensor\((\w+)\)", lambda found: numpy_name(found[1]), kind).replace("optional(", "opt(")


def _shapes(session: Any, feeds: Mapping[str, Any], names: list[str], label: str) -> dict[str, tuple[int, ...]]:
    """Shapes of outputs in one pass; () of what is no tensor."""
    runtime = need("onnxruntime", "bridge")
    if all(isinstance(value, np.ndarray) and value.dtype.kind in "fiub" for value in feeds.values()):
        values = {
            name: runtime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value).reshape(value.shape))
            for name, value in feeds.items()
        }
        results = run_session(session, values, label, names, seconds=_LONGEST, wrapped=True)
        return {
            name: tuple(value.shape()) if value.is_tensor() else () for name, value in zip(names, results, strict=True)
        }
    results = run_session(session, feeds, label, names, seconds=_LONGEST)
    return {
        name: value.shape if isinstance(value, np.ndarray) else () for name, value in zip(names, results, strict=True)
    }
