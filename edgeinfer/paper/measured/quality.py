"""Everything that is measured on the shipped cascade for the paper's items, by one command: `edgeinfer measure`."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import bridge, quality, scenes
from edgeinfer._extras import need
from edgeinfer.network.machine import machine
from edgeinfer.paper.measured.enlargement import Upsampling
from edgeinfer.paper.measured.store import digest

WORLDS = ("fixed", "free")
_KID_SUBSET = 1000
Measure = quality.ImageMeasure | quality.SetMeasure


def _draw(count: int, seed: int, world: str) -> Any:
    return scenes.draw(count, np.random.default_rng((seed, WORLDS.index(world))), layout=world, held=True)  # type: ignore[arg-type]


class _Networks:
    """The networks of a folder that judge images."""

    def __init__(self, root: Path) -> None:
        def extractor(part: str, layers: Any = None) -> quality.Extractor:
            return quality.Extractor(root / part / "model.onnx", layers, threads=1)

        self.clip_image, self.clip_text = extractor("embedder_image"), extractor("embedder_text")
        self.checker, self.feature = extractor("checker"), extractor("feature")
        self.layers = extractor("feature", quality.convolution_inputs(root / "feature" / "model.onnx"))
        heads = json.loads((root / "checker" / "config.json").read_text())["heads"]
        self.heads = {head: len(classes) for head, classes in heads.items()}


class _Scenes:
    """Held-out scenes, half of each world, with their captions and renders."""

    def __init__(self, networks: _Networks, count: int, seed: int) -> None:
        self.networks = networks
        halves = [_draw(count // 2, seed, world) for world in WORLDS]
        self.captions = [caption for half in halves for caption in scenes.captions(half)]
        self.images = np.concatenate([scenes.render(half) for half in halves])
        self.worlds = np.repeat(WORLDS, count // 2)

    def measures(self, names: Sequence[str] = ("clip", "attributes", "lpips", "psnr")) -> list[quality.ImageMeasure]:
        n = self.networks
        made: dict[str, Callable[[], quality.ImageMeasure]] = {
            "clip": lambda: quality.clip_measure(n.clip_image, n.clip_text(scenes.encode(self.captions))),
            "attributes": lambda: quality.attribute_measure(n.checker, n.heads, scenes.request(self.captions)),
            "lpips": lambda: quality.lpips_measure(n.layers, self.images),
            "psnr": lambda: quality.psnr_measure(self.images),
        }
        return [made[name]() for name in names]


def _distances(
    features: Callable[..., Any], real: NDArray[np.uint8], generated: int, suffix: str = ""
) -> list[quality.SetMeasure]:
    size = min(_KID_SUBSET, len(real), generated)
    return [
        quality.fid_measure(features, real, f"fid{suffix}", singular="allow"),
        quality.kid_measure(features, real, f"kid{suffix}", subset_size=size),
    ]


def _through_wire(latents: NDArray[np.float32], dtype: Any, limits: Any) -> NDArray[np.float32]:
    return bridge.unpack(bridge.pack(latents, dtype, limits), limits)


class _Shared:
    """The cascade; the same prior of the same images runs once, whatever follows it."""

    def __init__(self, cascade: bridge.GenerativeCascade) -> None:
        self._cascade, self._prior, self.decode = cascade, cascade.prior, cascade.decode
        self._kept: dict[Any, NDArray[np.float32]] = {}

    @property
    def store_identity(self) -> str:
        """The cascade's; what is kept changes nothing."""
        return self._cascade.store_identity

    def prior(self, captions: Sequence[str], steps: int, seeds: Sequence[int]) -> NDArray[np.float32]:
        key = steps, *captions, *seeds
        if key not in self._kept:
            self._kept[key] = self._prior(captions, steps, seeds)
        return self._kept[key]


class Bench:
    """A cascade under measurement, the networks that judge it, and where finished cells are kept."""

    def __init__(
        self,
        cascade: bridge.GenerativeCascade,
        stores: Path,
        workers: int | None,
        resamples: int,
        progress: bool,
    ) -> None:
        self.cascade = cascade
        self.shared = _Shared(cascade)
        manifest = self.cascade.manifest
        self.root, self.stores, self.resamples = manifest.folder, stores, resamples
        self.networks = _Networks(self.root)
        self.through_wire = partial(_through_wire, dtype=manifest.wire.dtype, limits=manifest.wire.range)
        self.about = {
            "cascade": manifest.name,
            "weights_sha256": digest(self.root),
            "wire_dtype": manifest.wire.dtype,
            "init_noise_sigma": manifest.scheduler.init_noise_sigma,
        }
        self.common: dict[str, Any] = {
            "wire": self.through_wire,
            "resamples": resamples,
            "progress": progress,
            "provenance": self.about,
            "workers": workers or os.cpu_count() or 1,
        }
        self._real: dict[int, _Scenes] = {}

    def from_noise(self, sigma: float) -> "Bench":
        """The bench of the same cascade with walks that begin from noise of `sigma`; its stores are its own."""
        manifest = self.cascade.manifest
        scheduler = replace(manifest.scheduler, init_noise_sigma=sigma)
        cascade = bridge.GenerativeCascade(replace(manifest, scheduler=scheduler), threads=1)
        stores = self.stores / f"noise-{sigma:g}"
        stores.mkdir(exist_ok=True)
        return Bench(cascade, stores, self.common["workers"], self.resamples, self.common["progress"])

    def real(self, count: int) -> "_Scenes":
        """Scenes of no caption that is measured."""
        if count not in self._real:
            self._real[count] = _Scenes(self.networks, count, 23)
        return self._real[count]

    def choose(self, captions: int, scales: Sequence[float], best: tuple[int, int]) -> tuple[Any, float]:
        """Scores over guidance scales at `best` steps, and the scale to use."""
        xarray = need("xarray", "paper")
        ours = self.cascade.manifest.decode.guidance
        scales = sorted({*map(float, scales), ours})
        tune = _Scenes(self.networks, min(captions, 256), 37)
        tables = [
            quality.surface(
                self.shared,
                [best[0]],
                [best[1]],
                tune.captions,
                tune.measures(("attributes", "clip")),
                guidance=scale,
                store=self.stores / f"guidance-{scale:g}.store",
                **self.common,
            ).isel(prior_steps=0, decode_steps=0, drop=True)
            for scale in scales
        ]
        scan = xarray.concat(tables, dim="guidance_scale", combine_attrs="override").assign_coords(
            guidance_scale=("guidance_scale", scales, {"units": "1"})
        )
        right = scan["attributes_of_caption"].astype(float)
        gains = right - right.sel(guidance_scale=ours)
        scan = scan.assign(
            _estimates("attributes_gain", "guidance_scale", gains.values, self.resamples, scan["attributes"].attrs)
        )
        better = scan["attributes"].where(scan["attributes_gain_low"] > 0)
        chosen = float(better.idxmax("guidance_scale")) if bool(better.notnull().any()) else ours
        return scan.drop_dims("caption"), chosen

    def surface(
        self,
        captions: int,
        seeds: int,
        prior_steps: Sequence[int],
        decode_steps: Sequence[int],
        scales: Sequence[float],
        best: tuple[int, int],
        unguided: bool = True,
    ) -> Any:
        """Quality over steps at guidance 1, if `unguided`, and at the chosen one, and what the steps cost."""
        xarray = need("xarray", "paper")
        scan, chosen = self.choose(captions, scales, best)
        test = _Scenes(self.networks, captions, 11)
        measures: list[Measure] = [
            *test.measures(),
            *_distances(self.networks.feature, self.real(4 * captions).images, captions * seeds),
        ]
        parts = [
            quality.surface(
                self.shared,
                prior_steps,
                decode_steps,
                test.captions,
                measures,
                seeds=seeds,
                guidance=scale,
                store=self.stores / f"surface-{scale:g}.store",
                **self.common,
            )
            for scale in dict.fromkeys((1.0, chosen) if unguided else (chosen,))
        ]
        surface = xarray.concat(parts, dim="guidance", combine_attrs="drop_conflicts").assign_coords(
            guidance=("guidance", [part.attrs["guidance"] for part in parts], {"units": "1"}),
            world=("caption", test.worlds),
        )
        surface = surface.assign(
            {f"tuning_{n}": v for n, v in scan.data_vars.items()} | self._costs(surface, best, xarray)
        )
        surface.attrs |= {"best_guidance": chosen} | self.machine()
        return surface

    def _costs(self, surface: Any, best: tuple[int, int], xarray: Any) -> dict[str, Any]:
        """FLOP, s and bits of a request's parts, over the guidance."""
        rows = []
        for scale in surface["guidance"].values:
            costs = self.cascade.costs(guidance=float(scale))
            times = bridge.profile(
                self.cascade, *best, guidance=float(scale), captions=[str(surface["text"].values[0])]
            )
            rows.append(
                {
                    "encoder_flop": (costs.encoder, "FLOP", "derived"),
                    "prior_step_flop": (costs.prior_step, "FLOP", "derived"),
                    "feature_flop": (costs.feature, "FLOP", "derived"),
                    "decode_step_flop": (costs.decode_step, "FLOP", "derived"),
                    "latent_bits": (costs.latent_bits, "bit", "derived"),
                    "image_bits": (costs.image_bits, "bit", "derived"),
                    "prior_step_time": (times.step_times["prior"], "s", "measured"),
                    "decode_step_time": (times.step_times["decode"], "s", "measured"),
                }
            )
        return {
            name: xarray.DataArray(
                [float(row[name][0]) for row in rows], dims="guidance", attrs={"units": units, "provenance": kind}
            )
            for name, (_, units, kind) in rows[0].items()
        }

    @staticmethod
    def machine() -> dict[str, str | int]:
        about = machine()
        names = ("date", "processor", "logical_cores", "system", "numpy", "onnxruntime")
        return {name: about[name] for name in names} | {"threads": 1}

    def decode_stage(self, captions: int, seeds: int, real_images: int, best: tuple[int, int]) -> Any:
        """The decode stage beside upsampling: on real pairs by PSNR and LPIPS, on the prior's output by the rest."""
        xarray = need("xarray", "paper")
        test, real = _Scenes(self.networks, captions, 41), self.real(real_images)
        guidance = self.cascade.manifest.decode.guidance
        pairs = _Pairs(self.cascade, test.images, seeds)
        generated: list[Measure] = [
            *test.measures(("clip", "attributes")),
            *_distances(self.networks.feature, real.images, captions * seeds),
            *_distances(quality.haar_detail, real.images, captions * seeds, "_detail"),
            *_distances(partial(quality.haar_detail, order=1), real.images, captions * seeds, "_texture"),
        ]
        of_pairs: list[Measure] = [*test.measures(("psnr", "lpips"))]
        rows: dict[str, dict[str, Any]] = {}
        for name, whole, measures in (("pairs", pairs, of_pairs), ("generated", self.shared, generated)):
            for method in ("decode", "nearest", "bicubic"):
                rows.setdefault(method, {})[name] = quality.surface(
                    whole if method == "decode" else Upsampling(whole.prior, method),
                    [best[0]],
                    [best[1]],
                    test.captions,
                    measures,
                    seeds=seeds,
                    guidance=guidance if method == "decode" else None,
                    store=self.stores / f"stage-{name}-{method}.store",
                    **self.common,
                ).isel(prior_steps=0, decode_steps=0, drop=True)
        tables = [row["pairs"].assign(row["generated"].data_vars) for row in rows.values()]
        table = xarray.concat(tables, dim="enlargement", combine_attrs="override").assign_coords(enlargement=list(rows))
        for name in ("psnr", "lpips", "clip", "attributes"):
            scores = table[f"{name}_of_caption"].astype(float)
            gains = (scores.sel(enlargement="decode") - scores).transpose("enlargement", "caption")
            table = table.assign(
                _estimates(f"{name}_gain", "enlargement", gains.values, self.resamples, table[name].attrs)
            )
        for measure in real.measures(("clip", "attributes")):
            scores = measure.score(real.images, np.arange(len(real.images)))
            attributes = {"units": measure.units, "better": measure.better, "provenance": "measured"}
            table = table.assign(
                _estimates(f"real_{measure.name}", "", np.atleast_2d(scores), self.resamples, attributes)
            )
        table.attrs |= {"prior_steps": best[0], "decode_steps": best[1], "guidance": guidance, "real": len(real.images)}
        return table

    def images(self, captions: int, prior_steps: Sequence[int], decode_steps: Sequence[int], guidance: float) -> Any:
        """A few captions' images over all steps."""
        xarray = need("xarray", "paper")
        test = _Scenes(self.networks, captions, 11)
        chosen = [0, captions // 2, captions // 2 + 1]
        texts, noise = [test.captions[i] for i in chosen], [quality.image_seed(0, i) for i in chosen]
        images = []
        for steps in prior_steps:
            latent = self.through_wire(self.cascade.prior(texts, steps, noise))
            images.append(
                [self.cascade.decode(texts, latent, count, noise, guidance=guidance) for count in decode_steps]
            )
        dims = ("prior_steps", "decode_steps", "caption", "y", "x", "channel")
        return xarray.Dataset(
            {
                "image": (dims, np.array(images), {"units": "1", "provenance": "measured"}),
                "real": (("caption", *dims[3:]), test.images[chosen], {"units": "1", "provenance": "derived"}),
            },
            coords={"prior_steps": list(prior_steps), "decode_steps": list(decode_steps), "caption": texts},
            attrs={"guidance": guidance, **self.about},
        )


def _estimates(
    name: str, dimension: str, scores: NDArray[np.float64], resamples: int, attributes: dict[str, str]
) -> dict[str, Any]:
    """Mean of each row of scores with its interval, as variables over the rows (one row without a dimension)."""
    found = [quality.mean_score(row, resamples=resamples, rng=0) for row in scores]
    columns = {"": [e.value for e in found], "_low": [e.low for e in found], "_high": [e.high for e in found]}
    return {
        name + end: (dimension, np.array(values), attributes) if dimension else ((), float(values[0]), attributes)
        for end, values in columns.items()
    }


class _Pairs:
    """Real images at half the side in the place of the prior's output."""

    def __init__(self, cascade: bridge.GenerativeCascade, images: NDArray[np.uint8], seeds: int) -> None:
        n, side, _, channels = images.shape
        small = images.reshape(n, side // 2, 2, side // 2, 2, channels).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
        self.reduced = (small / 127.5 - 1).astype(np.float32)
        self.numbers = {quality.image_seed(seed, i): i for seed in range(seeds) for i in range(n)}
        self.decode = cascade.decode

    def prior(self, captions: Sequence[str], steps: int, seeds: Sequence[int]) -> NDArray[np.float32]:
        return np.stack([self.reduced[self.numbers[seed]] for seed in seeds])
