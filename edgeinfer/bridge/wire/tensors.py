"""Arrays as Open Inference Protocol tensors, and the checks that what comes from the wire has to pass."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer._extras import need

#: How long a stream may stay open without a request, s.
IDLE = 300.0

#: The models that an edge serves: up to the latent, and up to the image; and a network that may be cut.
PRIOR, GENERATE, NETWORK = "prior", "generate", "network"
#: Captions in one request, and steps of a stage.
BATCH, STEPS = 16, 1000
#: What gRPC puts before every message: a flag and a length.
PREFIX = 5

_NUMPY = {
    "BOOL": np.bool_,
    **{f"{kind}{size}": np.dtype(f"{kind.lower()}{size}").type for kind in ("UINT", "INT") for size in (8, 16, 32, 64)},
    **{f"FP{size}": np.dtype(f"float{size}").type for size in (16, 32, 64)},
}
_NAMES = {np.dtype(kind): name for name, kind in _NUMPY.items()}
_DTYPES = {name: np.dtype(kind) for name, kind in _NUMPY.items()}
_TYPED = {"FP32": "fp32_contents", "INT32": "int_contents", "INT64": "int64_contents", "BYTES": "bytes_contents"}


def service() -> Any:
    """The protocol's messages, as tritonclient ships them."""
    return need("tritonclient.grpc.service_pb2", "bridge")


def stubs() -> Any:
    """The protocol's service, as tritonclient ships it."""
    return need("tritonclient.grpc.service_pb2_grpc", "bridge")


def datatype(dtype: Any) -> str:
    """The protocol's name of a NumPy type.

    Examples
    --------
    >>> datatype("float32"), datatype(bool)
    ('FP32', 'BOOL')
    """
    name = _NAMES.get(np.dtype(dtype))
    if name is None:
        raise ValueError(f"dtype = {np.dtype(dtype)}: must be one of {', '.join(str(kind) for kind in _NAMES)}")
    return name


def size(message: Any) -> int:
    """Bytes of a message with gRPC's prefix."""
    return int(message.ByteSize()) + PREFIX


def request(model: str, identifier: str, arrays: Mapping[str, Any], parameters: Mapping[str, Any]) -> Any:
    """A ModelInferRequest; arrays of str become BYTES.

    Examples
    --------
    >>> tensors = {"caption": np.array(["a red circle"]), "seed": np.array([1])}
    >>> message = request("prior", "a1", tensors, {"wire": "uint8"})
    >>> arrays(message.inputs, message.raw_input_contents)["caption"]
    array(['a red circle'], dtype='<U12')
    """
    message = service().ModelInferRequest(model_name=model, id=identifier)
    _fill(message.parameters, parameters)
    for name, array in arrays.items():
        text = array.dtype.kind == "U"
        message.inputs.add(name=name, datatype="BYTES" if text else _NAMES[array.dtype], shape=array.shape)
        message.raw_input_contents.append(_text_bytes(array) if text else array.tobytes())
    return message


def response(
    model: str,
    identifier: str,
    arrays: Mapping[str, NDArray[Any]],
    parameters: Mapping[str, Any],
    version: str = "1",
) -> Any:
    """A ModelInferResponse."""
    message = service().ModelInferResponse(model_name=model, model_version=version, id=identifier)
    _fill(message.parameters, parameters)
    for name, array in arrays.items():
        message.outputs.add(name=name, datatype=_NAMES[array.dtype], shape=array.shape)
        message.raw_output_contents.append(array.tobytes())
    return message


def _fill(target: Any, parameters: Mapping[str, Any]) -> None:
    fields = {bool: "bool_param", int: "int64_param", str: "string_param"}
    for name, value in parameters.items():
        setattr(target[name], fields[type(value)], value)


def parameters(message: Any) -> dict[str, Any]:
    """A message's parameters as a dictionary."""
    found = ((name, value, value.WhichOneof("parameter_choice")) for name, value in message.parameters.items())
    return {name: getattr(value, field) for name, value, field in found if field}


def arrays(tensors: Iterable[Any], raw: Any) -> dict[str, NDArray[Any]]:
    """Arrays by name, from raw contents or typed ones; BYTES become str.

    Raises
    ------
    ValueError
        Naming the tensor and what is wrong: type, shape, length, encoding, or a name given twice.
    """
    tensors, raw = list(tensors), list(raw)
    if len(raw) not in (0, len(tensors)):
        raise ValueError(f"raw contents: {len(raw)} for {len(tensors)} tensors: must be none or one each")
    found: dict[str, NDArray[Any]] = {}
    for number, tensor in enumerate(tensors):
        if tensor.name in found:
            raise ValueError(f"tensor {tensor.name!r}: given twice")
        found[tensor.name] = _array(tensor, raw[number] if raw else None)
    return found


def _array(tensor: Any, raw: bytes | None) -> NDArray[Any]:
    what, shape, datatype = f"tensor {tensor.name!r}", tuple(tensor.shape), tensor.datatype
    kind = _DTYPES.get(datatype)
    if kind is None and datatype != "BYTES":
        raise ValueError(f"{what}: datatype = {datatype!r}: must be one of {', '.join((*_NUMPY, 'BYTES'))}")
    if min(shape, default=0) < 0:
        raise ValueError(f"{what}: shape {list(shape)}: must not be negative")
    count = math.prod(shape)
    values: Any
    if kind is None:
        parts = _text_parts(what, raw) if raw is not None else list(tensor.contents.bytes_contents)
        try:
            values = np.array([part.decode() for part in parts])
        except UnicodeDecodeError:
            raise ValueError(f"{what}: must be UTF-8") from None
    elif raw is not None:
        if len(raw) != count * kind.itemsize:
            raise ValueError(f"{what}: {len(raw)} bytes: shape {list(shape)} must have {count * kind.itemsize}")
        values = np.frombuffer(raw, kind)
    else:
        field = _TYPED.get(datatype)
        if field is None:
            raise ValueError(f"{what}: datatype = {datatype!r}: must come as raw contents")
        values = np.array(getattr(tensor.contents, field), kind)
    if len(values) != count:
        raise ValueError(f"{what}: {len(values)} elements: shape {list(shape)} must have {count}")
    return values.reshape(shape)


def _text_bytes(array: NDArray[Any]) -> bytes:
    parts = [text.encode() for text in array.ravel().tolist()]
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


def _text_parts(what: str, raw: bytes) -> list[bytes]:
    parts, offset = [], 0
    while offset < len(raw):
        length = int.from_bytes(raw[offset : offset + 4], "little")
        offset += 4 + length
        if offset > len(raw):
            raise ValueError(f"{what}: truncated")
        parts.append(raw[offset - length : offset])
    return parts
