"""A folder of ONNX networks read as a cascade, and checked against what the files say."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from edgeinfer import _identity, _validate
from edgeinfer._files import digest
from edgeinfer.bridge.cascade.manifest import (
    ROLES,
    WIRE_BITS,
    CascadeNetwork,
    CascadeStage,
    Flops,
    Image,
    Manifest,
    Text,
    Wire,
    check_network,
    check_text,
    read_scheduler,
)
from edgeinfer.bridge.cascade.schedulers import SAMPLERS
from edgeinfer.bridge.cascade.stable_diffusion import read_stable_diffusion
from edgeinfer.network.files import _NAME, JsonObject, Part, Port, inside, listed, read_json, read_part

FORMAT = 1


class Painter:
    """What holds sessions of the networks that a manifest names."""

    manifest: Manifest

    @property
    def store_identity(self) -> str:
        """What its images depend on: the digest of its manifest and of what its networks and its tokenizer read."""
        paths = [path for path in sorted(self.manifest.folder.rglob("*/*")) if path.is_file()]
        return digest(((path.name, path) for path in paths), repr(_identity.parts("manifest", self.manifest)))


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
    root = _validate.path("folder", folder)
    if not root.is_dir():
        raise ValueError(f"folder = {str(folder)!r}: must be a folder with a cascade.json or a model_index.json")
    root = root.resolve()
    if (root / "cascade.json").exists():
        return _cascade(root)
    if (root / "model_index.json").exists():
        return read_stable_diffusion(root)
    raise ValueError(f"folder = {str(folder)!r}: must hold a cascade.json or a model_index.json")


def _cascade(root: Path) -> Manifest:
    data = JsonObject("cascade.json", read_json(root, "cascade.json"))
    if data.get("format") != FORMAT or isinstance(data.get("format"), bool):
        raise data.fail("format", str(FORMAT))
    text = _text(root, data.object("text"))
    context = check_text(text)
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
        scheduler=read_scheduler(root, _folder(root, data, "scheduler")),
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
) -> CascadeStage:
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
    stage = CascadeStage(name, place, guidance, MappingProxyType(null), tuple(networks))
    if "passes" in data.value and data.whole("passes") != stage.passes():
        raise data.fail("passes", f"{stage.passes()}, what its guidance takes")
    return stage


def _network(
    root: Path, data: JsonObject, context: tuple[int | None, ...], previous: tuple[int, ...] | None
) -> CascadeNetwork:
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
    network = CascadeNetwork(
        part,
        data.shape("shape"),
        MappingProxyType(dict(names)),
        output,
        data.number("scale", 1.0),
        data.number("shift", 0.0),
    )
    check_network(network, context, previous)
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
