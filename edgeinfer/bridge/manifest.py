"""A folder of ONNX networks read as a cascade: what runs where, with which ports, and whether the files agree."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeinfer import _validate
from edgeinfer.bridge.schedulers import SAMPLERS, Scheduler
from edgeinfer.network.files import _NAME, JsonObject, Part, Port, inside, is_whole, listed, read_json, read_part

FORMAT = 1
#: What may cross the wire, and the bits of one element.
WIRE_BITS = MappingProxyType({"float32": 32, "float16": 16, "uint8": 8})
#: What a port of a network is for: the noisy sample, its time step, the text's context, what the network before gave.
ROLES = ("sample", "timestep", "context", "image")
_FLOATS = ("float32", "float16", "float64")
_INTEGERS = ("int64", "int32")
# Values of diffusers' Stable Diffusion where a configuration leaves them out.
_STABLE_DIFFUSION_GUIDANCE = 7.5
_STABLE_DIFFUSION_SCALING = 0.18215


@dataclass(frozen=True, eq=False)
class Text(_validate.Value):
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


@dataclass(frozen=True, eq=False)
class Network(_validate.Value):
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


@dataclass(frozen=True, eq=False)
class Stage(_validate.Value):
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


@dataclass(frozen=True, eq=False)
class Wire(_validate.Value):
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


@dataclass(frozen=True, eq=False)
class Manifest(_validate.Value):
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
            f"{part.name}/model.onnx: type of {port.name!r} = {port.dtype!r}: must be one of {listed(dtypes)}"
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
    data = JsonObject("cascade.json", read_json(root, "cascade.json"))
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


def _folder(root: Path, data: JsonObject, key: str) -> str:
    name = data.text(key)
    if not _NAME.fullmatch(name):
        raise data.fail(key, "the name of a folder beside it")
    if not inside(root, root / name, f"{data.file}: {data.field(key)}").is_dir():
        raise data.fail(key, "a folder that is there")
    return name


def _scheduler(root: Path, name: str) -> Scheduler:
    file = f"{name}/scheduler_config.json"
    config = read_json(root, file)
    try:
        return Scheduler.from_config(config)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: {error}") from error


def _named(data: JsonObject, key: str, name: str, ports: Mapping[str, Port], part: Part, kind: str) -> str:
    if name not in ports:
        raise data.fail(key, f"an {kind} of {part.name}/model.onnx: {listed(ports)}")
    return name


def _text(root: Path, data: JsonObject) -> Text:
    part = read_part(root, data.text("part"), data.file, data.field("part"))
    source = _named(data, "input", data.text("input", default="input_ids"), part.inputs, part, "input")
    output = _named(data, "output", data.text("output", default="last_hidden_state"), part.outputs, part, "output")
    if set(part.inputs) != {source}:
        raise ValueError(f"{part.name}/model.onnx: inputs = {listed(part.inputs)}: must be {source!r} alone")
    name = _folder(root, data, "tokenizer")
    vocabulary = JsonObject(f"{name}/vocab.json", read_json(root, f"{name}/vocab.json"))
    return Text(part, source, output, root / name, vocabulary.whole("length"))


def _stage(
    root: Path,
    data: JsonObject,
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


def _network(
    root: Path, data: JsonObject, context: tuple[int | None, ...], previous: tuple[int, ...] | None
) -> Network:
    part = read_part(root, data.text("part"), data.file, data.field("part"))
    ports = data.object("ports")
    for role in ports.value:
        if role not in ROLES or (role == "image" and previous is None):
            raise ports.fail(role, f"left out: ports are {listed(ROLES)}, and the first network has no image")
        _named(ports, role, ports.text(role), part.inputs, part, "input")
    names = ports.value
    if set(names.values()) != set(part.inputs) or len(set(names.values())) != len(names):
        raise data.fail("ports", f"each of {listed(part.inputs)}, the inputs of {part.name}/model.onnx, once")
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


def _wire(data: JsonObject, shape: tuple[int, ...]) -> Wire:
    if data.shape("shape") != shape:
        raise data.fail("shape", f"{list(shape)}, as the last prior network gives it")
    interval = None if data.get("range") is None else data.interval("range")
    bits = data.object("bits")
    for dtype in bits.value:
        if dtype not in WIRE_BITS or (dtype == "uint8" and interval is None):
            raise bits.fail(dtype, f"for one of {listed(WIRE_BITS)}, and uint8 needs a range")
        if bits.whole(dtype) != math.prod(shape) * WIRE_BITS[dtype]:
            raise bits.fail(dtype, f"{math.prod(shape) * WIRE_BITS[dtype]}, what the shape takes")
    if not bits.value:
        raise data.fail("bits", f"given for at least one of {listed(WIRE_BITS)}")
    dtype = data.text("dtype", tuple(bits.value))
    return Wire(data.text("name"), shape, dtype, interval, MappingProxyType(dict(bits.value)))


def _image(data: JsonObject, shape: tuple[int, ...]) -> Image:
    if data.shape("shape") != shape or shape[0] != 3:
        raise data.fail("shape", f"{[3, *shape[1:]]}, as the last decode network gives it")
    if data.whole("bits") != math.prod(shape) * 8:
        raise data.fail("bits", f"{math.prod(shape) * 8}, what the shape takes at 8 a channel")
    return Image(shape, data.interval("range"), data.whole("bits"))


def _flops(data: JsonObject) -> Flops:
    return Flops(*(data.number(name, low=0) for name in ("encoder", "prior_step", "feature", "decode_step")))


def _stable_diffusion(root: Path) -> Manifest:
    index = JsonObject("model_index.json", read_json(root, "model_index.json"))
    for name in ("text_encoder", "unet", "vae_decoder", "scheduler", "tokenizer"):
        if name not in index.value or not (root / name).is_dir():
            raise index.fail(name, "there, and a folder, where there is no cascade.json")
    text_part, unet, vae = (read_part(root, name, index.file, name) for name in ("text_encoder", "unet", "vae_decoder"))
    text = Text(
        text_part,
        _only(text_part, "input", text_part.inputs, (2,)),
        _first(text_part, text_part.outputs, 3),
        inside(root, root / "tokenizer", "tokenizer"),
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
            f"unet/model.onnx: inputs = {listed(unet.inputs)}: must be sample, time step and context alone"
        )
    unet_config = JsonObject("unet/config.json", read_json(root, "unet/config.json"))
    vae_config = JsonObject("vae_decoder/config.json", read_json(root, "vae_decoder/config.json"))
    size = unet_config.get("sample_size")
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(is_whole(side) and side > 0 for side in sides):
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
            f"{part.name}/model.onnx: {kind}s of rank {' or '.join(map(str, ranks))} = [{listed(names)}]: must be one"
        )
    return names[0]


def _first(part: Part, ports: Mapping[str, Port], rank: int) -> str:
    for port in ports.values():
        if len(port.shape) == rank:
            return port.name
    raise ValueError(f"{part.name}/model.onnx: outputs = [{listed(ports)}]: must have one of rank {rank}")
