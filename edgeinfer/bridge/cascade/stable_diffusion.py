"""Stable Diffusion's folder, as Optimum exports it, read as a cascade."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from edgeinfer.bridge.cascade.manifest import (
    WIRE_BITS,
    CascadeNetwork,
    CascadeStage,
    Image,
    Manifest,
    Text,
    Wire,
    check_network,
    check_text,
    read_scheduler,
)
from edgeinfer.network.files import JsonObject, Part, Port, inside, is_whole, listed, read_json, read_part

# Values of diffusers' Stable Diffusion where a configuration leaves them out.
_STABLE_DIFFUSION_GUIDANCE = 7.5


_STABLE_DIFFUSION_SCALING = 0.18215


def read_stable_diffusion(root: Path) -> Manifest:
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
    context = check_text(text)
    ports = {
        "sample": _only(unet, "input", unet.inputs, (4,)),
        "timestep": _only(unet, "input", unet.inputs, (0, 1)),
        "context": _only(unet, "input", unet.inputs, (3,)),
    }
    if set(ports.values()) != set(unet.inputs):
        raise ValueError(
            f"unet/model.onnx: inputs = {listed(unet.inputs)}: must be sample, time step and context alone"
        )
    vae_config = JsonObject("vae_decoder/config.json", read_json(root, "vae_decoder/config.json"))
    latent, image = _shapes(JsonObject("unet/config.json", read_json(root, "unet/config.json")), vae_config)
    scaling = vae_config.number("scaling_factor", _STABLE_DIFFUSION_SCALING)
    if scaling == 0:
        raise vae_config.fail("scaling_factor", "a finite number, not 0")
    shift = 0.0 if vae_config.get("shift_factor") is None else vae_config.number("shift_factor")
    network = CascadeNetwork(unet, latent, MappingProxyType(ports), _only(unet, "output", unet.outputs, (4,)))
    decoder = CascadeNetwork(
        vae,
        image,
        MappingProxyType({"image": _only(vae, "input", vae.inputs, (4,))}),
        _only(vae, "output", vae.outputs, (4,)),
        1 / scaling,
        shift,
    )
    check_network(network, context, None)
    check_network(decoder, context, latent)
    bits = {dtype: math.prod(latent) * WIRE_BITS[dtype] for dtype in ("float32", "float16")}
    config = read_json(root, "scheduler/scheduler_config.json")
    return Manifest(
        folder=root,
        name=index.text("_class_name", default=root.name),
        text=text,
        stages=(
            CascadeStage("prior", "edge", _STABLE_DIFFUSION_GUIDANCE, MappingProxyType({"context": ""}), (network,)),
            CascadeStage("decode", "device", 1.0, MappingProxyType({}), (decoder,)),
        ),
        scheduler=read_scheduler(root, "scheduler"),
        sampler="ddpm" if config.get("_class_name") == "DDPMScheduler" else "ddim",
        wire=Wire("latent", latent, "float32", None, MappingProxyType(bits)),
        image=Image(image, (-1.0, 1.0), math.prod(image) * 8),
    )


def _shapes(unet: JsonObject, decoder: JsonObject) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Of latent and image: each block of the decoder but one doubles the sides."""
    size = unet.get("sample_size")
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(is_whole(side) and side > 0 for side in sides):
        raise unet.fail("sample_size", "a whole number > 0, or two")
    blocks = decoder.get("block_out_channels")
    if not isinstance(blocks, list) or not blocks:
        raise decoder.fail("block_out_channels", "a list")
    scale = 2 ** (len(blocks) - 1)
    return (unet.whole("in_channels"), *sides), (3, sides[0] * scale, sides[1] * scale)


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
