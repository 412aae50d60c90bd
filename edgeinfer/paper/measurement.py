"""Everything that is measured on the shipped cascade for the paper's items, by one command: `edgeinfer measure`."""

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate, bridge, quality, scenes
from edgeinfer._extras import need
from edgeinfer._files import replacing
from edgeinfer._store import Cell, Store, Value
from edgeinfer.bridge.wire.trace import Trace, read_trace
from edgeinfer.model import RayleighLink
from edgeinfer.network.machine import machine
from edgeinfer.paper.scenario import scenario

#: Where the measured files are shipped.
FOLDER = Path(__file__).parent / "data"
PRIOR_STEPS = (1, 2, 4, 8, 16, 32)
DECODE_STEPS = (1, 2, 4, 8, 16)
#: Guidance scales that are compared before one of them is used.
GUIDANCE_SCALES = (1.0, 1.1, 1.25, 1.5, 2.0)
#: What `measure` makes, in its order: file names without their endings.
PARTS = ("surface", "decode_stage", "images", "trace", "profile", "load")
#: Loads of the busiest stage under which requests are measured.
LOADS = (0.3, 0.6)
#: Steps of a request under load, few so that many requests fit into a run, and how much slower the device is.
LOAD_STEPS, LOAD_SLOWDOWN = (4, 2), 1.5
#: The downlink under load: transfers take about as long as computing does.
LOAD_LINK = RayleighLink(2e6, 31.0, -100.0, 128.1, 0.01)
WORLDS = ("fixed", "free")
_KID_SUBSET = 1000
Measure = quality.ImageMeasure | quality.SetMeasure


def load(name: str, command: str = "edgeinfer measure") -> Any:
    """A measured file that comes with the package, as an xarray.Dataset.

    Parameters
    ----------
    name : str
        Of the file, without ".nc".
    command : str
        That makes it.

    Raises
    ------
    FileNotFoundError
        Naming the command that makes it.
    """
    xarray = need("xarray", "paper")
    need("h5netcdf", "paper")
    path = FOLDER / f"{name}.nc"
    if not path.exists():
        raise FileNotFoundError(f"{path}: is not there: `{command}` makes it")
    with xarray.open_dataset(path, engine="h5netcdf") as table:
        return table.load()


def measure(
    folder: str | Path | None = None,
    out: str | Path = FOLDER,
    *,
    only: Sequence[str] = PARTS,
    captions: int = 512,
    seeds: int = 2,
    stage_captions: int = 2048,
    stage_seeds: int = 1,
    prior_steps: Sequence[int] = PRIOR_STEPS,
    decode_steps: Sequence[int] = DECODE_STEPS,
    guidance_scales: Sequence[float] = GUIDANCE_SCALES,
    best: tuple[int, int] = (16, 8),
    requests: int = 1000,
    workers: int | None = None,
    resamples: int = 500,
    store: str | Path | None = None,
    progress: bool = True,
) -> list[Path]:
    """Measure the shipped cascade: `surface.nc`, `decode_stage.nc`, `images.nc`, all on held-out captions, `trace.jsonl`,
    `profile.json` and `load.nc`.

    Half of the captions fix the layout, half leave it free. The guidance scale is the manifest's, unless another one
    gets significantly more attributes right on captions of its own. Real images are renders of held-out scenes: those
    of the captions themselves for PSNR and LPIPS, four times as many others for FID and KID. LPIPS is unlearned
    (weights 1), on the feature maps of the folder's own feature network. Each network runs on one thread.

    Parameters
    ----------
    folder : path, optional
        Of a cascade with the scenes' networks for quality; the shipped one by default.
    out : path
        Folder of the files; each is replaced as a whole.
    only : sequence of str
        Which of `PARTS`.
    captions, seeds : int
        Of the surface: captions (even, >= 4), and images of each.
    stage_captions, stage_seeds : int
        Where the decode stage is compared with upsampling, at the manifest's guidance.
    prior_steps, decode_steps : sequence of int
        The grid.
    guidance_scales : sequence of float
        That are compared at `best` steps; surfaces are made for 1 and for the one taken.
    best : (int, int)
        Steps at which the guidance is chosen, the decode stage is compared with upsampling, and stages are profiled.
    requests : int
        Of each run of `measure_load`.
    workers : int, optional
        Batches that run at once, >= 1; as many as there are cores by default.
    resamples : int
        Of the bootstrap.
    store : path, optional
        Folder of stores, from which the same call takes up; `out`/.measure by default.
    progress : bool
        Bars, on a terminal only.

    Returns
    -------
    list of Path

    Raises
    ------
    ValueError
        For bad counts or an unknown part, or stores of other weights or settings.
    """
    for name in only:
        _validate.choice("only", name, PARTS)
    for label, count in (("captions", captions), ("stage_captions", stage_captions)):
        if _validate.whole(label, count, 4) % 2:
            raise ValueError(f"{label} = {count}: must be even")
    target = Path(out)
    stores = Path(store) if store is not None else target / ".measure"
    target.mkdir(parents=True, exist_ok=True)
    stores.mkdir(parents=True, exist_ok=True)
    bench = _Bench(folder, stores, workers, resamples, progress)
    made: dict[str, Callable[[], Path]] = {
        "surface": lambda: write(
            bench.surface(captions, seeds, prior_steps, decode_steps, guidance_scales, best), target / "surface.nc"
        ),
        "decode_stage": lambda: write(
            bench.decode_stage(stage_captions, stage_seeds, 4 * captions, best), target / "decode_stage.nc"
        ),
        "images": lambda: write(
            bench.images(captions, prior_steps, decode_steps, bench.choose(captions, guidance_scales, best)[1]),
            target / "images.nc",
        ),
        "trace": lambda: record_trace(bench.root, target, prior_steps=best[0], decode_steps=best[1]),
        "profile": lambda: record_profile(bench.root, target, prior_steps=best[0], decode_steps=best[1]),
        "load": lambda: measure_load(
            bench.root, target, requests=requests, store=stores / "load.store", progress=progress
        ),
    }
    return [make() for name, make in made.items() if name in only]


def record_trace(
    folder: str | Path | None = None,
    out: str | Path = FOLDER,
    *,
    caption: str = "a red circle above a small blue square",
    prior_steps: int = 16,
    decode_steps: int = 8,
    seed: int = 1,
) -> Path:
    """Run one request through an edge and a link process and a device, and write what they recorded to `trace.jsonl`.

    The link is the paper's (`edgeinfer link` without settings). Times count from the request's first record.

    Parameters
    ----------
    folder, out
        As for `measure`.
    caption : str
    prior_steps, decode_steps : int
        Asked of the edge.
    seed : int
        Of the image, and of the link.

    Returns
    -------
    Path
    """
    root = bridge.load(folder).manifest.folder
    with tempfile.TemporaryDirectory() as place:
        with (
            bridge.Testbed(root, scenario().link, seed=seed, threads=None, folder=place) as bed,
            Trace(bed.trace("device"), "device") as log,
            bridge.Connection(bed.address) as connection,
        ):
            device = bridge.Device(bridge.load(root), connection, trace=log)
            device.cascade.prepare("decode")
            device.generate(bridge.Order(caption, seed, "split", prior_steps, decode_steps))
        records = read_trace(*map(bed.trace, ("edge", "link", "device")))
    first = next(record["time"] for record in records if record["request"])
    last = max(record["time"] for record in records if record["request"])
    lines = []
    for record in records:
        if record["request"] or (record["kind"] == "chunk" and first <= record["arrived"] <= last):
            moved = {name: record[name] - first for name in ("time", "arrived") if name in record}
            lines.append(json.dumps(record | moved))
    path = Path(out) / "trace.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    return path


def record_profile(
    folder: str | Path | None = None, out: str | Path = FOLDER, *, prior_steps: int = 16, decode_steps: int = 8
) -> Path:
    """Measure the stages' times on this machine, one thread a network, and write them to `profile.json`.

    Parameters
    ----------
    folder, out
        As for `measure`.
    prior_steps, decode_steps : int

    Returns
    -------
    Path
    """
    path = Path(out) / "profile.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    bridge.profile(bridge.load(folder, threads=1), prior_steps, decode_steps).save(path)
    return path


def measure_load(
    folder: str | Path | None = None,
    out: str | Path = FOLDER,
    *,
    requests: int = 1000,
    profile_requests: int = 150,
    loads: Sequence[float] = LOADS,
    steps: tuple[int, int] = LOAD_STEPS,
    slowdown: float = LOAD_SLOWDOWN,
    link: RayleighLink = LOAD_LINK,
    seed: int = 3,
    store: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """Drive Poisson arrivals through the real processes for the three paradigms, and write `load.nc`.

    First the processes are profiled at a light load over a link of next to no delay: times of the stages, bits on the
    downlink, and what a request that meets no other takes besides. Then every load is measured over `link`; the arrival
    rate is the load over the mean time of the paradigm's slowest stage, as profiled.

    Parameters
    ----------
    folder, out
        As for `measure`.
    requests, profile_requests : int
        Of each run, >= 2.
    loads : sequence of float
        In (0, 1).
    steps : (int, int)
        Of the prior and of decoding.
    slowdown : float
        Of the device, >= 1.
    link : RayleighLink
    seed : int
        Of arrivals, fading and images.
    store : path, optional
        A folder of finished runs, from which the same call takes up.
    progress : bool
        A bar over runs, on a terminal only.

    Returns
    -------
    Path

    Raises
    ------
    OSError
        If a request of a profile fails, or a process does not start.
    """
    xarray = need("xarray", "paper")
    tqdm = need("tqdm", "paper").tqdm
    for name, count in (("requests", requests), ("profile_requests", profile_requests)):
        _validate.whole(name, count, 2)
    rates = np.atleast_1d(_validate.real("loads", loads, 0, 1, low_open=True, high_open=True))
    root = bridge.load(folder).manifest.folder
    paradigms = tuple(_PARADIGMS)
    about: dict[str, Any] = {
        "prior_steps": steps[0],
        "decode_steps": steps[1],
        "slowdown": slowdown,
        "seed": seed,
        "weights_sha256": _digest(root),
        **{f"link_{name}": float(value) for name, value in link.power_budget().items()},
    }
    cache = None
    if store is not None:
        belongs = about | {"requests": [requests, profile_requests], "loads": rates.tolist()}
        cache = Store(store, "load test", belongs)

    def run(paradigm: str, rate: float, count: int, over: RayleighLink, number: int) -> dict[str, Value]:
        tested = bridge.load_test(
            paradigm, rate, count, model=root, prior_steps=steps[0], decode_steps=steps[1], link=over,
            seed=1000 * seed + number, slowdown=slowdown, negotiate=False, deadline=600.0,
        )  # fmt: skip
        if tested.failures and over is not link:
            raise OSError(f"{paradigm}: {len(tested.failures)} requests failed: {next(iter(tested.failures.values()))}")
        # Both places in every paradigm, so that runs are of one shape; NaN where a place does nothing.
        service = np.full((count, 2), np.nan)
        places = {"split": (0, 1), "edge": (0,), "device": (1,)}[paradigm]
        service[:, list(places)] = tested.service[:, [0, -1][: len(places)]]
        columns = {
            "arrival": tested.arrivals,
            "sojourn": tested.sojourn[:, -1],
            "edge": service[:, 0],
            "device": service[:, 1],
        }
        prefix = "profile_" if over is not link else ""
        return {
            **{f"{prefix}{name}": Value([], values) for name, values in columns.items()},
            f"{prefix}rate": Value([], rate),
            f"{prefix}bits": Value([], tested.downlink_bits),
        }

    found: dict[tuple[int, ...], dict[str, Value]] = {}
    fast = dataclasses.replace(link, bandwidth=_FAST)
    profile = bridge.profile(bridge.load(root, threads=1), *steps, repetitions=5)
    guess = {"split": max(np.median(profile.prior), slowdown * np.median(profile.decode))}
    both = float(np.median(profile.prior + profile.decode))
    guess |= {"edge": both, "device": slowdown * both}
    bar = tqdm(total=len(paradigms) * (1 + rates.size), disable=None if progress else True, unit="run")
    with nullcontext() if cache is None else cache.locked(), bar:
        for i, paradigm in enumerate(paradigms):
            for j in range(1 + rates.size):
                point = {"paradigm": paradigm, "load": j}
                if cache is not None and cache.has(point):
                    found[i, j] = cache.get(point).values
                elif j == 0:
                    found[i, j] = run(paradigm, _LIGHT / guess[paradigm], profile_requests, fast, 10 * i)
                else:
                    slowest = _slowest(found[i, 0], link)
                    found[i, j] = run(paradigm, float(rates[j - 1]) / slowest, requests, link, 10 * i + j)
                if cache is not None and not cache.has(point):
                    cache.put(point, Cell(found[i, j]))
                bar.update()
    shape = len(paradigms), rates.size
    units = {"rate": "1/s", "bits": "bit"}
    table = {}
    for prefix, dims in (("", ("paradigm", "load")), ("profile_", ("paradigm",))):
        columns = range(1, 1 + rates.size) if not prefix else range(1)
        for name in ("arrival", "sojourn", "edge", "device", "rate", "bits"):
            cells = [[np.asarray(found[i, j][prefix + name].data, float) for j in columns] for i in range(shape[0])]
            values = np.array(cells) if not prefix else np.array(cells)[:, 0]
            more = (f"{prefix}request",) if values.ndim > len(dims) else ()
            kind = "derived from measured times" if name == "rate" else "measured"
            table[prefix + name] = ((*dims, *more), values, {"units": units.get(name, "s"), "provenance": kind})
    written = xarray.Dataset(
        table,
        coords={"paradigm": [_PARADIGMS[name] for name in paradigms], "load": ("load", rates, {"units": "1"})},
        attrs=about | _Bench.machine(),
    )
    return write(written, Path(out) / "load.nc")


#: Hz: 1 Mbit passes in 10 us.
_FAST = 1e11
#: Load at which the processes are profiled.
_LIGHT = 0.2
#: The analysis's names of the paradigms.
_PARADIGMS = {"split": "split", "edge": "edge_only", "device": "device_only"}


def _slowest(profiled: dict[str, Value], link: RayleighLink) -> float:
    """Mean time of the slowest stage, s."""
    times = [np.mean(profiled[f"profile_{place}"].data) for place in ("edge", "device")]
    bits = float(profiled["profile_bits"].data)
    times.append(float(link.transfer(bits).mean()) if np.isfinite(bits) else np.nan)
    return float(np.nanmax(times))


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
        self._prior, self.decode = cascade.prior, cascade.decode
        self._kept: dict[Any, NDArray[np.float32]] = {}

    def prior(self, captions: Sequence[str], steps: int, seeds: Sequence[int]) -> NDArray[np.float32]:
        key = steps, *captions, *seeds
        if key not in self._kept:
            self._kept[key] = self._prior(captions, steps, seeds)
        return self._kept[key]


class _Bench:
    """A cascade under measurement, the networks that judge it, and where finished cells are kept."""

    def __init__(
        self, folder: str | Path | None, stores: Path, workers: int | None, resamples: int, progress: bool
    ) -> None:
        self.cascade = bridge.load(folder, threads=1)
        self.shared = _Shared(self.cascade)
        manifest = self.cascade.manifest
        self.root, self.stores, self.resamples = manifest.folder, stores, resamples
        self.networks = _Networks(self.root)
        self.through_wire = partial(_through_wire, dtype=manifest.wire.dtype, limits=manifest.wire.range)
        self.about = {
            "cascade": manifest.name,
            "weights_sha256": _digest(self.root),
            "wire_dtype": manifest.wire.dtype,
        }
        self.common: dict[str, Any] = {
            "wire": self.through_wire,
            "resamples": resamples,
            "progress": progress,
            "provenance": self.about,
            "workers": workers or os.cpu_count() or 1,
        }
        self._real: dict[int, _Scenes] = {}

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
                self.shared, [best[0]], [best[1]], tune.captions, tune.measures(("attributes", "clip")),
                guidance=scale, store=self.stores / f"guidance-{scale:g}.store", **self.common,
            ).isel(prior_steps=0, decode_steps=0, drop=True)
            for scale in scales
        ]  # fmt: skip
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
    ) -> Any:
        """Quality over steps at guidance 1 and at the chosen one, and what the steps cost."""
        xarray = need("xarray", "paper")
        scan, chosen = self.choose(captions, scales, best)
        test = _Scenes(self.networks, captions, 11)
        measures: list[Measure] = [
            *test.measures(), *_distances(self.networks.feature, self.real(4 * captions).images, captions * seeds)
        ]  # fmt: skip
        parts = [
            quality.surface(
                self.shared, prior_steps, decode_steps, test.captions, measures,
                seeds=seeds, guidance=scale, store=self.stores / f"surface-{scale:g}.store", **self.common,
            )
            for scale in dict.fromkeys((1.0, chosen))
        ]  # fmt: skip
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
                    whole if method == "decode" else _Upsampling(whole.prior, method),
                    [best[0]], [best[1]], test.captions, measures, seeds=seeds,
                    guidance=guidance if method == "decode" else None,
                    store=self.stores / f"stage-{name}-{method}.store", **self.common,
                ).isel(prior_steps=0, decode_steps=0, drop=True)  # fmt: skip
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
            {"image": (dims, np.array(images), {"units": "1", "provenance": "measured"}),
             "real": (("caption", *dims[3:]), test.images[chosen], {"units": "1", "provenance": "derived"})},
            coords={"prior_steps": list(prior_steps), "decode_steps": list(decode_steps), "caption": texts},
            attrs={"guidance": guidance, **self.about},
        )  # fmt: skip


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


class _Upsampling:
    """Plain upsampling in the place of the decode stage."""

    def __init__(self, prior: Callable[..., Any], kind: str) -> None:
        self.prior, self.kind = prior, kind

    def decode(self, captions: Any, latent: NDArray[np.float32], steps: int, seeds: Any) -> NDArray[np.uint8]:
        return upsample(latent, self.kind)


def upsample(latent: NDArray[np.float32], kind: str) -> NDArray[np.uint8]:
    """Images of twice the side.

    Parameters
    ----------
    latent : (n, channels, side, side) ndarray
        In [-1, 1].
    kind : {"nearest", "bicubic"}
        Bicubic is the cubic convolution with a = -0.75, the edge repeated.

    Returns
    -------
    (n, 2 side, 2 side, channels) ndarray of uint8
    """
    side = latent.shape[-1]
    at = (np.arange(2 * side) + 0.5) / 2 - 0.5
    matrix = np.zeros((2 * side, side))
    if _validate.choice("kind", kind, ("nearest", "bicubic")) == "nearest":
        matrix[np.arange(2 * side), np.arange(2 * side) // 2] = 1
    else:
        for source in np.floor(at).astype(int) + np.arange(-1, 3)[:, None]:
            x, a = np.abs(at - source), -0.75
            near = ((a + 2) * x - (a + 3)) * x**2 + 1
            far = a * (((x - 5) * x + 8) * x - 4)
            np.add.at(matrix, (np.arange(2 * side), np.clip(source, 0, side - 1)), np.where(x <= 1, near, far))
    large = np.einsum("yi,ncij,xj->nyxc", matrix, latent, matrix, optimize=True)
    return np.rint(np.clip((large + 1) * 127.5, 0, 255)).astype(np.uint8)


def _digest(root: Path) -> str:
    """SHA-256 over the cascade's files, by name and content."""
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.onnx")):
        total.update(path.relative_to(root).as_posix().encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def write(table: Any, path: Path) -> Path:
    """Write a table as NetCDF, compressed, the file replaced as a whole and its folder made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = {name: {"zlib": True, "complevel": 9} for name, v in table.data_vars.items() if v.size > 64}
    with replacing(path) as temporary:
        table.to_netcdf(temporary, engine="h5netcdf", encoding=packed)
    return path
