"""Measure an exported scenes cascade: `python training/evaluate.py FOLDER --out build/evaluation.json`.

Needs no torch. Everything is measured on held-out captions, each number with a 95 % interval by bootstrap over captions
(the seeds of a caption go together).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeinfer import bridge, quality, scenes
from edgeinfer.bridge.cascade import images as picture

Array = npt.NDArray[Any]
BATCH = 64


class Judges:
    """The networks of a folder that judge images."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        def extractor(part: str) -> quality.Extractor:
            return quality.Extractor(folder / part / "model.onnx", threads=threads, batch=BATCH)

        self.checker, self.image, self.text = map(extractor, ("checker", "embedder_image", "embedder_text"))

    def clip_scores(self, images: Array, captions: Sequence[str]) -> Array:
        return np.maximum(quality.clip_scores(self.image(images), self.text(scenes.encode(captions))), 0)

    def __call__(self, images: Array, captions: Sequence[str], groups: int) -> dict[str, Any]:
        right = scenes.judge(captions, self.checker(images))
        clip = self.clip_scores(images, captions)
        return {name: estimate(values, groups) for name, values in right.items()} | {"clip": estimate(clip, groups)}


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
    return bridge.unpack(bridge.pack(image, dtype, (-1, 1)), (-1, 1))


def to_model(pixels: Array) -> Array:
    """(n, h, w, 3) uint8 -> (n, 3, h, w) in [-1, 1]."""
    return (pixels.astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2)


def to_pixels(images: Array) -> Array:
    """(n, 3, h, w) in [-1, 1] -> (n, h, w, 3) uint8."""
    return np.rint((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)


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


def estimate(values: Array, groups: int | None = None) -> dict[str, Any]:
    """Mean with a 95 % bootstrap interval; values of one group (caption) are resampled together."""
    scores = np.asarray(values, dtype=float)
    count = groups or len(scores)
    labels = np.repeat(np.arange(count), len(scores) // count)
    found = quality.mean_score(scores, groups=labels, resamples=2000, rng=0)
    ends = {name: round(float(getattr(found, name)), 4) for name in ("value", "low", "high")}
    return ends | {"groups": count}


def sheet(rows: Sequence[Array], zoom: int = 2) -> Array:
    """Rows of images (n, 3, h, w) in [-1, 1], one below the other, all brought to one height."""
    side = max(row.shape[-1] for row in rows)
    scaled = [row.repeat(side // row.shape[-1], 2).repeat(side // row.shape[-1], 3) for row in rows]
    lines = [row.transpose(2, 0, 3, 1).reshape(side, -1, 3) for row in scaled]
    return to_pixels(np.concatenate(lines).transpose(2, 0, 1)[None])[0].repeat(zoom, 0).repeat(zoom, 1)


def evaluate(
    folder: Path, against: Path | None, captions: int, seeds: int, steps: Sequence[tuple[int, int]], threads: int
) -> dict[str, Any]:
    cascade, judged = bridge.load(folder, threads=threads), Judges(folder, threads)
    real = scenes.draw(2048, 7, held=True)
    pixels, sentences = scenes.render(real), scenes.captions(real)
    found: dict[str, Any] = {"real": judged(pixels, sentences, len(real))}
    print("real", found["real"], flush=True)

    test = scenes.captions(scenes.draw(captions, 11, held=True))
    many = [sentence for sentence in test for _ in range(seeds)]
    numbers = np.tile(np.arange(seeds), captions) + 1000 * np.repeat(np.arange(captions), seeds)
    priors: dict[int, Array] = {}
    found["cascade"] = {}
    for prior_steps, decode_steps in steps:
        if prior_steps not in priors:
            priors[prior_steps] = over_batches(lambda c, s, n=prior_steps: cascade.prior(c, n, s), many, numbers)
        images = over_batches(
            lambda c, z, s, n=decode_steps: cascade.decode(c, quantised(z, "uint8"), n, s),
            many,
            priors[prior_steps],
            numbers,
        )
        found["cascade"][f"{prior_steps}+{decode_steps}"] = judged(images, many, captions)
        print(prior_steps, decode_steps, found["cascade"][f"{prior_steps}+{decode_steps}"], flush=True)

    # The decode stage beside plain upsampling: on real pairs by PSNR, on the prior's output by score.
    best_prior, best_decode = steps[0]
    pairs, words = pixels[:512], sentences[:512]
    below = smaller(to_model(pairs), 2)
    made = {
        "decoder": over_batches(
            lambda c, z, s: cascade.decode(c, z, best_decode, s), words, quantised(below, "uint8"), np.arange(512)
        ),
        **{kind: to_pixels(larger(below, kind)) for kind in ("nearest", "bicubic")},
    }
    found["pairs"] = {kind: {"psnr_db": estimate(quality.psnr_scores(images, pairs))} for kind, images in made.items()}
    latents = quantised(priors[best_prior], "uint8")
    made = {
        "decoder": over_batches(lambda c, z, s: cascade.decode(c, z, best_decode, s), many, latents, numbers),
        **{kind: to_pixels(larger(latents, kind)) for kind in ("nearest", "bicubic")},
    }
    found["generated"] = {kind: judged(images, many, captions) for kind, images in made.items()}
    decoded = judged.clip_scores(made["decoder"], many)
    found["clip_gain"] = {
        kind: estimate(decoded - judged.clip_scores(made[kind], many), captions) for kind in ("nearest", "bicubic")
    }
    found["guidance"] = {}
    for guidance in (1.0, 1.1, 1.25, 1.5, 2.0):
        redrawn = over_batches(
            lambda c, z, s, g=guidance: cascade.decode(c, z, best_decode, s, guidance=g),
            words[:256],
            below[:256],
            np.arange(256),
        )
        images = over_batches(
            lambda c, z, s, g=guidance: cascade.decode(c, z, best_decode, s, guidance=g),
            many[:256],
            latents[:256],
            numbers[:256],
        )
        found["guidance"][str(guidance)] = {
            "pairs_psnr_db": estimate(quality.psnr_scores(redrawn, pairs[:256]))
        } | judged(images, many[:256], 256 // seeds)
    for key in ("pairs", "generated", "clip_gain", "guidance"):
        print(key, found[key], flush=True)

    # What leaves the edge as float32, float16 or uint8, and weights as float16 or float32.
    few, first, seeds_few = many[:256], priors[best_prior][:256], numbers[:256]

    def decoded_from(other: bridge.GenerativeCascade, z: Array, dtype: str) -> Array:
        return over_batches(lambda c, w, s: other.decode(c, w, best_decode, s), few, quantised(z, dtype), seeds_few)

    def levels(a: Array, b: Array) -> dict[str, float]:
        difference = np.abs(a.astype(int) - b)
        return {"mean_levels": round(float(difference.mean()), 4), "max_levels": round(float(difference.max()), 2)}

    exact = decoded_from(cascade, first, "float32")
    found["wire"] = {}
    for dtype in ("float32", "float16", "uint8"):
        images = decoded_from(cascade, first, dtype)
        found["wire"][dtype] = levels(images, exact) | judged(images, few, 256 // seeds)
    if against:
        other = bridge.load(against, threads=threads)
        z = over_batches(lambda c, s: other.prior(c, best_prior, s), few, seeds_few)
        images = decoded_from(other, z, "float32")
        found["weights"] = {
            "this": judged(exact, few, 256 // seeds),
            "other": levels(images, exact) | judged(images, few, 256 // seeds),
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
        save = picture.writer(str(arguments.sheet))
        cascade = bridge.load(arguments.folder, threads=arguments.threads)
        words = scenes.captions(scenes.draw(12, 5, held=True))
        rows = []
        for prior_steps, decode_steps in ((1, 8), (4, 8), steps[0], steps[0]):
            z = cascade.prior(words, prior_steps, range(len(rows), len(rows) + 12))
            rows += [z, to_model(cascade.decode(words, z, decode_steps, range(12)))]
        save(sheet(rows))
    found = evaluate(arguments.folder, arguments.against, arguments.captions, arguments.seeds, steps, arguments.threads)
    arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
