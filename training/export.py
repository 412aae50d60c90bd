"""Export the trained scenes cascade to ONNX, in the folder layout of Optimum with a manifest of our own.

`python training/export.py CHECKPOINTS FOLDER` does it again from the checkpoints of `train.py`.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import platform
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from networks import CHECKED, READ, TEXT_WIDTH, TRAIN_TIMESTEPS, Embedder, TextReader, UNet, build
from onnx import TensorProto, helper, numpy_helper
from stages import STAGES
from torch import Tensor, nn

from edgeinfer import bridge, scenes

PRIORS = {"prior_16": 16, "prior_32": 32}
DECODER_SIDE = 64
GUIDANCE = 1.1
#: The heads of each network that tells what an image shows or a caption asks for.
CLASSES = {"checker": scenes.HEADS, "checker_2": CHECKED, "text_reader": READ}
OPSET = 18


class Method(nn.Module):
    """A network's method as a module of its own, which is what the exporter takes."""

    def __init__(self, net: nn.Module, name: str) -> None:
        super().__init__()
        self.net, self.name = net, name

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.net, self.name)(x)


class Features(nn.Module):
    """The trunk of a checker: what its heads read."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.trunk = net.trunk

    def forward(self, image: Tensor) -> Tensor:
        return self.trunk(image)


def to_onnx(net: nn.Module, inputs: dict[str, Tensor], output: str) -> onnx.ModelProto:
    """Trace a network with a free batch size."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The tracing exporter is the older one, but ten times faster to run and its graphs are not slower.
        warnings.simplefilter("ignore", (DeprecationWarning, torch.jit.TracerWarning))
        torch.onnx.export(
            net.eval(),
            tuple(inputs.values()),
            buffer,
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes={name: {0: "batch"} for name in (*inputs, output)},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(model, full_check=True)
    return model


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store the large float32 weights as float16 behind a Cast; the arithmetic stays float32."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    casts = []
    for tensor in half.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and math.prod(tensor.dims) >= 256:
            name, stored = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(stored, f"{name}.half"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *half.graph.node]
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    onnx.checker.check_model(half)
    return half


def parity(model: onnx.ModelProto, net: nn.Module, inputs: dict[str, Tensor]) -> float:
    """Largest difference between ONNX Runtime and torch on the example, relative to the largest output."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (ours,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    with torch.no_grad():
        theirs = net(*inputs.values()).numpy()
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-12))


def examples(batch: int = 2) -> dict[str, tuple[dict[str, Tensor], str]]:
    """Inputs and the output's name of each exported part."""
    rng = torch.Generator().manual_seed(0)

    def image(side: int) -> Tensor:
        return torch.rand((batch, 3, side, side), generator=rng) * 2 - 1

    ids = torch.from_numpy(scenes.encode(scenes.captions(scenes.draw(batch, 0))))
    context = torch.randn((batch, scenes.LENGTH, TEXT_WIDTH), generator=rng)
    time = torch.arange(1, batch + 1) * (TRAIN_TIMESTEPS // (batch + 1))

    def denoise(side: int, below: int | None) -> tuple[dict[str, Tensor], str]:
        ports = {"sample": image(side), "timestep": time, "encoder_hidden_states": context}
        return ports | ({"image": image(below)} if below else {}), "out_sample"

    return {
        "text_encoder": ({"input_ids": ids}, "last_hidden_state"),
        "prior_16": denoise(16, None),
        "prior_32": denoise(32, 16),
        "decoder": denoise(64, 32),
        "checker": ({"image": image(64)}, "logits"),
        "checker_2": ({"image": image(64)}, "logits"),
        "feature": ({"image": image(64)}, "features"),
        "text_reader": ({"input_ids": ids}, "logits"),
        "embedder_image": ({"image": image(64)}, "embedding"),
        "embedder_text": ({"input_ids": ids}, "embedding"),
    }


def modules(nets: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules to export from the trained networks."""
    parts = {name: net for name, net in nets.items() if isinstance(net, UNet)}
    if isinstance(reader := nets.get("text_encoder"), TextReader):
        parts["text_encoder"] = reader.encoder
    parts |= {name: nets[name] for name in CLASSES if name in nets}
    if "feature" in nets:
        parts["feature"] = Features(nets["feature"])
    if isinstance(embedder := nets.get("embedder"), Embedder):
        parts |= {f"embedder_{kind}": Method(embedder, f"embed_{kind}") for kind in ("image", "text")}
    return parts


def config(part: str, net: nn.Module) -> dict[str, Any]:
    parameters = sum(value.numel() for value in net.parameters())
    common = {"_class_name": type(net).__name__, "parameters": parameters}
    if part in CLASSES:
        return common | {"heads": {head: list(values) for head, values in CLASSES[part].items()}}
    return common


def manifest(costs: dict[str, int], provenance: dict[str, Any]) -> dict[str, Any]:
    """The cascade's manifest, format 1."""
    ports = {"sample": "sample", "timestep": "timestep", "context": "encoder_hidden_states"}

    def network(part: str, side: int, image: bool) -> dict[str, Any]:
        with_image = ports | ({"image": "image"} if image else {})
        return {"part": part, "shape": [3, side, side], "ports": with_image, "output": "out_sample"}

    priors = [network(part, side, i > 0) for i, (part, side) in enumerate(PRIORS.items())]
    below = max(PRIORS.values())
    values = 3 * below**2
    return {
        "format": 1,
        "name": "scenes",
        "text": {"part": "text_encoder", "tokenizer": "tokenizer"},
        "stages": [
            {"name": "prior", "place": "edge", "guidance": 1.0, "passes": 1, "networks": priors},
            {
                "name": "decode",
                "place": "device",
                "guidance": GUIDANCE,
                "passes": 2,
                "null": {"context": 0.0, "image": 0.0},
                "networks": [network("decoder", DECODER_SIDE, True)],
            },
        ],
        "scheduler": "scheduler",
        "sampler": "ddim",
        "wire": {
            "name": "z_prior",
            "shape": [3, below, below],
            "dtype": "uint8",
            "range": [-1, 1],
            "bits": {"float32": 32 * values, "float16": 16 * values, "uint8": 8 * values},
        },
        "image": {"shape": [3, DECODER_SIDE, DECODER_SIDE], "range": [-1, 1], "bits": 8 * 3 * DECODER_SIDE**2},
        "flops": {
            "encoder": costs["text_encoder"],
            "prior_step": sum(costs[part] for part in PRIORS),
            "feature": costs["text_encoder"],
            "decode_step": costs["decoder"],
            "networks": costs,
        },
        "provenance": provenance,
    }


def write(
    nets: dict[str, nn.Module],
    folder: Path,
    provenance: dict[str, Any],
    parts: Sequence[str] | None = None,
    precision: str = "float16",
) -> dict[str, Any]:
    """Write the folder and return the manifest; `precision` is that of the stored weights.

    The folder is built beside its place and moved there in the end; files of others in it are lost.

    Raises
    ------
    RuntimeError
        if a part as ONNX does not give what it gives in torch
    """
    ready = folder.with_name(folder.name + ".part")
    shutil.rmtree(ready, ignore_errors=True)
    costs: dict[str, int] = {}
    differences: dict[str, float] = {}
    for part, net in modules(nets).items():
        if parts is not None and part not in parts:
            continue
        inputs, output = examples()[part]
        model = to_onnx(net, inputs, output)
        shapes = {name: (1, *value.shape[1:]) for name, value in inputs.items()}
        costs[part] = bridge.count_flops(io.BytesIO(model.SerializeToString()), shapes)
        if (exact := parity(model, net, inputs)) > 1e-4:
            raise RuntimeError(f"{part}: ONNX differs from torch by {exact:.1e}")
        if precision == "float16":
            model = halve(model)
        differences[part] = parity(model, net, inputs)
        (ready / part).mkdir(parents=True)
        onnx.save(model, ready / part / "model.onnx")
        save_json(ready / part / "config.json", config(part, net))
    save_json(
        ready / "tokenizer" / "vocab.json",
        {"words": {word: i for i, word in enumerate(scenes.WORDS)}, "length": scenes.LENGTH, "pad": 0},
    )
    save_json(
        ready / "scheduler" / "scheduler_config.json",
        {
            "_class_name": "DDIMScheduler",
            "num_train_timesteps": TRAIN_TIMESTEPS,
            "beta_start": 0.0001,
            "beta_end": 0.02,
            "beta_schedule": "squaredcos_cap_v2",
            "prediction_type": "v_prediction",
            "timestep_spacing": "trailing",
            "clip_sample": True,
            "clip_sample_range": 1.0,
            "use_clipped_model_output": True,
            "set_alpha_to_one": True,
            "steps_offset": 0,
            "thresholding": False,
            "rescale_betas_zero_snr": False,
            "trained_betas": None,
        },
    )
    save_json(
        ready / "model_index.json",
        {
            "_class_name": "ScenesCascadePipeline",
            "scheduler": ["diffusers", "DDIMScheduler"],
            **{part: ["optimum.onnxruntime", "ORTModel"] for part in costs},
        },
    )
    made = manifest(
        costs,
        provenance
        | {
            "weights": precision,
            "difference_from_torch": {part: float(f"{value:.2g}") for part, value in differences.items()},
        },
    )
    save_json(ready / "cascade.json", made)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(ready, folder)
    return made


def save_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def export(checkpoints: Path, folder: Path, precision: str = "float16") -> dict[str, Any]:
    """Export the checkpoints of a run, finished or not; how far each part came is in the provenance."""
    nets, parts = {}, {}
    for part in STAGES:
        path = checkpoints / f"{part}.pt"
        if not path.exists():
            continue
        state = torch.load(path, weights_only=True, map_location="cpu")
        nets[part] = build(part)
        nets[part].load_state_dict(state["average"])
        parts[part] = {key: state[key] for key in ("step", "steps", "batch", "seed")}
        parts[part]["minutes"] = round(state["seconds"] / 60, 1)
    provenance = {
        "script": "training/train.py",
        "seed": parts["text_encoder"]["seed"],
        "thread_minutes": round(sum(part["minutes"] for part in parts.values()), 1),
        "parts": parts,
        "versions": {
            "python": platform.python_version(),
            **{module.__name__: module.__version__ for module in (torch, onnx, onnxruntime, np)},
        },
    }
    return write(nets, folder, provenance, precision=precision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", choices=("float16", "float32"), default="float16")
    arguments = parser.parse_args()
    made = export(arguments.checkpoints, arguments.folder, arguments.precision)
    size = sum(path.stat().st_size for path in arguments.folder.rglob("*") if path.is_file())
    print(f"{arguments.folder}: {size / 1e6:.2f} MB, FLOP {made['flops']}")


if __name__ == "__main__":
    main()
