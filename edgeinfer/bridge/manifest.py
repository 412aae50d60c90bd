"""A folder of ONNX networks read as a cascade: what runs where, with which ports, and whether the files agree."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeinfer._extras import need
from edgeinfer.bridge.schedulers import SAMPLERS, Scheduler

FORMAT = 1
#: What may cross the wire, and the bits of one element.
WIRE_BITS = MappingProxyType({"float32": 32, "float16": 16, "uint8": 8})
#: What a port of a network is for: the noisy sample, its time step, the text's context, what the network before gave.
ROLES = ("sample", "timestep", "context", "image")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_FLOATS = ("float32", "float16", "float64")
_INTEGERS = ("int64", "int32")
# Values of diffusers' Stable Diffusion where a configuration leaves them out.
_STABLE_DIFFUSION_GUIDANCE = 7.5
_STABLE_DIFFUSION_SCALING = 0.18215


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


@dataclass(frozen=True)
class Part:
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


@dataclass(frozen=True)
class Text:
    """How captions become contexts.

    Attributes
    ----------
    part : Part
    input, output : str
        Ports: token ids (B, L), context (B, L, d).
    tokenizer : Path
        Folder of the tokenizer's files.
    length : int or None
        L where the file fixes it.
    """

    part: Part
    input: str
    output: str
    tokenizer: Path
    length: int | None


@dataclass(frozen=True)
class Network:
    """A network of a stage.

    Attributes
    ----------
    part : Part
    shape : tuple of int
        Of one output, without the batch.
    ports : mapping of role to str
        Names of the inputs; roles are sample, timestep, context, image. `image` takes what the network before gave.
    output : str
    scale, shift : float
        `image` is fed as scale * image + shift.
    """

    part: Part
    shape: tuple[int, ...]
    ports: Mapping[str, str]
    output: str
    scale: float = 1.0
    shift: float = 0.0

    @property
    def iterative(self) -> bool:
        """Whether it denoises step by step; otherwise it runs once."""
        return "timestep" in self.ports


@dataclass(frozen=True)
class Stage:
    """Networks that run one after another in one place.

    Attributes
    ----------
    name : "prior" or "decode"
    place : "edge" or "device"
    guidance : float
        GS of the paper's (2), unless the caller says otherwise. 1 is the conditional pass alone.
    null : mapping of role to float or str
        The null condition: a port's constant value, or the caption whose context it is; other ports keep what they
        are given. Empty: no guidance.
    networks : tuple of Network
    """

    name: str
    place: str
    guidance: float
    null: Mapping[str, float | str]
    networks: tuple[Network, ...]

    @property
    def guided(self) -> bool:
        """Whether guidance can be chosen."""
        return bool(self.null)

    @property
    def iterative(self) -> bool:
        """Whether it takes a number of steps; otherwise each network runs once."""
        return any(network.iterative for network in self.networks)

    def passes(self, guidance: float | None = None) -> int:
        """Network passes a step: 2 under guidance, 1 without."""
        return 2 if self.guided and (self.guidance if guidance is None else guidance) != 1 else 1

    def encodings(self, guidance: float | None = None) -> int:
        """Passes of the text encoder: one if a network takes the context, another if the null condition is a caption."""
        if not any("context" in network.ports for network in self.networks):
            return 0
        return self.passes(guidance) if isinstance(self.null.get("context"), str) else 1


@dataclass(frozen=True)
class Wire:
    """What crosses the link in split inference.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Of one latent, without the batch.
    dtype : "float32", "float16" or "uint8"
        How it travels unless the caller says otherwise.
    range : tuple of float or None
        Interval that uint8 quantises; None: uint8 is not offered.
    bits : mapping of str to int
        Of one latent, for each type that is offered.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    range: tuple[float, float] | None
    bits: Mapping[str, int]


@dataclass(frozen=True)
class Image:
    """What comes out.

    Attributes
    ----------
    shape : tuple of int
        Channels, height, width.
    range : tuple of float
        Values of black and of full intensity.
    bits : int
        Of one image, 8 a channel.
    """

    shape: tuple[int, ...]
    range: tuple[float, float]
    bits: int


@dataclass(frozen=True)
class Flops:
    """Cost of one pass of batch 1, FLOP (two a multiply-add); guidance's second pass is not in it.

    Attributes
    ----------
    encoder, prior_step, feature, decode_step : float
        Text encoder on the edge, each prior network once, text encoder on the device, each decode network once.
    """

    encoder: float
    prior_step: float
    feature: float
    decode_step: float


@dataclass(frozen=True)
class Manifest:
    """A cascade as its folder describes it, checked against the ONNX files.

    Attributes
    ----------
    folder : Path
    name : str
    text : Text
    stages : tuple of Stage
        prior on the edge, decode on the device.
    scheduler : Scheduler
    sampler : "ddim" or "ddpm"
    wire : Wire
    image : Image
    flops : Flops or None
        None where the folder does not say; `bridge.count_flops` counts.
    provenance : mapping
        How the weights came to be, as the folder tells it.
    """

    folder: Path
    name: str
    text: Text
    stages: tuple[Stage, Stage]
    scheduler: Scheduler
    sampler: str
    wire: Wire
    image: Image
    flops: Flops | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prior(self) -> Stage:
        """The stage on the edge."""
        return self.stages[0]

    @property
    def decode(self) -> Stage:
        """The stage on the device."""
        return self.stages[1]


def read_manifest(folder: str | Path) -> Manifest:
    """Read and check a model folder.

    Parameters
    ----------
    folder : path
        With a `cascade.json`; or as Optimum exports Stable Diffusion: model_index.json, text_encoder, unet,
        vae_decoder, scheduler, tokenizer.

    Raises
    ------
    ValueError
        Naming the file, the field, its value and what is allowed: a missing or malformed file, a value out of range,
        ports that the ONNX files lack or that have another rank, type or size, a path or link that leaves the folder.
    ImportError
        Without the `bridge` extra.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"folder = {str(folder)!r}: must be a folder with a cascade.json or a model_index.json")
    root = root.resolve()
    if (root / "cascade.json").exists():
        return _cascade(root)
    if (root / "model_index.json").exists():
        return _stable_diffusion(root)
    raise ValueError(f"folder = {str(folder)!r}: must hold a cascade.json or a model_index.json")


class _Object:
    """A JSON object that knows its file and its place in it, so that each complaint can name them."""

    def __init__(self, file: str, value: Any, where: str = "") -> None:
        self.file, self.where, self.value = file, where, value
        if not isinstance(value, dict):
            raise ValueError(f"{file}: {where or 'the whole'} = {_short(value)}: must be an object")

    def field(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def fail(self, key: str, allowed: str) -> ValueError:
        shown = _short(self.value[key]) if key in self.value else "(missing)"
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
        if not _is_number(value) or value < low:
            raise self.fail(key, "a finite number" + (f" >= {low:g}" if low > -math.inf else ""))
        return float(value)

    def whole(self, key: str, low: int = 1) -> int:
        value = self.get(key)
        if not _is_whole(value) or value < low:
            raise self.fail(key, f"a whole number >= {low}")
        return value

    def shape(self, key: str) -> tuple[int, ...]:
        value = self.get(key)
        if not isinstance(value, list) or len(value) != 3 or not all(_is_whole(size) and size > 0 for size in value):
            raise self.fail(key, "[channels, height, width], whole numbers > 0")
        return tuple(value)

    def interval(self, key: str) -> tuple[float, float]:
        value = self.get(key)
        if not isinstance(value, list) or len(value) != 2 or not all(map(_is_number, value)) or value[0] >= value[1]:
            raise self.fail(key, "[low, high], finite, low < high")
        return float(value[0]), float(value[1])

    def object(self, key: str) -> "_Object":
        return _Object(self.file, self.get(key), self.field(key))

    def objects(self, key: str) -> list["_Object"]:
        value = self.get(key)
        if not isinstance(value, list) or not value:
            raise self.fail(key, "a list with at least one object")
        return [_Object(self.file, item, f"{self.field(key)}[{i}]") for i, item in enumerate(value)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names))


def _inside(root: Path, path: Path, what: str) -> Path:
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
    path = _inside(root, root / name, name)
    if not path.is_file():
        raise ValueError(f"{name}: missing in {str(root)!r}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: not JSON: {error}") from error
    return _Object(name, value).value


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
        raise ValueError(f"{file}: {where} = {_short(name)}: must be the name of a folder beside it")
    label = f"{name}/model.onnx"
    path = _inside(root, root / name / "model.onnx", label)
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
    for tensor in _external(onnx, model):
        location = {pair.key: pair.value for pair in tensor.external_data}.get("location", "")
        data = _inside(root, folder / location, f"{label}: external data")
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


def _external(onnx: Any, message: Any) -> Iterator[Any]:
    """Every tensor below a protobuf message that keeps its data in another file."""
    if isinstance(message, onnx.TensorProto):
        if message.data_location == onnx.TensorProto.EXTERNAL:
            yield message
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for item in value if _repeated(value) else [value]:
                yield from _external(onnx, item)


def _repeated(value: Any) -> bool:
    return not hasattr(value, "ListFields")


def _fits(sizes: tuple[int | None, ...], wanted: tuple[int | None, ...]) -> bool:
    """Whether a port of `sizes` takes arrays of `wanted` sizes; the first, the batch, must be free."""
    pairs = zip(sizes, wanted, strict=False)
    return (
        len(sizes) == len(wanted)
        and sizes[0] is None
        and all(size is None or want is None or size == want for size, want in pairs)
    )


def _shown(sizes: tuple[int | None, ...]) -> str:
    names = ["free" if size is None else str(size) for size in sizes]
    return f"[{', '.join(names)}]"


def _require(part: Part, port: Port, sizes: tuple[int | None, ...], dtypes: Sequence[str]) -> None:
    if port.dtype not in dtypes:
        raise ValueError(
            f"{part.name}/model.onnx: type of {port.name!r} = {port.dtype!r}: must be one of {_listed(dtypes)}"
        )
    if not _fits(port.shape, sizes):
        raise ValueError(
            f"{part.name}/model.onnx: shape of {port.name!r} = {_shown(port.shape)}: must be {_shown(sizes)}"
        )


def _check_text(text: Text) -> tuple[int | None, ...]:
    """The context's sizes without the batch."""
    _require(text.part, text.part.inputs[text.input], (None, text.length), _INTEGERS)
    output = text.part.outputs[text.output]
    _require(text.part, output, (None, text.length, None), _FLOATS)
    return text.length, output.shape[2]


def _check_network(network: Network, context: tuple[int | None, ...], previous: tuple[int, ...] | None) -> None:
    part = network.part
    wanted: dict[str, tuple[int | None, ...]] = {
        "sample": (None, *network.shape),
        "context": (None, *context),
        "image": (None, *(previous or ())),
    }
    for role, name in network.ports.items():
        port = part.inputs[name]
        if role != "timestep":
            _require(part, port, wanted[role], _FLOATS)
        elif port.dtype not in _INTEGERS + _FLOATS or port.shape not in ((), (1,), (None,)):
            raise ValueError(
                f"{part.name}/model.onnx: {name!r} = {port.dtype} {_shown(port.shape)}: must be a number for each element"
            )
    _require(part, part.outputs[network.output], (None, *network.shape), _FLOATS)


def _cascade(root: Path) -> Manifest:
    data = _Object("cascade.json", read_json(root, "cascade.json"))
    if data.get("format") != FORMAT or isinstance(data.get("format"), bool):
        raise data.fail("format", str(FORMAT))
    text = _text(root, data.object("text"))
    context = _check_text(text)
    stages = data.objects("stages")
    if len(stages) != 2:
        raise ValueError(f"cascade.json: stages: {len(stages)} of them: must be two, prior and decode")
    prior = _stage(root, stages[0], "prior", "edge", context, None)
    wire = _wire(data.object("wire"), prior.networks[-1].shape)
    decode = _stage(root, stages[1], "decode", "device", context, wire.shape)
    image = _image(data.object("image"), decode.networks[-1].shape)
    provenance = data.get("provenance", {})
    if not isinstance(provenance, dict):
        raise data.fail("provenance", "an object")
    return Manifest(
        folder=root,
        name=data.text("name"),
        text=text,
        stages=(prior, decode),
        scheduler=_scheduler(root, _folder(root, data, "scheduler")),
        sampler=data.text("sampler", SAMPLERS, "ddim"),
        wire=wire,
        image=image,
        flops=_flops(data.object("flops")) if "flops" in data.value else None,
        provenance=MappingProxyType(provenance),
    )


def _folder(root: Path, data: _Object, key: str) -> str:
    name = data.text(key)
    if not _NAME.fullmatch(name):
        raise data.fail(key, "the name of a folder beside it")
    if not _inside(root, root / name, f"{data.file}: {data.field(key)}").is_dir():
        raise data.fail(key, "a folder that is there")
    return name


def _scheduler(root: Path, name: str) -> Scheduler:
    file = f"{name}/scheduler_config.json"
    config = read_json(root, file)
    try:
        return Scheduler.from_config(config)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: {error}") from error


def _named(data: _Object, key: str, name: str, ports: Mapping[str, Port], part: Part, kind: str) -> str:
    if name not in ports:
        raise data.fail(key, f"an {kind} of {part.name}/model.onnx: {_listed(ports)}")
    return name


def _text(root: Path, data: _Object) -> Text:
    part = read_part(root, data.text("part"), data.file, data.field("part"))
    source = _named(data, "input", data.text("input", default="input_ids"), part.inputs, part, "input")
    output = _named(data, "output", data.text("output", default="last_hidden_state"), part.outputs, part, "output")
    if set(part.inputs) != {source}:
        raise ValueError(f"{part.name}/model.onnx: inputs = {_listed(part.inputs)}: must be {source!r} alone")
    name = _folder(root, data, "tokenizer")
    vocabulary = _Object(f"{name}/vocab.json", read_json(root, f"{name}/vocab.json"))
    return Text(part, source, output, root / name, vocabulary.whole("length"))


def _stage(
    root: Path,
    data: _Object,
    name: str,
    place: str,
    context: tuple[int | None, ...],
    previous: tuple[int, ...] | None,
) -> Stage:
    data.text("name", (name,))
    data.text("place", (place,))
    networks = []
    for item in data.objects("networks"):
        networks.append(_network(root, item, context, previous))
        previous = networks[-1].shape
    null: dict[str, float | str] = {}
    roles = {role for network in networks for role in network.ports}
    if data.get("null") is not None:
        values = data.object("null")
        for role in values.value:
            if role not in roles & {"context", "image"}:
                raise values.fail(role, "given for a port of the stage's networks, context or image")
            is_caption = role == "context" and isinstance(values.get(role), str)
            null[role] = values.get(role) if is_caption else values.number(role)
    guidance = data.number("guidance", 1.0, 0)
    if guidance != 1 and not null:
        raise data.fail("guidance", "1 where there is no null condition")
    stage = Stage(name, place, guidance, MappingProxyType(null), tuple(networks))
    if "passes" in data.value and data.whole("passes") != stage.passes():
        raise data.fail("passes", f"{stage.passes()}, what its guidance takes")
    return stage


def _network(root: Path, data: _Object, context: tuple[int | None, ...], previous: tuple[int, ...] | None) -> Network:
    part = read_part(root, data.text("part"), data.file, data.field("part"))
    ports = data.object("ports")
    for role in ports.value:
        if role not in ROLES or (role == "image" and previous is None):
            raise ports.fail(role, f"left out: ports are {_listed(ROLES)}, and the first network has no image")
        _named(ports, role, ports.text(role), part.inputs, part, "input")
    names = ports.value
    if set(names.values()) != set(part.inputs) or len(set(names.values())) != len(names):
        raise data.fail("ports", f"each of {_listed(part.inputs)}, the inputs of {part.name}/model.onnx, once")
    if ("sample" in names) != ("timestep" in names) or not {"sample", "image"} & set(names):
        raise data.fail("ports", "sample and timestep (a network that denoises), or image without them (one pass)")
    output = _named(data, "output", data.text("output"), part.outputs, part, "output")
    network = Network(
        part,
        data.shape("shape"),
        MappingProxyType(dict(names)),
        output,
        data.number("scale", 1.0),
        data.number("shift", 0.0),
    )
    _check_network(network, context, previous)
    return network


def _wire(data: _Object, shape: tuple[int, ...]) -> Wire:
    if data.shape("shape") != shape:
        raise data.fail("shape", f"{list(shape)}, as the last prior network gives it")
    interval = None if data.get("range") is None else data.interval("range")
    bits = data.object("bits")
    for dtype in bits.value:
        if dtype not in WIRE_BITS or (dtype == "uint8" and interval is None):
            raise bits.fail(dtype, f"for one of {_listed(WIRE_BITS)}, and uint8 needs a range")
        if bits.whole(dtype) != math.prod(shape) * WIRE_BITS[dtype]:
            raise bits.fail(dtype, f"{math.prod(shape) * WIRE_BITS[dtype]}, what the shape takes")
    if not bits.value:
        raise data.fail("bits", f"given for at least one of {_listed(WIRE_BITS)}")
    dtype = data.text("dtype", tuple(bits.value))
    return Wire(data.text("name"), shape, dtype, interval, MappingProxyType(dict(bits.value)))


def _image(data: _Object, shape: tuple[int, ...]) -> Image:
    if data.shape("shape") != shape or shape[0] != 3:
        raise data.fail("shape", f"{[3, *shape[1:]]}, as the last decode network gives it")
    if data.whole("bits") != math.prod(shape) * 8:
        raise data.fail("bits", f"{math.prod(shape) * 8}, what the shape takes at 8 a channel")
    return Image(shape, data.interval("range"), data.whole("bits"))


def _flops(data: _Object) -> Flops:
    return Flops(*(data.number(name, low=0) for name in ("encoder", "prior_step", "feature", "decode_step")))


def _stable_diffusion(root: Path) -> Manifest:
    index = _Object("model_index.json", read_json(root, "model_index.json"))
    for name in ("text_encoder", "unet", "vae_decoder", "scheduler", "tokenizer"):
        if name not in index.value or not (root / name).is_dir():
            raise index.fail(name, "there, and a folder, where there is no cascade.json")
    text_part, unet, vae = (read_part(root, name, index.file, name) for name in ("text_encoder", "unet", "vae_decoder"))
    text = Text(
        text_part,
        _only(text_part, "input", text_part.inputs, (2,)),
        _first(text_part, text_part.outputs, 3),
        _inside(root, root / "tokenizer", "tokenizer"),
        text_part.inputs[_only(text_part, "input", text_part.inputs, (2,))].shape[1],
    )
    context = _check_text(text)
    ports = {
        "sample": _only(unet, "input", unet.inputs, (4,)),
        "timestep": _only(unet, "input", unet.inputs, (0, 1)),
        "context": _only(unet, "input", unet.inputs, (3,)),
    }
    if set(ports.values()) != set(unet.inputs):
        raise ValueError(
            f"unet/model.onnx: inputs = {_listed(unet.inputs)}: must be sample, time step and context alone"
        )
    unet_config = _Object("unet/config.json", read_json(root, "unet/config.json"))
    vae_config = _Object("vae_decoder/config.json", read_json(root, "vae_decoder/config.json"))
    size = unet_config.get("sample_size")
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(_is_whole(side) and side > 0 for side in sides):
        raise unet_config.fail("sample_size", "a whole number > 0, or two")
    latent = (unet_config.whole("in_channels"), *sides)
    blocks = vae_config.get("block_out_channels")
    if not isinstance(blocks, list) or not blocks:
        raise vae_config.fail("block_out_channels", "a list")
    scale = 2 ** (len(blocks) - 1)
    image = (3, sides[0] * scale, sides[1] * scale)
    scaling = vae_config.number("scaling_factor", _STABLE_DIFFUSION_SCALING)
    if scaling == 0:
        raise vae_config.fail("scaling_factor", "a finite number, not 0")
    shift = 0.0 if vae_config.get("shift_factor") is None else vae_config.number("shift_factor")
    network = Network(unet, latent, MappingProxyType(ports), _only(unet, "output", unet.outputs, (4,)))
    decoder = Network(
        vae,
        image,
        MappingProxyType({"image": _only(vae, "input", vae.inputs, (4,))}),
        _only(vae, "output", vae.outputs, (4,)),
        1 / scaling,
        shift,
    )
    _check_network(network, context, None)
    _check_network(decoder, context, latent)
    bits = {dtype: math.prod(latent) * WIRE_BITS[dtype] for dtype in ("float32", "float16")}
    config = read_json(root, "scheduler/scheduler_config.json")
    return Manifest(
        folder=root,
        name=index.text("_class_name", default=root.name),
        text=text,
        stages=(
            Stage("prior", "edge", _STABLE_DIFFUSION_GUIDANCE, MappingProxyType({"context": ""}), (network,)),
            Stage("decode", "device", 1.0, MappingProxyType({}), (decoder,)),
        ),
        scheduler=_scheduler(root, "scheduler"),
        sampler="ddpm" if config.get("_class_name") == "DDPMScheduler" else "ddim",
        wire=Wire("latent", latent, "float32", None, MappingProxyType(bits)),
        image=Image(image, (-1.0, 1.0), math.prod(image) * 8),
    )


def _only(part: Part, kind: str, ports: Mapping[str, Port], ranks: tuple[int, ...]) -> str:
    names = [port.name for port in ports.values() if len(port.shape) in ranks]
    if len(names) != 1:
        raise ValueError(
            f"{part.name}/model.onnx: {kind}s of rank {' or '.join(map(str, ranks))} = [{_listed(names)}]: must be one"
        )
    return names[0]


def _first(part: Part, ports: Mapping[str, Port], rank: int) -> str:
    for port in ports.values():
        if len(port.shape) == rank:
            return port.name
    raise ValueError(f"{part.name}/model.onnx: outputs = [{_listed(ports)}]: must have one of rank {rank}")
