"""Train a classifier of handwritten digits with early exits, and autoencoders for its cut: `python training/exits.py`.

The data are scikit-learn's digits: 1,797 grey images of 8 x 8 pixels in 17 levels. They are few and small, and the
random split puts digits of one writer on both sides (the file does not say who wrote which): accuracies hold for known
writers. The same seed on the same versions gives the same weights; a run takes about a minute on one thread.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import platform
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import sklearn
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from edgeinfer.bridge.exit.digits import load_data
from edgeinfer.bridge.exit.network import load_exits
from edgeinfer.bridge.exit.rates import fewest_bits, rate_accuracy, standard_codecs
from edgeinfer.network.graphs import count_flops

SEED = 1
STEPS, BATCH, RATE = 1200, 64, 3e-3
CODE_STEPS, CODE_RATE = 600, 3e-3
#: Values that cross the cut for each autoencoder: channels of 4 x 4.
CODES = (16, 32)
#: Upper end of the accuracy loss of the shipped codec; 0.6 % is the least that 450 images can show.
SURE_LOSS = 0.007
#: Codecs of longer messages, bit, are no candidates for the shipped one.
LARGEST_CODE = 200
#: Fractions of each class; the rest is for training.
VALIDATION, TEST = 0.25, 0.3
OPSET = 17


def split(labels: np.ndarray, seed: int = SEED) -> dict[str, list[int]]:
    """Indices of the three parts, each class shuffled and divided on its own."""
    rng = np.random.default_rng(seed)
    parts: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for label in np.unique(labels):
        order = rng.permutation(np.flatnonzero(labels == label))
        ends = np.round(np.cumsum([VALIDATION, TEST]) * len(order)).astype(int)
        for name, part in zip(("validation", "test", "train"), np.split(order, ends), strict=True):
            parts[name] += part.tolist()
    return {name: sorted(indices) for name, indices in parts.items()}


def augment(images: Tensor, rng: torch.Generator) -> Tensor:
    """Each image turned by up to 12 degrees, scaled by up to 10 % and shifted by up to 0.8 pixel."""

    def uniform(limit: float, *size: int) -> Tensor:
        return (torch.rand((len(images), *size), generator=rng) * 2 - 1) * limit

    angle, scale = uniform(math.radians(12)), 1 + uniform(0.1)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).reshape(-1, 2, 2)
    shift = uniform(0.8 * 2 / images.shape[-1], 2, 1)
    grid = functional.affine_grid(torch.cat([turn * scale[:, None, None], shift], 2), list(images.shape), False)
    return functional.grid_sample(images, grid, align_corners=False)


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Attention(nn.Module):
    """Squeeze and excitation: channels times gates in (0, 1) that their means give. Returns the gates too."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(channels, channels // 4), nn.ReLU(), nn.Linear(channels // 4, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gates = self.gate(x.mean((2, 3)))
        return x * gates[:, :, None, None], gates


class Segment(nn.Module):
    """Convolutions and the attention over what they give: features and gates."""

    def __init__(self, *layers: nn.Module, channels: int) -> None:
        super().__init__()
        self.layers, self.attention = nn.Sequential(*layers), Attention(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.attention(self.layers(x))


class Exits(nn.Module):
    """A backbone of three segments, each followed by a head; segment k costs about 0.3, 1.8 and 3 MFLOP."""

    def __init__(self) -> None:
        super().__init__()
        self.segments = nn.ModuleList(
            [
                Segment(convolution(1, 16), convolution(16, 16), channels=16),
                Segment(convolution(16, 32), convolution(32, 32), channels=32),
                Segment(convolution(32, 64, 2), convolution(64, 64), convolution(64, 64), channels=64),
            ]
        )
        self.heads = nn.ModuleList(
            [
                nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(16 * 4, 10)),
                nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(32 * 4, 10)),
                nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4, 10)),
            ]
        )

    def forward(self, x: Tensor, start: int = 0) -> list[Tensor]:
        """Logits of each exit from `start` on, given what crosses before that segment."""
        logits = []
        for number, segment in enumerate(self.segments[start:], start + 1):
            x, _ = segment(x)
            # The backbone learns from its end alone, so that early exits take nothing from its accuracy.
            logits.append(self.heads[number - 1](x if number == len(self.segments) else x.detach()))
        return logits


class Encoder(nn.Module):
    """The first segment's 16 x 8 x 8 features as `values` numbers in (-1, 1)."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, values // 16, 3, 1, 1), nn.Flatten(), nn.Tanh()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Decoder(nn.Module):
    """Features, >= 0 as the segment's are, back from an encoder's numbers."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (values // 16, 4, 4)),
            nn.Conv2d(values // 16, 32, 3, 1, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, 2, 1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def _rates(optimizer: torch.optim.Optimizer, rate: float, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)


def _batches(images: Tensor, labels: Tensor, steps: int, rng: torch.Generator) -> Any:
    for _ in range(steps):
        chosen = torch.randint(len(images), (BATCH,), generator=rng)
        yield augment(images[chosen], rng), labels[chosen]


def train(images: Tensor, labels: Tensor, steps: int = STEPS, seed: int = SEED) -> Exits:
    """The backbone by its end, the early heads beside it by their own loss."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    net = Exits()
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.02)
    rates = _rates(optimizer, RATE, steps)
    for x, y in _batches(images, labels, steps, rng):
        loss = sum((functional.cross_entropy(logits, y) for logits in net(x)), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
    return net.eval()


def train_code(
    net: Exits, values: int, images: Tensor, labels: Tensor, steps: int = CODE_STEPS, seed: int = SEED
) -> tuple[Encoder, Decoder]:
    """An autoencoder for the first cut: features restored, and the rest of the frozen network right about them.

    Uniform noise of one step of a quantiser of 3 bits stands for the quantisation.
    """
    torch.manual_seed(seed + values)
    rng = torch.Generator().manual_seed(seed + values)
    encoder, decoder = Encoder(values), Decoder(values)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=CODE_RATE)
    rates = _rates(optimizer, CODE_RATE, steps)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    for x, y in _batches(images, labels, steps, rng):
        with torch.no_grad():
            features, _ = net.segments[0](x)
        code = encoder(features)
        restored = decoder(code + (torch.rand(code.shape, generator=rng) - 0.5) * 2 / 7)
        error = functional.mse_loss(restored, features) / features.var()
        loss = functional.cross_entropy(net(restored, 1)[-1], y) + error
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
    return encoder.eval(), decoder.eval()


def to_onnx(net: nn.Module, example: Tensor, outputs: list[str]) -> onnx.ModelProto:
    """Trace a network with one input, `x`, and a free batch size."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The tracing exporter is the older one, but needs no further library.
        warnings.simplefilter("ignore", (DeprecationWarning, torch.jit.TracerWarning))
        torch.onnx.export(
            net.eval(),
            (example,),
            buffer,
            input_names=["x"],
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in ("x", *outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(model, full_check=True)
    return model


def accuracies(net: Exits, images: Tensor, labels: Tensor) -> list[float]:
    """Of each exit."""
    with torch.no_grad():
        return [float((logits.argmax(1) == labels).double().mean()) for logits in net(images)]


def export(
    net: Exits,
    codes: dict[int, tuple[Encoder, Decoder]],
    folder: Path,
    data: dict[str, tuple[Tensor, Tensor]],
    parts: dict[str, list[int]],
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """Write each segment, head, encoder and decoder as ONNX, and the manifest; return the manifest.

    The folder is built beside its place and moved there in the end; codecs saved in it are lost.
    """
    ready = folder.with_name(f".{folder.name}.{os.getpid()}")
    costs: dict[str, int] = {}

    def write(part: str, module: nn.Module, example: Tensor, outputs: list[str]) -> None:
        path = ready / part / "model.onnx"
        path.parent.mkdir(parents=True)
        onnx.save(to_onnx(module, example, outputs), path)
        costs[part] = count_flops(path, {"x": (1, *example.shape[1:])})

    try:
        x = data["validation"][0][:2]
        for number, (segment, head) in enumerate(zip(net.segments, net.heads, strict=True), 1):
            write(f"segment_{number}", segment, x, ["features", "gates"])
            with torch.no_grad():
                x, _ = segment(x)
            write(f"exit_{number}", head, x, ["logits"])
        with torch.no_grad():
            features, _ = net.segments[0](data["validation"][0][:2])
            for values, (encoder, decoder) in codes.items():
                write(f"encoder_{values}", encoder, features, ["code"])
                write(f"decoder_{values}", decoder, encoder(features), ["features"])
        numbers = range(1, len(net.segments) + 1)
        manifest = {
            "format": 1,
            "name": folder.name,
            "input": [1, 8, 8],
            "classes": 10,
            "segments": [{"part": f"segment_{k}", "flops": costs[f"segment_{k}"]} for k in numbers],
            "exits": [{"part": f"exit_{k}", "flops": costs[f"exit_{k}"]} for k in numbers],
            "autoencoders": [
                {"cut": 1, "values": values, "encoder": f"encoder_{values}", "decoder": f"decoder_{values}"}
                for values in codes
            ],
            "accuracy": {name: accuracies(net, *data[name]) for name in ("validation", "test")},
            "split": parts,
            "provenance": provenance,
        }
        # The indices stay on one line.
        text = json.dumps(manifest | {"split": "SPLIT"}, indent=1).replace('"SPLIT"', json.dumps(parts))
        (ready / "exits.json").write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(ready, folder)
    finally:
        shutil.rmtree(ready, ignore_errors=True)
    return manifest


def choose_codec(folder: Path) -> str:
    """Fit the standard codecs for the first cut, save the one of fewest bits that keeps to `SURE_LOSS` on validation;
    its name.
    """
    network = load_exits(folder)
    data = {part: load_data(part, network.manifest) for part in ("train", "validation")}
    codecs = standard_codecs(network, *data["train"], bits=(2, 3, 4))
    codecs = {name: codec for name, codec in codecs.items() if codec.fixed_bits <= LARGEST_CODE}
    name = fewest_bits(rate_accuracy(network, codecs, *data["validation"]), SURE_LOSS).name
    path = folder / "codecs" / "cut_1.zip"
    path.parent.mkdir(exist_ok=True)
    codecs[name].save(path)
    return name


def run(folder: Path, seed: int = SEED, steps: int = STEPS, code_steps: int = CODE_STEPS) -> dict[str, Any]:
    """Train everything and export it to `folder`; return the manifest."""
    torch.set_num_threads(1)
    digits = load_digits()
    parts = split(digits.target, seed)
    images = torch.from_numpy((digits.images / 16).astype(np.float32))[:, None]
    labels = torch.from_numpy(digits.target)
    data = {name: (images[indices], labels[indices]) for name, indices in parts.items()}
    start = time.monotonic()
    net = train(*data["train"], steps, seed)
    codes = {values: train_code(net, values, *data["train"], code_steps, seed) for values in CODES}
    provenance = {
        "script": "training/exits.py",
        "seed": seed,
        "steps": steps,
        "code_steps": code_steps,
        "batch": BATCH,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "thread_seconds": round(time.monotonic() - start, 1),
        "data": "scikit-learn's load_digits: the test set of UCI's Optical Recognition of Handwritten Digits "
        "(E. Alpaydin, C. Kaynak; CC BY 4.0), 1,797 images of 8 x 8 pixels in 17 levels, divided by 16; "
        "each class shuffled and split 45 % train, 25 % validation, 30 % test, writers not kept apart; "
        "augmented in training by turns, scales and shifts",
        "flops": "two a multiply-add of convolutions and matrix products, counted on each file, batch 1",
        "versions": {
            "python": platform.python_version(),
            **{module.__name__: module.__version__ for module in (torch, onnx, sklearn, np)},
        },
    }
    manifest = export(net, codes, folder, data, parts, provenance)
    if code_steps == CODE_STEPS:
        print(f"codec: {choose_codec(folder)}")
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/digits"))
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    manifest = run(arguments.out, arguments.seed)
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(f"{arguments.out}: {size / 1e6:.2f} MB, accuracy of each exit {manifest['accuracy']}")


if __name__ == "__main__":
    main()
