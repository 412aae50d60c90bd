"""Measure an exported scenes cascade: `python training/evaluate.py FOLDER --out build/evaluation.json`.

Needs NumPy and ONNX Runtime only. Everything is measured on held-out captions, each number with a 95 % interval by
bootstrap over captions (the seeds of a caption go together).
"""

from __future__ import annotations

import argparse
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from edgeinfer.bridge import scenes

Array = npt.NDArray[Any]
BATCH = 64


class Parts:
    """The networks of a folder, and the cascade that they make."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.folder, self.threads = folder, threads
        self.sessions: dict[str, onnxruntime.InferenceSession] = {}
        self.manifest = json.loads((folder / "cascade.json").read_text())
        scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        self.timesteps = scheduler["num_train_timesteps"]
        level = np.cos((np.arange(self.timesteps + 1) / self.timesteps + 0.008) / 1.008 * np.pi / 2) ** 2
        self.alphas = np.cumprod(1 - np.minimum(1 - level[1:] / level[:-1], 0.999))

    def run(self, part: str, **inputs: Array) -> Array:
        if part not in self.sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self.threads
            path = self.folder / part / "model.onnx"
            self.sessions[part] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return self.sessions[part].run(None, inputs)[0]

    def batched(self, part: str, port: str, values: Array) -> Array:
        pieces = [self.run(part, **{port: values[i : i + BATCH]}) for i in range(0, len(values), BATCH)]
        return np.concatenate(pieces)

    def sample(
        self,
        network: dict[str, Any],
        context: Array,
        image: Array | None,
        steps: int,
        seeds: Sequence[int],
        key: tuple[int, int],
        guidance: float,
    ) -> Array:
        """DDIM on v with trailing time steps, the clean image clipped to [-1, 1]; noise as the runtime draws it."""
        noise = [np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key)) for seed in seeds]
        x = np.stack([rng.standard_normal(network["shape"], dtype=np.float32) for rng in noise])
        times = np.round(np.arange(self.timesteps, 0, -self.timesteps / steps)).astype(np.int64) - 1
        guided = guidance != 1.0
        inputs = {"encoder_hidden_states": np.concatenate([context, 0 * context]) if guided else context}
        if image is not None:
            inputs["image"] = np.concatenate([image, 0 * image]) if guided else image
        for time in times:
            now = self.alphas[time]
            after = self.alphas[time - self.timesteps // steps] if time >= self.timesteps // steps else 1.0
            both = np.concatenate([x, x]) if guided else x
            v = self.run(network["part"], sample=both, timestep=np.full(len(both), time), **inputs)
            if guided:
                with_caption, without = np.split(v, 2)
                v = without + guidance * (with_caption - without)
            clean = np.clip(np.sqrt(now) * x - np.sqrt(1 - now) * v, -1, 1)
            rest = (x - np.sqrt(now) * clean) / np.sqrt(1 - now)
            x = (np.sqrt(after) * clean + np.sqrt(1 - after) * rest).astype(np.float32)
        return x

    def context(self, captions: Sequence[str]) -> Array:
        return self.run("text_encoder", input_ids=scenes.encode(captions))

    def prior(self, captions: Sequence[str], steps: int, seeds: Sequence[int]) -> Array:
        image = None
        for i, network in enumerate(self.manifest["stages"][0]["networks"]):
            image = self.sample(network, self.context(captions), image, steps, seeds, (0, i), 1.0)
        assert image is not None
        return image

    def decode(
        self, captions: Sequence[str], image: Array, steps: int, seeds: Sequence[int], guidance: float | None = None
    ) -> Array:
        stage = self.manifest["stages"][1]
        scale = stage["guidance"] if guidance is None else guidance
        return self.sample(stage["networks"][0], self.context(captions), image, steps, seeds, (1, 0), scale)

    def clip_score(self, images: Array, captions: Sequence[str]) -> Array:
        text = self.batched("embedder_text", "input_ids", scenes.encode(captions))
        return 100 * np.maximum((self.batched("embedder_image", "image", images) * text).sum(1), 0)


def over_batches(function: Callable[..., Array], captions: Sequence[str], *arrays: Any) -> Array:
    """`function` on slices of the captions and of the arrays that go with them."""
    return np.concatenate(
        [
            function(captions[i : i + BATCH], *(array[i : i + BATCH] for array in arrays))
            for i in range(0, len(captions), BATCH)
        ]
    )


def quantised(image: Array, dtype: str) -> Array:
    """What the other side of the link gets."""
    if dtype == "uint8":
        return np.rint((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8) / np.float32(127.5) - 1
    return image.astype(dtype).astype(np.float32)


def to_model(pixels: Array) -> Array:
    """(n, h, w, 3) uint8 -> (n, 3, h, w) in [-1, 1]."""
    return (pixels.astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2)


def smaller(images: Array, factor: int) -> Array:
    n, channels, side, _ = images.shape
    return images.reshape(n, channels, side // factor, factor, side // factor, factor).mean((3, 5))


def larger(images: Array, kind: str) -> Array:
    """Twice the side, by nearest neighbour or by Keys's cubic kernel (a = -1/2)."""
    if kind == "nearest":
        return images.repeat(2, 2).repeat(2, 3)
    side = images.shape[-1]
    at = (np.arange(2 * side) + 0.5) / 2 - 0.5
    matrix = np.zeros((2 * side, side))
    for k in range(-1, 3):
        source = np.floor(at).astype(int) + k
        d = np.abs(at - source)
        weight = np.where(d <= 1, 1.5 * d**3 - 2.5 * d**2 + 1, np.where(d < 2, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2, 0))
        np.add.at(matrix, (np.arange(2 * side), np.clip(source, 0, side - 1)), weight)
    return np.clip(matrix @ images @ matrix.T, -1, 1).astype(np.float32)


def psnr(a: Array, b: Array) -> Array:
    """Peak signal-to-noise ratio of each image, dB, on the range [-1, 1]."""
    return -10 * np.log10(np.mean((a - b) ** 2, axis=(1, 2, 3)) / 4)


def estimate(values: Array, groups: int | None = None) -> dict[str, Any]:
    """Mean with a 95 % bootstrap interval; values of one group (caption) are resampled together."""
    means = np.asarray(values, dtype=float).reshape(groups or len(values), -1).mean(1)
    rng = np.random.default_rng(0)
    resampled = means[rng.integers(0, len(means), (2000, len(means)))].mean(1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    value, low, high = (round(float(x), 4) for x in (means.mean(), low, high))
    return {"value": value, "low": low, "high": high, "groups": len(means)}


def judged(parts: Parts, images: Array, captions: Sequence[str], groups: int) -> dict[str, Any]:
    right = scenes.judge(captions, parts.batched("checker", "image", images))
    clip = parts.clip_score(images, captions)
    return {name: estimate(values, groups) for name, values in right.items()} | {"clip": estimate(clip, groups)}


def write_png(path: Path, pixels: Array) -> None:
    """A PNG of (h, w, 3) uint8."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1).tobytes()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    path.write_bytes(signature + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def sheet(rows: Sequence[Array], zoom: int = 2) -> Array:
    """Rows of images (n, 3, h, w) in [-1, 1], one below the other, all brought to one height."""
    side = max(row.shape[-1] for row in rows)
    scaled = [row.repeat(side // row.shape[-1], 2).repeat(side // row.shape[-1], 3) for row in rows]
    lines = [row.transpose(2, 0, 3, 1).reshape(side, -1, 3) for row in scaled]
    pixels = np.rint((np.clip(np.concatenate(lines), -1, 1) + 1) * 127.5).astype(np.uint8)
    return pixels.repeat(zoom, 0).repeat(zoom, 1)


def evaluate(
    folder: Path, against: Path | None, captions: int, seeds: int, steps: Sequence[tuple[int, int]], threads: int
) -> dict[str, Any]:
    parts = Parts(folder, threads)
    real = scenes.draw(2048, 7, held=True)
    pixels, sentences = to_model(scenes.render(real)), scenes.captions(real)
    found: dict[str, Any] = {"real": judged(parts, pixels, sentences, len(real))}
    print("real", found["real"], flush=True)

    test = scenes.captions(scenes.draw(captions, 11, held=True))
    many = [sentence for sentence in test for _ in range(seeds)]
    numbers = np.tile(np.arange(seeds), captions) + 1000 * np.repeat(np.arange(captions), seeds)
    priors: dict[int, Array] = {}
    found["cascade"] = {}
    for prior_steps, decode_steps in steps:
        if prior_steps not in priors:
            priors[prior_steps] = over_batches(lambda c, s, n=prior_steps: parts.prior(c, n, s), many, numbers)
        images = over_batches(
            lambda c, z, s, n=decode_steps: parts.decode(c, quantised(z, "uint8"), n, s),
            many,
            priors[prior_steps],
            numbers,
        )
        found["cascade"][f"{prior_steps}+{decode_steps}"] = judged(parts, images, many, captions)
        print(prior_steps, decode_steps, found["cascade"][f"{prior_steps}+{decode_steps}"], flush=True)

    # The decode stage beside plain upsampling: on real pairs by PSNR, on the prior's output by score.
    best_prior, best_decode = steps[0]
    pairs, words = pixels[:512], sentences[:512]
    below = smaller(pairs, 2)
    made = {
        "decoder": over_batches(
            lambda c, z, s: parts.decode(c, z, best_decode, s), words, quantised(below, "uint8"), np.arange(512)
        ),
        **{kind: larger(below, kind) for kind in ("nearest", "bicubic")},
    }
    found["pairs"] = {kind: {"psnr_db": estimate(psnr(images, pairs))} for kind, images in made.items()}
    latents = quantised(priors[best_prior], "uint8")
    made = {
        "decoder": over_batches(lambda c, z, s: parts.decode(c, z, best_decode, s), many, latents, numbers),
        **{kind: larger(latents, kind) for kind in ("nearest", "bicubic")},
    }
    found["generated"] = {kind: judged(parts, images, many, captions) for kind, images in made.items()}
    decoded = parts.clip_score(made["decoder"], many)
    found["clip_gain"] = {
        kind: estimate(decoded - parts.clip_score(made[kind], many), captions) for kind in ("nearest", "bicubic")
    }
    found["guidance"] = {}
    for guidance in (1.0, 1.1, 1.25, 1.5, 2.0):
        redrawn = over_batches(
            lambda c, z, s, g=guidance: parts.decode(c, z, best_decode, s, g),
            words[:256],
            below[:256],
            np.arange(256),
        )
        images = over_batches(
            lambda c, z, s, g=guidance: parts.decode(c, z, best_decode, s, g), many[:256], latents[:256], numbers[:256]
        )
        found["guidance"][str(guidance)] = {"pairs_psnr_db": estimate(psnr(redrawn, pairs[:256]))} | judged(
            parts, images, many[:256], 256 // seeds
        )
    for key in ("pairs", "generated", "clip_gain", "guidance"):
        print(key, found[key], flush=True)

    # What leaves the edge as float32, float16 or uint8, and weights as float16 or float32.
    few, first, seeds_few = many[:256], priors[best_prior][:256], numbers[:256]

    def decoded_from(other: Parts, z: Array, dtype: str) -> Array:
        return over_batches(lambda c, w, s: other.decode(c, w, best_decode, s), few, quantised(z, dtype), seeds_few)

    def levels(a: Array, b: Array) -> dict[str, float]:
        difference = np.abs(np.clip(a, -1, 1) - np.clip(b, -1, 1)) * 127.5
        return {"mean_levels": round(float(difference.mean()), 4), "max_levels": round(float(difference.max()), 2)}

    exact = decoded_from(parts, first, "float32")
    found["wire"] = {}
    for dtype in ("float32", "float16", "uint8"):
        images = decoded_from(parts, first, dtype)
        found["wire"][dtype] = levels(images, exact) | judged(parts, images, few, 256 // seeds)
    if against:
        other = Parts(against, threads)
        z = over_batches(lambda c, s: other.prior(c, best_prior, s), few, seeds_few)
        images = decoded_from(other, z, "float32")
        found["weights"] = {
            "this": judged(parts, exact, few, 256 // seeds),
            "other": levels(images, exact) | judged(parts, images, few, 256 // seeds),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="JSON with the numbers")
    parser.add_argument("--sheet", type=Path, help="PNG with a contact sheet")
    parser.add_argument("--against", type=Path, help="the same cascade with other weights' precision")
    parser.add_argument("--captions", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", nargs="+", default=["16+8", "8+4", "1+8", "16+1"], help="prior+decode, best first")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    steps = [tuple(int(n) for n in pair.split("+")) for pair in arguments.steps]
    if arguments.sheet:
        parts = Parts(arguments.folder, arguments.threads)
        words = scenes.captions(scenes.draw(12, 5, held=True))
        rows = []
        for prior_steps, decode_steps in ((1, 8), (4, 8), steps[0], steps[0]):
            z = parts.prior(words, prior_steps, range(len(rows), len(rows) + 12))
            rows += [z, parts.decode(words, z, decode_steps, range(12))]
        write_png(arguments.sheet, sheet(rows))
    found = evaluate(arguments.folder, arguments.against, arguments.captions, arguments.seeds, steps, arguments.threads)
    arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
